//! The port to the control table: who has done what, by compare-and-set only.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::ids::SnapshotId;
use crate::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};

/// A value with the version that a change must name.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// What was read.
    pub value: T,
    /// Its version, from 1.
    pub version: i64,
}

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cas {
    /// The change is in, and this is the new version.
    Applied(i64),
    /// Somebody else was first, or this very call was and its answer got lost. Read again.
    Lost,
}

/// One segment's step forward: its next checkpoint, with the part that leads there.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentCommit<'a> {
    /// The snapshot.
    pub snapshot: &'a SnapshotId,
    /// The segment.
    pub segment: u32,
    /// The version of the checkpoint that this step was computed from; `None` if there was none.
    pub seen: Option<i64>,
    /// The checkpoint after this step.
    pub next: &'a Checkpoint,
    /// The part that was written, if any: a step over filtered or absent items writes none.
    pub part: Option<&'a PartRow>,
}

/// Snapshots, segments and parts, as records with optimistic locking.
///
/// # Laws
/// - Reads are strongly consistent.
/// - Of any number of writers that saw one version exactly one is [`Cas::Applied`].
/// - A commit's part row and its checkpoint appear together or not at all; a row never changes.
/// - Versions grow and are never used twice.
#[async_trait]
pub trait ControlTable: Debug + Send + Sync {
    /// Records a new snapshot unless its id is taken.
    async fn create_snapshot(&self, record: &SnapshotRecord) -> Result<Cas, Failure>;

    /// The snapshot's record.
    async fn snapshot(&self, id: &SnapshotId)
    -> Result<Option<Versioned<SnapshotRecord>>, Failure>;

    /// Replaces the snapshot's record if it still has version `seen`.
    async fn update_snapshot(&self, seen: i64, record: &SnapshotRecord) -> Result<Cas, Failure>;

    /// The segment's checkpoint, or `None` before its first commit.
    async fn segment(
        &self,
        id: &SnapshotId,
        segment: u32,
    ) -> Result<Option<Versioned<Checkpoint>>, Failure>;

    /// Moves a segment forward: part row and checkpoint in one transaction.
    async fn commit_segment(&self, commit: SegmentCommit<'_>) -> Result<Cas, Failure>;

    /// The row of one part, if it was committed.
    async fn part(&self, id: &SnapshotId, part: PartId) -> Result<Option<PartRow>, Failure>;

    /// Checkpoints of the segments after `after`, in order, at most `limit`. Empty at the end.
    async fn segments(
        &self,
        id: &SnapshotId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, Checkpoint)>, Failure>;

    /// Rows of the parts after `after`, in (segment, number) order, at most `limit`. Empty at the end.
    async fn parts(
        &self,
        id: &SnapshotId,
        after: Option<PartId>,
        limit: u32,
    ) -> Result<Vec<PartRow>, Failure>;

    /// Forgets the snapshot: rows first, its record last, so that an interrupted call can be repeated.
    async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), Failure>;
}
