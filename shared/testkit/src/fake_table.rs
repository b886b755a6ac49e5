//! A table in memory that is scanned as DynamoDB scans: in hash order, in segments, in short pages.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::{Key, KeyAttribute, KeySchema, KeyValue, ScalarType};
use highwater_domain::scan::{Page, RawItems, ScanRequest, TableScanner};
use serde_json::Value;

use crate::canonical::plain_number;
use crate::hash_order::{first_hash, mix, segment_of};

pub use crate::scanning::{scan_request, scan_segment};

/// What a selection makes of an item: the bytes to return, or nothing if the filter drops it.
type Select = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;
/// Called before each page with its number, from 0: writes to the table during a scan.
type BeforePage = Box<dyn Fn(u64, &FakeTable) + Send + Sync>;

/// A table in memory. Pages hold three items, unless told otherwise; some come empty with a key.
///
/// Strict where DynamoDB is: a start key of another segment, an unknown table, a limit of 0 are refused.
/// It evaluates no expressions: give it [`selecting`](Self::selecting) if the request has any.
pub struct FakeTable {
    name: String,
    schema: KeySchema,
    seed: u64,
    page: usize,
    empty_percent: u64,
    select: Option<Select>,
    before_page: Option<BeforePage>,
    pub(crate) unprocessed_percent: u64,
    pub(crate) index_key: Option<KeyAttribute>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By hash and key; `None` is where an item was deleted: a page may still end there.
    items: BTreeMap<(u64, Key), Option<Bytes>>,
    pages: u64,
    emptied: HashSet<(u32, Key)>,
    /// How often each key was put or deleted through the port.
    writes: BTreeMap<Key, u64>,
    coins: u64,
    description: Option<Value>,
}

