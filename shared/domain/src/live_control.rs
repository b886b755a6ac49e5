//! The port to the published mark, by compare-and-set only, and the name under which a log's records are kept.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::control_table::{Cas, Versioned};
use crate::failure::Failure;
use crate::ids::UnixMillis;
use crate::mark::Mark;
use crate::sequence_number::Generation;
use crate::shard::ShardId;

/// The version of the mark's layout that this build writes.
pub const PUBLISHED_MARK_VERSION: u32 = 1;

/// The mark as it is published: a record of the control table, copied to `mark.json` in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedMark {
    /// The layout's version.
    pub version: u32,
    /// The stream.
    pub stream_arn: String,
    /// When the stream was enabled, which names it.
    pub stream_label: String,
    /// Which of the table's streams it is.
    pub generation: Generation,
    /// The mark, each grade for itself.
    #[serde(flatten)]
    pub mark: Mark,
    /// How late DynamoDB publishes a record at most, as the grade `assumed` took it.
    pub publication_ms: u64,
    /// When it was computed, by DynamoDB's clock.
    pub computed_at: UnixMillis,
    /// The shard that bounds it, where one does.
    pub bounded_by: Option<ShardId>,
    /// Shards that are still read.
    pub open_shards: u64,
    /// Whether a loss that no newer snapshot has healed holds it back.
    pub held_back: bool,
}

/// The name of one log in the control table: one stream written to one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(String);

impl LogId {
    /// The log of the stream `stream_arn` in the stream's folder at `folder_url`.
    ///
    /// Both are spelled out: two logs of one stream in two buckets have their own leases and marks.
    #[must_use]
    pub fn of(stream_arn: &str, folder_url: &str) -> Self {
        Self(format!("log {stream_arn} {folder_url}"))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The group of the leases of its shards.
    #[must_use]
    pub fn lease_group(&self) -> String {
        format!("{} shards", self.0)
    }
}

/// Marks in the control table.
#[async_trait]
pub trait LiveControl: Debug + Send + Sync {
    /// The mark that was published last, if one was.
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure>;

    /// Publishes a mark if the last one is still the one that was seen.
    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure>;
}
