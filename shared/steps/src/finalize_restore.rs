//! FinalizeRestore: ends a restore, one way or the other.
//!
//! Only this step writes `completed`, and only after it has seen every file loaded and every item accounted for.
//! The settings that had to wait for the load are made here; each of them can be made twice.

use highwater_domain::budget::Budget;
use highwater_domain::restore::{Engine, LoadTotals, RestoreId, RestoreRecord};
use highwater_domain::snapshot::Status;
use highwater_domain::table_plan::NotRestored;
use serde::{Deserialize, Serialize};

use crate::apply_settings;
use crate::error::StepError;
use crate::finalize_backup::FailureInput;
use crate::plan_restore::PlanRestoreInput;
use crate::restore_deps::RestoreDeps;
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
    fn restore_id(&self) -> Result<RestoreId, StepError> {
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
    let id = input.restore_id()?;
    if let Some(failure) = &input.failure {
        return mark_failed(deps, &id, input.execution_id.as_deref(), &failure.message()).await;
    }
    let record = restore_status::load(deps, &id).await?.value;
    if record.status == Status::Completed {
        return Ok(output(&record, true));
    }
    refuse_foreign(&record, input.execution_id.as_deref())?;
    let totals = match record.engine {
        Engine::ImportTable => record.totals,
        Engine::Write => {
            restore_status::check_same_table(deps, &record).await?;
            let progress = restore_status::totals(deps, &id).await?;
            check_totals(&record, &progress)?;
            progress.totals
        }
    };
    let applied = apply_settings::run(deps, &record, budget).await?;
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
    Ok(output(&record, true))
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

/// Every file is loaded, every item accounted for, and there are as many as the backup says.
fn check_totals(record: &RestoreRecord, progress: &RestoreProgress) -> Result<(), StepError> {
    let totals = &progress.totals;
    let taken = totals.read - totals.filtered;
    let enough = record.max_items > 0 && taken >= record.max_items;
    if progress.files_done < record.source.files && !enough {
        return Err(StepError::FilesUnfinished {
            id: record.id.clone(),
            unfinished: record.source.files - progress.files_done,
            total: record.source.files,
        });
    }
    if !totals.is_balanced() {
        return Err(StepError::Internal(format!(
            "items are unaccounted for: {totals}"
        )));
    }
    match record.source.items {
        Some(items) if items != totals.read && record.max_items == 0 && !record.skip_checks => {
            Err(StepError::PartCorrupt(format!(
                "{} items were read from {}, which says that it has {items}",
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
    Ok(output(&record, true))
}
