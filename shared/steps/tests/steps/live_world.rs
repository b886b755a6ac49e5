//! A simulated table with its stream, a bucket, leases, marks, and workers that follow or audit it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::change_log::{LogName, read_log_object};
use highwater_domain::incident::{Incident, IncidentKind};
use highwater_domain::live_control::PublishedMark;
use highwater_domain::log_facts::{ShardEnd, ShardFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::shard::ShardId;
use highwater_lease::{Change, Leases, Rows, Settings};
use highwater_steps::audit_stream::{self, AuditInput, AuditReport};
use highwater_steps::begin_log::{self, LoggedTable};
use highwater_steps::deps::Unobserved;
use highwater_steps::follow::{self, FollowReport, FollowRequest};
use highwater_steps::shard_rows::ShardRow;
use highwater_steps::stable_listing::{Patience, stable_listing};
use highwater_steps::stream_log::StreamLog;
use highwater_steps::{LeaseGroups, LiveDeps, LogDeps, StepError, StopFlag};
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::simulation::{
    LiveRows, RowTable, SimRecord, SimTable, SimTime, SimTrace, Trouble, Wire,
};
use serde::de::DeserializeOwned;

use crate::live_mortal::{Life, Mortal};

pub const TO: &str = "s3://backups/daily";
pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_mins(1);
pub const HOUR: Duration = Duration::from_hours(1);

pub struct World {
    pub table: Arc<SimTable>,
    pub store: Arc<FakeStore>,
    pub rows: Arc<RowTable>,
    pub live: Arc<LiveRows>,
    /// A second of every worker's clock is one of the true time, but it may show another hour.
    pub skew_ms: i64,
}

/// The leases, under a worker's life.
#[derive(Debug)]
struct Groups {
    rows: Arc<RowTable>,
    wire: Wire,
    time: SimTime,
    life: Arc<Life>,
    seed: u64,
}

impl LeaseGroups for Groups {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        let rows: Arc<dyn Rows> = Arc::new(self.rows.over(group, &self.wire));
        let clock = self.time.monotonic(Duration::ZERO, 100);
        let rows = Mortal::new(&rows, &self.life);
        Ok(Leases::over(rows, clock, worker, Settings::default())?.seeded(self.seed))
    }
}

impl World {
    /// A table with a stream of one open shard, some minutes old.
    pub async fn new() -> Self {
        let table = SimTable::calm("orders");
        tokio::time::sleep(600 * SECOND).await;
        Self::of(table)
    }

    pub fn of(table: Arc<SimTable>) -> Self {
        let time = table.time();
        Self {
            table,
            store: Arc::new(FakeStore::new().with_page(100)),
            rows: Arc::default(),
            live: Arc::new(LiveRows::new(time)),
            skew_ms: 0,
        }
    }

    pub fn deps(&self) -> LiveDeps {
        self.mortal(&Life::long(), 1)
    }

