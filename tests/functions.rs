//! The functions as Lambda runs them: their own programs, over the Runtime API, against embedded engines.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod functions {
    mod account;
    mod children;
    mod crash;
    mod deadlines;
    mod errors;
    mod live_account;
    mod local_mapping;
    mod mapped_seconds;
    mod missing_services;
    mod observed;
    mod observed_live;
    mod permissions;
    mod provoked;
    mod race;
    mod recorded_account;
    mod recorded_backups;
    mod recorded_log;
    mod recorded_replica;
    mod recorded_restores;
    mod replica_stage;
    mod replicas;
    mod restore_stack;
    mod sample_events;
    mod told_lines;
    mod traps;
    mod whole_backup;
    mod whole_log;
    mod whole_restore;
}
