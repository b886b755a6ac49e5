//! A table with a stream: linearizable writes with their whole history, and one open shard per partition.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use highwater_domain::ids::UnixMillis;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};
use highwater_domain::stream_source::StreamError;

use super::sim_clock::SimTime;
use super::sim_record::{Change, SimRecord, item};
use super::sim_sequence::{behind, plus};
use super::sim_stream::StreamCall;
use super::sim_trace::SimTrace;
use crate::hash_order::mix;

/// How the table deviates from a well-behaved one. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Nastiness {
    /// How late a record is published, mostly: 0 to this.
    pub publish_ms: u64,
    /// How late one record of a hundred is published, and everything behind it in its shard.
    pub straggler_ms: u64,
    /// How much a stamp may go back, in seconds.
    pub stamp_back: u64,
    /// How long listings and `CHILD_SHARDS` are wrong about a shard that was made or closed.
    pub lies_ms: u64,
    /// How many of a hundred answers of `GetRecords` are empty without reason.
    pub empty_percent: u8,
    /// The most records of one page.
    pub page: usize,
    /// How long records can be read after they were written.
    pub retention_ms: u64,
    /// How much longer than that some are kept; and how long a shard is listed after its records are gone.
    pub trim_jitter_ms: u64,
    /// How long a stream that was just enabled lists nothing.
    pub enabling_ms: u64,
    /// How old an eventually consistent read may be.
    pub stale_ms: u64,
    /// Whether sequence numbers jump, and scan pages end anywhere with writes between their items.
    pub wild: bool,
}

impl Nastiness {
    /// Nothing but what a test does by hand, and DynamoDB's own 24 hours.
    pub const CALM: Self = Self {
        publish_ms: 0,
        straggler_ms: 0,
        stamp_back: 0,
        lies_ms: 0,
        empty_percent: 0,
        page: 1000,
        retention_ms: 24 * 60 * 60 * 1000,
        trim_jitter_ms: 0,
        enabling_ms: 0,
        stale_ms: 0,
        wild: false,
    };
}

/// One state of an item, from its write on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// When it was committed.
    pub at: UnixMillis,
    /// The item; `None` from a delete on.
    pub item: Option<Bytes>,
    /// The record that tells of it; `None` while the table had no stream.
    pub record: Option<Arc<SimRecord>>,
}

/// A write that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// When it was committed.
    pub at: UnixMillis,
    /// Its record; `None` if the table has no stream.
    pub record: Option<Arc<SimRecord>>,
}

/// A table with the string key `id`, and its stream.
pub struct SimTable {
    name: String,
    pub(crate) time: SimTime,
    pub(crate) nasty: Nastiness,
    pub(crate) trace: SimTrace,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) random: fastrand::Rng,
    /// 0 while the table is dropped.
    pub(crate) incarnation: u64,
    /// All states of each item, by its place in scan order.
    pub(crate) items: BTreeMap<(u64, String), Vec<Version>>,
    pub(crate) partitions: Vec<Partition>,
    /// All streams of all tables of this name, the last one first to be asked.
    pub(crate) streams: Vec<Stream>,
    pub(crate) holds_publication: bool,
    pub(crate) stamp_skew: i64,
    pub(crate) scripted_listings: VecDeque<StreamListing>,
    pub(crate) scripted_children: VecDeque<(ShardId, Vec<Shard>)>,
    pub(crate) scripted_errors: VecDeque<(StreamCall, StreamError)>,
    pub(crate) empty_pages: u32,
    pub(crate) iterators: u64,
    pub(crate) scan_pages: u64,
}

/// A range of the table's keys, by hash: from here up to the next one's beginning.
pub(crate) struct Partition {
    pub(crate) from: u64,
    pub(crate) shard: Option<ShardId>,
}

pub(crate) struct Stream {
    pub(crate) arn: String,
    pub(crate) label: String,
    pub(crate) view: StreamView,
    pub(crate) enabled_at: UnixMillis,
    pub(crate) disabled_at: Option<UnixMillis>,
    /// Whether the table was dropped with it and its listing went too.
    pub(crate) is_gone: bool,
    pub(crate) shards: BTreeMap<ShardId, SimShard>,
}

