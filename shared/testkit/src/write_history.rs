//! Writes to a table with their whole history, so that it is known what the table was at any second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use fastrand::Rng;
use highwater_domain::mark::UnixSeconds;

/// One change, and the moments between which it was made.
#[derive(Clone, Debug)]
pub struct Written {
    /// The item's `pk`.
    pub key: String,
    /// Its `value`; `None`: deleted.
    pub value: Option<String>,
    /// Right before the request.
    pub began: SystemTime,
    /// Right after the answer.
    pub ended: SystemTime,
}

/// Everything that was written, in order for each key.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Written>>>);

fn second(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

impl History {
    /// How many changes were made.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the table was after the second `at`, which DynamoDB stamps a change with while it is made. `None` where a change
    /// was under way at the end of that second, so that only DynamoDB knows.
    #[must_use]
    pub fn at(&self, at: UnixSeconds) -> Option<BTreeMap<String, String>> {
        let mut items = BTreeMap::new();
        for written in self.0.lock().unwrap().iter() {
            let (began, ended) = (second(written.began), second(written.ended));
            if began <= at.0 && at.0 < ended {
                return None;
            }
            if ended <= at.0 {
                match &written.value {
                    Some(value) => items.insert(written.key.clone(), value.clone()),
                    None => items.remove(&written.key),
                };
            }
        }
        Some(items)
    }

    /// The history of several writers, who share no keys.
    #[must_use]
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let merged = Self::default();
        for history in all {
            let written = history.0.lock().unwrap().clone();
            merged.0.lock().unwrap().extend(written);
        }
        merged
    }
}

/// Inserts, updates, deletes and re-inserts a few items over and over.
#[derive(Debug)]
pub struct Writer {
    client: aws_sdk_dynamodb::Client,
    table: String,
    name: String,
    random: Rng,
    keys: u32,
    history: History,
}

/// No write begins so shortly before a second's end: it might be stamped with either.
async fn keep_off_the_edge() {
    const EDGE_MS: u32 = 120;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let left = 1000 - since.unwrap().subsec_millis();
    if left <= EDGE_MS {
        tokio::time::sleep(Duration::from_millis(u64::from(left) + 2)).await;
    }
}

/// Items per writer, unless it is given more: few, so that each has a history.
const KEYS: u32 = 40;

impl Writer {
    /// A writer of `table`, whose key is the text `pk`, with keys of its own: `name` comes first in each.
    #[must_use]
    pub fn new(client: aws_sdk_dynamodb::Client, table: &str, name: &str, seed: u64) -> Self {
        Self {
            client,
            table: table.to_owned(),
            name: name.to_owned(),
            random: Rng::with_seed(seed),
            keys: KEYS,
            history: History::default(),
        }
    }

    /// The same, with so many items.
    #[must_use]
    pub fn over(mut self, keys: u32) -> Self {
        self.keys = keys;
        self
    }

    /// What it has written; grows as it writes.
    #[must_use]
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// Makes `count` changes, one after the other. Some change nothing, and leave no record.
    pub async fn write(&mut self, count: usize) {
        for _ in 0..count {
            let key = format!("{}-{:02}", self.name, self.random.u32(..self.keys));
            let value = (self.random.u8(..4) > 0).then(|| {
                format!(
                    "{:08x}{}",
                    self.random.u32(..),
                    "x".repeat(self.random.usize(..200))
                )
            });
            keep_off_the_edge().await;
            let began = SystemTime::now();
            let id = AttributeValue::S(key.clone());
            if let Some(value) = &value {
                let put = self
                    .client
                    .put_item()
                    .table_name(&self.table)
                    .item("pk", id);
                let put = put.item("value", AttributeValue::S(value.clone()));
                put.send().await.unwrap();
            } else {
                let delete = self.client.delete_item().table_name(&self.table);
                delete.key("pk", id).send().await.unwrap();
            }
            let ended = SystemTime::now();
            self.history.0.lock().unwrap().push(Written {
                key,
                value,
                began,
                ended,
            });
        }
    }

    /// Makes `count` changes, one each `pause` if the engine is fast enough for that.
    pub async fn write_at_pace(&mut self, count: usize, pause: Duration) {
        let mut due = tokio::time::Instant::now();
        for _ in 0..count {
            due += pause;
            self.write(1).await;
            tokio::time::sleep_until(due).await;
        }
    }

    /// The same over a while.
    pub async fn write_slowly(&mut self, count: usize, pause: Duration) {
        for _ in 0..count {
            self.write(1).await;
            tokio::time::sleep(pause).await;
        }
    }
}
