//! The port through which items get into a table.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::failure::Failure;

/// One write. The bytes are DynamoDB JSON and are sent as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteOp {
    /// Puts this item, `{"id":{"S":"a"},…}`.
    Put(Bytes),
    /// Deletes the item of this key, `{"id":{"S":"a"}}`.
    Delete(Bytes),
}

impl WriteOp {
    /// The same in bytes of its own: what is read from a file is a slice of much of it.
    #[must_use]
    pub fn detached(self) -> Self {
        let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
        match self {
            Self::Put(item) => Self::Put(copy(item)),
            Self::Delete(key) => Self::Delete(copy(key)),
        }
    }

    /// The item's or the key's bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        match self {
            Self::Put(bytes) | Self::Delete(bytes) => bytes,
        }
    }
}

/// The most writes in one `BatchWriteItem`:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>.
pub const MAX_BATCH_OPS: usize = 25;

/// The most bytes in one `BatchWriteItem` request; items and their wrapping must stay below it.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchAnswer {
    /// Writes that were not done and must be sent again: `UnprocessedItems`.
    pub unprocessed: Vec<WriteOp>,
    /// Write capacity units that the rest cost; 0.0 if the service did not say.
    pub consumed_capacity: f64,
}

/// What became of a conditional put.
#[derive(Clone, Debug, PartialEq)]
pub enum PutAnswer {
    /// The item is in.
    Written {
        /// Write capacity units; 0.0 if the service did not say.
        consumed_capacity: f64,
    },
    /// The table has the key. The attempt is charged all the same.
    Exists {
        /// The item that is there (`ALL_OLD`), if it was asked for and the service told.
        item: Option<Bytes>,
    },
}

/// Writes items.
///
/// # Laws
/// - What a batch answers as unprocessed was not written; everything else was.
/// - A failed call may or may not have been done: it can be repeated, because every write names its whole item.
/// - A request that the service finds wrong fails as [`Invalid`](crate::failure::FailureKind::Invalid), and
///   nothing of it was done: one bad item condemns its batch.
///
/// # Idempotence
/// It does not retry: pacing and retries are the caller's.
#[async_trait]
pub trait TableWriter: Debug + Send + Sync {
    /// `BatchWriteItem`: at most [`MAX_BATCH_OPS`] writes of different keys.
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure>;

    /// `PutItem` if no item has this key: `attribute_not_exists` of the partition key's attribute.
    ///
    /// `want_existing` asks for the item that is there instead.
    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure>;
}
