//! The port through which a table is kept at the latest record of each key.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::table_writer::WriteOp;

/// One write that must not undo a later one.
#[derive(Clone, Copy, Debug)]
pub struct FencedWrite<'a> {
    /// The table that is written.
    pub target: &'a str,
    /// The write.
    pub op: &'a WriteOp,
    /// The table of the fences; its partition key is `id`, a string.
    pub fence: &'a str,
    /// The row that stands for the written key.
    pub fence_id: &'a str,
    /// The write's order among those of its key, a text that sorts as the writes do.
    pub order: &'a str,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// It is done, and its fence with it.
    Applied,
    /// This write or a later one of its key was done before; nothing was changed.
    Stale,
}

/// Writes items behind fences.
///
/// # Laws
/// - The write and its fence are done together or not at all.
/// - Of two writes of one fence the one of the greater order stays, in whatever order and however often they come.
/// - A fence stays when its item is deleted.
///
/// # Idempotence
/// A failed call may or may not have been done: it can be repeated, and is [`Fenced::Stale`] if it was.
#[async_trait]
pub trait FencedWriter: Debug + Send + Sync {
    /// Writes unless the fence is at this order or above.
    async fn write(&self, write: &FencedWrite<'_>) -> Result<Fenced, Failure>;
}
