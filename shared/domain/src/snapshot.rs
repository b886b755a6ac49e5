//! What is known of a snapshot while it is made: its plan, its segments' checkpoints, its parts.

use serde::{Deserialize, Serialize};

use crate::handoff::Handoff;
use crate::ids::{SnapshotId, TableRef, UnixMillis};
use crate::key::{Key, KeySchema};
use crate::materialized::Materialized;
use crate::scan::ScanTotals;
use crate::selection::Selection;

/// Where a snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Segments are being scanned, or could be: nobody has said otherwise.
    Running,
    /// An error or a signal stopped it. It can be resumed.
    Failed,
    /// Sealed: every part was checked. Nothing changes it any more.
    Completed,
}

impl Status {
    /// The word in `backup.json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }
}

/// How parts are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What AWS's own exports use, and every reader of them takes.
    #[default]
    Gzip,
    /// Smaller and cheaper; ImportTable takes it too.
    Zstd,
}

impl Compression {
    /// The end of a part's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => "json.gz",
            Self::Zstd => "json.zst",
        }
    }

    /// How an object of this name is compressed, or `None` if its suffix is neither's.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Gzip, Self::Zstd].into_iter().find(|compression| {
            name.strip_suffix(compression.suffix())
                .is_some_and(|stem| stem.ends_with('.'))
        })
    }
}

/// The control table's record of one snapshot: the frozen plan, and its state.
///
/// Everything above `status` is decided by PlanBackup and never changes again: a resume may not
/// change `total_segments`, because a scan position is valid only under the total it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The snapshot's name.
    pub id: SnapshotId,
    /// Tells one request for a backup from another that names the same id: a retried plan finds its own.
    pub request_id: String,
    /// The table, as the user named it.
    pub table: TableRef,
    /// The table's ARN.
    pub table_arn: String,
    /// The table's UUID; another one later means that the table was dropped and re-created.
    pub table_id: Option<String>,
    /// The table's primary key.
    pub key_schema: KeySchema,
    /// Where it goes: `s3://bucket/prefix` or `file:///path`.
    pub destination: String,
    /// Slices of the scan, 1 to 1,000,000.
    pub total_segments: u32,
    /// How many segments the workflow starts with; segment `n` is followed by `n + lanes`.
    pub lanes: u32,
    /// How many workers scan at once.
    pub concurrency: u32,
    /// Strongly consistent reads.
    pub consistent: bool,
    /// Read capacity units per second for all workers together; 0 is unlimited.
    pub read_capacity: f64,
    /// Filter and projection.
    pub selection: Selection,
    /// Stop after so many items; 0 is all.
    pub max_items: u64,
    /// How parts are compressed.
    pub compression: Compression,
    /// A part is cut when its stored form reaches so many bytes.
    pub part_bytes: u64,
    /// Whether the snapshot must have a handoff: it fails rather than end without one that holds.
    #[serde(default)]
    pub with_stream: bool,
    /// Where live changes take over. Only [`expired`](Handoff::expired) ever changes in it.
    #[serde(default)]
    pub handoff: Option<Handoff>,
    /// Why there is no handoff, where there is none.
    #[serde(default)]
    pub no_handoff: Option<String>,
    /// When PlanBackup ran.
    pub started_at: UnixMillis,
    /// DynamoDB's estimate of the table's items at the start, for progress only.
    pub estimated_items: u64,
    /// DynamoDB's estimate of the table's size in bytes at the start, for progress only.
    pub estimated_bytes: u64,
    /// Where it is in its life.
    pub status: Status,
    /// When it ended, if it did.
    pub ended_at: Option<UnixMillis>,
    /// Why it failed, one line.
    pub error: Option<String>,
    /// How far FinalizeBackup has checked the parts.
    #[serde(default)]
    pub verified: Verified,
    /// What it was made from, if not by a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub materialized: Option<Materialized>,
}

/// The finalizer's own checkpoint: parts up to `after` were found in the store as their rows say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verified {
    /// The last part that was checked, in (segment, number) order.
    pub after: Option<PartId>,
    /// Sums over the checked parts.
    pub totals: PartTotals,
    /// When the snapshot was found whole: the time that its manifests give, whoever writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_at: Option<UnixMillis>,
}

/// Sums over parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartTotals {
    /// Parts.
    pub parts: u64,
    /// Items inside.
    pub items: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes of the lines before compression.
    pub plain_bytes: u64,
}

impl PartTotals {
    /// Adds one part.
    pub fn add(&mut self, row: &PartRow) {
        self.parts += 1;
        self.items += row.items;
        self.stored_bytes += row.stored_bytes;
        self.plain_bytes += row.plain_bytes;
    }
}

/// Durable progress of one segment. The default is a segment that nobody has begun.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// Where the scan goes on; `None` at the segment's start.
    pub next_key: Option<Key>,
    /// The number of the next part, from 0: how many are committed.
    pub next_part: u32,
    /// Whether the scan reached the segment's end.
    pub done: bool,
    /// What the committed work took from the table.
    pub scan: ScanTotals,
    /// Sums over the committed parts.
    pub parts: PartTotals,
}

/// A part's place in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartId {
    /// The segment it belongs to.
    pub segment: u32,
    /// Its number within the segment, from 0, without holes.
    pub number: u32,
}

/// The control table's record of one committed part: what the object must be, and where the chain goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// Its place.
    #[serde(flatten)]
    pub id: PartId,
    /// The object's key, relative to the root of the store.
    pub object: String,
    /// Items inside.
    pub items: u64,
    /// Bytes of the object.
    pub stored_bytes: u64,
    /// Bytes of its lines before compression.
    pub plain_bytes: u64,
    /// MD5 of the object, base64, as `manifest-files.json` gives it.
    pub md5: String,
    /// SHA-256 of the object, lower-case hex.
    pub sha256: String,
    /// The first item's key.
    pub first_key: Option<Key>,
    /// The last item's key.
    pub last_key: Option<Key>,
}

impl SnapshotRecord {
    /// The segment that the same worker takes after `segment`, if there is one.
    ///
    /// The workflow starts at most as many branches as a state machine's history can hold; beyond
    /// that each branch walks a lane of segments, one per invocation.
    #[must_use]
    pub fn segment_after(&self, segment: u32) -> Option<u32> {
        segment
            .checked_add(self.lanes)
            .filter(|next| *next < self.total_segments)
    }

    /// `full`, or `query` if a filter, a projection or a limit left something out: dyndump's words.
    #[must_use]
    pub fn backup_type(&self) -> &'static str {
        if self.selection.is_everything() && self.max_items == 0 {
            "full"
        } else {
            "query"
        }
    }
}
