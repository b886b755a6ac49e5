//! Writes a log's records to a replica, each behind its fence.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::backoff::Backoff;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fenced_writer::{FencedWriter, MAX_ORDERS, Transacted};
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::replica_batch::{
    ReplicaBatch, ReplicaRules, ReplicaWrite, Resent, next_transaction, replica_batch, resent,
    unfinished,
};
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;

use super::refused::RefusedPlace;
use super::{ReplicaObserver, fenced_table};
use crate::deps::StopFlag;
use crate::error::StepError;
use crate::tap_stream::{RecordSink, RecordSinks};

/// Transactions of one batch that are under way at once: they are of different keys.
const AT_ONCE: usize = 4;

/// How often a transaction is tried by itself. Whoever gave the records tries again after that.
const TRIES: Backoff = Backoff {
    base_ms: 50,
    max_ms: 2_000,
    attempts: 8,
};

/// What became of records. `records = written + stale + superseded + seen + filtered + refused`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that came.
    pub records: u64,
    /// Records that are in the replica because of this.
    pub written: u64,
    /// Records that came too late: the replica has them, or later ones.
    pub stale: u64,
    /// Records whose key had a later one in their batch.
    pub superseded: u64,
    /// Records that the scan has seen.
    pub seen: u64,
    /// Records that the filter leaves out.
    pub filtered: u64,
    /// Records that the replica does not take; each is kept whole.
    pub refused: u64,
}

impl Applied {
    /// Adds another's.
    pub fn add(&mut self, more: &Self) {
        self.records += more.records;
        self.written += more.written;
        self.stale += more.stale;
        self.superseded += more.superseded;
        self.seen += more.seen;
        self.filtered += more.filtered;
        self.refused += more.refused;
    }

    /// Whether every record is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let known = self.written + self.stale + self.superseded + self.seen + self.filtered;
        self.records == known + self.refused
    }
}

/// Writes to one replica. Cheap to clone; clones share the counts.
#[derive(Clone, Debug)]
pub struct ReplicaWriter {
    record: Arc<ReplicaRecord>,
    rules: Arc<ReplicaRules>,
    fences: Arc<str>,
    writer: Arc<dyn FencedWriter>,
    refused: RefusedPlace,
    observer: Arc<dyn ReplicaObserver>,
    /// Whether fences are looked at before they are written against: where most of the records are expected to be there.
    looks_first: bool,
    total: Arc<Mutex<Applied>>,
}

impl ReplicaWriter {
    /// A writer of the replica of `record`.
    #[must_use]
    pub fn new(
        record: &ReplicaRecord,
        writer: Arc<dyn FencedWriter>,
        refused: RefusedPlace,
        observer: Arc<dyn ReplicaObserver>,
    ) -> Self {
        Self {
            rules: Arc::new(ReplicaRules::from(record)),
            fences: record.fence_table().into(),
            record: Arc::new(record.clone()),
            writer,
            refused,
            observer,
            looks_first: false,
            total: Arc::default(),
        }
    }

    /// The same, with a look at the fences first: a read costs a fraction of a write that is refused.
    #[must_use]
    pub fn looking_first(mut self) -> Self {
        self.looks_first = true;
        self
    }

