//! The seeds: many of them, those that once failed, and one by name.

use super::plan::Plan;
use super::runner::{assert_clean, attempt, one_seed, replay, run_all, seeds};

/// Seeds that have found something, with what it was. They always run.
const ONCE_FAILED: &[(u64, &str)] = &[
    (
        24,
        "a stream that was off for minutes: changes were in no incident",
    ),
    (91, "the same"),
    (121, "the same"),
    (41, "a gap reached behind the snapshot that was to heal it"),
    (493, "a stream that was disabled while its log was begun"),
    (25, "two finalizers of one execution"),
    (
        1091,
        "two plans of one execution, one of which took the other's marker away",
    ),
    (
        1449,
        "a part without a row, in a segment that has become empty",
    ),
    (
        364,
        "a child's records behind a mark that its parent's silence had raised",
    ),
    (
        33830,
        "a log begun on a stream that was disabled long before: what it missed began too late",
    ),
    (71398, "the same"),
    (89113, "the same"),
    (10057, "a part that came late, and that no row names"),
    (55396, "the same"),
];

#[test]
fn no_seed_breaks_an_invariant() {
    let report = run_all(
        ONCE_FAILED.iter().map(|(seed, _)| *seed).chain(0..seeds()),
        Plan::of,
    );
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
        let is_clean = attempt(plan, false).result.is_ok();
        assert!(is_clean, "{}", replay(plan));
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
