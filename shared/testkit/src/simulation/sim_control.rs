//! Snapshots and marks in the control table, as a worker reaches them over its connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::live_control::{LiveControl, LogId, PublishedMark};
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};

use super::sim_clock::SimTime;
use super::sim_ports::at_once;
use super::sim_wire::Wire;
use crate::fake_control::{FakeControl, next_version};

/// Published marks, with all that were ever published.
#[derive(Debug)]
pub struct LiveRows {
    time: SimTime,
    state: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    current: BTreeMap<LogId, Versioned<PublishedMark>>,
    history: Vec<(UnixMillis, LogId, PublishedMark)>,
}

impl LiveRows {
    /// No marks yet.
    #[must_use]
    pub fn new(time: SimTime) -> Self {
        Self {
            time,
            state: Mutex::default(),
        }
    }

    /// Every mark that was ever published, in order, and when.
    #[must_use]
    pub fn history(&self) -> Vec<(UnixMillis, LogId, PublishedMark)> {
        self.state.lock().unwrap().history.clone()
    }

    fn publish(&self, log: &LogId, seen: Option<i64>, mark: &PublishedMark) -> Cas {
        let now = self.time.now();
        let mut state = self.state.lock().unwrap();
        let Some(version) = next_version(state.current.get(log), seen) else {
            return Cas::Lost;
        };
        state.history.push((now, log.clone(), mark.clone()));
        let value = Versioned {
            value: mark.clone(),
            version,
        };
        state.current.insert(log.clone(), value);
        Cas::Applied(version)
    }
}

#[async_trait]
impl LiveControl for LiveRows {
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        Ok(self.state.lock().unwrap().current.get(log).cloned())
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure> {
        Ok(self.publish(log, seen, mark))
    }
}

/// A worker's way to the marks.
#[derive(Clone, Debug)]
pub struct WiredLive {
    rows: Arc<LiveRows>,
    wire: Wire,
}

impl WiredLive {
    /// `rows`, over `wire`.
    #[must_use]
    pub fn new(rows: &Arc<LiveRows>, wire: &Wire) -> Self {
        Self {
            rows: Arc::clone(rows),
            wire: wire.clone(),
        }
    }
}

#[async_trait]
impl LiveControl for WiredLive {
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        let call = self.rows.mark(log);
        self.wire.read("read mark", log.as_str(), call).await?
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure> {
        let (rows, log, mark) = (Arc::clone(&self.rows), log.clone(), mark.clone());
        let effect = move || rows.publish(&log, seen, &mark);
        let about = String::from("mark");
        self.wire.write("publish mark", about, effect).await
    }
}

/// A worker's way to the snapshots' rows.
#[derive(Clone, Debug)]
pub struct WiredControl {
    rows: Arc<FakeControl>,
    wire: Wire,
}

impl WiredControl {
    /// `rows`, over `wire`.
    #[must_use]
    pub fn new(rows: &Arc<FakeControl>, wire: &Wire) -> Self {
        Self {
            rows: Arc::clone(rows),
            wire: wire.clone(),
        }
    }
}

#[async_trait]
impl ControlTable for WiredControl {
    async fn create_snapshot(&self, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let (rows, record) = (Arc::clone(&self.rows), record.clone());
        let about = record.id.to_string();
        let effect = move || at_once(rows.create_snapshot(&record));
        self.wire.write("create snapshot", about, effect).await?
    }

    async fn snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Versioned<SnapshotRecord>>, Failure> {
        let call = self.rows.snapshot(id);
        self.wire.read("read snapshot", id.as_str(), call).await?
    }

    async fn update_snapshot(&self, seen: i64, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let (rows, record) = (Arc::clone(&self.rows), record.clone());
        let about = format!("{} {:?}", record.id, record.status);
        let effect = move || at_once(rows.update_snapshot(seen, &record));
        self.wire.write("update snapshot", about, effect).await?
    }

    async fn segment(
        &self,
        id: &SnapshotId,
        segment: u32,
    ) -> Result<Option<Versioned<Checkpoint>>, Failure> {
        let call = self.rows.segment(id, segment);
        self.wire.read("read segment", id.as_str(), call).await?
    }

    async fn commit_segment(&self, commit: SegmentCommit<'_>) -> Result<Cas, Failure> {
        let rows = Arc::clone(&self.rows);
        let (id, segment, seen) = (commit.snapshot.clone(), commit.segment, commit.seen);
        let (next, part) = (commit.next.clone(), commit.part.cloned());
        let about = format!("{segment} -> part {}", next.next_part);
        let effect = move || {
            let commit = SegmentCommit {
                snapshot: &id,
                segment,
                seen,
                next: &next,
                part: part.as_ref(),
            };
            at_once(rows.commit_segment(commit))
        };
        self.wire.write("commit segment", about, effect).await?
    }

    async fn part(&self, id: &SnapshotId, part: PartId) -> Result<Option<PartRow>, Failure> {
        let call = self.rows.part(id, part);
        self.wire.read("read part", id.as_str(), call).await?
    }

    async fn segments(
        &self,
        id: &SnapshotId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, Checkpoint)>, Failure> {
        let call = self.rows.segments(id, after, limit);
        self.wire.read("list segments", id.as_str(), call).await?
    }

    async fn parts(
        &self,
        id: &SnapshotId,
        after: Option<PartId>,
        limit: u32,
    ) -> Result<Vec<PartRow>, Failure> {
        let call = self.rows.parts(id, after, limit);
        self.wire.read("list parts", id.as_str(), call).await?
    }

    async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), Failure> {
        let (rows, id) = (Arc::clone(&self.rows), id.clone());
        let about = id.to_string();
        let effect = move || at_once(rows.forget_snapshot(&id));
        self.wire.write("forget snapshot", about, effect).await?
    }
}
