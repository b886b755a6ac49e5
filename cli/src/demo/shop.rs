//! The shop is open while it is backed up: orders come, change and go, and the demo keeps the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::budget::Clock as _;
use highwater_domain::ids::UnixMillis;
use highwater_domain::key::KeySchema;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::scan::RawItems;
use highwater_lambda::SystemClock;
use highwater_local::EmbeddedDynamoDb;
use highwater_steps::StepError;
use highwater_steps::item_source::{ItemBatch, ItemBatches, ItemSource};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::data;
use crate::error::CliError;

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(8);

/// No change begins so shortly before a second's end: it might be stamped with either.
const EDGE_MS: u64 = 60;

/// An item's key.
type Key = (String, String);

/// One change: what the item was after it, `None` if it was deleted, and the second that DynamoDB stamped it with.
#[derive(Clone, Debug)]
struct Change {
    second: u64,
    key: Key,
    item: Option<Value>,
}

/// What was done, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Items that had never been there.
    pub inserts: u64,
    /// Items that were there.
    pub updates: u64,
    /// Items that were there, and are not.
    pub deletes: u64,
    /// Items that had been deleted.
    pub reinserts: u64,
}

impl Counts {
    /// All changes.
    pub fn all(&self) -> u64 {
        self.inserts + self.updates + self.deletes + self.reinserts
    }
}

/// The table's whole history.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    changes: Vec<Change>,
    counts: Counts,
    /// Seconds at whose end a change was under way: only DynamoDB knows on which side it fell.
    blurred: BTreeSet<u64>,
}

impl Truth {
    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The second of the last change.
    pub fn last(&self) -> UnixSeconds {
        let seconds = self.changes.iter().map(|change| change.second);
        UnixSeconds(seconds.max().unwrap_or_default())
    }

    /// Whether it is certain what the table was at the end of this second.
    pub fn knows(&self, at: UnixSeconds) -> bool {
        !self.blurred.contains(&at.0)
    }

    /// The table as it was at the end of this second.
    pub fn at(&self, at: UnixSeconds) -> TruthItems {
        let mut items = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.second <= at.0) {
            match &change.item {
                Some(item) => items.insert(change.key.clone(), item.clone()),
                None => items.remove(&change.key),
            };
        }
        TruthItems {
            name: format!("the truth at {at}"),
            items: items.into_values().map(|item| item.to_string()).collect(),
        }
    }

    fn note(&mut self, change: Change, ended: u64, counts: Counts) {
        self.blurred.extend(change.second..ended);
        self.counts = counts;
        self.changes.push(change);
    }
}

/// Items that are kept in memory, as something that can be compared with a table.
#[derive(Debug)]
pub struct TruthItems {
    name: String,
    items: Vec<String>,
}

#[async_trait]
impl ItemSource for TruthItems {
    fn name(&self) -> &str {
        &self.name
    }

    /// It is compared with a table, which knows.
    fn key_schema(&self) -> Option<&KeySchema> {
        None
    }

    fn claimed_items(&self) -> Option<u64> {
        Some(self.items.len() as u64)
    }

    fn units(&self) -> u32 {
        1
    }

    fn concurrency(&self) -> u32 {
        1
    }

    async fn open(&self, _unit: u32) -> Result<Box<dyn ItemBatches>, StepError> {
        Ok(Box::new(OneBatch(Some(ItemBatch::Page {
            segment: 0,
            items: RawItems::from_items(&self.items),
        }))))
    }
}

struct OneBatch(Option<ItemBatch>);

#[async_trait]
impl ItemBatches for OneBatch {
    async fn next(&mut self) -> Result<Option<ItemBatch>, StepError> {
        Ok(self.0.take())
    }
}

/// An open shop.
#[derive(Debug)]
pub struct Shop {
    truth: Arc<Mutex<Truth>>,
    closing: Arc<AtomicBool>,
    work: JoinHandle<Result<(), CliError>>,
}

