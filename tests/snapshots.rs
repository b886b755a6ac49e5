//! Snapshots made in process, by the steps over the real adapters and the embedded engines, and judged by the rules
//! of AWS's exports.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod snapshots {
    mod bytes;
    mod export_rules;
    mod multiset;
    mod recording;
    mod round_trip;
    mod settings;
    mod stage;
}
