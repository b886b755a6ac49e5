//! The ports that only the outermost shell can provide.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use highwater_aws::{Clients, KvControlTable};
use highwater_domain::budget::Clock;
use highwater_domain::change_log::LogName;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::Incident;
use highwater_domain::layout::Destination;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_domain::restore::LoadTotals;
use highwater_domain::shard::ShardId;
use highwater_domain::snapshot::PartRow;
use highwater_lease::{Leases, Settings};
use highwater_steps::Observer;
use highwater_steps::live_deps::{LeaseGroups, LiveObserver};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        // A clock before 1970 is wrong in any case; 0 keeps the arithmetic sane.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Opens buckets, and nothing else: a function has no disk worth keeping a backup on.
#[derive(Clone, Debug)]
pub struct S3Stores(pub Clients);

impl Stores for S3Stores {
    fn open(&self, destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        match destination {
            Destination::S3 { bucket, .. } => Ok(Arc::new(self.0.s3_store(bucket))),
            Destination::Directory { .. } => Err(Failure::new(
                FailureKind::Invalid,
                "open",
                destination.to_string(),
                "a Lambda function can write to s3:// only",
            )),
        }
    }
}

/// Leases in the control table, each group a partition of its own.
#[derive(Clone, Debug)]
pub struct KvLeaseGroups {
    table: KvControlTable,
    settings: Settings,
}

impl KvLeaseGroups {
    /// Groups of leases in `table`, with these times and limits.
    #[must_use]
    pub fn new(table: KvControlTable, settings: Settings) -> Self {
        Self { table, settings }
    }
}

impl LeaseGroups for KvLeaseGroups {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        Leases::new(self.table.table(), group, worker, self.settings)
    }
}

/// Writes progress to the log, one line per fact that an operator may look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoggingObserver;

impl Observer for LoggingObserver {
    fn part(&self, row: &PartRow) {
        tracing::info!(
            object = row.object,
            items = row.items,
            stored_bytes = row.stored_bytes,
            "part committed"
        );
    }

    fn adopted(&self, row: &PartRow) {
        tracing::warn!(
            object = row.object,
            items = row.items,
            "part of an earlier attempt adopted"
        );
    }

    fn retrying(&self, segment: u32, reason: &str, wait_ms: u64) {
        tracing::warn!(segment, reason, wait_ms, "request failed, trying again");
    }

    fn file_loaded(&self, file: u32, totals: &LoadTotals) {
        tracing::info!(file, %totals, "file loaded");
    }

    fn segment_done(&self, segment: u32) {
        tracing::info!(segment, "segment done");
    }
}

impl LiveObserver for LoggingObserver {
    fn logged(&self, shard: &ShardId, object: &LogName, stored_bytes: u64) {
        tracing::info!(
            %shard,
            first = %object.first,
            last = %object.last,
            records = object.count,
            stored_bytes,
            "records logged"
        );
    }

    fn advanced(&self, shard: &ShardId, event_time: Option<UnixSeconds>) {
        let event_time = event_time.map(|second| second.0);
        tracing::debug!(%shard, event_time, "position committed");
    }

    fn shard_ended(&self, shard: &ShardId, children: &[ShardId]) {
        let children = children.iter().map(ShardId::as_str).collect::<Vec<_>>();
        tracing::info!(%shard, ?children, "shard read to its end");
    }

    fn owns(&self, shard: &ShardId, owned: bool) {
        tracing::info!(%shard, owned, "lease changed hands");
    }

    fn incident(&self, incident: &Incident) {
        tracing::error!(?incident, "incident");
    }

    fn marked(&self, mark: &PublishedMark) {
        tracing::info!(?mark, "mark published");
    }

    fn retrying(&self, what: &str, reason: &str, wait_ms: u64) {
        tracing::warn!(what, reason, wait_ms, "request failed, trying again");
    }
}
