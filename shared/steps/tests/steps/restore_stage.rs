//! A backup in a store, and an account to restore it into: any number of lives share them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_domain::failure::Failure;
use highwater_domain::key::Key;
use highwater_domain::layout::Destination;
use highwater_domain::object_store::{NewObject, ObjectStore, Stores};
use highwater_domain::restore::{LoadTotals, RestoreId, RestoreRecord};
use highwater_domain::restore_control::RestoreControl as _;
use highwater_domain::table_plan::TargetPlace;
use highwater_steps::deps::Unobserved;
use highwater_steps::finalize_restore::{FinalizeRestoreInput, FinalizeRestoreOutput};
use highwater_steps::load_part::{LoadInput, LoadOutput};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::plan_restore::{PlanRestoreInput, PlanRestoreOutput};
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::{
    RestoreDeps, SnapshotDeps, StepError, StopFlag, finalize_restore, load_part, plan_restore,
};
use highwater_testkit::failing::Failing;
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_importer::FakeImporter;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::intercepted::Intercepted;

use crate::stage::{Stage, TokioClock, layout, request};

pub const RESTORE: &str = "01768385999000-1b2c3d4e";
pub const TARGET: &str = "orders-restored";

pub fn restore_id() -> RestoreId {
    RESTORE.parse().unwrap()
}

#[derive(Debug)]
struct OneStore(Arc<dyn ObjectStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

pub struct RestoreStage {
    pub store: Arc<FakeStore>,
    pub account: Arc<FakeAdmin>,
    pub control: Arc<FakeControl>,
    pub deps: RestoreDeps,
    /// What the backup holds.
    pub items: BTreeMap<Key, Bytes>,
}

impl RestoreStage {
    /// A backup of `count` items in many small parts, and an account without tables.
    pub async fn of_items(count: usize) -> Self {
        let source = Stage::of_items(count);
        source.back_up(request(2)).await.unwrap();
        let items = source.table.items();
        Self::over(source.store, items)
    }

    /// A store with whatever is in it.
    pub fn over(store: Arc<FakeStore>, items: BTreeMap<Key, Bytes>) -> Self {
        let account = Arc::new(
            FakeAdmin::new()
                .making(|name, schema| FakeTable::new(name, schema, 3).with_unprocessed(30)),
        );
        let control = Arc::new(FakeControl::new());
        let clock = TokioClock::start();
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
            stores: Arc::new(OneStore(store.clone())),
            restores: control.clone(),
            replicas: control.clone(),
            elsewhere: None,
            snapshots: SnapshotDeps {
                stores: Arc::new(OneStore(store.clone())),
                control: control.clone(),
                clock: clock.clone(),
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            clock,
            max_retries: None,
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        };
        Self {
            store,
            account,
            control,
            deps,
            items,
        }
    }

    /// One file of lines at `lines.json`.
    pub async fn of_lines(lines: &str) -> Self {
        let store = Arc::new(FakeStore::new());
        let object = NewObject {
            key: "lines.json".into(),
            body: Bytes::copy_from_slice(lines.as_bytes()),
            content_type: "application/json",
            ..NewObject::default()
        };
        store.replace(object).await.unwrap();
        Self::over(store, BTreeMap::new())
    }

    /// Adds an existing table with these items.
    pub fn with_table(&self, name: &str, items: &[&str]) -> Arc<FakeTable> {
        let table = Arc::new(FakeTable::new(name, string_key("id"), 5));
        for item in items {
            table.put(item.as_bytes());
        }
        self.account.add(&table);
        table
    }

    /// Every port through one set of failing calls.
    pub fn through(&self, failing: &Arc<Failing>) -> RestoreDeps {
        let account = Arc::new(Intercepted::new(&self.account, failing));
        RestoreDeps {
            writer: account.clone(),
            admin: account,
            stores: Arc::new(OneStore(Arc::new(Intercepted::new(&self.store, failing)))),
            restores: Arc::new(Intercepted::new(&self.control, failing)),
            snapshots: SnapshotDeps {
                stores: Arc::new(OneStore(Arc::new(Intercepted::new(&self.store, failing)))),
                control: Arc::new(Intercepted::new(&self.control, failing)),
                ..self.deps.snapshots.clone()
            },
            ..self.deps.clone()
        }
    }

    pub async fn record(&self) -> Option<RestoreRecord> {
        let record = self.control.restore(&restore_id()).await.unwrap();
        record.map(|record| record.value)
    }

    /// The target holds exactly the backup, and the sums say so.
    pub fn assert_restored(&self, output: &FinalizeRestoreOutput) {
        let table = self.account.table(TARGET).unwrap();
        assert_eq!(table.items(), self.items);
        assert_eq!(output.totals.read, self.items.len() as u64);
        assert_eq!(output.totals.written, self.items.len() as u64);
        assert!(output.totals.is_balanced(), "{}", output.totals);
    }

    /// All lines of all rejects files.
    pub async fn rejects(&self) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        for key in self.store.keys() {
            if key.starts_with("rejects/") {
                let body = self.store.read(&key).await.unwrap().unwrap();
                let text = String::from_utf8(body.to_vec()).unwrap();
                lines.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
            }
        }
        lines
    }
}

