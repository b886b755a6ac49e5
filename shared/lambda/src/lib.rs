//! The shell that every Lambda function shares: start, configuration, error names.
//!
//! A function's `main` wires one step: [`start`] gives it the ports, [`serve`] the events.

mod config;
mod failure;
mod live_config;
mod ports;
mod serve;
mod serve_stream;

pub use config::{Config, ConfigError};
pub use failure::StepFailure;
pub use live_config::LiveConfig;
pub use ports::{KvLeaseGroups, LoggingObserver, S3Stores, SystemClock};
pub use serve::{StartError, live_deps, serve, start, start_live, start_restore};
pub use serve_stream::serve_stream;
