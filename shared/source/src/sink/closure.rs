//! Functions as sinks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;

use super::{Applied, Sink, SinkError};
use crate::record::{Change, Record};

/// A function that does not wait, as a sink. What it does counts as durable when it returns.
///
/// ```
/// use highwater_source::{Change, FnSink, Record, SinkError};
///
/// let sink = FnSink::new(|record: &Record<Change<String>>| {
///     println!("{} is now {:?}", record.key(), record.value.current());
///     Ok::<_, SinkError>(highwater_source::Applied::Done)
/// });
/// ```
pub struct FnSink<F>(F);

impl<F> FnSink<F> {
    /// A sink that calls this function.
    pub fn new<T>(apply: F) -> Self
    where
        F: Fn(&Record<Change<T>>) -> Result<Applied, SinkError> + Send + Sync,
    {
        Self(apply)
    }
}

impl<F> fmt::Debug for FnSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnSink")
    }
}

#[async_trait]
impl<T, F> Sink<T> for FnSink<F>
where
    T: Send + Sync,
    F: Fn(&Record<Change<T>>) -> Result<Applied, SinkError> + Send + Sync,
{
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError> {
        (self.0)(record)
    }
}

/// What an asynchronous function of a record returns.
pub type SinkFuture<'a> = Pin<Box<dyn Future<Output = Result<Applied, SinkError>> + Send + 'a>>;

/// A function that waits, as a sink: `AsyncFnSink::new(|record| Box::pin(async move { … }))`.
pub struct AsyncFnSink<F>(F);

impl<F> AsyncFnSink<F> {
    /// A sink that calls this function.
    pub fn new<T>(apply: F) -> Self
    where
        F: for<'a> Fn(&'a Record<Change<T>>) -> SinkFuture<'a> + Send + Sync,
    {
        Self(apply)
    }
}

impl<F> fmt::Debug for AsyncFnSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsyncFnSink")
    }
}

#[async_trait]
impl<T, F> Sink<T> for AsyncFnSink<F>
where
    T: Send + Sync,
    F: for<'a> Fn(&'a Record<Change<T>>) -> SinkFuture<'a> + Send + Sync,
{
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError> {
        (self.0)(record).await
    }
}