    /// What became of all records so far.
    #[must_use]
    pub fn total(&self) -> Applied {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes records of one shard, in ascending order. When it returns well all of them are dealt with for good.
    ///
    /// # Errors
    /// A failure in passing that lasts, or a table that cannot be written at all.
    pub async fn apply(
        &self,
        ordinal: ShardOrdinal,
        records: &[StreamRecord],
        stop: &StopFlag,
    ) -> Result<Applied, StepError> {
        let batch = replica_batch(&self.rules, ordinal, records);
        let batch = batch.map_err(|strange| {
            let log = &self.record.log;
            StepError::LogCorrupt(format!(
                "the log of replica {} at {log}: {strange}",
                self.record.id
            ))
        })?;
        let ReplicaBatch {
            writes,
            superseded,
            seen,
            filtered,
        } = batch;
        let mut applied = Applied {
            records: records.len() as u64,
            superseded,
            seen,
            filtered,
            ..Applied::default()
        };
        let mut left = writes;
        if self.looks_first {
            let (fresh, stale) = self.look(left).await?;
            (left, applied.stale) = (fresh, stale);
        }
        let mut transactions = Vec::new();
        while !left.is_empty() {
            let rest = left.split_off(next_transaction(&left));
            transactions.push(std::mem::replace(&mut left, rest));
        }
        let done: Vec<Applied> = stream::iter(transactions)
            .map(|writes| self.write(writes, stop))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for part in &done {
            applied.add(part);
        }
        self.total
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(&applied);
        self.observer.applied(&self.record.id, &applied);
        Ok(applied)
    }

    /// Leaves out what the replica has.
    async fn look(&self, writes: Vec<ReplicaWrite>) -> Result<(Vec<ReplicaWrite>, u64), StepError> {
        let (mut left, mut stale) = (Vec::new(), 0);
        let mut writes = writes;
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(MAX_ORDERS));
            let fenced: Vec<_> = writes.iter().map(ReplicaWrite::fenced).collect();
            let table = fenced_table(&self.record, &self.fences);
            let orders = self.writer.orders(table, &fenced).await;
            let orders = orders.map_err(StepError::Table)?;
            drop(fenced);
            let (fresh, known) = unfinished(writes, &orders);
            left.extend(fresh);
            stale += known;
            writes = rest;
        }
        Ok((left, stale))
    }

    /// One transaction, until each of its writes is done, stale or refused.
    async fn write(
        &self,
        writes: Vec<ReplicaWrite>,
        stop: &StopFlag,
    ) -> Result<Applied, StepError> {
        let mut applied = Applied::default();
        let mut open = VecDeque::from([writes]);
        let mut attempt = 0;
        while let Some(writes) = open.pop_front() {
            let fenced: Vec<_> = writes.iter().map(ReplicaWrite::fenced).collect();
            let table = fenced_table(&self.record, &self.fences);
            let answer = self.writer.transact(table, &fenced).await;
            drop(fenced);
            match answer {
                Ok(Transacted::Done) => applied.written += writes.len() as u64,
                Ok(Transacted::Canceled(verdicts)) => {
                    let Resent {
                        again,
                        stale,
                        refused,
                        waits_for,
                    } = resent(writes, verdicts);
                    applied.stale += stale;
                    for (write, reason) in &refused {
                        self.refuse(write, reason, &mut applied).await?;
                    }
                    if again.is_empty() {
                        continue;
                    }
                    if let Some(reason) = waits_for {
                        wait(&mut attempt, stop, self.passing(&reason)).await?;
                    }
                    open.push_front(again);
                }
                Err(failure) if failure.kind == FailureKind::Invalid => {
                    self.divide(writes, &failure, &mut open, &mut applied)
                        .await?;
                }
                Err(failure) if failure.kind.is_retryable() => {
                    wait(&mut attempt, stop, failure).await?;
                    open.push_front(writes);
                }
                Err(failure) => return Err(StepError::Table(failure)),
            }
        }
        Ok(applied)
    }

    /// A request that is refused as a whole is halved until what is refused stands alone.
    async fn divide(
        &self,
        mut writes: Vec<ReplicaWrite>,
        failure: &Failure,
        open: &mut VecDeque<Vec<ReplicaWrite>>,
        applied: &mut Applied,
    ) -> Result<(), StepError> {
        if let [write] = writes.as_slice() {
            return self.refuse(write, &failure.message, applied).await;
        }
        let rest = writes.split_off(writes.len() / 2);
        open.push_front(rest);
        open.push_front(writes);
        Ok(())
    }

    async fn refuse(
        &self,
        write: &ReplicaWrite,
        reason: &str,
        applied: &mut Applied,
    ) -> Result<(), StepError> {
        applied.refused += 1;
        if self.refused.keep(write, reason).await? {
            let (replica, order) = (&self.record.id, &write.order);
            tracing::error!(%replica, order, reason, "the replica does not take a record; it is kept");
            self.observer.refused(replica, reason);
        }
        Ok(())
    }

    fn passing(&self, reason: &str) -> Failure {
        let target = self.record.target.as_str();
        Failure::new(FailureKind::Transient, "TransactWriteItems", target, reason)
    }
}

/// Waits before another attempt; an error if there have been enough, or a stop is asked for.
async fn wait(attempt: &mut u32, stop: &StopFlag, failure: Failure) -> Result<(), StepError> {
    let wait_ms = TRIES.wait_ms(*attempt, fastrand::f64());
    let Some(wait_ms) = wait_ms.filter(|_| !stop.is_set()) else {
        return Err(StepError::Table(failure));
    };
    *attempt += 1;
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    Ok(())
}

/// Gives each lease of the log a writer of the replica.
#[derive(Clone, Debug)]
pub struct ReplicaSinks(pub ReplicaWriter);

impl RecordSinks for ReplicaSinks {
    fn open(&self, stop: &StopFlag) -> Box<dyn RecordSink> {
        Box::new(ReplicaSink {
            writer: self.0.clone(),
            stop: stop.clone(),
        })
    }
}

#[derive(Debug)]
struct ReplicaSink {
    writer: ReplicaWriter,
    stop: StopFlag,
}

#[async_trait]
impl RecordSink for ReplicaSink {
    async fn take(
        &mut self,
        _: &ShardId,
        ordinal: ShardOrdinal,
        records: &[StreamRecord],
    ) -> Result<(), StepError> {
        self.writer.apply(ordinal, records, &self.stop).await?;
        Ok(())
    }
}
