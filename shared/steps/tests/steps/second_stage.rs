//! A table with a stream that is written to before, during and after a backup, its log beside that, and an account to
//! restore it into, at any second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use highwater_domain::budget::Budget;
use highwater_domain::change_log::log_object;
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::layout::Destination;
use highwater_domain::live_control::{PUBLISHED_MARK_VERSION, PublishedMark};
use highwater_domain::log_facts::{Ending, LOG_FACTS_VERSION, Origin, ShardEnd, ShardFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::{Mark, UnixSeconds};
use highwater_domain::object_store::{NewObject, ObjectStore, Stores};
use highwater_domain::restore::RestoreRecord;
use highwater_domain::restore_control::RestoreControl as _;
use highwater_domain::sequence_number::{Generation, ShardOrdinal, ordinal};
use highwater_domain::shard::{Shard, ShardId};
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::table_plan::TargetPlace;
use highwater_lease::{Leases, Settings};
use highwater_steps::deps::Unobserved;
use highwater_steps::finalize_restore::{FinalizeRestoreInput, FinalizeRestoreOutput};
use highwater_steps::fold_log::{self, FoldInput};
use highwater_steps::load_part::{self, LoadInput};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::plan_restore::{self, PlanRestoreInput, PlanRestoreOutput};
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::scatter_log::{self, ScatterInput};
use highwater_steps::{
    Deps, LeaseGroups, LiveDeps, LogDeps, RestoreDeps, SnapshotDeps, StepError, StopFlag,
    finalize_backup, finalize_restore, plan_backup,
};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_importer::FakeImporter;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::FakeTable;
use highwater_testkit::intercepted::{Call, Intercepted, Interceptor, Ticket};
use highwater_testkit::simulation::{
    LiveRows, RowTable, SimTable, SimTime, SimTrace, Trouble, Wire, WiredLive,
};
use serde::Serialize;

use crate::restore_stage::{RESTORE, TARGET, restore_id};
use crate::stage::{finalize_input, layout, plan_input, request, scan_all};

/// What the table was, by key.
pub type Truth = BTreeMap<String, Bytes>;

#[derive(Debug)]
struct OneStore(Arc<dyn ObjectStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

/// Leases in memory.
#[derive(Debug)]
struct Groups {
    rows: Arc<RowTable>,
    wire: Wire,
    time: SimTime,
}

impl LeaseGroups for Groups {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        let rows = Arc::new(self.rows.over(group, &self.wire));
        let clock = self.time.monotonic(Duration::ZERO, 100);
        Leases::over(rows, clock, worker, Settings::default())
    }
}

pub struct SecondStage {
    pub table: Arc<SimTable>,
    pub store: Arc<FakeStore>,
    pub control: Arc<FakeControl>,
    pub account: Arc<FakeAdmin>,
    pub deps: RestoreDeps,
    pub backing_up: Deps,
    /// The last second in which something was written.
    pub last: UnixSeconds,
    /// When the backup began and when it had ended.
    pub scanned: (UnixSeconds, UnixSeconds),
}

impl SecondStage {
    /// A whole history: writes before, during and after the backup; the log is complete up to now.
    pub async fn with_history() -> Self {
        let mut stage = Self::empty();
        // A log is complete only from a minute after its first shard was made.
        tick(70).await;
        stage.write(1, 40).await;
        let began = stage.now();
        let planned = plan_backup::run(&stage.backing_up, &plan_input(backup()))
            .await
            .unwrap();
        stage.write(2, 12).await;
        for lane in planned.segments {
            scan_all(&stage.backing_up, lane + 1).await.unwrap();
            stage.write(3 + u64::from(lane), 6).await;
        }
        finalize_backup::run(&stage.backing_up, &finalize_input(), Budget::UNLIMITED)
            .await
            .unwrap();
        stage.scanned = (began, stage.now());
        tick(2).await;
        let open = stage.table.open_shards();
        stage.table.split(&open[0]);
        stage.write(9, 30).await;
        for shard in stage.table.open_shards() {
            stage.table.roll(&shard);
        }
        stage.write(10, 20).await;
        stage.last = stage.now();
        // The scan is taken to have ended a little later than it says, by as much as the handoff took.
        tick(30).await;
        stage.log().await;
        stage
    }

    fn empty() -> Self {
        let table = SimTable::calm("orders");
        let time = table.time();
        let store = Arc::new(FakeStore::new());
        let stores = || Arc::new(OneStore(store.clone()));
        let control = Arc::new(FakeControl::new());
        let account = Arc::new(
            FakeAdmin::new()
                .making(|name, schema| FakeTable::new(name, schema, 3).with_unprocessed(30)),
        );
        let backing_up = Deps {
            scanner: table.clone(),
            describer: table.clone(),
            admin: table.clone(),
            pace: Arc::new(Pace::new(time.clock(), Share::Process)),
            live: live(&table, stores()),
            snapshots: SnapshotDeps {
                stores: stores(),
                control: control.clone(),
                clock: time.clock(),
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
        };
        let deps = RestoreDeps {
            writer: account.clone(),
            admin: account.clone(),
            importer: Arc::new(FakeImporter::new(store.clone(), account.clone())),
            describer: account.clone(),
            place: TargetPlace {
                region: "eu-north-1".into(),
                account: None,
            },
            own_table: None,
            own_endpoint: false,
            stores: stores(),
            restores: control.clone(),
            replicas: control.clone(),
            elsewhere: None,
            snapshots: backing_up.snapshots.clone(),
            pace: Arc::new(Pace::new(time.clock(), Share::Process)),
            clock: time.clock(),
            max_retries: None,
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        };
        let now = UnixSeconds::of(time.now());
        Self {
            table,
            store,
            control,
            account,
            deps,
            backing_up,
            last: now,
            scanned: (now, now),
        }
    }

    pub fn now(&self) -> UnixSeconds {
        UnixSeconds::of(self.table.time().now())
    }

    /// Inserts, updates, deletes and inserts again; several writes in some seconds, none in others.
    pub async fn write(&self, round: u64, writes: u64) {
        for n in 0..writes {
            let key = format!("k{}", (n * 7 + round * 3) % 25);
            if (n + round) % 4 == 3 {
                self.table.delete(&key);
            } else {
                self.table.put(&key, &format!("round {round}, write {n}"));
            }
            if n % 3 == 0 {
                tick(1 + n % 2).await;
            }
        }
    }

    /// Writes the log as a follower leaves it: facts, objects (one of them twice, cut differently), and the mark.
    pub async fn log(&self) {
        let label = self.table.stream_label().unwrap();
        let place = LogPlace::new("backups", "orders");
        let mut open: Vec<Shard> = self.table.true_listing().shards;
        let mut known: BTreeMap<ShardId, (ShardOrdinal, Option<UnixSeconds>)> = BTreeMap::new();
        while let Some(at) = open.iter().position(|shard| {
            shard
                .parent
                .as_ref()
                .is_none_or(|it| known.contains_key(it))
        }) {
            let shard = open.remove(at);
            let above = shard.parent.as_ref().map(|parent| known[parent]);
            let facts = ShardFacts {
                version: LOG_FACTS_VERSION,
                ordinal: ordinal(&shard.id, above.map(|it| it.0), 0),
                event_time: above.and_then(|it| it.1),
                origin: above.map_or(Origin::Listed, |_| Origin::Child),
                registered_at: self.table.time().now(),
                shard: shard.clone(),
            };
            self.put_new(place.shard_facts(&label, &shard.id), &facts)
                .await;
            let last = self.log_records(&place.stream(&label), &shard.id).await;
            let event_time = last.as_ref().map(|it| it.1).or(facts.event_time);
            if shard.end.is_some() {
                let end = ShardEnd {
                    version: LOG_FACTS_VERSION,
                    shard: shard.id.clone(),
                    last: last.map(|it| it.0),
                    event_time,
                    children: self.table.children_of(&shard.id),
                    ending: Ending::Read,
                };
                self.put_new(place.shard_end(&label, &shard.id), &end).await;
            }
            known.insert(shard.id, (facts.ordinal, event_time));
        }
        assert!(open.is_empty(), "shards without their parents: {open:?}");
        self.publish(UnixSeconds(self.now().0 - 1)).await;
    }

    /// The records of one shard; gives the last one's number and event time.
    async fn log_records(
        &self,
        folder: &str,
        shard: &ShardId,
    ) -> Option<(
        highwater_domain::sequence_number::SequenceNumber,
        UnixSeconds,
    )> {
        let sent = self.table.records_of(shard);
        let records: Vec<StreamRecord> = sent
            .iter()
            .map(|record| StreamRecord::read(&record.raw).unwrap())
            .collect();
        let again = records.get(2..6).map(<[_]>::to_vec);
        let pieces = records.chunks(5).map(<[_]>::to_vec).chain(again);
        for piece in pieces {
            let (name, body) = log_object(shard, &piece).unwrap();
            let object = NewObject {
                key: name.key(folder),
                body,
                content_type: "application/zstd",
                ..NewObject::default()
            };
            self.store.create(object).await.unwrap();
        }
        let last = sent.last()?;
        Some((last.sequence_number.clone(), last.event_time))
    }

    /// Says that the log is complete up to `mark`, by whatever grade.
    pub async fn publish(&self, mark: UnixSeconds) {
        let label = self.table.stream_label().unwrap();
        let published = PublishedMark {
            version: PUBLISHED_MARK_VERSION,
            stream_arn: self.table.stream_arn().unwrap(),
            stream_label: label.clone(),
            generation: Generation(1),
            mark: Mark {
                proven: Some(UnixSeconds(mark.0 - 5)),
                rolled: Some(UnixSeconds(mark.0 - 5)),
                assumed: Some(mark),
            },
            publication_ms: 0,
            computed_at: self.table.time().now(),
            bounded_by: None,
            open_shards: 1,
            held_back: false,
        };
        let key = LogPlace::new("backups", "orders").mark(&label);
        let object = json(key, &published);
        self.store.replace(object).await.unwrap();
    }

    /// Facts are never replaced.
    pub async fn put_new(&self, key: String, fact: &impl Serialize) {
        self.store.create(json(key, fact)).await.unwrap();
    }

    /// What the table was when everything stamped up to `at` had happened.
    pub fn truth(&self, at: UnixSeconds) -> Truth {
        let mut truth = Truth::new();
        for (key, versions) in self.table.histories() {
            let happened = versions.iter().filter(|version| {
                let record = version
                    .record
                    .as_ref()
                    .expect("a stream from the beginning");
                record.event_time <= at
            });
            if let Some(item) = happened.last().and_then(|version| version.item.clone()) {
                truth.insert(key, item);
            }
        }
        truth
    }

    /// What a restored table holds.
    pub fn restored(&self, table: &str) -> BTreeSet<Bytes> {
        let table = self.account.table(table).unwrap();
        table.items().into_values().collect()
    }

    /// The restored table is what the table was, and the sums say so.
    pub fn assert_restored(&self, at: UnixSeconds, output: &FinalizeRestoreOutput) {
        let truth: BTreeSet<Bytes> = self.truth(at).into_values().collect();
        assert_eq!(self.restored(TARGET), truth, "at {at:?}");
        let totals = &output.totals;
        assert_eq!(totals.written, truth.len() as u64, "{totals}");
        assert!(totals.is_balanced(), "{totals}");
        assert_eq!(totals.skipped(), totals.superseded, "{totals}");
    }

    /// What lies between the log and the load is gone.
    pub fn assert_tidy(&self) {
        let left: Vec<String> = self
            .store
            .keys()
            .into_iter()
            .filter(|key| key.contains("/restores/"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Every port through one interceptor.
    pub fn through<I: Interceptor + 'static>(&self, interceptor: &Arc<I>) -> RestoreDeps {
        let account = Arc::new(Intercepted::new(&self.account, interceptor));
        let stores = || {
            Arc::new(OneStore(Arc::new(Intercepted::new(
                &self.store,
                interceptor,
            ))))
        };
        RestoreDeps {
            writer: account.clone(),
            admin: account,
            stores: stores(),
            restores: Arc::new(Intercepted::new(&self.control, interceptor)),
            snapshots: SnapshotDeps {
                stores: stores(),
                control: Arc::new(Intercepted::new(&self.control, interceptor)),
                ..self.deps.snapshots.clone()
            },
            ..self.deps.clone()
        }
    }

    /// The same account through this stage's control table, whatever that is by now.
    pub fn with_own_control(&self) -> RestoreDeps {
        RestoreDeps {
            restores: self.control.clone(),
            snapshots: SnapshotDeps {
                control: self.control.clone(),
                ..self.deps.snapshots.clone()
            },
            ..self.deps.clone()
        }
    }

    pub async fn record(&self) -> RestoreRecord {
        let record = self.control.restore(&restore_id()).await.unwrap();
        record.unwrap().value
    }
}

/// The live side over a calm stream, with leases and marks in memory.
fn live(table: &Arc<SimTable>, stores: Arc<OneStore>) -> LiveDeps {
    let time = table.time();
    let wire = Wire::new("worker", 1, Trouble::NONE, SimTrace::off(time));
    LiveDeps {
        streams: table.clone(),
        log: LogDeps {
            describer: table.clone(),
            stores,
            leases: Arc::new(Groups {
                rows: Arc::default(),
                wire: wire.clone(),
                time,
            }),
            live: Arc::new(WiredLive::new(&Arc::new(LiveRows::new(time)), &wire)),
            clock: time.clock(),
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        },
    }
}

/// Lets every call wait a little first, by a seed: copies of one work come upon each other in ever new orders.
///
/// Not a gate that opens for one call at a time: a reader that fetches ahead may hold the permit of a call that nobody
/// waits for at the moment.
#[derive(Debug)]
pub struct Dawdling(Mutex<Rng>);

impl Dawdling {
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(Rng::with_seed(seed)))
    }
}

#[async_trait]
impl Interceptor for Dawdling {
    async fn before(&self, _call: &Call) -> Result<Ticket, Failure> {
        let wait = self.0.lock().unwrap().u64(0..20);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        Ok(0)
    }

    async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
        Ok(())
    }
}

pub async fn tick(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn json(key: String, value: &impl Serialize) -> NewObject {
    NewObject {
        key,
        body: serde_json::to_vec(value).unwrap().into(),
        content_type: "application/json",
        ..NewObject::default()
    }
}

fn backup() -> highwater_steps::request::BackupRequest {
    highwater_steps::request::BackupRequest {
        // A few items in each part.
        part_bytes: Some(1000),
        ..request(2)
    }
}

/// A restore into a new table, from the table's folder.
pub fn second_request(at: UnixSeconds) -> RestoreRequest {
    RestoreRequest {
        backup: Some("s3://fake-bucket/backups/orders".into()),
        to: Some(TARGET.parse().unwrap()),
        restore_id: Some(RESTORE.parse().unwrap()),
        concurrency: Some(3),
        at: Some(at.to_rfc3339()),
        stamp_margin_s: Some(0),
        rejects: Some("s3://fake-bucket/rejects".into()),
        ..RestoreRequest::default()
    }
}

/// The place of the one backup.
pub fn backup_url() -> String {
    format!("s3://fake-bucket/{}", layout().root().trim_end_matches('/'))
}

pub fn second_input(request: RestoreRequest, execution: &str) -> PlanRestoreInput {
    PlanRestoreInput {
        request,
        execution_id: execution.into(),
        started_at: "2026-01-14T10:18:50.622Z".into(),
    }
}

pub async fn plan_second(
    deps: &RestoreDeps,
    request: RestoreRequest,
) -> Result<PlanRestoreOutput, StepError> {
    plan_restore::run(
        deps,
        &second_input(request, "execution-1"),
        Budget::UNLIMITED,
    )
    .await
}

/// The whole workflow in one life, as the state machine walks it.
pub async fn life(
    deps: &RestoreDeps,
    request: RestoreRequest,
    budget: impl Fn() -> Budget,
) -> Result<FinalizeRestoreOutput, StepError> {
    let planned = plan_second(deps, request).await?;
    let restore_id = planned.restore_id.clone();
    for lane in planned.shards {
        let mut input = ScatterInput {
            restore_id: restore_id.clone(),
            shard: lane,
        };
        loop {
            let output = scatter_log::run(deps, &input, budget()).await?;
            if output.done {
                break;
            }
            input.shard = output.shard;
        }
    }
    for lane in planned.buckets {
        let mut input = FoldInput {
            restore_id: restore_id.clone(),
            bucket: lane,
        };
        loop {
            let output = fold_log::run(deps, &input, budget()).await?;
            if output.done {
                break;
            }
            input.bucket = output.bucket;
        }
    }
    for lane in planned.files {
        let mut input = LoadInput {
            restore_id: restore_id.clone(),
            file: lane,
        };
        loop {
            let output = load_part::run(deps, &input, budget()).await?;
            if output.done {
                break;
            }
            input.file = output.file;
        }
    }
    let input = FinalizeRestoreInput {
        restore_id: Some(restore_id),
        execution_id: Some("execution-1".into()),
        ..FinalizeRestoreInput::default()
    };
    loop {
        let output = finalize_restore::run(deps, &input, budget()).await?;
        if output.done {
            return Ok(output);
        }
    }
}

/// Milliseconds from now on.
pub fn budget_of(deps: &RestoreDeps, millis: u64) -> Budget {
    let now = deps.clock.now();
    Budget::until(UnixMillis(now.0 + millis), now)
}