impl Shop {
    /// Opens the shop, whose table has the first `items` items since `filled` at the latest.
    pub fn open(dynamodb: Arc<EmbeddedDynamoDb>, items: u32, filled: UnixMillis) -> Self {
        let second = UnixSeconds::of(filled).0;
        let there = (0..items).map(data::item);
        let truth = Truth {
            changes: there
                .map(|item| Change {
                    second,
                    key: data::key(&item),
                    item: Some(item),
                })
                .collect(),
            ..Truth::default()
        };
        let clerk = Clerk {
            present: truth.changes.iter().map(|it| it.key.clone()).collect(),
            deleted: Vec::new(),
            next: items,
            random: fastrand::Rng::with_seed(u64::from(items)),
            dynamodb,
        };
        let truth = Arc::new(Mutex::new(truth));
        let closing = Arc::new(AtomicBool::new(false));
        let work = tokio::spawn(clerk.work(truth.clone(), closing.clone()));
        Self {
            truth,
            closing,
            work,
        }
    }

    /// The truth so far.
    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        locked(&self.truth)
    }

    /// Closes the shop. All that was ever done to the table.
    pub async fn close(mut self) -> Result<Truth, CliError> {
        self.closing.store(true, Ordering::Release);
        (&mut self.work)
            .await
            .map_err(|error| StepError::Internal(error.to_string()))??;
        let truth = self.truth().clone();
        Ok(truth)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// A poisoned lock means that the clerk panicked between two changes: what it noted is noted.
fn locked(truth: &Mutex<Truth>) -> MutexGuard<'_, Truth> {
    truth.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who makes the changes.
struct Clerk {
    dynamodb: Arc<EmbeddedDynamoDb>,
    present: Vec<Key>,
    deleted: Vec<Key>,
    next: u32,
    random: fastrand::Rng,
}

impl Clerk {
    async fn work(
        mut self,
        truth: Arc<Mutex<Truth>>,
        closing: Arc<AtomicBool>,
    ) -> Result<(), CliError> {
        while !closing.load(Ordering::Acquire) {
            let mut counts = locked(&truth).counts;
            let (key, item) = self.change(&mut counts);
            let request = match &item {
                Some(item) => json!({"PutRequest": {"Item": item}}),
                None => json!({"DeleteRequest": {"Key": {"pk": {"S": key.0}, "sk": {"S": key.1}}}}),
            };
            keep_off_the_edge().await;
            let second = UnixSeconds::of(SystemClock.now()).0;
            self.dynamodb.write(data::TABLE, vec![request]).await?;
            let ended = UnixSeconds::of(SystemClock.now()).0;
            locked(&truth).note(Change { second, key, item }, ended, counts);
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The next change: an insert, an update, a delete, or a re-insert of what was deleted.
    fn change(&mut self, counts: &mut Counts) -> (Key, Option<Value>) {
        let kind = self.random.u8(..10);
        let some = self.random.usize(..self.present.len().max(1));
        if kind < 2 && some < self.present.len() {
            counts.deletes += 1;
            let key = self.present.swap_remove(some);
            self.deleted.push(key.clone());
            return (key, None);
        }
        if kind < 4 && !self.deleted.is_empty() {
            counts.reinserts += 1;
            let key = self
                .deleted
                .swap_remove(self.random.usize(..self.deleted.len()));
            self.present.push(key.clone());
            return (key.clone(), Some(self.order(&key)));
        }
        if kind < 7
            && let Some(key) = self.present.get(some).cloned()
        {
            counts.updates += 1;
            return (key.clone(), Some(self.order(&key)));
        }
        counts.inserts += 1;
        let item = data::item(self.next);
        self.next += 1;
        let key = data::key(&item);
        self.present.push(key.clone());
        (key, Some(item))
    }

    /// Something else under the same key.
    fn order(&mut self, key: &Key) -> Value {
        json!({
            "pk": {"S": key.0},
            "sk": {"S": key.1},
            "status": {"S": "changed"},
            "revision": {"N": self.random.u32(..).to_string()},
        })
    }
}

async fn keep_off_the_edge() {
    let left = 1000 - SystemClock.now().0 % 1000;
    if left <= EDGE_MS {
        sleep(Duration::from_millis(left + 5)).await;
    }
}
