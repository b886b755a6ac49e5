//! Many seeds on all cores, and a short replay of one that fails.

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::plan::Plan;
use super::run::{Ran, Worth, run};

/// The lines of a replay that are shown: the last ones, which led to the failure.
const SHOWN: usize = 120;

/// Failures of one kind that are kept, and of all kinds.
const MOST_ALIKE: usize = 8;
const MOST_FAILURES: usize = 40;

/// How many seeds a test tries, unless it is told otherwise.
pub fn seeds() -> u64 {
    let told = env::var("HIGHWATER_TEST_SEEDS").ok();
    told.map_or(500, |text| {
        text.parse().expect("HIGHWATER_TEST_SEEDS is a number")
    })
}

/// The one seed that is asked for, if one is.
pub fn one_seed() -> Option<u64> {
    let told = env::var("HIGHWATER_TEST_SEED").ok();
    told.map(|text| text.parse().expect("HIGHWATER_TEST_SEED is a number"))
}

/// Runs one plan; a panic is a failure like any other.
pub fn attempt(plan: Plan, traced: bool) -> Ran {
    let ran = catch_unwind(AssertUnwindSafe(|| run(plan, traced)));
    ran.unwrap_or_else(|panic| Ran {
        result: Err(format!("panic: {}", words(panic.as_ref()))),
        trace: Vec::new(),
        print: 0,
    })
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
        .unwrap_or_default()
}

/// The sum of what all runs were worth, and the failures by their seeds.
#[derive(Debug, Default)]
pub struct Report {
    pub worth: Worth,
    pub failures: BTreeMap<u64, String>,
}

impl Report {
    /// Keeps a failure, unless enough of its kind are known.
    fn take(&mut self, seed: u64, failure: String) {
        let kind = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        let alike = self
            .failures
            .values()
            .filter(|it| kind(it) == kind(&failure));
        if alike.count() < MOST_ALIKE {
            self.failures.insert(seed, failure);
        }
    }
}

/// Runs every seed, spread over the cores, until some have failed.
pub fn run_all(seeds: impl Iterator<Item = u64>, plan_of: impl Fn(u64) -> Plan + Sync) -> Report {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let report = Mutex::new(Report::default());
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(seed) = seeds.get(place) else { break };
                    let ran = attempt(plan_of(*seed), false);
                    let mut report = report.lock().unwrap();
                    match ran.result {
                        Ok(worth) => report.worth.add(worth),
                        Err(failure) => report.take(*seed, failure),
                    }
                    if report.failures.len() >= MOST_FAILURES {
                        break;
                    }
                }
            });
        }
    });
    report.into_inner().unwrap()
}

/// The story of a failed seed, and how to see it again.
pub fn replay(plan: Plan) -> String {
    let ran = attempt(plan, true);
    let failure = ran.result.err().unwrap_or_else(|| {
        "it does not fail again: something in it does not come from the seed".into()
    });
    let skipped = ran.trace.len().saturating_sub(SHOWN);
    let all = env::var_os("HIGHWATER_TEST_SEED").is_some();
    let shown = if all {
        &ran.trace[..]
    } else {
        &ran.trace[skipped..]
    };
    format!(
        "{}\n\nseed {}: {failure}\nagain, and with every event: HIGHWATER_TEST_SEED={} cargo test -p highwater-tests --test simulation one_seed -- --nocapture",
        shown.join("\n"),
        plan.seed,
        plan.seed
    )
}

/// Fails with the story of the first seed that failed, and the names of all.
pub fn assert_clean(report: &Report, plan_of: impl Fn(u64) -> Plan) {
    let Some((seed, _)) = report.failures.first_key_value() else {
        return;
    };
    let all: Vec<String> = report
        .failures
        .iter()
        .map(|(seed, failure)| format!("seed {seed}: {failure}"))
        .collect();
    panic!("{}\n\n{}", replay(plan_of(*seed)), all.join("\n"));
}
