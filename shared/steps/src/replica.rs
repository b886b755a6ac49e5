//! Replicas: a second table, loaded from a snapshot and kept equal by the log.
//!
//! `plan` claims the target, the restore workflow loads it, `advance` takes the replica from phase to phase, `apply` gives it the log,
//! `promote` lets it go. Each may be run again at any time, and by any number of processes.

pub mod advance;
pub mod apply;
mod checks;
mod handoff;
pub mod live_diff;
mod loading;
pub mod mend;
pub mod plan;
pub mod promote;
pub mod recheck;
mod recheck_items;
pub mod refused;
pub mod sides;
pub mod sink;
pub mod standing;
pub mod status;
pub mod strip;

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::fenced_writer::{Fence, FencedTable};
use highwater_domain::ids::UnixMillis;
use highwater_domain::layout::Layout;
use highwater_domain::log_place::LogPlace;
use highwater_domain::replica::{FENCE_ATTRIBUTE, FenceMode, ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::replica_targets::{FeedTargets, ReplicaTargets};
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::table::TableDescriber;

use crate::error::StepError;
use crate::known_facts::KnownFacts;
use crate::live_deps::LogDeps;

pub(crate) use loading::{AnsweredWriter, Loading};

/// The ports of replicas. Who makes one, or lets it go, also feeds it, so this stands for its [`FeedDeps`] wherever those do.
#[derive(Clone, Debug)]
pub struct ReplicaDeps {
    /// Feeds them.
    pub feed: FeedDeps,
    /// Reads the source's settings.
    pub describer: Arc<dyn TableDescriber>,
    /// Reaches their tables.
    pub targets: Arc<dyn ReplicaTargets>,
}

impl Deref for ReplicaDeps {
    type Target = FeedDeps;

    fn deref(&self) -> &FeedDeps {
        &self.feed
    }
}

/// The ports that feed replicas.
#[derive(Clone, Debug)]
pub struct FeedDeps {
    /// The ports of the source's log.
    pub live: LogDeps,
    /// Keeps replicas' records.
    pub replicas: Arc<dyn ReplicaControl>,
    /// Keeps the restores that load them.
    pub restores: Arc<dyn RestoreControl>,
    /// Reaches their tables.
    pub feeds: Arc<dyn FeedTargets>,
    /// What this process knows of their logs.
    pub known: KnownFacts,
    /// Is told of progress.
    pub observer: Arc<dyn ReplicaObserver>,
}

/// Hears of a replica's progress as it happens. Must not block.
pub trait ReplicaObserver: Debug + Send + Sync {
    /// Records were dealt with.
    fn applied(&self, _replica: &ReplicaId, _applied: &sink::Applied) {}

    /// The replica stands so.
    fn stands(&self, _record: &ReplicaRecord) {}

    /// What was ours was taken out of the replica.
    fn stripped(&self, _replica: &ReplicaId, _stripped: &strip::Stripped) {}

    /// The replica does not take a record; it is kept whole.
    fn refused(&self, _replica: &ReplicaId, _reason: &str) {}

    /// So many records of a batch were not given to a replica at once: the applier will, from the log.
    fn deferred(&self, _records: u64) {}

    /// All replicas of one table, as they stand at the end of a run.
    fn stand(&self, _records: &[ReplicaRecord], _now: UnixMillis) {}
}

impl ReplicaObserver for crate::deps::Unobserved {}

/// The replica's table, and what keeps its order.
pub(crate) fn fenced_table<'a>(record: &'a ReplicaRecord, fence: &'a str) -> FencedTable<'a> {
    FencedTable {
        target: record.target.as_str(),
        fence: match record.fence {
            FenceMode::Table => Fence::Table(fence),
            FenceMode::Attribute => Fence::Attribute(FENCE_ATTRIBUTE),
        },
    }
}

/// The folder of the replicas of the table whose log is at `log`, as a place in which each has its own.
#[must_use]
pub fn folder(log: &LogPlace) -> String {
    format!("{}{}/replicas", Layout::folder(log.prefix()), log.table())
}

/// Where a replica keeps what it knows of the log's shards, and what it does not take.
#[must_use]
pub fn place_of(log: &LogPlace, id: &ReplicaId) -> LogPlace {
    LogPlace::new(&folder(log), id.as_str())
}

/// The record of a replica that must exist.
pub async fn load(
    deps: &FeedDeps,
    source_arn: &str,
    id: &ReplicaId,
) -> Result<Versioned<ReplicaRecord>, StepError> {
    let record = deps.replicas.replica(source_arn, id).await;
    let record = record.map_err(StepError::Control)?;
    record.ok_or_else(|| StepError::ReplicaNotFound(id.clone()))
}

/// Changes the record until nobody comes between. `change` gets the latest one; what it gives back unchanged is not written.
pub async fn update(
    deps: &FeedDeps,
    source_arn: &str,
    id: &ReplicaId,
    change: impl Fn(&ReplicaRecord) -> Result<ReplicaRecord, StepError> + Send + Sync,
) -> Result<ReplicaRecord, StepError> {
    loop {
        let known = load(deps, source_arn, id).await?;
        let record = change(&known.value)?;
        if record == known.value {
            return Ok(record);
        }
        let cas = deps.replicas.update_replica(known.version, &record).await;
        if let Cas::Applied(_) = cas.map_err(StepError::Control)? {
            deps.observer.stands(&record);
            return Ok(record);
        }
    }
}
