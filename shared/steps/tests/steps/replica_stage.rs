//! A table that is followed into a log, a backup beside the log, and an account with a replica's table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_domain::failure::Failure;
use highwater_domain::ids::SnapshotId;
use highwater_domain::replica::{FenceMode, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl as _;
use highwater_domain::replica_targets::{
    FeedPorts, FeedTargets, ReplicaTargets, TargetAccess, TargetPorts,
};
use highwater_domain::table_plan::TargetPlace;
use highwater_steps::deps::Unobserved;
use highwater_steps::finalize_restore::{self, FinalizeRestoreInput};
use highwater_steps::known_facts::KnownFacts;
use highwater_steps::load_part::{self, LoadInput};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::plan_restore::{self, PlanRestoreInput, PlanRestoreOutput};
use highwater_steps::replica::apply::{self, ApplyReport, ApplyRequest};
use highwater_steps::replica::plan::{self, PlannedReplica, ReplicaRequest};
use highwater_steps::replica::{FeedDeps, ReplicaDeps, advance};
use highwater_steps::request::BackupRequest;
use highwater_steps::{
    Deps, LogDeps, RestoreDeps, SnapshotDeps, StepError, StopFlag, finalize_backup, plan_backup,
};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_importer::FakeImporter;
use highwater_testkit::fake_table::FakeTable;

use crate::live_world::{TO, World};
use crate::stage::{ID, finalize_input, plan_input, request, scan_all};

/// The replica's table.
pub const TARGET: &str = "copy";

pub struct ReplicaStage {
    pub world: World,
    pub control: Arc<FakeControl>,
    pub account: Arc<FakeAdmin>,
}

impl fmt::Debug for ReplicaStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaStage").finish_non_exhaustive()
    }
}

impl ReplicaStage {
    /// A table with a log and some items, and an account without tables.
    pub async fn new() -> Self {
        let world = World::new().await;
        world.put_many("first-", 30);
        world.follow(Duration::from_mins(2)).await;
        Self {
            world,
            control: Arc::default(),
            account: Arc::new(
                FakeAdmin::new()
                    .making(|name, schema| FakeTable::new(name, schema, 3).with_unprocessed(30)),
            ),
        }
    }

    /// The same, with a finished backup.
    pub async fn backed_up() -> Self {
        let stage = Self::new().await;
        stage.back_up(true).await;
        stage
    }

    /// Takes a backup, with a handoff or without.
    pub async fn back_up(&self, with_stream: bool) {
        let deps = self.backing_up();
        let request = BackupRequest {
            to: Some(TO.into()),
            with_stream,
            ..request(2)
        };
        let planned = plan_backup::run(&deps, &plan_input(request)).await.unwrap();
        let lanes = u32::try_from(planned.segments.len()).unwrap();
        scan_all(&deps, lanes).await.unwrap();
        let output = finalize_backup::run(&deps, &finalize_input(), Budget::UNLIMITED).await;
        assert!(output.unwrap().done);
    }

    pub fn snapshot() -> String {
        format!("{TO}/orders/AWSDynamoDB/{ID}")
    }

