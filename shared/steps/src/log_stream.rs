//! A change log read as if it were the stream: the same shards, the same records in the same order, without the 24 hours.
//!
//! So that whoever reads streams can read logs: any number of replicas from one log, and the stream itself has one reader. A shard is
//! given out as far as its lease says, because what lies behind that is not known to be complete.

mod at;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::budget::Clock;
use highwater_domain::change_log::LogName;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::Incident;
use highwater_domain::lineage;
use highwater_domain::log_facts::{ShardEnd, ShardFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore_point::LogShard;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use highwater_lease::{Error as LeaseError, Leases, Position};

use crate::error::StepError;
use crate::known_facts::KnownFacts;
use crate::log_index::{LogIndex, visit_objects};
use crate::shard_records::{ShardObject, ShardRecords};
use crate::shard_rows::lease_of;

use at::At;

/// Bytes of records that are kept for the next answers about a shard.
const AHEAD_BYTES: usize = 4 << 20;

/// The stream of one log.
#[derive(Debug)]
pub struct LogStream {
    store: Arc<dyn ObjectStore>,
    place: LogPlace,
    label: String,
    /// The leases of whoever writes the log, which are only read.
    writers: Leases,
    clock: Arc<dyn Clock>,
    /// What was lost before this was seen by the scan.
    captured_at: UnixMillis,
    lost: Mutex<Option<Incident>>,
    known: KnownFacts,
    ahead: Mutex<HashMap<ShardId, Ahead>>,
}

/// Records that were read and not asked for yet.
#[derive(Debug)]
struct Ahead {
    /// The place of the first of them, as an iterator spells it.
    from: String,
    records: VecDeque<(SequenceNumber, Bytes)>,
}

/// How far a shard may be given out.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// Nothing of it is known to be complete.
    Nothing,
    /// Up to this record.
    Until(SequenceNumber),
    /// All of it; nothing more comes.
    Whole,
}

impl LogStream {
    /// The log of the stream called `label` at `place`, for somebody who has seen everything up to `captured_at`. `writers` are
    /// the leases of the log's shards.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        place: LogPlace,
        label: String,
        writers: Leases,
        clock: Arc<dyn Clock>,
        captured_at: UnixMillis,
    ) -> Self {
        Self {
            store,
            place,
            label,
            writers,
            clock,
            captured_at,
            lost: Mutex::default(),
            known: KnownFacts::default(),
            ahead: Mutex::default(),
        }
    }

    /// The same, with what this process knows of logs already.
    #[must_use]
    pub fn knowing(self, known: KnownFacts) -> Self {
        Self { known, ..self }
    }

    /// The first loss that a listing has met.
    pub fn lost(&self) -> Option<Incident> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.clone()
    }

    /// The log's own word on what is in it.
    async fn index(&self) -> Result<LogIndex, StreamError> {
        let (store, place, label) = (&self.store, &self.place, &self.label);
        let known = self.known.of(&self.url());
        let index = LogIndex::read_again(store, place, label, &known).await;
        let index = index.map_err(|error| self.failed("read the log", error))?;
        self.known.keep(self.url(), &index.facts);
        Ok(index)
    }

    fn failed(&self, operation: &'static str, error: StepError) -> StreamError {
        let failure = match error {
            StepError::Store(failure) | StepError::Control(failure) => failure,
            StepError::Lease(error) if error.is_retryable() => Failure::new(
                FailureKind::Transient,
                operation,
                self.url(),
                error.to_string(),
            ),
            other => Failure::new(
                FailureKind::Corrupt,
                operation,
                self.url(),
                other.to_string(),
            ),
        };
        StreamError::Failed(failure)
    }

    fn url(&self) -> String {
        self.store.url(&self.place.stream(&self.label))
    }

    async fn fact<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, StreamError> {
        let Some(body) = self.store.read(key).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            let message = format!("it is not what a change log keeps there: {error}");
            let url = self.store.url(key);
            StreamError::Failed(Failure::new(FailureKind::Corrupt, "read", url, message))
        })
    }

    async fn known(&self, shard: &ShardId) -> Result<Known, StreamError> {
        let lease = lease_of(shard).map_err(|error| self.failed("name a lease", error))?;
        match self.writers.fetch(&lease).await {
            Ok(row) => Ok(match row.lease.position {
                Position::Open(place) if place.after => Known::Until(place.sequence_number),
                Position::Open(_) => Known::Nothing,
                Position::End => Known::Whole,
            }),
            // An ended shard's lease may have been removed; its end is in the bucket.
            Err(LeaseError::Unknown { .. }) => {
                let key = self.place.shard_end(&self.label, shard);
                let end: Option<ShardEnd> = self.fact(&key).await?;
                Ok(end.map_or(Known::Nothing, |_| Known::Whole))
            }
            Err(error) => Err(self.failed("fetch a lease", error.into())),
        }
    }

    /// Reads the next records from `from` on.
    async fn read(
        &self,
        from: &At,
        known: &Known,
    ) -> Result<Vec<(SequenceNumber, Bytes)>, StreamError> {
        let folder = self.place.stream(&self.label);
        let mut objects = Vec::new();
        let listed = visit_objects(self.store.as_ref(), &folder, &from.shard, |name, object| {
            if name.last >= *from.number() {
                objects.push((name, object.key));
            }
        });
        listed.await.map_err(|error| self.failed("list", error))?;
        let shard_object = |(name, key): (LogName, String)| ShardObject {
            url: self.store.url(&key),
            name,
            key,
        };
        let objects: Vec<ShardObject> = objects.into_iter().map(shard_object).collect();
        let mut records = ShardRecords::new(&self.store, &objects, from.after());
        let (mut read, mut bytes) = (Vec::new(), 0);
        while bytes < AHEAD_BYTES {
            let next = records.next().await;
            let Some(record) = next.map_err(|error| self.failed("read", error))? else {
                break;
            };
            let number = record.sequence_number;
            if matches!(known, Known::Until(last) if number > *last) {
                break;
            }
            if number >= *from.number() {
                bytes += record.raw.len();
                read.push((number, record.raw));
            }
        }
        Ok(read)
    }

    /// What was read ahead from this place on, if it was.
    fn take_ahead(&self, from: &str, shard: &ShardId) -> Option<VecDeque<(SequenceNumber, Bytes)>> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ahead.remove(shard)?;
        (found.from == from).then_some(found.records)
    }

    fn keep_ahead(
        &self,
        shard: &ShardId,
        from: String,
        records: VecDeque<(SequenceNumber, Bytes)>,
    ) {
        if !records.is_empty() {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.insert(shard.clone(), Ahead { from, records });
        }
    }

    /// Losses that the replica's snapshot has not seen the effect of.
    fn note_losses(&self, incidents: &[Incident]) -> Result<(), StreamError> {
        let is_ours = |incident: &&Incident| {
            incident.kind.loses_records()
                // What is left of a stream that has ended is complete.
                && incident.kind != highwater_domain::incident::IncidentKind::StreamEnded
                && !incident.is_healed_by(self.captured_at)
        };
        let Some(lost) = incidents.iter().find(is_ours) else {
            return Ok(());
        };
        let mut known = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| lost.clone());
        let failure = Failure::new(
            FailureKind::Invalid,
            "read the log",
            self.url(),
            format!("changes are missing in it: {}", lost.detail),
        );
        Err(StreamError::Failed(failure))
    }
}

