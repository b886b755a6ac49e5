//! Sources over a table and a stream in memory, where every event is scripted: the acceptance cases of the system whose job this crate does,
//! by their names (`mu_…`), and its bugs, which are not ours (`m_…`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod source {
    mod bugs;
    mod engine;
    mod files;
    mod handling;
    mod live;
    mod sinks;
    mod snapshots;
    mod stage;
}