/// A restore of the stage's backup into a new table.
pub fn restore_request() -> RestoreRequest {
    RestoreRequest {
        backup: Some(format!(
            "s3://fake-bucket/{}",
            layout().root().trim_end_matches('/')
        )),
        to: Some(TARGET.parse().unwrap()),
        restore_id: Some(restore_id()),
        concurrency: Some(3),
        rejects: Some("s3://fake-bucket/rejects".into()),
        ..RestoreRequest::default()
    }
}

/// A restore of `lines.json` into an existing table.
pub fn lines_request() -> RestoreRequest {
    RestoreRequest {
        backup: Some("s3://fake-bucket/lines.json".into()),
        into_existing: true,
        ..restore_request()
    }
}

pub fn restore_input(request: RestoreRequest) -> PlanRestoreInput {
    PlanRestoreInput {
        request,
        execution_id: "execution-1".into(),
        started_at: "2026-01-14T10:18:50.622Z".into(),
    }
}

pub async fn plan(
    deps: &RestoreDeps,
    request: RestoreRequest,
) -> Result<PlanRestoreOutput, StepError> {
    plan_restore::run(deps, &restore_input(request), Budget::UNLIMITED).await
}

/// One lane to its end, as the state machine's Choice does.
pub async fn load_lane(
    deps: &RestoreDeps,
    file: u32,
    budget: impl Fn() -> Budget,
) -> Result<u32, StepError> {
    let mut input = LoadInput {
        restore_id: restore_id(),
        file,
    };
    for round in 1.. {
        let LoadOutput {
            restore_id,
            file,
            done,
            ..
        } = load_part::run(deps, &input, budget()).await?;
        if done {
            return Ok(round);
        }
        input = LoadInput { restore_id, file };
    }
    unreachable!()
}

/// The whole workflow in one life.
pub async fn life(
    deps: &RestoreDeps,
    request: RestoreRequest,
) -> Result<FinalizeRestoreOutput, StepError> {
    let planned = plan(deps, request).await?;
    for file in planned.files {
        load_lane(deps, file, || Budget::UNLIMITED).await?;
    }
    let input = FinalizeRestoreInput {
        restore_id: Some(restore_id()),
        execution_id: Some("execution-1".into()),
        ..FinalizeRestoreInput::default()
    };
    finalize_restore::run(deps, &input, Budget::UNLIMITED).await
}

/// What the files' checkpoints add up to.
pub async fn committed(stage: &RestoreStage) -> LoadTotals {
    highwater_steps::restore_status::totals(&stage.deps, &restore_id())
        .await
        .unwrap()
        .totals
}