    /// The ports of a worker with this life; workers need different seeds.
    pub fn mortal(&self, life: &Arc<Life>, seed: u64) -> LiveDeps {
        let time = self.table.time();
        let wire = Wire::new("w", seed, Trouble::NONE, SimTrace::off(time));
        let bucket: Arc<dyn ObjectStore> = self.store.clone();
        LiveDeps {
            streams: Mortal::new(&self.table, life),
            log: LogDeps {
                describer: Mortal::new(&self.table, life),
                stores: Mortal::new(&bucket, life),
                leases: Arc::new(Groups {
                    rows: self.rows.clone(),
                    wire,
                    time,
                    life: life.clone(),
                    seed,
                }),
                live: Mortal::new(&self.live, life),
                clock: time.skewed_clock(self.skew_ms),
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
        }
    }

    pub fn request(worker: &str) -> FollowRequest {
        FollowRequest {
            worker: Some(worker.into()),
            seed: Some(worker.bytes().map(u64::from).sum()),
            ..FollowRequest::new("orders".parse().unwrap(), TO)
        }
    }

    /// Follows for so long, then stops in order.
    pub async fn follow(&self, time: Duration) -> FollowReport {
        self.try_follow(time).await.unwrap()
    }

    pub async fn try_follow(&self, time: Duration) -> Result<FollowReport, StepError> {
        let deps = self.deps();
        follow_for(&deps, &Self::request("a"), time).await
    }

    pub async fn audit(&self) -> AuditReport {
        let input = AuditInput {
            worker: Some("auditor".into()),
            seed: Some(5),
            ..AuditInput::new("orders".parse().unwrap(), TO)
        };
        let deps = self.deps();
        audit_stream::run(&deps, &input, Budget::UNLIMITED)
            .await
            .unwrap()
    }

    /// The log of the table's stream, begun.
    pub async fn log(&self, deps: &LiveDeps) -> StreamLog {
        let store: Arc<dyn ObjectStore> = self.store.clone();
        let arn = self.table.stream_arn().unwrap();
        let listing = stable_listing(deps, &arn, Patience::default())
            .await
            .unwrap();
        let table = LoggedTable {
            arn: self.table.arn(),
            id: Some(self.table.table_id()),
        };
        let place = Self::place();
        let begun = begin_log::begin(deps, &store, &place, &table, &listing).await;
        StreamLog::of(deps, &store, &place, &begun.unwrap(), "tester", 120_000).unwrap()
    }

    /// Forgets every lease of a group, as if none had ever been registered.
    pub async fn forget_leases(&self, group: &str) {
        let time = self.table.time();
        let wire = Wire::new("hand", 9, Trouble::NONE, SimTrace::off(time));
        let rows = self.rows.over(group, &wire);
        let gone = self.rows.rows(group).into_iter();
        let gone = gone
            .map(|row| Change::Delete(row.id, row.version))
            .collect();
        rows.write(gone).await.unwrap();
    }

    pub fn place() -> LogPlace {
        LogPlace::new("daily", "orders")
    }

    pub fn label(&self) -> String {
        self.table.stream_label().unwrap()
    }

    /// What the log holds: sequence numbers by shard, each as often as it is there.
    pub fn logged(&self) -> BTreeMap<ShardId, Vec<String>> {
        let mut logged: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
        for label in self.table.stream_labels() {
            let folder = Self::place().stream(&label);
            for (key, object) in self.store.objects() {
                let Some(name) = LogName::parse(&folder, &key) else {
                    continue;
                };
                let records = read_log_object(&key, &name, &object.body).unwrap();
                let numbers = records.iter().map(|it| it.sequence_number.to_string());
                logged.entry(name.shard).or_default().extend(numbers);
            }
        }
        logged
    }

    fn is_logged(logged: &BTreeMap<ShardId, Vec<String>>, record: &SimRecord) -> bool {
        let number = record.sequence_number.to_string();
        let shard = logged.get(&record.shard);
        shard.is_some_and(|numbers| numbers.contains(&number))
    }

    /// I3, I5, I6: everything that was published is in the log.
    pub fn assert_all_logged(&self) {
        let missing = self.missing();
        assert!(missing.is_empty(), "not in the log: {missing:?}");
    }

    pub fn missing(&self) -> Vec<(String, String)> {
        let logged = self.logged();
        let all = self.table.all_records();
        let missing = all.iter().filter(|it| !Self::is_logged(&logged, it));
        missing
            .map(|it| (it.shard.to_string(), it.key.clone()))
            .collect()
    }

    /// How many records are in the log more than once.
    pub fn doubled(&self) -> usize {
        let logged = self.logged();
        let once =
            |numbers: &Vec<String>| numbers.len() - numbers.iter().collect::<BTreeSet<_>>().len();
        logged.values().map(once).sum()
    }

    /// I8: the mark says nothing of a second of which a record is missing. Only what is published now counts.
    pub fn assert_mark_is_true(&self, mark: &PublishedMark) {
        let logged = self.logged();
        for record in self.table.all_records() {
            if Self::is_logged(&logged, &record) {
                continue;
            }
            for grade in [Grade::Proven, Grade::Rolled, Grade::Assumed] {
                let second = record.event_time;
                assert!(
                    mark.mark.of(grade).is_none_or(|mark| mark < second),
                    "{grade:?} {mark:?} passes a record of second {second:?} in {}",
                    record.shard
                );
            }
        }
    }

    pub fn object<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let objects = self.store.objects();
        let object = objects.get(key)?;
        Some(serde_json::from_slice(&object.body).unwrap())
    }

    pub fn shard_facts(&self, shard: &ShardId) -> Option<ShardFacts> {
        self.object(&Self::place().shard_facts(&self.label(), shard))
    }

    pub fn shard_end(&self, shard: &ShardId) -> Option<ShardEnd> {
        self.object(&Self::place().shard_end(&self.label(), shard))
    }

    /// The mark that stands in the bucket.
    pub fn mark(&self) -> PublishedMark {
        self.object(&Self::place().mark(&self.label())).unwrap()
    }

    pub fn incidents(&self) -> Vec<Incident> {
        let folder = Self::place().incidents(&self.label());
        let keys = self.store.keys();
        let keys = keys.iter().filter(|key| key.starts_with(&folder));
        keys.map(|key| self.object(key).unwrap()).collect()
    }

    pub fn incidents_of(&self, kind: IncidentKind) -> Vec<Incident> {
        let mut incidents = self.incidents();
        incidents.retain(|incident| incident.kind == kind);
        incidents
    }

    pub fn assert_no_incidents(&self) {
        assert_eq!(self.incidents(), []);
    }

    pub fn shard_rows(&self) -> BTreeMap<ShardId, ShardRow> {
        let groups = self.rows.groups();
        let rows = groups.iter().flat_map(|group| self.rows.rows(group));
        rows.map(|row| ShardRow::of(&row).unwrap())
            .map(|row| (row.shard.clone(), row))
            .collect()
    }

    pub fn row(&self, shard: &ShardId) -> ShardRow {
        self.shard_rows()[shard].clone()
    }

    /// I5, I6, I7, I17, as the rows saw them broken.
    pub fn assert_rows_are_sound(&self) {
        assert_eq!(self.rows.violations(), Vec::<String>::new());
    }

    pub fn only_shard(&self) -> ShardId {
        let open = self.table.open_shards();
        assert_eq!(open.len(), 1);
        open[0].clone()
    }

    pub fn now(&self) -> UnixSeconds {
        UnixSeconds::of(self.table.time().clock().now())
    }

    pub fn put_many(&self, prefix: &str, count: usize) {
        for n in 0..count {
            self.table.put(&format!("{prefix}{n}"), "x").unwrap();
        }
    }
}

/// Follows for so long, then stops in order.
pub async fn follow_for(
    deps: &LiveDeps,
    request: &FollowRequest,
    time: Duration,
) -> Result<FollowReport, StepError> {
    let stop = deps.stop.clone();
    let timer = async {
        tokio::time::sleep(time).await;
        stop.set();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        report = follow::run(deps, request, Budget::UNLIMITED) => report,
        () = timer => unreachable!("the timer never ends"),
    }
}
