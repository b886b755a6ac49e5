//! The usual way to restore: lines to `serde_json`'s values, those to the SDK's, and those to `BatchWriteItem`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use bytes::{Buf as _, Bytes};
use flate2::read::GzDecoder;
use highwater_domain::failure::Failure;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::Compression;
use serde_json::Value;
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};

use super::Sums;
use super::typed_item::{TypedItemError, from_json};

/// The most writes of a batch.
const BATCH_WRITES: usize = 25;
/// As many as Highwater has.
const BATCHES_IN_FLIGHT: usize = 8;

/// A restore by types failed.
#[derive(Debug, Error)]
pub enum TypedRestoreError {
    /// The parts cannot be listed or read.
    #[error(transparent)]
    Store(#[from] Failure),
    /// A part is not there any more.
    #[error("{0} is gone")]
    Gone(String),
    /// A part cannot be decompressed.
    #[error("a part: {0}")]
    Part(#[from] std::io::Error),
    /// A line is no JSON.
    #[error("a line: {0}")]
    Line(#[from] serde_json::Error),
    /// A line holds no item.
    #[error(transparent)]
    Item(#[from] TypedItemError),
    /// A batch was refused, or a part of it.
    #[error("a batch: {0}")]
    Batch(Box<dyn std::error::Error + Send + Sync>),
    /// A task went down.
    #[error("a batch's task: {0}")]
    Task(#[from] JoinError),
}

/// Batches on their way, at most so many at once.
struct Writes {
    client: Client,
    table: String,
    in_flight: JoinSet<Result<(), TypedRestoreError>>,
}

/// Restores all parts below a prefix into a table that is there.
pub async fn restore(
    client: &Client,
    store: &Arc<dyn ObjectStore>,
    prefix: &str,
    table: &str,
) -> Result<Sums, TypedRestoreError> {
    let mut sums = Sums::default();
    let mut writes = Writes {
        client: client.clone(),
        table: table.to_owned(),
        in_flight: JoinSet::new(),
    };
    let mut batch = Vec::with_capacity(BATCH_WRITES);
    for key in keys(store, prefix).await? {
        let body = store.read(&key).await?;
        let body = body.ok_or_else(|| TypedRestoreError::Gone(key.clone()))?;
        sums.stored_bytes += body.len() as u64;
        let mut lines = lines(&key, body)?;
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            let mut record: Value = serde_json::from_str(&line)?;
            sums.items += 1;
            // Without `{"Item":`, `}` and the line's end: as the item was on the wire.
            sums.bytes += (line.trim_end().len() as u64).saturating_sub(9);
            line.clear();
            let item = from_json(record["Item"].take())?;
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| TypedRestoreError::Batch(error.into()))?;
            batch.push(WriteRequest::builder().put_request(put).build());
            if batch.len() == BATCH_WRITES {
                writes.start(std::mem::take(&mut batch)).await?;
            }
        }
    }
    if !batch.is_empty() {
        writes.start(batch).await?;
    }
    writes.finish().await?;
    Ok(sums)
}

/// The keys below a prefix.
async fn keys(store: &Arc<dyn ObjectStore>, prefix: &str) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(prefix, after.as_deref()).await?;
        keys.extend(page.objects.into_iter().map(|object| object.key));
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
    }
}

/// The lines of a part, by the end of its name.
fn lines(key: &str, body: Bytes) -> std::io::Result<Box<dyn BufRead + Send>> {
    let body = body.reader();
    let plain: Box<dyn Read + Send> = if key.ends_with(Compression::Zstd.suffix()) {
        Box::new(zstd::Decoder::with_buffer(body)?)
    } else {
        Box::new(GzDecoder::new(body))
    };
    Ok(Box::new(BufReader::with_capacity(64 << 10, plain)))
}

impl Writes {
    async fn start(&mut self, batch: Vec<WriteRequest>) -> Result<(), TypedRestoreError> {
        if self.in_flight.len() == BATCHES_IN_FLIGHT
            && let Some(ended) = self.in_flight.join_next().await
        {
            ended??;
        }
        let call = self
            .client
            .batch_write_item()
            .request_items(&self.table, batch);
        self.in_flight.spawn(async move {
            let answer = call.send().await;
            let answer = answer.map_err(|error| TypedRestoreError::Batch(error.into()))?;
            if answer.unprocessed_items().is_none_or(HashMap::is_empty) {
                return Ok(());
            }
            Err(TypedRestoreError::Batch("items came back".into()))
        });
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), TypedRestoreError> {
        while let Some(ended) = self.in_flight.join_next().await {
            ended??;
        }
        Ok(())
    }
}
