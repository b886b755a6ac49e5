//! The Runtime API of one sandbox, over HTTP.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{FunctionError, PAYLOAD_BYTES, lock};

/// Where the API's paths begin.
pub(super) const API: &str = "/2018-06-01/runtime";

type Answered = Result<Response<Full<Bytes>>, hyper::http::Error>;

type Reply = oneshot::Sender<Result<Value, FunctionError>>;

/// One event on its way to the process.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) payload: Bytes,
    pub(super) limit: Duration,
    pub(super) taken: oneshot::Sender<Instant>,
    pub(super) reply: Reply,
}

/// The Runtime API of one sandbox.
#[derive(Debug)]
pub(super) struct Api {
    arn: String,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    pending: Mutex<Option<(String, Reply)>>,
    init: watch::Sender<Option<FunctionError>>,
    told_deadline_ms: Option<u64>,
}

/// Accepts connections until it is aborted, and with it every connection.
pub(super) async fn listen(listener: TcpListener, api: Arc<Api>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let api = Arc::clone(&api);
                connections.spawn(async move {
                    let service = service_fn(|request| api.answer(request));
                    // A connection that breaks off is a process that ended; its exit is reported.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Api {
    /// The API of the function called `name`: hands out what comes on `waiting`, reports to `init`.
    pub(super) fn new(
        name: &str,
        waiting: mpsc::Receiver<Event>,
        init: watch::Sender<Option<FunctionError>>,
        told_deadline_ms: Option<u64>,
    ) -> Self {
        Self {
            arn: format!("arn:aws:lambda:us-east-1:123456789012:function:{name}"),
            waiting: tokio::sync::Mutex::new(waiting),
            pending: Mutex::default(),
            init,
            told_deadline_ms,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answered {
        let method = request.method().clone();
        let path = request.uri().path().strip_prefix(API).map(str::to_owned);
        let path: Vec<&str> = path.as_deref().unwrap_or_default().split('/').collect();
        match (&method, path.as_slice()) {
            (&Method::GET, ["", "invocation", "next"]) => self.next().await,
            (&Method::POST, ["", "invocation", id, "response"]) => self.response(id, request).await,
            (&Method::POST, ["", "invocation", id, "error"]) => {
                let headers = request.headers().clone();
                let error = match body(request).await {
                    Ok(body) => FunctionError::posted(&headers, &body),
                    Err(error) => error,
                };
                self.reply(id, Err(error))
            }
            (&Method::POST, ["", "init", "error"]) => {
                let headers = request.headers().clone();
                let error = match body(request).await {
                    Ok(body) => FunctionError::posted(&headers, &body),
                    Err(error) => error,
                };
                self.init.send_replace(Some(error));
                accepted()
            }
            _ => refused(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    /// The next event, however long it takes to come.
    async fn next(&self) -> Answered {
        let event = self.waiting.lock().await.recv().await;
        let Some(event) = event else {
            return refused(StatusCode::GONE, "SandboxEnded");
        };
        let deadline = SystemTime::now() + event.limit;
        let true_ms = deadline
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let deadline_ms = self.told_deadline_ms.map_or(true_ms, u128::from);
        let response = Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .header("Lambda-Runtime-Aws-Request-Id", &event.id)
            .header("Lambda-Runtime-Deadline-Ms", deadline_ms.to_string())
            .header("Lambda-Runtime-Invoked-Function-Arn", &self.arn)
            .header("Lambda-Runtime-Trace-Id", trace_id())
            .body(Full::new(event.payload))?;
        *lock(&self.pending) = Some((event.id, event.reply));
        // Nobody waits for it any more if the invocation was dropped; then the process dies too.
        let _ = event.taken.send(Instant::now() + event.limit);
        Ok(response)
    }

    async fn response(&self, id: &str, request: Request<Incoming>) -> Answered {
        let answer = match body(request).await {
            Ok(body) => serde_json::from_slice(&body).map_err(|error| {
                FunctionError::new(
                    "Runtime.MarshalError",
                    format!("the answer is not JSON: {error}"),
                )
            }),
            Err(error) => Err(error),
        };
        self.reply(id, answer)
    }

    /// Passes the answer on, if it is one to the event under way.
    fn reply(&self, id: &str, answer: Result<Value, FunctionError>) -> Answered {
        let reply = lock(&self.pending).take_if(|(pending, _)| pending == id);
        match reply {
            Some((_, reply)) => {
                let _ = reply.send(answer);
                accepted()
            }
            None => refused(StatusCode::BAD_REQUEST, "InvalidRequestID"),
        }
    }
}

/// The whole body of a request, up to the size that Lambda takes.
async fn body(request: Request<Incoming>) -> Result<Bytes, FunctionError> {
    match Limited::new(request.into_body(), PAYLOAD_BYTES)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            let message = format!("{error}; {PAYLOAD_BYTES} bytes are the most");
            Err(FunctionError::new("Function.ResponseSizeTooLarge", message))
        }
    }
}

fn trace_id() -> String {
    format!(
        "Root=1-{:08x}-{:024x};Parent={:016x};Sampled=0",
        fastrand::u32(..),
        fastrand::u128(..) >> 32,
        fastrand::u64(..)
    )
}

fn accepted() -> Answered {
    Response::builder()
        .status(StatusCode::ACCEPTED)
        .body(Full::from(r#"{"status":"OK"}"#))
}

fn refused(status: StatusCode, error_type: &str) -> Answered {
    let body = json!({"errorType": error_type, "errorMessage": "this sandbox has no such thing"});
    Response::builder()
        .status(status)
        .body(Full::from(body.to_string()))
}
