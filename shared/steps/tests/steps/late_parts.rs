//! Parts that land when nobody waits for them any more: they are cleared away before the seal, and nothing else is.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt as _;
use highwater_domain::budget::Budget;
use highwater_domain::control_table::ControlTable as _;
use highwater_domain::failure::Failure;
use highwater_domain::object_store::{NewObject, ObjectStore as _};
use highwater_domain::snapshot::{Compression, PartId, SnapshotRecord, Status};
use highwater_steps::finalize_backup::{self, FinalizeOutput};
use highwater_steps::{Deps, ErrorName, StepError, scan_segment};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::object;
use highwater_testkit::intercepted::{Call, Intercepted, Interceptor, Ticket};
use highwater_testkit::stepped::{Run, Stepped, interleave, random_schedule};

use crate::stage::*;

/// What is done, told the call's number and key.
type Act = Box<dyn FnMut(u64, &str) + Send>;

/// Does something beside the run after every call of one method to the store.
struct Beside {
    operation: &'static str,
    act: Mutex<Act>,
    calls: Mutex<u64>,
}

impl Beside {
    fn each(operation: &'static str, act: impl FnMut(u64, &str) + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            operation,
            act: Mutex::new(Box::new(act)),
            calls: Mutex::new(0),
        })
    }

    fn calls(&self) -> u64 {
        *self.calls.lock().unwrap()
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "beside every {}", self.operation)
    }
}

#[async_trait]
impl Interceptor for Beside {
    async fn before(&self, _call: &Call) -> Result<Ticket, Failure> {
        Ok(0)
    }

    async fn after(&self, call: &Call, _ticket: Ticket) -> Result<(), Failure> {
        if call.operation == self.operation {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            (self.act.lock().unwrap())(*calls, &call.resource);
        }
        Ok(())
    }
}

/// Everything scanned, nothing sealed: two segments.
async fn scanned() -> Stage {
    let stage = Stage::of_items(120);
    stage.plan(request(2)).await.unwrap();
    stage.scan_all(2).await.unwrap();
    stage
}

/// A part at this place with the bytes of one that counts, as a worker would have written it.
fn late(stage: &Stage, segment: u32, number: u32) -> NewObject {
    let counts = &stage.control.all_parts(&id())[0].object;
    let place = PartId { segment, number };
    NewObject {
        key: layout().part(place, Compression::Gzip),
        ..stage.store.objects()[counts].clone()
    }
}

fn parts(stage: &Stage) -> BTreeSet<String> {
    let rows = stage.control.all_parts(&id());
    rows.into_iter().map(|row| row.object).collect()
}

fn data(stage: &Stage) -> BTreeSet<String> {
    let keys = stage.store.keys().into_iter();
    keys.filter(|key| key.starts_with(&layout().data()))
        .collect()
}

async fn finalize(deps: &Deps) -> Result<FinalizeOutput, StepError> {
    finalize_backup::run(deps, &finalize_input(), Budget::UNLIMITED).await
}

fn beside(stage: &Stage, beside: &Arc<Beside>) -> Deps {
    stage.through(
        Arc::new(Intercepted::new(&stage.store, beside)),
        stage.control.clone(),
    )
}

#[tokio::test]
async fn parts_that_came_too_late_are_deleted_before_the_seal() {
    let stage = scanned().await;
    for (segment, number) in [(0, 90), (0, 1_000_000), (1, 91)] {
        stage.store.plant(late(&stage, segment, number));
    }
    stage.finalize().await.unwrap();
    assert_eq!(data(&stage), parts(&stage));
    stage.assert_equals_table().await;
}

/// More than one request can take.
#[tokio::test]
async fn any_number_of_late_parts_is_deleted() {
    let stage = scanned().await;
    for number in 0..2100 {
        stage.store.plant(late(&stage, 1, 1000 + number));
    }
    let deletes = Beside::each("delete", |_, _| ());
    finalize(&beside(&stage, &deletes)).await.unwrap();
    assert_eq!((data(&stage), deletes.calls()), (parts(&stage), 3));
    stage.assert_equals_table().await;
}

