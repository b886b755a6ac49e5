//! FinalizeRestore: ends a restore, one way or the other.
//!
//! Only this step writes `completed`, and only after it has seen every file loaded and every item accounted for.
//! The settings that had to wait for the load are made here; each of them can be made twice.

use highwater_domain::budget::Budget;
use highwater_domain::restore::{Engine, LoadTotals, RestoreId, RestoreRecord};
use highwater_domain::snapshot::Status;
use highwater_domain::table_plan::NotRestored;
use serde::{Deserialize, Serialize};

use crate::apply_settings::{self, Applied};
use crate::deps::JobEnd;
use crate::error::StepError;
use crate::failure_input::FailureInput;
use crate::materialize;
use crate::overlay::overlay_files;
use crate::plan_restore::PlanRestoreInput;
use crate::restore_deps::RestoreDeps;
use crate::restore_point;
use crate::restore_request::RestoreRequest;
use crate::restore_status::{self, RestoreProgress};

/// The input of the state `FinalizeRestore`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FinalizeRestoreInput {
    /// The restore, once there is one.
    pub restore_id: Option<RestoreId>,
    /// The execution whose restore it is.
    pub execution_id: Option<String>,
    /// When that execution started; with the request it tells the id of a restore whose plan broke off.
    pub started_at: Option<String>,
    /// The execution's input.
    pub request: Option<RestoreRequest>,
    /// What went wrong; the restore is then marked `failed` and nothing is checked.
    pub failure: Option<FailureInput>,
}

/// The output of the state `FinalizeRestore`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalizeRestoreOutput {
    /// The restore.
    pub restore_id: RestoreId,
    /// Whether it ended; otherwise the state runs again.
    pub done: bool,
    /// Its status now; `None` if there never was a record.
    pub status: Option<Status>,
    /// What became of the items.
    pub totals: LoadTotals,
    /// What the backup has and the table has not.
    pub not_restored: Vec<NotRestored>,
}

impl FinalizeRestoreInput {
    /// The id of the restore that is to be ended.
    pub fn restore_id(&self) -> Result<RestoreId, StepError> {
        if let Some(id) = &self.restore_id {
            return Ok(id.clone());
        }
        let (Some(execution_id), Some(started_at)) = (&self.execution_id, &self.started_at) else {
            return Err(StepError::InvalidInput(
                "`restore_id`, or `execution_id` and `started_at`, must say which restore to end"
                    .into(),
            ));
        };
        PlanRestoreInput {
            request: self.request.clone().unwrap_or_default(),
            execution_id: execution_id.clone(),
            started_at: started_at.clone(),
        }
        .restore_id()
    }
}

/// Ends the restore, or marks it failed.
pub async fn run(
    deps: &RestoreDeps,
    input: &FinalizeRestoreInput,
    budget: Budget,
) -> Result<FinalizeRestoreOutput, StepError> {
    let request = input.request.as_ref();
    if let Some(table) = request.and_then(|request| request.to.as_ref()) {
        deps.observer.about(table.name());
    }
    let output = end(deps, input, budget).await?;
    // Items that the table did not take are kept, and are no success: the state machine ends as failed.
    let failed = input.failure.is_some() || (output.done && output.totals.rejected > 0);
    if failed {
        deps.observer.ended(JobEnd::RestoreFailed);
    } else if output.done {
        deps.observer.ended(JobEnd::RestoreCompleted);
    }
    Ok(output)
}

async fn end(
    deps: &RestoreDeps,
    input: &FinalizeRestoreInput,
    budget: Budget,
) -> Result<FinalizeRestoreOutput, StepError> {
    let id = input.restore_id()?;
    if let Some(failure) = &input.failure {
        return mark_failed(deps, &id, input.execution_id.as_deref(), &failure.message()).await;
    }
    let record = restore_status::load(deps, &id).await?.value;
    if record.status == Status::Completed {
        // Ended by an earlier try that may have died before it could tidy up.
        clear_work(deps, &record).await?;
        return Ok(output(&record, true));
    }
    refuse_foreign(&record, input.execution_id.as_deref())?;
    let deps = &deps.reaching(record.replica.as_ref()).await?;
    let totals = check_load(deps, &record).await?;
    let applied = if record.materialize.is_some() {
        let sealed = materialize::seal(&deps.snapshots, &record, &totals, budget).await?;
        Applied {
            done: sealed,
            refused: Vec::new(),
        }
    } else {
        apply_settings::run(deps, &record, budget).await?
    };
    if !applied.done {
        return Ok(output(&record, false));
    }
    let record = restore_status::update(deps, &id, |latest| {
        let ours = latest.status == Status::Running && latest.request_id == record.request_id;
        ours.then(|| {
            let mut completed = latest.clone();
            completed.status = Status::Completed;
            completed.ended_at = Some(deps.clock.now());
            completed.totals = totals;
            completed.error = None;
            let known = &mut completed.table_plan.not_restored;
            known.extend(
                applied
                    .refused
                    .iter()
                    .filter(|it| !latest.table_plan.not_restored.contains(it))
                    .cloned(),
            );
            completed
        })
    })
    .await?;
    refuse_foreign_end(&record)?;
    clear_work(deps, &record).await?;
    Ok(output(&record, true))
}

