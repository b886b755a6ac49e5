//! Named cases of replicas: what happens around a scan, and what comes late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::budget::Budget;
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::{
    FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted, Verdict,
};
use highwater_domain::log_facts::ShardFacts;
use highwater_domain::object_store::ObjectStore as _;
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::deps::Unobserved;
use highwater_steps::replica::place_of;
use highwater_steps::replica::refused::RefusedPlace;
use highwater_steps::replica::sink::{Applied, ReplicaWriter};
use highwater_steps::request::BackupRequest;
use highwater_steps::{StopFlag, finalize_backup, plan_backup};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_table::string_key;
use highwater_testkit::simulation::SimRecord;

use crate::live_world::{MINUTE, TO, World};
use crate::replica_stage::ReplicaStage;
use crate::stage::{finalize_input, plan_input, request, scan_all};

/// A live replica of a table that was written to before, within and after the scan.
async fn around_the_scan(
    before: impl FnOnce(&World),
    after: impl FnOnce(&World),
) -> (ReplicaStage, ReplicaRecord) {
    let stage = ReplicaStage::new().await;
    let deps = stage.backing_up();
    let asked = BackupRequest {
        to: Some(TO.into()),
        with_stream: true,
        ..request(2)
    };
    let planned = plan_backup::run(&deps, &plan_input(asked)).await.unwrap();
    before(&stage.world);
    let lanes = u32::try_from(planned.segments.len()).unwrap();
    scan_all(&deps, lanes).await.unwrap();
    after(&stage.world);
    let ended = finalize_backup::run(&deps, &finalize_input(), Budget::UNLIMITED).await;
    assert!(ended.unwrap().done);
    let live = stage.live().await;
    (stage, live)
}

async fn follow_and_apply(stage: &ReplicaStage, live: &ReplicaRecord) -> Applied {
    stage.world.follow(2 * MINUTE).await;
    stage.apply(live).await.unwrap().applied
}

