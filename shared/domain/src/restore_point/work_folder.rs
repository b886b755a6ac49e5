//! What lies between the log and the load of a restore to a second, in a folder of its own.
//!
//! ```text
//! <work>/shards/<number>.json             a shard whose records can matter, and its log objects, frozen by the plan
//! <work>/runs/<shard>-<chunk>.run         its changes, sorted by key and reduced
//! <work>/scattered/<shard>.json           that all its runs are there; created last
//! <work>/pieces/<bucket>-<bits>.{zst,prints,json}      a bucket that is too large for one go, piece by piece
//! <work>/overlay/<bucket>.jsonl.zst       the items of a bucket as they were at the second
//! <work>/overlay/<bucket>.prints          the keys of the bucket, also those that were not there at the second
//! <work>/overlay/<bucket>.json            that both are there; created last
//! ```
//!
//! Everything is created once, and what is created last says that the rest is there: any of it may be done twice, by
//! any number of workers.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::backup_source::{FileClaims, LineShape, Packing, SourceFile};
use crate::ids::SnapshotId;
use crate::key_history::run::RunFrames;
use crate::mark::UnixSeconds;
use crate::restore_point::{Choice, Needs};
use crate::sequence_number::ShardOrdinal;
use crate::shard::ShardId;

/// The version of these objects' layout that this build writes.
pub const WORK_VERSION: u32 = 1;

/// The keys of one work folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkFolder {
    folder: String,
}

impl WorkFolder {
    /// The folder with this key; empty for the root of the store.
    #[must_use]
    pub fn new(key: &str) -> Self {
        let key = key.trim_end_matches('/');
        Self {
            folder: if key.is_empty() {
                String::new()
            } else {
                format!("{key}/")
            },
        }
    }

    /// The folder, ending in `/` or empty.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// A shard of the restore.
    #[must_use]
    pub fn shard(&self, number: u32) -> String {
        format!("{}shards/{number:06}.json", self.folder)
    }

    /// The runs of a shard: what their keys begin with.
    #[must_use]
    pub fn runs(&self, shard: u32) -> String {
        format!("{}runs/{shard:06}-", self.folder)
    }

    /// One run of a shard.
    #[must_use]
    pub fn run(&self, shard: u32, chunk: u32) -> String {
        format!("{}{chunk:06}.run", self.runs(shard))
    }

    /// That a shard is scattered.
    #[must_use]
    pub fn scattered(&self, shard: u32) -> String {
        format!("{}scattered/{shard:06}.json", self.folder)
    }

    /// A piece of a bucket: of the keys whose print goes on, behind the bucket's bits, with `bits` (zeros and ones).
    #[must_use]
    pub fn piece(&self, bucket: u32, bits: &str, suffix: &str) -> String {
        format!("{}pieces/{bucket:05}-{bits}.{suffix}", self.folder)
    }

    /// The items of a bucket.
    #[must_use]
    pub fn items(&self, bucket: u32) -> String {
        format!("{}overlay/{bucket:05}.jsonl.zst", self.folder)
    }

    /// The prints of a bucket.
    #[must_use]
    pub fn prints(&self, bucket: u32) -> String {
        format!("{}overlay/{bucket:05}.prints", self.folder)
    }

    /// That a bucket is folded.
    #[must_use]
    pub fn folded(&self, bucket: u32) -> String {
        format!("{}overlay/{bucket:05}.json", self.folder)
    }
}

/// One shard of a restore: `shards/<number>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeShard {
    /// The layout's version.
    pub version: u32,
    /// Its number in this restore, from 0.
    pub number: u32,
    /// The shard.
    pub shard: ShardId,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// The greatest stamp on the path above it.
    pub event_time: Option<UnixSeconds>,
    /// Its log objects, by their names in the shard's folder, in order.
    pub objects: Vec<String>,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

/// That a shard is scattered: `scattered/<shard>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scattered {
    /// The layout's version.
    pub version: u32,
    /// Which of the restore's shards.
    pub shard: u32,
    /// Records that were read, each once.
    pub records: u64,
    /// By how many seconds a stamp went back at most; 0 is what AWS lets one expect.
    pub disorder_s: u64,
    /// Its runs, by number.
    pub runs: Vec<RunFrames>,
}

/// That a bucket is folded: `overlay/<bucket>.json`. A piece of one is told in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// The layout's version.
    pub version: u32,
    /// The bucket.
    pub bucket: u32,
    /// Items that were there at the second.
    pub items: u64,
    /// Keys of the log that were not.
    pub absent: u64,
    /// Bytes of the items' lines.
    pub plain_bytes: u64,
    /// Bytes of the items' object.
    pub stored_bytes: u64,
    /// SHA-256 of the items' object, hex.
    pub sha256: String,
    /// SHA-256 of the prints' object, hex. It has 16 bytes for each key.
    pub prints_sha256: String,
}

impl Folded {
    /// Keys of the log in this bucket.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.items + self.absent
    }

    /// The items as a file of a backup.
    #[must_use]
    pub fn file(&self, work: &WorkFolder) -> SourceFile {
        SourceFile {
            object: work.items(self.bucket),
            stored_bytes: self.stored_bytes,
            packing: Packing::Zstd,
            shape: LineShape::Item,
            claims: FileClaims {
                items: Some(self.items),
                sha256: Some(self.sha256.clone()),
                ..FileClaims::default()
            },
        }
    }
}

/// SHA-256 over everything that a restore's result is a function of: the second, the snapshot, and the log.
#[derive(Clone, Debug)]
pub struct PointFingerprint(Sha256);

impl PointFingerprint {
    /// Begins with what was chosen.
    #[must_use]
    pub fn new(at: UnixSeconds, snapshot: &SnapshotId, needs: Needs) -> Self {
        let (from, until) = (needs.from.0, needs.until.0);
        let text = format!("restore point 1\n{} {snapshot} {from} {until}\n", at.0);
        Self(Sha256::new_with_prefix(text))
    }

    /// The same of a choice.
    #[must_use]
    pub fn of(choice: &Choice) -> Self {
        Self::new(choice.at, &choice.snapshot_id, choice.needs)
    }

    /// Goes on with a shard.
    pub fn shard(&mut self, shard: &ShardId) {
        self.0.update(format!("shard {shard}\n"));
    }

    /// Goes on with a log object of that shard.
    pub fn object(&mut self, name: &str) {
        self.0.update(format!("object {name}\n"));
    }

    /// The fingerprint, hex.
    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}
