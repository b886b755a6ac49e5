//! Materialize: makes a snapshot of what a table was at a second, and touches no table.
//!
//! The files that a restore would load become the segments of a new snapshot, under the commit protocol of a backup's
//! parts ([`crate::write_part`]), and the backup's own seal ends it. How a file gets there: [`crate::copy_file`].

use std::sync::Arc;

use highwater_domain::backup_source::{Catalog, SourceLocation};
use highwater_domain::budget::Budget;
use highwater_domain::control_table::Cas;
use highwater_domain::layout::Layout;
use highwater_domain::materialized::Materialized;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::restore::{LoadTotals, RestoreRecord};
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::{Compression, SnapshotRecord, Status, Verified};

use crate::copy_file::FileCopy;
use crate::deps::SnapshotDeps;
use crate::error::StepError;
use crate::finalize_backup;
use crate::load_file::{Advance, FileLoad};
use crate::plan_backup;
use crate::request::DEFAULT_PART_BYTES;
use crate::seal;
use crate::status;

/// The most segments that a snapshot has: the width of their numbers in the control table.
const MAX_SEGMENTS: u64 = 1_000_000;

/// The record of the snapshot that a restore makes: a pure function of the restore's plan and of what it begins with.
pub(crate) fn snapshot_of(
    record: &RestoreRecord,
    base: &Catalog,
) -> Result<SnapshotRecord, StepError> {
    let (Some(destination), Some(point)) = (&record.materialize, &record.point) else {
        return Err(StepError::Internal(format!(
            "restore {} makes no snapshot",
            record.id
        )));
    };
    let settings = base.settings.as_ref().ok_or_else(|| {
        StepError::PartMissing(format!(
            "{}/table.json, which the new snapshot needs",
            base.url
        ))
    })?;
    let broken = |source| StepError::Settings {
        table: record.target.to_string(),
        source,
    };
    let total_segments = segments(record.files())?;
    Ok(SnapshotRecord {
        id: record.id.as_snapshot().clone(),
        request_id: record.request_id.clone(),
        table: record.target.clone(),
        table_arn: settings.arn().map_err(broken)?.to_owned(),
        table_id: settings.table_id().map(str::to_owned),
        key_schema: record.key_schema.clone(),
        destination: destination.clone(),
        total_segments,
        lanes: record.lanes,
        concurrency: record.concurrency,
        consistent: true,
        read_capacity: 0.0,
        selection: Selection::default(),
        max_items: 0,
        compression: Compression::default(),
        part_bytes: DEFAULT_PART_BYTES,
        with_stream: false,
        handoff: None,
        no_handoff: Some(
            "it shows a moment that is over: no live changes take over from it".into(),
        ),
        started_at: record.started_at,
        estimated_items: base.items.unwrap_or(0),
        estimated_bytes: base.plain_bytes.unwrap_or(0),
        status: Status::Running,
        ended_at: None,
        error: None,
        verified: Verified::default(),
        materialized: Some(Materialized {
            at: point.at.to_rfc3339(),
            snapshot: point.snapshot.clone(),
            log: point.log.clone(),
            grade: point.grade,
        }),
    })
}

/// As many segments as there are files to be copied.
fn segments(files: u64) -> Result<u32, StepError> {
    let fits = u32::try_from(files).ok();
    fits.filter(|_| files <= MAX_SEGMENTS).ok_or_else(|| {
        StepError::InvalidInput(format!(
            "a snapshot has at most {MAX_SEGMENTS} segments, and this one would have {files}"
        ))
    })
}

/// Refuses a place where a snapshot of this id is already, before anything is recorded.
pub(crate) async fn refuse_existing(
    deps: &SnapshotDeps,
    snapshot: &SnapshotRecord,
) -> Result<(), StepError> {
    let store = status::open_store(deps, snapshot)?;
    let layout = status::layout(snapshot)?;
    plan_backup::refuse_existing(store.as_ref(), &layout, snapshot).await
}

