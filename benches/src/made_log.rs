//! Makes a change log of any size beside a backup, through the product's own writers.
//!
//! Records, facts of shards and ends, the generation and the mark: what a follower would have left after reading the
//! stream. The replayed table has no stream, so the backup gets its handoff here, and is put back in time: the log
//! then lies in the past.

use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::handoff::{Handoff, HandoffOf, KeptHandoff};
use highwater_domain::ids::UnixMillis;
use highwater_domain::live_control::{PUBLISHED_MARK_VERSION, PublishedMark};
use highwater_domain::log_facts::{
    Ending, LOG_FACTS_VERSION, Origin, ShardEnd, ShardFacts, StreamFacts,
};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::{Mark, UnixSeconds};
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::sequence_number::{Generation, SequenceNumber, ShardOrdinal};
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};
use highwater_domain::stream_record::{RecordError, StreamRecord};
use highwater_steps::StepError;
use highwater_steps::write_log::LogWriter;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::changes::Changes;
use crate::lineage::{LineageError, SHARDS, children, parent, shard_of, shards};

/// Records of a shard that become one object, as in a batch of the deployed mapping.
pub const BATCH: usize = 1000;

/// When the stream was enabled.
pub const LABEL: &str = "2026-01-14T10:18:50.622";

/// The roots are so much older than the backup.
const ROOT_AGE_MS: u64 = 60 * 60 * 1000;

/// A log could not be made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Failure),
    /// A writer failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The shards are none.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// A record that was made here is none.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A document is not what it should be.
    #[error("{0}")]
    Document(String),
}

/// Where a log goes, and what it is a log of.
#[derive(Clone, Debug)]
pub struct LogOf {
    /// The store, with nothing in it of this log.
    pub store: Arc<dyn ObjectStore>,
    /// The log's place in it.
    pub place: LogPlace,
    /// The stream.
    pub stream_arn: String,
    /// The backup's `backup.json`.
    pub backup_json: String,
}

/// A backup that was put back in time.
#[derive(Clone, Debug)]
pub struct PutBack {
    metadata: Metadata,
    /// When its handoff is captured.
    captured_at: UnixMillis,
    /// When its scan has ended.
    pub scan_ended: UnixMillis,
}

/// What a log came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Its records.
    pub records: u64,
    /// Their bytes before compression, each with its line's end.
    pub plain_bytes: u64,
    /// The objects that hold them.
    pub objects: u64,
}

/// One batch on its way from whoever makes it to whoever writes it.
struct Batch {
    shard: usize,
    records: Vec<StreamRecord>,
}

/// The last record of a shard, and when it was made.
#[derive(Clone, Debug)]
struct End {
    last: SequenceNumber,
    at: UnixSeconds,
}

impl End {
    fn of(record: &StreamRecord) -> Self {
        Self {
            last: record.sequence_number.clone(),
            at: UnixSeconds(record.created_at),
        }
    }
}

impl LogOf {
    /// Reads the backup's metadata, and moves its times back by `by_ms`.
    pub async fn put_back(&self, by_ms: u64) -> Result<PutBack, MakeError> {
        let broken = |what: &str| MakeError::Document(format!("{}: {what}", self.backup_json));
        let body = self.store.read(&self.backup_json).await?;
        let body = body.ok_or_else(|| broken("it is not there"))?;
        let mut metadata: Metadata =
            serde_json::from_slice(&body).map_err(|error| broken(&error.to_string()))?;
        let moved = |text: &str| {
            let at = UnixMillis::from_rfc3339(text).ok_or_else(|| broken("a time is none"))?;
            Ok::<_, MakeError>(UnixMillis(at.0.saturating_sub(by_ms)))
        };
        let captured_at = moved(&metadata.backup_start_time)?;
        let scan_ended = moved(metadata.backup_end_time.as_deref().unwrap_or_default())?;
        metadata.backup_start_time = captured_at.to_rfc3339();
        metadata.backup_end_time = Some(scan_ended.to_rfc3339());
        Ok(PutBack {
            metadata,
            captured_at,
            scan_ended,
        })
    }

    /// Writes the whole log, then its facts, then the handoff.
    pub async fn make(&self, backup: PutBack, changes: &Changes) -> Result<LogSize, MakeError> {
        let roots_made = UnixMillis(backup.captured_at.0.saturating_sub(ROOT_AGE_MS));
        let shards = shards(changes, roots_made)?;
        let mut size = LogSize::default();
        let mut ends: Vec<Option<End>> = vec![None; SHARDS];
        self.write_records(changes, &shards, &mut size, &mut ends)
            .await?;
        if size.records != changes.records() {
            let made = size.records;
            return Err(MakeError::Document(format!(
                "only {made} records were made"
            )));
        }
        self.write_facts(&shards, &ends, backup.captured_at).await?;
        let through = changes.stamp(changes.records() - 1);
        let roots = shards.iter().take(2).map(|(shard, _)| shard.clone());
        self.hand_over(backup, roots.collect(), through).await?;
        Ok(size)
    }

