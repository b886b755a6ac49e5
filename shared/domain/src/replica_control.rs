//! The port to the replicas' records, by compare-and-set only.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::control_table::{Cas, Versioned};
use crate::failure::Failure;
use crate::replica::{ReplicaId, ReplicaRecord};

/// Replicas, as records with optimistic locking. Those of one table lie together, so that whoever writes its log finds them all.
///
/// # Laws
/// - Reads are strongly consistent.
/// - Of any number of writers that saw one version exactly one is [`Cas::Applied`].
/// - Versions grow and are never used twice.
#[async_trait]
pub trait ReplicaControl: Debug + Send + Sync {
    /// Records a new replica unless its id is taken.
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure>;

    /// A replica of the table whose ARN is `source_arn`.
    async fn replica(
        &self,
        source_arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure>;

    /// Replaces the record if it still has version `seen`.
    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure>;

    /// All replicas of the table whose ARN is `source_arn`, by their ids.
    async fn replicas(&self, source_arn: &str) -> Result<Vec<ReplicaRecord>, Failure>;

    /// Forgets a replica; nothing is wrong with one that is not there.
    async fn forget_replica(&self, source_arn: &str, id: &ReplicaId) -> Result<(), Failure>;
}
