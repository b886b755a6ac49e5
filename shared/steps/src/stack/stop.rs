//! Stops an execution, and marks what it was making as failed, so that it can be resumed.
//!
//! `StopExecution` runs no Catch: nobody would ever mark the snapshot. So this does, by the step that the Catch would
//! have called ([`finalize_backup`], [`finalize_restore`]), and in an order in which any await may be the last:
//!
//! 1. *Mark.* Every state of the execution that begins from here on finds the mark and ends it, through its own
//!    Catch: whoever crashes now has stopped it all the same, only later.
//! 2. *Stop.* Ends the execution at once. Invocations that are under way go on to their own ends. What they commit is
//!    as good as if they had done so before, and none can seal what is marked.
//! 3. *Mark again,* for as long as there was nothing to mark: the plan's invocation may have been under way and write
//!    its record only now. Whoever crashes here leaves a record that says `running` and that nobody works for; a
//!    second stop of the same execution marks it, and a resume takes it up all the same.
//!
//! A stop may be repeated, also of an execution that has ended: what is sealed, and what another execution has taken
//! over, is left alone.

use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::executions::{ExecutionStatus, Executions};
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::restore::RestoreId;
use highwater_domain::snapshot::Status;
use tokio::time::sleep;

use crate::error::{ErrorName, StepError};
use crate::failure_input::FailureInput;
use crate::finalize_backup;
use crate::finalize_restore::{self, FinalizeRestoreInput};
use crate::restore_deps::RestoreDeps;
use crate::stack::{JobId, StackError, StackExecution};
use crate::status;

/// What became of the execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was stopped.
    Stopped,
    /// It had ended before.
    HadEnded(ExecutionStatus),
    /// What it was to make is complete; it ends by itself.
    Completed,
}

/// The end of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// What became of the execution.
    pub effect: Effect,
    /// Where its snapshot or restore is now; `None` if the execution had none when the patience ended, or has it no
    /// longer because another execution goes on with it.
    pub status: Option<Status>,
    /// Whether an invocation of its plan may still be under way and make one.
    pub may_begin: bool,
}

/// How long a function may go on after its execution has ended: the most that Lambda allows, and some.
const LONGEST_INVOCATION_MS: u64 = 15 * 60 * 1000 + 30_000;

/// Between two looks for a record.
const LOOK: Duration = Duration::from_millis(500);

/// Stops an execution. Waits at most `patience` for the record of one that was stopped in the middle of its plan.
pub async fn stop(
    executions: &dyn Executions,
    deps: &RestoreDeps,
    execution: &StackExecution,
    patience: Duration,
) -> Result<Stopped, StackError> {
    let ended = execution.state.status.has_ended();
    let marker = Marker { deps, execution };
    let effect = if ended {
        Effect::HadEnded(execution.state.status.clone())
    } else {
        // Whether it worked shows below, when it is tried again.
        let status = marker.mark().await.ok().flatten();
        if status == Some(Status::Completed) {
            return Ok(Stopped {
                effect: Effect::Completed,
                status,
                may_begin: false,
            });
        }
        end(executions, execution, status.is_some()).await?;
        Effect::Stopped
    };
    let stopped_at = match execution.state.stopped_at {
        Some(at) if ended => at,
        _ => deps.clock.now(),
    };
    if execution.state.status == ExecutionStatus::Succeeded {
        let status = marker.look().await.map_err(StackError::Step)?;
        return Ok(Stopped {
            effect,
            status,
            may_begin: false,
        });
    }
    let status = marker.mark_late(stopped_at, patience).await?;
    let is_over = deps.clock.now().since(stopped_at) >= LONGEST_INVOCATION_MS;
    Ok(Stopped {
        effect,
        may_begin: status.is_none() && execution.job.is_some() && !is_over,
        status,
    })
}

/// `StopExecution`; one that has just ended by itself is stopped, too.
async fn end(
    executions: &dyn Executions,
    execution: &StackExecution,
    marked: bool,
) -> Result<(), StackError> {
    let arn = &execution.state.arn;
    let Err(source) = executions.stop(arn, interrupted(), REASON).await else {
        return Ok(());
    };
    match executions.describe(arn).await {
        Ok(Some(state)) if state.status.has_ended() => Ok(()),
        _ => Err(StackError::NotStopped {
            execution: execution.state.name.clone(),
            marked: execution.job.clone().filter(|_| marked),
            source: Box::new(source),
        }),
    }
}

