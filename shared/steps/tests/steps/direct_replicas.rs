//! What `ConsumeStream` gives to replicas at once, and what it leaves to the applier: no batch fails or waits for a replica.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fence_tables::FenceTables as _;
use highwater_domain::fenced_writer::{
    FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted,
};
use highwater_domain::ids::UnixMillis;
use highwater_domain::log_facts::{LOG_FACTS_VERSION, Origin, ShardFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{NewObject, ObjectStore as _};
use highwater_domain::replica::{FenceMode, Phase, ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::replica_targets::{FeedPorts, FeedTargets, TargetAccess};
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::Shard;
use highwater_steps::apply_directly::DirectApply;
use highwater_steps::consume_stream::{self, ConsumeDeps, ConsumeOutput};
use highwater_steps::replica::sink::Applied;
use highwater_steps::replica::{ReplicaObserver, place_of};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::sample_replicas::replica_record;

use crate::consume_stage::{ConsumeStage, PREFIX, destination};

const COPY: &str = "orders-replica";

/// What stands in the way of the replica's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Denied,
    Silent,
}

/// A replica's table that may be in trouble, counts its requests, and hears what is told.
#[derive(Debug)]
struct Target {
    account: Arc<FakeAdmin>,
    trouble: Mutex<Trouble>,
    asked: AtomicU64,
    looks: AtomicU64,
    deferred: AtomicU64,
    written: AtomicU64,
    control: Arc<FakeControl>,
}

#[async_trait]
impl FencedWriter for Target {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let trouble = *self.trouble.lock().unwrap();
        match trouble {
            Trouble::None => self.account.transact(table, writes).await,
            Trouble::Denied => Err(Failure::new(
                FailureKind::Denied,
                "TransactWriteItems",
                COPY,
                "no",
            )),
            Trouble::Silent => std::future::pending().await,
        }
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

/// The ports of a target, of which only writing is used here.
#[derive(Debug)]
struct Targets(Arc<Target>);

#[async_trait]
impl FeedTargets for Targets {
    async fn open_feed(&self, _: &TargetAccess) -> Result<FeedPorts, Failure> {
        Ok(FeedPorts {
            writer: self.0.clone(),
            describer: self.0.account.clone(),
        })
    }
}

/// The control table, with its looks counted.
#[derive(Debug)]
struct Looks(Arc<Target>);

#[async_trait]
impl ReplicaControl for Looks {
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure> {
        self.0.control.create_replica(record).await
    }

    async fn replica(
        &self,
        arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure> {
        self.0.control.replica(arn, id).await
    }

    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure> {
        self.0.control.update_replica(seen, record).await
    }

    async fn replicas(&self, arn: &str) -> Result<Vec<ReplicaRecord>, Failure> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        self.0.control.replicas(arn).await
    }

    async fn forget_replica(&self, arn: &str, id: &ReplicaId) -> Result<(), Failure> {
        self.0.control.forget_replica(arn, id).await
    }
}

#[derive(Debug)]
struct Hears(Arc<Target>);

impl ReplicaObserver for Hears {
    fn applied(&self, _: &ReplicaId, applied: &Applied) {
        assert!(applied.is_balanced(), "{applied:?}");
        self.0.written.fetch_add(applied.written, Ordering::SeqCst);
    }

    fn deferred(&self, records: u64) {
        self.0.deferred.fetch_add(records, Ordering::SeqCst);
    }
}

struct Stage {
    consume: ConsumeStage,
    target: Arc<Target>,
    direct: DirectApply,
    record: ReplicaRecord,
}

impl Stage {
    async fn of(records: usize) -> Self {
        let consume = ConsumeStage::of(records);
        let stream = consume.arn();
        let (source, label) = stream.split_once("/stream/").unwrap();
        let record = ReplicaRecord {
            target: COPY.parse().unwrap(),
            target_region: None,
            target_role: None,
            fence: FenceMode::Table,
            key_schema: string_key("id"),
            filter: Vec::new(),
            log: destination().0.to_string(),
            stream_arn: stream.clone(),
            stream_label: label.to_owned(),
            captured_at: UnixMillis(0),
            ..replica_record(source, COPY)
        };
        let account = Arc::new(FakeAdmin::new());
        account.add(&Arc::new(FakeTable::new(COPY, string_key("id"), 5)));
        let holder = account
            .claim(&record.fence_table(), record.id.as_str())
            .await;
        assert_eq!(holder.unwrap(), record.id.as_str());
        let control = Arc::new(FakeControl::new());
        control.create_replica(&record).await.unwrap();
        let target = Arc::new(Target {
            account,
            trouble: Trouble::None.into(),
            asked: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            written: AtomicU64::new(0),
            control,
        });
        let direct = DirectApply::new(
            Arc::new(Looks(target.clone())),
            Arc::new(Targets(target.clone())),
            Arc::new(Hears(target.clone())),
        );
        Self {
            consume,
            target,
            direct,
            record,
        }
    }

    /// The applier has met the shard.
    async fn meets_shard(&self) {
        let shard = self.consume.shard();
        let facts = ShardFacts {
            version: LOG_FACTS_VERSION,
            shard: Shard {
                id: shard.clone(),
                parent: None,
                start: "1".parse().unwrap(),
                end: None,
            },
            ordinal: ShardOrdinal(77),
            event_time: None,
            origin: Origin::Listed,
            registered_at: UnixMillis(0),
        };
        let log = LogPlace::new(PREFIX, "orders");
        let place = place_of(&log, &self.record.id);
        let key = place.shard_facts(&self.record.stream_label, &shard);
        let body = serde_json::to_vec(&facts).unwrap();
        let object = NewObject {
            key,
            body: body.into(),
            sha256: None,
            content_type: "application/json",
            item_count: None,
            content_encoding: None,
            user_metadata: BTreeMap::new(),
        };
        self.consume.store.create(object).await.unwrap();
    }

    async fn becomes(&self, change: impl Fn(&mut ReplicaRecord)) {
        let (arn, id) = (&self.record.source_arn, &self.record.id);
        let known = self.target.control.replica(arn, id).await.unwrap().unwrap();
        let mut record = known.value;
        change(&mut record);
        let cas = self
            .target
            .control
            .update_replica(known.version, &record)
            .await;
        assert!(matches!(cas.unwrap(), Cas::Applied(_)));
    }

    /// Delivers records; every one of them must be answered as done.
    async fn deliver(&self, from: usize, until: usize) {
        let live = self.consume.deps_over(self.consume.store.clone());
        let deps = ConsumeDeps {
            live,
            replicas: Some(self.direct.clone()),
        };
        let mut input = self.consume.window(&self.consume.records()[from..until]);
        // In no order, and the last one twice.
        if let Some(records) = &mut input.records {
            records.reverse();
            records.push(records[0].clone());
        }
        let began = tokio::time::Instant::now();
        let output = consume_stream::run(&deps, &destination(), input, self.consume.budget()).await;
        let ConsumeOutput {
            batch_item_failures,
            ..
        } = output.unwrap();
        assert_eq!(batch_item_failures, []);
        assert!(
            began.elapsed() <= Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
    }

    fn trouble(&self, trouble: Trouble) {
        *self.target.trouble.lock().unwrap() = trouble;
    }

    /// Written, deferred, looks at the control table.
    fn told(&self) -> (u64, u64, u64) {
        let told = |it: &AtomicU64| it.load(Ordering::SeqCst);
        let target = &self.target;
        (
            told(&target.written),
            told(&target.deferred),
            told(&target.looks),
        )
    }

    fn assert_equal(&self) {
        let copy = self.target.account.table(COPY).unwrap();
        let copied: Vec<String> = copy
            .items()
            .values()
            .map(|it| String::from_utf8(it.to_vec()).unwrap())
            .collect();
        let mut latest = BTreeMap::new();
        for record in self.consume.records() {
            let read: serde_json::Value =
                serde_json::from_slice(&record.for_lambda(&self.consume.arn())).unwrap();
            let change = &read["dynamodb"];
            latest.insert(change["Keys"].to_string(), change.get("NewImage").cloned());
        }
        let mut expected: Vec<serde_json::Value> = latest.into_values().flatten().collect();
        let mut copied: Vec<serde_json::Value> = copied
            .iter()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        expected.sort_by_key(ToString::to_string);
        copied.sort_by_key(ToString::to_string);
        assert_eq!(copied, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_in_the_replica_when_it_is_answered_and_again_changes_nothing() {
    let stage = Stage::of(40).await;
    stage.meets_shard().await;
    for (from, until) in [(20, 40), (0, 25), (10, 40), (0, 40)] {
        stage.deliver(from, until).await;
    }
    stage.assert_equal();
    let (written, deferred, looks) = stage.told();
    // Of five keys: what came first is the newest of each, and all else is stale.
    assert_eq!((written, deferred, looks), (5, 0, 1));
    stage.consume.assert_whole();
}

/// Another order than the applier's would let an older change win.
#[tokio::test(start_paused = true)]
async fn a_shard_that_the_applier_has_not_met_is_left_to_it() {
    let stage = Stage::of(12).await;
    stage.deliver(0, 12).await;
    assert_eq!(stage.told(), (0, 13, 1));
    assert_eq!(stage.target.asked.load(Ordering::SeqCst), 0);
    stage.meets_shard().await;
    stage.deliver(0, 12).await;
    stage.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn a_replica_in_trouble_fails_no_batch_and_rests() {
    for trouble in [Trouble::Denied, Trouble::Silent] {
        let stage = Stage::of(30).await;
        stage.meets_shard().await;
        stage.trouble(trouble);
        stage.deliver(0, 10).await;
        stage.trouble(Trouble::None);
        let asked = stage.target.asked.load(Ordering::SeqCst);
        stage.deliver(10, 20).await;
        assert_eq!(
            stage.target.asked.load(Ordering::SeqCst),
            asked,
            "{trouble:?}: it rests"
        );
        assert_eq!(stage.told().1, 22, "{trouble:?}");
        tokio::time::sleep(Duration::from_secs(31)).await;
        stage.deliver(0, 30).await;
        stage.assert_equal();
        stage.consume.assert_whole();
    }
}

#[tokio::test(start_paused = true)]
async fn only_live_replicas_of_this_stream_and_this_log_are_written_and_looked_up_seldom() {
    type Change = fn(&mut ReplicaRecord);
    let changes: [Change; 5] = [
        |it| it.phase = Phase::Load,
        |it| it.phase = Phase::Quiesce,
        |it| it.phase = Phase::Promoted,
        |it| it.stream_label = "2001-01-01T00:00:00.000".to_owned(),
        |it| it.log = "s3://another/live".to_owned(),
    ];
    for change in changes {
        let stage = Stage::of(10).await;
        stage.meets_shard().await;
        stage.becomes(change).await;
        stage.deliver(0, 10).await;
        assert_eq!(stage.told(), (0, 0, 1), "it is none of this batch's");
        stage.becomes(|it| *it = stage.record.clone()).await;
        stage.deliver(0, 10).await;
        assert_eq!(
            stage.told().2,
            1,
            "for ten seconds it is taken for what it was"
        );
        tokio::time::sleep(Duration::from_secs(11)).await;
        stage.deliver(0, 10).await;
        stage.assert_equal();
        assert_eq!(stage.told().2, 2);
    }
}
