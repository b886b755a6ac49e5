//! Sealing: the manifests, and last the metadata that makes the snapshot exist.

use std::collections::HashSet;

use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::layout::Layout;
use highwater_domain::manifest::{ManifestFile, ManifestSummary, md5_file};
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::snapshot::{PartTotals, SnapshotRecord, Status};

use crate::deps::SnapshotDeps;
use crate::error::StepError;
use crate::late_parts::DataFolder;
use crate::status::{self, Progress};

const PARTS_PER_READ: u32 = 500;

/// Seals a snapshot whose parts were all checked.
///
/// Every write before the last two can be repeated by a later try: same rows, same manifests.
pub async fn seal(
    deps: &SnapshotDeps,
    store: &dyn ObjectStore,
    checked: Versioned<SnapshotRecord>,
    progress: &Progress,
) -> Result<(), StepError> {
    let record = &checked.value;
    check_sums(record, progress)?;
    let layout = status::layout(record)?;
    let manifest = list_parts(deps, record).await?;
    let data = DataFolder {
        deps,
        store,
        layout: &layout,
        record,
        parts: &manifest.objects,
    };
    data.clear().await?;
    let id = record.id.clone();
    let Some((checked, sealed_at)) = pin_time(deps, checked).await? else {
        return status::project(deps, store, &id).await;
    };
    write_manifests(store, &layout, &checked.value, &manifest.lines, sealed_at).await?;
    let sealed = SnapshotRecord {
        status: Status::Completed,
        ended_at: Some(sealed_at),
        error: None,
        ..checked.value
    };
    match deps
        .control
        .update_snapshot(checked.version, &sealed)
        .await
        .map_err(StepError::Control)?
    {
        Cas::Applied(_) => status::project(deps, store, &id).await,
        Cas::Lost if status::load(deps, &id).await?.value.status == Status::Completed => {
            // Another try sealed it, or this very call did and its answer got lost.
            status::project(deps, store, &id).await
        }
        Cas::Lost => Err(interrupted(id)),
    }
}

/// Records when the snapshot was found whole, once: of two copies that seal it at once both write the same manifests,
/// and none writes a summary beside the other's hash. `None` if it is sealed already.
async fn pin_time(
    deps: &SnapshotDeps,
    mut checked: Versioned<SnapshotRecord>,
) -> Result<Option<(Versioned<SnapshotRecord>, UnixMillis)>, StepError> {
    loop {
        if let Some(whole_at) = checked.value.verified.whole_at {
            return Ok(Some((checked, whole_at)));
        }
        checked.value.verified.whole_at = Some(deps.clock.now());
        let update = deps
            .control
            .update_snapshot(checked.version, &checked.value)
            .await
            .map_err(StepError::Control)?;
        if let Cas::Applied(version) = update {
            checked.version = version;
            continue;
        }
        // By a rival, or by this very call, whose answer got lost.
        checked = status::load(deps, &checked.value.id).await?;
        match checked.value.status {
            Status::Running => {}
            Status::Completed => return Ok(None),
            Status::Failed => return Err(interrupted(checked.value.id)),
        }
    }
}

fn interrupted(id: SnapshotId) -> StepError {
    StepError::Interrupted {
        id,
        reason: "it was marked failed while it was sealed".into(),
    }
}

/// read = written + skipped: what was committed is what was checked, and every item scanned is accounted for.
fn check_sums(record: &SnapshotRecord, progress: &Progress) -> Result<(), StepError> {
    let checked = &record.verified.totals;
    if *checked != progress.parts {
        return Err(StepError::PartMissing(format!(
            "{} parts with {} items were found where the segments committed {} with {}",
            checked.parts, checked.items, progress.parts.parts, progress.parts.items
        )));
    }
    if progress.scan.items != checked.items || progress.scan.scanned < checked.items {
        return Err(StepError::Internal(format!(
            "snapshot {}: {} items were scanned and {} taken, but {} were written",
            record.id, progress.scan.scanned, progress.scan.items, checked.items
        )));
    }
    Ok(())
}

struct Manifest {
    lines: Vec<u8>,
    objects: HashSet<String>,
}

async fn list_parts(deps: &SnapshotDeps, record: &SnapshotRecord) -> Result<Manifest, StepError> {
    let mut manifest = Manifest {
        lines: Vec::new(),
        objects: HashSet::new(),
    };
    let mut after = None;
    let mut totals = PartTotals::default();
    loop {
        let rows = deps
            .control
            .parts(&record.id, after, PARTS_PER_READ)
            .await
            .map_err(StepError::Control)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        for row in rows {
            totals.add(&row);
            let file = ManifestFile::of(&row).ok_or_else(|| {
                StepError::PartCorrupt(format!("the row of {} has no MD5", row.object))
            })?;
            serde_json::to_writer(&mut manifest.lines, &file)
                .map_err(|error| StepError::Internal(format!("the manifest: {error}")))?;
            manifest.lines.push(b'\n');
            manifest.objects.insert(row.object);
        }
    }
    if totals == record.verified.totals {
        return Ok(manifest);
    }
    Err(StepError::Internal(format!(
        "parts were committed to {} after its segments were done",
        record.id
    )))
}

async fn write_manifests(
    store: &dyn ObjectStore,
    layout: &Layout,
    record: &SnapshotRecord,
    files: &[u8],
    sealed_at: UnixMillis,
) -> Result<(), StepError> {
    let summary = ManifestSummary::of(
        record,
        &record.verified.totals,
        sealed_at,
        store.bucket(),
        &layout.manifest_files(),
    );
    let summary = serde_json::to_vec(&summary)
        .map_err(|error| StepError::Internal(format!("the manifest summary: {error}")))?;
    for (key, body) in [
        (layout.manifest_files_md5(), md5_file(files).into_bytes()),
        (layout.manifest_files(), files.to_vec()),
        (
            layout.manifest_summary_md5(),
            md5_file(&summary).into_bytes(),
        ),
        (layout.manifest_summary(), summary),
    ] {
        let object = NewObject {
            key,
            body: Bytes::from(body),
            content_type: "application/json",
            item_count: None,
            ..NewObject::default()
        };
        store.replace(object).await.map_err(StepError::Store)?;
    }
    Ok(())
}
