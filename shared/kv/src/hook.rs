//! Hooks: told of every request before it leaves and after its answer, for logs, metrics and tests.

use std::fmt;
use std::time::Duration;

use crate::error::FailureClass;

/// Is told of every request that a [`Store`](crate::Store) sends.
///
/// An operation may send more than one request, for example one per page. `after` is not called for a
/// request whose future is dropped before the answer.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use highwater_kv::{Call, Hook, Outcome};
///
/// /// Adds up the latency of all requests, in microseconds.
/// #[derive(Default)]
/// struct Latency(AtomicU64);
///
/// impl Hook for Latency {
///     fn after(&self, _call: &Call<'_>, outcome: &Outcome) {
///         let micros = u64::try_from(outcome.latency.as_micros()).unwrap_or(u64::MAX);
///         self.0.fetch_add(micros, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait Hook: Send + Sync {
    /// A request is about to be sent.
    fn before(&self, call: &Call<'_>) {
        let _ = call;
    }

    /// A request was answered, or failed for good.
    fn after(&self, call: &Call<'_>, outcome: &Outcome) {
        let _ = (call, outcome);
    }
}

/// One request to DynamoDB, on whose behalf and about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The operation of this crate.
    pub operation: Operation,
    /// The request in DynamoDB's words: `UpdateItem`.
    pub request: &'static str,
    /// The table.
    pub table: &'a str,
    /// The partition, if the request is about one.
    pub partition: Option<&'a str>,
    /// The record's name, if the request is about one.
    pub name: Option<&'a str>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// `None`: it succeeded. A condition that did not hold is a [`FailureClass::Conflict`].
    pub failure: Option<FailureClass>,
    /// From the first byte sent to the end of the answer, retries and their pauses included.
    pub latency: Duration,
    /// Capacity units consumed, as DynamoDB reports them with an answer that is no error.
    pub capacity_units: Option<f64>,
    /// How often the request was sent.
    pub attempts: u32,
}

/// The operations of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `Partition::put`
    Put,
    /// `Partition::get` and `require`
    Get,
    /// `Partition::exists`
    Exists,
    /// `Partition::create`
    Create,
    /// `Partition::update`
    Update,
    /// `Partition::delete`
    Delete,
    /// `Partition::delete_if`
    DeleteIf,
    /// `Partition::delete_prefix`
    DeletePrefix,
    /// `Partition::list`, `records`, and the same by an index
    List,
    /// `Table::transact`
    Transact,
    /// `Table::create`
    CreateTable,
    /// `Table::state`
    TableState,
}

impl Operation {
    /// The name, for logs and metric dimensions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "Put",
            Self::Get => "Get",
            Self::Exists => "Exists",
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::DeleteIf => "DeleteIf",
            Self::DeletePrefix => "DeletePrefix",
            Self::List => "List",
            Self::Transact => "Transact",
            Self::CreateTable => "CreateTable",
            Self::TableState => "TableState",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
