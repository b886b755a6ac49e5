//! The shards that a stream of the embedded DynamoDB is cut into: which of them a record belongs to.
//!
//! The engine keeps one sequence of records per table and has no shards worth the name. Here keys are spread over
//! lineages of shards by a hash, and each shard is closed after so many records, or when it is so old, with one child
//! or two. All of it follows from the stream's label and its records alone, so that every call, and every start of
//! the engine on one database file, finds the same shards.
//!
//! Sequence numbers are the engine's stored ones: microseconds since 1970, or one more than the last.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// DynamoDB's own pace: a shard lives about four hours, a record can be read for 24.
const HOUR: Duration = Duration::from_hours(1);

/// How the streams of an embedded DynamoDB look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamShape {
    /// How many shards a new stream has. At least one.
    pub lineages: u32,
    /// After so many records a shard is closed. At least one.
    pub roll_after_records: u64,
    /// When it is so old, a shard is closed, records or not.
    pub roll_after: Duration,
    /// How long records can be read.
    pub retention: Duration,
    /// How long before the stream was enabled its first shards were made, as their ids tell it.
    ///
    /// DynamoDB may miss changes in a stream's first minute, so a log counts as complete only from a minute after its
    /// first shards were made. This engine misses none: with a minute here the log is complete from the first change on.
    pub made_before: Duration,
}

impl Default for StreamShape {
    /// Four lineages that roll after 250 records or four hours, kept for a day.
    fn default() -> Self {
        Self {
            lineages: 4,
            roll_after_records: 250,
            roll_after: 4 * HOUR,
            retention: 24 * HOUR,
            made_before: Duration::ZERO,
        }
    }
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualShard {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    /// The first sequence number that it may have.
    pub(crate) start: u64,
    /// Its last record's; its start if it has none; `None` while it is open.
    pub(crate) end: Option<u64>,
    /// When it was closed, in microseconds.
    pub(crate) closed_at: Option<u64>,
    /// Its records' sequence numbers, ascending.
    pub(crate) records: Vec<u64>,
    /// The hashes of its keys.
    keys: RangeInclusive<u64>,
}

impl VirtualShard {
    /// Its records from `sequence` on.
    pub(crate) fn from(&self, sequence: u64) -> &[u64] {
        let before = self.records.partition_point(|record| *record < sequence);
        self.records.get(before..).unwrap_or_default()
    }

    fn last(&self) -> u64 {
        self.records.last().copied().unwrap_or(self.start)
    }
}

/// The shards of one stream, as far as its records were seen.
#[derive(Clone, Debug)]
pub(crate) struct VirtualShards {
    shape: StreamShape,
    seed: u64,
    shards: Vec<VirtualShard>,
    places: HashMap<String, usize>,
    /// Those that still get records, in order of their making.
    open: Vec<usize>,
    /// The last sequence number that was seen; the stream's start before that.
    through: u64,
}

impl VirtualShards {
    /// A stream of this label without records, enabled at `opened` (microseconds).
    pub(crate) fn new(shape: StreamShape, label: &str, opened: u64) -> Self {
        let mut new = Self {
            shape,
            seed: hash(label.as_bytes()),
            shards: Vec::new(),
            places: HashMap::new(),
            open: Vec::new(),
            through: opened,
        };
        let lineages = u64::from(shape.lineages.max(1));
        let width = u64::MAX / lineages;
        for n in 0..lineages {
            let last = if n + 1 == lineages {
                u64::MAX
            } else {
                (n + 1) * width - 1
            };
            new.add(None, n * width..=last, opened);
        }
        new
    }

    /// The shards, in order of their making.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &VirtualShard> {
        self.shards.iter()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&VirtualShard> {
        self.shards.get(*self.places.get(id)?)
    }

    pub(crate) fn through(&self) -> u64 {
        self.through
    }

    /// Whether the stream is disabled.
    pub(crate) fn has_ended(&self) -> bool {
        self.open.is_empty()
    }

    /// The next record of the stream.
    pub(crate) fn record(&mut self, sequence: u64, key: &[u8]) {
        self.advance(sequence);
        self.through = sequence;
        let hash = hash(key);
        let holds = |place: &&usize| {
            let shard = self.shards.get(**place);
            shard.is_some_and(|shard| shard.keys.contains(&hash))
        };
        let Some(place) = self.open.iter().find(holds).copied() else {
            return;
        };
        let Some(shard) = self.shards.get_mut(place) else {
            return;
        };
        shard.records.push(sequence);
        if shard.records.len() as u64 >= self.shape.roll_after_records {
            self.roll(place, sequence + 1);
        }
    }

