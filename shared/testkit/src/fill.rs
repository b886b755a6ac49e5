//! Loads items into a table with several workers, and loses none in silence.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemError;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures::future::join_all;

/// The most items that BatchWriteItem takes.
pub const BATCH: usize = 25;

/// Writes one batch; gives back what was not written and is to be tried again.
#[async_trait]
pub trait BatchWriter<T>: Send + Sync {
    /// Why a whole batch fails.
    type Error: Send;

    /// Writes some of `batch`, at most [`BATCH`] items; returns the others.
    async fn write(&self, batch: Vec<T>) -> Result<Vec<T>, Self::Error>;
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Items written.
    pub items: u64,
    /// Calls to the writer.
    pub batches: u64,
    /// Items that the writer gave back, counted each time.
    pub unprocessed: u64,
}

/// What stopped the work: the error itself, unchanged.
#[derive(Debug, PartialEq, Eq)]
pub enum FillError<S, W> {
    /// The source of items failed.
    Source(S),
    /// The writer failed.
    Write(W),
}

/// What the workers share: the source, until it ends or fails, and the first error.
struct Work<I, S, W> {
    items: I,
    ended: bool,
    error: Option<FillError<S, W>>,
    filled: Filled,
}

/// Writes all items with `workers` workers. The first error, of the source or of the writer, stops
/// all and is returned as it was; items that the source gave before its own error are written.
pub async fn fill<T, S, W>(
    items: impl Iterator<Item = Result<T, S>> + Send,
    workers: usize,
    writer: &W,
) -> Result<Filled, FillError<S, W::Error>>
where
    T: Send,
    S: Send,
    W: BatchWriter<T>,
{
    let work = Mutex::new(Work {
        items,
        ended: false,
        error: None,
        filled: Filled::default(),
    });
    join_all((0..workers.max(1)).map(|_| run(&work, writer))).await;
    let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    match work.error {
        Some(error) => Err(error),
        None => Ok(work.filled),
    }
}

async fn run<T, S, W, I>(work: &Mutex<Work<I, S, W::Error>>, writer: &W)
where
    T: Send,
    S: Send,
    W: BatchWriter<T>,
    I: Iterator<Item = Result<T, S>> + Send,
{
    loop {
        let batch = next_batch(&mut work.lock().unwrap());
        if batch.is_empty() {
            return;
        }
        let outcome = write_all(batch, writer).await;
        let mut work = work.lock().unwrap();
        match outcome {
            Ok(filled) => {
                work.filled.items += filled.items;
                work.filled.batches += filled.batches;
                work.filled.unprocessed += filled.unprocessed;
            }
            Err(error) => {
                work.ended = true;
                work.error.get_or_insert(FillError::Write(error));
            }
        }
    }
}

fn next_batch<T, S, W>(work: &mut Work<impl Iterator<Item = Result<T, S>>, S, W>) -> Vec<T> {
    let mut batch = Vec::new();
    while !work.ended && batch.len() < BATCH {
        match work.items.next() {
            Some(Ok(item)) => batch.push(item),
            Some(Err(error)) => {
                work.ended = true;
                work.error.get_or_insert(FillError::Source(error));
            }
            None => work.ended = true,
        }
    }
    batch
}

