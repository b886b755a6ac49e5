//! Pages made once and served many times.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use fastrand::Rng;
use highwater_domain::item_size::{ItemSizeError, item_size};

use crate::answer::Pieces;
use crate::data_set::DataSet;
use crate::item_sum::ItemSum;

/// A page of `Scan` ends when its items have this size, as DynamoDB counts it.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html#Scan.Pagination>
const PAGE_BYTES: u64 = 1 << 20;
/// How every item begins.
const KEY_START: &str = r#"{"pk":{"S":""#;
/// Digits of the page's number at the end of every key.
const NUMBER_DIGITS: usize = 8;

/// The items of one page, in which only the number of the page is missing.
///
/// The same page is served again and again; its number, at the end of every key, makes the keys unique.
#[derive(Clone, Debug)]
pub struct Page {
    /// All items, each followed by a comma, with noughts for the number.
    items: Bytes,
    /// Where each item begins, and the end of the last one.
    starts: Vec<usize>,
    /// DynamoDB's size of all items before each item, and of all.
    sizes: Vec<u64>,
    /// The keys' text up to the number.
    keys: Vec<String>,
}

/// What stands around the items of one answer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The table, as the client named it.
    pub table: &'a str,
    /// The page's number in the table.
    pub number: u64,
    /// Whether the answer has a `LastEvaluatedKey`.
    pub more: bool,
    /// The units of 4 KiB that a read costs: 1, or 0.5 for an eventually consistent one. `None` to leave them out.
    pub unit: Option<f64>,
}

impl Page {
    /// Makes page `kind` of a data set: the same for the same arguments.
    pub fn make(set: DataSet, kind: usize) -> Result<Self, ItemSizeError> {
        let mut random = Rng::with_seed(kind as u64);
        let mut items = String::new();
        let mut page = Self {
            items: Bytes::new(),
            starts: vec![0],
            sizes: vec![0],
            keys: Vec::new(),
        };
        let mut size = 0;
        while size < PAGE_BYTES {
            let start = items.len();
            let key = format!("{set}-{kind}-{:06}@", page.keys.len());
            let _ = write!(
                items,
                "{KEY_START}{key}{:0NUMBER_DIGITS$}\"}},{}}}",
                0,
                set.attributes(&mut random)
            );
            size += item_size(&items.as_bytes()[start..])?;
            items.push(',');
            page.starts.push(items.len());
            page.sizes.push(size);
            page.keys.push(key);
        }
        page.items = items.into();
        Ok(page)
    }

    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none, which no page is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The bytes of all items on the wire.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        self.items.len() as u64
    }

    /// The size of all items as DynamoDB counts it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(0)
    }

    /// The key of an item of page `number`.
    #[must_use]
    pub fn key(&self, item: usize, number: u64) -> Option<String> {
        let key = self.keys.get(item)?;
        Some(format!("{key}{number:0NUMBER_DIGITS$}"))
    }

    /// An answer of `Scan` with these items, of which there must be one at least, and its CRC-32.
    #[must_use]
    pub fn scan_answer(&self, range: Range<usize>, frame: &Frame<'_>) -> (Pieces, u32) {
        let count = range.len();
        let size = self.sizes[range.end] - self.sizes[range.start];
        let last = self.key(range.end - 1, frame.number).unwrap_or_default();
        let consumed = consumed_capacity(frame, size);
        let mut body = Vec::with_capacity(self.starts[range.end] - self.starts[range.start] + 400);
        body.extend_from_slice(format!("{{{consumed}\"Count\":{count},\"Items\":[").as_bytes());
        self.append(range, frame.number, &mut body);
        // The last comma.
        body.pop();
        body.push(b']');
        if frame.more {
            let key = format!(",\"LastEvaluatedKey\":{KEY_START}{last}\"}}}}");
            body.extend_from_slice(key.as_bytes());
        }
        body.extend_from_slice(format!(",\"ScannedCount\":{count}}}").as_bytes());
        let crc32 = crc32fast::hash(&body);
        (body.into(), crc32)
    }

    /// All items of page `number` as lines of DynamoDB JSON.
    pub fn append_lines(&self, number: u64, to: &mut Vec<u8>) {
        let start = to.len();
        self.append(0..self.len(), number, to);
        for end in &self.starts[1..] {
            to[start + end - 1] = b'\n';
        }
    }

    /// One item of page `number`.
    #[must_use]
    pub fn item(&self, item: usize, number: u64) -> Option<Vec<u8>> {
        self.keys.get(item)?;
        let mut bytes = Vec::new();
        self.append(item..item + 1, number, &mut bytes);
        // The comma.
        bytes.pop();
        Some(bytes)
    }

    /// What all items of page `number` come to.
    #[must_use]
    pub fn item_sum(&self, number: u64) -> ItemSum {
        let mut items = Vec::with_capacity(self.items.len());
        self.append(0..self.len(), number, &mut items);
        let mut sum = ItemSum::default();
        for ends in self.starts.windows(2) {
            sum.add(&items[ends[0]..ends[1] - 1]);
        }
        sum
    }

    /// Items of page `number`, each followed by a comma.
    fn append(&self, range: Range<usize>, number: u64, to: &mut Vec<u8>) {
        let (start, first) = (to.len(), self.starts[range.start]);
        to.extend_from_slice(&self.items[first..self.starts[range.end]]);
        let number = format!("{number:0NUMBER_DIGITS$}");
        for item in range {
            let key_end = self.starts[item] + KEY_START.len() + self.keys[item].len();
            let at = start + key_end - first;
            to[at..at + NUMBER_DIGITS].copy_from_slice(&number.as_bytes()[..NUMBER_DIGITS]);
        }
    }
}