impl fmt::Debug for FakeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeTable")
            .field("name", &self.name)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl FakeTable {
    /// An empty table whose hash order comes from `seed`.
    #[must_use]
    pub fn new(name: &str, schema: KeySchema, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            seed,
            page: 3,
            empty_percent: 20,
            select: None,
            before_page: None,
            unprocessed_percent: 0,
            index_key: None,
            state: Mutex::new(State::default()),
        }
    }

    /// A table with the string partition key `id` and `count` items, `{"id":{"S":"0"},"n":{"N":"0"}}` and so on.
    #[must_use]
    pub fn with_numbered_items(name: &str, count: usize, seed: u64) -> Self {
        let table = Self::new(name, string_key("id"), seed);
        for n in 0..count {
            table.put(format!(r#"{{"id":{{"S":"{n}"}},"n":{{"N":"{n}"}}}}"#).as_bytes());
        }
        table
    }

    /// Items evaluated for one page, at least 1.
    #[must_use]
    pub fn with_page(mut self, page: usize) -> Self {
        assert!(page > 0, "a page evaluates something");
        self.page = page;
        self
    }

    /// How many of a hundred positions are answered with an empty page first.
    #[must_use]
    pub fn with_empty_pages(mut self, percent: u64) -> Self {
        self.empty_percent = percent;
        self
    }

    /// What the request's filter and projection do to an item, or `None` to drop it.
    #[must_use]
    pub fn selecting(
        mut self,
        select: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.select = Some(Box::new(select));
        self
    }

    /// Writes to make while a scan is under way: called before each page, with its number from 0.
    #[must_use]
    pub fn before_page(mut self, hook: impl Fn(u64, &Self) + Send + Sync + 'static) -> Self {
        self.before_page = Some(Box::new(hook));
        self
    }

    /// Puts an item given as DynamoDB JSON, replacing the one with its key.
    pub fn put(&self, item: &[u8]) {
        let key = self.schema.key_of(item).expect("an item with its key");
        let place = self.place(&key);
        let bytes = Bytes::copy_from_slice(item);
        self.locked().items.insert(place, Some(bytes));
    }

    /// Deletes an item. A scan may still stop at the place where it was.
    pub fn delete(&self, key: &Key) {
        let place = self.place(key);
        if let Some(item) = self.locked().items.get_mut(&place) {
            *item = None;
        }
    }

    /// All items as they are now, in key order.
    #[must_use]
    pub fn items(&self) -> BTreeMap<Key, Bytes> {
        let state = self.locked();
        let there = state.items.iter();
        there
            .filter_map(|((_, key), item)| Some((key.clone(), item.clone()?)))
            .collect()
    }

    /// The keys of the items that a segment holds now, in scan order.
    #[must_use]
    pub fn keys_of_segment(&self, segment: u32, total_segments: u32) -> Vec<Key> {
        let state = self.locked();
        let there = state.items.iter().filter(|(_, item)| item.is_some());
        there
            .filter(|((hash, _), _)| segment_of(*hash, total_segments) == segment)
            .map(|((_, key), _)| key.clone())
            .collect()
    }

    /// The item of a key, as it is now.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Bytes> {
        self.locked().items.get(&self.place(key)).cloned()?
    }

    /// How often each key was put or deleted through [`TableWriter`](highwater_domain::table_writer::TableWriter).
    #[must_use]
    pub fn writes(&self) -> BTreeMap<Key, u64> {
        self.locked().writes.clone()
    }

    /// The table's key.
    #[must_use]
    pub fn schema(&self) -> &KeySchema {
        &self.schema
    }

    /// Counts a write through the port.
    pub(crate) fn count_write(&self, key: &Key) {
        let (_, key) = self.place(key);
        *self.locked().writes.entry(key).or_default() += 1;
    }

    /// True so many times of a hundred; which times, depends on the seed.
    pub(crate) fn coin(&self, percent: u64) -> bool {
        let mut state = self.locked();
        state.coins += 1;
        mix(self.seed ^ state.coins.rotate_left(32)) % 100 < percent
    }

    /// Pages answered so far.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.locked().pages
    }

    /// Replaces what `DescribeTable` says.
    pub fn set_description(&self, table: Value) {
        self.locked().description = Some(table);
    }

    /// What `DescribeTable` was [set](Self::set_description) to say.
    pub(crate) fn set_to_say(&self) -> Option<Value> {
        self.locked().description.clone()
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table's id, which its seed makes.
    #[must_use]
    pub fn id(&self) -> String {
        format!(
            "00000000-0000-4000-8000-{:012x}",
            self.seed & 0xffff_ffff_ffff
        )
    }

    /// The table's ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:aws:dynamodb:eu-north-1:123456789012:table/{}",
            self.name
        )
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Where a key's item lies. As in DynamoDB, all spellings of a number are one key.
    pub(crate) fn place(&self, key: &Key) -> (u64, Key) {
        let one_spelling = |value: &KeyValue| match value {
            KeyValue::N(text) => KeyValue::N(plain_number(text)),
            other => other.clone(),
        };
        let values = key.0.iter();
        let key = Key(values
            .map(|(name, value)| (name.clone(), one_spelling(value)))
            .collect());
        (self.hash(&key), key)
    }

    /// The place of a partition in hash order. Items of one partition stay together.
    fn hash(&self, key: &Key) -> u64 {
        let bytes: &[u8] = match key.0.get(&self.schema.partition.name) {
            Some(KeyValue::S(text) | KeyValue::N(text)) => text.as_bytes(),
            Some(KeyValue::B(bytes)) => bytes,
            None => &[],
        };
        mix(bytes
            .iter()
            .fold(self.seed, |hash, byte| mix(hash ^ u64::from(*byte))))
    }

    fn invalid(&self, message: String) -> Failure {
        Failure::new(FailureKind::Invalid, "Scan", &self.name, message)
    }

    pub(crate) fn know(&self, operation: &'static str, table: &str) -> Result<(), Failure> {
        if table == self.name || table == self.arn() {
            return Ok(());
        }
        let message = "Requested resource not found";
        Err(Failure::new(
            FailureKind::NotFound,
            operation,
            table,
            message,
        ))
    }

    /// Refuses what DynamoDB refuses; gives the place after which to begin.
    fn check(&self, request: &ScanRequest) -> Result<Option<(u64, Key)>, Failure> {
        self.know("Scan", &request.table)?;
        let total = request.total_segments;
        if !(1..=1_000_000).contains(&total) || request.segment >= total {
            return Err(self.invalid(format!("segment {} of {total}", request.segment)));
        }
        if request.limit == Some(0) {
            return Err(self.invalid("a limit of 0".to_owned()));
        }
        if !request.selection.is_everything() && self.select.is_none() {
            return Err(self.invalid("the fake evaluates no expressions by itself".to_owned()));
        }
        let Some(start) = &request.exclusive_start_key else {
            return Ok(None);
        };
        let types: BTreeMap<&String, ScalarType> = self
            .schema
            .attributes()
            .map(|attribute| (&attribute.name, attribute.scalar_type))
            .collect();
        let given = start
            .0
            .iter()
            .map(|(name, value)| (name, value.scalar_type()));
        if !given.eq(types) {
            return Err(self.invalid("the start key is not a key of the table".to_owned()));
        }
        let place = self.place(start);
        if segment_of(place.0, total) != request.segment {
            return Err(self.invalid("the start key lies in another segment".to_owned()));
        }
        Ok(Some(place))
    }

    /// Whether this position gets its one empty page now.
    fn comes_empty(&self, state: &mut State, segment: u32, start: Option<&(u64, Key)>) -> bool {
        start.is_some_and(|(hash, key)| {
            mix(hash ^ self.seed) % 100 < self.empty_percent
                && state.emptied.insert((segment, key.clone()))
        })
    }

    fn answer(&self, request: &ScanRequest, start: Option<(u64, Key)>) -> Page {
        let mut state = self.locked();
        state.pages += 1;
        if self.comes_empty(&mut state, request.segment, start.as_ref()) {
            return Page {
                last_evaluated_key: request.exclusive_start_key.clone(),
                ..Page::default()
            };
        }
        let limit = request
            .limit
            .map_or(self.page, |limit| self.page.min(limit as usize));
        let segment_start = first_hash(request.segment, request.total_segments);
        let from = start.map_or(
            Bound::Included((segment_start, Key(BTreeMap::new()))),
            Bound::Excluded,
        );
        let mut items = Vec::new();
        let mut page = Page::default();
        let mut bytes = 0;
        let segment = state
            .items
            .range((from, Bound::Unbounded))
            .take_while(|((hash, _), _)| {
                segment_of(*hash, request.total_segments) == request.segment
            });
        for (evaluated, ((_, key), item)) in segment.enumerate() {
            if let Some(item) = item {
                page.scanned_count += 1;
                bytes += item.len();
                match &self.select {
                    Some(select) if !request.selection.is_everything() => {
                        items.extend(select(item));
                    }
                    _ => items.push(item.to_vec()),
                }
            }
            if evaluated + 1 == limit {
                // As the service does: a full page has a key even if nothing follows.
                page.last_evaluated_key = Some(key.clone());
                break;
            }
        }
        page.items = RawItems::from_items(items);
        let units = bytes.div_ceil(4096) as f64;
        page.consumed_capacity = if request.consistent {
            units
        } else {
            units / 2.0
        };
        page.wire_bytes = bytes as u64;
        page
    }
}

