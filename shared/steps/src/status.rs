//! The snapshot's status, kept in two places: its record in the control table, which decides, and
//! `backup.json`, which shows it to everybody who has only the bucket.

use bytes::Bytes;
use highwater_domain::control_table::{Cas, ControlTable, Versioned};
use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::{Destination, Layout};
use highwater_domain::log_place::LogPlace;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::scan::ScanTotals;
use highwater_domain::snapshot::{PartTotals, SnapshotRecord, Status};

use crate::deps::{Deps, SnapshotDeps};
use crate::error::StepError;

/// How many segment records are read at a time.
const SEGMENTS_PER_READ: u32 = 200;

/// What all segments of a snapshot have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Sums over the committed parts.
    pub parts: PartTotals,
    /// Sums over the committed scans.
    pub scan: ScanTotals,
    /// Segments that are done.
    pub segments_done: u64,
}

/// Adds up the checkpoints of a snapshot.
pub async fn progress(control: &dyn ControlTable, id: &SnapshotId) -> Result<Progress, StepError> {
    let mut progress = Progress::default();
    let mut after = None;
    loop {
        let segments = control
            .segments(id, after, SEGMENTS_PER_READ)
            .await
            .map_err(StepError::Control)?;
        let Some((last, _)) = segments.last() else {
            return Ok(progress);
        };
        after = Some(*last);
        for (_, checkpoint) in &segments {
            progress.scan.add(&checkpoint.scan);
            progress.segments_done += u64::from(checkpoint.done);
            let parts = &checkpoint.parts;
            progress.parts.parts += parts.parts;
            progress.parts.items += parts.items;
            progress.parts.stored_bytes += parts.stored_bytes;
            progress.parts.plain_bytes += parts.plain_bytes;
        }
    }
}

/// The record of a snapshot that must exist.
pub async fn load(
    deps: &SnapshotDeps,
    id: &SnapshotId,
) -> Result<Versioned<SnapshotRecord>, StepError> {
    let record = deps
        .control
        .snapshot(id)
        .await
        .map_err(StepError::Control)?;
    let record = record.ok_or_else(|| StepError::SnapshotNotFound {
        id: id.clone(),
        place: "the control table".into(),
    })?;
    deps.observer.about(record.value.table.name());
    Ok(record)
}

/// The record as it is now, after an update of `ours` found it changed. `None` if it is sealed.
///
/// A second copy of the same execution works for the same end, so that one goes on from what the other has stored.
pub(crate) async fn again(
    deps: &SnapshotDeps,
    ours: &SnapshotRecord,
) -> Result<Option<Versioned<SnapshotRecord>>, StepError> {
    let known = load(deps, &ours.id).await?;
    let reason = match known.value.status {
        _ if known.value.request_id != ours.request_id => "another execution has taken it over",
        Status::Running => return Ok(Some(known)),
        Status::Completed => return Ok(None),
        Status::Failed => "it was marked failed meanwhile",
    };
    Err(StepError::Interrupted {
        id: known.value.id,
        reason: reason.into(),
    })
}

/// The layout of a snapshot's objects.
pub fn layout(record: &SnapshotRecord) -> Result<Layout, StepError> {
    let destination: Destination = record.destination.parse()?;
    Ok(Layout::new(
        destination.prefix(),
        record.table.name(),
        &record.id,
    ))
}

/// The place of the change log of a snapshot's table: beside its snapshots.
pub fn log_place(record: &SnapshotRecord) -> Result<LogPlace, StepError> {
    let destination: Destination = record.destination.parse()?;
    Ok(LogPlace::new(destination.prefix(), record.table.name()))
}

/// `backup.json` as an object.
pub fn metadata_object(layout: &Layout, metadata: &Metadata) -> Result<NewObject, StepError> {
    json_object(layout.metadata(), metadata)
}

/// Any value as a JSON object for people and programs: indented, with a final line break.
pub fn json_object<T: serde::Serialize>(key: String, value: &T) -> Result<NewObject, StepError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| {
        StepError::Internal(format!("{key} cannot be written as JSON: {error}"))
    })?;
    text.push(b'\n');
    Ok(NewObject {
        key,
        body: Bytes::from(text),
        content_type: "application/json",
        item_count: None,
        ..NewObject::default()
    })
}

/// Writes `backup.json` as the record says, and again if the record changed meanwhile.
///
/// A writer that was held up between its change of the record and its write of the object may overwrite a
/// later status. It sees that here and repairs it: whoever writes last has read the record after writing. But a request whose
/// sender has died may arrive minutes later, and nobody repairs that: so that a backup is running is not said twice.
pub async fn project(
    deps: &SnapshotDeps,
    store: &dyn ObjectStore,
    id: &SnapshotId,
) -> Result<(), StepError> {
    loop {
        let current = load(deps, id).await?;
        let layout = layout(&current.value)?;
        let progress = progress(deps.control.as_ref(), id).await?;
        let metadata = Metadata::of(&current.value, &progress.parts, &progress.scan);
        if metadata.status == Status::Running && says_running(store, &layout).await? {
            return Ok(());
        }
        store
            .replace(metadata_object(&layout, &metadata)?)
            .await
            .map_err(StepError::Store)?;
        if load(deps, id).await?.version == current.version {
            return Ok(());
        }
    }
}

async fn says_running(store: &dyn ObjectStore, layout: &Layout) -> Result<bool, StepError> {
    let there = store.read(&layout.metadata()).await;
    let there = there.map_err(StepError::Store)?;
    let read = there.and_then(|body| serde_json::from_slice::<Metadata>(&body).ok());
    Ok(read.is_some_and(|metadata| metadata.status == Status::Running))
}

/// Marks the snapshot as failed, unless it is sealed or belongs to another request by now.
///
/// Gives the status that it has afterwards.
pub async fn mark_failed(
    deps: &SnapshotDeps,
    id: &SnapshotId,
    request_id: Option<&str>,
    reason: &str,
) -> Result<Status, StepError> {
    loop {
        let current = load(deps, id).await?;
        let ours = request_id.is_none_or(|request| request == current.value.request_id);
        if current.value.status == Status::Completed || !ours {
            return Ok(current.value.status);
        }
        let record = SnapshotRecord {
            status: Status::Failed,
            ended_at: Some(deps.clock.now()),
            error: Some(first_line(reason)),
            ..current.value
        };
        let cas = deps
            .control
            .update_snapshot(current.version, &record)
            .await
            .map_err(StepError::Control)?;
        if matches!(cas, Cas::Applied(_)) {
            let store = open_store(deps, &record)?;
            project(deps, store.as_ref(), id).await?;
            return Ok(Status::Failed);
        }
    }
}

/// The store of a snapshot.
pub fn open_store(
    deps: &SnapshotDeps,
    record: &SnapshotRecord,
) -> Result<std::sync::Arc<dyn ObjectStore>, StepError> {
    deps.stores
        .open(&record.destination.parse()?)
        .map_err(StepError::Store)
}

/// Refuses to go on with a table that is not the one the snapshot began with.
pub async fn check_same_table(deps: &Deps, record: &SnapshotRecord) -> Result<(), StepError> {
    let now = deps
        .describer
        .table_id(record.table.as_str())
        .await
        .map_err(StepError::Table)?;
    if now == record.table_id {
        return Ok(());
    }
    Err(StepError::TableChanged {
        table: record.table.to_string(),
        id: record.id.clone(),
    })
}

/// The first line of a message, short enough for a record.
fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(500)
        .collect()
}
