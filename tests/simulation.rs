//! The live side in a simulated world that is nastier than AWS, by seeds.
//!
//! The product's own steps run unchanged over ports whose calls take random virtual times, get lost, arrive late or
//! twice; workers crash at any await. The oracle is the history of every write. One seed is one interleaving, always.
//!
//! `HIGHWATER_TEST_SEEDS=100000` runs so many seeds; `HIGHWATER_TEST_SEED=7` one, with everything that happened.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod simulation {
    mod backups;
    mod bucket_reader;
    mod case_table;
    mod cases;
    mod evidence;
    mod log_invariants;
    mod mapping;
    mod murmur;
    mod mutations;
    mod plan;
    mod processes;
    mod quiet;
    mod readers;
    mod replica_checks;
    mod replica_mutations;
    mod replica_processes;
    mod replica_reading;
    mod replica_run;
    mod replica_seeds;
    mod replica_watch;
    mod replica_world;
    mod run;
    mod runner;
    mod scenario;
    mod seeds;
    mod snapshot_invariants;
    mod source_run;
    mod source_seeds;
    mod source_world;
    mod world;
    mod writers;
}
