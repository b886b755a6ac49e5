//! The world of one run: the services, which are one and consistent, and the workers' ways to them, which are not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::live_control::LiveControl;
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{
    Creation, ListPage, NewObject, ObjectFacts, ObjectStore, Stores,
};
use highwater_domain::scan::TableScanner;
use highwater_domain::stream_source::StreamSource;
use highwater_lease::{Leases, MonotonicClock, Settings};
use highwater_steps::deps::{StopFlag, Unobserved};
use highwater_steps::live_deps::{LeaseGroups, LiveDeps, LogDeps};
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::simulation::{
    LiveRows, RowTable, SimTable, SimTime, SimTrace, Suspension, Trouble, Wire, Wired, WiredLive,
    WiredStores,
};

use super::mutations::{Mutated, MutatedStores, Mutation, RaisedMarks};
use super::plan::Plan;

/// The table of every run.
pub const TABLE: &str = "orders";
/// Where everything is written.
pub const DESTINATION: &str = "s3://fake-bucket/live";
/// The part of it that is a prefix of keys.
pub const PREFIX: &str = "live";

/// Where the log is.
pub fn log_place() -> LogPlace {
    LogPlace::new(PREFIX, TABLE)
}

/// Everything that outlives a worker.
#[derive(Clone, Debug)]
pub struct World {
    /// What is done wrong on purpose.
    pub mutation: Option<Mutation>,
    pub time: SimTime,
    pub trace: SimTrace,
    pub table: Arc<SimTable>,
    pub bucket: Arc<Bucket>,
    pub control: Arc<FakeControl>,
    pub rows: Arc<RowTable>,
    pub marks: Arc<LiveRows>,
}

impl World {
    pub fn new(plan: &Plan, traced: bool) -> Self {
        let (seed, nasty) = (plan.seed, plan.nasty);
        let time = SimTime::start();
        let trace = if traced {
            SimTrace::on(time)
        } else {
            SimTrace::off(time)
        };
        let table = SimTable::new(TABLE, trace.clone(), time, seed ^ 0x7AB1E, nasty);
        let rows = RowTable::default();
        if plan.mutation == Some(Mutation::UnconditionalCheckpoint) {
            rows.ignore_versions();
        }
        Self {
            mutation: plan.mutation,
            time,
            trace,
            table: Arc::new(table),
            bucket: Arc::new(Bucket::new(time)),
            control: Arc::new(FakeControl::new()),
            rows: Arc::new(rows),
            marks: Arc::new(LiveRows::new(time)),
        }
    }

    /// A worker with its own connection and clocks.
    pub fn worker(&self, name: &str, seed: u64, trouble: Trouble) -> Worker {
        let mut random = fastrand::Rng::with_seed(seed);
        let wire = Wire::new(name, random.u64(..), trouble, self.trace.clone());
        let offset = Duration::from_millis(random.u64(..1_000_000));
        Worker {
            name: name.to_owned(),
            seed: random.u64(..),
            monotonic: self.time.monotonic(offset, random.u32(98..=102)),
            skew_ms: random.i64(-2_000..=2_000),
            wire,
            suspension: Suspension::default(),
            stop: StopFlag::default(),
            world: self.clone(),
        }
    }
}

/// One process, or one sandbox of a function.
#[derive(Clone, Debug)]
pub struct Worker {
    pub name: String,
    pub seed: u64,
    pub monotonic: Arc<dyn MonotonicClock>,
    pub skew_ms: i64,
    pub wire: Wire,
    pub suspension: Suspension,
    pub stop: StopFlag,
    pub world: World,
}

impl Worker {
    /// The ports of the live side.
    pub fn live(&self) -> LiveDeps {
        let table = Arc::new(Wired::new(&self.world.table, &self.wire));
        let streams: Arc<dyn StreamSource> = match self.world.mutation {
            None => table.clone(),
            Some(mutation) => Mutated::new(&table, mutation),
        };
        let live: Arc<dyn LiveControl> = Arc::new(WiredLive::new(&self.world.marks, &self.wire));
        let live = match self.world.mutation {
            None => live,
            Some(mutation) => Arc::new(RaisedMarks {
                inner: live,
                rows: self.world.rows.clone(),
                table: self.world.table.clone(),
                mutation,
            }),
        };
        LiveDeps {
            streams,
            log: LogDeps {
                describer: table.clone(),
                stores: self.stores(),
                leases: Arc::new(self.clone()),
                live,
                clock: self.world.time.skewed_clock(self.skew_ms),
                observer: Arc::new(Unobserved),
                stop: self.stop.clone(),
            },
        }
    }

    pub fn stores(&self) -> Arc<dyn Stores> {
        let stores = WiredStores::new(self.world.bucket.clone(), &self.wire);
        match self.world.mutation {
            None => Arc::new(stores),
            Some(mutation) => Arc::new(MutatedStores {
                inner: Arc::new(stores),
                mutation,
            }),
        }
    }

    pub fn scanner(&self) -> Arc<dyn TableScanner> {
        let table = Arc::new(Wired::new(&self.world.table, &self.wire));
        match self.world.mutation {
            None => table,
            Some(mutation) => Mutated::new(&table, mutation),
        }
    }
}

impl LeaseGroups for Worker {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        let rows = Arc::new(self.world.rows.over(group, &self.wire));
        let clock = Arc::clone(&self.monotonic);
        let leases = Leases::over(rows, clock, worker, Settings::default())?;
        Ok(leases.seeded(self.seed))
    }
}

/// A bucket that remembers when each of its objects was first there.
#[derive(Debug)]
pub struct Bucket {
    time: SimTime,
    objects: FakeStore,
    created: Mutex<BTreeMap<String, UnixMillis>>,
}

impl Bucket {
    fn new(time: SimTime) -> Self {
        Self {
            time,
            objects: FakeStore::new().with_page(50),
            created: Mutex::default(),
        }
    }

    /// All objects, by key.
    pub fn objects(&self) -> BTreeMap<String, NewObject> {
        self.objects.objects()
    }

    /// When an object was first there.
    pub fn created_at(&self, key: &str) -> UnixMillis {
        self.created.lock().unwrap()[key]
    }

    fn note(&self, key: &str) {
        let now = self.time.now();
        let mut created = self.created.lock().unwrap();
        created.entry(key.to_owned()).or_insert(now);
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    fn url(&self, key: &str) -> String {
        self.objects.url(key)
    }

    fn bucket(&self) -> &str {
        self.objects.bucket()
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        let key = object.key.clone();
        let creation = self.objects.create(object).await?;
        self.note(&key);
        Ok(creation)
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.note(&object.key);
        self.objects.replace(object).await
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.objects.read(key).await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        self.objects.read_range(key, range).await
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.objects.facts(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.objects.list(prefix, after).await
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.objects.list_folders(prefix, after).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        self.objects.delete(keys).await
    }
}