/// What `StopExecution` and the record say of the end.
fn interrupted() -> &'static str {
    ErrorName::Interrupted.as_str()
}

const REASON: &str = "stopped by `highwater stop`";

/// Marks what one execution makes.
struct Marker<'a> {
    deps: &'a RestoreDeps,
    execution: &'a StackExecution,
}

impl Marker<'_> {
    fn failed(&self, source: StepError) -> StackError {
        match self.execution.job.clone() {
            Some(job) => StackError::NotMarked {
                execution: self.execution.state.name.clone(),
                job,
                source: Box::new(source),
            },
            None => StackError::Step(source),
        }
    }

    /// Marks, and while there is nothing to mark, looks again.
    async fn mark_late(
        &self,
        stopped_at: UnixMillis,
        patience: Duration,
    ) -> Result<Option<Status>, StackError> {
        let began = tokio::time::Instant::now();
        loop {
            let is_over = self.deps.clock.now().since(stopped_at) >= LONGEST_INVOCATION_MS;
            let last = is_over || self.execution.job.is_none() || began.elapsed() >= patience;
            match self.mark().await {
                Ok(None) if !last => {}
                Ok(status) => return Ok(status),
                Err(StepError::Control(failure)) if failure.kind.is_retryable() && !last => {}
                Err(error) => return Err(self.failed(error)),
            }
            sleep(LOOK).await;
        }
    }

    /// Where the execution's own snapshot or restore is; `None` if it has none.
    async fn look(&self) -> Result<Option<Status>, StepError> {
        let arn = &self.execution.state.arn;
        match &self.execution.job {
            Some(JobId::Backup(id)) => {
                let known = self.deps.snapshots.control.snapshot(id).await;
                let known = known.map_err(StepError::Control)?;
                let ours = known.filter(|it| it.value.request_id == *arn);
                Ok(ours.map(|it| it.value.status))
            }
            Some(JobId::Restore(id)) => {
                let known = self.deps.restores.restore(id).await;
                let known = known.map_err(StepError::Control)?;
                let ours = known.filter(|it| it.value.request_id == *arn);
                Ok(ours.map(|it| it.value.status))
            }
            None => Ok(None),
        }
    }

    /// Marks it as failed, if it is there, this execution's, and not complete. Gives its status after that.
    async fn mark(&self) -> Result<Option<Status>, StepError> {
        let status = self.look().await?;
        match (&self.execution.job, status) {
            (Some(JobId::Backup(id)), Some(status)) => self.mark_backup(id, status).await,
            (Some(JobId::Restore(id)), Some(status)) => self.mark_restore(id, status).await,
            _ => Ok(None),
        }
    }

    async fn mark_backup(
        &self,
        id: &SnapshotId,
        status: Status,
    ) -> Result<Option<Status>, StepError> {
        let deps = &self.deps.snapshots;
        if status == Status::Failed {
            // The reason stays as it was. Whoever marked it may have died before `backup.json` said so.
            let record = status::load(deps, id).await?.value;
            let store = status::open_store(deps, &record)?;
            status::project(deps, store.as_ref(), id).await?;
            return Ok(Some(status));
        }
        if status == Status::Completed {
            return Ok(Some(status));
        }
        let execution = Some(self.execution.state.arn.as_str());
        finalize_backup::fail(deps, id, execution, &reason()).await
    }

    async fn mark_restore(
        &self,
        id: &RestoreId,
        status: Status,
    ) -> Result<Option<Status>, StepError> {
        if status == Status::Completed {
            return Ok(Some(status));
        }
        // Of one that is marked, it changes nothing but what may have been left undone.
        let input = FinalizeRestoreInput {
            restore_id: Some(id.clone()),
            execution_id: Some(self.execution.state.arn.clone()),
            failure: Some(reason()),
            ..FinalizeRestoreInput::default()
        };
        let ended = finalize_restore::run(self.deps, &input, Budget::UNLIMITED).await?;
        Ok(ended.status)
    }
}

fn reason() -> FailureInput {
    FailureInput {
        error: interrupted().to_owned(),
        cause: REASON.to_owned(),
    }
}
