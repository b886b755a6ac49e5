//! The port to a restore's records: its plan and its files' checkpoints, by compare-and-set only.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::control_table::{Cas, Versioned};
use crate::failure::Failure;
use crate::restore::{FileCheckpoint, RestoreId, RestoreRecord};

/// Restores and their files' checkpoints, as records with optimistic locking.
///
/// # Laws
/// - Reads are strongly consistent.
/// - Of any number of writers that saw one version exactly one is [`Cas::Applied`].
/// - Versions grow and are never used twice.
#[async_trait]
pub trait RestoreControl: Debug + Send + Sync {
    /// Records a new restore unless its id is taken.
    async fn create_restore(&self, record: &RestoreRecord) -> Result<Cas, Failure>;

    /// The restore's record.
    async fn restore(&self, id: &RestoreId) -> Result<Option<Versioned<RestoreRecord>>, Failure>;

    /// Replaces the restore's record if it still has version `seen`.
    async fn update_restore(&self, seen: i64, record: &RestoreRecord) -> Result<Cas, Failure>;

    /// The checkpoint of one file, or `None` before its first commit.
    async fn file(
        &self,
        id: &RestoreId,
        file: u32,
    ) -> Result<Option<Versioned<FileCheckpoint>>, Failure>;

    /// Moves a file's checkpoint if it still has version `seen`; `None` creates it.
    async fn commit_file(
        &self,
        id: &RestoreId,
        file: u32,
        seen: Option<i64>,
        next: &FileCheckpoint,
    ) -> Result<Cas, Failure>;

    /// Checkpoints of the files after `after`, in order, at most `limit`. Empty at the end.
    async fn files(
        &self,
        id: &RestoreId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, FileCheckpoint)>, Failure>;

    /// Forgets the restore: its files first, its record last, so that an interrupted call can be repeated.
    async fn forget_restore(&self, id: &RestoreId) -> Result<(), Failure>;
}
