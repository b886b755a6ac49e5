//! The handoff's place in PlanBackup: after the store was tried, before anything is claimed.

use std::sync::Arc;

use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::SnapshotRecord;

use crate::capture_handoff::{self, Capture};
use crate::deps::Deps;
use crate::error::StepError;
use crate::request::BackupRequest;
use crate::status;

/// The record with its handoff, which must be captured before the first page is scanned, or with the reason for none.
pub(crate) async fn with_handoff(
    deps: &Deps,
    request: &BackupRequest,
    record: SnapshotRecord,
    store: &Arc<dyn ObjectStore>,
) -> Result<SnapshotRecord, StepError> {
    let place = status::log_place(&record)?;
    let of = capture_of(deps, &record, request, store, &place);
    let captured = capture_handoff::capture(&deps.live, &of).await?;
    Ok(match captured {
        Ok(handoff) => SnapshotRecord {
            handoff: Some(handoff),
            ..record
        },
        Err(reason) => SnapshotRecord {
            no_handoff: Some(reason.to_string()),
            ..record
        },
    })
}

fn capture_of<'a>(
    deps: &'a Deps,
    record: &'a SnapshotRecord,
    request: &BackupRequest,
    store: &'a Arc<dyn ObjectStore>,
    place: &'a LogPlace,
) -> Capture<'a> {
    Capture {
        admin: deps.admin.as_ref(),
        snapshot: &record.id,
        table: &record.table,
        table_arn: &record.table_arn,
        table_id: record.table_id.as_deref(),
        store,
        place,
        with_stream: record.with_stream,
        consistent: record.consistent,
        is_query: record.backup_type() == "query",
        pace: request.capture_pace(),
    }
}

/// What PlanBackup would find to hand over from, for the record of a [preview](crate::plan_backup::preview). Changes nothing.
pub async fn preview(
    deps: &Deps,
    request: &BackupRequest,
    record: &SnapshotRecord,
) -> Result<capture_handoff::Preview, StepError> {
    let store = status::open_store(deps, record)?;
    let place = status::log_place(record)?;
    let of = capture_of(deps, record, request, &store, &place);
    capture_handoff::preview(&deps.live, &of).await
}