/// What became of the items, once it is sure that this is all of them.
async fn check_load(deps: &RestoreDeps, record: &RestoreRecord) -> Result<LoadTotals, StepError> {
    if record.engine == Engine::ImportTable {
        return Ok(record.totals);
    }
    if record.materialize.is_none() {
        restore_status::check_same_table(deps, record).await?;
    }
    let progress = restore_status::totals(deps, &record.id).await?;
    let of_log = match &record.point {
        Some(point) => overlay_files(deps, point).await?.1.totals.items,
        None => 0,
    };
    check_totals(record, &progress, of_log)?;
    Ok(progress.totals)
}

/// Deletes what lay between the log and the load. Nobody needs it once the restore has ended well.
async fn clear_work(deps: &RestoreDeps, record: &RestoreRecord) -> Result<(), StepError> {
    if let Some(point) = &record.point {
        restore_point::clear_work(deps, point).await?;
    }
    Ok(())
}

fn output(record: &RestoreRecord, done: bool) -> FinalizeRestoreOutput {
    FinalizeRestoreOutput {
        restore_id: record.id.clone(),
        done,
        status: Some(record.status),
        totals: record.totals,
        not_restored: record.table_plan.not_restored.clone(),
    }
}

fn interrupted(record: &RestoreRecord, reason: &str) -> StepError {
    StepError::RestoreInterrupted {
        id: record.id.clone(),
        reason: reason.to_owned(),
    }
}

/// A restore that was marked failed, or taken over by another execution, is no longer ours to end.
fn refuse_foreign(record: &RestoreRecord, execution_id: Option<&str>) -> Result<(), StepError> {
    if execution_id.is_some_and(|execution| execution != record.request_id) {
        return Err(interrupted(record, "another execution has taken it over"));
    }
    if record.status == Status::Running {
        return Ok(());
    }
    Err(interrupted(record, "it was marked failed meanwhile"))
}

fn refuse_foreign_end(record: &RestoreRecord) -> Result<(), StepError> {
    if record.status == Status::Completed {
        return Ok(());
    }
    Err(interrupted(record, "another execution has taken it over"))
}

/// Every file is loaded, every item accounted for, and there are as many as the backup says, and `of_log` more that
/// the log was folded into.
fn check_totals(
    record: &RestoreRecord,
    progress: &RestoreProgress,
    of_log: u64,
) -> Result<(), StepError> {
    let totals = &progress.totals;
    let enough = record.max_items > 0 && totals.taken() >= record.max_items;
    if progress.files_done < record.files() && !enough {
        return Err(StepError::FilesUnfinished {
            id: record.id.clone(),
            unfinished: record.files() - progress.files_done,
            total: record.files(),
        });
    }
    if !totals.is_balanced() {
        return Err(StepError::Internal(format!(
            "items are unaccounted for: {totals}"
        )));
    }
    match record.source.items {
        Some(items)
            if items + of_log != totals.read && record.max_items == 0 && !record.skip_checks =>
        {
            let log = match of_log {
                0 => String::new(),
                items => format!(", and the log gives {items}"),
            };
            Err(StepError::PartCorrupt(format!(
                "{} items were read from {}, which says that it has {items}{log}",
                totals.read, record.source.url
            )))
        }
        _ => Ok(()),
    }
}

/// Marks a restore that has not ended as failed, unless another execution has taken it over.
async fn mark_failed(
    deps: &RestoreDeps,
    id: &RestoreId,
    execution_id: Option<&str>,
    message: &str,
) -> Result<FinalizeRestoreOutput, StepError> {
    let known = deps
        .restores
        .restore(id)
        .await
        .map_err(StepError::Control)?;
    if known.is_none() {
        return Ok(FinalizeRestoreOutput {
            restore_id: id.clone(),
            done: true,
            status: None,
            totals: LoadTotals::default(),
            not_restored: Vec::new(),
        });
    }
    let totals = restore_status::totals(deps, id).await?.totals;
    let record = restore_status::update(deps, id, |latest| {
        let ours = execution_id.is_none_or(|execution| execution == latest.request_id);
        (ours && latest.status == Status::Running).then(|| RestoreRecord {
            status: Status::Failed,
            ended_at: Some(deps.clock.now()),
            error: Some(message.to_owned()),
            totals,
            ..latest.clone()
        })
    })
    .await?;
    if record.materialize.is_some() && record.status == Status::Failed {
        materialize::mark_failed(&deps.snapshots, &record, message).await?;
    }
    Ok(output(&record, true))
}
