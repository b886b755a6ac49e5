//! What is known of one snapshot, also while it is being made.

use highwater_domain::control_table::ControlTable;
use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::Layout;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::Status;

use crate::error::StepError;
use crate::list_snapshots;
use crate::status;

/// Finds the snapshot's layout: below the table that is named, or below whichever table has it.
pub async fn find(
    store: &dyn ObjectStore,
    prefix: &str,
    table: Option<&str>,
    id: &SnapshotId,
) -> Result<Layout, StepError> {
    if let Some(table) = table {
        return Ok(Layout::new(prefix, table, id));
    }
    let listed = list_snapshots::run(store, prefix, None).await?;
    let found = listed.into_iter().find(|listed| listed.snapshot_id == *id);
    match found {
        Some(found) => Ok(Layout::new(prefix, &found.table, id)),
        None => Err(not_found(store, prefix, id)),
    }
}

fn not_found(store: &dyn ObjectStore, place: &str, id: &SnapshotId) -> StepError {
    StepError::SnapshotNotFound {
        id: id.clone(),
        place: store.url(place),
    }
}

/// The snapshot's `backup.json`.
pub async fn metadata(
    store: &dyn ObjectStore,
    layout: &Layout,
    id: &SnapshotId,
) -> Result<Metadata, StepError> {
    let body = store
        .read(&layout.metadata())
        .await
        .map_err(StepError::Store)?;
    let body = body.ok_or_else(|| not_found(store, layout.root(), id))?;
    serde_json::from_slice(&body).map_err(|error| {
        StepError::PartCorrupt(format!(
            "{} is not a backup.json: {error}",
            store.url(&layout.metadata())
        ))
    })
}

/// The snapshot's metadata, with the counts as they are this moment if a control table knows more.
///
/// `backup.json` is written at the start and at the end only; in between the checkpoints count.
pub async fn run(
    store: &dyn ObjectStore,
    layout: &Layout,
    id: &SnapshotId,
    control: Option<&dyn ControlTable>,
) -> Result<Metadata, StepError> {
    let shown = metadata(store, layout, id).await?;
    let Some(control) = control.filter(|_| shown.status == Status::Running) else {
        return Ok(shown);
    };
    let Some(record) = control.snapshot(id).await.map_err(StepError::Control)? else {
        return Ok(shown);
    };
    let progress = status::progress(control, id).await?;
    Ok(Metadata::of(&record.value, &progress.parts, &progress.scan))
}