pub(crate) struct SimShard {
    pub(crate) parent: Option<ShardId>,
    pub(crate) children: Vec<ShardId>,
    pub(crate) start: String,
    pub(crate) end: Option<String>,
    pub(crate) made_at: UnixMillis,
    pub(crate) closed_at: Option<UnixMillis>,
    pub(crate) records: Vec<Arc<SimRecord>>,
    /// How many of the records are gone by a test's own hand.
    pub(crate) trimmed: usize,
    /// Whether the shard can be read no more, although it may be listed.
    pub(crate) is_forgotten: bool,
    /// The greatest stamp on its path.
    pub(crate) event_time: UnixSeconds,
    pub(crate) trims_later_ms: u64,
}

impl SimShard {
    /// The last number that it has used, or where it begins.
    pub(crate) fn last_number(&self) -> &str {
        let last = self.records.last();
        last.map_or(&self.start, |record| record.sequence_number.as_str())
    }
}

impl Stream {
    pub(crate) fn status(&self, now: UnixMillis, enabling_ms: u64) -> StreamStatus {
        match self.disabled_at {
            Some(_) => StreamStatus::Disabled,
            None if now.since(self.enabled_at) < enabling_ms => StreamStatus::Enabling,
            None => StreamStatus::Enabled,
        }
    }
}

impl fmt::Debug for SimTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTable")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl SimTable {
    /// An active, empty table without a stream, of one partition.
    #[must_use]
    pub fn new(name: &str, trace: SimTrace, time: SimTime, seed: u64, nasty: Nastiness) -> Self {
        Self {
            name: name.to_owned(),
            time,
            nasty,
            trace,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                incarnation: 1,
                items: BTreeMap::new(),
                partitions: vec![Partition {
                    from: 0,
                    shard: None,
                }],
                streams: Vec::new(),
                holds_publication: false,
                stamp_skew: 0,
                scripted_listings: VecDeque::new(),
                scripted_children: VecDeque::new(),
                scripted_errors: VecDeque::new(),
                empty_pages: 0,
                iterators: 0,
                scan_pages: 0,
            }),
        }
    }

    /// A table with a stream of both images and one open shard, which does nothing by itself: records are published at
    /// once, listings are true, and nothing is trimmed within 24 hours.
    #[must_use]
    pub fn calm(name: &str) -> Arc<Self> {
        let time = SimTime::start();
        let table = Self::new(name, SimTrace::off(time), time, 1, Nastiness::CALM);
        table.enable_stream(StreamView::NewAndOldImages);
        Arc::new(table)
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its clock.
    #[must_use]
    pub fn time(&self) -> SimTime {
        self.time
    }

    /// The table's ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        let name = &self.name;
        format!("arn:aws:dynamodb:eu-north-1:123456789012:table/{name}")
    }

    /// Writes an item, `{"id":{"S":…},"v":{"S":…}}`. `None` if it is there already: then there is no record.
    pub fn put(&self, key: &str, value: &str) -> Option<Written> {
        self.write(key, Some(item(key, value)))
    }

    /// Writes an item given as DynamoDB JSON, whose `id` is `key`.
    pub fn put_item(&self, key: &str, item: &str) -> Option<Written> {
        self.write(key, Some(Bytes::copy_from_slice(item.as_bytes())))
    }

    /// Deletes an item. `None` if it is not there.
    pub fn delete(&self, key: &str) -> Option<Written> {
        self.write(key, None)
    }

    fn write(&self, key: &str, new: Option<Bytes>) -> Option<Written> {
        let now = self.time.now();
        let mut state = self.locked();
        assert!(state.incarnation > 0, "a write to a table that is dropped");
        let place = (hash(key), key.to_owned());
        let versions = state.items.get(&place);
        let old = versions.and_then(|versions| versions.last()?.item.clone());
        if old == new {
            return None;
        }
        let record = state.record(self, key, old.as_ref(), new.as_ref(), now);
        let version = Version {
            at: now,
            item: new,
            record: record.clone(),
        };
        state.items.entry(place).or_default().push(version);
        Some(Written { at: now, record })
    }

    /// All states that an item ever had.
    #[must_use]
    pub fn history(&self, key: &str) -> Vec<Version> {
        let place = (hash(key), key.to_owned());
        self.locked().items.get(&place).cloned().unwrap_or_default()
    }

    /// All items that ever were, with all their states.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<String, Vec<Version>> {
        let state = self.locked();
        let all = state.items.iter();
        all.map(|((_, key), versions)| (key.clone(), versions.clone()))
            .collect()
    }

    /// The items as they are now.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Bytes> {
        let histories = self.histories().into_iter();
        histories
            .filter_map(|(key, versions)| Some((key, versions.last()?.item.clone()?)))
            .collect()
    }

    /// All records that were ever written, of all streams, in the order of streams, shards and sequence numbers.
    #[must_use]
    pub fn all_records(&self) -> Vec<Arc<SimRecord>> {
        let state = self.locked();
        let shards = state.streams.iter().flat_map(|it| it.shards.values());
        shards
            .flat_map(|shard| shard.records.iter().cloned())
            .collect()
    }

    /// Adds this many seconds to all stamps from now on: DynamoDB's stamps need not be the true time.
    pub fn skew_stamps(&self, seconds: i64) {
        self.locked().stamp_skew = seconds;
    }

    pub(crate) fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The place of an item in scan order.
