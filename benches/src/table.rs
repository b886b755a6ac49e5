//! A table that is a few pages, replayed until it has the size that was asked for.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_domain::item_size::ItemSizeError;
use serde_json::{Value, json};
use thiserror::Error;

use crate::answer::Pieces;
use crate::data_set::DataSet;
use crate::item_sum::ItemSum;
use crate::page::{Frame, Page, empty_answer};

/// How many different pages a table is made of.
const KINDS: usize = 4;

/// A replayed table.
///
/// Page `n` of the table is the made page `n % 4` with the number `n` in its keys; a segment is a run of pages.
#[derive(Debug)]
pub struct ReplayTable {
    name: String,
    /// Tells tables of one data set apart.
    variant: usize,
    set: DataSet,
    kinds: Vec<Page>,
    pages: u64,
    served: [AtomicU64; 3],
}

/// What was served so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Answers with items.
    pub pages: u64,
    /// Items in them.
    pub items: u64,
    /// Bytes of their bodies.
    pub wire_bytes: u64,
}

/// Where a scan goes on: an item of a page of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    page: u64,
    item: usize,
}

/// What a scan asks for.
#[derive(Clone, Copy, Debug)]
pub struct ScanRange<'a> {
    /// The segment.
    pub segment: u64,
    /// Of how many.
    pub total_segments: u64,
    /// The string in the start key's `pk`.
    pub start_key: Option<&'a str>,
    /// The most items.
    pub limit: Option<usize>,
    /// The table, as the client named it.
    pub table: &'a str,
    /// The price of 4 KiB, if it is to be told.
    pub unit: Option<f64>,
}

/// A start key that is no place in the scanned segment.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StartKeyError {
    /// The table has no such item.
    #[error("the provided starting key is invalid: {0:?} is not the key of an item of this table")]
    Unknown(String),
    /// It is one, of another segment.
    #[error("the provided starting key is outside of the segment: {0:?}")]
    OtherSegment(String),
}

impl ReplayTable {
    /// A table of whole pages with at least so many bytes on the wire, named after its data set.
    pub fn new(set: DataSet, wire_bytes: u64) -> Result<Self, ItemSizeError> {
        Self::make(set, 0, wire_bytes)
    }

    /// A table of the same kind that has no item in common with the one that [`new`](Self::new) makes.
    pub fn other(set: DataSet, wire_bytes: u64) -> Result<Self, ItemSizeError> {
        Self::make(set, 1, wire_bytes)
    }

    fn make(set: DataSet, variant: usize, wire_bytes: u64) -> Result<Self, ItemSizeError> {
        let kinds: Vec<Page> = (0..KINDS)
            .map(|kind| Page::make(set, KINDS * variant + kind))
            .collect::<Result<_, _>>()?;
        let cycle: u64 = kinds.iter().map(Page::wire_bytes).sum();
        let mut pages = wire_bytes / cycle * KINDS as u64;
        let mut left = wire_bytes % cycle;
        for page in &kinds {
            pages += u64::from(left > 0);
            left = left.saturating_sub(page.wire_bytes());
        }
        let name = match variant {
            0 => set.to_string(),
            _ => format!("{set}-other"),
        };
        Ok(Self {
            name,
            variant,
            set,
            kinds,
            pages,
            served: Default::default(),
        })
    }

    /// The same table under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it holds.
    #[must_use]
    pub fn data_set(&self) -> DataSet {
        self.set
    }

