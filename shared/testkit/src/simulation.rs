//! A deterministic world for the live side: a table with a stream nastier than AWS's, a bucket, a control table, clocks
//! that disagree, and connections that lose, delay and double requests.
//!
//! Everything runs in one thread on tokio's paused time: nothing happens but what a seed draws, so that a seed that
//! fails once fails for ever. The services themselves ([`SimTable`], [`RowTable`], a
//! [`FakeStore`](crate::fake_store::FakeStore)) answer at once and are linearizable; a worker reaches them over its own
//! [`Wire`], where time passes and trouble happens. A request that was sent takes effect even if the worker that sent it has
//! died.
//!
//! [`SimTable::calm`] is the same table without any randomness, for tests that script every event by hand.

#[cfg(test)]
mod calm_tests;
mod sim_admin;
mod sim_clock;
mod sim_control;
mod sim_listing;
mod sim_ports;
mod sim_reader;
mod sim_record;
mod sim_replica;
mod sim_rows;
mod sim_scan;
mod sim_sequence;
mod sim_shards;
mod sim_store;
mod sim_stream;
mod sim_table;
mod sim_trace;
mod sim_wire;

pub use sim_clock::{SimClock, SimMonotonic, SimTime, Suspension};
pub use sim_control::{LiveRows, WiredControl, WiredLive};
pub use sim_ports::Wired;
pub use sim_record::SimRecord;
pub use sim_rows::{RowTable, WiredRows};
pub use sim_store::WiredStores;
pub use sim_stream::StreamCall;
pub use sim_table::{Nastiness, SimTable, Version, Written};
pub use sim_trace::SimTrace;
pub use sim_wire::{Trouble, Wire};
