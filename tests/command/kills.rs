//! `kill -9` at any moment of a backup that is having a bad day already.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use highwater_domain::ids::SnapshotId;
use highwater_domain::snapshot::Status;
use highwater_steps::status;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};

use super::read_back::{Items, Place, assert_same, id, table_items};
use super::stage::{Stage, TABLE, TO};
use super::told::Told;

const SEED: u64 = 20_260_114;

/// Moments at which a kill is due, for each of the backups that run side by side.
const MOMENTS: [usize; 3] = [17, 17, 16];

/// Strings and numbers, so that a segment ends in the middle of a partition too.
const SHAPE: KeyShape = KeyShape {
    partition: highwater_domain::key::ScalarType::S,
    sort: Some(highwater_domain::key::ScalarType::N),
};

/// One request in ten goes wrong, in these ways.
const FAULTS: [(Fault, f64); 7] = [
    (Fault::Throttle, 0.02),
    (Fault::ThrottlingException, 0.01),
    (Fault::ServerError, 0.015),
    (Fault::DropRequest, 0.015),
    (Fault::LoseAnswer, 0.02),
    (Fault::TruncateAnswer, 0.01),
    (Fault::Duplicate, 0.01),
];

/// A bad day: faults, and a while to wait for everything else.
fn mistreat(proxy: &FaultProxy) {
    for (fault, share) in FAULTS {
        proxy.inject(Rule::rate(fault, share));
    }
    proxy.inject(Rule::rate(Fault::Delay(6), 1.0));
}

/// How far a backup had come when its process was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// There was no record of it.
    Unrecorded,
    /// There was a record and no part.
    Planned,
    /// There were parts, and segments that were not done.
    Scanning,
    /// Every segment was done.
    Finalizing,
    /// The record said `completed`; the process had not yet said so.
    Sealed,
}

/// How a run of the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Done,
    /// It gave up because of the faults.
    Failed,
}

fn begin<'a>(id: &'a SnapshotId, control: &'a str) -> [&'a str; 14] {
    [
        "backup",
        TABLE,
        "--to",
        TO,
        "--id",
        id.as_str(),
        "--control-table",
        control,
        "--segments",
        "5",
        "--concurrency",
        "3",
        "--part-size",
        "5000",
    ]
}

struct Ordeal {
    stage: Stage,
    expected: Items,
    random: Rng,
    /// Requests of a run that nobody hinders.
    whole: u64,
    moments_left: usize,
    struck: BTreeMap<Phase, usize>,
    /// What runs said that gave up because of the faults.
    gave_up: Vec<String>,
    completed: usize,
}

impl Ordeal {
    /// Backups, one after the other, until every moment is used up.
    async fn run(seed: u64, moments: usize) -> Self {
        let mut ordeal = Self::prepare(seed, moments).await;
        ordeal.measure().await;
        for number in 1.. {
            if ordeal.moments_left == 0 {
                break;
            }
            // A new control table now and then, so that its creation is interrupted too.
            let control = format!("control-{}", number / 3);
            ordeal.backup(number, &control).await;
        }
        ordeal
    }

    async fn prepare(seed: u64, moments_left: usize) -> Self {
        let stage = Stage::seeded(seed).await;
        // Some items of nearly 400 KB, so that segments have pages and parts have limits.
        let items = Generator::new(seed, SHAPE).with_big_every(150);
        stage.fill(TABLE, &items, 900).await;
        let expected = table_items(&stage, TABLE, &SHAPE.schema()).await;
        assert_eq!(expected.len(), 900);
        mistreat(&stage.dynamodb_proxy);
        mistreat(&stage.s3_proxy);
        Self {
            stage,
            expected,
            random: Rng::with_seed(seed),
            whole: 0,
            moments_left,
            struck: BTreeMap::new(),
            gave_up: Vec::new(),
            completed: 0,
        }
    }

    /// Counts the requests of a run on a good day.
    async fn measure(&mut self) {
        self.faults(false);
        let before = self.stage.requests();
        let id = id(0);
        self.stage.run(&begin(&id, "control-0")).await.done();
        self.whole = self.stage.requests() - before;
        self.faults(true);
        self.check(&id).await;
    }

    /// One backup, from its start through as many kills and resumes as it takes.
    async fn backup(&mut self, number: u32, control: &str) {
        let id = id(number);
        let begin = begin(&id, control);
        let resume = [
            "backup",
            "--resume",
            id.as_str(),
            "--control-table",
            control,
        ];
        let mut next = &begin[..];
        let mut kills = self.random.usize(1..=5);
        for attempt in 1.. {
            assert!(
                attempt < 25,
                "backup {id} does not come to an end: {:?}, {:#?}",
                self.struck,
                self.gave_up
            );
            // What is left of a resumed backup is shorter than the whole.
            let reach = if attempt == 1 {
                self.whole
            } else {
                self.whole / 2
            };
            let due = kills > 0 && self.moments_left > 0;
            let moment = due.then(|| self.random.u64(1..=reach));
            self.moments_left -= usize::from(due);
            let (end, told) = self.attempt(next, moment).await;
            match end {
                End::Done => break,
                End::Failed => {
                    let told = told.failed(1, &[]);
                    self.gave_up.push(told.error().to_owned());
                }
                End::Killed => {
                    kills -= 1;
                    let phase = self.phase(control, &id).await;
                    *self.struck.entry(phase).or_default() += 1;
                }
            }
            if self.stage.record(control, &id).await.is_none() && !self.was_recorded(&resume).await
            {
                self.assert_nothing_claimed(&id).await;
                return;
            }
            next = &resume[..];
        }
        self.check(&id).await;
    }

