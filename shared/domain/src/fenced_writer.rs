//! The port through which a table is kept at the latest record of each key.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::table_writer::WriteOp;

/// The most writes of one transaction: each goes with its fence, and DynamoDB takes 100 actions.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
pub const MAX_FENCED_WRITES: usize = 50;

/// The most bytes of the items of one transaction. DynamoDB takes 4 MB, the fences' own included.
pub const MAX_FENCED_BYTES: usize = 3 << 20;

/// The most fences of one [`FencedWriter::orders`].
pub const MAX_ORDERS: usize = 100;

/// A table that is written, and what keeps the order of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencedTable<'a> {
    /// The table.
    pub target: &'a str,
    /// The fences.
    pub fence: Fence<'a>,
}

/// Where the order of the last write of a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence<'a> {
    /// In a row of a table beside the target, with the partition key `id`, a string. The target's items stay as they are given.
    Table(&'a str),
    /// In an attribute of the target's items. What is deleted stays as its key, this attribute, and [`TOMBSTONE`].
    Attribute(&'a str),
}

/// The attribute, with the value `true`, of an item that stands for a deleted one: see [`Fence::Attribute`].
pub const TOMBSTONE: &str = "highwater_deleted";

/// One write that must not undo a later one.
#[derive(Clone, Copy, Debug)]
pub struct FencedWrite<'a> {
    /// The write.
    pub op: &'a WriteOp,
    /// The key as DynamoDB JSON, `{"id":{"S":"a"}}`.
    pub key: &'a [u8],
    /// The row that stands for the written key, in a table of fences.
    pub fence_id: &'a str,
    /// The write's order among those of its key, a text that sorts as the writes do.
    pub order: &'a str,
}

/// A write that puts right what somebody else has done to an item: it is of no later change, and moves no fence.
#[derive(Clone, Copy, Debug)]
pub struct Repair<'a> {
    /// The write.
    pub op: &'a WriteOp,
    /// The key as DynamoDB JSON, `{"id":{"S":"a"}}`.
    pub key: &'a [u8],
    /// The row that stands for the written key, in a table of fences.
    pub fence_id: &'a str,
    /// Where the fence must stand; `None` if there must be none.
    pub expected: Option<&'a str>,
}

/// What a repair came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// The item is as it was given, and its fence is where it was.
    Done,
    /// Nothing was done: the fence is elsewhere.
    Moved,
    /// Nothing was done, because of something in passing: a transaction that was at work there, or a throttle.
    Passing(String),
    /// The table does not take this item, now or later.
    Refused(String),
}

/// What a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transacted {
    /// Every write is done, and its fence with it.
    Done,
    /// Nothing was done; what was found at each write, in their order.
    Canceled(Vec<Verdict>),
}

/// What a cancelled transaction found at one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is in its way.
    Clear,
    /// This write or a later one of its key was done before.
    Stale,
    /// Something in passing: a transaction that was at work there, or a throttle.
    Passing(String),
    /// The table does not take this item, now or later.
    Refused(String),
}

/// Writes items behind fences.
///
/// # Laws
/// - The writes of one call and their fences are done together or not at all.
/// - Of two writes of one key the one of the greater order stays, in whatever order and however often they come.
/// - A fence stays when its item is deleted.
/// - A repair is done only at the order that it expects, and leaves it as it is.
///
/// # Idempotence
/// A failed call may or may not have been done: it can be repeated, and finds its writes [`Verdict::Stale`] if it was.
#[async_trait]
pub trait FencedWriter: Debug + Send + Sync {
    /// Writes, unless a fence is at its write's order or above: 1 to [`MAX_FENCED_WRITES`] writes of different keys.
    ///
    /// # Errors
    /// [`Invalid`](crate::failure::FailureKind::Invalid) where the request is refused as a whole: one of the writes is to
    /// blame, or the table.
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure>;

    /// The orders at which the fences of these writes stand, one for each; `None` where there is none. At most [`MAX_ORDERS`], of
    /// different keys. The reads are strongly consistent.
    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure>;

    /// Writes an item under its fence as it stands, if that is where it is expected.
    async fn repair(&self, table: FencedTable<'_>, repair: Repair<'_>)
    -> Result<Repaired, Failure>;
}
