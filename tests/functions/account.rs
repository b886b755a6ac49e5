//! One account of a cloud in this process: engines, the deployed functions, a table to back up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_asl::{
    Execution, ExecutionFailed, Options, SkipPauses, StateMachine, TaskError, Tasks, walk,
};
use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::Clock as _;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::layout::Layout;
use highwater_lambda::SystemClock;
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3, StreamShape};
use highwater_steps::read_snapshot::SealedSnapshot;
use highwater_testkit::canonical::canonical;
use highwater_testkit::clients;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::runtime_api::{Function, FunctionError, FunctionSpec};
use highwater_testkit::tables::NewTable;
use highwater_tests::{binaries, checkout};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The names that the sample events use.
pub const TABLE: &str = "orders";
pub const BUCKET: &str = "highwater-snapshots";
pub const PREFIX: &str = "nightly";

pub const CONTROL_TABLE: &str = "highwater-control";

/// An invocation that is not meant to feel its deadline.
pub const LONG: Duration = Duration::from_mins(2);

pub struct Account {
    pub dynamodb: EmbeddedDynamoDb,
    /// Between the functions and S3. It passes everything on until it is told otherwise.
    pub s3: FaultProxy,
    _s3_engine: EmbeddedS3,
    _bucket_folder: TempDir,
    items: Vec<Vec<u8>>,
}

impl Account {
    /// With a table of so many small items (300 bytes each, about) and 1000 provisioned read units.
    pub async fn with_items(count: u64) -> Self {
        Self::over(EmbeddedDynamoDb::start().await.unwrap(), count).await
    }

    /// With an empty table, in an engine whose streams have shards that roll over.
    pub async fn with_streams(shape: StreamShape) -> Self {
        Self::over(EmbeddedDynamoDb::start_with(shape).await.unwrap(), 0).await
    }

    async fn over(dynamodb: EmbeddedDynamoDb, count: u64) -> Self {
        let client = clients::dynamodb(dynamodb.endpoint_url());
        let table = NewTable::new(TABLE, KeyShape::STRING).provisioned(1000, 1000);
        table.create(&client).await.unwrap();
        let generator = Generator::small(11, KeyShape::STRING);
        let items: Vec<Vec<u8>> = (0..count).map(|index| generator.item(index)).collect();
        dynamodb.import(TABLE, items.clone()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let engine = EmbeddedS3::start(folder.path()).await.unwrap();
        engine.create_bucket(BUCKET).await.unwrap();
        let account = Self {
            s3: FaultProxy::start(engine.endpoint_url(), 5).await.unwrap(),
            dynamodb,
            _s3_engine: engine,
            _bucket_folder: folder,
            items,
        };
        let control = account.clients().await.control_table(CONTROL_TABLE);
        assert!(control.ensure().await.unwrap());
        account
    }

    /// What a function of this account finds in its environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.endpoint_url()),
            ("AWS_ENDPOINT_URL_S3", self.s3.endpoint_url()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("HIGHWATER_CONTROL_TABLE", CONTROL_TABLE),
        ];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        owned.into()
    }

    /// One function, deployed with this environment.
    pub fn function_with(name: &str, environment: Vec<(String, String)>) -> Function {
        Function::new(FunctionSpec {
            name: name.to_owned(),
            bootstrap: binaries::path(name),
            arguments: Vec::new(),
            memory_mb: 1769,
            environment,
        })
    }

    /// One function, deployed.
    pub fn function(&self, name: &str) -> Function {
        Self::function_with(name, self.environment())
    }

    /// The whole stack, deployed.
    pub fn deploy(&self) -> Stack {
        Stack {
            plan: self.function("plan-backup"),
            scan: self.function("scan-segment"),
            finalize: self.function("finalize-backup"),
            limit: LONG,
        }
    }

    /// Clients of this account, as a test needs them.
    pub async fn clients(&self) -> Clients {
        let settings = ConnectionSettings {
            region: Some("us-east-1".into()),
            dynamodb_endpoint_url: Some(self.dynamodb.endpoint_url().into()),
            s3_endpoint_url: Some(self.s3.endpoint_url().into()),
            ..ConnectionSettings::default()
        };
        Clients::connect(&settings).await.unwrap()
    }