/// What is not surely ours stays, and so does everything else while it is there.
#[tokio::test]
async fn nothing_is_deleted_that_no_worker_of_this_snapshot_would_have_made() {
    for name in [
        "",
        "notes.txt",
        "s00000-p000900.json.zst",
        "s00002-p000000.json.gz",
        "s99999-p000000.json.gz",
        "s0-p900.json.gz",
        "s00000-p0000900.json.gz",
        "s00000-p000900.json.gz.bak",
        "S00000-p000900.json.gz",
        "more/s00000-p000900.json.gz",
    ] {
        let stage = scanned().await;
        let foreign = format!("{}{name}", layout().data());
        stage.store.plant(object(&foreign, "x"));
        stage.store.plant(late(&stage, 0, 900));
        stage.store.plant(late(&stage, 1, 900));
        let before = stage.store.objects();
        let refused = stage.finalize().await.unwrap_err();
        assert_eq!(refused.name(), ErrorName::PartCorrupt, "{name}");
        let url = stage.store.url(&foreign);
        assert!(refused.to_string().starts_with(&url), "{refused}");
        assert_eq!(stage.store.objects(), before, "{name}");
        assert!(stage.store.lose(&foreign));
        stage.finalize().await.unwrap();
        stage.assert_equals_table().await;
    }
}

/// One lands after each look at the folder, until the senders are dead.
#[tokio::test]
async fn a_part_that_lands_between_two_looks_is_deleted_too() {
    let stage = scanned().await;
    stage.store.plant(late(&stage, 0, 900));
    let (store, one) = (stage.store.clone(), late(&stage, 1, 900));
    let deletes = Beside::each("delete", move |nth, _| {
        if nth < 5 {
            store.plant(one.clone());
        }
    });
    finalize(&beside(&stage, &deletes)).await.unwrap();
    assert_eq!(deletes.calls(), 5);
    stage.assert_equals_table().await;
}

#[tokio::test]
async fn parts_that_come_without_end_are_an_error_that_is_retried() {
    let stage = scanned().await;
    for number in 0..12 {
        stage.store.plant(late(&stage, 0, 900 + number));
    }
    let (store, all) = (stage.store.clone(), stage.store.objects());
    let deletes = Beside::each("delete", move |_, _| {
        for object in all.values() {
            store.plant(object.clone());
        }
    });
    let error = finalize(&beside(&stage, &deletes)).await.unwrap_err();
    assert_eq!(
        (error.name(), deletes.calls()),
        (ErrorName::TransientAws, 5)
    );
    let text = error.to_string();
    assert!(
        text.contains("s00000-p000900.json.gz, s00000-p000901.json.gz")
            && text.contains("and 2 more")
            && text.contains(&stage.store.url(&layout().data())),
        "{text}"
    );
    assert_eq!(stage.status().await, Some(Status::Running));
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
}

#[tokio::test]
async fn a_crash_while_late_parts_are_deleted_leaves_work_for_the_next_run() {
    for moment in [Moment::Before, Moment::After] {
        let mut deletes = 0;
        for nth in 1.. {
            let stage = scanned().await;
            stage.store.plant(late(&stage, 0, 900));
            stage.store.plant(late(&stage, 1, 900));
            let crash = Arc::new(Failing::crash(nth, moment));
            let deps = stage.through(
                Arc::new(Intercepted::new(&stage.store, &crash)),
                Arc::new(Intercepted::new(&stage.control, &crash)),
            );
            let first = finalize(&deps).await;
            if !crash.has_struck() {
                first.unwrap();
                break;
            }
            deletes += u32::from(first.is_err_and(|it| it.to_string().contains("delete")));
            stage.finalize().await.unwrap();
            stage.assert_equals_table().await;
        }
        assert_eq!(deletes, 1, "{moment:?}");
    }
}

/// Two finalizers, and parts that land beside them.
#[tokio::test]
async fn two_finalizers_at_once_clear_one_folder() {
    for seed in 0..300 {
        let stage = scanned().await;
        stage.store.plant(late(&stage, 0, 900));
        let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
        let deps = gates.each_ref().map(|gate| {
            stage.through(
                Arc::new(Intercepted::new(&stage.store, gate)),
                Arc::new(Intercepted::new(&stage.control, gate)),
            )
        });
        let runs = (0..2).map(|run| Run::new(&gates[run], finalize(&deps[run])));
        let outcomes = interleave(runs.collect(), &random_schedule(seed, 2, 80)).await;
        for outcome in &outcomes {
            assert!(outcome.is_ok(), "{seed}: {}", story(outcome));
        }
        stage.finalize().await.unwrap();
        stage.assert_equals_table().await;
    }
}

