//! `kill -9` at any moment of a restore that is having a bad day already.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use highwater_domain::key::ScalarType;
use highwater_domain::restore::RestoreId;
use highwater_domain::snapshot::Status;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;

use super::read_back::{Items, assert_same, table_items};
use super::restores::backed_up;
use super::restoring::{completed, loaded, record, restore_id, total};
use super::stage::{Stage, TABLE, TO};
use super::told::Told;

const SEED: u64 = 20_260_115;
const ITEMS: u64 = 240;

/// Moments at which a kill is due, for each of the stages that stand side by side: fifty.
const MOMENTS: [(Into, usize); 10] = [
    (Into::NewTable, 5),
    (Into::Existing, 5),
    (Into::Overwritten, 5),
    (Into::NewTable, 5),
    (Into::Existing, 5),
    (Into::Overwritten, 5),
    (Into::NewTable, 5),
    (Into::Existing, 5),
    (Into::Overwritten, 5),
    (Into::NewTable, 5),
];

/// Strings and numbers, so that both kinds of key are found again.
const SHAPE: KeyShape = KeyShape {
    partition: ScalarType::S,
    sort: Some(ScalarType::N),
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

/// Nine batches in ten come back half done while a kill is due.
const UNPROCESSED: f64 = 0.9;

/// A run that is to end has it a little better, or most of the test would be waiting for single items: a run at
/// the worst share is in `restore_faults`.
const UNPROCESSED_AT_THE_END: f64 = 0.4;

/// A bad day: faults, a share of batches that come back half done, and a while to wait for everything else.
fn mistreat(proxy: &FaultProxy, unprocessed: f64) {
    proxy.clear();
    for (fault, share) in FAULTS {
        proxy.inject(Rule::rate(fault, share));
    }
    proxy.inject(Rule::rate(Fault::Unprocessed, unprocessed));
    proxy.inject(Rule::rate(Fault::Delay(4), 1.0));
}

/// What is restored into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Into {
    /// A table that is made for it.
    NewTable,
    /// A table with items of its own, which stay.
    Existing,
    /// A table with items of its own, which are replaced.
    Overwritten,
}

/// How far a restore had come when its process was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// There was no record of it.
    Unrecorded,
    /// There was a record, and no file was loaded whole.
    Planned,
    /// Some files were.
    Loading,
    /// All files were.
    Finalizing,
    /// The record said `completed`; the process had not yet said so.
    Completed,
}

/// One restore, and how it is begun and gone on with.
struct Attempt {
    id: RestoreId,
    control: String,
    target: String,
    begin: Vec<String>,
    resume: Vec<String>,
}

impl Attempt {
    fn new(into: Into, number: u32, backup: &str) -> Self {
        let id = restore_id(number);
        // A new control table now and then, so that its creation is interrupted too.
        let control = format!("control-{}", number / 2);
        let target = format!("target-{number}");
        let common = ["--control-table", &control, "--json"].map(str::to_owned);
        let mut begin = [
            "restore",
            backup,
            "--from",
            TO,
            "--to",
            &target,
            "--id",
            id.as_str(),
            "--concurrency",
            "4",
        ]
        .map(str::to_owned)
        .to_vec();
        if into != Into::NewTable {
            begin.push("--into-existing".to_owned());
        }
        if into == Into::Overwritten {
            begin.push("--allow-overwrite".to_owned());
        }
        begin.extend(common.clone());
        let mut resume = ["restore", "--resume", id.as_str()]
            .map(str::to_owned)
            .to_vec();
        resume.extend(common);
        Self {
            id,
            control,
            target,
            begin,
            resume,
        }
    }
}

struct Ordeal {
    into: Into,
    stage: Stage,
    backup: String,
    source: Items,
    random: Rng,
    /// Requests of a restore that nobody hinders.
    whole: u64,
    moments_left: usize,
    struck: BTreeMap<Phase, usize>,
    /// What runs said that gave up because of the faults.
    gave_up: Vec<String>,
    completed: usize,
}

