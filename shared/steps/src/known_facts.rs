//! What is known of logs' shards and will not change any more, for whoever looks at the same log again and again.
//!
//! A log tells each shard by two small objects that are written once. It has thousands of them after some weeks, and whoever keeps a
//! replica looks every few seconds: without this, that would be thousands of requests each time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_domain::restore_point::{LogFacts, LogShard};
use highwater_domain::shard::ShardId;

/// The shards of one log.
pub type KnownShards = Arc<BTreeMap<ShardId, LogShard>>;

/// The shards of each log that this process has looked at, by the URL of the log's folder. Clones share them.
///
/// Memory: a few hundred bytes for each shard.
#[derive(Clone, Debug, Default)]
pub struct KnownFacts(Arc<Mutex<HashMap<String, KnownShards>>>);

impl KnownFacts {
    /// What is known of the log in this folder.
    #[must_use]
    pub fn of(&self, folder: &str) -> KnownShards {
        self.logs().get(folder).cloned().unwrap_or_default()
    }

    /// Keeps what a look at the log in this folder has shown.
    pub fn keep(&self, folder: String, facts: &LogFacts) {
        let shards = Arc::new(facts.shards.clone());
        self.logs().insert(folder, shards);
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<String, KnownShards>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
