//! What the live side's steps work with.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::change_log::LogName;
use highwater_domain::incident::Incident;
use highwater_domain::live_control::{LiveControl, PublishedMark};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::Stores;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_source::StreamSource;
use highwater_domain::table::TableLook;
use highwater_lease::Leases;

use crate::deps::StopFlag;

/// The ports of the live side: handoff, change log, leases, mark. Who reads a stream also keeps what it is read into, so this stands
/// for its [`LogDeps`] wherever those do.
#[derive(Clone, Debug)]
pub struct LiveDeps {
    /// Reads streams.
    pub streams: Arc<dyn StreamSource>,
    /// Keeps the log.
    pub log: LogDeps,
}

impl Deref for LiveDeps {
    type Target = LogDeps;

    fn deref(&self) -> &LogDeps {
        &self.log
    }
}

/// The ports of a change log, its leases and its mark, for whoever writes it from a stream or reads it for a replica. A function that
/// reads no stream holds no code that does.
#[derive(Clone, Debug)]
pub struct LogDeps {
    /// Reads settings.
    pub describer: Arc<dyn TableLook>,
    /// Opens buckets and directories.
    pub stores: Arc<dyn Stores>,
    /// Keeps shards' positions and owners.
    pub leases: Arc<dyn LeaseGroups>,
    /// Keeps the published mark.
    pub live: Arc<dyn LiveControl>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Is told of progress.
    pub observer: Arc<dyn LiveObserver>,
    /// Asks for an early, orderly end.
    pub stop: StopFlag,
}

/// How often a deadline is compared with the clock, which may jump.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

impl LogDeps {
    /// Whether a step should end as soon as it can do so without losing work.
    #[must_use]
    pub fn should_stop(&self, budget: &Budget) -> bool {
        self.stop.is_set() || budget.is_spent(self.clock.now())
    }

    /// Waits until a step should end.
    pub async fn stopped(&self, budget: &Budget) {
        let mut asked = std::pin::pin!(self.stop.asked());
        loop {
            let wait = match budget.left_ms(self.clock.now()) {
                Some(0) => return,
                Some(left) => Duration::from_millis(left).min(CLOCK_EVERY),
                None => return asked.await,
            };
            tokio::select! {
                biased;
                () = &mut asked => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// Opens groups of leases: a partition of the control table, or a simulator's rows.
pub trait LeaseGroups: Debug + Send + Sync {
    /// The leases of the group `group`, for the worker called `worker`.
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error>;
}

/// Hears of the live side's progress as it happens. Must not block.
pub trait LiveObserver: Debug + Send + Sync {
    /// Records of a shard are durable in the log.
    fn logged(&self, _shard: &ShardId, _object: &LogName, _stored_bytes: u64) {}

    /// A shard's position is committed up to records stamped `event_time`.
    fn advanced(&self, _shard: &ShardId, _event_time: Option<UnixSeconds>) {}

    /// A shard is read to its end, and these go on from it.
    fn shard_ended(&self, _shard: &ShardId, _children: &[ShardId]) {}

    /// This worker got or lost the right to read a shard.
    fn owns(&self, _shard: &ShardId, _owned: bool) {}

    /// Something was lost, or may have been. Each incident is told to one worker, who put it on record.
    fn incident(&self, _incident: &Incident) {}

    /// This worker has come upon an incident by itself, whether it was on record already or not.
    fn met(&self, _incident: &Incident) {}

    /// The mark moved.
    fn marked(&self, _mark: &PublishedMark) {}

    /// A request failed in passing and is tried again after `wait_ms`.
    fn retrying(&self, _what: &str, _reason: &str, _wait_ms: u64) {}

    /// What comes from here on is about the table of this name.
    fn about(&self, _table: &str) {}

    /// A batch of a stream was answered; all of it, or from some record on, is to come again.
    fn delivered(&self, _comes_again: bool) {}

    /// So many records of the stream were not in the log and are now.
    fn back_filled(&self, _records: u64) {}

    /// An audit has computed the mark, whether it moved or not, and so many losses that no snapshot has healed hold it
    /// back.
    fn audited(&self, _mark: &PublishedMark, _unhealed: u64) {}
}

impl LiveObserver for crate::deps::Unobserved {}
