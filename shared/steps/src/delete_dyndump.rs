//! Deletes a dyndump backup: parts first, metadata last, exact keys only.
//!
//! Stopped anywhere, it can be repeated: as long as a part may be left, so is the metadata. Parts without metadata
//! are somebody's only copy until somebody says otherwise.

use highwater_domain::dyndump::{DyndumpKeys, DyndumpMetadata};
use highwater_domain::object_store::{ListPage, ObjectStore};
use highwater_domain::snapshot::Status;
use serde::Serialize;

use crate::deps::StopFlag;
use crate::dyndump_info;
use crate::error::StepError;

/// How many objects that are none of the backup's are named.
const NAMED: usize = 10;

/// What may be deleted that is usually not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// A backup that says it is running.
    pub force: bool,
    /// Parts without metadata, or with metadata that cannot be read.
    pub force_orphans: bool,
}

/// What a deletion would delete.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DyndumpDeletion {
    /// The metadata; `None` for orphans.
    pub metadata: Option<DyndumpMetadata>,
    /// How many parts there are.
    pub parts: u64,
    /// The first objects beside the parts that are none: they stay.
    pub left_alone: Vec<String>,
}

/// Finds out what there is to delete, and refuses what should not be deleted.
pub async fn plan(
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
    options: DeleteOptions,
) -> Result<DyndumpDeletion, StepError> {
    let metadata = match dyndump_info::read(store, keys).await {
        Err(StepError::PartCorrupt(_)) if options.force_orphans => None,
        read => read?,
    };
    let running = metadata
        .as_ref()
        .is_some_and(|metadata| metadata.status == Status::Running);
    if running && !options.force {
        return Err(StepError::InvalidInput(format!(
            "the backup at {} says that it is running; if nothing writes to it any more, give --force",
            store.url(keys.prefix())
        )));
    }
    let mut deletion = DyndumpDeletion {
        metadata,
        parts: 0,
        left_alone: Vec::new(),
    };
    let mut after = None;
    loop {
        let (page, next) = list(store, keys, after).await?;
        for object in page.objects {
            if keys.part_number(&object.key).is_some() {
                deletion.parts += 1;
            } else if deletion.left_alone.len() < NAMED {
                deletion.left_alone.push(object.key);
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    if deletion.metadata.is_none() && !(options.force_orphans && deletion.parts > 0) {
        return Err(not_found(store, keys, deletion.parts));
    }
    Ok(deletion)
}

fn not_found(store: &dyn ObjectStore, keys: &DyndumpKeys, parts: u64) -> StepError {
    let metadata = store.url(&keys.metadata());
    let looked_for = match parts {
        0 => format!("{metadata} is not there"),
        parts => format!(
            "{metadata} is not there, but {parts} parts are; to delete them, give --force-orphans"
        ),
    };
    StepError::BackupNotFound {
        url: store.url(keys.prefix()),
        looked_for,
    }
}

async fn list(
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
    after: Option<String>,
) -> Result<(ListPage, Option<String>), StepError> {
    let page = store.list(&keys.parts(), after.as_deref()).await;
    let mut page = page.map_err(StepError::Store)?;
    let next = page.next.take();
    Ok((page, next))
}

/// Deletes page by page, so that a backup of any size takes no memory, and the metadata when no part is left.
///
/// `each` hears how many parts are gone. `false` if a stop came in between: the metadata is still there.
pub async fn run(
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
    stop: &StopFlag,
    mut each: impl FnMut(u64),
) -> Result<bool, StepError> {
    let mut gone = 0;
    let mut after = None;
    loop {
        if stop.is_set() {
            return Ok(false);
        }
        let (page, next) = list(store, keys, after).await?;
        let objects = page.objects.into_iter().map(|object| object.key);
        let parts: Vec<String> = objects
            .filter(|key| keys.part_number(key).is_some())
            .collect();
        // A page of a listing has no more keys than S3 deletes in one request, but a store may differ.
        for keys in parts.chunks(1000) {
            store.delete(keys).await.map_err(StepError::Store)?;
            gone += keys.len() as u64;
            each(gone);
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    if stop.is_set() {
        return Ok(false);
    }
    let deleted = store.delete(&[keys.metadata()]).await;
    deleted.map_err(StepError::Store).map(|()| true)
}
