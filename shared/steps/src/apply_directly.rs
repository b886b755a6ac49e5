//! Gives a batch of the stream to the replicas of its table as soon as it is in the log, so that they lag by seconds.
//!
//! It is a short cut and no more: the applier reads everything again from the log, finds at the fences what is done, and does what is
//! not. So whatever stands in the way here is left to it at once, and counted. No batch fails or waits for a replica.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use highwater_domain::budget::Budget;
use highwater_domain::change_log::once_in_order;
use highwater_domain::ids::UnixMillis;
use highwater_domain::layout::Destination;
use highwater_domain::log_facts::ShardFacts;
use highwater_domain::log_place::UNPLACED;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::replica::{Phase, ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::replica_targets::{FeedTargets, TargetAccess};
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_arn::StreamArn;
use highwater_domain::stream_record::StreamRecord;

use crate::consume_stream::LogDestination;
use crate::deps::StopFlag;
use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::replica::refused::RefusedPlace;
use crate::replica::sink::ReplicaWriter;
use crate::replica::{ReplicaObserver, place_of};

/// For so long the replicas of a table are taken for what they were. A replica that is over by then has no fences, without which no
/// transaction is done.
const LOOK_EVERY_MS: u64 = 10_000;

/// For so long a replica that was in trouble is left to the applier: the stream must not wait with every batch.
const REST_MS: u64 = 30_000;

/// The share of an invocation's time that replicas may take, and the most of it.
const TIME_SHARE: u64 = 8;
const MOST_TIME_MS: u64 = 3_000;

/// So many shards' ordinals are kept.
const MOST_SHARDS: usize = 10_000;

/// What a sandbox needs to write to replicas, and what it knows of them. Cheap to clone; clones share that.
#[derive(Clone, Debug)]
pub struct DirectApply {
    replicas: Arc<dyn ReplicaControl>,
    targets: Arc<dyn FeedTargets>,
    observer: Arc<dyn ReplicaObserver>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the source's ARN: when it was looked at, and its live replicas if that went well.
    replicas: HashMap<String, (UnixMillis, Option<Vec<ReplicaRecord>>)>,
    /// Facts never change.
    ordinals: HashMap<(ReplicaId, String, ShardId), ShardOrdinal>,
    rests: BTreeMap<ReplicaId, UnixMillis>,
}

/// One batch that is durable in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) destination: &'a LogDestination,
    pub(crate) stream: &'a StreamArn,
    pub(crate) shard: &'a ShardId,
    pub(crate) records: &'a [StreamRecord],
}

impl DirectApply {
    /// The short cut to the replicas that `replicas` tells of.
    #[must_use]
    pub fn new(
        replicas: Arc<dyn ReplicaControl>,
        targets: Arc<dyn FeedTargets>,
        observer: Arc<dyn ReplicaObserver>,
    ) -> Self {
        Self {
            replicas,
            targets,
            observer,
            known: Arc::default(),
        }
    }