    /// It is `now` (microseconds), and every record before is seen: what has grown old is closed.
    pub(crate) fn advance(&mut self, now: u64) {
        let age = u64::try_from(self.shape.roll_after.as_micros()).unwrap_or(u64::MAX);
        loop {
            let due = |place: &usize| {
                let start = self.shards.get(*place)?.start;
                Some((start.saturating_add(age.max(1)), *place))
            };
            match self.open.iter().filter_map(due).min() {
                Some((at, place)) if at <= now => self.roll(place, at),
                _ => return,
            }
        }
    }

    /// The stream is disabled, and every record is seen: all shards are closed, and nothing goes on from them.
    pub(crate) fn end(&mut self) {
        for place in std::mem::take(&mut self.open) {
            if let Some(shard) = self.shards.get_mut(place) {
                shard.end = Some(shard.last());
            }
        }
    }

    /// Closes a shard; its children begin with `at`.
    fn roll(&mut self, place: usize, at: u64) {
        let Some(shard) = self.shards.get_mut(place) else {
            return;
        };
        shard.end = Some(shard.last());
        shard.closed_at = Some(at);
        let (id, keys) = (shard.id.clone(), shard.keys.clone());
        self.open.retain(|open| *open != place);
        // A third of them splits, until there are twice as many as in the beginning.
        let room = self.open.len() + 2 <= 2 * self.shape.lineages.max(1) as usize;
        let middle = keys.start() + (keys.end() - keys.start()) / 2;
        if room && hash(id.as_bytes()).is_multiple_of(3) && middle < *keys.end() {
            self.add(Some(&id), *keys.start()..=middle, at);
            self.add(Some(&id), middle + 1..=*keys.end(), at);
        } else {
            self.add(Some(&id), keys, at);
        }
    }

