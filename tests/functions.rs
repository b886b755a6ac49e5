//! The functions as Lambda runs them: their own programs, over the Runtime API, against embedded engines.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod functions {
    mod account;
    mod crash;
    mod deadlines;
    mod errors;
    mod live_account;
    mod local_mapping;
    mod mapped_seconds;
    mod race;
    mod restore_stack;
    mod sample_events;
    mod whole_backup;
    mod whole_log;
    mod whole_restore;
}
