//! The second that a restore reproduces: how it is asked for, and what was decided about it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{SnapshotId, UnixMillis};
use crate::mark::{Grade, UnixSeconds};
use crate::sequence_number::Generation;
use crate::shard::StreamView;

mod candidate;
mod choose;
mod coverage;
mod place;
mod refusal;
pub mod work_folder;

pub use candidate::Candidate;
pub use choose::{Choice, DEFAULT_STAMP_MARGIN_SECONDS, LogFacts, LogShard, Rules, choose};
pub use place::{NoTableFolder, TablePlace};
pub use refusal::{Forbidden, Refusal};

/// The version of the restore point's layout that this build writes.
pub const RESTORE_POINT_VERSION: u32 = 1;

/// The second that is asked for, as it is written: `2026-11-21T20:15:00Z`, `-2h`, `-90m`, `-3d`, `-1h30m`, `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum At {
    /// This second.
    Second(UnixSeconds),
    /// So many seconds before now.
    Ago(u64),
    /// The last second that the log is complete up to.
    Latest,
}

/// The second that is asked for, once it is known what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This second.
    Second(UnixSeconds),
    /// The last second that the log is complete up to.
    Latest,
}

/// A text that names no second.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} names no second: write a time (2026-11-21T20:15:00Z), how long ago (-2h, -90m, -3d, -1h30m), or latest"
)]
pub struct AtError(pub String);

impl At {
    /// The second, seen from `now`. What lies before 1970 is 1970.
    #[must_use]
    pub fn wanted(self, now: UnixMillis) -> Wanted {
        match self {
            Self::Second(second) => Wanted::Second(second),
            Self::Ago(seconds) => {
                Wanted::Second(UnixSeconds(UnixSeconds::of(now).0.saturating_sub(seconds)))
            }
            Self::Latest => Wanted::Latest,
        }
    }
}

impl FromStr for At {
    type Err = AtError;

    /// A fraction of a second is cut: the second that it lies in is restored whole.
    fn from_str(text: &str) -> Result<Self, AtError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let wrong = || AtError(text.to_owned());
        if let Some(ago) = text.strip_prefix('-') {
            return seconds_of(ago).map(Self::Ago).ok_or_else(wrong);
        }
        let at = UnixMillis::from_rfc3339(text).ok_or_else(wrong)?;
        Ok(Self::Second(UnixSeconds::of(at)))
    }
}

