//! The fakes as a stage for the steps: a table, a store and a control table that any number of runs share.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::control_table::ControlTable;
use highwater_domain::digest::sha256_hex;
use highwater_domain::failure::Failure;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::key::Key;
use highwater_domain::layout::{Destination, Layout};
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_domain::scan::TableScanner;
use highwater_domain::snapshot::Status;
use highwater_steps::deps::Unobserved;
use highwater_steps::finalize_backup::{FinalizeInput, FinalizeOutput};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::read_snapshot::{ReadTotals, SealedSnapshot};
use highwater_steps::request::BackupRequest;
use highwater_steps::scan_segment::ScanInput;
use highwater_steps::{
    Deps, SnapshotDeps, StepError, StopFlag, finalize_backup, plan_backup, scan_segment,
};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::{FakeTable, string_key};

use crate::live_ports;

pub const ID: &str = "01768385930622-efd1a093";

pub fn id() -> SnapshotId {
    ID.parse().unwrap()
}

pub fn layout() -> Layout {
    Layout::new("backups", "orders", &id())
}

/// Follows tokio's clock, so that paused time can be moved.
#[derive(Debug)]
pub struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub fn start() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_768_385_930_622 + u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

#[derive(Debug)]
struct OneStore(Arc<dyn ObjectStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

#[derive(Clone)]
pub struct Stage {
    pub table: Arc<FakeTable>,
    pub store: Arc<FakeStore>,
    pub control: Arc<FakeControl>,
    pub deps: Deps,
}

impl Stage {
    pub fn new(table: FakeTable) -> Self {
        Self::with_store(table, FakeStore::new())
    }

    pub fn with_store(table: FakeTable, store: FakeStore) -> Self {
        let (table, store, control) = (
            Arc::new(table),
            Arc::new(store),
            Arc::new(FakeControl::new()),
        );
        let clock = TokioClock::start();
        let stores = Arc::new(OneStore(store.clone()));
        let live = live_ports::without_stream(table.clone(), stores, clock.clone());
        let deps = Deps {
            scanner: table.clone(),
            describer: table.clone(),
            admin: Arc::new(FakeAdmin::new()),
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            live,
            snapshots: SnapshotDeps {
                stores: Arc::new(OneStore(store.clone())),
                control: control.clone(),
                clock,
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
        };
        Self {
            table,
            store,
            control,
            deps,
        }
    }

    /// A table of `count` items that do not compress, so that even a few of them fill several parts.
    pub fn of_items(count: usize) -> Self {
        Self::new(table_of(count))
    }

    /// The same stage seen through other ports.
    pub fn through(&self, store: Arc<dyn ObjectStore>, control: Arc<dyn ControlTable>) -> Deps {
        let mut deps = self.deps.clone();
        deps.snapshots.stores = Arc::new(OneStore(store));
        deps.snapshots.control = control;
        deps
    }

    pub fn through_scanner(&self, scanner: Arc<dyn TableScanner>) -> Deps {
        Deps {
            scanner,
            ..self.deps.clone()
        }
    }

    pub async fn plan(&self, request: BackupRequest) -> Result<plan_backup::PlanOutput, StepError> {
        plan_backup::run(&self.deps, &plan_input(request)).await
    }

    pub async fn scan_all(&self, segments: u32) -> Result<(), StepError> {
        scan_all(&self.deps, segments).await
    }

    pub async fn finalize(&self) -> Result<FinalizeOutput, StepError> {
        finalize_backup::run(&self.deps, &finalize_input(), Budget::UNLIMITED).await
    }

    /// A whole backup.
    pub async fn back_up(&self, request: BackupRequest) -> Result<FinalizeOutput, StepError> {
        let planned = self.plan(request).await?;
        self.scan_all(u32::try_from(planned.segments.len()).unwrap())
            .await?;
        self.finalize().await
    }

    pub async fn status(&self) -> Option<Status> {
        self.control
            .snapshot(&id())
            .await
            .unwrap()
            .map(|record| record.value.status)
    }

    /// Reads the snapshot back; every item's key must be there once.
    pub async fn read(&self) -> Result<(BTreeMap<Key, Vec<u8>>, ReadTotals), StepError> {
        let sealed = SealedSnapshot::open(self.store.clone(), &layout(), &id()).await?;
        let schema = sealed.metadata.key_schema.clone().unwrap();
        let mut items = BTreeMap::new();
        let totals = sealed
            .read(|item| {
                let before = items.insert(schema.key_of(item).unwrap(), item.to_vec());
                assert_eq!(
                    before,
                    None,
                    "an item came twice: {}",
                    String::from_utf8_lossy(item)
                );
            })
            .await?;
        Ok((items, totals))
    }

    /// The snapshot is sealed and holds exactly the table, and its data folder exactly its parts.
    pub async fn assert_equals_table(&self) {
        let (items, totals) = self.read().await.unwrap();
        let table: BTreeMap<Key, Vec<u8>> = self
            .table
            .items()
            .into_iter()
            .map(|(key, item)| (key, item.to_vec()))
            .collect();
        assert_eq!(items, table);
        let data: Vec<String> = self
            .store
            .keys()
            .into_iter()
            .filter(|key| key.starts_with(&layout().data()))
            .collect();
        assert_eq!(
            data.len() as u64,
            totals.parts,
            "only committed parts lie in data/: {data:?}"
        );
    }
}

pub fn table_of(count: usize) -> FakeTable {
    let table = FakeTable::new("orders", string_key("id"), 7);
    for n in 0..count {
        let noise = sha256_hex(&n.to_be_bytes());
        table.put(format!(r#"{{"id":{{"S":"{n}"}},"noise":{{"S":"{noise}"}}}}"#).as_bytes());
    }
    table
}

pub fn request(segments: u32) -> BackupRequest {
    BackupRequest {
        table: Some("orders".parse().unwrap()),
        to: Some("s3://fake-bucket/backups".into()),
        snapshot_id: Some(id()),
        segments: Some(segments),
        // Every part holds a few items.
        part_bytes: Some(1000),
        ..BackupRequest::default()
    }
}

pub fn resume() -> BackupRequest {
    BackupRequest {
        snapshot_id: Some(id()),
        resume: true,
        ..BackupRequest::default()
    }
}

pub fn plan_input(request: BackupRequest) -> PlanInput {
    PlanInput {
        request,
        execution_id: "execution-1".into(),
        started_at: "2026-01-14T10:18:50.622Z".into(),
    }
}

pub fn scan_input(segment: u32) -> ScanInput {
    ScanInput {
        snapshot_id: id(),
        segment,
    }
}

pub fn finalize_input() -> FinalizeInput {
    FinalizeInput {
        snapshot_id: Some(id()),
        execution_id: Some("execution-1".into()),
        ..FinalizeInput::default()
    }
}

/// Every lane to its end, as the state machine's Map and Choice do.
pub async fn scan_all(deps: &Deps, lanes: u32) -> Result<(), StepError> {
    for lane in 0..lanes {
        scan_lane(deps, lane, Budget::UNLIMITED).await?;
    }
    Ok(())
}

/// One lane to its end; gives the number of rounds.
pub async fn scan_lane(deps: &Deps, lane: u32, budget: Budget) -> Result<u32, StepError> {
    let mut input = scan_input(lane);
    for round in 1.. {
        let output = scan_segment::run(deps, &input, budget).await?;
        if output.done {
            return Ok(round);
        }
        input = ScanInput {
            snapshot_id: output.snapshot_id,
            segment: output.segment,
        };
    }
    unreachable!()
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// For messages of `assert!`: what a run came to.
pub fn story<T: Debug>(outcome: &Result<T, StepError>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{}: {error}", error.name().as_str()),
    }
}
