//! The demo's accident: a worker that dies after its part is in the bucket and before its row is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use highwater_asl::{TaskError, Tasks};
use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::ids::SnapshotId;
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};
use highwater_steps::{Deps, Observer};
use serde_json::Value;
use tokio::sync::Notify;

use crate::console::Console;
use crate::format::count;
use crate::tasks::StepTasks;

/// A control table that lets one commit hang for ever, once, so that its worker can be killed there.
#[derive(Debug)]
pub struct Accident {
    inner: Arc<dyn ControlTable>,
    at: PartId,
    happened: AtomicBool,
    now: Notify,
}

impl Accident {
    /// The worker of `at` will die when it commits that part.
    pub fn new(inner: Arc<dyn ControlTable>, at: PartId) -> Self {
        Self {
            inner,
            at,
            happened: AtomicBool::new(false),
            now: Notify::new(),
        }
    }

    /// Whether it has come to that.
    pub fn happened(&self) -> bool {
        self.happened.load(Ordering::Acquire)
    }
}

#[async_trait]
impl ControlTable for Accident {
    async fn create_snapshot(&self, record: &SnapshotRecord) -> Result<Cas, Failure> {
        self.inner.create_snapshot(record).await
    }

    async fn snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Versioned<SnapshotRecord>>, Failure> {
        self.inner.snapshot(id).await
    }

    async fn update_snapshot(&self, seen: i64, record: &SnapshotRecord) -> Result<Cas, Failure> {
        self.inner.update_snapshot(seen, record).await
    }

    async fn segment(
        &self,
        id: &SnapshotId,
        segment: u32,
    ) -> Result<Option<Versioned<Checkpoint>>, Failure> {
        self.inner.segment(id, segment).await
    }

    async fn commit_segment(&self, commit: SegmentCommit<'_>) -> Result<Cas, Failure> {
        let fatal = commit.part.is_some_and(|part| part.id == self.at);
        if fatal && !self.happened.swap(true, Ordering::AcqRel) {
            self.now.notify_one();
            std::future::pending::<()>().await;
        }
        self.inner.commit_segment(commit).await
    }

    async fn part(&self, id: &SnapshotId, part: PartId) -> Result<Option<PartRow>, Failure> {
        self.inner.part(id, part).await
    }

    async fn segments(
        &self,
        id: &SnapshotId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, Checkpoint)>, Failure> {
        self.inner.segments(id, after, limit).await
    }

    async fn parts(
        &self,
        id: &SnapshotId,
        after: Option<PartId>,
        limit: u32,
    ) -> Result<Vec<PartRow>, Failure> {
        self.inner.parts(id, after, limit).await
    }

    async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), Failure> {
        self.inner.forget_snapshot(id).await
    }
}

/// The steps, one of whose workers is killed as Lambda would kill it.
#[derive(Debug)]
pub struct AccidentProne {
    steps: StepTasks,
    accident: Arc<Accident>,
    console: Console,
}

impl AccidentProne {
    /// The steps over `deps`, whose control table is `accident`.
    pub fn new(deps: Deps, accident: Arc<Accident>, console: Console) -> Self {
        Self {
            steps: StepTasks::new(deps),
            accident,
            console,
        }
    }
}

#[async_trait]
impl Tasks for AccidentProne {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let name = function.trim_end_matches("FunctionArn");
        let victim = name == "ScanSegment" && payload["segment"] == self.accident.at.segment;
        if name != "ScanSegment" {
            self.console.say(&format!("   {name}"));
        }
        if !victim {
            return self.steps.invoke(function, payload).await;
        }
        tokio::select! {
            outcome = self.steps.invoke(function, payload) => outcome,
            () = self.accident.now.notified() => {
                let PartId { segment, number } = self.accident.at;
                self.console.say(&format!(
                    "   ScanSegment {segment}: worker KILLED after part {number} reached the bucket, before it was committed"
                ));
                Err(TaskError::new("Runtime.ExitError", "the worker was killed by the demo"))
            }
        }
    }
}

/// Tells the story of the scan.
#[derive(Debug)]
pub struct Narrator {
    console: Console,
}

impl Narrator {
    /// A narrator who speaks on `console`.
    pub fn new(console: Console) -> Self {
        Self { console }
    }
}

impl Observer for Narrator {
    fn adopted(&self, row: &PartRow) {
        let PartId { segment, number } = row.id;
        self.console.say(&format!(
            "   ScanSegment {segment}: a new worker found part {number} ({} items) without its row, adopted it and goes on from its last key",
            count(row.items)
        ));
    }

    fn segment_done(&self, segment: u32) {
        self.console.say(&format!("   ScanSegment {segment}: done"));
    }
}
