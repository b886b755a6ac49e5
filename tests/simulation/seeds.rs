//! The seeds: many of them, those that once failed, and one by name.

use super::plan::Plan;
use super::runner::{assert_clean, attempt, one_seed, replay, run_all, seeds};

/// Seeds that have found something, with what it was. They always run.
const ONCE_FAILED: &[u64] = &[
    // A stream that was disabled for minutes: changes in between were in no incident.
    24, 91, 121,  // A shard's gap reached behind the snapshot that was to heal it.
    41,   // A stream that was disabled while its log was begun.
    493,  // Two finalizers of one execution.
    25,   // Two plans of one execution, one of which took the other's marker away.
    1091, // A part without a row, of a segment that is empty by now.
    1449, // A child that was late behind the silence of its parent.
    364,
];

#[test]
fn no_seed_breaks_an_invariant() {
    let report = run_all(ONCE_FAILED.iter().copied().chain(0..seeds()), Plan::of);
    assert_clean(&report, Plan::of);
    let worth = report.worth;
    assert!(
        worth.records > seeds() * 20 && worth.restores > seeds() && worth.snapshots > seeds() / 2,
        "the runs are not worth much: {worth:?}"
    );
    println!("{} seeds: {worth:?}", seeds());
}

#[test]
fn one_seed_by_name() {
    if let Some(seed) = one_seed() {
        let plan = Plan::of(seed);
        let ran = attempt(plan, false);
        if ran.result.is_err() {
            panic!("{}", replay(plan));
        }
    }
}

#[test]
fn a_seed_is_one_interleaving() {
    for seed in 0..12 {
        let [first, second] = [0; 2].map(|_| attempt(Plan::of(seed), true));
        let mut pairs = first.trace.iter().zip(&second.trace);
        let differs = pairs.find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed} runs twice in two ways");
        assert_eq!(first.print, second.print, "seed {seed}");
    }
}
