//! The table's stream as `StreamSource`: iterators that expire, empty pages, records that are gone.

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::lineage::Position;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{Shard, ShardId, StreamListing};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};

use super::sim_table::{Nastiness, SimShard, SimTable, State, Stream};

/// How long an iterator can be used.
const ITERATOR_MS: u64 = 15 * 60 * 1000;

/// A method of [`StreamSource`], for errors that a test orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamCall {
    /// [`StreamSource::listing`].
    Listing,
    /// [`StreamSource::children`].
    Children,
    /// [`StreamSource::iterator`].
    Iterator,
    /// [`StreamSource::records`].
    Records,
}

impl SimTable {
    /// The next call of this kind fails so; several are used up in their order.
    pub fn fail_next(&self, call: StreamCall, error: StreamError) {
        self.locked().scripted_errors.push_back((call, error));
    }

    /// The next so many answers of `GetRecords` are empty, whatever there is.
    pub fn empty_pages_next(&self, count: u32) {
        self.locked().empty_pages = count;
    }

    fn ordered_error(state: &mut State, call: StreamCall) -> Result<(), StreamError> {
        let mut errors = state.scripted_errors.iter();
        match errors.position(|(on, _)| *on == call) {
            Some(place) => Err(state.scripted_errors.remove(place).unwrap().1),
            None => Ok(()),
        }
    }
}

impl SimShard {
    /// How many records are gone.
    pub(crate) fn gone(&self, now: UnixMillis, nasty: Nastiness) -> usize {
        let kept_ms = nasty.retention_ms + self.trims_later_ms;
        let records = self.records.iter();
        let old = records.take_while(|record| now.since(record.committed_at) > kept_ms);
        old.count().max(self.trimmed)
    }

    fn is_gone(&self, now: UnixMillis, nasty: Nastiness) -> bool {
        let kept_ms = nasty.retention_ms + self.trims_later_ms;
        let is_old = |closed: UnixMillis| now.since(closed) > kept_ms;
        self.is_forgotten || self.closed_at.is_some_and(is_old)
    }

    /// How many records can be seen.
    fn visible(&self, now: UnixMillis) -> usize {
        self.records
            .partition_point(|record| record.published_at.is_some_and(|at| at <= now))
    }
}

impl State {
    fn stream(&self, arn: &str) -> Result<&Stream, StreamError> {
        let mut streams = self.streams.iter().filter(|it| !it.is_gone);
        let found = streams.find(|stream| stream.arn == arn);
        found.ok_or_else(|| StreamError::Gone(arn.to_owned()))
    }
}

fn number_of(position: &Position) -> Option<&SequenceNumber> {
    match position {
        Position::At(number) | Position::After(number) => Some(number),
        Position::End => None,
    }
}

#[async_trait]
impl StreamSource for SimTable {
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError> {
        let now = self.time.now();
        let mut state = self.locked();
        Self::ordered_error(&mut state, StreamCall::Listing)?;
        if let Some(listing) = state.scripted_listings.pop_front() {
            return Ok(listing);
        }
        let mut random = state.random.fork();
        let stream = state.stream(stream_arn)?;
        Ok(stream.listing(now, self.nasty, &mut random))
    }

    async fn children(&self, stream_arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        let now = self.time.now();
        let mut state = self.locked();
        Self::ordered_error(&mut state, StreamCall::Children)?;
        let mut scripted = state.scripted_children.iter();
        if let Some(place) = scripted.position(|(of, _)| of == shard) {
            return Ok(state.scripted_children.remove(place).unwrap().1);
        }
        let mut random = state.random.fork();
        let stream = state.stream(stream_arn)?;
        Ok(stream.children(shard, now, self.nasty, &mut random))
    }

