//! Writes items that stay the bytes they are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::result::SdkError;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::table_writer::{
    BatchAnswer, MAX_BATCH_BYTES, MAX_BATCH_OPS, PutAnswer, TableWriter, WriteOp,
};

use crate::batch_write::{self, BatchDone, PutDone, existing_item, json_text};
use crate::failure;
use crate::standing_call::{OwnBytes, StandingCall};

const BATCH: &str = "BatchWriteItem";
const PUT: &str = "PutItem";
/// The code of a refusal because the item is there.
const CONDITION_FAILED: &str = "ConditionalCheckFailedException";

/// Writes tables by `BatchWriteItem` and `PutItem`.
///
/// Items go out as they are given, and those that come back undone are slices of the answer: no attribute
/// value is built either way. It retries as often as its client does: give it one without retries, since the
/// callers pace, count and retry by themselves. Only its first call on a table is all the SDK's, and those after a
/// failure: the others are made after its pattern.
///
/// Tables are named by name or ARN. Needs `dynamodb:BatchWriteItem` and `dynamodb:PutItem`.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>
#[derive(Clone, Debug)]
pub struct DynamoWriter {
    client: Client,
    batches: StandingCall,
    puts: StandingCall,
    /// For requests.
    buffers: ReusedBuffers,
}

impl DynamoWriter {
    /// A writer over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            batches: StandingCall::of(client.config().retry_config()),
            puts: StandingCall::of(client.config().retry_config()),
            client,
            buffers: ReusedBuffers::default(),
        }
    }
}

#[async_trait]
impl TableWriter for DynamoWriter {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        if ops.is_empty() {
            return Ok(BatchAnswer::default());
        }
        let body = batch_body(table, ops, &self.buffers)?;
        // The answers are short.
        let own = ReusedBuffers::default();
        let by_sdk = |bytes: OwnBytes<BatchDone>| {
            let call = self.client.batch_write_item();
            // The endpoint may depend on the account in the table's ARN.
            let call = call.request_items(table, Vec::new());
            call.customize().interceptor(bytes).send()
        };
        let answer = self.batches.call(table, body, &own, by_sdk).await;
        let done = answer.map_err(|error| failure::from_sdk(BATCH, table, error))?;
        Ok(BatchAnswer {
            unprocessed: undone_of(table, ops, done.unprocessed)?,
            consumed_capacity: done.consumed_capacity,
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
        let own = ReusedBuffers::default();
        let by_sdk = |bytes: OwnBytes<PutDone>| {
            let call = self.client.put_item().table_name(table);
            call.customize().interceptor(bytes).send()
        };
        match self.puts.call(table, body.into(), &own, by_sdk).await {
            Ok(PutDone(consumed_capacity)) => Ok(PutAnswer::Written { consumed_capacity }),
            Err(SdkError::ServiceError(refused))
                if refused.err().code() == Some(CONDITION_FAILED) =>
            {
                let said = refused.raw().body().bytes().filter(|_| want_existing);
                Ok(PutAnswer::Exists {
                    item: said.and_then(existing_item),
                })
            }
            Err(error) => Err(failure::from_sdk(PUT, table, error)),
        }
    }
}

/// The batch's request, or why the service would not take it.
fn batch_body(table: &str, ops: &[WriteOp], buffers: &ReusedBuffers) -> Result<Bytes, Failure> {
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
    let body = batch_write::request(table, ops, buffers);
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
fn undone_of(
    table: &str,
    ops: &[WriteOp],
    undone: BTreeMap<String, Vec<WriteOp>>,
) -> Result<Vec<WriteOp>, Failure> {
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
