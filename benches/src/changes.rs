//! What is done to a replayed table after its backup: any number of changes, each a function of its number.
//!
//! The changes go round the keys: each round writes every key once, in an order that jumps about. Half of the keys are
//! the table's own, as far as it has so many. Now and then an item is removed, and made anew by the next round. So what
//! the table is at any second can be told without keeping any of it.

use std::fmt::Write as _;
use std::sync::Arc;

use fastrand::Rng;
use highwater_domain::mark::UnixSeconds;

use crate::item_sum::ItemSum;
use crate::table::ReplayTable;

/// The seconds over which the changes are spread.
pub const SPAN_S: u64 = 7200;

/// A prime, so that steps of it come to every key before one comes again.
const STEP: u64 = 2_654_435_761;

/// How many keys the changes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// So many, however many changes there are: a merge reduces them.
    Few(u64),
    /// Each change has a key of its own: nothing can be reduced.
    Distinct,
}

/// A stretch of a table's history.
#[derive(Clone, Debug)]
pub struct Changes {
    table: Arc<ReplayTable>,
    records: u64,
    keys: u64,
    /// Keys below this are the table's own.
    own_keys: u64,
    begin: UnixSeconds,
    stream_arn: String,
}

impl Changes {
    /// `records` changes of `table`, the first of them stamped `begin`.
    #[must_use]
    pub fn new(
        table: Arc<ReplayTable>,
        records: u64,
        keys: Keys,
        begin: UnixSeconds,
        stream_arn: String,
    ) -> Self {
        let keys = match keys {
            Keys::Few(keys) => keys.clamp(1, records.max(1)),
            Keys::Distinct => records.max(1),
        };
        Self {
            own_keys: table.numbered().min(keys / 2),
            table,
            records: records.max(1),
            keys,
            begin,
            stream_arn,
        }
    }

    /// About as many changes as have `plain_bytes` in a log.
    #[must_use]
    pub fn sized(
        table: &Arc<ReplayTable>,
        plain_bytes: u64,
        keys: Keys,
        begin: UnixSeconds,
        stream_arn: &str,
    ) -> Self {
        let of = |records| Self::new(Arc::clone(table), records, keys, begin, stream_arn.into());
        let mut changes = of(plain_bytes / 1000);
        // The records of later rounds have two images: how many those are depends on how many records there are.
        for _ in 0..2 {
            changes = of(plain_bytes / changes.mean_bytes().max(1));
        }
        changes
    }

    fn mean_bytes(&self) -> u64 {
        const SAMPLES: u64 = 500;
        let mut bytes = Vec::new();
        for sample in 0..SAMPLES {
            self.record(self.records / SAMPLES * sample, &mut bytes);
        }
        bytes.len() as u64 / SAMPLES + 1
    }

    /// How many changes.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many keys they are about.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// When a change was made.
    #[must_use]
    pub fn stamp(&self, record: u64) -> UnixSeconds {
        let after = u128::from(record) * u128::from(SPAN_S) / u128::from(self.records);
        UnixSeconds(self.begin.0 + u64::try_from(after).unwrap_or(SPAN_S))
    }

    /// Two bits of a change's key, by which streams spread it over their shards.
    #[must_use]
    pub fn lane(&self, record: u64) -> usize {
        usize::try_from(mix(self.key_of(record % self.keys), 0) & 3).unwrap_or(0)
    }

    /// Appends a change as a stream tells it, in the dress of Lambda's events, without a line's end.
    pub fn record(&self, record: u64, to: &mut Vec<u8>) {
        self.record_numbered(record, &sequence_number(record), to);
    }

    /// The same with another sequence number.
    pub fn record_numbered(&self, record: u64, number: &str, to: &mut Vec<u8>) {
        let key = self.key_of(record % self.keys);
        let round = record / self.keys;
        let new = self.item(key, Some(round));
        let old = self.item(key, round.checked_sub(1));
        let name = match (&old, &new) {
            (None, _) => "INSERT",
            (_, None) => "REMOVE",
            _ => "MODIFY",
        };
        let stamp = self.stamp(record).0;
        let (id, arn, key) = (mix(record, 7), &self.stream_arn, self.name(key));
        let mut start = String::new();
        let _ = write!(
            start,
            r#"{{"eventID":"{id:016x}{record:016x}","eventName":"{name}","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":{stamp},"Keys":{{"pk":{{"S":"{key}"}}}}"#
        );
        to.extend_from_slice(start.as_bytes());
        let mut size = 0;
        for (member, image) in [("NewImage", &new), ("OldImage", &old)] {
            if let Some(image) = image {
                to.extend_from_slice(format!(",\"{member}\":").as_bytes());
                to.extend_from_slice(image);
                size += image.len();
            }
        }
        let end = format!(
            r#","SequenceNumber":"{number}","SizeBytes":{size},"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"{arn}"}}"#
        );
        to.extend_from_slice(end.as_bytes());
    }

    /// What the table comes to at a second that is not before its backup; `base` is what it came to then.
    #[must_use]
    pub fn expected(&self, at: UnixSeconds, base: ItemSum) -> ItemSum {
        let done = self.made_until(at);
        let mut sum = base;
        for place in 0..self.keys.min(done) {
            let key = self.key_of(place);
            let round = (done - 1 - place) / self.keys;
            if let Some(scanned) = self.item(key, None) {
                sum.remove(&scanned);
            }
            if let Some(item) = self.item(key, Some(round)) {
                sum.add(&item);
            }
        }
        sum
    }