    /// Runs the command; kills it when so many requests have been made.
    async fn attempt(&mut self, arguments: &[&str], moment: Option<u64>) -> (End, Told) {
        let before = self.stage.requests();
        let mut child = self.stage.spawn(arguments);
        while child.try_wait().unwrap().is_none() {
            if moment.is_some_and(|moment| self.stage.requests() - before >= moment) {
                child.start_kill().unwrap();
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = super::stage::told(child).await;
        let end = match told.code {
            None => End::Killed,
            Some(0) => End::Done,
            Some(_) => End::Failed,
        };
        (end, told)
    }

    async fn phase(&self, control: &str, id: &SnapshotId) -> Phase {
        let Some(record) = self.stage.record(control, id).await else {
            return Phase::Unrecorded;
        };
        let progress = status::progress(&self.stage.control(control), id)
            .await
            .unwrap();
        if record.status == Status::Completed {
            Phase::Sealed
        } else if progress.segments_done == u64::from(record.total_segments) {
            Phase::Finalizing
        } else if progress.parts.parts == 0 {
            Phase::Planned
        } else {
            Phase::Scanning
        }
    }

    /// A request of the killed process may still have been on its way when the record was looked for. Then the
    /// resume, now without faults, does its work; else it says that there is nothing to resume.
    async fn was_recorded(&self, resume: &[&str]) -> bool {
        self.faults(false);
        let told = self.stage.run(resume).await;
        self.faults(true);
        if told.code == Some(0) {
            return true;
        }
        told.failed(1, &["there is no snapshot", resume[2]])
            .hinted("highwater list");
        false
    }

    async fn assert_nothing_claimed(&self, id: &SnapshotId) {
        let place = Place::bucket(&self.stage, "daily");
        assert_eq!(place.metadata(TABLE, id).await, None);
        assert!(place.data(TABLE, id).await.is_empty());
    }

    /// Nothing is missing, double or strange.
    async fn check(&mut self, id: &SnapshotId) {
        let (items, metadata) = Place::bucket(&self.stage, "daily").read(TABLE, id).await;
        assert_same(&items, &self.expected);
        assert_eq!(metadata.status, Status::Completed);
        assert_eq!(metadata.scan.scanned, 900);
        assert_eq!(metadata.error, None);
        self.completed += 1;
    }

    fn faults(&self, enabled: bool) {
        self.stage.dynamodb_proxy.set_enabled(enabled);
        self.stage.s3_proxy.set_enabled(enabled);
    }
}

/// Fifty kills, each when a number of requests drawn from the seed have been made: spread over a run however
/// fast the machine is. Killed backups are resumed, killed again perhaps, and come out as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_nothing_and_double_nothing() {
    // Side by side, because most of a bad day is waiting.
    let seeds = (SEED..).step_by(10);
    let ordeals = seeds
        .zip(MOMENTS)
        .map(|(seed, moments)| Ordeal::run(seed, moments));
    let ordeals = join_all(ordeals).await;
    let mut struck: BTreeMap<Phase, usize> = BTreeMap::new();
    for ordeal in &ordeals {
        for (phase, times) in &ordeal.struck {
            *struck.entry(*phase).or_default() += times;
        }
    }
    let completed: usize = ordeals.iter().map(|ordeal| ordeal.completed).sum();
    let gave_up: Vec<&String> = ordeals.iter().flat_map(|ordeal| &ordeal.gave_up).collect();
    let due: usize = MOMENTS.iter().sum();
    println!(
        "{} requests a run; kills of {due}: {struck:?}; {completed} backups completed; gave up: {gave_up:#?}",
        ordeals[0].whole
    );
    let in_phase = |phase| struck.get(&phase).copied().unwrap_or_default();
    assert!(
        struck.values().sum::<usize>() >= 30,
        "too few kills hit a run: {struck:?}"
    );
    assert!(in_phase(Phase::Scanning) >= 10, "{struck:?}");
    assert!(struck.len() >= 3, "kills in few phases only: {struck:?}");
    assert!(completed >= 8, "{completed}");
    for fault in FAULTS.map(|(fault, _)| fault) {
        let count = |ordeal: &Ordeal| {
            (
                ordeal.stage.dynamodb_proxy.count(fault),
                ordeal.stage.s3_proxy.count(fault),
            )
        };
        let counts: Vec<(u64, u64)> = ordeals.iter().map(count).collect();
        assert!(
            counts.iter().any(|count| count.0 > 0) && counts.iter().any(|count| count.1 > 0),
            "{fault:?}: {counts:?}"
        );
    }
}
