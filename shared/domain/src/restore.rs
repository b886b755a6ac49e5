//! What is known of a restore while it runs: its plan, and how far each file of the backup is loaded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backup_source::SourceKind;
use crate::ids::{NameError, SnapshotId, TableRef, UnixMillis};
use crate::key::KeySchema;
use crate::key_filter::KeyFilter;
use crate::replica::ReplicaId;
use crate::restore_point::RestorePoint;
use crate::snapshot::Status;
use crate::table_plan::TablePlan;

/// A restore's name, of the same form as a snapshot's: 14 digits of epoch milliseconds, `-`, 8 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RestoreId(SnapshotId);

impl RestoreId {
    /// The id of the restore that an execution does when it is not told another one: a retried plan finds its own.
    #[must_use]
    pub fn of_execution(execution_id: &str, started_at: UnixMillis) -> Self {
        Self(SnapshotId::of_execution(execution_id, started_at))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The id of the snapshot that a restore makes, if it makes one: the same.
    #[must_use]
    pub fn as_snapshot(&self) -> &SnapshotId {
        &self.0
    }
}

impl FromStr for RestoreId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(id) => Ok(Self(id)),
            Err(_) => Err(NameError::RestoreId(text.to_owned())),
        }
    }
}

impl fmt::Display for RestoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of an item whose key the table already has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExisting {
    /// The table's item stays; the backup's is counted as skipped. One conditional `PutItem` per item.
    #[default]
    Skip,
    /// The backup's item replaces it. `BatchWriteItem`, 25 at a time.
    Overwrite,
}

/// The replica whose table a restore loads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaOf {
    /// Its source, by ARN.
    pub source_arn: String,
    /// Its name.
    pub id: ReplicaId,
}

/// Who does the writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Highwater itself, through the table's write capacity.
    #[default]
    Write,
    /// DynamoDB's own ImportTable: a new table, no write units.
    ImportTable,
}

impl Engine {
    /// The word on the command line and in plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ImportTable => "import-table",
        }
    }
}

/// The backup that is being restored, as it was found when the plan was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// Where it is, in the form of [`SourceLocation`](crate::backup_source::SourceLocation).
    pub url: String,
    /// Of which kind.
    pub kind: SourceKind,
    /// Files that hold its items.
    pub files: u64,
    /// Items, where the backup says.
    pub items: Option<u64>,
    /// Bytes of the files as stored.
    pub stored_bytes: u64,
    /// Bytes of the lines before compression, where the backup says.
    pub plain_bytes: Option<u64>,
    /// SHA-256 over the list of files, hex: a backup that changes between two invocations is noticed.
    pub fingerprint: String,
    /// What cannot be checked because the backup does not say, one line each.
    #[serde(default)]
    pub unchecked: Vec<String>,
}

/// The control table's record of one restore: the frozen plan, and its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// The restore's name.
    pub id: RestoreId,
    /// Tells one request from another that names the same id: a retried plan finds its own.
    pub request_id: String,
    /// The backup.
    pub source: SourceFacts,
    /// The table that is filled.
    pub target: TableRef,
    /// The primary key of the target.
    pub key_schema: KeySchema,
    /// The target's UUID, once it is known; another one later means that the table was dropped and re-created.
    pub target_table_id: Option<String>,
    /// How the table comes to be, and what is set on it after the load.
    pub table_plan: TablePlan,
    /// What becomes of items that are there already.
    pub on_existing: OnExisting,
    /// Who writes.
    pub engine: Engine,
    /// Why this engine, one line for people.
    pub engine_reason: String,
    /// How many files the workflow starts with; file `n` is followed by `n + lanes`.
    pub lanes: u32,
    /// How many workers load at once.
    pub concurrency: u32,
    /// Write capacity units per second for all workers together; 0 is unlimited.
    pub write_capacity: f64,
    /// Stop after so many items that pass the filter; 0 is all.
    pub max_items: u64,
    /// Only items that pass every one of these.
    pub filter: Vec<KeyFilter>,
    /// Stop at the first item that the table does not take.
    pub fail_fast: bool,
    /// Do not compare hashes and counts with what the backup says.
    pub skip_checks: bool,
    /// The folder for items that the table does not take: `s3://bucket/prefix` or `file:///path`.
    pub rejects: Option<String>,
    /// The ARN of the import, once DynamoDB has begun it.
    pub import_arn: Option<String>,
    /// What became of the items, once the restore has ended.
    #[serde(default)]
    pub totals: LoadTotals,
    /// When PlanRestore ran.
    pub started_at: UnixMillis,
    /// Where it is in its life.
    pub status: Status,
    /// When it ended, if it did.
    pub ended_at: Option<UnixMillis>,
    /// Why it failed, one line.
    pub error: Option<String>,
    /// The second, the snapshot and the stretch of the log, if it is a restore to a second.
    #[serde(default)]
    pub point: Option<RestorePoint>,
    /// The replica that is loaded, if the table is one.
    #[serde(default)]
    pub replica: Option<ReplicaOf>,
    /// Where a snapshot is made, if no table is to be filled: `s3://bucket/prefix` or `file:///path`. Its id is the
    /// restore's, and [`target`](Self::target) names the table that it shows.
    #[serde(default)]
    pub materialize: Option<String>,
}