    /// How many of the changes are stamped with this second or an earlier one.
    fn made_until(&self, at: UnixSeconds) -> u64 {
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low.midpoint(high);
            if self.stamp(middle) <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The key that comes at this place of each round.
    fn key_of(&self, place: u64) -> u64 {
        let key = u128::from(place) * u128::from(STEP) % u128::from(self.keys);
        u64::try_from(key).unwrap_or(0)
    }

    fn name(&self, key: u64) -> String {
        let own = (key < self.own_keys).then(|| self.table.item(key));
        own.flatten()
            .map_or_else(|| format!("log-{key:012}"), |(name, _)| name)
    }

    /// The item of a key after a round, or before all of them; `None` if it is not there.
    fn item(&self, key: u64, round: Option<u64>) -> Option<Vec<u8>> {
        let own = (key < self.own_keys).then(|| self.table.item(key));
        let Some(round) = round else {
            return own.flatten().map(|(_, item)| item);
        };
        if !self.is_there(key, round) {
            return None;
        }
        let name = self.name(key);
        let attributes = self
            .table
            .data_set()
            .attributes(&mut Rng::with_seed(mix(key, round)));
        let item = format!(r#"{{"pk":{{"S":"{name}"}},"round":{{"N":"{round}"}},{attributes}}}"#);
        Some(item.into_bytes())
    }

    /// Nothing is removed that is not there: rounds with an even number leave every item there, but the first of all.
    fn is_there(&self, key: u64, round: u64) -> bool {
        let one_in = |most: u64| mix(key, round.wrapping_add(99)).is_multiple_of(most);
        match round {
            0 => key >= self.own_keys || !one_in(8),
            _ if round.is_multiple_of(2) => true,
            _ => !(one_in(4) && self.is_there(key, round - 1)),
        }
    }
}

/// The sequence number of a change: 24 digits, as DynamoDB's are long.
#[must_use]
pub fn sequence_number(record: u64) -> String {
    format!("1{record:023}")
}

/// Two numbers to one that looks drawn.
fn mix(a: u64, b: u64) -> u64 {
    let mut random = Rng::with_seed(a.wrapping_mul(STEP) ^ b.rotate_left(40));
    random.u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap};

    use bytes::Bytes;
    use highwater_domain::stream_record::{Change, StreamRecord};

    use crate::data_set::DataSet;

    const ARN: &str =
        "arn:aws:dynamodb:us-east-1:123456789012:table/small/stream/2026-01-14T10:18:50.622";
    const BEGIN: UnixSeconds = UnixSeconds(1_768_385_930);

    fn table() -> Arc<ReplayTable> {
        Arc::new(ReplayTable::new(DataSet::Small, 2_000_000).unwrap())
    }

    /// The table as it goes through the changes, each on the item that the one before left.
    #[test]
    fn changes_follow_each_other_and_come_to_what_is_expected() {
        let table = table();
        for keys in [Keys::Few(700), Keys::Distinct] {
            let changes = Changes::new(Arc::clone(&table), 5000, keys, BEGIN, ARN.into());
            let mut now: BTreeMap<Bytes, Bytes> = BTreeMap::new();
            let mut lines = Vec::new();
            table.write_lines(&mut lines).unwrap();
            for line in lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                let end = line.iter().position(|byte| *byte == b',').unwrap();
                let key = [&line[..end], b"}"].concat();
                now.insert(key.into(), Bytes::copy_from_slice(line));
            }
            let mut seen = HashMap::new();
            for number in 0..changes.records() {
                let mut raw = Vec::new();
                changes.record(number, &mut raw);
                let record = StreamRecord::read(&raw.into()).unwrap();
                assert_eq!(record.sequence_number.as_str(), sequence_number(number));
                assert_eq!(record.created_at, changes.stamp(number).0);
                let before = match &record.new_image {
                    Some(new) => now.insert(record.keys.clone(), new.clone()),
                    None => now.remove(&record.keys),
                };
                assert_eq!(before, record.old_image, "{number}");
                *seen.entry(record.change).or_insert(0_u64) += 1;
                if number % 1234 != 0 && number + 1 != changes.records() {
                    continue;
                }
                let mut next = number + 1;
                while next < changes.records() && changes.stamp(next) == changes.stamp(number) {
                    next += 1;
                }
                if next == number + 1 {
                    let mut sum = ItemSum::default();
                    for item in now.values() {
                        sum.add(item);
                    }
                    assert_eq!(
                        changes.expected(changes.stamp(number), table.item_sum()),
                        sum
                    );
                }
            }
            assert!(seen[&Change::Insert] > 100, "{seen:?}");
            assert!(seen[&Change::Modify] > 100, "{seen:?}");
            assert!(seen[&Change::Remove] > 100, "{seen:?}");
        }
    }

    #[test]
    fn sizes_are_about_what_was_asked_for() {
        for keys in [Keys::Few(5000), Keys::Distinct] {
            let changes = Changes::sized(&table(), 20_000_000, keys, BEGIN, ARN);
            let mut bytes = Vec::new();
            (0..changes.records()).for_each(|number| changes.record(number, &mut bytes));
            assert!(
                (19_000_000..21_000_000).contains(&bytes.len()),
                "{}",
                bytes.len()
            );
        }
    }
}
