//! Where live changes take over from a scan: positions in a stream, captured before the scan begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;

use crate::ids::UnixMillis;
use crate::lineage::{Lineage, Node, Oddity, Position, RETENTION_MS};
use crate::sequence_number::{Generation, SequenceNumber, ShardOrdinal};
use crate::shard::{Shard, ShardId, StreamListing, StreamView};
use crate::table_stream::NoHandoff;

/// The version of the handoff's layout that this build writes.
pub const HANDOFF_VERSION: u32 = 1;

/// How far back an eventually consistent read may see: consumption then begins before it.
pub const EVENTUAL_MARGIN_MS: u64 = 15 * 60 * 1000;

/// The most shards that a handoff holds: with them it stays below the 400 KB of a DynamoDB item, in which it is kept.
pub const MAX_SHARDS: usize = 1200;

/// A log is complete only so long after a root shard was made.
const ROOT_MARGIN_MS: u64 = 60 * 1000;

/// A shard of this age has all its records still, with two hours to begin reading them.
const WHOLE_MS: u64 = RETENTION_MS - 2 * 60 * 60 * 1000;

/// A shard that ended so lately may be where a handoff begins.
const LATELY_MS: u64 = 60 * 60 * 1000;

/// The handoff of one snapshot, versioned JSON in the snapshot's record and in `backup.json`.
///
/// Every record that DynamoDB published after the positions is in the log, or an incident says that it is not. A
/// strongly consistent read after the capture has seen everything published before it. So, for each key, the last
/// record in the log beats the scanned item, and without one the scanned item stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// The layout's version, [`HANDOFF_VERSION`].
    pub version: u32,
    /// The table.
    pub table_arn: String,
    /// The table's UUID.
    pub table_id: Option<String>,
    /// The stream.
    pub stream_arn: String,
    /// When the stream was enabled, which names it.
    pub stream_label: String,
    /// Which of the table's streams it is.
    pub generation: Generation,
    /// What its records carry.
    pub view: StreamView,
    /// When the positions were captured.
    pub captured_at: UnixMillis,
    /// Below this the log was not complete even then: records from before may be gone.
    pub log_from: UnixMillis,
    /// Every shard that was listed, in order of their ids.
    pub shards: Vec<HandoffShard>,
    /// What was odd about the listing when patience ended; empty for one that two looks agreed on.
    pub oddities: Vec<Oddity>,
    /// Records from the positions on were gone, unread, before the snapshot was sealed: it is a plain backup.
    #[serde(default)]
    pub expired: bool,
}

/// How far somebody has read a shard of a handoff, by its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The position.
    pub position: Position,
    /// Records of it were gone before they were read.
    pub lost: bool,
}

/// A handoff as `backup.json` keeps it. One of a later version, or of another program, cannot be read here and is kept as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptHandoff {
    /// A handoff that this version understands.
    Read(Box<Handoff>),
    /// Another one, and why it cannot be read.
    Unread(Value, UnreadableHandoff),
}

/// A handoff that this version does not understand.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the handoff in backup.json cannot be read by this version: {0}")]
pub struct UnreadableHandoff(pub String);

impl KeptHandoff {
    /// The handoff, if it can be read.
    pub fn get(&self) -> Result<&Handoff, UnreadableHandoff> {
        match self {
            Self::Read(handoff) => Ok(handoff),
            Self::Unread(_, reason) => Err(reason.clone()),
        }
    }
}

impl Serialize for KeptHandoff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Read(handoff) => handoff.serialize(serializer),
            Self::Unread(value, _) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for KeptHandoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let version = value.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(HANDOFF_VERSION)) {
            let version = version.map_or("no number".into(), |version| version.to_string());
            let reason = format!("its version is {version}, not {HANDOFF_VERSION}");
            return Ok(Self::Unread(value, UnreadableHandoff(reason)));
        }
        Ok(match Handoff::deserialize(&value) {
            Ok(handoff) => Self::Read(Box::new(handoff)),
            Err(error) => Self::Unread(value, UnreadableHandoff(error.to_string())),
        })
    }
}