    async fn iterator(
        &self,
        stream_arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        let now = self.time.now();
        let mut state = self.locked();
        Self::ordered_error(&mut state, StreamCall::Iterator)?;
        state.iterators += 1;
        let issue = state.iterators;
        let stream = state.stream(stream_arn)?;
        let found = self.readable(stream, shard, now)?;
        let gone = found.gone(now, self.nasty);
        let index = match from {
            StartAt::WhatIsLeft => gone,
            StartAt::Position(position) => {
                let Some(number) = number_of(position) else {
                    let text = "an iterator behind the end of a shard";
                    return Err(invalid("GetShardIterator", shard.as_str(), text));
                };
                // Also a position right behind the last record that is gone: DynamoDB cannot tell that from a hole.
                let last_gone = gone.checked_sub(1).map(|last| &found.records[last]);
                if last_gone.is_some_and(|last| *number <= last.sequence_number) {
                    return Err(trimmed(shard, number));
                }
                let records = &found.records;
                match position {
                    Position::At(_) => records.partition_point(|it| it.sequence_number < *number),
                    _ => records.partition_point(|it| it.sequence_number <= *number),
                }
            }
        };
        Ok(ShardIterator(format!(
            "{stream_arn}|{shard}|{index}|{}|{issue}",
            now.0
        )))
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        let place = IteratorPlace::read(iterator)?;
        if !(1..=1000).contains(&limit) {
            return Err(invalid("GetRecords", &iterator.0, "Limit is 1 to 1000"));
        }
        let now = self.time.now();
        let (index, id) = (place.index, &place.shard);
        let mut state = self.locked();
        Self::ordered_error(&mut state, StreamCall::Records)?;
        if now.0 - place.issued_ms > ITERATOR_MS {
            return Err(StreamError::IteratorExpired(id.to_string()));
        }
        let most = self.page_size(&mut state, limit as usize);
        state.iterators += 1;
        let issue = state.iterators;
        let stream = state.stream(&place.stream_arn)?;
        let shard = self.readable(stream, id, now)?;
        if index < shard.gone(now, self.nasty) {
            return Err(trimmed(id, &shard.records[index].sequence_number));
        }
        let until = shard.visible(now).min(index + most.unwrap_or(0)).max(index);
        let found = shard.records[index..until].iter();
        let records: Vec<Bytes> = found.map(|record| record.raw.clone()).collect();
        let is_read = shard.closed_at.is_some() && until == shard.records.len();
        let is_over = is_read && most.is_some();
        self.trace.note(|| {
            let count = records.len();
            let over = if is_over { ", and that is the end" } else { "" };
            format!("GetRecords {id} from {index}: {count} records{over}")
        });
        let arn = &place.stream_arn;
        let next = ShardIterator(format!("{arn}|{id}|{until}|{}|{issue}", now.0));
        Ok(RecordPage {
            records,
            next: (!is_over).then_some(next),
            answered_at: now,
        })
    }
}

/// What an iterator says.
struct IteratorPlace {
    stream_arn: String,
    shard: ShardId,
    index: usize,
    issued_ms: u64,
}

impl IteratorPlace {
    fn read(iterator: &ShardIterator) -> Result<Self, StreamError> {
        let parts: Vec<&str> = iterator.0.split('|').collect();
        let read = || {
            let [stream_arn, shard, index, issued_ms, _] = parts[..] else {
                return None;
            };
            Some(Self {
                stream_arn: stream_arn.to_owned(),
                shard: shard.parse().ok()?,
                index: index.parse().ok()?,
                issued_ms: issued_ms.parse().ok()?,
            })
        };
        read().ok_or_else(|| invalid("GetRecords", &iterator.0, "not an iterator"))
    }
}

fn invalid(operation: &'static str, resource: &str, message: &str) -> StreamError {
    Failure::new(FailureKind::Invalid, operation, resource, message).into()
}

impl SimTable {
    /// The most records of the next page; `None` for an empty one, which says nothing.
    fn page_size(&self, state: &mut State, limit: usize) -> Option<usize> {
        let is_ordered = state.empty_pages > 0;
        state.empty_pages = state.empty_pages.saturating_sub(1);
        let is_empty = is_ordered || state.random.u8(..100) < self.nasty.empty_percent;
        let most = limit.min(self.nasty.page);
        let most = if self.nasty.wild {
            state.random.usize(1..=most)
        } else {
            most
        };
        (!is_empty).then_some(most)
    }

    /// A shard that can be read, which those are not whose records are all gone.
    fn readable<'a>(
        &self,
        stream: &'a Stream,
        id: &ShardId,
        now: UnixMillis,
    ) -> Result<&'a SimShard, StreamError> {
        let found = stream.shards.get(id);
        let found = found.filter(|shard| !shard.is_gone(now, self.nasty));
        found.ok_or_else(|| StreamError::Gone(id.to_string()))
    }
}

fn trimmed(shard: &ShardId, position: &SequenceNumber) -> StreamError {
    StreamError::Trimmed {
        shard: shard.to_string(),
        position: position.to_string(),
    }
}
