//! Writing to a table in memory, by DynamoDB's rules.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::item_size::item_size;
use highwater_domain::key::Key;
use highwater_domain::table_writer::{
    BatchAnswer, MAX_BATCH_BYTES, MAX_BATCH_OPS, PutAnswer, TableWriter, WriteOp,
};

use crate::fake_table::FakeTable;
use crate::item_rules::{key_of_item, whole_key};

impl FakeTable {
    /// How many of a hundred writes of a batch are handed back unprocessed. A batch of which nothing would
    /// be processed is throttled as a whole, as DynamoDB does.
    #[must_use]
    pub fn with_unprocessed(mut self, percent: u64) -> Self {
        assert!(percent < 100, "something gets through");
        self.unprocessed_percent = percent;
        self
    }

    /// The key that a write is about, if the service would take it.
    pub(crate) fn key_of_op(&self, op: &WriteOp) -> Result<Key, String> {
        let key = match op {
            WriteOp::Put(item) => {
                self.check_index_key(item)?;
                key_of_item(self.schema(), item)?
            }
            WriteOp::Delete(key) => whole_key(self.schema(), key)?,
        };
        Ok(self.place(&key).1)
    }

    /// The writes' keys, or the service's refusal of the whole batch.
    fn check_batch(&self, ops: &[WriteOp]) -> Result<Vec<Key>, String> {
        let bytes: usize = ops.iter().map(|op| op.body().len()).sum();
        if ops.len() > MAX_BATCH_OPS || bytes > MAX_BATCH_BYTES {
            return Err(format!("{} writes of {bytes} bytes", ops.len()));
        }
        let keys: Vec<Key> = ops
            .iter()
            .map(|op| self.key_of_op(op))
            .collect::<Result<_, _>>()?;
        if keys.iter().collect::<BTreeSet<_>>().len() < keys.len() {
            return Err("Provided list of item keys contains duplicates".to_owned());
        }
        Ok(keys)
    }

    /// Does one write; gives what it costs.
    fn apply(&self, op: &WriteOp, key: &Key) -> f64 {
        self.count_write(key);
        let old = self.get(key).map_or(0, |item| write_units(&item));
        let new = match op {
            WriteOp::Put(item) => {
                self.put(item);
                write_units(item)
            }
            WriteOp::Delete(_) => {
                self.delete(key);
                1
            }
        };
        old.max(new) as f64
    }
}

/// A unit for each begun kilobyte.
fn write_units(item: &[u8]) -> u64 {
    item_size(item).map_or(1, |bytes| bytes.div_ceil(1024).max(1))
}

#[async_trait]
impl TableWriter for FakeTable {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        const CALL: &str = "BatchWriteItem";
        let mut answer = BatchAnswer::default();
        if ops.is_empty() {
            return Ok(answer);
        }
        self.know(CALL, table)?;
        let keys = self.check_batch(ops).map_err(|reason| {
            let message = format!("ValidationException: {reason}");
            Failure::new(FailureKind::Invalid, CALL, table, message)
        })?;
        for (op, key) in ops.iter().zip(&keys) {
            if self.coin(self.unprocessed_percent) {
                answer.unprocessed.push(op.clone());
            } else {
                answer.consumed_capacity += self.apply(op, key);
            }
        }
        if answer.unprocessed.len() == ops.len() {
            let message = "ProvisionedThroughputExceededException";
            return Err(Failure::new(FailureKind::Throttled, CALL, table, message));
        }
        Ok(answer)
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        const CALL: &str = "PutItem";
        let invalid = |message| Failure::new(FailureKind::Invalid, CALL, table, message);
        self.know(CALL, table)?;
        if partition_key != self.schema().partition.name {
            // Any attribute would do for the service; but then the condition asks something else.
            return Err(invalid(format!(
                "{partition_key:?} is not the partition key's attribute"
            )));
        }
        let op = WriteOp::Put(item.clone());
        let key = self.key_of_op(&op).map_err(invalid)?;
        if let Some(there) = self.get(&key) {
            let item = want_existing.then_some(there);
            return Ok(PutAnswer::Exists { item });
        }
        Ok(PutAnswer::Written {
            consumed_capacity: self.apply(&op, &key),
        })
    }
}
