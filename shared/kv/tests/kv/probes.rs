//! What the tests look through: a clock set by hand, the requests as they were sent, answers that get lost.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, HttpClient, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ConnectorError};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

/// A clock that stands still until it is moved.
#[derive(Clone, Debug)]
pub struct HandClock(Arc<AtomicU64>);

impl HandClock {
    /// A second since 1970 to begin with.
    pub const START: i64 = 1_800_000_000;

    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(Self::START.unsigned_abs())))
    }

    pub fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn back(&self, seconds: u64) {
        self.0.fetch_sub(seconds, Ordering::SeqCst);
    }

    pub fn reader(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let clock = self.0.clone();
        move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
    }
}

/// Keeps every request: DynamoDB's name for it, and its JSON.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<Vec<(String, serde_json::Value)>>>);

impl Requests {
    pub fn take(&self) -> Vec<(String, serde_json::Value)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Intercept for Requests {
    fn name(&self) -> &'static str {
        "requests"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _runtime_components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let name = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default())?;
        self.0.lock().unwrap().push((name, body));
        Ok(())
    }
}

/// An HTTP client that performs requests, but loses as many answers as it is told to.
#[derive(Clone, Debug)]
pub struct LossyClient {
    inner: SharedHttpClient,
    to_lose: Arc<AtomicI64>,
}

impl LossyClient {
    pub fn new() -> Self {
        Self {
            inner: aws_smithy_http_client::Builder::new().build_http(),
            to_lose: Arc::default(),
        }
    }

    pub fn lose(&self, answers: i64) {
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
            to_lose: self.to_lose.clone(),
        })
    }
}

#[derive(Debug)]
struct LossyConnector {
    inner: SharedHttpConnector,
    to_lose: Arc<AtomicI64>,
}

impl HttpConnector for LossyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.inner.call(request);
        let to_lose = self.to_lose.clone();
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            if to_lose.fetch_sub(1, Ordering::SeqCst) > 0 {
                return Err(ConnectorError::io("the connection was dropped".into()));
            }
            answer
        })
    }
}
