//! Checkpoints that live as long as the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;

use super::Checkpoints;

/// Names told at once.
const PAGE: usize = 100;

/// Checkpoints in memory: for tests, and for snapshots that are small enough to begin again.
#[derive(Debug, Default)]
pub struct MemoryCheckpoints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, (Bytes, i64)>,
    versions: i64,
}

impl MemoryCheckpoints {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half changed under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Checkpoints for MemoryCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Versioned<Bytes>>, Failure> {
        let state = self.state();
        let found = state.records.get(name).cloned();
        Ok(found.map(|(value, version)| Versioned { value, version }))
    }

    async fn save(&self, name: &str, seen: Option<i64>, body: Bytes) -> Result<Cas, Failure> {
        let mut state = self.state();
        if state.records.get(name).map(|(_, version)| *version) != seen {
            return Ok(Cas::Lost);
        }
        state.versions += 1;
        let version = state.versions;
        state.records.insert(name.to_owned(), (body, version));
        Ok(Cas::Applied(version))
    }

    async fn names(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, Failure> {
        let state = self.state();
        let from = match after {
            Some(after) => Bound::Excluded(after.to_owned()),
            None => Bound::Included(prefix.to_owned()),
        };
        let behind = state.records.range((from, Bound::Unbounded));
        let names = behind.map(|(name, _)| name);
        let of_prefix = names.skip_while(|name| name.as_str() < prefix);
        let of_prefix = of_prefix.take_while(|name| name.starts_with(prefix));
        Ok(of_prefix.take(PAGE).cloned().collect())
    }
}