#[async_trait]
impl TableScanner for FakeTable {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let start = self.check(request)?;
        if let Some(hook) = &self.before_page {
            let number = self.pages();
            hook(number, self);
        }
        Ok(self.answer(request, start))
    }
}

/// A table's key that is one string attribute.
#[must_use]
pub fn string_key(name: &str) -> KeySchema {
    KeySchema {
        partition: KeyAttribute {
            name: name.to_owned(),
            scalar_type: ScalarType::S,
        },
        sort: None,
    }
}

#[cfg(test)]
mod tests {
    use highwater_domain::selection::Selection;
    use highwater_domain::table::TableDescriber as _;

    use super::*;

    fn key(n: usize) -> Key {
        Key(BTreeMap::from([(
            "id".to_owned(),
            KeyValue::S(n.to_string()),
        )]))
    }

    #[tokio::test]
    async fn a_key_of_another_segment_is_refused() {
        let table = FakeTable::with_numbered_items("orders", 40, 1);
        let foreign = table.keys_of_segment(1, 4)[0].clone();
        let mut request = scan_request("orders", 0, 4);
        request.exclusive_start_key = Some(foreign);
        let failure = table.scan_page(&request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
    }

    #[tokio::test]
    async fn what_the_fake_cannot_do_is_refused() {
        let table = FakeTable::with_numbered_items("orders", 4, 1);
        let unknown = table.scan_page(&scan_request("other", 0, 1)).await;
        assert_eq!(unknown.unwrap_err().kind, FailureKind::NotFound);
        let mut request = scan_request("orders", 0, 1);
        request.selection = Selection {
            filter: Some("n > :n".into()),
            ..Selection::default()
        };
        assert!(table.scan_page(&request).await.is_err());
    }

    #[tokio::test]
    async fn writes_during_a_scan_are_seen_only_ahead_of_it() {
        let table = FakeTable::with_numbered_items("orders", 30, 9).before_page(|page, table| {
            if page == 2 {
                let keys = table.keys_of_segment(0, 1);
                table.delete(&keys[0]);
                table.delete(&keys[29]);
            }
        });
        let keys = table.keys_of_segment(0, 1);
        let items = scan_segment(&table, scan_request("orders", 0, 1))
            .await
            .unwrap();
        assert_eq!(items.len(), 29);
        let first = table.schema.key_of(&items[0]).unwrap();
        assert_eq!(first, keys[0], "read before it was deleted");
        assert_eq!(table.items().len(), 28);
        assert!(!table.items().contains_key(&keys[29]));
    }

    #[tokio::test]
    async fn a_filter_leaves_empty_pages_with_a_key() {
        let table = FakeTable::with_numbered_items("orders", 30, 3)
            .selecting(|item| item.ends_with(br#""7"}}"#).then(|| item.to_vec()));
        let mut request = scan_request("orders", 0, 1);
        request.selection.filter = Some("n = :n".into());
        let page = table.scan_page(&request).await.unwrap();
        assert_eq!(page.scanned_count, 3);
        let items = scan_segment(&table, request).await.unwrap();
        assert_eq!(items.len(), 1);
        assert!(table.items().contains_key(&key(7)));
    }

    #[tokio::test]
    async fn the_description_names_the_key() {
        let table = FakeTable::with_numbered_items("orders", 3, 1);
        let settings = table.describe("orders").await.unwrap();
        assert_eq!(settings.key_schema().unwrap(), string_key("id"));
        assert_eq!(settings.item_count(), 3);
        assert!(table.describe("none").await.is_err());
    }
}