pub(crate) fn hash(key: &str) -> u64 {
    key.bytes()
        .fold(key.len() as u64, |hash, byte| mix(hash ^ u64::from(byte)))
}

impl State {
    /// The stream that records the table's changes now.
    pub(crate) fn live(&mut self) -> Option<&mut Stream> {
        let latest = self.streams.last_mut();
        latest.filter(|stream| stream.disabled_at.is_none())
    }

    pub(crate) fn partition_of(&self, key: &str) -> usize {
        let hash = hash(key);
        self.partitions.partition_point(|it| it.from <= hash) - 1
    }

    fn record(
        &mut self,
        table: &SimTable,
        key: &str,
        old: Option<&Bytes>,
        new: Option<&Bytes>,
        now: UnixMillis,
    ) -> Option<Arc<SimRecord>> {
        let id = self.partitions[self.partition_of(key)].shard.clone()?;
        let (nasty, holds) = (table.nasty, self.holds_publication);
        let mut random = self.random.fork();
        let generation = u16::try_from(self.streams.len()).unwrap();
        let stamp =
            (now.0 / 1000).saturating_add_signed(self.stamp_skew) - random.u64(..=nasty.stamp_back);
        let stream = self.live()?;
        let (arn, view) = (stream.arn.clone(), stream.view);
        let shard = stream.shards.get_mut(&id)?;
        let number = match (nasty.wild, shard.records.is_empty()) {
            (true, true) if random.bool() => shard.start.clone(),
            (true, _) => behind(shard.last_number(), &mut random),
            (false, _) => plus(shard.last_number(), 100),
        };
        let late = match random.u8(..100) {
            0 => random.u64(..=nasty.straggler_ms),
            _ => random.u64(..=nasty.publish_ms),
        };
        // Within a shard nothing is published before what was written before it.
        let before = shard.records.last().and_then(|last| last.published_at);
        let after_last = shard.records.is_empty() || before.is_some();
        let published = UnixMillis(now.0 + late).max(before.unwrap_or_default());
        shard.event_time = shard.event_time.max(UnixSeconds(stamp));
        let change = Change {
            stream_arn: &arn,
            view,
            shard: &id,
            sequence_number: &number,
            stamp,
            key,
            old,
            new,
        };
        let record = Arc::new(SimRecord {
            generation,
            shard: id.clone(),
            sequence_number: number.parse::<SequenceNumber>().unwrap(),
            key: key.to_owned(),
            stamp: UnixSeconds(stamp),
            event_time: shard.event_time,
            committed_at: now,
            published_at: (!holds && after_last).then_some(published),
            old_image: old.cloned(),
            new_image: new.cloned(),
            raw: change.raw(),
        });
        table.trace.note(|| {
            let late = published.since(now);
            format!("write {key} -> {id} {number} stamp {stamp}, published in {late} ms")
        });
        shard.records.push(Arc::clone(&record));
        Some(record)
    }
}