/// An answer of `Scan` without any item.
#[must_use]
pub fn empty_answer(frame: &Frame<'_>) -> (Pieces, u32) {
    let consumed = consumed_capacity(frame, 0);
    let body = format!("{{{consumed}\"Count\":0,\"Items\":[],\"ScannedCount\":0}}");
    let crc32 = crc32fast::hash(body.as_bytes());
    (body.into(), crc32)
}

/// The member `ConsumedCapacity` with its comma, where it was asked for. Nothing read costs one unit too.
fn consumed_capacity(frame: &Frame<'_>, size: u64) -> String {
    let Some(unit) = frame.unit else {
        return String::new();
    };
    let units = size.div_ceil(4096).max(1) as f64 * unit;
    let table = serde_json::Value::from(frame.table);
    format!("\"ConsumedCapacity\":{{\"CapacityUnits\":{units:?},\"TableName\":{table}}},")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    const FRAME: Frame<'_> = Frame {
        table: "small",
        number: 7,
        more: true,
        unit: Some(1.0),
    };

    async fn answer(page: &Page, range: Range<usize>, frame: &Frame<'_>) -> Value {
        let (pieces, crc32) = page.scan_answer(range, frame);
        let promised = pieces.len();
        let body = pieces.collect().await.unwrap().to_bytes();
        assert_eq!(body.len() as u64, promised);
        assert_eq!(crc32fast::hash(&body), crc32);
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_json_with_its_checksum_and_keys_of_its_page() {
        for set in DataSet::ALL {
            let page = Page::make(set, 1).unwrap();
            assert!((PAGE_BYTES..PAGE_BYTES + 32_768).contains(&page.size()));
            for range in [0..page.len(), 0..1, 3..4, 2..7, 5..page.len()] {
                let answer = answer(&page, range.clone(), &FRAME).await;
                let items = answer["Items"].as_array().unwrap();
                assert_eq!(items.len(), range.len());
                assert_eq!(answer["Count"], range.len());
                assert_eq!(answer["ScannedCount"], range.len());
                for (item, index) in items.iter().zip(range.clone()) {
                    assert_eq!(item["pk"]["S"], format!("{set}-1-{index:06}@00000007"));
                }
                let last = &items[items.len() - 1]["pk"];
                assert_eq!(answer["LastEvaluatedKey"], json!({"pk": last}));
                let sizes = items
                    .iter()
                    .map(|item| item_size(item.to_string().as_bytes()).unwrap());
                let units = sizes.sum::<u64>().div_ceil(4096) as f64;
                assert_eq!(answer["ConsumedCapacity"]["CapacityUnits"], units);
            }
        }
    }

    #[tokio::test]
    async fn what_was_not_asked_for_is_left_out() {
        let page = Page::make(DataSet::Medium, 0).unwrap();
        let frame = Frame {
            more: false,
            unit: None,
            ..FRAME
        };
        let answer = answer(&page, 0..2, &frame).await;
        let members: Vec<_> = answer.as_object().unwrap().keys().collect();
        assert_eq!(members, ["Count", "Items", "ScannedCount"]);
    }

    #[tokio::test]
    async fn lines_and_sums_are_of_the_items_that_are_served() {
        let page = Page::make(DataSet::Small, 2).unwrap();
        let answer = answer(&page, 0..page.len(), &FRAME).await;
        let mut lines = b"before".to_vec();
        page.append_lines(FRAME.number, &mut lines);
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines.strip_prefix("before").unwrap();
        assert!(lines.ends_with("}\n"));
        let mut sum = ItemSum::default();
        let mut items = answer["Items"].as_array().unwrap().iter();
        for line in lines.lines() {
            sum.add(line.as_bytes());
            let item: Value = serde_json::from_str(line).unwrap();
            assert_eq!(Some(&item), items.next());
        }
        assert_eq!(items.next(), None);
        assert_eq!(page.item_sum(FRAME.number), sum);
        assert_ne!(page.item_sum(8), sum);
    }
}
