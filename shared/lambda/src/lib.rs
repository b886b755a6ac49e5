//! The shell that every Lambda function shares: start, configuration, error names, log lines, metrics.
//!
//! A function's `main` wires one step: [`start`] gives it the ports, [`serve`] the events.

mod config;
mod event_body;
mod failure;
mod invocation;
mod live_config;
mod log_lines;
pub mod metrics;
mod observed;
mod ports;
mod serve;
mod serve_stream;
mod tally;

pub use config::{Config, ConfigError};
pub use failure::StepFailure;
pub use invocation::{Ids, Subject};
pub use live_config::LiveConfig;
pub use observed::{InvocationObserver, Lines, Observed, StandardOutput};
pub use ports::{KvLeaseGroups, LoggingObserver, S3Stores, SystemClock};
pub use serve::{
    StartError, live_deps, log_deps, serve, start, start_consume, start_live, start_replicas,
    start_restore,
};
pub use serve_stream::serve_stream;
pub use tally::Tally;
