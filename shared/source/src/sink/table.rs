//! Another DynamoDB table as a sink: exactly the latest item of each key, whatever comes again, late or out of order.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_aws::Clients;
use highwater_domain::fenced_writer::{
    Fence, FencedTable, FencedWrite, FencedWriter, Transacted, Verdict,
};
use highwater_domain::table_writer::WriteOp;

use super::{Applied, Sink, SinkError};
use crate::record::{Change, Record};

/// What a record becomes in the target: an item or a key, DynamoDB JSON. `None`: nothing, the record is passed over.
type Mapping<T> = Arc<dyn Fn(&Record<Change<T>>) -> Option<WriteOp> + Send + Sync>;

/// Puts each item into a target table and deletes what is deleted, each write in one transaction with a row of a fence table that
/// keeps the order of the last write of the key.
///
/// A record whose order is not above the fence's changes nothing, so that the effect is exactly once, and an old record never
/// brings back what was deleted: the fence row of a deleted key stays. The fence table has the partition key `id` of type S, one
/// row per key that was ever written, and belongs to one source and one target. Nobody else may write the target.
pub struct TableSink<T> {
    writer: Arc<dyn FencedWriter>,
    target: String,
    fence: String,
    mapping: Option<Mapping<T>>,
}

impl<T> fmt::Debug for TableSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableSink")
            .field("target", &self.target)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

impl<T> TableSink<T> {
    /// A copy of the source in the table `target`, whose key is the source's, fenced by the table `fence`.
    #[must_use]
    pub fn new(clients: &Clients, target: impl Into<String>, fence: impl Into<String>) -> Self {
        Self::over(Arc::new(clients.fenced_writer()), target, fence)
    }

    /// The same over any writer.
    pub fn over(
        writer: Arc<dyn FencedWriter>,
        target: impl Into<String>,
        fence: impl Into<String>,
    ) -> Self {
        Self {
            writer,
            target: target.into(),
            fence: fence.into(),
            mapping: None,
        }
    }

    /// Writes what this function makes of a record instead of the item itself. One source key must always become the same target
    /// key, because the fence is the source key's.
    #[must_use]
    pub fn mapping(
        mut self,
        mapping: impl Fn(&Record<Change<T>>) -> Option<WriteOp> + Send + Sync + 'static,
    ) -> Self {
        self.mapping = Some(Arc::new(mapping));
        self
    }
}

#[async_trait]
impl<T: Send + Sync> Sink<T> for TableSink<T> {
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError> {
        let print = record.key_print().map_err(SinkError::refused)?;
        let op = match &self.mapping {
            Some(mapping) => mapping(record),
            None => Some(match record.new_item() {
                Some(item) => WriteOp::Put(Bytes::clone(item)),
                None => WriteOp::Delete(record.key_only()),
            }),
        };
        let Some(op) = op else {
            return Ok(Applied::Done);
        };
        let table = FencedTable {
            target: &self.target,
            fence: Fence::Table(&self.fence),
        };
        let write = FencedWrite {
            op: &op,
            key: &record.key_only(),
            fence_id: &hex::encode(print.0),
            order: &record.order().to_string(),
        };
        match self.writer.transact(table, &[write]).await {
            Ok(Transacted::Done) => Ok(Applied::Done),
            Ok(Transacted::Canceled(verdicts)) => judged(verdicts),
            Err(failure) if failure.kind.is_retryable() => Err(SinkError::passing(failure)),
            Err(failure) => Err(SinkError::refused(failure)),
        }
    }
}

/// What a cancelled transaction of one write says of it.
fn judged(verdicts: Vec<Verdict>) -> Result<Applied, SinkError> {
    match verdicts.into_iter().next() {
        Some(Verdict::Stale) => Ok(Applied::Duplicate),
        Some(Verdict::Refused(reason)) => Err(SinkError::refused(reason)),
        Some(Verdict::Passing(reason)) => Err(SinkError::passing(reason)),
        Some(Verdict::Clear) | None => Err(SinkError::passing("the transaction was cancelled")),
    }
}