impl RestoreRecord {
    /// Files that are loaded: those of the backup, and behind them one for each bucket of the log.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.source.files + u64::from(self.buckets())
    }

    /// Shards of the log that are read; 0 without a restore point.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.point.as_ref().map_or(0, |point| point.shards)
    }

    /// Buckets of keys that the log is sorted into; 0 without a restore point.
    #[must_use]
    pub fn buckets(&self) -> u32 {
        self.point.as_ref().map_or(0, |point| point.buckets)
    }

    /// The bucket whose items `file` holds; `None` for a file of the backup.
    #[must_use]
    pub fn bucket_of(&self, file: u32) -> Option<u32> {
        let behind = u64::from(file).checked_sub(self.source.files)?;
        u32::try_from(behind)
            .ok()
            .filter(|bucket| *bucket < self.buckets())
    }

    /// The file that the same worker takes after `file`, if there is one.
    #[must_use]
    pub fn file_after(&self, file: u32) -> Option<u32> {
        file.checked_add(self.lanes)
            .filter(|next| u64::from(*next) < self.files())
    }

    /// How many workers can find something to do.
    #[must_use]
    pub fn most_workers(&self) -> u32 {
        self.lanes.max(self.shards()).max(self.buckets())
    }

    /// With how many of `count` shards or buckets the workflow begins; each worker goes on in steps of so many.
    #[must_use]
    pub fn branches(&self, count: u32) -> u32 {
        count.min(self.concurrency.max(1))
    }

    /// The shard that the same worker takes after `shard`, if there is one.
    #[must_use]
    pub fn shard_after(&self, shard: u32) -> Option<u32> {
        shard
            .checked_add(self.branches(self.shards()))
            .filter(|next| *next < self.shards())
    }

    /// The bucket that the same worker takes after `bucket`, if there is one.
    #[must_use]
    pub fn bucket_after(&self, bucket: u32) -> Option<u32> {
        bucket
            .checked_add(self.branches(self.buckets()))
            .filter(|next| *next < self.buckets())
    }
}

/// Sums over what was loaded. `read = written + skipped + rejected`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadTotals {
    /// Items, and deletes of an incremental export, that were read.
    pub read: u64,
    /// Items that are in the table because of this restore, and deletes that were done.
    pub written: u64,
    /// How many of the written were deletes.
    pub deleted: u64,
    /// Items that were left out because the table had their key.
    pub existing: u64,
    /// Items that did not pass the filter.
    pub filtered: u64,
    /// Items of the snapshot whose key the log names: what they were at the second is written from the log's files.
    pub superseded: u64,
    /// Items that the table does not take; each is kept whole, with the reason.
    pub rejected: u64,
    /// Bytes of the lines that were read.
    pub plain_bytes: u64,
    /// Write capacity units consumed.
    pub consumed_capacity: f64,
    /// Requests that were throttled, and writes that came back unprocessed.
    pub throttles: u64,
}

impl LoadTotals {
    /// Items that were left where they are, for whatever reason.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.existing + self.filtered + self.superseded
    }

    /// Items that were asked for: those that neither the filter nor the log's newer state has left out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.read.saturating_sub(self.filtered + self.superseded)
    }

    /// Whether everything that was read is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.read == self.written + self.skipped() + self.rejected
    }

    /// Adds another worker's totals.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.written += other.written;
        self.deleted += other.deleted;
        self.existing += other.existing;
        self.filtered += other.filtered;
        self.superseded += other.superseded;
        self.rejected += other.rejected;
        self.plain_bytes += other.plain_bytes;
        self.consumed_capacity += other.consumed_capacity;
        self.throttles += other.throttles;
    }
}

impl fmt::Display for LoadTotals {
    /// The equation, as it is printed at the end of every restore.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, written, rejected) = (self.read, self.written, self.rejected);
        write!(
            f,
            "read {read} = written {written} + skipped {} + rejected {rejected}",
            self.skipped()
        )
    }
}

/// Durable progress of one file. The default is a file that nobody has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCheckpoint {
    /// Lines from the file's start whose items are all accounted for.
    pub lines: u64,
    /// What became of them.
    pub totals: LoadTotals,
    /// Whether the file's end was reached.
    pub done: bool,
}
