//! What is known of a log besides its records: its streams, its shards, and where they ended. JSON objects in the
//! bucket, each created once.

use serde::{Deserialize, Serialize};

use crate::ids::UnixMillis;
use crate::mark::UnixSeconds;
use crate::sequence_number::{Generation, SequenceNumber, ShardOrdinal};
use crate::shard::{Shard, ShardId, StreamView};

/// The version of the facts' layout that this build writes.
pub const LOG_FACTS_VERSION: u32 = 1;

/// One stream of the table: `generations/<number>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFacts {
    /// The layout's version.
    pub version: u32,
    /// Its number among the table's streams, from 1.
    pub generation: Generation,
    /// The stream.
    pub stream_arn: String,
    /// When the stream was enabled, which names it.
    pub stream_label: String,
    /// What its records carry.
    pub view: StreamView,
    /// The table.
    pub table_arn: String,
    /// The table's UUID; another one means another table of the same name.
    pub table_id: Option<String>,
    /// When it was first met, by DynamoDB's clock.
    pub met_at: UnixMillis,
    /// Below this the log cannot be complete: records from before may have been gone when it was met.
    pub log_from: UnixMillis,
}

/// How a shard came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It was listed when the log or a handoff began.
    Listed,
    /// Its parent ended and named it.
    Child,
    /// It was found after its parent's children had been taken for complete.
    LateChild,
    /// It was found without a parent after the log had begun.
    LateRoot,
    /// It was found after records before it had been lost.
    AfterGap,
}

/// One shard: `<shard id>/shard.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFacts {
    /// The layout's version.
    pub version: u32,
    /// The shard as it was listed; its end is told by [`ShardEnd`].
    #[serde(flatten)]
    pub shard: Shard,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// The greatest stamp on the path above it: its own records count as no earlier. `None` for a root.
    pub event_time: Option<UnixSeconds>,
    /// How it came to be known.
    pub origin: Origin,
    /// When, by DynamoDB's clock.
    pub registered_at: UnixMillis,
}

/// Why nothing more is read from a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was closed and read to its last record.
    Read,
    /// The rest of it was gone before it was read: an incident says so.
    Lost,
}

/// The end of one shard: `<shard id>/end.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEnd {
    /// The layout's version.
    pub version: u32,
    /// The shard.
    pub shard: ShardId,
    /// The last record that is in the log, if there is one.
    pub last: Option<SequenceNumber>,
    /// The greatest stamp on the path up to its end.
    pub event_time: Option<UnixSeconds>,
    /// Those that go on from it; none only where the stream was disabled.
    pub children: Vec<ShardId>,
    /// Why it ended.
    pub ending: Ending,
}
