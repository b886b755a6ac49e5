//! The port to a table's stream: its shards, and their records as DynamoDB sent them.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::failure::Failure;
use crate::ids::UnixMillis;
use crate::lineage::Position;
use crate::shard::{Shard, ShardId, StreamListing};

/// Where an iterator begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At a position, or with an error if its records are gone.
    Position(Position),
    /// `TRIM_HORIZON`: at whatever is left. It skips what is gone in silence, so that it is right only where the loss
    /// is on record already.
    WhatIsLeft,
}

/// A place in a shard as DynamoDB hands it out. It is valid for 15 minutes, and for nothing but the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIterator(pub String);

/// One answer of `GetRecords`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPage {
    /// Records, each a JSON object as it came, which a parser has been over: readers only walk it. An empty page is not the tip: there is no way to see the tip.
    pub records: Vec<Bytes>,
    /// Where it goes on; `None` once the shard is closed and everything in it was read.
    pub next: Option<ShardIterator>,
    /// When DynamoDB answered, by its own clock (the `Date` header).
    pub answered_at: UnixMillis,
}

/// Why a stream did not answer.
#[derive(Debug, Error)]
pub enum StreamError {
    /// `TrimmedDataAccessException`: records from this position on are gone.
    #[error(
        "records of shard {shard} from {position} on are gone: DynamoDB keeps them for 24 hours"
    )]
    Trimmed {
        /// The shard.
        shard: String,
        /// The position that was asked for.
        position: String,
    },
    /// `ResourceNotFoundException`: there is no such stream, or no such shard any more. That says nothing about what
    /// it held.
    #[error("{0} is not there")]
    Gone(String),
    /// `ExpiredIteratorException`: make another one from the last sequence number.
    #[error("the iterator of {0} has expired")]
    IteratorExpired(String),
    /// Everything else.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Reads streams.
///
/// # Laws
/// - [`records`](Self::records) gives the records of a shard in order, each as the bytes of one JSON object.
/// - After [`Position::At`] or [`Position::After`] no record from there on is left out; where one is gone, the call fails.
/// - `next` is `None` only for a shard that is closed and read to its end.
/// - A listing follows all its pages. It may still be stale, partial and contradictory: see [`lineage`](crate::lineage).
#[async_trait]
pub trait StreamSource: Debug + Send + Sync {
    /// All shards that `DescribeStream` lists.
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError>;

    /// The children of a closed shard, as `DescribeStream` with a filter tells; may be none, or too few, for a while.
    async fn children(&self, stream_arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError>;

    /// An iterator of a shard.
    async fn iterator(
        &self,
        stream_arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError>;

    /// The next records, at most `limit` of them (1 to 1000) or 1 MB.
    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError>;
}
