//! A group of leases in an embedded DynamoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Builder, Credentials, HttpClient, Region, RuntimeComponents,
};
use aws_sdk_dynamodb::error::ConnectorError;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use highwater_kv::{Store, Table, TableSpec};
use highwater_lease::{KvRows, LeaseId, Leases, NewLease, Position, SequenceNumber, Settings};
use highwater_local::EmbeddedDynamoDb;

use crate::hand_clock::{HandClock, TrueTime};

pub const GROUP: &str = "leases/orders";

/// An engine with a table, and the time by which its workers live.
pub struct Engine {
    dynamodb: EmbeddedDynamoDb,
    pub time: TrueTime,
}

impl Engine {
    pub async fn start() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await.expect("the engine starts");
        let engine = Self {
            dynamodb,
            time: TrueTime::default(),
        };
        let created = engine.table().create(&TableSpec::new()).await;
        created.expect("the table is created");
        engine
    }

    fn config(&self) -> Builder {
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(self.dynamodb.endpoint_url())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
    }

    pub fn table(&self) -> Table {
        table_by(self.config())
    }

    /// A worker whose requests may get lost. `tries`: how often the SDK sends one request.
    pub fn lossy_worker(&self, name: &str, tries: u32) -> (Leases, LossyClient) {
        let lossy = LossyClient::new();
        let retries = RetryConfig::standard()
            .with_initial_backoff(Duration::from_millis(1))
            .with_max_attempts(tries);
        let config = self
            .config()
            .http_client(lossy.clone())
            .retry_config(retries);
        let leases = worker_over(&table_by(config), name, self.time.clock(), usize::MAX);
        (leases, lossy)
    }

    pub fn worker(&self, name: &str) -> Leases {
        self.worker_with(name, self.time.clock(), usize::MAX)
    }

    pub fn worker_with(&self, name: &str, clock: HandClock, max_leases: usize) -> Leases {
        worker_over(&self.table(), name, clock, max_leases)
    }

    pub fn forward(&self, seconds: u64) {
        self.time.forward(Duration::from_secs(seconds));
    }
}

fn table_by(config: Builder) -> Table {
    Store::new(aws_sdk_dynamodb::Client::from_conf(config.build())).table("lease-table")
}

fn worker_over(table: &Table, name: &str, clock: HandClock, max_leases: usize) -> Leases {
    let settings = Settings {
        max_leases,
        ..Settings::default()
    };
    let rows = Arc::new(KvRows::new(table, GROUP));
    Leases::over(rows, Arc::new(clock), name, settings).expect("good settings")
}

pub fn id(name: &str) -> LeaseId {
    LeaseId::new(name).unwrap()
}

pub fn number(digits: &str) -> SequenceNumber {
    digits.parse().unwrap()
}

pub fn root(name: &str) -> NewLease {
    NewLease::root(id(name), Position::at(number("100")))
}

/// An HTTP client that performs requests, but loses as many answers as it is told to.
#[derive(Clone, Debug)]
pub struct LossyClient {
    inner: SharedHttpClient,
    to_pass: Arc<AtomicI64>,
    to_lose: Arc<AtomicI64>,
}

impl LossyClient {
    fn new() -> Self {
        Self {
            inner: aws_smithy_http_client::Builder::new().build_http(),
            to_pass: Arc::default(),
            to_lose: Arc::default(),
        }
    }

    /// Loses the next answers.
    pub fn lose(&self, answers: i64) {
        self.lose_after(0, answers);
    }

    /// Lets some answers pass, and loses those behind.
    pub fn lose_after(&self, passing: i64, answers: i64) {
        self.to_pass.store(passing, Ordering::SeqCst);
        self.to_lose.store(answers, Ordering::SeqCst);
    }
}

impl HttpClient for LossyClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(LossyConnector {
            inner: self.inner.http_connector(settings, components),
            to_pass: self.to_pass.clone(),
            to_lose: self.to_lose.clone(),
        })
    }
}

#[derive(Debug)]
struct LossyConnector {
    inner: SharedHttpConnector,
    to_pass: Arc<AtomicI64>,
    to_lose: Arc<AtomicI64>,
}

impl HttpConnector for LossyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.inner.call(request);
        let (to_pass, to_lose) = (self.to_pass.clone(), self.to_lose.clone());
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            if to_pass.fetch_sub(1, Ordering::SeqCst) <= 0
                && to_lose.fetch_sub(1, Ordering::SeqCst) > 0
            {
                return Err(ConnectorError::io("the connection was dropped".into()));
            }
            answer
        })
    }
}
