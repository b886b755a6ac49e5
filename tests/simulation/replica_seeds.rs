//! Replicas by seeds: many, and one by name.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use super::replica_run::{ReplicaPlan, ReplicaRan, ReplicaWorth, run};
use super::runner::one_seed;

/// Seeds that are tried unless a number is given.
const SEEDS: u64 = 60;

/// Seeds that have found something, with what it was. They always run.
const ONCE_FAILED: &[(u64, &str)] = &[
    (
        43,
        "a process died between its claim of the target and its record, and nobody could begin any more",
    ),
    (
        174,
        "a late request said that the backup is running, minutes after it was sealed",
    ),
    (
        1877,
        "what an assumed mark had said too early was held against the replica again once it was proven",
    ),
    (4086, "the same with another fence, and one shard only"),
    (
        5919,
        "one of a split's two children was hidden from the handoff, and the replica never read it",
    ),
];

/// Failures after which no more are looked for.
const ENOUGH: usize = 10;

/// Lines of a failed seed's story that are shown.
const SHOWN: usize = 150;

fn seeds() -> u64 {
    let told = env::var("HIGHWATER_TEST_SEEDS").ok();
    told.map_or(SEEDS, |text| text.parse().expect("a number of seeds"))
}

/// Runs one plan; a panic is a failure like any other.
pub fn attempt(of: ReplicaPlan, traced: bool) -> ReplicaRan {
    let ran = catch_unwind(AssertUnwindSafe(|| run(of, traced)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        ReplicaRan {
            result: Err(format!("panic: {}", text.unwrap_or_default())),
            trace: Vec::new(),
        }
    })
}

fn story(seed: u64) -> String {
    let ran = attempt(ReplicaPlan::of(seed), true);
    let all = env::var_os("HIGHWATER_TEST_SEED").is_some();
    let from = if all {
        0
    } else {
        ran.trace.len().saturating_sub(SHOWN)
    };
    let failure = ran
        .result
        .err()
        .unwrap_or_else(|| "it does not fail again".into());
    format!(
        "{}\n\nseed {seed}: {failure}\nagain, with every event: HIGHWATER_TEST_SEED={seed} cargo test -p highwater-tests --test simulation one_replica_by_name -- --nocapture",
        ran.trace[from..].join("\n")
    )
}

/// I10–I13, I7, and that a replica is never said to be equal to its source before it is.
#[test]
fn no_seed_breaks_a_replica() {
    let next = AtomicU64::new(0);
    let found = Mutex::new((ReplicaWorth::default(), BTreeMap::new()));
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let known = usize::try_from(turn)
                        .ok()
                        .and_then(|turn| ONCE_FAILED.get(turn));
                    let seed = known.map_or(turn.wrapping_sub(ONCE_FAILED.len() as u64), |it| it.0);
                    let is_over = known.is_none() && seed >= seeds();
                    if is_over || found.lock().unwrap().1.len() >= ENOUGH {
                        break;
                    }
                    let ran = attempt(ReplicaPlan::of(seed), false);
                    let mut found = found.lock().unwrap();
                    match ran.result {
                        Ok(worth) => found.0.add(worth),
                        Err(failure) => drop(found.1.insert(seed, failure)),
                    }
                }
            });
        }
    });
    let (worth, failures) = found.into_inner().unwrap();
    if let Some(seed) = failures.keys().next() {
        let all: Vec<String> = failures
            .iter()
            .map(|(seed, why)| format!("seed {seed}: {why}"))
            .collect();
        panic!("{}\n\n{}", story(*seed), all.join("\n"));
    }
    assert!(
        worth.written > seeds() * 10
            && worth.equal > seeds() / 2
            && worth.equalities > seeds()
            && worth.loads > seeds()
            && worth.cleared > seeds()
            && worth.stale > 0
            && worth.promoted > 0,
        "the runs are not worth much: {worth:?}"
    );
    println!("{} seeds: {worth:?}", seeds());
}

#[test]
fn one_replica_by_name() {
    if let Some(seed) = one_seed() {
        let ran = attempt(ReplicaPlan::of(seed), false);
        assert!(ran.result.is_ok(), "{}", story(seed));
    }
}

#[test]
fn a_seed_of_a_replica_is_one_interleaving() {
    for seed in 0..6 {
        let [first, second] = [0; 2].map(|_| attempt(ReplicaPlan::of(seed), true));
        let mut pairs = first.trace.iter().zip(&second.trace);
        assert_eq!(
            pairs.find(|(a, b)| a != b),
            None,
            "seed {seed} runs twice in two ways"
        );
    }
}