/// One shard of a handoff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffShard {
    /// The shard as it was listed.
    #[serde(flatten)]
    pub shard: Shard,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// Where reading begins, for the shards that it begins with; the others are ancestors of these, or follow them.
    pub resume: Option<Position>,
}

/// What a handoff is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoffOf {
    /// The table's ARN.
    pub table_arn: String,
    /// The table's UUID.
    pub table_id: Option<String>,
    /// Which of the table's streams it is.
    pub generation: Generation,
    /// Whether the scan reads strongly consistently.
    pub consistent: bool,
}

impl Handoff {
    /// The positions that a listing gives.
    ///
    /// For a strongly consistent scan, and a listing without oddities, reading begins with the open shards. For any
    /// other it begins with their ancestors: more records than needed are harmless, fewer are a hole.
    #[must_use]
    pub fn of(
        of: HandoffOf,
        listing: &StreamListing,
        oddities: Vec<Oddity>,
        now: UnixMillis,
    ) -> Self {
        let lineage = Lineage::of(listing, now);
        let begins: Vec<&ShardId> = beginnings(&lineage, &of, &oddities, now)
            .into_iter()
            .map(|node| &node.shard.id)
            .collect();
        let shard = |node: &Node| HandoffShard {
            shard: node.shard.clone(),
            ordinal: node.ordinal,
            resume: begins
                .contains(&&node.shard.id)
                .then(|| Position::At(node.shard.start.clone())),
        };
        Self {
            version: HANDOFF_VERSION,
            table_arn: of.table_arn,
            table_id: of.table_id,
            stream_arn: listing.stream_arn.clone(),
            stream_label: listing.label.clone(),
            generation: of.generation,
            view: listing.view,
            captured_at: now,
            log_from: log_from(&lineage, now),
            shards: lineage.iter().map(shard).collect(),
            oddities,
            expired: false,
        }
    }

    /// The same with no more shards than a record can hold: of a long listing only those that reading begins with. The
    /// others are told by the log's own facts.
    pub fn fitting(self) -> Result<Self, NoHandoff> {
        let begins = self.beginnings().count();
        if begins > MAX_SHARDS {
            return Err(NoHandoff::TooManyShards {
                shards: begins,
                most: MAX_SHARDS,
            });
        }
        if self.shards.len() <= MAX_SHARDS {
            return Ok(self);
        }
        let shards = self.shards.into_iter();
        Ok(Self {
            shards: shards.filter(|shard| shard.resume.is_some()).collect(),
            ..self
        })
    }

    /// The shards that reading begins with.
    pub fn beginnings(&self) -> impl Iterator<Item = &HandoffShard> {
        self.shards.iter().filter(|shard| shard.resume.is_some())
    }

    /// The shards of which records from the handoff on may be gone: nobody has read beyond their beginning, and they are
    /// older than DynamoDB keeps records; or who read them found something gone.
    #[must_use]
    pub fn expired_shards(
        &self,
        readings: &BTreeMap<ShardId, Reading>,
        now: UnixMillis,
    ) -> Vec<&ShardId> {
        let is_kept = |shard: &&HandoffShard| {
            let id = &shard.shard.id;
            match readings.get(id) {
                Some(reading) if reading.lost => false,
                Some(reading) if is_past(&reading.position, &shard.shard.start) => true,
                _ => now.since(id.created_at().unwrap_or(self.captured_at)) < RETENTION_MS,
            }
        };
        let begins = self.beginnings();
        begins
            .filter(|shard| !is_kept(shard))
            .map(|shard| &shard.shard.id)
            .collect()
    }
}

/// Whether a reader has got somewhere: from there on trimmed records would have shown as an error.
fn is_past(position: &Position, start: &SequenceNumber) -> bool {
    match position {
        Position::At(next) => next > start,
        Position::After(_) | Position::End => true,
    }
}

/// The shards with which reading a whole log begins: the oldest of each path whose start is there for sure.
///
/// DynamoDB may drop records after 24 hours, so older shards that nothing is added to are left out with their remains:
/// reading them from their start would fail, and what they held is from before the log. A shard that is open, or closed
/// lately, or without a child is never left out, whatever its age.
#[must_use]
pub fn begins_of_log(lineage: &Lineage, now: UnixMillis) -> Vec<&Node> {
    begins_among(lineage, now, |_| true)
}

