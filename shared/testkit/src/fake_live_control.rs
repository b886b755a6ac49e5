//! Published marks in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::live_control::{LiveControl, LogId, PublishedMark};

use crate::fake_control::next_version;

/// The marks of the control table, by the rules of the real one.
#[derive(Debug, Default)]
pub struct FakeLiveControl {
    marks: Mutex<BTreeMap<LogId, Versioned<PublishedMark>>>,
}

impl FakeLiveControl {
    /// No mark yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl LiveControl for FakeLiveControl {
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        Ok(self.marks.lock().unwrap().get(log).cloned())
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure> {
        let mut marks = self.marks.lock().unwrap();
        let Some(version) = next_version(marks.get(log), seen) else {
            return Ok(Cas::Lost);
        };
        let value = mark.clone();
        marks.insert(log.clone(), Versioned { value, version });
        Ok(Cas::Applied(version))
    }
}
