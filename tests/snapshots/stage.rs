//! The engines, the adapters on them, and a backup from its plan to its seal.

use std::sync::Arc;

use futures::future::try_join_all;
use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::Budget;
use highwater_domain::ids::SnapshotId;
use highwater_domain::scan::TableScanner;
use highwater_domain::snapshot::Status;
use highwater_lambda::{S3Stores, SystemClock, live_deps};
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3};
use highwater_steps::deps::Unobserved;
use highwater_steps::finalize_backup::FinalizeInput;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::request::BackupRequest;
use highwater_steps::scan_segment::ScanInput;
use highwater_steps::{
    Deps, SnapshotDeps, StepError, StopFlag, finalize_backup, plan_backup, scan_segment,
};
use highwater_testkit::clients;
use tempfile::TempDir;

/// The bucket of every snapshot here.
pub const BUCKET: &str = "exports";
/// The prefix of every snapshot here.
pub const PREFIX: &str = "nightly";
/// When every execution here began.
const STARTED_AT: &str = "2026-01-14T10:18:50.622Z";

/// Engines and clients of one test.
pub struct Stage {
    pub dynamodb: EmbeddedDynamoDb,
    pub clients: Clients,
    /// Clients that share nothing with the code that is tested.
    pub direct: aws_sdk_dynamodb::Client,
    pub s3: aws_sdk_s3::Client,
    s3_engine: EmbeddedS3,
    _folder: TempDir,
}

impl Stage {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dynamodb = EmbeddedDynamoDb::start().await.unwrap();
        let s3 = EmbeddedS3::start(folder.path()).await.unwrap();
        s3.create_bucket(BUCKET).await.unwrap();
        let settings = ConnectionSettings {
            region: Some("eu-north-1".to_owned()),
            dynamodb_endpoint_url: Some(dynamodb.endpoint_url().to_owned()),
            s3_endpoint_url: Some(s3.endpoint_url().to_owned()),
            ..ConnectionSettings::default()
        };
        let clients = Clients::connect(&settings).await.unwrap();
        clients.control_table("highwater").ensure().await.unwrap();
        Self {
            direct: clients::dynamodb(dynamodb.endpoint_url()),
            s3: clients::s3(s3.endpoint_url()),
            clients,
            dynamodb,
            s3_engine: s3,
            _folder: folder,
        }
    }

    /// Where the bucket's engine listens.
    pub fn s3_url(&self) -> &str {
        self.s3_engine.endpoint_url()
    }

    /// A request to back `table` up to this stage's bucket.
    pub fn request(table: &str) -> BackupRequest {
        BackupRequest {
            table: Some(table.parse().unwrap()),
            to: Some(format!("s3://{BUCKET}/{PREFIX}")),
            settle_seconds: Some(0),
            ..BackupRequest::default()
        }
    }

    /// Makes a snapshot with this scanner. `name` is the execution's, and makes the snapshot's id.
    pub async fn back_up(
        &self,
        name: &str,
        request: BackupRequest,
        scanner: Arc<dyn TableScanner>,
    ) -> SnapshotId {
        let deps = self.deps(scanner);
        let input = PlanInput {
            request,
            execution_id: name.to_owned(),
            started_at: STARTED_AT.to_owned(),
        };
        let plan = plan_backup::run(&deps, &input).await.unwrap();
        let id = &plan.snapshot_id;
        let lanes = plan.segments.iter().map(|lane| scan_lane(&deps, id, *lane));
        try_join_all(lanes).await.unwrap();
        let input = FinalizeInput {
            snapshot_id: Some(id.clone()),
            execution_id: Some(name.to_owned()),
            ..FinalizeInput::default()
        };
        let sealed = finalize_backup::run(&deps, &input, Budget::UNLIMITED)
            .await
            .unwrap();
        assert_eq!(
            (sealed.done, sealed.status),
            (true, Some(Status::Completed))
        );
        plan.snapshot_id
    }

    fn deps(&self, scanner: Arc<dyn TableScanner>) -> Deps {
        let clock = Arc::new(SystemClock);
        Deps {
            scanner,
            describer: Arc::new(self.clients.table_describer()),
            admin: Arc::new(self.clients.table_admin()),
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            snapshots: SnapshotDeps {
                stores: Arc::new(S3Stores(self.clients.clone())),
                control: Arc::new(self.clients.control_table("highwater")),
                clock,
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
            live: live_deps(
                &self.clients,
                "highwater",
                Arc::new(S3Stores(self.clients.clone())),
                Arc::new(Unobserved),
            ),
        }
    }
}

/// One lane of segments to its end, as the state machine loops it.
async fn scan_lane(deps: &Deps, id: &SnapshotId, lane: u32) -> Result<(), StepError> {
    let mut segment = lane;
    loop {
        let input = ScanInput {
            snapshot_id: id.clone(),
            segment,
        };
        let output = scan_segment::run(deps, &input, Budget::UNLIMITED).await?;
        if output.done {
            return Ok(());
        }
        segment = output.segment;
    }
}
