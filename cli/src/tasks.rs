//! The steps in the place of Lambda: what the state machine's Task states call here.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use highwater_asl::{TaskError, Tasks};
use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_lambda::StepFailure;
use highwater_steps::{Deps, ErrorName, StepError, finalize_backup, plan_backup, scan_segment};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// An invocation lasts no longer than Lambda would let it, because the state machine's time-outs expect that;
/// a step that has not finished by then hands off to its next round, here as there.
const INVOCATION_MS: u64 = 15 * 60 * 1000;

/// Runs the steps of the backup workflow in this process.
#[derive(Debug)]
pub struct StepTasks {
    deps: Deps,
    scans: AtomicUsize,
    scan_ended: Notify,
}

impl StepTasks {
    /// Steps over these ports.
    pub fn new(deps: Deps) -> Self {
        Self {
            deps,
            scans: AtomicUsize::new(0),
            scan_ended: Notify::new(),
        }
    }

    /// One scan. After a stop it ends only when every other one has committed what it holds: the first
    /// failure of a Map ends them all, and their last part would have to be scanned again.
    async fn scan(&self, payload: Value) -> Result<Value, TaskError> {
        self.scans.fetch_add(1, Ordering::AcqRel);
        let running = Running(self);
        let outcome = run(payload, async |input| {
            // A task of its own, so that scans use every core; it ends with this future.
            let deps = self.deps.clone();
            let budget = self.budget();
            let mut scan = AbortOnDrop(tokio::spawn(async move {
                scan_segment::run(&deps, &input, budget).await
            }));
            (&mut scan.0)
                .await
                .unwrap_or_else(|error| Err(StepError::Internal(error.to_string())))
        })
        .await;
        drop(running);
        if outcome.is_err() && self.deps.stop.is_set() {
            self.all_scans_ended().await;
        }
        outcome
    }

    /// The time of an invocation that begins now.
    fn budget(&self) -> Budget {
        let now = self.deps.clock.now();
        Budget::until(UnixMillis(now.0 + INVOCATION_MS), now)
    }

    async fn all_scans_ended(&self) {
        loop {
            let ended = self.scan_ended.notified();
            if self.scans.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

struct Running<'a>(&'a StepTasks);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.scans.fetch_sub(1, Ordering::AcqRel);
        self.0.scan_ended.notify_waiters();
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl Tasks for StepTasks {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let deps = &self.deps;
        match function {
            "PlanBackupFunctionArn" => {
                run(payload, async |input| plan_backup::run(deps, &input).await).await
            }
            "ScanSegmentFunctionArn" => self.scan(payload).await,
            "FinalizeBackupFunctionArn" => {
                run(payload, async |input| {
                    finalize_backup::run(deps, &input, self.budget()).await
                })
                .await
            }
            other => Err(TaskError::new(
                "Lambda.ResourceNotFoundException",
                format!("no function {other}"),
            )),
        }
    }
}

/// One step as Lambda would run it: JSON in, JSON or a named error out.
async fn run<I: DeserializeOwned, O: Serialize>(
    payload: Value,
    step: impl AsyncFnOnce(I) -> Result<O, StepError>,
) -> Result<Value, TaskError> {
    let failed = |failure: StepFailure| {
        let cause = json!({"errorType": failure.name.as_str(), "errorMessage": failure.message});
        TaskError::new(failure.name.as_str(), cause.to_string())
    };
    let input = serde_json::from_value(payload).map_err(|error| {
        failed(StepFailure {
            name: ErrorName::InvalidInput,
            message: error.to_string(),
        })
    })?;
    let output = step(input)
        .await
        .map_err(|error| failed(StepFailure::from(&error)))?;
    serde_json::to_value(output).map_err(|error| {
        failed(StepFailure {
            name: ErrorName::Internal,
            message: error.to_string(),
        })
    })
}
