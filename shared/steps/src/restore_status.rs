//! The restore's record and what its files add up to.

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::restore::{LoadTotals, RestoreId, RestoreRecord};
use highwater_domain::snapshot::Status;

use crate::error::StepError;
use crate::restore_deps::RestoreDeps;

/// How many checkpoints are read at a time.
const FILES_PER_READ: u32 = 200;

/// What the files of a restore add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RestoreProgress {
    /// Sums over the committed checkpoints.
    pub totals: LoadTotals,
    /// Files that are loaded whole.
    pub files_done: u64,
}

/// The record of a restore that must exist.
pub async fn load(
    deps: &RestoreDeps,
    id: &RestoreId,
) -> Result<Versioned<RestoreRecord>, StepError> {
    let record = deps
        .restores
        .restore(id)
        .await
        .map_err(StepError::Control)?;
    let record = record.ok_or_else(|| StepError::RestoreNotFound(id.clone()))?;
    deps.observer.about(record.value.target.name());
    Ok(record)
}

/// The record of a restore that must be running.
pub async fn running(deps: &RestoreDeps, id: &RestoreId) -> Result<RestoreRecord, StepError> {
    let record = load(deps, id).await?.value;
    if record.status == Status::Running {
        return Ok(record);
    }
    let reason = record
        .error
        .unwrap_or_else(|| format!("it is {}", record.status.as_str()));
    Err(StepError::RestoreInterrupted {
        id: id.clone(),
        reason,
    })
}

/// Adds up the checkpoints of a restore's files.
pub async fn totals(deps: &RestoreDeps, id: &RestoreId) -> Result<RestoreProgress, StepError> {
    let mut progress = RestoreProgress::default();
    let mut after = None;
    loop {
        let files = deps
            .restores
            .files(id, after, FILES_PER_READ)
            .await
            .map_err(StepError::Control)?;
        let Some((last, _)) = files.last() else {
            return Ok(progress);
        };
        after = Some(*last);
        for (_, checkpoint) in &files {
            progress.totals.add(&checkpoint.totals);
            progress.files_done += u64::from(checkpoint.done);
        }
    }
}

/// The target must still be the table that the restore began with.
pub async fn check_same_table(deps: &RestoreDeps, record: &RestoreRecord) -> Result<(), StepError> {
    let table_id = deps
        .describer
        .table_id(record.target.as_str())
        .await
        .map_err(StepError::Table)?;
    if table_id == record.target_table_id {
        return Ok(());
    }
    Err(StepError::TargetChanged {
        table: record.target.to_string(),
        id: record.id.clone(),
    })
}

/// Changes the record until nobody comes between. `change` gets the latest one; `None` leaves it as it is.
pub async fn update(
    deps: &RestoreDeps,
    id: &RestoreId,
    change: impl Fn(&RestoreRecord) -> Option<RestoreRecord>,
) -> Result<RestoreRecord, StepError> {
    loop {
        let known = load(deps, id).await?;
        let Some(record) = change(&known.value).filter(|record| *record != known.value) else {
            return Ok(known.value);
        };
        let cas = deps
            .restores
            .update_restore(known.version, &record)
            .await
            .map_err(StepError::Control)?;
        if matches!(cas, Cas::Applied(_)) {
            return Ok(record);
        }
    }
}