#[tokio::test(start_paused = true)]
async fn case_8_what_was_deleted_after_the_scan_is_loaded_and_deleted_for_good() {
    let (stage, live) = around_the_scan(|_| {}, |world| drop(world.table.delete("first-3"))).await;
    assert!(stage.items().contains_key("first-3"), "it is loaded");
    follow_and_apply(&stage, &live).await;
    assert!(!stage.items().contains_key("first-3"));
    stage.assert_equal();
    // Its fence outlives it: what was before the delete does not come back.
    stage.world.table.put("first-3", "again");
    stage.world.table.delete("first-3");
    follow_and_apply(&stage, &live).await;
    let all = stage.world.table.all_records();
    let of_key: Vec<_> = all.iter().filter(|it| it.key == "first-3").collect();
    let inserted = of_key[of_key.len() - 2];
    assert!(inserted.new_image.is_some());
    let zombie = give(&stage, &live, &[inserted]).await;
    assert_eq!(zombie.stale, 1);
    stage.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn case_9_what_was_deleted_before_the_scan_came_is_nowhere() {
    let (stage, live) = around_the_scan(|world| drop(world.table.delete("first-3")), |_| {}).await;
    assert!(!stage.items().contains_key("first-3"));
    follow_and_apply(&stage, &live).await;
    stage.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn case_10_what_was_inserted_behind_the_scan_comes_by_the_stream() {
    let (stage, live) = around_the_scan(|_| {}, |world| world.put_many("behind-", 5)).await;
    assert_eq!(stage.items().len(), 30);
    follow_and_apply(&stage, &live).await;
    assert_eq!(stage.items().len(), 35);
    stage.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn case_11_of_deletes_and_inserts_around_the_scan_the_last_stands() {
    let around = |world: &World| {
        world.table.delete("first-1");
        world.table.put("first-1", "again");
        world.table.delete("first-2");
        world.table.put("first-2", "x");
        world.table.delete("first-2");
    };
    let (stage, live) = around_the_scan(around, around).await;
    follow_and_apply(&stage, &live).await;
    stage.assert_equal();
    let is_there = |key: &str| stage.items().contains_key(key);
    assert!(is_there("first-1") && !is_there("first-2"));
}

/// A writer of the replica as a process has it.
fn writer(
    stage: &ReplicaStage,
    record: &ReplicaRecord,
    port: Arc<dyn FencedWriter>,
) -> ReplicaWriter {
    let place = RefusedPlace::new(stage.world.store.clone(), &World::place(), &record.id);
    ReplicaWriter::new(record, port, place, Arc::new(Unobserved))
}

async fn ordinal(stage: &ReplicaStage, record: &ReplicaRecord, shard: &ShardId) -> ShardOrdinal {
    let place = place_of(&World::place(), &record.id);
    let key = place.shard_facts(&record.stream_label, shard);
    let body = stage.world.store.read(&key).await.unwrap();
    let facts: ShardFacts = serde_json::from_slice(&body.expect("a shard of the replica")).unwrap();
    facts.ordinal
}

/// Applies records of one shard as a process does that has them in hand.
async fn give(
    stage: &ReplicaStage,
    record: &ReplicaRecord,
    records: &[&Arc<SimRecord>],
) -> Applied {
    let ordinal = ordinal(stage, record, &records[0].shard).await;
    let read = records
        .iter()
        .map(|it| StreamRecord::read_or_keep(&it.raw).unwrap());
    let records: Vec<StreamRecord> = read.collect();
    let writer = writer(stage, record, stage.account.clone());
    writer
        .apply(ordinal, &records, &StopFlag::default())
        .await
        .unwrap()
}

async fn with_history() -> (ReplicaStage, ReplicaRecord, Vec<Arc<SimRecord>>) {
    let stage = ReplicaStage::backed_up().await;
    let live = stage.live().await;
    for n in 0..5 {
        stage.world.table.put("hot", &n.to_string());
        // In batches of their own, so that each is a write.
        follow_and_apply(&stage, &live).await;
    }
    let all = stage.world.table.all_records();
    let hot = all.into_iter().filter(|it| it.key == "hot").collect();
    (stage, live, hot)
}

#[tokio::test(start_paused = true)]
async fn case_53_an_old_record_between_two_newer_ones_changes_nothing() {
    let (stage, live, hot) = with_history().await;
    for old in &hot {
        let applied = give(&stage, &live, &[old]).await;
        assert_eq!((applied.stale, applied.written), (1, 0));
        stage.assert_equal();
    }
    stage.world.table.delete("hot");
    follow_and_apply(&stage, &live).await;
    assert_eq!(give(&stage, &live, &[&hot[4]]).await.stale, 1);
    stage.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn case_54_a_machine_that_slept_for_forty_days_changes_nothing() {
    let (stage, live, hot) = with_history().await;
    let zombie = writer(&stage, &live, stage.account.clone());
    let ordinal = ordinal(&stage, &live, &hot[2].shard).await;
    tokio::time::sleep(Duration::from_hours(40 * 24)).await;
    let record = StreamRecord::read_or_keep(&hot[2].raw).unwrap();
    let applied = zombie.apply(ordinal, &[record], &StopFlag::default()).await;
    assert_eq!(applied.unwrap().stale, 1);
    stage.assert_equal();
}

/// Refuses for some other transaction's sake, so many times.
#[derive(Debug)]
struct Storm {
    account: Arc<FakeAdmin>,
    left: AtomicU64,
}

#[async_trait]
impl FencedWriter for Storm {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            let mut verdicts = vec![Verdict::Clear; writes.len()];
            verdicts[0] = Verdict::Passing("TransactionConflict".into());
            return Ok(Transacted::Canceled(verdicts));
        }
        self.account.transact(table, writes).await
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        self.account.orders(table, writes).await
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        self.account.repair(table, repair).await
    }
}

#[tokio::test(start_paused = true)]
async fn case_55_a_storm_of_conflicts_is_waited_out() {
    let (stage, live, _) = with_history().await;
    let shard = stage.world.only_shard();
    stage.world.put_many("storm-", 10);
    let records: Vec<StreamRecord> = stage
        .world
        .table
        .records_of(&shard)
        .iter()
        .map(|it| StreamRecord::read_or_keep(&it.raw).unwrap())
        .collect();
    let ordinal = ordinal(&stage, &live, &shard).await;
    let storm = |left| {
        let storm = Storm {
            account: stage.account.clone(),
            left: AtomicU64::new(left),
        };
        writer(&stage, &live, Arc::new(storm))
    };
    // Longer than one batch waits: whoever gave the records gives them again.
    let gives_up = storm(1000)
        .apply(ordinal, &records, &StopFlag::default())
        .await;
    assert!(gives_up.is_err());
    let applied = storm(5)
        .apply(ordinal, &records, &StopFlag::default())
        .await;
    assert!(applied.unwrap().is_balanced());
    stage.assert_equal();
}

/// Case 61: a stream that tells of some writes only, the last of each key among them.
#[tokio::test(start_paused = true)]
async fn case_61_coalesced_writes_lead_to_the_same_table() {
    let (stage, live, _) = with_history().await;
    let shard = stage.world.only_shard();
    for n in 0..30 {
        stage
            .world
            .table
            .put(&format!("first-{}", n % 4), &n.to_string());
    }
    stage.world.table.delete("first-2");
    let all = stage.world.table.records_of(&shard);
    let is_last = |record: &&Arc<SimRecord>| {
        let behind = all.iter().rev().find(|it| it.key == record.key);
        behind.is_some_and(|it| it.sequence_number == record.sequence_number)
    };
    let told: Vec<&Arc<SimRecord>> = all.iter().filter(is_last).collect();
    assert!(told.len() < all.len() / 2 + 20);
    give(&stage, &live, &told).await;
    stage.assert_equal();
}

/// Case 66: at the capture a child is listed, and its parent is still open and written to.
#[tokio::test(start_paused = true)]
async fn case_66_a_parent_that_is_open_beside_its_child_is_read() {
    let stage = ReplicaStage::new().await;
    let parent = stage.world.only_shard();
    stage.world.table.begin_roll(&parent);
    stage.back_up(true).await;
    stage.world.table.put("into-the-parent", "x");
    stage.world.table.end_roll(&parent);
    stage.world.table.put("into-the-child", "x");
    let live = stage.live().await;
    stage.world.follow(3 * MINUTE).await;
    follow_and_apply(&stage, &live).await;
    let records = stage.world.table.records_of(&parent);
    assert!(records.iter().any(|it| it.key == "into-the-parent"));
    stage.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn case_67_of_fifty_writes_three_of_which_are_stale_the_fresh_are_written_once() {
    let stage = ReplicaStage::backed_up().await;
    let live = stage.live().await;
    let shard = stage.world.only_shard();
    stage.world.put_many("many-", 50);
    for n in [3, 17, 49] {
        stage.world.table.put(&format!("many-{n}"), "newer");
    }
    stage.world.follow(MINUTE).await;
    let all = stage.world.table.records_of(&shard);
    let many: Vec<&Arc<SimRecord>> = all
        .iter()
        .filter(|it| it.key.starts_with("many-"))
        .collect();
    // The applier registers its shards.
    stage.apply(&live).await.unwrap();
    let copy = stage.account.table("copy").unwrap();
    for n in 0..50 {
        let key = format!(r#"{{"id":{{"S":"many-{n}"}}}}"#);
        copy.delete(&string_key("id").key_of(key.as_bytes()).unwrap());
    }
    stage.account.delete_fences(&live.fence_table());
    let newer = give(&stage, &live, &many[50..]).await;
    assert_eq!(newer.written, 3);
    let applied = give(&stage, &live, &many[..50]).await;
    assert_eq!((applied.written, applied.stale), (47, 3));
    stage.assert_equal();
}

/// The listing hides one of a split's two children at both looks of the capture, which nothing gives away. The log knows it.
#[tokio::test(start_paused = true)]
async fn a_child_that_the_listing_hid_from_the_handoff_is_read_all_the_same() {
    let stage = ReplicaStage::new().await;
    let table = &stage.world.table;
    table.split(&stage.world.only_shard());
    let hidden = table.open_shards()[1].clone();
    let mut partial = table.true_listing();
    partial.shards.retain(|it| it.id != hidden);
    table.script_listings(vec![partial; 2]);
    stage.back_up(true).await;
    stage.world.put_many("second-", 30);
    let live = stage.live().await;
    follow_and_apply(&stage, &live).await;
    let of_hidden = stage.world.table.records_of(&hidden);
    assert!(of_hidden.len() > 5, "{}", of_hidden.len());
    stage.assert_equal();
}