/// Writes a batch until nothing of it is left.
async fn write_all<T: Send, W: BatchWriter<T>>(
    mut batch: Vec<T>,
    writer: &W,
) -> Result<Filled, W::Error> {
    let mut filled = Filled::default();
    let mut pause = Duration::from_millis(5);
    loop {
        let tried = batch.len();
        batch = writer.write(batch).await?;
        filled.batches += 1;
        filled.items += (tried - batch.len()) as u64;
        filled.unprocessed += batch.len() as u64;
        if batch.is_empty() {
            return Ok(filled);
        }
        if batch.len() == tried {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// Writes to a table by BatchWriteItem.
#[derive(Clone, Debug)]
pub struct TableWriter {
    client: aws_sdk_dynamodb::Client,
    table: String,
}

impl TableWriter {
    /// Writes to `table`.
    #[must_use]
    pub fn new(client: &aws_sdk_dynamodb::Client, table: &str) -> Self {
        Self {
            client: client.clone(),
            table: table.to_owned(),
        }
    }
}

/// An item as the SDK takes it.
pub type SdkItem = HashMap<String, AttributeValue>;

#[async_trait]
impl BatchWriter<SdkItem> for TableWriter {
    type Error = SdkError<BatchWriteItemError>;

    async fn write(&self, batch: Vec<SdkItem>) -> Result<Vec<SdkItem>, Self::Error> {
        let mut requests = Vec::with_capacity(batch.len());
        for item in batch {
            let put = PutRequest::builder()
                .set_item(Some(item))
                .build()
                .map_err(SdkError::construction_failure)?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let answer = self
            .client
            .batch_write_item()
            .request_items(&self.table, requests)
            .send()
            .await?;
        let unprocessed = answer.unprocessed_items.unwrap_or_default();
        Ok(unprocessed
            .into_values()
            .flatten()
            .filter_map(|request| request.put_request.map(|put| put.item))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Keeps what it is given; gives some back, and fails at a value if told to.
    #[derive(Default)]
    struct Kept {
        values: Mutex<BTreeSet<u32>>,
        poison: Option<u32>,
        gives_back: bool,
    }

    #[async_trait]
    impl BatchWriter<u32> for Kept {
        type Error = String;

        async fn write(&self, mut batch: Vec<u32>) -> Result<Vec<u32>, String> {
            tokio::task::yield_now().await;
            if batch.iter().any(|value| Some(*value) == self.poison) {
                return Err("put error".to_owned());
            }
            let rest = batch.split_off(if self.gives_back {
                batch.len().div_ceil(2)
            } else {
                batch.len()
            });
            self.values.lock().unwrap().extend(batch);
            Ok(rest)
        }
    }

    fn values(writer: &Kept) -> Vec<u32> {
        writer.values.lock().unwrap().iter().copied().collect()
    }

    #[tokio::test]
    async fn dd_08_three_items_and_two_workers() {
        let writer = Kept::default();
        let items = (1..=3).map(Ok::<u32, String>);
        let filled = fill(items, 2, &writer).await.unwrap();
        assert_eq!(filled.items, 3);
        assert_eq!(values(&writer), [1, 2, 3]);
    }

    #[tokio::test]
    async fn dd_09_a_reader_error_after_three_items_is_returned() {
        let writer = Kept::default();
        let items = [Ok(1), Ok(2), Ok(3), Err("read error"), Ok(4)];
        let error = fill(items.into_iter(), 2, &writer).await.unwrap_err();
        assert_eq!(error, FillError::Source("read error"));
        assert_eq!(values(&writer), [1, 2, 3]);
    }

    #[tokio::test]
    async fn dd_10_a_put_error_is_returned_and_stops_the_work() {
        let writer = Kept {
            poison: Some(30),
            ..Kept::default()
        };
        let items = (0..10_000).map(Ok::<u32, String>);
        let error = fill(items, 2, &writer).await.unwrap_err();
        assert_eq!(error, FillError::Write("put error".to_owned()));
        assert!(values(&writer).len() < 200, "it went on writing");
        assert!(!values(&writer).contains(&30));
    }

    #[tokio::test]
    async fn what_is_given_back_is_written_again() {
        let writer = Kept {
            gives_back: true,
            ..Kept::default()
        };
        let items = (0..1000).map(Ok::<u32, String>);
        let filled = fill(items, 4, &writer).await.unwrap();
        assert_eq!(filled.items, 1000);
        assert!(filled.unprocessed > 0);
        assert_eq!(values(&writer).len(), 1000);
    }
}