/// A finalizer that was held up finds the snapshot another's, or failed, or sealed: it deletes nothing any more.
#[tokio::test]
async fn whoever_does_not_own_the_snapshot_any_more_deletes_nothing() {
    type Change = fn(&mut SnapshotRecord);
    let meanwhile: [(Change, Option<ErrorName>); 3] = [
        (
            |record| record.request_id = "execution-2".into(),
            Some(ErrorName::Interrupted),
        ),
        (
            |record| record.status = Status::Failed,
            Some(ErrorName::Interrupted),
        ),
        (|record| record.status = Status::Completed, None),
    ];
    for (change, refused) in meanwhile {
        let stage = scanned().await;
        let one = late(&stage, 0, 900);
        stage.store.plant(one.clone());
        let control = stage.control.clone();
        let looks = Beside::each("list", move |nth, _| {
            if nth == 1 {
                let known = control.snapshot(&id()).now_or_never().unwrap();
                let mut record = known.unwrap().unwrap();
                change(&mut record.value);
                let update = control.update_snapshot(record.version, &record.value);
                update.now_or_never().unwrap().unwrap();
            }
        });
        let outcome = finalize(&beside(&stage, &looks)).await;
        assert!(looks.calls() > 0);
        let name = outcome.as_ref().err().map(StepError::name);
        assert_eq!(name, refused, "{}", story(&outcome));
        assert!(data(&stage).contains(&one.key));
    }
}

/// The same where the snapshot was deleted while the finalizer was held up.
#[tokio::test]
async fn a_deleted_snapshot_is_not_cleared() {
    let stage = scanned().await;
    let one = late(&stage, 0, 900);
    stage.store.plant(one.clone());
    let control = stage.control.clone();
    let looks = Beside::each("list", move |nth, _| {
        if nth == 1 {
            let id = id();
            let forgotten = control.forget_snapshot(&id);
            forgotten.now_or_never().unwrap().unwrap();
        }
    });
    let error = finalize(&beside(&stage, &looks)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::SnapshotNotFound);
    assert!(data(&stage).contains(&one.key));
}

/// What is left of the table after a worker has read it and before its part lands: nothing. Another worker ends the
/// segment without that part; the finalizer clears it away, whatever the first worker does meanwhile.
#[tokio::test]
async fn a_worker_that_comes_too_late_finds_its_segment_done() {
    let gone = Arc::new(AtomicU32::new(0));
    for seed in 0..400 {
        let stage = Stage::of_items(120);
        stage.plan(request(1)).await.unwrap();
        let (count, store) = (gone.clone(), stage.store.clone());
        let reads = Beside::each("read", move |_, key| {
            let is_gone = !store.keys().iter().any(|it| it == key);
            count.fetch_add(u32::from(is_gone), Ordering::Relaxed);
        });
        let store = Arc::new(Intercepted::new(&stage.store, &reads));
        let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
        let deps = gates.each_ref().map(|gate| {
            stage.through(
                Arc::new(Intercepted::new(&store, gate)),
                Arc::new(Intercepted::new(&stage.control, gate)),
            )
        });
        let input = scan_input(0);
        let worker = async {
            let outcome = scan_segment::run(&deps[0], &input, Budget::UNLIMITED).await;
            let done = outcome.as_ref().is_ok_and(|it| it.done);
            assert!(done, "{seed}: {}", story(&outcome));
        };
        let others = async {
            // Their turn begins with a call.
            deps[1].control.snapshot(&id()).await.unwrap();
            for key in stage.table.items().into_keys() {
                stage.table.delete(&key);
            }
            stage.scan_all(1).await.unwrap();
            // The worker's part. It has had no answer, and sends the request again.
            let number = u32::try_from(parts(&stage).len()).unwrap();
            stage.store.plant(late(&stage, 0, number));
            let outcome = finalize(&deps[1]).await;
            assert!(outcome.is_ok(), "{seed}: {}", story(&outcome));
        };
        // The worker has committed a part or two; then the finalizer comes near its deletion.
        let turns = |run: usize, seeds: std::ops::Range<usize>| {
            let turns = seeds.start + usize::try_from(seed).unwrap() % seeds.len();
            vec![run; turns]
        };
        let mut schedule = [turns(0, 5..10), turns(1, 1..30)].concat();
        schedule.extend(random_schedule(seed, 2, 40));
        let worker = Run::new(&gates[0], worker);
        interleave(vec![worker, Run::new(&gates[1], others)], &schedule).await;
        assert_eq!(stage.status().await, Some(Status::Completed));
        stage.read().await.unwrap();
    }
    let gone = gone.load(Ordering::Relaxed);
    assert!(gone > 10, "{gone} found their part gone between two looks");
}
