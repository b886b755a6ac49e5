//! kv against a DynamoDB, over the real SDK: the embedded engine on a loopback port.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod atomic_writes;
mod dynastore_cases;
/// A table in an embedded DynamoDB.
mod engine;
mod expiry;
mod failures;
mod hooks;
mod lists;
mod probes;
mod scripted_answers;
mod tables;
mod tokens;
mod transactions;
