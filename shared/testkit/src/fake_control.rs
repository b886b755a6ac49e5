//! A control table in memory, with the compare-and-set rules of the real one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::SnapshotId;
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};

use crate::fake_replica_control::ReplicaRows;
use crate::fake_restore_control::RestoreRows;

/// A control table in memory.
#[derive(Debug, Default)]
pub struct FakeControl {
    rows: Mutex<Rows>,
    pub(crate) restores: Mutex<RestoreRows>,
    pub(crate) replicas: Mutex<ReplicaRows>,
}

#[derive(Debug, Default)]
struct Rows {
    snapshots: BTreeMap<SnapshotId, Versioned<SnapshotRecord>>,
    segments: BTreeMap<(SnapshotId, u32), Versioned<Checkpoint>>,
    parts: BTreeMap<(SnapshotId, PartId), PartRow>,
}

impl FakeControl {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no row of any kind is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let rows = self.locked();
        let restores = self.restores.lock().unwrap();
        rows.snapshots.is_empty()
            && rows.segments.is_empty()
            && rows.parts.is_empty()
            && restores.is_empty()
            && self.replicas.lock().unwrap().is_empty()
    }

    /// Every part row of a snapshot, in order.
    #[must_use]
    pub fn all_parts(&self, id: &SnapshotId) -> Vec<PartRow> {
        let rows = self.locked();
        let of_snapshot = rows
            .parts
            .iter()
            .filter(|((snapshot, _), _)| snapshot == id);
        of_snapshot.map(|(_, row)| row.clone()).collect()
    }

    fn locked(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }
}

/// The next version if the row still has the one that the writer saw.
pub(crate) fn next_version<T>(stored: Option<&Versioned<T>>, seen: Option<i64>) -> Option<i64> {
    let version = stored.map(|row| row.version);
    (version == seen).then(|| version.unwrap_or(0) + 1)
}

/// A limit of 0 would page for ever.
pub(crate) fn page_size(operation: &'static str, limit: u32) -> Result<usize, Failure> {
    if limit == 0 {
        return Err(Failure::new(
            FailureKind::Invalid,
            operation,
            "fake control table",
            "a page of 0 rows",
        ));
    }
    Ok(limit as usize)
}

#[async_trait]
impl ControlTable for FakeControl {
    async fn create_snapshot(&self, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let mut rows = self.locked();
        if rows.snapshots.contains_key(&record.id) {
            return Ok(Cas::Lost);
        }
        let value = Versioned {
            value: record.clone(),
            version: 1,
        };
        rows.snapshots.insert(record.id.clone(), value);
        Ok(Cas::Applied(1))
    }

    async fn snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Versioned<SnapshotRecord>>, Failure> {
        Ok(self.locked().snapshots.get(id).cloned())
    }

    async fn update_snapshot(&self, seen: i64, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let mut rows = self.locked();
        let Some(version) = next_version(rows.snapshots.get(&record.id), Some(seen)) else {
            return Ok(Cas::Lost);
        };
        let value = Versioned {
            value: record.clone(),
            version,
        };
        rows.snapshots.insert(record.id.clone(), value);
        Ok(Cas::Applied(version))
    }

    async fn segment(
        &self,
        id: &SnapshotId,
        segment: u32,
    ) -> Result<Option<Versioned<Checkpoint>>, Failure> {
        Ok(self.locked().segments.get(&(id.clone(), segment)).cloned())
    }

    async fn commit_segment(&self, commit: SegmentCommit<'_>) -> Result<Cas, Failure> {
        if commit
            .part
            .is_some_and(|row| row.id.segment != commit.segment)
        {
            let resource = format!("{}/{}", commit.snapshot, commit.segment);
            return Err(Failure::new(
                FailureKind::Invalid,
                "commit_segment",
                resource,
                "the part belongs to another segment",
            ));
        }
        let mut rows = self.locked();
        let place = (commit.snapshot.clone(), commit.segment);
        let Some(version) = next_version(rows.segments.get(&place), commit.seen) else {
            return Ok(Cas::Lost);
        };
        if let Some(row) = commit.part {
            let part = (commit.snapshot.clone(), row.id);
            if rows.parts.contains_key(&part) {
                return Ok(Cas::Lost);
            }
            rows.parts.insert(part, row.clone());
        }
        let value = Versioned {
            value: commit.next.clone(),
            version,
        };
        rows.segments.insert(place, value);
        Ok(Cas::Applied(version))
    }

    async fn part(&self, id: &SnapshotId, part: PartId) -> Result<Option<PartRow>, Failure> {
        Ok(self.locked().parts.get(&(id.clone(), part)).cloned())
    }

    async fn segments(
        &self,
        id: &SnapshotId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, Checkpoint)>, Failure> {
        let limit = page_size("segments", limit)?;
        let from = match after {
            Some(segment) => Bound::Excluded((id.clone(), segment)),
            None => Bound::Included((id.clone(), 0)),
        };
        let rows = self.locked();
        let following = rows.segments.range((from, Bound::Unbounded));
        Ok(following
            .take_while(|((snapshot, _), _)| snapshot == id)
            .take(limit)
            .map(|((_, segment), row)| (*segment, row.value.clone()))
            .collect())
    }

    async fn parts(
        &self,
        id: &SnapshotId,
        after: Option<PartId>,
        limit: u32,
    ) -> Result<Vec<PartRow>, Failure> {
        let limit = page_size("parts", limit)?;
        let first = PartId {
            segment: 0,
            number: 0,
        };
        let from = match after {
            Some(part) => Bound::Excluded((id.clone(), part)),
            None => Bound::Included((id.clone(), first)),
        };
        let rows = self.locked();
        let following = rows.parts.range((from, Bound::Unbounded));
        Ok(following
            .take_while(|((snapshot, _), _)| snapshot == id)
            .take(limit)
            .map(|(_, row)| row.clone())
            .collect())
    }

    async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), Failure> {
        let mut rows = self.locked();
        rows.parts.retain(|(snapshot, _), _| snapshot != id);
        rows.segments.retain(|(snapshot, _), _| snapshot != id);
        rows.snapshots.remove(id);
        Ok(())
    }
}