    fn add(&mut self, parent: Option<&str>, keys: RangeInclusive<u64>, start: u64) {
        let place = self.shards.len();
        // Records are stamped with the second that they are made in: no shard is younger than its first one.
        let created_ms = start / 1_000_000 * 1000;
        let earlier = parent.is_none().then_some(self.shape.made_before);
        let earlier_ms = earlier.map_or(0, |earlier| earlier.as_millis());
        let created_ms = created_ms.saturating_sub(u64::try_from(earlier_ms).unwrap_or(u64::MAX));
        let unique = format!("{} {start} {}", self.seed, keys.start());
        let id = format!(
            "shardId-{created_ms:020}-{:08x}",
            hash(unique.as_bytes()) >> 32
        );
        self.places.insert(id.clone(), place);
        self.open.push(place);
        self.shards.push(VirtualShard {
            id,
            parent: parent.map(str::to_owned),
            start,
            end: None,
            closed_at: None,
            records: Vec::new(),
            keys,
        });
    }
}

/// FNV-1a, its bits mixed once more: short keys that differ in their last byte must not share a lineage. It must
/// never change, since the shards of a database file follow from it.
fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed: u64 = (folded ^ (folded >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const OPENED: u64 = 1_768_385_930_622_123;

    fn shape(lineages: u32, records: u64, seconds: u64) -> StreamShape {
        StreamShape {
            lineages,
            roll_after_records: records,
            roll_after: Duration::from_secs(seconds),
            ..StreamShape::default()
        }
    }

    /// 500 records of 40 keys, a fifth of a second apart.
    fn records() -> impl Iterator<Item = (u64, String)> {
        (0..500).map(|n| (OPENED + 7 + n * 200_000, format!("key-{}", n % 40)))
    }

    fn filled(shape: StreamShape) -> VirtualShards {
        let mut shards = VirtualShards::new(shape, "label", OPENED);
        for (sequence, key) in records() {
            shards.record(sequence, key.as_bytes());
        }
        shards
    }

    #[test]
    fn every_record_is_in_one_shard_and_a_key_on_one_path() {
        let shards = filled(shape(4, 20, 3600));
        let all: Vec<u64> = shards.iter().flat_map(|it| it.records.clone()).collect();
        let distinct: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!((all.len(), distinct.len()), (500, 500));
        let mut last_of_key: BTreeMap<String, &VirtualShard> = BTreeMap::new();
        for (sequence, key) in records() {
            let mut holders = shards.iter().filter(|it| it.records.contains(&sequence));
            let shard = holders.next().unwrap();
            if let Some(before) = last_of_key.insert(key, shard) {
                let mut ancestor = Some(shard);
                while ancestor.is_some_and(|it| it.id != before.id) {
                    let parent = ancestor.and_then(|it| it.parent.as_ref());
                    ancestor = parent.and_then(|parent| shards.get(parent));
                }
                assert!(ancestor.is_some(), "a key left its lineage");
            }
        }
    }

    #[test]
    fn shards_close_with_children_and_some_split() {
        let shards = filled(shape(4, 20, 3600));
        let mut ids = BTreeSet::new();
        let (mut open, mut splits) = (0, 0);
        for shard in shards.iter() {
            assert!(ids.insert(&shard.id), "{} is there twice", shard.id);
            let children: Vec<_> = shards
                .iter()
                .filter(|child| child.parent.as_ref() == Some(&shard.id))
                .collect();
            match shard.end {
                Some(end) => {
                    assert_eq!(shard.records.len(), 20);
                    assert_eq!(shard.records.last(), Some(&end));
                    assert!(matches!(children.len(), 1 | 2));
                    assert!(children.iter().all(|child| child.start == end + 1));
                    splits += usize::from(children.len() == 2);
                }
                None => open += usize::from(children.is_empty()),
            }
            assert!(shard.records.iter().all(|record| *record >= shard.start));
        }
        assert!(splits > 0, "nothing splits");
        assert_eq!(open, 4 + splits);
        assert!(open <= 8);
    }

    #[test]
    fn no_shard_is_younger_than_its_first_record() {
        for shard in filled(shape(3, 10, 30)).iter() {
            let created: u64 = shard.id[8..28].parse().unwrap();
            if let Some(first) = shard.records.first() {
                assert!(created <= first / 1_000_000 * 1000, "{}", shard.id);
            }
            assert!(created + 1000 > shard.start / 1000, "{}", shard.id);
        }
    }

    /// Whoever looks at whatever moments finds the same shards.
    #[test]
    fn the_shards_follow_from_the_records_alone() {
        let shape = shape(4, 15, 20);
        let mut watched = VirtualShards::new(shape, "label", OPENED);
        for (sequence, key) in records() {
            watched.advance(sequence - 3);
            watched.record(sequence, key.as_bytes());
            watched.advance(sequence + 100_000);
        }
        let mut unwatched = filled(shape);
        unwatched.advance(watched.through() + 100_000);
        assert_eq!(unwatched.shards, watched.shards);
        let other = VirtualShards::new(shape, "another label", OPENED);
        assert_ne!(other.shards[0].id, watched.shards[0].id);
    }

    #[test]
    fn first_shards_may_say_that_they_are_older_than_the_stream() {
        let older = StreamShape {
            made_before: Duration::from_mins(1),
            ..shape(2, 10, 3600)
        };
        let created = |shard: &VirtualShard| shard.id[8..28].parse::<u64>().unwrap();
        let (young, old) = (filled(shape(2, 10, 3600)), filled(older));
        for (young, old) in young.iter().zip(old.iter()) {
            let earlier = if old.parent.is_none() { 60_000 } else { 0 };
            assert_eq!(created(young) - created(old), earlier, "{}", old.id);
            assert_eq!(young.records, old.records);
        }
    }

    #[test]
    fn an_idle_shard_grows_old_and_is_empty() {
        let mut shards = VirtualShards::new(shape(1, 10, 60), "label", OPENED);
        shards.advance(OPENED + 59_999_999);
        assert_eq!(shards.iter().count(), 1);
        shards.advance(OPENED + 60_000_000);
        let first = shards.iter().next().unwrap();
        assert_eq!((first.end, first.records.len()), (Some(OPENED), 0));
        let second = shards.iter().nth(1).unwrap();
        assert_eq!(second.start, OPENED + 60_000_000);
        assert_eq!(second.parent.as_ref(), Some(&first.id));
    }

    #[test]
    fn the_end_closes_everything_without_children() {
        let mut shards = filled(shape(4, 20, 3600));
        let before = shards.iter().count();
        assert!(!shards.has_ended());
        shards.end();
        assert!(shards.has_ended());
        assert!(shards.iter().all(|shard| shard.end.is_some()));
        shards.advance(u64::MAX);
        assert_eq!(shards.iter().count(), before);
    }

    #[test]
    fn lineages_share_the_keys() {
        let shards = filled(shape(4, 1000, 3600));
        for shard in shards.iter() {
            let share = shard.records.len();
            assert!((50..250).contains(&share), "{share} of 500");
        }
    }
}
