//! Where records go.

mod closure;
mod deduplicated;
mod json_lines;
mod table;

use std::error::Error;

use async_trait::async_trait;
use thiserror::Error;

use crate::record::{Change, Record};

pub use closure::{AsyncFnSink, FnSink, SinkFuture};
pub use deduplicated::{Claims, Deduplicated};
pub use json_lines::{JsonLines, JsonLinesDeadLetters};
pub use table::TableSink;

/// Takes records, of the snapshot and of the stream alike.
///
/// Records of one key come in order, one at a time; records of different keys may come at once. A record that was applied and
/// flushed comes again only after a crash or a lost lease, and then with the same [`order`](Record::order) and
/// [`event_id`](Record::event_id). So:
///
/// - a sink that puts a key's latest value is right if it never lets an older `order` overwrite a newer one, as [`TableSink`] does;
/// - a sink that adds something up is wrong by what came again, unless it is [`Deduplicated`], or adds up per key.
#[async_trait]
pub trait Sink<T>: Send + Sync {
    /// Applies one record, or refuses it. It may be kept in memory until [`flush`](Self::flush).
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError>;

    /// Makes everything that was applied durable. Records count as done only after this.
    async fn flush(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What a sink did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The record had its effect.
    Done,
    /// It, or a later record of its key, had had its effect before.
    Duplicate,
}

/// Why a sink did not do it.
#[derive(Debug, Error)]
pub enum SinkError {
    /// It may succeed later: it is tried again.
    #[error(transparent)]
    Passing(Box<dyn Error + Send + Sync>),
    /// It will never succeed: the record goes to the dead letters, or ends everything.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
}

impl SinkError {
    /// May succeed later.
    pub fn passing(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Passing(error.into())
    }

    /// Will never succeed.
    pub fn refused(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused(error.into())
    }
}

#[async_trait]
impl<T: Send + Sync, S: Sink<T> + ?Sized> Sink<T> for std::sync::Arc<S> {
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError> {
        (**self).apply(record).await
    }

    async fn flush(&self) -> Result<(), SinkError> {
        (**self).flush().await
    }
}
