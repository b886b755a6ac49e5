//! The `highwater` binary as users run it: a child process with flags, an environment, signals and exit codes.
//!
//! Its DynamoDB and S3 are the embedded engines of the test process, each behind a proxy that can mistreat requests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod command {
    mod audits;
    mod backups;
    mod chaos_follow;
    mod corrupt_backups;
    mod demo;
    mod denied;
    mod denying_proxy;
    mod deployed;
    mod diff_troubles;
    mod diffs;
    mod dump;
    mod environment;
    mod extreme_items;
    mod follows;
    mod full_disk;
    mod handoffs;
    mod kills;
    mod live_diff;
    mod live_stage;
    mod live_statuses;
    mod load_paces;
    mod load_variables;
    mod loads;
    mod local_control;
    mod lost_answers;
    mod movies;
    mod places;
    mod read_back;
    mod refusals;
    mod replicas;
    mod restore_at;
    mod restore_faults;
    mod restore_kills;
    mod restore_lines;
    mod restore_obstacles;
    mod restore_refusals;
    mod restore_selections;
    mod restore_settings;
    mod restore_signals;
    mod restores;
    mod restoring;
    mod selections;
    mod signals;
    mod stacks;
    mod stage;
    mod told;
    mod verifies;
    mod verify_damage;
}
