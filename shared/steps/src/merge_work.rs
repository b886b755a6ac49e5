//! The work folder of a restore to a second, opened; and what its workers are bounded by.

use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::key::KeySchema;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_domain::restore::RestoreRecord;
use highwater_domain::restore_point::RestorePoint;
use highwater_domain::restore_point::work_folder::WorkFolder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StepError;
use crate::restore_deps::RestoreDeps;
use crate::status::json_object;

/// The most keys in one call that deletes.
const DELETED_AT_ONCE: usize = 1000;

/// What the merge of one restore is told.
#[derive(Clone, Copy, Debug)]
pub struct Merge<'a> {
    /// What is restored.
    pub point: &'a RestorePoint,
    /// The primary key of the table.
    pub key_schema: &'a KeySchema,
    /// How much memory it may take.
    pub limits: MergeLimits,
}

/// How much memory a worker of the merge takes, beside a few megabytes of what is being read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeLimits {
    /// Bytes of changes that `ScatterLog` gathers before it writes a run.
    pub gather_bytes: usize,
    /// Bytes of changes that `FoldLog` holds; a bucket with more is folded in pieces.
    pub fold_bytes: usize,
}

impl Default for MergeLimits {
    fn default() -> Self {
        Self {
            gather_bytes: 48 << 20,
            fold_bytes: 64 << 20,
        }
    }
}

impl MergeLimits {
    /// Bytes of changes that all workers of one process gather together, as long as each has the least that is worth a
    /// run.
    const GATHERED_TOGETHER: usize = 64 << 20;

    /// Smaller runs are crumbs.
    const GATHERED_AT_LEAST: usize = 8 << 20;

    /// What each of so many workers of one process may take.
    ///
    /// How much is gathered does not show in what is folded. How a bucket is cut into pieces does: `fold_bytes` is the
    /// same for all, so that a restore may be gone on with by any number of workers.
    #[must_use]
    pub fn for_workers(workers: u32) -> Self {
        let most = Self::default();
        let part = Self::GATHERED_TOGETHER / workers.max(1) as usize;
        Self {
            gather_bytes: part.clamp(Self::GATHERED_AT_LEAST, most.gather_bytes),
            ..most
        }
    }
}

/// A work folder in its store.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) folder: WorkFolder,
}

impl Work {
    pub(crate) fn open(deps: &RestoreDeps, point: &RestorePoint) -> Result<Self, StepError> {
        let (store, key) = open_folder(deps, &point.work)?;
        Ok(Self {
            store,
            folder: WorkFolder::new(&key),
        })
    }

    /// An object of this folder, or `None`.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, StepError> {
        let Some(body) = self.store.read(key).await.map_err(StepError::Store)? else {
            return Ok(None);
        };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            let url = self.store.url(key);
            StepError::PartCorrupt(format!(
                "{url} is not what a restore keeps there: {error}; begin the restore anew"
            ))
        })
    }

    /// An object that must be there.
    pub(crate) async fn expect<T: DeserializeOwned>(&self, key: &str) -> Result<T, StepError> {
        let found = self.read(key).await?;
        found.ok_or_else(|| StepError::PartMissing(self.store.url(key)))
    }

    pub(crate) async fn has(&self, key: &str) -> Result<bool, StepError> {
        let facts = self.store.facts(key).await.map_err(StepError::Store)?;
        Ok(facts.is_some())
    }

    /// Creates an object, or finds the one that stands: that is the one that counts.
    pub(crate) async fn settle<T>(&self, key: String, value: T) -> Result<T, StepError>
    where
        T: Serialize + DeserializeOwned,
    {
        let object = json_object(key.clone(), &value)?;
        match self.store.create(object).await.map_err(StepError::Store)? {
            Creation::Created => Ok(value),
            Creation::Exists => self.expect(&key).await,
        }
    }

    /// Creates an object of bytes.
    pub(crate) async fn create(&self, key: &str, body: Bytes) -> Result<Creation, StepError> {
        let object = NewObject {
            key: key.to_owned(),
            body,
            content_type: "application/octet-stream",
            ..NewObject::default()
        };
        self.store.create(object).await.map_err(StepError::Store)
    }

    /// Creates an object whose bytes are the same whoever makes them, and makes sure that they are.
    pub(crate) async fn create_same(&self, key: &str, body: Bytes) -> Result<(), StepError> {
        if self.create(key, body.clone()).await? == Creation::Created {
            return Ok(());
        }
        let standing = self.store.read(key).await.map_err(StepError::Store)?;
        if standing.is_some_and(|standing| standing == body) {
            return Ok(());
        }
        let url = self.store.url(key);
        Err(StepError::PartCorrupt(format!(
            "{url} is there with other bytes than this program makes: another version has begun this restore, or somebody \
             changed it; begin the restore anew"
        )))
    }

    /// Every key of the folder, page by page.
    pub(crate) async fn keys_below(&self, prefix: &str) -> Result<Vec<String>, StepError> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(prefix, after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }
}

/// What a restore's record says of its merge.
pub(crate) fn merge_of<'a>(
    deps: &RestoreDeps,
    record: &'a RestoreRecord,
) -> Result<Merge<'a>, StepError> {
    let point = record.point.as_ref().ok_or_else(|| {
        StepError::InvalidInput(format!("restore {} is not one to a second", record.id))
    })?;
    Ok(Merge {
        point,
        key_schema: &record.key_schema,
        limits: MergeLimits::for_workers(deps.pace.workers_here(record.concurrency)),
    })
}

/// Work that broke off because a stop was asked for is an error, not a task to be called again.
pub(crate) fn check_stop(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    done: bool,
) -> Result<(), StepError> {
    if done || !deps.stop.is_set() {
        return Ok(());
    }
    Err(StepError::RestoreInterrupted {
        id: record.id.clone(),
        reason: "a stop was asked for".into(),
    })
}

/// The store that a folder's URL names, and the folder's key in it.
pub(crate) fn open_folder(
    deps: &RestoreDeps,
    url: &str,
) -> Result<(Arc<dyn ObjectStore>, String), StepError> {
    let location: SourceLocation = url.parse()?;
    let store = deps
        .stores
        .open(&location.store)
        .map_err(StepError::Store)?;
    Ok((store, location.key))
}

/// Deletes everything that lies between the log and the load, once the restore is over. Answers with the number of
/// objects.
pub async fn clear_work(deps: &RestoreDeps, point: &RestorePoint) -> Result<u64, StepError> {
    let work = Work::open(deps, point)?;
    let mut deleted = 0;
    loop {
        // From the front each time: what was listed is gone.
        let page = work.store.list(work.folder.folder(), None).await;
        let page = page.map_err(StepError::Store)?;
        if page.objects.is_empty() {
            return Ok(deleted);
        }
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        for some in keys.chunks(DELETED_AT_ONCE) {
            work.store.delete(some).await.map_err(StepError::Store)?;
            deleted += some.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_one_process_share_what_may_be_gathered() {
        let gathered = |workers| MergeLimits::for_workers(workers).gather_bytes >> 20;
        assert_eq!([0, 1, 4, 8, 100].map(gathered), [48, 48, 16, 8, 8]);
        let folds = [1, 64].map(|workers| MergeLimits::for_workers(workers).fold_bytes);
        assert_eq!(folds[0], folds[1]);
    }
}
