//! Leases over a DynamoDB (the embedded engine, by the real SDK) and over a table in memory that loses, delays and doubles.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod engine;
mod hand_clock;
mod interleavings;
mod kcl_cases;
mod lineage;
mod lost_answers;
mod memory;
mod renewals;
mod wire;
