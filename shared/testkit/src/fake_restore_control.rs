//! The restores of the control table in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::restore::{FileCheckpoint, RestoreId, RestoreRecord};
use highwater_domain::restore_control::RestoreControl;

use crate::fake_control::{FakeControl, next_version, page_size};

/// Restores and their files' checkpoints.
#[derive(Debug, Default)]
pub(crate) struct RestoreRows {
    restores: BTreeMap<RestoreId, Versioned<RestoreRecord>>,
    files: BTreeMap<(RestoreId, u32), Versioned<FileCheckpoint>>,
}

impl RestoreRows {
    /// Whether no row is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.restores.is_empty() && self.files.is_empty()
    }

    fn put(&mut self, record: &RestoreRecord, seen: Option<i64>) -> Cas {
        let Some(version) = next_version(self.restores.get(&record.id), seen) else {
            return Cas::Lost;
        };
        let value = record.clone();
        let row = Versioned { value, version };
        self.restores.insert(record.id.clone(), row);
        Cas::Applied(version)
    }
}

#[async_trait]
impl RestoreControl for FakeControl {
    async fn create_restore(&self, record: &RestoreRecord) -> Result<Cas, Failure> {
        Ok(self.restores.lock().unwrap().put(record, None))
    }

    async fn restore(&self, id: &RestoreId) -> Result<Option<Versioned<RestoreRecord>>, Failure> {
        Ok(self.restores.lock().unwrap().restores.get(id).cloned())
    }

    async fn update_restore(&self, seen: i64, record: &RestoreRecord) -> Result<Cas, Failure> {
        Ok(self.restores.lock().unwrap().put(record, Some(seen)))
    }

    async fn file(
        &self,
        id: &RestoreId,
        file: u32,
    ) -> Result<Option<Versioned<FileCheckpoint>>, Failure> {
        let rows = self.restores.lock().unwrap();
        Ok(rows.files.get(&(id.clone(), file)).cloned())
    }

    async fn commit_file(
        &self,
        id: &RestoreId,
        file: u32,
        seen: Option<i64>,
        next: &FileCheckpoint,
    ) -> Result<Cas, Failure> {
        let mut rows = self.restores.lock().unwrap();
        let place = (id.clone(), file);
        let Some(version) = next_version(rows.files.get(&place), seen) else {
            return Ok(Cas::Lost);
        };
        let value = *next;
        rows.files.insert(place, Versioned { value, version });
        Ok(Cas::Applied(version))
    }

    async fn files(
        &self,
        id: &RestoreId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, FileCheckpoint)>, Failure> {
        let limit = page_size("files", limit)?;
        let from = match after {
            Some(file) => Bound::Excluded((id.clone(), file)),
            None => Bound::Included((id.clone(), 0)),
        };
        let rows = self.restores.lock().unwrap();
        let following = rows.files.range((from, Bound::Unbounded));
        Ok(following
            .take_while(|((restore, _), _)| restore == id)
            .take(limit)
            .map(|((_, file), row)| (*file, row.value))
            .collect())
    }

    async fn forget_restore(&self, id: &RestoreId) -> Result<(), Failure> {
        let mut rows = self.restores.lock().unwrap();
        rows.files.retain(|(restore, _), _| restore != id);
        rows.restores.remove(id);
        Ok(())
    }
}