    /// An object of the snapshot: `backup.json`.
    pub async fn metadata(&self, id: &str) -> Value {
        let id: SnapshotId = id.parse().unwrap();
        let layout = Layout::new(PREFIX, TABLE, &id);
        let client = clients::s3(self.s3.endpoint_url());
        let object = client.get_object().bucket(BUCKET).key(layout.metadata());
        let body = object.send().await.unwrap().body.collect().await.unwrap();
        serde_json::from_slice(&body.into_bytes()).unwrap()
    }

    /// Reads the sealed snapshot as any reader would, compares it with the table, item by item, and
    /// gives its number of parts.
    pub async fn assert_backed_up(&self, id: &str) -> u64 {
        let id: SnapshotId = id.parse().unwrap();
        let store = Arc::new(self.clients().await.s3_store(BUCKET));
        let layout = Layout::new(PREFIX, TABLE, &id);
        let snapshot = SealedSnapshot::open(store, &layout, &id).await.unwrap();
        let mut found = Vec::new();
        let totals = snapshot
            .read(|item| found.push(canonical(item).to_string()))
            .await
            .unwrap();
        let mut expected: Vec<String> = self
            .items
            .iter()
            .map(|item| canonical(item).to_string())
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(totals.items, expected.len() as u64);
        assert!(
            found == expected,
            "the snapshot's items are not the table's"
        );
        totals.parts
    }
}

/// A request like the sample's, with more.
pub fn request(more: Value) -> Value {
    let mut request = json!({"table": TABLE, "to": format!("s3://{BUCKET}/{PREFIX}")});
    let Value::Object(more) = more else {
        panic!("members")
    };
    request.as_object_mut().unwrap().extend(more);
    request
}

/// A sample event, as it stands.
pub fn event(file: &str) -> Value {
    checkout::json(&format!("events/{file}.json")).unwrap()
}

/// The deployed functions, as Step Functions calls them.
pub struct Stack {
    pub plan: Function,
    pub scan: Function,
    pub finalize: Function,
    /// Every function's `Timeout`.
    pub limit: Duration,
}

impl Stack {
    fn named(&self, name: &str) -> &Function {
        match name {
            "plan-backup" => &self.plan,
            "scan-segment" => &self.scan,
            "finalize-backup" => &self.finalize,
            other => panic!("the state machine calls {other}"),
        }
    }

    /// Walks the deployed definition to its end.
    pub async fn execute(
        &self,
        request: Value,
        options: Options,
    ) -> Result<Value, ExecutionFailed> {
        let text = checkout::text("statemachine/backup.asl.json").unwrap();
        let arns = [
            ("PlanBackupFunctionArn", "plan-backup"),
            ("ScanSegmentFunctionArn", "scan-segment"),
            ("FinalizeBackupFunctionArn", "finalize-backup"),
        ];
        let arns: BTreeMap<String, String> =
            arns.map(|(name, value)| (name.into(), value.into())).into();
        let machine = StateMachine::parse(&text, &arns).unwrap();
        let execution = Execution {
            id: format!("execution-{:016x}", fastrand::u64(..)),
            start_time: SystemClock.now().to_rfc3339(),
        };
        walk(&machine, request, &execution, self, &options).await
    }

    /// Plans a backup and gives the plan.
    pub async fn plan(&self, request: Value) -> Value {
        let started_at = UnixMillis(1_768_385_930_622).to_rfc3339();
        let event =
            json!({"request": request, "execution_id": "execution", "started_at": started_at});
        self.plan.invoke(event, self.limit).await.unwrap()
    }

    /// Seals a snapshot that [`plan`](Self::plan) began; `done` or not.
    pub async fn finalize(&self, id: &Value) -> Result<Value, FunctionError> {
        let event = json!({"snapshot_id": id, "execution_id": "execution"});
        self.finalize.invoke(event, self.limit).await
    }
}

#[async_trait]
impl Tasks for Stack {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let answer = self.named(function).invoke(payload, self.limit).await;
        answer.map_err(|error| TaskError::new(&error.error_type, error.body().to_string()))
    }
}

/// Retries and waits of the state machine take no time.
pub fn at_once() -> Options {
    Options {
        clock: Arc::new(SkipPauses),
        ..Options::default()
    }
}
