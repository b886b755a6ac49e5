//! Backups as Step Functions drives them: retries, double invocations, sandboxes that die in the middle.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::snapshot::Status;
use highwater_steps::deps::{Deps, SnapshotDeps, Unobserved};
use highwater_steps::error::{ErrorName, StepError};
use highwater_steps::failure_input::FailureInput;
use highwater_steps::finalize_backup::{self, FinalizeInput};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::plan_backup::{self, PlanInput};
use highwater_steps::request::BackupRequest;
use highwater_steps::scan_segment::{self, ScanInput};
use highwater_testkit::simulation::{Wired, WiredControl};
use tokio::time::{sleep, timeout};

use super::plan::Plan;
use super::quiet::Quiet;
use super::world::{DESTINATION, TABLE, Worker, World};

/// What became of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub id: SnapshotId,
    pub status: Option<Status>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// One execution of the state machine.
pub struct Execution {
    pub world: World,
    pub plan: Plan,
    pub quiet: Quiet,
    pub number: u32,
    pub random: fastrand::Rng,
}

/// What becomes of one task of a state.
enum Failed {
    /// It was killed, or failed in passing: it is tried again.
    Passing,
    ForGood(StepError),
}

/// The ports of the backup, for one sandbox.
pub fn deps(worker: &Worker) -> Deps {
    let live = worker.live();
    let table = Arc::new(Wired::new(&worker.world.table, &worker.wire));
    Deps {
        scanner: worker.scanner(),
        describer: table.clone(),
        admin: table,
        pace: Arc::new(Pace::new(live.clock.clone(), Share::Invocation)),
        snapshots: SnapshotDeps {
            stores: worker.stores(),
            control: Arc::new(WiredControl::new(&worker.world.control, &worker.wire)),
            clock: live.clock.clone(),
            observer: Arc::new(Unobserved),
            stop: worker.stop.clone(),
        },
        live,
    }
}

impl Execution {
    /// Runs to its end.
    pub async fn run(mut self) -> Outcome {
        let input = PlanInput {
            request: BackupRequest {
                table: Some(TABLE.parse().unwrap()),
                to: Some(DESTINATION.to_owned()),
                segments: Some(self.random.u32(1..4)),
                concurrency: Some(2),
                part_bytes: Some(1000),
                ..BackupRequest::default()
            },
            execution_id: format!("execution-{}", self.number),
            started_at: self.world.time.now().to_rfc3339(),
        };
        let id = input.snapshot_id().unwrap();
        match self.states(&input).await {
            Ok(status) => Outcome {
                id,
                status: Some(status),
                error: None,
            },
            Err(error) => {
                let told = error.to_string();
                let status = self.fail(&input, &error).await;
                Outcome {
                    id,
                    status,
                    error: Some(told),
                }
            }
        }
    }

    async fn states(&mut self, input: &PlanInput) -> Result<Status, StepError> {
        let planned = self
            .task("plan", 90_000, |deps, _| {
                let input = input.clone();
                async move { plan_backup::run(&deps, &input).await }
            })
            .await?;
        for segment in planned.segments {
            let mut input = ScanInput {
                snapshot_id: planned.snapshot_id.clone(),
                segment,
            };
            loop {
                let output = self
                    .task("scan", 60_000, |deps, budget| {
                        let input = input.clone();
                        async move { scan_segment::run(&deps, &input, budget).await }
                    })
                    .await?;
                if output.done {
                    break;
                }
                input.segment = output.segment;
            }
        }
        loop {
            let output = self
                .task("finalize", 60_000, |deps, budget| {
                    let input = FinalizeInput {
                        snapshot_id: Some(planned.snapshot_id.clone()),
                        execution_id: Some(input.execution_id.clone()),
                        ..FinalizeInput::default()
                    };
                    async move { finalize_backup::run(&deps, &input, budget).await }
                })
                .await?;
            if output.done {
                return Ok(output.status.unwrap());
            }
        }
    }

    async fn fail(&mut self, input: &PlanInput, error: &StepError) -> Option<Status> {
        let told = error.to_string();
        let name = format!("{:?}", error.name());
        let failed = self
            .task("finalize", 60_000, |deps, budget| {
                let input = FinalizeInput {
                    execution_id: Some(input.execution_id.clone()),
                    started_at: Some(input.started_at.clone()),
                    request: Some(input.request.clone()),
                    failure: Some(FailureInput {
                        error: name.clone(),
                        cause: told.clone(),
                    }),
                    ..FinalizeInput::default()
                };
                async move { finalize_backup::run(&deps, &input, budget).await }
            })
            .await;
        failed.ok().and_then(|output| output.status)
    }

    /// One state: tried until it ends, sometimes by two sandboxes at once.
    async fn task<T, F, W>(&mut self, name: &str, timeout_ms: u64, work: W) -> Result<T, StepError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StepError>> + Send + 'static,
        W: Fn(Deps, Budget) -> F,
    {
        loop {
            let goes_wrong = self.quiet.or(self.plan.trouble).late_ms > 0;
            let doubled = goes_wrong && self.random.u8(..6) == 0;
            let double = doubled.then(|| tokio::spawn(self.attempt(name, timeout_ms, &work)));
            let first = self.attempt(name, timeout_ms, &work).await;
            // The other one goes on meanwhile, and is not waited for.
            drop(double);
            match first {
                Ok(output) => return Ok(output),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::Passing) => {
                    sleep(Duration::from_millis(self.random.u64(500..8_000))).await;
                }
            }
        }
    }

    fn attempt<T, F, W>(
        &mut self,
        name: &str,
        timeout_ms: u64,
        work: &W,
    ) -> impl Future<Output = Result<T, Failed>> + Send + 'static + use<T, F, W>
    where
        F: Future<Output = Result<T, StepError>> + Send + 'static,
        W: Fn(Deps, Budget) -> F,
    {
        let trouble = self.quiet.or(self.plan.trouble);
        let worker = self.world.worker(name, self.random.u64(..), trouble);
        let deps = deps(&worker);
        let now = deps.clock.now();
        let budget = Budget::until(UnixMillis(now.0 + timeout_ms), now);
        let is_killed = trouble.late_ms > 0 && self.random.u8(..8) == 0;
        let limit = match is_killed {
            true => self.random.u64(..5_000),
            // A plan may have to wait for a listing for five minutes, and has no checkpoint.
            false if name == "plan" => 900_000,
            false => timeout_ms,
        };
        let work = Box::pin(work(deps, budget));
        async move {
            match timeout(Duration::from_millis(limit), work).await {
                Ok(Ok(output)) => Ok(output),
                Ok(Err(error)) if is_passing(&error) => Err(Failed::Passing),
                Ok(Err(error)) => Err(Failed::ForGood(error)),
                Err(_) => Err(Failed::Passing),
            }
        }
    }
}

/// What the state machine tries again.
fn is_passing(error: &StepError) -> bool {
    matches!(
        error.name(),
        ErrorName::Throttled | ErrorName::TransientAws | ErrorName::LeaseLost
    )
}