impl Ordeal {
    /// Restores, one after the other, until every moment is used up.
    async fn run(seed: u64, into: Into, moments: usize) -> Self {
        let mut ordeal = Self::prepare(seed, into, moments).await;
        ordeal.measure().await;
        for number in 1.. {
            if ordeal.moments_left == 0 {
                break;
            }
            ordeal.restore(number).await;
        }
        ordeal
    }

    async fn prepare(seed: u64, into: Into, moments_left: usize) -> Self {
        let stage = Stage::seeded(seed).await;
        let items = Generator::new(seed, SHAPE).with_big_every(100);
        stage.fill(TABLE, &items, ITEMS).await;
        let backup = backed_up(&stage, TO).await;
        let source = table_items(&stage, TABLE, &SHAPE.schema()).await;
        assert_eq!(source.len() as u64, ITEMS);
        mistreat(&stage.s3_proxy, 0.0);
        Self {
            into,
            stage,
            backup,
            source,
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
        let attempt = Attempt::new(self.into, 0, &self.backup);
        let expected = self.make_target(&attempt).await;
        let before = self.stage.requests();
        let told = self.stage.run(&attempt.begin).await.done();
        self.whole = self.stage.requests() - before;
        self.check(&attempt, &told, &expected).await;
        self.faults(true);
    }

    /// Makes the table if it is to be there, with items of the same keys and of others; gives what it must hold
    /// in the end.
    async fn make_target(&self, attempt: &Attempt) -> Items {
        let mut expected = self.source.clone();
        if self.into == Into::NewTable {
            return expected;
        }
        let (stage, target) = (&self.stage, &attempt.target);
        NewTable::new(target, SHAPE)
            .create(&stage.direct)
            .await
            .unwrap();
        // The same keys with other contents: half of them are in the backup.
        let others = Generator::small(1, SHAPE);
        let indices = (0..ITEMS * 2).step_by(17);
        let items = indices.map(|index| others.item(index)).collect();
        stage.dynamodb.import(target, items).await.unwrap();
        for (key, item) in table_items(stage, target, &SHAPE.schema()).await {
            if self.into == Into::Existing || !expected.contains_key(&key) {
                expected.insert(key, item);
            }
        }
        expected
    }

    /// One restore, from its start through as many kills and resumes as it takes.
    async fn restore(&mut self, number: u32) {
        let attempt = Attempt::new(self.into, number, &self.backup);
        let expected = self.make_target(&attempt).await;
        let mut kills = self.random.usize(2..=4);
        let mut recorded = false;
        for run in 1.. {
            assert!(
                run < 25,
                "{} does not end: {:?}, {:#?}",
                attempt.id,
                self.struck,
                self.gave_up
            );
            // Half-done batches make more requests than a good day; what is left of a resumed one is shorter.
            let due = kills > 0 && self.moments_left > 0;
            let reach = if run == 1 {
                self.whole * 3 / 2
            } else {
                self.whole
            };
            let moment = due.then(|| self.random.u64(1..=reach));
            self.moments_left -= usize::from(due);
            let share = if due {
                UNPROCESSED
            } else {
                UNPROCESSED_AT_THE_END
            };
            mistreat(&self.stage.dynamodb_proxy, share);
            let next = if recorded {
                &attempt.resume
            } else {
                &attempt.begin
            };
            let told = self.kill_at(next, moment).await;
            match told.code {
                Some(0) => return self.check(&attempt, &told, &expected).await,
                Some(code) => {
                    assert_eq!((code, told.stdout.as_str()), (1, ""), "{told:#?}");
                    self.gave_up.push(told.stderr);
                }
                None => {
                    kills -= 1;
                    let phase = self.phase(&attempt).await;
                    *self.struck.entry(phase).or_default() += 1;
                }
            }
            // A request of the killed process may still be on its way: then beginning again is told that the
            // restore is there, and the next run resumes it.
            recorded = record(&self.stage, &attempt.control, &attempt.id)
                .await
                .is_some();
        }
    }

    /// Runs the command; kills it when so many requests have been made.
    async fn kill_at(&self, arguments: &[String], moment: Option<u64>) -> Told {
        let before = self.stage.requests();
        let mut child = self.stage.spawn(arguments);
        while child.try_wait().unwrap().is_none() {
            if moment.is_some_and(|moment| self.stage.requests() - before >= moment) {
                child.start_kill().unwrap();
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        super::stage::told(child).await
    }

    async fn phase(&self, attempt: &Attempt) -> Phase {
        let Some(record) = record(&self.stage, &attempt.control, &attempt.id).await else {
            return Phase::Unrecorded;
        };
        let (done, _) = loaded(&self.stage, &attempt.control, &attempt.id).await;
        if record.status == Status::Completed {
            Phase::Completed
        } else if done as u64 == record.source.files {
            Phase::Finalizing
        } else if done == 0 {
            Phase::Planned
        } else {
            Phase::Loading
        }
    }

    /// Nothing is missing, double or strange, and the last run's equation holds.
    async fn check(&mut self, attempt: &Attempt, told: &Told, expected: &Items) {
        let result = completed(told);
        assert_eq!(total(&result, "read"), ITEMS, "{result}");
        assert_eq!(
            total(&result, "rejected") + total(&result, "filtered"),
            0,
            "{result}"
        );
        if self.into == Into::Existing {
            // Its own items from before a kill may count as existing, never the other way round.
            let there = (0..ITEMS).step_by(17).count() as u64;
            assert!(total(&result, "existing") >= there, "{result}");
        } else {
            assert_eq!(total(&result, "written"), ITEMS, "{result}");
        }
        let items = table_items(&self.stage, &attempt.target, &SHAPE.schema()).await;
        assert_same(&items, expected);
        self.completed += 1;
    }

    fn faults(&self, enabled: bool) {
        self.stage.dynamodb_proxy.set_enabled(enabled);
        self.stage.s3_proxy.set_enabled(enabled);
    }
}

/// Fifty kills, each when a number of requests drawn from the seed have been made: spread over a run however
/// fast the machine is. Killed restores are resumed, or begun again where nothing was recorded, killed again
/// perhaps, and come out as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_of_a_restore_lose_nothing_and_double_nothing() {
    // Side by side, because most of a bad day is waiting.
    let seeds = (SEED..).step_by(10);
    let ordeals = seeds
        .zip(MOMENTS)
        .map(|(seed, (into, moments))| Ordeal::run(seed, into, moments));
    let ordeals = join_all(ordeals).await;
    let mut struck: BTreeMap<Phase, usize> = BTreeMap::new();
    for ordeal in &ordeals {
        for (phase, times) in &ordeal.struck {
            *struck.entry(*phase).or_default() += times;
        }
    }
    let completed: usize = ordeals.iter().map(|ordeal| ordeal.completed).sum();
    let gave_up: Vec<&String> = ordeals.iter().flat_map(|ordeal| &ordeal.gave_up).collect();
    let due: usize = MOMENTS.iter().map(|(_, moments)| moments).sum();
    assert_eq!(due, 50);
    let whole: Vec<u64> = ordeals.iter().map(|ordeal| ordeal.whole).collect();
    println!(
        "{whole:?} requests a run; kills of {due}: {struck:?}; {completed} restores completed; gave up: {gave_up:#?}"
    );
    let in_phase = |phase| struck.get(&phase).copied().unwrap_or_default();
    assert!(
        struck.values().sum::<usize>() >= 30,
        "too few kills hit a run: {struck:?}"
    );
    assert!(
        in_phase(Phase::Planned) >= 5 && in_phase(Phase::Loading) >= 5,
        "{struck:?}"
    );
    assert!(struck.len() >= 3, "kills in few phases only: {struck:?}");
    assert!(completed >= 20, "{completed}");
    for fault in FAULTS
        .map(|(fault, _)| fault)
        .into_iter()
        .chain([Fault::Unprocessed])
    {
        let count = |ordeal: &Ordeal| ordeal.stage.dynamodb_proxy.count(fault);
        assert!(ordeals.iter().map(count).sum::<u64>() > 0, "{fault:?}");
    }
}