    /// How many pages it has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// How many items it has.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.sum(|page| page.len() as u64)
    }

    /// The bytes of all items' JSON.
    #[must_use]
    pub fn item_bytes(&self) -> u64 {
        // Each has a comma behind it on its page.
        self.sum(Page::wire_bytes) - self.items()
    }

    /// What its items come to. This makes all of them: a second or so per gigabyte.
    #[must_use]
    pub fn item_sum(&self) -> ItemSum {
        let mut sum = ItemSum::default();
        for number in 0..self.pages {
            sum.merge(&self.page(number).item_sum(number));
        }
        sum
    }

    /// How many items [`item`](Self::item) can number: as many as lie evenly on all pages.
    #[must_use]
    pub fn numbered(&self) -> u64 {
        let shortest = self.kinds.iter().map(Page::len).min();
        self.pages * shortest.unwrap_or(0) as u64
    }

    /// One of the [`numbered`](Self::numbered) items: its key, and its bytes.
    #[must_use]
    pub fn item(&self, number: u64) -> Option<(String, Vec<u8>)> {
        let page = number.checked_rem(self.pages)?;
        let item = usize::try_from(number / self.pages).ok()?;
        let made = self.page(page);
        Some((made.key(item, page)?, made.item(item, page)?))
    }

    /// Writes all items as lines of DynamoDB JSON.
    pub fn write_lines(&self, to: &mut impl io::Write) -> io::Result<()> {
        let mut lines = Vec::new();
        for number in 0..self.pages {
            lines.clear();
            self.page(number).append_lines(number, &mut lines);
            to.write_all(&lines)?;
        }
        Ok(())
    }

    /// What was served of it so far.
    #[must_use]
    pub fn served(&self) -> Served {
        let [pages, items, wire_bytes] = self
            .served
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        Served {
            pages,
            items,
            wire_bytes,
        }
    }

    /// The `Table` member of `DescribeTable`.
    #[must_use]
    pub fn description(&self) -> Value {
        let name = &self.name;
        let id = self.set as usize * 2 + self.variant;
        json!({
            "TableName": name,
            "TableArn": format!("arn:aws:dynamodb:us-east-1:123456789012:table/{name}"),
            "TableId": format!("00000000-0000-4000-8000-{id:012}"),
            "TableStatus": "ACTIVE",
            "CreationDateTime": 1_768_385_930.622,
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "ProvisionedThroughput": {
                "NumberOfDecreasesToday": 0, "ReadCapacityUnits": 0, "WriteCapacityUnits": 0,
            },
            "TableSizeBytes": self.sum(Page::size),
            "ItemCount": self.items(),
            "DeletionProtectionEnabled": false,
        })
    }

    /// An answer of `Scan`, and its CRC-32.
    pub fn scan(&self, asked: &ScanRange<'_>) -> Result<(Pieces, u32), StartKeyError> {
        let segment = self.segment(asked.segment, asked.total_segments);
        let from = match asked.start_key {
            None => Position {
                page: segment.start,
                item: 0,
            },
            Some(key) => self.after(key, &segment)?,
        };
        let mut frame = Frame {
            table: asked.table,
            number: from.page,
            more: false,
            unit: asked.unit,
        };
        if from.page >= segment.end {
            return Ok(empty_answer(&frame));
        }
        let page = self.page(from.page);
        let left = page.len() - from.item;
        let count = asked.limit.unwrap_or(left).clamp(1, left);
        let range = from.item..from.item + count;
        frame.more = range.end < page.len() || from.page + 1 < segment.end;
        let (body, crc32) = page.scan_answer(range, &frame);
        for (sum, more) in self.served.iter().zip([1, count as u64, body.len()]) {
            sum.fetch_add(more, Ordering::Relaxed);
        }
        Ok((body, crc32))
    }

    /// The pages of a segment: equal shares, none left out.
    fn segment(&self, segment: u64, total: u64) -> Range<u64> {
        let border = |segment| self.pages / total * segment + self.pages % total * segment / total;
        border(segment)..border(segment + 1)
    }

    fn page(&self, number: u64) -> &Page {
        let kind = number % KINDS as u64;
        // Less than the number of kinds.
        &self.kinds[usize::try_from(kind).unwrap_or(0)]
    }

    fn sum(&self, of: impl Fn(&Page) -> u64) -> u64 {
        let kinds = self.kinds.iter().zip(0..);
        kinds
            .map(|(page, kind)| of(page) * ((self.pages + KINDS as u64 - 1 - kind) / KINDS as u64))
            .sum()
    }

    /// The position after the item with this key.
    fn after(&self, key: &str, segment: &Range<u64>) -> Result<Position, StartKeyError> {
        let at = self
            .position(key)
            .ok_or_else(|| StartKeyError::Unknown(key.to_owned()))?;
        if !segment.contains(&at.page) {
            return Err(StartKeyError::OtherSegment(key.to_owned()));
        }
        if at.item + 1 < self.page(at.page).len() {
            return Ok(Position {
                item: at.item + 1,
                ..at
            });
        }
        Ok(Position {
            page: at.page + 1,
            item: 0,
        })
    }

    /// The item of this key: `small-2-004321@00000017` is on page 17.
    fn position(&self, key: &str) -> Option<Position> {
        let (name, page) = key.split_once('@')?;
        let page = page.parse().ok().filter(|page| *page < self.pages)?;
        let item: usize = name.rsplit_once('-')?.1.parse().ok()?;
        let real = self.page(page).key(item, page)?;
        (real == key).then_some(Position { page, item })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    /// Scans a segment to its end, and gives each answer's last key and count.
    async fn scan(
        table: &ReplayTable,
        segment: u64,
        total_segments: u64,
        limit: Option<usize>,
    ) -> Vec<(Option<String>, u64)> {
        let mut answers: Vec<(Option<String>, u64)> = Vec::new();
        loop {
            let asked = ScanRange {
                segment,
                total_segments,
                start_key: answers.last().and_then(|(key, _)| key.as_deref()),
                limit,
                table: "small",
                unit: None,
            };
            let (body, _) = table.scan(&asked).unwrap();
            let body = body.collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let key = body["LastEvaluatedKey"]["pk"]["S"].as_str();
            answers.push((key.map(str::to_owned), body["Count"].as_u64().unwrap()));
            if key.is_none() {
                return answers;
            }
        }
    }

    #[test]
    fn numbered_items_are_those_of_the_table_each_once() {
        let table = ReplayTable::new(DataSet::Large, 13_000_000).unwrap();
        let mut lines = Vec::new();
        table.write_lines(&mut lines).unwrap();
        let lines: std::collections::BTreeSet<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
        let mut keys = std::collections::BTreeSet::new();
        for number in 0..table.numbered() {
            let (key, item) = table.item(number).unwrap();
            assert!(lines.contains(&item[..]), "{key}");
            assert!(keys.insert(key));
        }
        assert!(keys.len() as u64 > table.items() / 2);
    }

    #[tokio::test]
    async fn every_page_is_in_one_segment_whatever_their_number() {
        let table = ReplayTable::new(DataSet::Large, 13_000_000).unwrap();
        for total in [1, 2, 3, 7, 100] {
            let (mut items, mut keys) = (0, Vec::new());
            for segment in 0..total {
                for (key, count) in scan(&table, segment, total, None).await {
                    items += count;
                    keys.extend(key);
                }
            }
            assert_eq!(items, table.items(), "{total}");
            let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
            assert_eq!(distinct.len(), keys.len(), "{total}");
        }
        let served = table.served();
        assert_eq!(served.items, 5 * table.items());
        assert_eq!(served.pages, 5 * table.pages());
        assert!(served.wire_bytes >= 5 * 13_000_000);
    }

    #[tokio::test]
    async fn a_limit_cuts_pages_and_loses_nothing() {
        let table = ReplayTable::new(DataSet::Large, 3_000_000).unwrap();
        let answers = scan(&table, 0, 1, Some(7)).await;
        assert!(answers.iter().all(|(_, count)| *count <= 7));
        let items: u64 = answers.iter().map(|(_, count)| count).sum();
        assert_eq!(items, table.items());
    }

    #[test]
    fn foreign_start_keys_are_refused() {
        let table = ReplayTable::new(DataSet::Small, 10_000_000).unwrap();
        let with_key = |segment, start_key| {
            let asked = ScanRange {
                segment,
                total_segments: 2,
                start_key: Some(start_key),
                limit: None,
                table: "small",
                unit: None,
            };
            table.scan(&asked).map(|_| ())
        };
        let known = "small-1-000003@00000001";
        assert_eq!(with_key(0, known), Ok(()));
        let other = StartKeyError::OtherSegment(known.to_owned());
        assert_eq!(with_key(1, known), Err(other));
        for key in [
            "",
            "x",
            "small-1-000003",
            "small-1-000003@1",
            "small-2-000003@00000001",
            "small-1-999999@00000001",
            "small-1-000003@99999999",
        ] {
            assert_eq!(
                with_key(0, key),
                Err(StartKeyError::Unknown(key.to_owned()))
            );
        }
    }

    /// The keys of all items, scanned in one segment.
    async fn keys(table: &ReplayTable) -> Vec<String> {
        let mut keys = Vec::new();
        loop {
            let asked = ScanRange {
                segment: 0,
                total_segments: 1,
                start_key: keys.last().map(String::as_str),
                limit: None,
                table: "large",
                unit: None,
            };
            let (body, _) = table.scan(&asked).unwrap();
            let body = body.collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let items = body["Items"].as_array().unwrap();
            let key = |item: &Value| item["pk"]["S"].as_str().unwrap().to_owned();
            keys.extend(items.iter().map(key));
            if body.get("LastEvaluatedKey").is_none() {
                return keys;
            }
        }
    }

    #[tokio::test]
    async fn no_two_items_have_one_key_in_a_table_and_its_other() {
        let table = ReplayTable::new(DataSet::Large, 13_000_000).unwrap();
        let other = ReplayTable::other(DataSet::Large, 13_000_000).unwrap();
        let all = [keys(&table).await, keys(&other).await].concat();
        assert_eq!(all.len() as u64, table.items() + other.items());
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_ne!(
            table.description()["TableId"],
            other.description()["TableId"]
        );
        assert_ne!(table.name(), other.name());
        assert_ne!(table.item_sum(), other.item_sum());
    }

    #[test]
    fn lines_are_the_items() {
        let table = ReplayTable::new(DataSet::Large, 3_000_000).unwrap();
        let mut lines = Vec::new();
        table.write_lines(&mut lines).unwrap();
        let mut sum = ItemSum::default();
        lines[..lines.len() - 1]
            .split(|byte| *byte == b'\n')
            .for_each(|line| sum.add(line));
        assert_eq!(sum, table.item_sum());
        assert_eq!(sum.items, table.items());
        assert_eq!(sum.bytes + sum.items, lines.len() as u64);
        assert_eq!(table.item_bytes(), sum.bytes);
    }

    #[test]
    fn a_table_has_the_size_that_was_asked_for_and_says_so() {
        assert_eq!(ReplayTable::new(DataSet::Large, 0).unwrap().pages(), 0);
        for wire_bytes in [1, 1_000_000, 20_000_000, 123_456_789] {
            let table = ReplayTable::new(DataSet::Large, wire_bytes).unwrap();
            let made = table.sum(Page::wire_bytes);
            assert!((wire_bytes..wire_bytes + 1_500_000).contains(&made));
            let expected: usize = (0..table.pages()).map(|page| table.page(page).len()).sum();
            assert_eq!(table.items(), expected as u64);
            assert_eq!(table.description()["ItemCount"], expected);
        }
    }
}