/// The same of some shards only, as if there were no others.
#[must_use]
pub fn begins_among(
    lineage: &Lineage,
    now: UnixMillis,
    is_among: impl Fn(&&Node) -> bool,
) -> Vec<&Node> {
    let is_whole = |node: &&Node| {
        let is_young = |at: UnixMillis| now.since(at) < WHOLE_MS;
        let ended_at = node.children.iter().filter_map(ShardId::created_at).min();
        node.shard.end.is_none()
            || node.shard.id.created_at().is_none_or(is_young)
            || ended_at.is_none_or(|at| now.since(at) < LATELY_MS)
    };
    lineage.frontier(|node| is_among(node) && is_whole(node))
}

/// The moment from which on a log that begins with [`begins_of_log`] holds everything.
#[must_use]
pub fn log_from(lineage: &Lineage, now: UnixMillis) -> UnixMillis {
    let oldest = UnixMillis(now.0.saturating_sub(WHOLE_MS));
    let begins = begins_of_log(lineage, now);
    let made = begins
        .iter()
        .map(|node| node.shard.id.created_at().map_or(now, |at| at.max(oldest)));
    UnixMillis(made.max().unwrap_or(now).0 + ROOT_MARGIN_MS)
}

fn beginnings<'a>(
    lineage: &'a Lineage,
    of: &HandoffOf,
    oddities: &[Oddity],
    now: UnixMillis,
) -> Vec<&'a Node> {
    if !oddities.is_empty() {
        // A listing that cannot be believed: from as far back as it knows.
        return begins_of_log(lineage, now);
    }
    if of.consistent {
        return lineage.open_frontier();
    }
    lineage.frontier_since(UnixMillis(now.0.saturating_sub(EVENTUAL_MARGIN_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::oddities;
    use crate::shard::StreamStatus;

    const NOW: UnixMillis = UnixMillis(1_768_385_930_622);

    fn id(minutes_ago: u64, name: &str) -> ShardId {
        format!("shardId-{:020}-{name}", NOW.0 - minutes_ago * 60_000)
            .parse()
            .unwrap()
    }

    fn listing() -> StreamListing {
        let shard = |id: ShardId, parent: Option<ShardId>, open: bool| Shard {
            id,
            parent,
            start: "100".parse().unwrap(),
            end: (!open).then(|| "900".parse().unwrap()),
        };
        StreamListing {
            stream_arn: "arn:stream".into(),
            label: "2026-01-14T10:18:50.622".into(),
            view: StreamView::NewAndOldImages,
            status: StreamStatus::Enabled,
            shards: vec![
                shard(id(300, "a"), None, false),
                shard(id(5, "b"), Some(id(300, "a")), true),
            ],
        }
    }

    fn of(consistent: bool) -> HandoffOf {
        HandoffOf {
            table_arn: "arn:table".into(),
            table_id: Some("uuid".into()),
            generation: Generation(1),
            consistent,
        }
    }

    fn begins(handoff: &Handoff) -> Vec<ShardId> {
        handoff.beginnings().map(|it| it.shard.id.clone()).collect()
    }

    #[test]
    fn reading_begins_with_the_open_shards() {
        let handoff = Handoff::of(of(true), &listing(), Vec::new(), NOW);
        assert_eq!(begins(&handoff), [id(5, "b")]);
        assert_eq!(handoff.shards.len(), 2, "the lineage is kept whole");
        assert_eq!(handoff.log_from, UnixMillis(NOW.0 - 299 * 60_000));
        let json = serde_json::to_string(&handoff).unwrap();
        assert_eq!(serde_json::from_str::<Handoff>(&json).unwrap(), handoff);
    }

    /// Case 7: an eventually consistent read may not have seen what an ancestor published minutes ago.
    #[test]
    fn an_eventual_scan_begins_with_ancestors() {
        let handoff = Handoff::of(of(false), &listing(), Vec::new(), NOW);
        assert_eq!(begins(&handoff), [id(300, "a")]);
    }

    /// Each shard has its parent; the first ones are closed. Ages in minutes.
    fn chain(ages: &[u64]) -> StreamListing {
        let name = |age: u64| id(age, "0");
        let shard = |n: usize| Shard {
            id: name(ages[n]),
            parent: n.checked_sub(1).map(|before| name(ages[before])),
            start: "100".parse().unwrap(),
            end: (n + 1 < ages.len()).then(|| "900".parse().unwrap()),
        };
        StreamListing {
            shards: (0..ages.len()).map(shard).collect(),
            ..listing()
        }
    }

    fn log_begins(ages: &[u64]) -> Vec<ShardId> {
        let lineage = Lineage::of(&chain(ages), NOW);
        let begins = begins_of_log(&lineage, NOW);
        begins.iter().map(|node| node.shard.id.clone()).collect()
    }

    const HOUR: u64 = 60;

    /// What may be trimmed is not read from its start: that would look like a loss of what the log never had.
    #[test]
    fn a_log_begins_with_the_oldest_shards_that_are_whole() {
        let ages = [30, 26, 23, 19, 15, 3].map(|hours| hours * HOUR);
        assert_eq!(log_begins(&ages), [id(19 * HOUR, "0")]);
        let lineage = Lineage::of(&chain(&ages), NOW);
        assert_eq!(
            log_from(&lineage, NOW),
            UnixMillis(NOW.0 - (19 * HOUR - 1) * 60_000)
        );
        // An open shard is never left out, nor one that ended so lately that a handoff may begin with it.
        assert_eq!(log_begins(&[40 * HOUR]), [id(40 * HOUR, "0")]);
        assert_eq!(log_begins(&[40 * HOUR, 30]), [id(40 * HOUR, "0")]);
        assert_eq!(log_begins(&[40 * HOUR, 61]), [id(61, "0")]);
        // Of a long-lived one only the last 22 hours are surely there.
        let old = Lineage::of(&chain(&[40 * HOUR]), NOW);
        assert_eq!(
            log_from(&old, NOW),
            UnixMillis(NOW.0 - (22 * HOUR - 1) * 60_000)
        );
    }

    /// Wherever a handoff begins, the log does so or before.
    #[test]
    fn a_handoff_never_begins_before_the_log() {
        for oldest in (0..50).map(|hours| hours * HOUR + 1) {
            for child in [5, 14, 16, 59, 61, 300] {
                let listing = chain(&[oldest + child, child, 1]);
                let lineage = Lineage::of(&listing, NOW);
                let log = begins_of_log(&lineage, NOW);
                for consistent in [true, false] {
                    for odd in [vec![], vec![Oddity::Unsettled]] {
                        let handoff = Handoff::of(of(consistent), &listing, odd, NOW);
                        for shard in begins(&handoff) {
                            let reaches = |begin: &&Node| begin.shard.id <= shard;
                            assert!(log.iter().any(reaches), "{oldest} {child}");
                        }
                    }
                }
            }
        }
    }

    fn reading(position: Position) -> Reading {
        Reading {
            position,
            lost: false,
        }
    }

    /// The seal's rule: read beyond its beginning, or young enough to be read still.
    #[test]
    fn a_handoff_expires_with_its_first_shard_that_is_old_and_unread() {
        let handoff = Handoff::of(of(true), &listing(), Vec::new(), NOW);
        let shard = id(5, "b");
        let at = |number: &str| Position::At(number.parse().unwrap());
        let rows = |reading: Option<Reading>| -> BTreeMap<ShardId, Reading> {
            reading
                .map(|reading| (shard.clone(), reading))
                .into_iter()
                .collect()
        };
        let expired = |reading: Option<Reading>, minutes: u64| {
            let now = UnixMillis(NOW.0 + minutes * 60_000);
            !handoff.expired_shards(&rows(reading), now).is_empty()
        };
        let day = 24 * HOUR;
        for unread in [None, Some(reading(at("100"))), Some(reading(at("0100")))] {
            assert!(!expired(unread.clone(), day - 6), "{unread:?}");
            assert!(expired(unread.clone(), day - 5), "{unread:?}");
        }
        let after = Position::After("100".parse().unwrap());
        for read in [at("101"), after.clone(), Position::End] {
            assert!(!expired(Some(reading(read.clone())), 2 * day), "{read:?}");
            let lost = Reading {
                position: read,
                lost: true,
            };
            assert!(expired(Some(lost), 0));
        }
        // Other shards' rows say nothing.
        let other = BTreeMap::from([(id(300, "a"), reading(after))]);
        let late = UnixMillis(NOW.0 + 2 * day * 60_000);
        assert_eq!(handoff.expired_shards(&other, late), [&shard]);
        // An id that tells no time is as old as the capture.
        let mut unnamed = handoff;
        for it in &mut unnamed.shards {
            it.shard.id = "shard-1".parse().unwrap();
        }
        let day_later = |ms: u64| UnixMillis(NOW.0 + RETENTION_MS - ms);
        assert!(
            unnamed
                .expired_shards(&BTreeMap::new(), day_later(1))
                .is_empty()
        );
        assert!(
            !unnamed
                .expired_shards(&BTreeMap::new(), day_later(0))
                .is_empty()
        );
    }

    fn wide(open: usize, closed: usize) -> Handoff {
        let digits = "9".repeat(40);
        let shard = |n: usize| Shard {
            id: format!("shardId-{:020}-{n:08x}", NOW.0 - n as u64)
                .parse()
                .unwrap(),
            parent: Some(
                format!("shardId-{:020}-{n:08x}", NOW.0 / 2)
                    .parse()
                    .unwrap(),
            ),
            start: digits.parse().unwrap(),
            end: (n >= open).then(|| digits.parse().unwrap()),
        };
        let listing = StreamListing {
            shards: (0..open + closed).map(shard).collect(),
            ..listing()
        };
        Handoff::of(of(true), &listing, Vec::new(), NOW)
    }

    #[test]
    fn a_long_listing_is_cut_down_to_what_reading_begins_with() {
        let fits = wide(MAX_SHARDS - 10, 10);
        assert_eq!(fits.clone().fitting().unwrap(), fits);
        let cut = wide(MAX_SHARDS, 10).fitting().unwrap();
        assert_eq!(cut.shards.len(), MAX_SHARDS);
        assert!(cut.shards.iter().all(|shard| shard.resume.is_some()));
        // DynamoDB's size of an item counts no quotes and commas, so this bound is the higher one.
        assert!(serde_json::to_vec(&cut).unwrap().len() < 400_000);
        let refused = wide(MAX_SHARDS + 1, 0).fitting().unwrap_err();
        assert!(refused.to_string().contains("1201"), "{refused}");
    }

    #[test]
    fn a_handoff_of_another_version_is_kept_and_is_a_problem_only_where_it_is_needed() {
        let ours = serde_json::to_value(Handoff::of(of(true), &listing(), vec![], NOW)).unwrap();
        let read = |value: &Value| serde_json::from_value::<KeptHandoff>(value.clone()).unwrap();
        assert_eq!(read(&ours).get().unwrap().stream_arn, "arn:stream");
        let mut later = ours.clone();
        later["version"] = 2.into();
        let mut torn = ours.clone();
        torn["shards"][0]["start"] = "x".into();
        let foreign = serde_json::json!({"ShardIds": ["a"], "at": 7});
        for (value, reason) in [
            (later, "version is 2"),
            (torn, "\"x\""),
            (foreign, "no number"),
        ] {
            let kept = read(&value);
            let problem = kept.get().unwrap_err().to_string();
            assert!(problem.contains(reason), "{problem}");
            assert_eq!(serde_json::to_value(&kept).unwrap(), value, "kept as it is");
        }
        // Before `expired` was told.
        let mut early = ours;
        early.as_object_mut().unwrap().remove("expired");
        assert!(!read(&early).get().unwrap().expired);
    }

    #[test]
    fn an_odd_listing_begins_with_its_roots() {
        let mut odd = listing();
        odd.shards[0].end = None;
        let oddities = oddities(&odd, NOW);
        assert_eq!(oddities.len(), 1);
        let handoff = Handoff::of(of(true), &odd, oddities, NOW);
        assert_eq!(begins(&handoff), [id(300, "a")]);
    }
}