#[async_trait]
impl StreamSource for LogStream {
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError> {
        let index = self.index().await?;
        self.note_losses(&index.facts.incidents)?;
        let shards = index.facts.shards;
        Ok(StreamListing {
            stream_arn: stream_arn.to_owned(),
            label: self.label.clone(),
            view: index.facts.stream.view,
            status: status(&shards),
            shards: shards.into_values().map(listed).collect(),
        })
    }

    async fn children(&self, _: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        let key = self.place.shard_end(&self.label, shard);
        let end: Option<ShardEnd> = self.fact(&key).await?;
        let mut children = Vec::new();
        for id in end.into_iter().flat_map(|end| end.children) {
            let key = self.place.shard_facts(&self.label, &id);
            let facts: Option<ShardFacts> = self.fact(&key).await?;
            children.extend(facts.map(|facts| facts.shard));
        }
        Ok(children)
    }

    async fn iterator(
        &self,
        _: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        let gone = || StreamError::Gone(format!("shard {shard} in {}", self.url()));
        let at = match from {
            StartAt::Position(lineage::Position::At(number)) => At::new(shard, number, false),
            StartAt::Position(lineage::Position::After(number)) => At::new(shard, number, true),
            // A log loses nothing by itself: where it lacks something, it has said so.
            StartAt::Position(lineage::Position::End) | StartAt::WhatIsLeft => return Err(gone()),
        };
        Ok(ShardIterator(at.to_string()))
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        let from: At = iterator.0.parse()?;
        let known = self.known(&from.shard).await?;
        let mut records = match self.take_ahead(&iterator.0, &from.shard) {
            Some(records) => records,
            None if from.is_before(&known) => self.read(&from, &known).await?.into(),
            None => VecDeque::new(),
        };
        let rest = records.split_off(records.len().min(limit as usize));
        let next = match records.back() {
            Some((last, _)) => At::new(&from.shard, last, true),
            None => from,
        };
        // All of a whole shard was read once nothing is left behind what was given out.
        let is_over = known == Known::Whole && records.is_empty();
        let next_text = next.to_string();
        self.keep_ahead(&next.shard, next_text.clone(), rest);
        Ok(RecordPage {
            records: records.into_iter().map(|(_, raw)| raw).collect(),
            next: (!is_over).then_some(ShardIterator(next_text)),
            answered_at: self.clock.now(),
        })
    }
}

/// A stream has ended when every shard of it has: as long as it goes on, one is open, or is a child that the log is still to meet.
fn status(shards: &BTreeMap<ShardId, LogShard>) -> StreamStatus {
    let is_known = |child: &ShardId| shards.contains_key(child);
    let is_over = |shard: &LogShard| {
        let end = shard.end.as_ref();
        end.is_some_and(|end| end.children.iter().all(is_known))
    };
    if !shards.is_empty() && shards.values().all(is_over) {
        StreamStatus::Disabled
    } else {
        StreamStatus::Enabled
    }
}

fn listed(shard: LogShard) -> Shard {
    let start = shard.facts.shard.start.clone();
    Shard {
        // An empty shard ends where it starts.
        end: shard.end.map(|end| end.last.unwrap_or(start)),
        ..shard.facts.shard
    }
}