    /// The ports of the backup.
    pub fn backing_up(&self) -> Deps {
        let live = self.world.deps();
        Deps {
            scanner: self.world.table.clone(),
            describer: self.world.table.clone(),
            admin: self.world.table.clone(),
            pace: Arc::new(Pace::new(live.clock.clone(), Share::Process)),
            snapshots: SnapshotDeps {
                stores: live.stores.clone(),
                control: self.control.clone(),
                clock: live.clock.clone(),
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
            live,
        }
    }

    /// The ports of the load.
    pub fn loading(&self) -> RestoreDeps {
        let snapshots = self.backing_up().snapshots;
        let clock = snapshots.clock.clone();
        RestoreDeps {
            writer: self.account.clone(),
            admin: self.account.clone(),
            importer: Arc::new(FakeImporter::new(
                self.world.store.clone(),
                self.account.clone(),
            )),
            describer: self.account.clone(),
            place: TargetPlace {
                region: "eu-north-1".into(),
                account: None,
            },
            own_table: None,
            own_endpoint: true,
            stores: snapshots.stores.clone(),
            restores: self.control.clone(),
            replicas: self.control.clone(),
            elsewhere: None,
            snapshots,
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            clock,
            max_retries: None,
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        }
    }

    /// The ports of replicas.
    pub fn deps(&self) -> ReplicaDeps {
        self.deps_over(self.world.deps().log)
    }

    pub fn deps_over(&self, live: LogDeps) -> ReplicaDeps {
        let targets = Arc::new(OneAccount(self.account.clone()));
        ReplicaDeps {
            feed: FeedDeps {
                live,
                replicas: self.control.clone(),
                restores: self.control.clone(),
                feeds: targets.clone(),
                known: KnownFacts::default(),
                observer: Arc::new(Unobserved),
            },
            describer: self.world.table.clone(),
            targets,
        }
    }

    pub fn request() -> ReplicaRequest {
        ReplicaRequest {
            source: "orders".parse().unwrap(),
            to: TARGET.parse().unwrap(),
            target_region: None,
            target_role: None,
            filter: Vec::new(),
            fence: FenceMode::Table,
            log: TO.to_owned(),
            snapshot: Self::snapshot(),
            local: false,
        }
    }

    pub async fn plan(&self, request: &ReplicaRequest) -> Result<PlannedReplica, StepError> {
        let deps = self.deps();
        let now = deps.live.clock.now();
        let load = SnapshotId::new(now, fastrand::u32(..));
        let load = load.as_str().parse().unwrap();
        plan::plan(&deps, request, load, now).await
    }

    /// A replica that is about to be loaded.
    pub async fn begun(&self) -> ReplicaRecord {
        let planned = self.plan(&Self::request()).await.unwrap();
        plan::begin(&self.deps(), &planned).await.unwrap()
    }

    /// The first state of the load.
    pub async fn plan_load(&self, record: &ReplicaRecord) -> Result<PlanRestoreOutput, StepError> {
        let makes_table = self.account.table(TARGET).is_none();
        let input = PlanRestoreInput {
            request: plan::load_request(record, makes_table),
            execution_id: "load-1".into(),
            started_at: record.began_at.to_rfc3339(),
        };
        plan_restore::run(&self.loading(), &input, Budget::UNLIMITED).await
    }

    /// One lane of the load, over these ports.
    pub async fn load_lane(
        deps: &RestoreDeps,
        record: &ReplicaRecord,
        file: u32,
    ) -> Result<(), StepError> {
        let mut input = LoadInput {
            restore_id: record.load.clone(),
            file,
        };
        loop {
            let output = load_part::run(deps, &input, Budget::UNLIMITED).await?;
            if output.done {
                return Ok(());
            }
            input.file = output.file;
        }
    }

    pub async fn finalize_load(&self, record: &ReplicaRecord) {
        let input = FinalizeRestoreInput {
            restore_id: Some(record.load.clone()),
            execution_id: Some("load-1".into()),
            ..FinalizeRestoreInput::default()
        };
        let ended = finalize_restore::run(&self.loading(), &input, Budget::UNLIMITED).await;
        assert!(ended.unwrap().done);
    }

    /// The whole load.
    pub async fn load(&self, record: &ReplicaRecord) -> ReplicaRecord {
        let planned = self.plan_load(record).await.unwrap();
        let deps = self.loading();
        for file in planned.files {
            Self::load_lane(&deps, record, file).await.unwrap();
        }
        self.finalize_load(record).await;
        plan::note_target(&self.deps(), record).await.unwrap()
    }

    /// A replica that is live and knows nothing of the log yet.
    pub async fn live(&self) -> ReplicaRecord {
        let begun = self.begun().await;
        let loaded = self.load(&begun).await;
        advance::run(&self.deps(), loaded).await.unwrap().record
    }

    pub async fn record(&self, known: &ReplicaRecord) -> ReplicaRecord {
        let found = self.control.replica(&known.source_arn, &known.id).await;
        found.unwrap().expect("a replica").value
    }

    /// Applies whatever the log holds.
    pub async fn apply(&self, record: &ReplicaRecord) -> Result<ApplyReport, StepError> {
        let request = ApplyRequest {
            until_idle: true,
            seed: Some(7),
            worker: Some("applier".into()),
            ..ApplyRequest::default()
        };
        apply::run(&self.deps(), record, &request, Budget::UNLIMITED).await
    }

    /// The replica's items by their `id`, as stored.
    pub fn items(&self) -> BTreeMap<String, Bytes> {
        let table = self.account.table(TARGET).expect("the target is there");
        let items = table.items().into_values();
        let id = |item: &Bytes| {
            let item: serde_json::Value = serde_json::from_slice(item).unwrap();
            item["id"]["S"].as_str().unwrap().to_owned()
        };
        items.map(|item| (id(&item), item)).collect()
    }

    /// I13.
    pub fn assert_equal(&self) {
        assert_eq!(self.items(), self.world.table.items());
    }
}

/// Every table is in one account.
#[derive(Debug)]
struct OneAccount(Arc<FakeAdmin>);

#[async_trait]
impl FeedTargets for OneAccount {
    async fn open_feed(&self, _access: &TargetAccess) -> Result<FeedPorts, Failure> {
        Ok(FeedPorts {
            writer: self.0.clone(),
            describer: self.0.clone(),
        })
    }
}

#[async_trait]
impl ReplicaTargets for OneAccount {
    async fn open(&self, _access: &TargetAccess) -> Result<TargetPorts, Failure> {
        Ok(TargetPorts {
            writer: self.0.clone(),
            fences: self.0.clone(),
            describer: self.0.clone(),
            scanner: self.0.clone(),
            reader: self.0.clone(),
        })
    }
}