/// The seconds of `1d2h30m5s`, in any selection of units but each at most once and the greater ones first.
fn seconds_of(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    for (unit, seconds) in [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)] {
        if let Some((number, behind)) = rest.split_once(unit) {
            if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let number: u64 = number.parse().ok()?;
            total = total.checked_add(number.checked_mul(seconds)?)?;
            rest = behind;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Second(second) => f.write_str(&second.to_rfc3339()),
            Self::Ago(seconds) => write!(f, "-{seconds}s"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

impl TryFrom<String> for At {
    type Error = AtError;

    fn try_from(text: String) -> Result<Self, AtError> {
        text.parse()
    }
}

impl From<At> for String {
    fn from(at: At) -> Self {
        at.to_string()
    }
}

impl UnixSeconds {
    /// RFC 3339 in UTC: `2026-01-14T10:18:50Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let millis = UnixMillis(self.0.saturating_mul(1000)).to_rfc3339();
        millis.replace(".000Z", "Z")
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// On which side of the snapshot's scan the second lies, and so how the log is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// After the scan: changes are applied, by their new images.
    Forward,
    /// Before the scan or inside it: changes are undone, by their old images.
    Undo,
}

/// The part of the log that a restore needs, in event times, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Records of earlier seconds are left out: the scan has seen what they did.
    pub from: UnixSeconds,
    /// Records of later seconds are left out; up to here the log must be complete.
    pub until: UnixSeconds,
}

/// A restore to a second, decided: part of the restore's record, and printed with its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// The layout's version, [`RESTORE_POINT_VERSION`].
    pub version: u32,
    /// The second. All changes that DynamoDB stamped up to it, and it included, are in.
    pub at: UnixSeconds,
    /// The table whose log it is.
    pub table_arn: String,
    /// The snapshot that the log is laid over.
    pub snapshot_id: SnapshotId,
    /// Where it is: `s3://bucket/key` or `file:///path`, a backup as any restore takes it.
    pub snapshot: String,
    /// Which of the table's streams.
    pub generation: Generation,
    /// When that stream was enabled, which names it.
    pub stream_label: String,
    /// What its records carry.
    pub view: StreamView,
    /// How it is known that the log is complete.
    pub grade: Grade,
    /// Up to which second it is, by that grade.
    pub mark: UnixSeconds,
    /// The part of the log that is used.
    pub needs: Needs,
    /// How it is used.
    pub side: Side,
    /// The folder of the stream's log.
    pub log: String,
    /// Shards whose records can matter: `ScatterLog` works on 0 up to this, not included.
    pub shards: u32,
    /// Log objects of these shards.
    pub objects: u64,
    /// Bytes of these objects as stored.
    pub stored_bytes: u64,
    /// SHA-256 over the second, the snapshot and the names of the objects, hex: what the restore's result is a
    /// function of.
    pub fingerprint: String,
    /// Into how many buckets keys are sorted, a power of two: `FoldLog` works on 0 up to this, not included.
    pub buckets: u32,
    /// By how much DynamoDB's stamps may be off, in seconds.
    pub stamp_margin_s: u64,
    /// The folder of what lies between the log and the load: `s3://bucket/prefix` or `file:///path`.
    pub work: String,
    /// What the restored table is, exactly, in words: one sentence each.
    pub bound: Vec<String>,
}

/// The plain bytes that one bucket should hold, so that it is folded in one go.
const BUCKET_BYTES: u64 = 32 << 20;

/// What a stored byte of the log is before compression, about, on the safe side: images of one item resemble each
/// other.
const EXPANSION: u64 = 12;

/// More buckets than this make runs of crumbs; a bucket that is too large is folded in pieces.
pub const MOST_BUCKETS: u32 = 1024;

/// Into how many buckets a log of so many stored bytes is sorted: a power of two from 1 to [`MOST_BUCKETS`].
#[must_use]
pub fn buckets_for(stored_bytes: u64) -> u32 {
    let wanted = stored_bytes
        .saturating_mul(EXPANSION)
        .div_ceil(BUCKET_BYTES)
        .min(u64::from(MOST_BUCKETS));
    u32::try_from(wanted)
        .unwrap_or(MOST_BUCKETS)
        .max(1)
        .next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_768_385_930_622);

    #[test]
    fn a_second_is_asked_for_in_three_ways() {
        for (text, wanted) in [
            ("2026-01-14T10:18:50Z", 1_768_385_930),
            ("2026-01-14T10:18:50.999Z", 1_768_385_930),
            ("2026-01-14T11:18:50+01:00", 1_768_385_930),
            ("-2h", 1_768_385_930 - 7_200),
            ("-90m", 1_768_385_930 - 5_400),
            ("-3d", 1_768_385_930 - 259_200),
            ("-1h30m", 1_768_385_930 - 5_400),
            ("-45s", 1_768_385_930 - 45),
            ("-0s", 1_768_385_930),
        ] {
            let at: At = text.parse().unwrap();
            assert_eq!(
                at.wanted(NOW),
                Wanted::Second(UnixSeconds(wanted)),
                "{text}"
            );
            let json = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<At>(&json).unwrap(), at, "{json}");
        }
        assert_eq!("latest".parse::<At>().unwrap().wanted(NOW), Wanted::Latest);
    }

    #[test]
    fn other_texts_name_no_second() {
        for text in [
            "",
            "-",
            "-h",
            "-2",
            "-2x",
            "-2h2h",
            "-30m1h",
            "--2h",
            "-+2h",
            "-1.5h",
            "2h",
            "yesterday",
            "2026-01-14",
            "2026-01-14T10:18:50",
            "1969-12-31T23:59:59Z",
            "-99999999999999999999d",
            "LATEST",
            "-é",
        ] {
            assert_eq!(text.parse::<At>(), Err(AtError(text.into())), "{text}");
        }
    }

    #[test]
    fn buckets_are_a_power_of_two_and_few_for_a_small_log() {
        assert_eq!(buckets_for(0), 1);
        assert_eq!(buckets_for(BUCKET_BYTES / EXPANSION), 1);
        assert_eq!(buckets_for(BUCKET_BYTES / EXPANSION + 100), 2);
        assert_eq!(buckets_for(5 << 30), 1024);
        assert_eq!(buckets_for(u64::MAX), MOST_BUCKETS);
    }
}