    /// The same, which tells another of its progress.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn ReplicaObserver>) -> Self {
        Self { observer, ..self }
    }

    /// Gives a batch to each live replica of its table. What is not done is counted, and is the applier's.
    pub(crate) async fn apply(&self, deps: &LiveDeps, batch: Batch<'_>, budget: Budget) {
        if batch.records.is_empty() {
            return;
        }
        let limit = time_for_replicas(budget, deps.clock.now());
        let count = batch.records.len() as u64;
        let live = tokio::time::timeout(limit, self.live(deps, &batch)).await;
        let live = match live {
            Ok(Some(live)) => live,
            Ok(None) => return self.observer.deferred(count),
            Err(_) => {
                self.note_replicas(&batch, deps.clock.now(), None);
                tracing::warn!("the replicas could not be looked up in time");
                return self.observer.deferred(count);
            }
        };
        let now = deps.clock.now();
        let (resting, rested): (Vec<_>, Vec<_>) = live
            .into_iter()
            .filter(|record| takes(record, &batch))
            .partition(|record| self.rests(&record.id, now));
        for _ in &resting {
            self.observer.deferred(count);
        }
        if rested.is_empty() {
            return;
        }
        // A batch may have its records in no order, and doubled.
        let records = once_in_order(batch.records.iter().cloned());
        let writes = rested.iter().map(|record| async {
            let writing = self.write(deps, &batch, record, &records);
            let written = tokio::time::timeout(limit, writing).await;
            let trouble = match written {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it took too long".to_owned()),
            };
            if let Some(reason) = trouble {
                tracing::warn!(replica = %record.id, reason, "records are left to the applier");
                self.rest(&record.id, deps.clock.now());
            }
            self.observer.deferred(count);
        });
        join_all(writes).await;
    }

    /// The live replicas of the batch's table; `None` if that cannot be known.
    async fn live(&self, deps: &LiveDeps, batch: &Batch<'_>) -> Option<Vec<ReplicaRecord>> {
        let (source, now) = (source_of(batch.stream), deps.clock.now());
        if let Some((at, known)) = self.known().replicas.get(source)
            && now.since(*at) < LOOK_EVERY_MS
            && *at <= now
        {
            return known.clone();
        }
        let found = match self.replicas.replicas(source).await {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!(%error, "the replicas could not be looked up");
                None
            }
        };
        let live = found.map(|mut found| {
            found.retain(|record| record.phase == Phase::Live);
            found
        });
        self.note_replicas(batch, now, live.clone());
        live
    }

    fn note_replicas(&self, batch: &Batch<'_>, at: UnixMillis, live: Option<Vec<ReplicaRecord>>) {
        let source = source_of(batch.stream).to_owned();
        self.known().replicas.insert(source, (at, live));
    }

    /// Writes to one replica. `false` if the shard's place in the order of writes is not known yet.
    async fn write(
        &self,
        deps: &LiveDeps,
        batch: &Batch<'_>,
        record: &ReplicaRecord,
        records: &[StreamRecord],
    ) -> Result<bool, StepError> {
        let store = deps.stores.open(&batch.destination.0);
        let store = store.map_err(StepError::Store)?;
        let Some(ordinal) = self.ordinal(store.as_ref(), batch, &record.id).await? else {
            return Ok(false);
        };
        let target = self.targets.open_feed(&TargetAccess::from(record)).await;
        let target = target.map_err(StepError::Table)?;
        let log = batch.destination.place(batch.stream.table());
        let refused = RefusedPlace::new(store, &log, &record.id);
        let observer = Arc::clone(&self.observer);
        let writer = ReplicaWriter::new(record, target.writer, refused, observer);
        writer
            .apply(ordinal, records, &StopFlag::default())
            .await
            .map(|_| true)
    }

    /// The shard's place as the applier has it: another one would put its records in another order.
    async fn ordinal(
        &self,
        store: &dyn ObjectStore,
        batch: &Batch<'_>,
        replica: &ReplicaId,
    ) -> Result<Option<ShardOrdinal>, StepError> {
        if batch.shard.as_str() == UNPLACED {
            return Ok(None);
        }
        let label = batch.stream.label();
        let name = (replica.clone(), label.to_owned(), batch.shard.clone());
        if let Some(known) = self.known().ordinals.get(&name) {
            return Ok(Some(*known));
        }
        let log = batch.destination.place(batch.stream.table());
        let key = place_of(&log, replica).shard_facts(label, batch.shard);
        let Some(body) = store.read(&key).await.map_err(StepError::Store)? else {
            return Ok(None);
        };
        let facts: ShardFacts = serde_json::from_slice(&body).map_err(|error| {
            let url = store.url(&key);
            StepError::LogCorrupt(format!("{url} is not what a replica keeps there: {error}"))
        })?;
        let mut known = self.known();
        if known.ordinals.len() >= MOST_SHARDS {
            known.ordinals.clear();
        }
        known.ordinals.insert(name, facts.ordinal);
        Ok(Some(facts.ordinal))
    }

    fn rests(&self, replica: &ReplicaId, now: UnixMillis) -> bool {
        let known = self.known();
        let since = known.rests.get(replica).copied();
        since.is_some_and(|since| since <= now && now.since(since) < REST_MS)
    }

    fn rest(&self, replica: &ReplicaId, now: UnixMillis) {
        self.known().rests.insert(replica.clone(), now);
    }

    /// A poisoned lock means that somebody panicked between two entries: each is whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ARN of the stream's table.
fn source_of(stream: &StreamArn) -> &str {
    let arn = stream.as_str();
    arn.split_once("/stream/").map_or(arn, |(table, _)| table)
}

/// Whether a replica is fed from this stream and this log.
fn takes(record: &ReplicaRecord, batch: &Batch<'_>) -> bool {
    let log = record.log.parse::<Destination>();
    record.stream_label == batch.stream.label() && log.is_ok_and(|log| log == batch.destination.0)
}

fn time_for_replicas(budget: Budget, now: UnixMillis) -> Duration {
    let share = budget.left_ms(now).map(|left| left / TIME_SHARE);
    Duration::from_millis(share.unwrap_or(MOST_TIME_MS).min(MOST_TIME_MS))
}
