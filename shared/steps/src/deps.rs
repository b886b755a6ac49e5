//! What every step works with: the ports, and who watches.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::control_table::ControlTable;
use highwater_domain::object_store::Stores;
use highwater_domain::restore::LoadTotals;
use highwater_domain::scan::{Page, TableScanner};
use highwater_domain::snapshot::PartRow;
use highwater_domain::table::TableDescriber;
use highwater_domain::table_admin::TableAdmin;
use tokio::sync::Notify;

use crate::live_deps::LiveDeps;
use crate::pace::Pace;

/// The ports of the backup workflow. What fills a snapshot also keeps it, so this stands for its [`SnapshotDeps`] wherever those do.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Reads pages.
    pub scanner: Arc<dyn TableScanner>,
    /// Reads settings.
    pub describer: Arc<dyn TableDescriber>,
    /// Enables streams.
    pub admin: Arc<dyn TableAdmin>,
    /// Keeps the scan within its read capacity.
    pub pace: Arc<Pace>,
    /// The live side, for the handoff.
    pub live: LiveDeps,
    /// Keeps the snapshot.
    pub snapshots: SnapshotDeps,
}

impl Deref for Deps {
    type Target = SnapshotDeps;

    fn deref(&self) -> &SnapshotDeps {
        &self.snapshots
    }
}

/// The ports that keep a snapshot, whatever it is filled from: what claims its place, commits its parts, and seals it.
///
/// They are all that a restore into a snapshot has of the backup workflow: a function holds no code that reads tables or streams
/// unless it does.
#[derive(Clone, Debug)]
pub struct SnapshotDeps {
    /// Opens buckets and directories.
    pub stores: Arc<dyn Stores>,
    /// Keeps snapshots, checkpoints and part rows.
    pub control: Arc<dyn ControlTable>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Is told of progress.
    pub observer: Arc<dyn Observer>,
    /// Asks for an early, orderly end.
    pub stop: StopFlag,
}

impl SnapshotDeps {
    /// Whether a step should end as soon as it can do so without losing work.
    #[must_use]
    pub fn should_stop(&self, budget: &Budget) -> bool {
        self.stop.is_set() || budget.is_spent(self.clock.now())
    }
}

/// Set once, by a signal; read between pages, or waited for.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    is_asked: AtomicBool,
    tell: Notify,
}

impl StopFlag {
    /// Asks every step that shares this flag to stop.
    pub fn set(&self) {
        self.0.is_asked.store(true, Ordering::Release);
        self.0.tell.notify_waiters();
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_asked.load(Ordering::Acquire)
    }

    /// Waits until somebody asks; returns at once if somebody has.
    pub async fn asked(&self) {
        // From here on it is told, so that nothing is missed between the look and the wait.
        let told = self.0.tell.notified();
        if !self.is_set() {
            told.await;
        }
    }
}

/// Hears of progress as it happens, for progress bars, logs and metrics. Must not block.
pub trait Observer: Debug + Send + Sync {
    /// A page arrived.
    fn page(&self, _segment: u32, _page: &Page) {}

    /// A part was committed, and this worker wrote it.
    fn part(&self, _row: &PartRow) {}

    /// A part that somebody else had created was found and committed.
    fn adopted(&self, _row: &PartRow) {}

    /// A request was throttled or failed in passing, and is tried again after `wait_ms`.
    fn retrying(&self, _segment: u32, _reason: &str, _wait_ms: u64) {}

    /// Items of a file were accounted for: what became of them, not yet committed.
    fn loaded(&self, _file: u32, _more: &LoadTotals) {}

    /// A file is loaded whole and committed.
    fn file_loaded(&self, _file: u32, _totals: &LoadTotals) {}

    /// A segment is done.
    fn segment_done(&self, _segment: u32) {}

    /// The job's record was read: what comes from here on is about the table of this name.
    fn about(&self, _table: &str) {}

    /// A request of a segment's scan was refused because it came too fast.
    fn throttled(&self, _segment: u32) {}

    /// An execution of a state machine has come to its end.
    fn ended(&self, _end: JobEnd) {}
}

/// How an execution ended. A step that is repeated tells it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// With a sealed snapshot.
    BackupCompleted,
    /// As a failure, which was written down as far as there was a snapshot to write it to.
    BackupFailed,
    /// With every item in its place.
    RestoreCompleted,
    /// As a failure, which was written down as far as there was a restore to write it to.
    RestoreFailed,
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
