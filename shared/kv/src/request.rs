//! One request to DynamoDB: hooks around it, its attempts counted, its failure named.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_sdk_dynamodb::operation::create_table::CreateTableOutput;
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemError, DeleteItemOutput};
use aws_sdk_dynamodb::operation::describe_table::DescribeTableOutput;
use aws_sdk_dynamodb::operation::describe_time_to_live::DescribeTimeToLiveOutput;
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsOutput;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::operation::update_time_to_live::UpdateTimeToLiveOutput;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;

use crate::aws_error::{AwsError, classify};
use crate::error::Error;
use crate::hook::{Call, Outcome};
use crate::record::Item;
use crate::store::Store;

/// Counts how often the SDK sends one request: only a first and only answer is beyond doubt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts(Arc<AtomicU32>);

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "highwater-kv attempts"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _runtime_components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A request about to be sent.
pub(crate) struct Request<'a> {
    store: &'a Store,
    call: Call<'a>,
    attempts: Attempts,
}

impl<'a> Request<'a> {
    pub(crate) fn new(store: &'a Store, call: Call<'a>) -> Self {
        Self {
            store,
            call,
            attempts: Attempts::default(),
        }
    }

    /// The interceptor to send the request with.
    pub(crate) fn attempts(&self) -> Attempts {
        self.attempts.clone()
    }

    /// Whether the SDK sent the request more than once, so that an earlier try may have done the work.
    pub(crate) fn was_retried(&self) -> bool {
        self.attempts.0.load(Ordering::Relaxed) > 1
    }

    /// Awaits the answer between the hooks.
    pub(crate) async fn send<T, E>(
        &self,
        answer: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>>
    where
        T: Metered,
        E: StdError + ProvideErrorMetadata + 'static,
    {
        for hook in self.store.hooks() {
            hook.before(&self.call);
        }
        let started = Instant::now();
        // On the heap: the SDK's futures are several kilobytes, and callers nest them.
        let result = Box::pin(answer).await;
        let outcome = Outcome {
            failure: result.as_ref().err().map(classify),
            latency: started.elapsed(),
            capacity_units: result.as_ref().ok().and_then(Metered::capacity_units),
            attempts: self.attempts.0.load(Ordering::Relaxed),
        };
        for hook in self.store.hooks() {
            hook.after(&self.call, &outcome);
        }
        result
    }

    /// The failure, named.
    pub(crate) fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        AwsError::new(self.call.request, self.call.table, error).into()
    }

    /// The item that made the condition fail, as it was at that moment, or `None` if there was none.
    /// Any other failure is passed on.
    pub(crate) fn refused<E>(&self, error: SdkError<E>) -> Result<Option<Item>, Error>
    where
        E: Conditional + StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        match error.as_service_error().and_then(Conditional::refusal) {
            Some(refusal) => Ok(refusal.item().cloned()),
            None => Err(self.failed(error)),
        }
    }

    /// An answer without something that DynamoDB always sends.
    pub(crate) fn incomplete(&self, missing: &str) -> Error {
        AwsError::incomplete(self.call.request, self.call.table, missing).into()
    }

    /// A batch of which a part was never taken.
    pub(crate) fn unprocessed(&self, count: usize) -> Error {
        AwsError::unprocessed(self.call.request, self.call.table, count).into()
    }
}

/// An answer that says what it cost, or `None` where DynamoDB charges nothing.
pub(crate) trait Metered {
    fn capacity_units(&self) -> Option<f64>;
}

macro_rules! metered {
    (one: $($one:ty),*; many: $($many:ty),*; free: $($free:ty),*) => {
        $(impl Metered for $one {
            fn capacity_units(&self) -> Option<f64> {
                self.consumed_capacity().and_then(|capacity| capacity.capacity_units())
            }
        })*
        $(impl Metered for $many {
            fn capacity_units(&self) -> Option<f64> {
                let units = self.consumed_capacity().iter();
                units.map(|capacity| capacity.capacity_units()).sum()
            }
        })*
        $(impl Metered for $free {
            fn capacity_units(&self) -> Option<f64> {
                None
            }
        })*
    };
}
metered!(
    one: GetItemOutput, PutItemOutput, UpdateItemOutput, DeleteItemOutput, QueryOutput;
    many: BatchWriteItemOutput, TransactWriteItemsOutput;
    free: CreateTableOutput, DescribeTableOutput, DescribeTimeToLiveOutput, UpdateTimeToLiveOutput
);

/// An error that may be a condition that did not hold.
pub(crate) trait Conditional {
    fn refusal(&self) -> Option<&ConditionalCheckFailedException>;
}

macro_rules! conditional {
    ($($error:ty),*) => {
        $(impl Conditional for $error {
            fn refusal(&self) -> Option<&ConditionalCheckFailedException> {
                match self {
                    Self::ConditionalCheckFailedException(refusal) => Some(refusal),
                    _ => None,
                }
            }
        })*
    };
}
conditional!(PutItemError, UpdateItemError, DeleteItemError);
