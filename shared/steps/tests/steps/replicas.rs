//! A replica's life: loaded, quiet, live, promoted, and what may go wrong on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_domain::control_table::Cas;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::key::ScalarType;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::{NewObject, ObjectStore as _};
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl as _;
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};
use highwater_steps::deps::Unobserved;
use highwater_steps::replica::apply::{self, ApplyRequest};
use highwater_steps::replica::promote::{self, Caught};
use highwater_steps::replica::refused::RefusedPlace;
use highwater_steps::replica::sink::ReplicaWriter;
use highwater_steps::replica::{advance, place_of};
use highwater_steps::{RestoreDeps, StepError, StopFlag};
use highwater_testkit::failing::Moment;
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_table::{FakeTable, string_key};

use crate::live_mortal::Life;
use crate::live_world::{MINUTE, SECOND, World};
use crate::replica_stage::{ReplicaStage, TARGET};

/// Writes, deletes and inserts again, on old keys and new.
fn change(world: &World, round: u64) {
    for n in 0..20 {
        let key = format!("first-{}", (n * 3 + round) % 40);
        if (n + round).is_multiple_of(3) {
            world.table.delete(&key);
        } else {
            world.table.put(&key, &format!("{round}.{n}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_loaded_and_follows() {
    let stage = ReplicaStage::backed_up().await;
    change(&stage.world, 1);
    let live = stage.live().await;
    assert_eq!((live.phase, live.equal_at()), (Phase::Live, None));
    stage.world.follow(2 * MINUTE).await;
    let report = stage.apply(&live).await.unwrap();
    assert!(report.applied.is_balanced());
    stage.assert_equal();
    // Splits, deletes and inserts, in several rounds.
    for round in 2..6 {
        change(&stage.world, round);
        let open = stage.world.table.open_shards();
        if round % 2 == 0 {
            stage.world.table.split(&open[0]);
        }
        change(&stage.world, round + 10);
        stage.world.follow(3 * MINUTE).await;
        let report = stage.apply(&live).await.unwrap();
        assert!(report.applied.written > 0 && report.applied.is_balanced());
        stage.assert_equal();
        let equal_at = report.record.equal_at().expect("it has caught up");
        assert!(equal_at <= stage.world.now());
        let lag = stage.world.now().0 - equal_at.0;
        assert!(lag < 600, "{lag} seconds");
    }
    // Whoever applies again finds nothing to do.
    let again = stage.apply(&live).await.unwrap();
    assert_eq!(again.applied.records, 0);
}

/// Case 51: a loader that died is waited for until nothing that it has sent can land.
#[tokio::test(start_paused = true)]
async fn case_51_a_loader_that_died_is_waited_for() {
    let stage = ReplicaStage::backed_up().await;
    let begun = stage.begun().await;
    let known = stage.control.replica(&begun.source_arn, &begun.id).await;
    let known = known.unwrap().unwrap();
    let deadline = UnixMillis(stage.world.table.time().now().0 + 100_000);
    let with_dead = known.value.with_attempt("died", deadline).unwrap();
    let cas = stage
        .control
        .update_replica(known.version, &with_dead)
        .await;
    assert!(matches!(cas, Ok(Cas::Applied(_))));
    let loaded = stage.load(&with_dead).await;
    assert_eq!(loaded.attempts.len(), 1, "{:?}", loaded.attempts);
    let deps = stage.deps();
    let waits = advance::run(&deps, loaded).await.unwrap();
    let until = UnixMillis(deadline.0 + 360_000);
    assert_eq!(waits.record.phase, Phase::Quiesce);
    assert_eq!(waits.quiet_at, Some(until));
    let refused = stage.apply(&waits.record).await.unwrap_err();
    assert!(
        matches!(refused, StepError::ReplicaFailed { .. }),
        "{refused}"
    );
    let left = until.0 - stage.world.table.time().now().0;
    tokio::time::sleep(Duration::from_millis(left - 1)).await;
    let waits = advance::run(&deps, waits.record).await.unwrap();
    assert_eq!(waits.record.phase, Phase::Quiesce);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let live = advance::run(&deps, waits.record).await.unwrap();
    assert_eq!(live.record.phase, Phase::Live);
    assert_eq!(live.record.attempts, []);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_comes_late_writes_nothing() {
    let stage = ReplicaStage::backed_up().await;
    let begun = stage.begun().await;
    stage.plan_load(&begun).await.unwrap();
    let known = stage.control.replica(&begun.source_arn, &begun.id).await;
    let known = known.unwrap().unwrap();
    let quiet = known.value.quiescing().unwrap();
    stage
        .control
        .update_replica(known.version, &quiet)
        .await
        .unwrap();
    let late = ReplicaStage::load_lane(&stage.loading(), &begun, 0).await;
    let refused = late.unwrap_err();
    assert!(
        matches!(refused, StepError::ReplicaFailed { .. }),
        "{refused}"
    );
    assert!(stage.items().is_empty());
}

/// Loses the answers of some writes: they are done, and their sender does not know.
#[derive(Debug)]
struct Deaf {
    account: Arc<FakeAdmin>,
    calls: AtomicU64,
    nth: u64,
    kind: FailureKind,
}

#[async_trait]
impl TableWriter for Deaf {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        let answer = self.account.write_batch(table, ops).await;
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.nth {
            return Err(Failure::new(self.kind, "BatchWriteItem", table, "lost"));
        }
        answer
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let put = self
            .account
            .put_if_absent(table, partition_key, item, want_existing)
            .await;
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.nth {
            return Err(Failure::new(self.kind, "PutItem", table, "lost"));
        }
        put
    }
}

/// Case 51: a request that was never answered may land late, though the loader sent it again with success and ended well.
#[tokio::test(start_paused = true)]
async fn case_51_a_loader_with_an_unanswered_request_stays_on_record() {
    for (kind, stays) in [(FailureKind::Transient, 1), (FailureKind::Throttled, 0)] {
        let stage = ReplicaStage::backed_up().await;
        let begun = stage.begun().await;
        let planned = stage.plan_load(&begun).await.unwrap();
        let deaf = RestoreDeps {
            writer: Arc::new(Deaf {
                account: stage.account.clone(),
                calls: AtomicU64::new(0),
                nth: 2,
                kind,
            }),
            ..stage.loading()
        };
        for file in planned.files {
            ReplicaStage::load_lane(&deaf, &begun, file).await.unwrap();
        }
        let record = stage.record(&begun).await;
        assert_eq!(record.attempts.len(), stays, "{kind:?}");
        stage.finalize_load(&begun).await;
        let advanced = advance::run(&stage.deps(), record).await.unwrap();
        let expected = if stays > 0 {
            Phase::Quiesce
        } else {
            Phase::Live
        };
        assert_eq!(advanced.record.phase, expected, "{kind:?}");
    }
}

/// Case 52: whatever an applier has done when it dies, another finds it done.
#[tokio::test(start_paused = true)]
async fn case_52_an_applier_may_die_at_any_call() {
    for moment in [Moment::Before, Moment::After] {
        let stage = ReplicaStage::backed_up().await;
        let live = stage.live().await;
        change(&stage.world, 1);
        let open = stage.world.table.open_shards();
        stage.world.table.split(&open[0]);
        change(&stage.world, 2);
        stage.world.follow(3 * MINUTE).await;
        let mut deaths = 0;
        for nth in 1..400 {
            let span = Life::until(nth, moment);
            let deps = stage.deps_over(stage.world.mortal(&span, nth).log);
            let request = ApplyRequest {
                until_idle: true,
                seed: Some(nth),
                worker: Some("applier".into()),
                looks_first: nth % 2 == 0,
                ..ApplyRequest::default()
            };
            let run = apply::run(&deps, &live, &request, Budget::UNLIMITED);
            // A dead one waits for ever, or is told of a failure.
            let ended = tokio::time::timeout(10 * MINUTE, run).await;
            if !span.is_over() {
                ended.expect("it lives").unwrap();
                break;
            }
            deaths += 1;
            if nth % 7 == 0 {
                change(&stage.world, nth);
                stage.world.follow(MINUTE).await;
            }
        }
        assert!(deaths > 20, "{deaths}");
        stage.world.follow(2 * MINUTE).await;
        stage.apply(&live).await.unwrap();
        stage.assert_equal();
    }
}

/// A record that the target does not take is kept whole and counted, and blocks nothing.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_is_kept_and_blocks_nothing() {
    let stage = ReplicaStage::backed_up().await;
    let target = FakeTable::new(TARGET, string_key("id"), 3);
    let target = target.with_index_key("by", ScalarType::N);
    stage.account.add(&Arc::new(target));
    let live = stage.live().await;
    stage.world.put_many("before-", 3);
    let odd = r#"{"id":{"S":"odd"},"by":{"S":"no number"}}"#;
    let written = stage.world.table.put_item("odd", odd).unwrap();
    stage.world.put_many("behind-", 60);
    stage.world.follow(2 * MINUTE).await;
    let report = stage.apply(&live).await.unwrap();
    assert_eq!(report.applied.refused, 1);
    assert!(report.applied.is_balanced());
    let mut expected = stage.world.table.items();
    expected.remove("odd");
    assert_eq!(stage.items(), expected);
    let place = place_of(&World::place(), &live.id);
    let folder = format!("{}/{}/refused/", place.prefix(), live.id);
    let kept: Vec<String> = stage.world.store.keys();
    let kept: Vec<&String> = kept
        .iter()
        .filter(|key| key.contains("/refused/"))
        .collect();
    assert_eq!(kept.len(), 1, "{folder}");
    let body = stage.world.store.read(kept[0]).await.unwrap().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let raw: serde_json::Value = serde_json::from_slice(&written.record.unwrap().raw).unwrap();
    assert_eq!(body["record"], raw, "the record is whole");
    // It is not forgotten: the replica says so, and is not promoted in silence.
    let record = stage.record(&live).await;
    assert_eq!(record.refused, 1, "{record:?}");
    let promoted = promote::run(&stage.deps(), &record, Caught::WithinSeconds(3600)).await;
    assert!(promoted.unwrap_err().to_string().contains("did not take"));
    // Once the source's item is mended, the replica has it.
    stage.world.table.put("odd", "mended");
    stage.world.follow(2 * MINUTE).await;
    stage.apply(&live).await.unwrap();
    stage.assert_equal();
}

async fn caught_up(stage: &ReplicaStage) -> ReplicaRecord {
    let live = stage.live().await;
    change(&stage.world, 1);
    tokio::time::sleep(2 * MINUTE).await;
    stage.world.follow(3 * MINUTE).await;
    stage.apply(&live).await.unwrap().record
}

#[tokio::test(start_paused = true)]
async fn what_is_promoted_stands_by_itself() {
    let stage = ReplicaStage::backed_up().await;
    let deps = stage.deps();
    let live = stage.live().await;
    let behind = promote::run(&deps, &live, Caught::WithinSeconds(60)).await;
    let behind = behind.unwrap_err().to_string();
    assert!(behind.contains("not caught up"), "{behind}");
    change(&stage.world, 1);
    tokio::time::sleep(2 * MINUTE).await;
    stage.world.follow(3 * MINUTE).await;
    let caught = stage.apply(&live).await.unwrap().record;
    assert!(caught.equal_at().is_some(), "{caught:?}");
    tokio::time::sleep(60 * MINUTE).await;
    let behind = promote::run(&deps, &caught, Caught::WithinSeconds(60)).await;
    assert!(behind.unwrap_err().to_string().contains("seconds behind"));
    let promoted = promote::run(&deps, &caught, Caught::WithinSeconds(7200)).await;
    assert_eq!(promoted.unwrap().phase, Phase::Promoted);
    assert_eq!(stage.account.fences(&caught.fence_table()), None);
    // Again: only tidied up.
    let again = promote::run(&deps, &caught, Caught::WithinSeconds(0)).await;
    assert_eq!(again.unwrap().phase, Phase::Promoted);
    // A zombie with a record in hand changes nothing.
    let before = stage.items();
    stage.world.table.put("first-1", "after the promotion");
    let raw = stage.world.table.all_records().last().unwrap().raw.clone();
    let record = StreamRecord::read_or_keep(&raw).unwrap();
    let place = RefusedPlace::new(stage.world.store.clone(), &World::place(), &caught.id);
    let writer = ReplicaWriter::new(&caught, stage.account.clone(), place, Arc::new(Unobserved));
    let late = writer
        .apply(
            ShardOrdinal(u64::from(u32::MAX)),
            &[record],
            &StopFlag::default(),
        )
        .await;
    assert!(late.is_err(), "{late:?}");
    let applied = stage.apply(&caught).await;
    assert!(applied.is_err() || stage.items() == before);
    assert_eq!(stage.items(), before);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_dropped_and_made_again_is_none() {
    let stage = ReplicaStage::backed_up().await;
    let caught = caught_up(&stage).await;
    assert!(caught.target_table_id.is_some());
    stage.account.lose(TARGET);
    let gone = stage.apply(&caught).await;
    assert!(gone.is_err());
    let another = FakeTable::new(TARGET, string_key("id"), 99);
    stage.account.add(&Arc::new(another));
    let refused = stage.apply(&caught).await.unwrap_err();
    assert!(
        refused.to_string().contains("dropped and created again"),
        "{refused}"
    );
    assert!(stage.items().is_empty());
}

/// A change that the log lacks is one that the replica lacks: it says so, and does not go on.
#[tokio::test(start_paused = true)]
async fn a_gap_in_the_log_fails_the_replica() {
    let stage = ReplicaStage::backed_up().await;
    let caught = caught_up(&stage).await;
    let incident = |kind, from: UnixSeconds, until: UnixSeconds| Incident {
        version: INCIDENT_VERSION,
        id: format!("{kind}-{from}"),
        kind,
        stream_label: stage.world.label(),
        shard: None,
        from,
        until,
        seen_at: UnixMillis(until.0 * 1000),
        detail: "records 5 to 9".into(),
    };
    let put = async |incident: &Incident| {
        let folder = World::place().incidents(&stage.world.label());
        let object = NewObject {
            key: format!("{folder}{}.json", incident.id),
            body: serde_json::to_vec(incident).unwrap().into(),
            content_type: "application/json",
            ..NewObject::default()
        };
        stage.world.store.create(object).await.unwrap();
    };
    // What was lost before the scan, it has seen. What is only late is not lost.
    let before = UnixSeconds(caught.captured_at.0 / 1000 - 100);
    put(&incident(IncidentKind::Gap, before, before)).await;
    put(&incident(
        IncidentKind::LateChild,
        stage.world.now(),
        stage.world.now(),
    ))
    .await;
    stage.apply(&caught).await.unwrap();
    put(&incident(
        IncidentKind::Gap,
        stage.world.now(),
        stage.world.now(),
    ))
    .await;
    let failed = stage.apply(&caught).await.unwrap_err();
    assert!(failed.to_string().contains("records 5 to 9"), "{failed}");
    let record = stage.record(&caught).await;
    assert_eq!(record.phase, Phase::Failed);
    assert_eq!(record.equal_at(), None);
    assert!(stage.apply(&record).await.is_err());
}

/// Case 55, 68: appliers beside each other, and one that comes later with the same records.
#[tokio::test(start_paused = true)]
async fn case_68_two_appliers_of_one_log_do_no_harm() {
    let stage = ReplicaStage::backed_up().await;
    let live = stage.live().await;
    for round in 1..4 {
        change(&stage.world, round);
    }
    stage.world.follow(2 * MINUTE).await;
    let run = |name: &str, seed| {
        let deps = stage.deps_over(stage.world.mortal(&Life::long(), seed).log);
        let (live, worker) = (live.clone(), name.to_owned());
        async move {
            let request = ApplyRequest {
                until_idle: true,
                seed: Some(seed),
                worker: Some(worker),
                ..ApplyRequest::default()
            };
            apply::run(&deps, &live, &request, Budget::UNLIMITED).await
        }
    };
    let (one, two) = tokio::join!(run("one", 1), run("two", 2));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.applied.is_balanced() && two.applied.is_balanced());
    stage.assert_equal();
    tokio::time::sleep(SECOND).await;
}
