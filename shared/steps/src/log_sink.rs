//! Where a poller's records go: all of them to the log, only those that are missing there, or to somebody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_domain::backoff::Backoff;
use highwater_domain::change_log::{LogName, LogObjectError, LogRecords};
use highwater_domain::ids::UnixMillis;
use highwater_domain::sequence_number::{SequenceNumber, ShardOrdinal};
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::stream_log::StreamLog;
use crate::tap_stream::RecordSink;
use crate::write_log::LogWriter;

/// The poller tries again by itself, and sees in between whether it still may.
const TRIES: Backoff = Backoff {
    base_ms: 100,
    max_ms: 1_000,
    attempts: 2,
};

/// A record that was written so long ago and is not in the log was not merely on its way there.
const MISSING_AFTER_MS: u64 = 5 * 60 * 1000;

/// What a sink has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sunk {
    /// Objects that hold records of the batches, whoever made them.
    pub objects: u64,
    /// Records that were not in the log and are now.
    pub back_filled: u64,
    /// Those of them that should have been there long before.
    pub missing: u64,
}

impl Sunk {
    /// Adds another's work.
    pub fn add(&mut self, more: &Self) {
        self.objects += more.objects;
        self.back_filled += more.back_filled;
        self.missing += more.missing;
    }
}

/// Where one shard's records go.
#[derive(Debug)]
pub enum LogSink {
    /// Every batch is written: the follower, the only one that writes.
    All(Box<LogWriter>),
    /// What is not in the log is written: the auditor, who comes behind a writer that cannot prove anything.
    Missing(Box<BackFill>),
    /// Every batch goes to somebody else than the log.
    Tapped(Box<dyn RecordSink>),
}

impl LogSink {
    /// A sink that writes everything.
    #[must_use]
    pub fn all(deps: &LiveDeps, log: &StreamLog, seed: u64) -> Self {
        Self::All(Box::new(writer(deps, log, seed)))
    }

    /// A sink that writes what is missing.
    #[must_use]
    pub fn missing(deps: &LiveDeps, log: &Arc<StreamLog>, seed: u64) -> Self {
        Self::Missing(Box::new(BackFill {
            writer: writer(deps, log, seed),
            log: Arc::clone(log),
            names: None,
        }))
    }

    /// Sees to it that `records` of `shard`, in ascending order, are where they belong; when it returns, they are.
    /// `ordinal` is the shard's place in the order of records.
    pub async fn write(
        &mut self,
        shard: &ShardId,
        ordinal: ShardOrdinal,
        records: &[StreamRecord],
        now: UnixMillis,
    ) -> Result<Sunk, StepError> {
        match self {
            Self::All(writer) => {
                let objects = writer.write(shard, records).await?;
                Ok(Sunk {
                    objects: objects.len() as u64,
                    ..Sunk::default()
                })
            }
            Self::Missing(fill) => fill.write(shard, records, now).await,
            Self::Tapped(sink) => {
                sink.take(shard, ordinal, records).await?;
                Ok(Sunk::default())
            }
        }
    }
}

fn writer(deps: &LiveDeps, log: &StreamLog, seed: u64) -> LogWriter {
    LogWriter::new(
        Arc::clone(&log.store),
        log.place.clone(),
        log.label().to_owned(),
    )
    .observed_by(Arc::clone(&deps.observer))
    .with_retries(TRIES)
    .with_seed(seed)
}

/// Compares batches with what the log has, and fills what it lacks.
#[derive(Debug)]
pub struct BackFill {
    writer: LogWriter,
    log: Arc<StreamLog>,
    /// The shard's log objects, as they were listed last.
    names: Option<Vec<LogName>>,
}

impl BackFill {
    async fn write(
        &mut self,
        shard: &ShardId,
        records: &[StreamRecord],
        now: UnixMillis,
    ) -> Result<Sunk, StepError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(Sunk::default());
        };
        let (first, last) = (&first.sequence_number, &last.sequence_number);
        let is_listed = |names: &Vec<LogName>| names.iter().any(|name| name.last >= *last);
        if !self.names.as_ref().is_some_and(is_listed) {
            self.names = Some(self.list(shard).await?);
        }
        let names = self.names.iter().flatten();
        let overlapping: Vec<LogName> = names
            .filter(|name| name.first <= *last && name.last >= *first)
            .cloned()
            .collect();
        let mut missing: BTreeMap<&SequenceNumber, &StreamRecord> = records
            .iter()
            .map(|record| (&record.sequence_number, record))
            .collect();
        for name in &overlapping {
            if missing.is_empty() {
                break;
            }
            self.strike_out(name, &mut missing).await?;
        }
        let missing: Vec<StreamRecord> = missing.into_values().cloned().collect();
        let objects = self.writer.write(shard, &missing).await?;
        let is_old = |record: &&StreamRecord| {
            now.since(UnixMillis(record.created_at.saturating_mul(1000))) >= MISSING_AFTER_MS
        };
        Ok(Sunk {
            objects: objects.len() as u64,
            back_filled: missing.len() as u64,
            missing: missing.iter().filter(is_old).count() as u64,
        })
    }

    async fn list(&self, shard: &ShardId) -> Result<Vec<LogName>, StepError> {
        let log = &self.log;
        let stream = log.place.stream(log.label());
        let folder = log.place.shard(log.label(), shard);
        let keys = log.keys_below(&folder).await?;
        let names = keys.iter().filter_map(|key| LogName::parse(&stream, key));
        Ok(names.collect())
    }

    /// Takes the records that the object holds out of `missing`.
    ///
    /// An object that cannot be read holds nothing: what it should hold is written beside it, or in its place.
    async fn strike_out(
        &self,
        name: &LogName,
        missing: &mut BTreeMap<&SequenceNumber, &StreamRecord>,
    ) -> Result<(), StepError> {
        let log = &self.log;
        let key = name.key(&log.place.stream(log.label()));
        let body = log.store.read(&key).await.map_err(StepError::Store)?;
        let Some(body) = body else {
            return Ok(());
        };
        let mut there = Vec::new();
        for record in LogRecords::new(&key, name, &body[..]) {
            match record {
                Ok(record) => there.push((record.event_id().into_owned(), record.sequence_number)),
                Err(damage @ LogObjectError::Record { .. }) => {
                    return Err(StepError::LogCorrupt(format!(
                        "{}: {damage}",
                        log.store.url(&key)
                    )));
                }
                Err(damage) => {
                    tracing::warn!(object = log.store.url(&key), %damage, "a damaged object of the log counts for nothing");
                    return Ok(());
                }
            }
        }
        for (event, number) in there {
            if let Some(record) = missing.remove(&number)
                && record.event_id() != event
            {
                return Err(StepError::LogCorrupt(format!(
                    "{}: record {number} is event {event} there and event {} in the stream",
                    log.store.url(&key),
                    record.event_id()
                )));
            }
        }
        Ok(())
    }
}
