//! Deletes a snapshot: parts first, metadata last, exact keys only.
//!
//! Interrupted anywhere, it can be repeated: as long as something is left, so is `backup.json`, which says
//! `failed` from the first moment on, so that nobody restores half a snapshot.

use highwater_domain::control_table::ControlTable;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::layout::Layout;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::{Compression, Status};
use serde::Serialize;

use crate::error::StepError;
use crate::snapshot_info;
use crate::status;

/// What a deletion would delete, or has deleted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deletion {
    /// The snapshot's metadata as it was.
    pub metadata: Metadata,
    /// Parts, by key.
    pub parts: Vec<String>,
    /// Objects among the parts that are none of ours: they stay.
    pub left_alone: Vec<String>,
}

/// Finds out what there is to delete, and refuses what should not be deleted.
///
/// A running snapshot is refused unless `force`: its workers would go on writing.
pub async fn plan(
    store: &dyn ObjectStore,
    layout: &Layout,
    id: &SnapshotId,
    force: bool,
) -> Result<Deletion, StepError> {
    let metadata = snapshot_info::metadata(store, layout, id).await?;
    if metadata.status == Status::Running && !force {
        return Err(StepError::SnapshotRunning(id.clone()));
    }
    let mut deletion = Deletion {
        metadata,
        parts: Vec::new(),
        left_alone: Vec::new(),
    };
    let mut after: Option<String> = None;
    loop {
        let page = store
            .list(&layout.data(), after.as_deref())
            .await
            .map_err(StepError::Store)?;
        for object in page.objects {
            let ours = [Compression::Gzip, Compression::Zstd]
                .iter()
                .any(|it| layout.part_of(&object.key, *it).is_some());
            let list = if ours {
                &mut deletion.parts
            } else {
                &mut deletion.left_alone
            };
            list.push(object.key);
        }
        after = page.next;
        if after.is_none() {
            return Ok(deletion);
        }
    }
}

/// Deletes what was planned. `each` hears how many parts are gone after every request.
pub async fn run(
    store: &dyn ObjectStore,
    layout: &Layout,
    control: Option<&dyn ControlTable>,
    deletion: &Deletion,
    now: UnixMillis,
    mut each: impl FnMut(usize),
) -> Result<(), StepError> {
    let metadata = Metadata {
        status: Status::Failed,
        error: Some(format!("its deletion began at {}", now.to_rfc3339())),
        ..deletion.metadata.clone()
    };
    let object = status::metadata_object(layout, &metadata)?;
    store.replace(object).await.map_err(StepError::Store)?;
    let mut gone = 0;
    // S3 takes 1000 keys in one request.
    for keys in deletion.parts.chunks(1000) {
        store.delete(keys).await.map_err(StepError::Store)?;
        gone += keys.len();
        each(gone);
    }
    let manifests = [
        layout.manifest_summary(),
        layout.manifest_summary_md5(),
        layout.manifest_files(),
        layout.manifest_files_md5(),
        layout.table_settings(),
        layout.probe(),
    ];
    store.delete(&manifests).await.map_err(StepError::Store)?;
    if let (Some(control), Some(id)) = (control, &metadata.snapshot_id) {
        control
            .forget_snapshot(id)
            .await
            .map_err(StepError::Control)?;
    }
    store
        .delete(&[layout.metadata()])
        .await
        .map_err(StepError::Store)
}