    async fn write_records(
        &self,
        changes: &Changes,
        shards: &[(Shard, ShardOrdinal)],
        size: &mut LogSize,
        ends: &mut [Option<End>],
    ) -> Result<(), MakeError> {
        let (store, place) = (Arc::clone(&self.store), self.place.clone());
        let writer = LogWriter::new(store, place, LABEL.to_owned());
        let mut batches = batches(changes.clone());
        while let Some(batch) = batches.recv().await {
            let Batch { shard, records } = batch?;
            let (Some((known, _)), Some(end)) = (shards.get(shard), ends.get_mut(shard)) else {
                return Err(MakeError::Document(format!("there is no shard {shard}")));
            };
            *end = records.last().map(End::of);
            let bytes = records.iter().map(|record| record.raw.len() as u64 + 1);
            size.plain_bytes += bytes.sum::<u64>();
            size.records += records.len() as u64;
            size.objects += writer.write(&known.id, &records).await?.len() as u64;
        }
        Ok(())
    }

    async fn write_facts(
        &self,
        shards: &[(Shard, ShardOrdinal)],
        ends: &[Option<End>],
        registered_at: UnixMillis,
    ) -> Result<(), MakeError> {
        let end_of = |shard: usize| ends.get(shard).and_then(Option::as_ref);
        for (number, (shard, ordinal)) in shards.iter().enumerate() {
            let above = parent(number).and_then(end_of);
            let facts = ShardFacts {
                version: LOG_FACTS_VERSION,
                shard: shard.clone(),
                ordinal: *ordinal,
                event_time: above.map(|end| end.at),
                origin: above.map_or(Origin::Listed, |_| Origin::Child),
                registered_at,
            };
            let key = self.place.shard_facts(LABEL, &shard.id);
            self.put(key, &facts).await?;
            let children: Vec<ShardId> = children(number)
                .into_iter()
                .filter_map(|child| Some(shards.get(child)?.0.id.clone()))
                .collect();
            if children.is_empty() {
                continue;
            }
            let end = ShardEnd {
                version: LOG_FACTS_VERSION,
                shard: shard.id.clone(),
                last: end_of(number).map(|end| end.last.clone()),
                event_time: end_of(number).map(|end| end.at),
                children,
                ending: Ending::Read,
            };
            let key = self.place.shard_end(LABEL, &shard.id);
            self.put(key, &end).await?;
        }
        Ok(())
    }

    /// Generation and mark of the log, and the backup's handoff.
    async fn hand_over(
        &self,
        backup: PutBack,
        roots: Vec<Shard>,
        through: UnixSeconds,
    ) -> Result<(), MakeError> {
        let PutBack {
            mut metadata,
            captured_at,
            ..
        } = backup;
        let generation = Generation(1);
        let listing = StreamListing {
            stream_arn: self.stream_arn.clone(),
            label: LABEL.to_owned(),
            view: StreamView::NewAndOldImages,
            status: StreamStatus::Enabled,
            shards: roots,
        };
        let of = HandoffOf {
            table_arn: metadata.table_arn.clone(),
            table_id: metadata.table_id.clone(),
            generation,
            consistent: true,
        };
        let handoff = Handoff::of(of, &listing, Vec::new(), captured_at);
        let facts = StreamFacts {
            version: LOG_FACTS_VERSION,
            generation,
            stream_arn: self.stream_arn.clone(),
            stream_label: LABEL.to_owned(),
            view: StreamView::NewAndOldImages,
            table_arn: metadata.table_arn.clone(),
            table_id: metadata.table_id.clone(),
            met_at: captured_at,
            log_from: handoff.log_from,
        };
        self.put(self.place.generation(generation), &facts).await?;
        let mark = PublishedMark {
            version: PUBLISHED_MARK_VERSION,
            stream_arn: self.stream_arn.clone(),
            stream_label: LABEL.to_owned(),
            generation,
            mark: Mark {
                proven: Some(through),
                rolled: Some(through),
                assumed: Some(through),
            },
            publication_ms: 0,
            computed_at: UnixMillis(through.0 * 1000),
            bounded_by: None,
            open_shards: 4,
            held_back: false,
        };
        self.put(self.place.mark(LABEL), &mark).await?;
        metadata.handoff = Some(KeptHandoff::Read(Box::new(handoff)));
        metadata.no_handoff = None;
        self.put(self.backup_json.clone(), &metadata).await
    }

    async fn put(&self, key: String, value: &impl Serialize) -> Result<(), MakeError> {
        let body = serde_json::to_vec(value)
            .map_err(|error| MakeError::Document(format!("{key}: {error}")))?;
        let object = NewObject {
            key,
            body: body.into(),
            content_type: "application/json",
            ..NewObject::default()
        };
        self.store.replace(object).await?;
        Ok(())
    }
}

/// Makes the records on a thread of its own, as many at a time as are written at once.
fn batches(changes: Changes) -> mpsc::Receiver<Result<Batch, RecordError>> {
    let (give, take) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut waiting: Vec<Vec<StreamRecord>> = (0..SHARDS).map(|_| Vec::new()).collect();
        let mut bytes = Vec::new();
        for number in 0..changes.records() {
            bytes.clear();
            changes.record(number, &mut bytes);
            let record = StreamRecord::read(&Bytes::copy_from_slice(&bytes));
            let shard = shard_of(&changes, number);
            let Some(records) = waiting.get_mut(shard) else {
                return;
            };
            match record {
                Ok(record) => records.push(record),
                Err(error) => return drop(give.blocking_send(Err(error))),
            }
            if records.len() == BATCH {
                let records = std::mem::take(records);
                // Nobody takes it: writing has failed, and says why.
                if give.blocking_send(Ok(Batch { shard, records })).is_err() {
                    return;
                }
            }
        }
        for (shard, records) in waiting.into_iter().enumerate() {
            if !records.is_empty() {
                drop(give.blocking_send(Ok(Batch { shard, records })));
            }
        }
    });
    take
}
