//! Runs a function's own `bootstrap` as Lambda does: one process per sandbox, fed over the Runtime API.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>. Deadlines are true moments in epoch
//! milliseconds, a process that overruns its time is killed, one that ends is a function error, and any
//! process can be killed at any point. Sandboxes listen on and talk to loopback only.
//!
//! Unlike Lambda, dropping the future of [`Function::invoke`] kills the process that it waits for, so
//! that no test leaves one behind.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;

use sandbox::{Ended, Live, Process, Sandbox};

mod api;
mod sandbox;
#[cfg(test)]
mod tests;

/// The most bytes of a payload, either way: 6 MB.
const PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// A function to run.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    /// `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: String,
    /// The program: `bootstrap` of a deployment, `target/debug/plan-backup` of a build.
    pub bootstrap: PathBuf,
    /// Its arguments; Lambda gives none.
    pub arguments: Vec<OsString>,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, MB. It is told, not enforced.
    pub memory_mb: u32,
    /// Variables beside and over those that Lambda sets. Nothing else is inherited but `PATH`.
    pub environment: Vec<(String, String)>,
}

/// A failed invocation, as Lambda answers it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{error_type}: {message}")]
pub struct FunctionError {
    /// `errorType`: the function's own, or `Sandbox.Timedout`, `Runtime.ExitError`,
    /// `Runtime.InvalidEntrypoint`, `Function.ResponseSizeTooLarge`, `RequestEntityTooLarge`.
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
}

impl FunctionError {
    fn new(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.to_owned(),
            message: message.into(),
        }
    }

    /// The body of Lambda's answer, which Step Functions passes on as the error's cause.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({"errorType": self.error_type, "errorMessage": self.message})
    }

    /// Reads what a runtime posts to `/error`.
    fn posted(headers: &HeaderMap, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let header = headers
            .get("lambda-runtime-function-error-type")
            .and_then(|value| value.to_str().ok());
        let error_type = body["errorType"].as_str().or(header);
        Self::new(
            error_type.unwrap_or("Unhandled"),
            body["errorMessage"].as_str().unwrap_or_default(),
        )
    }
}

/// A function that can be invoked, any number of times at once: each invocation has a sandbox to
/// itself, an idle one if there is one. All of its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Function {
    spec: FunctionSpec,
    idle: Mutex<Vec<Sandbox>>,
    live: Arc<Live>,
    starts: AtomicU64,
    output: Arc<watch::Sender<String>>,
    told_deadline_ms: Option<u64>,
}

impl Function {
    /// A function without a process: the first invocation starts one.
    #[must_use]
    pub fn new(spec: FunctionSpec) -> Self {
        Self {
            spec,
            idle: Mutex::default(),
            live: Arc::default(),
            starts: AtomicU64::new(0),
            output: Arc::new(watch::Sender::new(String::new())),
            told_deadline_ms: None,
        }
    }

    /// Tells this as every invocation's deadline, in milliseconds since 1970, whatever the true one is.
    ///
    /// `cargo lambda watch` 1.9 does so, with 600,000.
    #[must_use]
    pub fn telling_deadline(mut self, ms: u64) -> Self {
        self.told_deadline_ms = Some(ms);
        self
    }

    /// Invokes the function and waits for its answer, at most for `limit` from when it takes the event.
    pub async fn invoke(&self, payload: Value, limit: Duration) -> Result<Value, FunctionError> {
        let payload = Bytes::from(payload.to_string());
        if payload.len() > PAYLOAD_BYTES {
            let message = format!("{} bytes; {PAYLOAD_BYTES} are the most", payload.len());
            return Err(FunctionError::new("RequestEntityTooLarge", message));
        }
        loop {
            let reused = lock(&self.idle).pop();
            let warm = reused.is_some();
            let mut sandbox = match reused {
                Some(sandbox) => sandbox,
                None => self.start().await?,
            };
            match sandbox.invoke(payload.clone(), limit).await {
                Ended::Answered(answer) => {
                    lock(&self.idle).push(sandbox);
                    return answer;
                }
                // It died while it was idle and never saw the event: another may have it.
                Ended::Unseen(_) if warm => {}
                Ended::Unseen(error) | Ended::Dead(error) => return Err(error),
            }
        }
    }

    /// Kills every process of this function with SIGKILL and returns once they are gone: how many.
    /// Invocations under way end with `Runtime.ExitError`.
    pub async fn kill(&self) -> usize {
        let processes: Vec<Process> = lock(&self.live.0).values().cloned().collect();
        for process in &processes {
            process.kill.notify_one();
        }
        for process in &processes {
            process.exited().await;
        }
        lock(&self.idle).retain(|sandbox| sandbox.process.exit.borrow().is_none());
        processes.len()
    }

    /// The ids of the processes that are alive.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let live = lock(&self.live.0);
        live.values().filter_map(|process| process.id).collect()
    }

    /// How many processes were started so far: cold starts.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }

    /// What its processes have written to standard output and standard error so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.borrow().clone()
    }

    /// Returns when a process has written this text, or at once if one has already.
    pub async fn wrote(&self, text: &str) {
        let mut output = self.output.subscribe();
        // The sender lives as long as `self`, so waiting ends with the text only.
        let _ = output.wait_for(|written| written.contains(text)).await;
    }

    async fn start(&self) -> Result<Sandbox, FunctionError> {
        let number = self.starts.fetch_add(1, Ordering::SeqCst);
        Sandbox::start(
            &self.spec,
            number,
            &self.live,
            &self.output,
            self.told_deadline_ms,
        )
        .await
        .map_err(|error| {
            let message = format!("{}: {error}", self.spec.bootstrap.display());
            FunctionError::new("Runtime.InvalidEntrypoint", message)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
