//! A Step Functions endpoint on a loopback port, in front of [`FakeExecutions`]: the wire of `AWSStepFunctions`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::executions::{ExecutionState, Executions as _, Start};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::fake_executions::FakeExecutions;

/// The server; it stops when dropped. Its executions go on.
#[derive(Debug)]
pub struct StepFunctionsServer {
    endpoint_url: String,
    server: JoinHandle<()>,
}

impl StepFunctionsServer {
    /// Serves this account.
    pub async fn start(account: FakeExecutions) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint_url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(accept(listener, Arc::new(account)));
        Ok(Self {
            endpoint_url,
            server,
        })
    }

    /// `http://127.0.0.1:PORT`, for an SDK's endpoint.
    #[must_use]
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }
}

impl Drop for StepFunctionsServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, account: Arc<FakeExecutions>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let account = Arc::clone(&account);
                connections.spawn(async move {
                    let service = service_fn(|request| answer(&account, request));
                    // A client that hangs up is a command that was killed.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(
    account: &FakeExecutions,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let target = request.headers().get("x-amz-target");
    let target = target.and_then(|value| value.to_str().ok());
    let operation = target
        .and_then(|target| target.strip_prefix("AWSStepFunctions."))
        .map(str::to_owned);
    let body = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answered = call(account, operation.as_deref().unwrap_or_default(), &body).await;
    let (status, body) = match answered {
        Ok(body) => (StatusCode::OK, body),
        Err(failure) => refusal(&failure),
    };
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/x-amz-json-1.0")
        .body(Full::from(body.to_string()));
    Ok(response.expect("a status and a constant header"))
}

/// `Code: message` of a failure, as the service writes it.
fn refusal(failure: &Failure) -> (StatusCode, Value) {
    let (code, message) = failure.message.split_once(": ").unwrap_or_default();
    let status = match failure.kind {
        FailureKind::Transient => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    (
        status,
        json!({"__type": format!("com.amazonaws.swf.service.v2.model#{code}"), "message": message}),
    )
}

async fn call(account: &FakeExecutions, operation: &str, body: &Value) -> Result<Value, Failure> {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let token = body["nextToken"].as_str();
    match operation {
        "ListStateMachines" => {
            let page = account.machines(token).await?;
            let machines: Vec<Value> = page
                .found
                .iter()
                .map(|it| {
                    json!({"name": it.name, "stateMachineArn": it.arn, "type": "STANDARD", "creationDate": 1_700_000_000})
                })
                .collect();
            Ok(paged("stateMachines", machines, page.next))
        }
        "ListTagsForResource" => {
            let tags = account.tags(text("resourceArn")).await?;
            let tag = |(key, value)| json!({"key": key, "value": value});
            Ok(json!({"tags": tags.into_iter().map(tag).collect::<Vec<Value>>()}))
        }
        "StartExecution" => start(account, body).await,
        "DescribeExecution" => {
            let arn = text("executionArn");
            let state = account.describe(arn).await?;
            state.map(|state| described(&state)).ok_or_else(|| {
                let message = format!("ExecutionDoesNotExist: Execution Does Not Exist: '{arn}'");
                Failure::new(FailureKind::NotFound, "DescribeExecution", arn, message)
            })
        }
        "ListExecutions" if text("statusFilter") == "RUNNING" => {
            let arn = text("stateMachineArn");
            let page = account.running(arn, token).await?;
            let executions: Vec<Value> = page
                .found
                .iter()
                .map(|it| {
                    json!({"executionArn": it.arn, "stateMachineArn": arn, "name": it.name, "status": "RUNNING",
                           "startDate": seconds(it.started_at)})
                })
                .collect();
            Ok(paged("executions", executions, page.next))
        }
        "StopExecution" => {
            let arn = text("executionArn");
            account.stop(arn, text("error"), text("cause")).await?;
            let state = account.describe(arn).await?;
            let at = state.and_then(|state| state.stopped_at);
            Ok(json!({"stopDate": seconds(at.unwrap_or_default())}))
        }
        other => Err(Failure::new(
            FailureKind::Invalid,
            "call",
            other,
            format!("UnknownOperationException: {other} is not served here"),
        )),
    }
}

async fn start(account: &FakeExecutions, body: &Value) -> Result<Value, Failure> {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let name = text("name");
    let started = account.start(text("stateMachineArn"), name, text("input"));
    match started.await? {
        Start::Started { arn, started_at } => {
            Ok(json!({"executionArn": arn, "startDate": seconds(started_at)}))
        }
        Start::NameTaken => Err(Failure::new(
            FailureKind::Invalid,
            "StartExecution",
            name,
            format!("ExecutionAlreadyExists: Execution Already Exists: '{name}'"),
        )),
    }
}

fn described(state: &ExecutionState) -> Value {
    let members = json!({
        "executionArn": state.arn,
        "stateMachineArn": state.machine_arn,
        "name": state.name,
        "status": state.status.as_str(),
        "startDate": seconds(state.started_at),
        "stopDate": state.stopped_at.map(seconds),
        "input": state.input,
        "error": state.error,
        "cause": state.cause,
    });
    let Value::Object(members) = members else {
        unreachable!("it is written as one")
    };
    Value::Object(
        members
            .into_iter()
            .filter(|(_, it)| !it.is_null())
            .collect(),
    )
}

fn paged(name: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut page = Map::new();
    page.insert(name.to_owned(), items.into());
    if let Some(next) = next {
        page.insert("nextToken".to_owned(), next.into());
    }
    page.into()
}

/// A moment as the service writes it: seconds, with milliseconds behind the point.
#[expect(clippy::cast_precision_loss, reason = "the wire's own form")]
fn seconds(at: UnixMillis) -> f64 {
    at.0 as f64 / 1000.0
}
