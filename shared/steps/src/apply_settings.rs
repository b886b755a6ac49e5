//! Makes the settings that come after the load, in the plan's order.
//!
//! Each change is made if the table is not yet as it asks for, so that the list can be gone through again from its
//! start whenever a step broke off. DynamoDB makes one change to a table at a time, hence the waits between them.

use highwater_domain::budget::Budget;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::restore::RestoreRecord;
use highwater_domain::table::TableSettings;
use highwater_domain::table_admin::TableChange;
use highwater_domain::table_plan::NotRestored;

use crate::error::StepError;
use crate::restore_deps::RestoreDeps;
use crate::table_wait::{Condition, Pause, TableWait, condition};

/// What became of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether the end of the list was reached and the table is active; otherwise call again.
    pub done: bool,
    /// Those that the service refused for good, with its reason. Whole only when `done`.
    pub refused: Vec<NotRestored>,
}

/// Makes the changes of `record`'s plan that come after the load.
///
/// # Errors
/// [`StepError::TargetChanged`] if the table is not the one that was filled; a failure that may pass, after some
/// minutes of retries. A change that is refused for good is no error.
pub async fn run(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    budget: Budget,
) -> Result<Applied, StepError> {
    let wait = TableWait {
        deps,
        record,
        budget,
    };
    apply(&wait, &record.table_plan.after_load).await
}

/// Makes these changes.
pub(crate) async fn apply(
    wait: &TableWait<'_>,
    changes: &[TableChange],
) -> Result<Applied, StepError> {
    let mut applied = Applied::default();
    if changes.is_empty() {
        applied.done = true;
        return Ok(applied);
    }
    for change in changes {
        match make(wait, change).await? {
            Made::Yes => {}
            Made::Refused(failure) => applied.refused.push(NotRestored::new(
                change.what.clone(),
                format!("{} was refused: {}", failure.operation, failure.message),
            )),
            Made::OutOfTime => return Ok(applied),
        }
    }
    loop {
        let settings = target(wait).await?;
        if state(wait, &settings)? == Condition::Settled {
            applied.done = true;
            return Ok(applied);
        }
        if wait.pause().await? == Pause::OutOfTime {
            return Ok(applied);
        }
    }
}

/// What became of one change.
enum Made {
    Yes,
    Refused(Failure),
    OutOfTime,
}

async fn make(wait: &TableWait<'_>, change: &TableChange) -> Result<Made, StepError> {
    let mut retry = 0;
    loop {
        let settings = target(wait).await?;
        if change.is_in_force(&settings) {
            return Ok(Made::Yes);
        }
        let pause = if state(wait, &settings)? == Condition::Busy {
            wait.pause().await?
        } else {
            let arn = settings.arn().map_err(|source| wait.garbled(source))?;
            let failure = match wait.deps.admin.change(&change.addressed_to(arn)).await {
                Ok(()) => return Ok(Made::Yes),
                Err(failure) if is_final(&failure) => return Ok(Made::Refused(failure)),
                Err(failure) => failure,
            };
            retry += 1;
            wait.pause_before_retry(failure, retry - 1).await?
        };
        if pause == Pause::OutOfTime {
            return Ok(Made::OutOfTime);
        }
    }
}

/// Whether no repetition and no other network would help.
fn is_final(failure: &Failure) -> bool {
    !failure.kind.is_retryable() && failure.kind != FailureKind::Unreachable
}

/// The target as it is, if it is still the table that was filled.
async fn target(wait: &TableWait<'_>) -> Result<TableSettings, StepError> {
    let known = wait.record.target_table_id.as_deref();
    let settings = wait.look().await?.ok_or_else(|| wait.changed())?;
    if known.is_some() && settings.table_id() != known {
        return Err(wait.changed());
    }
    Ok(settings)
}

fn state(wait: &TableWait<'_>, settings: &TableSettings) -> Result<Condition, StepError> {
    match condition(settings).map_err(|source| wait.garbled(source))? {
        Condition::Unusable(status) => Err(StepError::TableNotActive {
            table: wait.table().to_owned(),
            status,
        }),
        condition => Ok(condition),
    }
}
