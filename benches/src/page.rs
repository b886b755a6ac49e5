//! Pages made once and served many times.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use crc32fast::Hasher;
use fastrand::Rng;
use highwater_domain::item_size::{ItemSizeError, item_size};

use crate::answer::Pieces;
use crate::data_set::DataSet;

/// A page of `Scan` ends when its items have this size, as DynamoDB counts it.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html#Scan.Pagination>
const PAGE_BYTES: u64 = 1 << 20;
/// How every item begins.
const KEY_START: &str = r#"{"pk":{"S":""#;

/// The items of one page, ready to send.
///
/// The same page is served again and again, so its items' keys repeat. Only the last item of each
/// answer gets a key of its own, by a suffix: it is the `LastEvaluatedKey`, and says where the scan is.
#[derive(Clone, Debug)]
pub struct Page {
    /// All items, each followed by a comma.
    items: Bytes,
    /// Where each item begins, and the end of the last one.
    starts: Vec<usize>,
    /// DynamoDB's size of all items before each item, and of all.
    sizes: Vec<u64>,
    /// The keys' text.
    keys: Vec<String>,
    /// The CRC-32 of all items but the last.
    head_crc32: u32,
}

/// What stands around the items of one answer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The table, as the client named it.
    pub table: &'a str,
    /// The suffix that makes the last item's key unique.
    pub suffix: &'a str,
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
            head_crc32: 0,
        };
        let mut size = 0;
        while size < PAGE_BYTES {
            let start = items.len();
            let key = format!("{set}-{kind}-{:06}", page.keys.len());
            let _ = write!(
                items,
                "{KEY_START}{key}\"}},{}}}",
                set.attributes(&mut random)
            );
            size += item_size(&items.as_bytes()[start..])?;
            items.push(',');
            page.starts.push(items.len());
            page.sizes.push(size);
            page.keys.push(key);
        }
        let last = page.starts[page.keys.len() - 1];
        page.head_crc32 = crc32fast::hash(&items.as_bytes()[..last]);
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

    /// The key of an item, without a suffix.
    #[must_use]
    pub fn key(&self, item: usize) -> Option<&str> {
        self.keys.get(item).map(String::as_str)
    }

    /// An answer of `Scan` with these items, of which there must be one at least, and its CRC-32.
    #[must_use]
    pub fn scan_answer(&self, range: Range<usize>, frame: &Frame<'_>) -> (Pieces, u32) {
        let count = range.len();
        let last = range.end - 1;
        let items = self
            .items
            .slice(self.starts[range.start]..self.starts[last]);
        let size = self.sizes[range.end] - self.sizes[range.start];
        let start = format!(
            "{{{}\"Count\":{count},\"Items\":[",
            consumed_capacity(frame, size)
        );
        // The last item, with the suffix behind its key and without its comma.
        let key = &self.keys[last];
        let after_key = self.starts[last] + KEY_START.len() + key.len();
        let rest = &self.items[after_key..self.starts[range.end] - 1];
        let mut end = Vec::with_capacity(rest.len() + 200);
        for piece in [KEY_START, key, frame.suffix] {
            end.extend_from_slice(piece.as_bytes());
        }
        end.extend_from_slice(rest);
        end.push(b']');
        if frame.more {
            let suffix = frame.suffix;
            end.extend_from_slice(
                format!(",\"LastEvaluatedKey\":{KEY_START}{key}{suffix}\"}}}}").as_bytes(),
            );
        }
        end.extend_from_slice(format!(",\"ScannedCount\":{count}}}").as_bytes());
        let crc32 = self.crc32(&start, &range, &items, &end);
        let pieces = [start.into(), items, end.into()].into_iter().collect();
        (pieces, crc32)
    }

    /// Of a whole page the CRC-32 is known but for the ends.
    fn crc32(&self, start: &str, range: &Range<usize>, items: &Bytes, end: &[u8]) -> u32 {
        let mut crc32 = Hasher::new();
        crc32.update(start.as_bytes());
        if *range == (0..self.len()) {
            let length = items.len() as u64;
            crc32.combine(&Hasher::new_with_initial_len(self.head_crc32, length));
        } else {
            crc32.update(items);
        }
        crc32.update(end);
        crc32.finalize()
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
        suffix: "@7",
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
    async fn an_answer_is_json_with_its_checksum_and_a_last_key_of_its_own() {
        for set in DataSet::ALL {
            let page = Page::make(set, 1).unwrap();
            assert!((PAGE_BYTES..PAGE_BYTES + 32_768).contains(&page.size()));
            for range in [0..page.len(), 0..1, 3..4, 2..7, 5..page.len()] {
                let answer = answer(&page, range.clone(), &FRAME).await;
                let items = answer["Items"].as_array().unwrap();
                assert_eq!(items.len(), range.len());
                assert_eq!(answer["Count"], range.len());
                assert_eq!(answer["ScannedCount"], range.len());
                let last = json!({"S": format!("{set}-1-{:06}@7", range.end - 1)});
                assert_eq!(answer["LastEvaluatedKey"], json!({"pk": last}));
                assert_eq!(items[items.len() - 1]["pk"], last);
                let sizes = items
                    .iter()
                    .map(|item| item_size(item.to_string().as_bytes()).unwrap());
                // The suffix is not in the page's sizes.
                let units = (sizes.sum::<u64>() - 2).div_ceil(4096) as f64;
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
}