/// Claims the snapshot's id and place, and copies the table's settings. Repeated by every retry and resume.
pub(crate) async fn claim(
    deps: &SnapshotDeps,
    snapshot: SnapshotRecord,
    base: &dyn ObjectStore,
    catalog: &Catalog,
) -> Result<(), StepError> {
    let store = status::open_store(deps, &snapshot)?;
    let layout = status::layout(&snapshot)?;
    plan_backup::prove_conditional_create(store.as_ref(), &layout).await?;
    let created = deps.control.create_snapshot(&snapshot).await;
    let snapshot = match created.map_err(StepError::Control)? {
        Cas::Applied(_) => snapshot,
        // By an earlier attempt; or by a backup that was given this id.
        Cas::Lost => {
            let known = status::load(deps, &snapshot.id).await?.value;
            if known.materialized != snapshot.materialized
                || known.destination != snapshot.destination
            {
                return Err(StepError::SnapshotExists {
                    place: known.destination,
                    id: known.id,
                });
            }
            revive(deps, known).await?
        }
    };
    if snapshot.status == Status::Completed {
        return Ok(());
    }
    plan_backup::claim_place(deps, store.as_ref(), &snapshot, false).await?;
    let base_at: SourceLocation = catalog.url.parse()?;
    let key = format!("{}/table.json", base_at.key);
    let settings = base.read(&key).await.map_err(StepError::Store)?;
    let settings = settings.ok_or_else(|| StepError::PartMissing(base.url(&key)))?;
    let copy = NewObject {
        key: layout.table_settings(),
        body: settings,
        content_type: "application/json",
        ..NewObject::default()
    };
    store.create(copy).await.map_err(StepError::Store)?;
    Ok(())
}

/// A snapshot whose restore was marked failed goes on with it.
async fn revive(
    deps: &SnapshotDeps,
    mut known: SnapshotRecord,
) -> Result<SnapshotRecord, StepError> {
    while known.status == Status::Failed {
        let current = status::load(deps, &known.id).await?;
        known = SnapshotRecord {
            status: match current.value.status {
                Status::Failed => Status::Running,
                other => other,
            },
            ended_at: None,
            error: None,
            ..current.value
        };
        let update = deps.control.update_snapshot(current.version, &known).await;
        if update.map_err(StepError::Control)? == Cas::Lost {
            known = status::load(deps, &known.id).await?.value;
        }
    }
    Ok(known)
}

/// The snapshot that is being made, opened for writing.
pub(crate) struct NewSnapshot {
    pub(crate) record: SnapshotRecord,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) layout: Layout,
}

impl NewSnapshot {
    /// The snapshot of this restore, which must not be marked failed.
    pub(crate) async fn open(
        deps: &SnapshotDeps,
        restore: &RestoreRecord,
    ) -> Result<Self, StepError> {
        let record = status::load(deps, restore.id.as_snapshot()).await?.value;
        // Sealed, and the restore's own record does not say so yet: there is nothing left to copy.
        if record.status == Status::Failed {
            return Err(StepError::RestoreInterrupted {
                id: restore.id.clone(),
                reason: "its snapshot is failed".into(),
            });
        }
        Ok(Self {
            store: status::open_store(deps, &record)?,
            layout: status::layout(&record)?,
            record,
        })
    }

    /// Copies one file into it.
    pub(crate) async fn copy(&self, load: FileLoad<'_>) -> Result<Advance, StepError> {
        let copy = FileCopy {
            load,
            snapshot: self,
        };
        copy.run().await
    }
}

/// Seals the snapshot once everything is in it. `false` if time ran out; another round goes on.
pub(crate) async fn seal(
    deps: &SnapshotDeps,
    record: &RestoreRecord,
    totals: &LoadTotals,
    budget: Budget,
) -> Result<bool, StepError> {
    let id = record.id.as_snapshot();
    let current = status::load(deps, id).await?;
    let store = status::open_store(deps, &current.value)?;
    if current.value.status == Status::Completed {
        // Sealed by an earlier try that may have died before it could say so.
        status::project(deps, store.as_ref(), id).await?;
        return Ok(true);
    }
    let written = status::progress(deps.control.as_ref(), id).await?.parts;
    if written.items != totals.written {
        return Err(StepError::Internal(format!(
            "snapshot {id}: its files came to {} items, its parts hold {}",
            totals.written, written.items
        )));
    }
    let checked = finalize_backup::check(deps, store.as_ref(), current, budget).await?;
    let Some((checked, progress)) = checked else {
        return Ok(false);
    };
    seal::seal(deps, store.as_ref(), checked, &progress).await?;
    Ok(true)
}

/// Marks the snapshot as failed with its restore, so that nobody takes it for one that is being made.
pub(crate) async fn mark_failed(
    deps: &SnapshotDeps,
    record: &RestoreRecord,
    reason: &str,
) -> Result<(), StepError> {
    let id = record.id.as_snapshot();
    let known = deps
        .control
        .snapshot(id)
        .await
        .map_err(StepError::Control)?;
    let ours = known.is_some_and(|known| known.value.materialized.is_some());
    if ours {
        status::mark_failed(deps, id, None, reason).await?;
    }
    Ok(())
}
