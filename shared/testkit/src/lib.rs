//! What the tests of every crate share: strict fakes of the ports, decorators that break them on
//! purpose, the laws that any implementation must keep, generated tables, and a proxy that
//! mistreats requests.
//!
//! Everything that is random comes from a seed, so that a failure can be repeated.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "this crate is part of tests: where the stage cannot be set or a law is broken, it must stop"
)]

pub mod attribute;
pub mod canonical;
pub mod clients;
pub mod conformance;
pub mod counting;
pub mod failing;
pub mod fake_admin;
pub mod fake_control;
mod fake_describer;
pub mod fake_executions;
pub mod fake_importer;
mod fake_index;
pub mod fake_live_control;
mod fake_reader;
mod fake_replica_control;
mod fake_restore_control;
pub mod fake_store;
pub mod fake_table;
mod fake_writer;
pub mod fault_proxy;
pub mod faults;
mod fenced_account;
pub mod fill;
pub mod generate;
mod hash_order;
pub mod iam_needs;
pub mod intercepted;
mod item_rules;
pub mod recorded_needs;
pub mod respell;
pub mod runtime_api;
pub mod sample_replicas;
pub mod sample_restores;
pub mod sample_rows;
mod scanning;
pub mod simulation;
pub mod step_functions;
pub mod stepped;
mod table_rules;
pub mod tables;
mod unprocessed;
pub mod wire_call;
pub mod write_history;
