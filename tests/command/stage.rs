//! The engines, the proxies in front of them, and the command as a child process.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use highwater_aws::{KvControlTable, S3Store};
use highwater_domain::control_table::ControlTable as _;
use highwater_domain::ids::SnapshotId;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::SnapshotRecord;
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3};
use highwater_testkit::clients;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::told::Told;

/// The bucket that is there.
pub const BUCKET: &str = "backups";
/// A destination in it.
pub const TO: &str = "s3://backups/daily";
/// The table that most tests back up.
pub const TABLE: &str = "orders";
/// The control table, unless a test names another.
pub const CONTROL: &str = "highwater";

/// No command here may take longer; a slow machine included.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Everything one test needs. Engines, proxies and folders end with it.
pub struct Stage {
    pub dynamodb: EmbeddedDynamoDb,
    pub s3: EmbeddedS3,
    pub dynamodb_proxy: FaultProxy,
    pub s3_proxy: FaultProxy,
    pub folder: TempDir,
    /// Clients around the proxies.
    pub direct: aws_sdk_dynamodb::Client,
    direct_s3: aws_sdk_s3::Client,
    bucket: Arc<dyn ObjectStore>,
}

impl Stage {
    /// Engines with an empty bucket and no table, behind proxies without rules.
    pub async fn start() -> Self {
        Self::seeded(1).await
    }

    /// The same with a seed for the proxies' faults.
    pub async fn seeded(seed: u64) -> Self {
        Self::over(EmbeddedDynamoDb::start().await.unwrap(), seed).await
    }

    /// The same over a DynamoDB of the test's own.
    pub async fn over(dynamodb: EmbeddedDynamoDb, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let s3 = EmbeddedS3::start(&folder.path().join("s3")).await.unwrap();
        s3.create_bucket(BUCKET).await.unwrap();
        let proxy = async |url: &str, seed| FaultProxy::start(url, seed).await.unwrap();
        let s3_client = clients::s3(s3.endpoint_url());
        Self {
            direct: clients::dynamodb(dynamodb.endpoint_url()),
            bucket: Arc::new(S3Store::new(s3_client.clone(), BUCKET)),
            direct_s3: s3_client,
            dynamodb_proxy: proxy(dynamodb.endpoint_url(), seed).await,
            s3_proxy: proxy(s3.endpoint_url(), seed + 1).await,
            dynamodb,
            s3,
            folder,
        }
    }

    /// The same with the table [`TABLE`] of `items` items.
    pub async fn with_items(items: u64) -> Self {
        let stage = Self::start().await;
        stage
            .fill(TABLE, &Generator::small(7, KeyShape::STRING), items)
            .await;
        stage
    }

    /// Makes a table and loads items.
    pub async fn fill(&self, table: &str, items: &Generator, count: u64) {
        let new = NewTable::new(table, items.shape());
        new.create(&self.direct).await.unwrap();
        let items = items.items(count).map(|item| item.json()).collect();
        let loaded = self.dynamodb.import(table, items).await.unwrap();
        assert_eq!(loaded as u64, count);
    }

    /// The command with its endpoints, through the proxies, and an environment that says nothing else.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = self.bare(highwater_tests::binaries::path("highwater"));
        command
            .args(arguments)
            .args(["--endpoint-url", self.dynamodb_proxy.endpoint_url()])
            .args(["--s3-endpoint-url", self.s3_proxy.endpoint_url()])
            .args(["--region", "eu-north-1"]);
        command
    }

    /// A program without our environment, so that no machine's settings change what is tested.
    pub fn bare(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path().join("home"))
            // The engines are local: a stream sees everything at once.
            .env("HIGHWATER_SETTLE_SECONDS", "0")
            // What a command puts beside itself goes with the test.
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the command to its end.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Told {
        finish(self.command(arguments)).await
    }

    /// Starts the command.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// The bucket, around the proxy.
    pub fn bucket(&self) -> Arc<dyn ObjectStore> {
        self.bucket.clone()
    }

    /// A control table, around the proxy.
    pub fn control(&self, name: &str) -> KvControlTable {
        KvControlTable::new(self.direct.clone(), name)
    }

    /// A snapshot's record, `None` also if there is no control table.
    pub async fn record(&self, control: &str, id: &SnapshotId) -> Option<SnapshotRecord> {
        if !self.tables().await.iter().any(|table| table == control) {
            return None;
        }
        let record = self.control(control).snapshot(id).await.unwrap();
        record.map(|record| record.value)
    }

    /// All keys in the bucket. Asked for without their encoding, of which the engine's is not to be trusted: it
    /// claims to have encoded what it has not.
    pub async fn keys(&self) -> Vec<String> {
        let listing = self.direct_s3.list_objects_v2().bucket(BUCKET);
        let page = listing.send().await.unwrap();
        assert_ne!(
            page.is_truncated(),
            Some(true),
            "more than a test should leave"
        );
        let objects = page.contents.unwrap_or_default().into_iter();
        objects.map(|object| object.key.unwrap()).collect()
    }

    /// All tables.
    pub async fn tables(&self) -> Vec<String> {
        self.direct
            .list_tables()
            .send()
            .await
            .unwrap()
            .table_names
            .unwrap_or_default()
    }

    /// How many rows the control table has; none if it is not there.
    pub async fn control_rows(&self) -> i32 {
        if !self.tables().await.iter().any(|table| table == CONTROL) {
            return 0;
        }
        let rows = self.direct.scan().table_name(CONTROL).consistent_read(true);
        rows.send().await.unwrap().count()
    }

    /// Nothing was claimed: the bucket is empty, and there is no table but [`TABLE`].
    pub async fn assert_untouched(&self) {
        assert_eq!(self.keys().await, [""; 0]);
        assert_eq!(self.tables().await, [TABLE]);
    }

    /// How many requests have come through the proxies.
    pub fn requests(&self) -> u64 {
        self.dynamodb_proxy.requests() + self.s3_proxy.requests()
    }
}

/// Waits for a command to end by itself.
pub async fn finish(mut command: Command) -> Told {
    told(command.spawn().unwrap()).await
}

/// Waits for a child to end by itself.
pub async fn told(child: Child) -> Told {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("the command ends").unwrap().into()
}

/// Waits until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// Every key below a prefix.
pub async fn keys_below(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, after.as_deref()).await.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
}

/// Sends a signal by its name.
pub async fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("the child runs").to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status().await;
    assert!(sent.unwrap().success(), "kill -s {name} {pid}");
}
