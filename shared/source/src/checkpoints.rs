//! Where a source keeps how far it is: a small port, and two places behind it.

mod kv;
mod memory;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;

pub use kv::KvCheckpoints;
pub use memory::MemoryCheckpoints;

/// Named records with versions: the plan with its handoff, one checkpoint per segment, what is known of shards, what was lost.
///
/// [`KvCheckpoints`] keeps them in DynamoDB, [`MemoryCheckpoints`] forgets them with the process. A place of your own needs
/// these three functions and nothing else: names are up to 600 bytes of printable ASCII, bodies up to 300 KB, mostly far less.
///
/// # Laws
/// - Reads are strongly consistent.
/// - Of any number of savers that saw one version exactly one is [`Cas::Applied`].
/// - Versions of one name grow and are never used twice.
#[async_trait]
pub trait Checkpoints: Debug + Send + Sync {
    /// The record of this name.
    async fn load(&self, name: &str) -> Result<Option<Versioned<Bytes>>, Failure>;

    /// Saves the record if it is still the version that was `seen`, or if there is none and none was.
    async fn save(&self, name: &str, seen: Option<i64>, body: Bytes) -> Result<Cas, Failure>;

    /// Names that begin with `prefix`, in byte order, from the first one behind `after`; as many as the place likes to tell at once,
    /// none only at the end.
    async fn names(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, Failure>;
}
