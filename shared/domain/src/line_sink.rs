//! The port to where a dump goes: a file, standard output, or an object store.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::failure::Failure;

/// Takes the lines of a dump, and shows them under their name only when they are whole.
///
/// # Laws
/// - Lines of one [`write`](Self::write) stay together; writes from several tasks at once are all kept, in any order.
/// - After a failed call every further `write`, `flush` and `commit` fails too: nothing is lost in silence.
/// - Before [`commit`](Self::commit) nobody can take what is there for a whole dump. What streams (standard
///   output) cannot promise that; its reader learns it from the exit code.
#[async_trait]
pub trait LineSink: Debug + Send + Sync {
    /// How a person names it: `stdout`, `file://…`, `s3://…`.
    fn url(&self) -> String;

    /// Takes whole lines.
    async fn write(&self, lines: Bytes) -> Result<(), Failure>;

    /// Makes everything taken so far durable. No `write` comes after it.
    async fn flush(&self) -> Result<(), Failure>;

    /// Shows the dump as whole. Comes after a successful `flush`.
    async fn commit(&self) -> Result<(), Failure>;

    /// Gives the dump up, and says so where it can be seen. Comes instead of `commit`, or after one that failed.
    async fn abandon(&self) -> Result<(), Failure>;
}
