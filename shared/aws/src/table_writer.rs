//! Writes items that stay the bytes they are.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ConsumedCapacity;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::table_writer::{
    BatchAnswer, MAX_BATCH_BYTES, MAX_BATCH_OPS, PutAnswer, TableWriter, WriteOp,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer_capture::{Capture, Slot};
use crate::batch_write::{self, Unprocessed, json_text};
use crate::failure;
use crate::request_body::RequestBody;

const BATCH: &str = "BatchWriteItem";
const PUT: &str = "PutItem";

/// Writes tables by `BatchWriteItem` and `PutItem`.
///
/// Items go out as they are given, and those that come back undone are slices of the answer: no attribute
/// value is built either way. It retries as often as its client does: give it one without retries, since the
/// callers pace, count and retry by themselves.
///
/// Tables are named by name or ARN. Needs `dynamodb:BatchWriteItem` and `dynamodb:PutItem`.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>
#[derive(Clone, Debug)]
pub struct DynamoWriter {
    client: Client,
}

impl DynamoWriter {
    /// A writer over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl TableWriter for DynamoWriter {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        if ops.is_empty() {
            return Ok(BatchAnswer::default());
        }
        let body = batch_body(table, ops)?;
        let slot = Slot::<Unprocessed>::default();
        let output = self
            .client
            .batch_write_item()
            // The endpoint may depend on the account in the table's ARN.
            .request_items(table, Vec::new())
            .customize()
            .interceptor(RequestBody::new(body))
            .interceptor(Capture::into(&slot))
            .send()
            .await
            .map_err(|error| failure::from_sdk(BATCH, table, error))?;
        let undone = slot.take().ok_or_else(|| {
            let message = "the answer does not say what became of the writes";
            Failure::new(FailureKind::Corrupt, BATCH, table, message)
        })?;
        Ok(BatchAnswer {
            unprocessed: undone_of(table, ops, undone)?,
            consumed_capacity: output.consumed_capacity().iter().map(units).sum(),
        })
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let body = put_body(table, partition_key, item, want_existing)?;
        let existing = ExistingItem::default();
        let result = self
            .client
            .put_item()
            .table_name(table)
            .customize()
            .interceptor(RequestBody::new(body))
            .interceptor(existing.clone())
            .send()
            .await;
        match result {
            Ok(output) => Ok(PutAnswer::Written {
                consumed_capacity: output.consumed_capacity().map_or(0.0, units),
            }),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                Ok(PutAnswer::Exists {
                    item: existing.take().filter(|_| want_existing),
                })
            }
            Err(error) => Err(failure::from_sdk(PUT, table, error)),
        }
    }
}

fn units(capacity: &ConsumedCapacity) -> f64 {
    capacity.capacity_units().unwrap_or(0.0)
}

/// The batch's request, or why the service would not take it.
fn batch_body(table: &str, ops: &[WriteOp]) -> Result<Vec<u8>, Failure> {
    let invalid = |message| Failure::new(FailureKind::Invalid, BATCH, table, message);
    if ops.len() > MAX_BATCH_OPS {
        let count = ops.len();
        return Err(invalid(format!(
            "{count} writes in one batch; {MAX_BATCH_OPS} are allowed"
        )));
    }
    let broken = |op: &WriteOp| !batch_write::is_one_object(op.body());
    if let Some(index) = ops.iter().position(broken) {
        return Err(invalid(format!(
            "write {index} of the batch is not one JSON object"
        )));
    }
    let body = batch_write::request(table, ops);
    if body.len() > MAX_BATCH_BYTES {
        let bytes = body.len();
        return Err(invalid(format!(
            "a batch of {bytes} bytes; {MAX_BATCH_BYTES} are allowed"
        )));
    }
    Ok(body)
}

/// The undone writes, if they can be some of those that were sent.
///
/// Anything else would put into the table what nobody asked for. The service may spell an item in its own
/// way, so they are known by table and number only.
fn undone_of(table: &str, ops: &[WriteOp], undone: Unprocessed) -> Result<Vec<WriteOp>, Failure> {
    let corrupt = |message| Failure::new(FailureKind::Corrupt, BATCH, table, message);
    let name = |table: &str| table.rsplit('/').next().unwrap_or(table).to_owned();
    if let Some(other) = undone.keys().find(|other| name(other) != name(table)) {
        return Err(corrupt(format!(
            "the answer has unprocessed writes of another table, {other:?}"
        )));
    }
    let undone: Vec<WriteOp> = undone.into_values().flatten().collect();
    let puts = |ops: &[WriteOp]| {
        let is_put = |op: &&WriteOp| matches!(op, WriteOp::Put(_));
        ops.iter().filter(is_put).count()
    };
    let (sent_puts, undone_puts) = (puts(ops), puts(&undone));
    let (sent_deletes, undone_deletes) = (ops.len() - sent_puts, undone.len() - undone_puts);
    if undone_puts > sent_puts || undone_deletes > sent_deletes {
        return Err(corrupt(format!(
            "of {sent_puts} puts and {sent_deletes} deletes the answer has {undone_puts} and {undone_deletes} unprocessed"
        )));
    }
    Ok(undone)
}

/// The conditional put's request.
fn put_body(
    table: &str,
    partition_key: &str,
    item: &Bytes,
    want_existing: bool,
) -> Result<Vec<u8>, Failure> {
    if !batch_write::is_one_object(item) {
        let message = "the item is not one JSON object";
        return Err(Failure::new(FailureKind::Invalid, PUT, table, message));
    }
    let all_old = if want_existing {
        r#","ReturnValuesOnConditionCheckFailure":"ALL_OLD""#
    } else {
        ""
    };
    let head = format!(
        r##"{{"TableName":{},"ConditionExpression":"attribute_not_exists(#k)","ExpressionAttributeNames":{{"#k":{}}},"ReturnConsumedCapacity":"TOTAL"{all_old},"Item":"##,
        json_text(table),
        json_text(partition_key),
    );
    let mut body = Vec::with_capacity(head.len() + item.len() + 1);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(item);
    body.push(b'}');
    Ok(body)
}

/// Keeps the item that a refused put found in its place, as the service sent it.
#[derive(Clone, Debug, Default)]
struct ExistingItem(Arc<Mutex<Option<Bytes>>>);

impl ExistingItem {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow, rename = "Item")]
    item: Option<&'a RawValue>,
}

#[dyn_dispatch_hint]
impl Intercept for ExistingItem {
    fn name(&self) -> &'static str {
        "ExistingItem"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let item = response
            .body()
            .bytes()
            .filter(|_| !response.status().is_success())
            .and_then(|body| serde_json::from_slice::<Refusal<'_>>(body).ok())
            .and_then(|refusal| refusal.item)
            .map(|item| Bytes::copy_from_slice(item.get().as_bytes()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = item;
        Ok(())
    }
}
