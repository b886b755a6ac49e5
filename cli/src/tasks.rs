//! The steps in the place of Lambda: what the state machine's Task states call here.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use highwater_asl::{TaskError, Tasks};
use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_lambda::StepFailure;
use highwater_steps::{
    Deps, ErrorName, RestoreDeps, StepError, StopFlag, finalize_backup, finalize_restore, fold_log,
    load_part, plan_backup, plan_restore, scan_segment, scatter_log,
};
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
    scans: Branches,
}

impl StepTasks {
    /// Steps over these ports.
    pub fn new(deps: Deps) -> Self {
        let scans = Branches::new(deps.stop.clone());
        Self { deps, scans }
    }
}

/// Runs the steps of the restore workflow in this process.
#[derive(Debug)]
pub struct RestoreTasks {
    deps: RestoreDeps,
    /// Of the Map that is at work: one ends before the next begins.
    branches: Branches,
}

impl RestoreTasks {
    /// Steps over these ports.
    pub fn new(deps: RestoreDeps) -> Self {
        let branches = Branches::new(deps.stop.clone());
        Self { deps, branches }
    }
}

/// The time of an invocation that begins now.
fn budget(now: UnixMillis) -> Budget {
    Budget::until(UnixMillis(now.0 + INVOCATION_MS), now)
}

/// The branches of a Map that are at work.
#[derive(Debug)]
struct Branches {
    stop: StopFlag,
    running: AtomicUsize,
    ended: Notify,
}

impl Branches {
    fn new(stop: StopFlag) -> Self {
        Self {
            stop,
            running: AtomicUsize::new(0),
            ended: Notify::new(),
        }
    }

    /// One branch's step. After a stop it ends only when every other one has committed what it holds: the first
    /// failure of a Map ends them all, and their last work would have to be done again.
    async fn run<I, O, F>(
        &self,
        payload: Value,
        step: impl FnOnce(I) -> F + Send,
    ) -> Result<Value, TaskError>
    where
        I: DeserializeOwned,
        O: Serialize + Send + 'static,
        F: Future<Output = Result<O, StepError>> + Send + 'static,
    {
        self.running.fetch_add(1, Ordering::AcqRel);
        let running = Running(self);
        let outcome = run(payload, async |input| {
            // A task of its own, so that branches use every core; it ends with this future.
            let mut task = AbortOnDrop(tokio::spawn(step(input)));
            (&mut task.0)
                .await
                .unwrap_or_else(|error| Err(StepError::Internal(error.to_string())))
        })
        .await;
        drop(running);
        if outcome.is_err() && self.stop.is_set() {
            self.all_ended().await;
        }
        outcome
    }

    async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

struct Running<'a>(&'a Branches);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
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
        let budget = budget(deps.clock.now());
        match function {
            "PlanBackupFunctionArn" => {
                run(payload, async |input| plan_backup::run(deps, &input).await).await
            }
            "ScanSegmentFunctionArn" => {
                let deps = deps.clone();
                let scan = |input| async move { scan_segment::run(&deps, &input, budget).await };
                self.scans.run(payload, scan).await
            }
            "FinalizeBackupFunctionArn" => {
                run(payload, async |input| {
                    finalize_backup::run(deps, &input, budget).await
                })
                .await
            }
            other => Err(no_function(other)),
        }
    }
}

#[async_trait]
impl Tasks for RestoreTasks {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let deps = &self.deps;
        let budget = budget(deps.clock.now());
        match function {
            "PlanRestoreFunctionArn" => {
                run(payload, async |input| {
                    plan_restore::run(deps, &input, budget).await
                })
                .await
            }
            "ScatterLogFunctionArn" => {
                let deps = deps.clone();
                let scatter = |input| async move { scatter_log::run(&deps, &input, budget).await };
                self.branches.run(payload, scatter).await
            }
            "FoldLogFunctionArn" => {
                let deps = deps.clone();
                let fold = |input| async move { fold_log::run(&deps, &input, budget).await };
                self.branches.run(payload, fold).await
            }
            "LoadPartFunctionArn" => {
                let deps = deps.clone();
                let load = |input| async move { load_part::run(&deps, &input, budget).await };
                self.branches.run(payload, load).await
            }
            "FinalizeRestoreFunctionArn" => {
                run(payload, async |input| {
                    finalize_restore::run(deps, &input, budget).await
                })
                .await
            }
            other => Err(no_function(other)),
        }
    }
}

fn no_function(name: &str) -> TaskError {
    TaskError::new(
        "Lambda.ResourceNotFoundException",
        format!("no function {name}"),
    )
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
