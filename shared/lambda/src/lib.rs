//! The shell that every Lambda function shares: start, configuration, error names.
//!
//! A function's `main` wires one step: [`start`] gives it the ports, [`serve`] the events.

mod config;
mod failure;
mod ports;
mod serve;

pub use config::{Config, ConfigError};
pub use failure::StepFailure;
pub use ports::{LoggingObserver, S3Stores, SystemClock};
pub use serve::{StartError, serve, start, start_restore};
