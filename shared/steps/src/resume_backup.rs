//! Taking up a snapshot that was stopped.

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::layout::Destination;
use highwater_domain::snapshot::{SnapshotRecord, Status};

use crate::deps::Deps;
use crate::error::StepError;
use crate::plan_backup::{PlanInput, describe_active};
use crate::request::BackupRequest;
use crate::status;

/// Takes up a snapshot that was stopped: its plan stays, its request and pace are new.
pub(crate) async fn resume(
    deps: &Deps,
    input: &PlanInput,
    mut known: Versioned<SnapshotRecord>,
) -> Result<SnapshotRecord, StepError> {
    let request = &input.request;
    loop {
        let record = known.value;
        refuse_other_place(request, &record)?;
        if record.status == Status::Completed {
            // Sealed already. FinalizeBackup will see to it that backup.json says so.
            return Ok(record);
        }
        let settings = describe_active(deps, &record.table).await?;
        if settings.table_id() != record.table_id.as_deref() {
            return Err(StepError::TableChanged {
                table: record.table.to_string(),
                id: record.id,
            });
        }
        let asked = request.read_capacity.is_some() || request.read_percent.is_some();
        let record = SnapshotRecord {
            request_id: input.execution_id.clone(),
            concurrency: request
                .concurrency
                .unwrap_or(record.concurrency)
                .min(record.lanes),
            read_capacity: if asked {
                request.read_capacity_for(&settings)?
            } else {
                record.read_capacity
            },
            status: Status::Running,
            ended_at: None,
            error: None,
            ..record
        };
        let cas = deps
            .control
            .update_snapshot(known.version, &record)
            .await
            .map_err(StepError::Control)?;
        if matches!(cas, Cas::Applied(_)) {
            return Ok(record);
        }
        known = status::load(deps, &record.id).await?;
    }
}

fn refuse_other_place(request: &BackupRequest, record: &SnapshotRecord) -> Result<(), StepError> {
    if record.materialized.is_some() {
        // A scan would mix what the table is now with what it was.
        return Err(StepError::InvalidInput(format!(
            "snapshot {0} is made by a restore to a second, not by a scan: go on with restore {0}",
            record.id
        )));
    }
    let other = |what: &str, asked: &str, is: &str| {
        StepError::InvalidInput(format!(
            "snapshot {} has {what} {is}, not {asked}",
            record.id
        ))
    };
    if let Some(table) = request
        .table
        .as_ref()
        .filter(|table| table.name() != record.table.name())
    {
        return Err(other("table", table.as_str(), record.table.as_str()));
    }
    match &request.to {
        Some(to) if to.parse::<Destination>()?.to_string() != record.destination => {
            Err(other("destination", to, &record.destination))
        }
        _ => Ok(()),
    }
}
