//! The laws of the ports, as tests that any implementation can be put through.
//!
//! Each law is a function of its own; `every_law` runs them all. A broken law panics with its name.

pub mod control_table;
pub mod executions;
pub mod fence_tables;
pub mod fenced_writer;
pub mod item_reader;
pub mod live_control;
pub mod object_keys;
pub mod object_listing;
pub mod object_store;
pub mod replica_control;
pub mod restore_control;
pub mod stream_source;
pub mod table_admin;
pub mod table_scanner;
pub mod table_writer;
