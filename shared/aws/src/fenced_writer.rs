//! Writes behind fences: one transaction of the item and the row that keeps its order.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fenced_writer::{Fenced, FencedWrite, FencedWriter};
use highwater_domain::table_writer::WriteOp;
use serde_json::json;

use crate::batch_write::{is_one_object, json_text};
use crate::failure;
use crate::request_body::RequestBody;

const TRANSACT: &str = "TransactWriteItems";

/// Keeps tables at the latest record of each key, by `TransactWriteItems`.
///
/// Items go out as they are given. It retries as often as its client does. Needs `dynamodb:PutItem` and `dynamodb:DeleteItem`
/// on the target, and `dynamodb:UpdateItem` on the table of the fences.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
#[derive(Clone, Debug)]
pub struct DynamoFencedWriter {
    client: Client,
}

impl DynamoFencedWriter {
    /// A writer over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl FencedWriter for DynamoFencedWriter {
    async fn write(&self, write: &FencedWrite<'_>) -> Result<Fenced, Failure> {
        let body = body(write)?;
        let sent = self
            .client
            .transact_write_items()
            .set_transact_items(Some(Vec::new()))
            .customize()
            .interceptor(RequestBody::new(body))
            .send()
            .await;
        let Err(error) = sent else {
            return Ok(Fenced::Applied);
        };
        let codes = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                let reasons = canceled.cancellation_reasons().iter();
                let codes = reasons.map(|reason| reason.code().unwrap_or("None").to_owned());
                codes.collect::<Vec<_>>()
            }
            _ => return Err(failure::from_sdk(TRANSACT, write.target, error)),
        };
        judge(write, &codes)
    }
}

/// What a cancelled transaction says: the first reason is the item's, the second the fence's.
fn judge(write: &FencedWrite<'_>, codes: &[String]) -> Result<Fenced, Failure> {
    let is_stale = codes
        .get(1)
        .is_some_and(|code| code == "ConditionalCheckFailed");
    if is_stale && codes.first().is_some_and(|code| code == "None") {
        return Ok(Fenced::Stale);
    }
    let passes = |code: &String| {
        matches!(
            code.as_str(),
            "None"
                | "ConditionalCheckFailed"
                | "TransactionConflict"
                | "ProvisionedThroughputExceeded"
                | "ThrottlingError"
        )
    };
    let kind = if codes.iter().all(passes) {
        FailureKind::Transient
    } else {
        FailureKind::Invalid
    };
    let message = format!("the transaction was canceled: {}", codes.join(", "));
    Err(Failure::new(kind, TRANSACT, write.target, message))
}

/// The request, with the item's bytes as they are.
fn body(write: &FencedWrite<'_>) -> Result<String, Failure> {
    let bytes = write.op.body();
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|_| is_one_object(bytes));
    let text = text.ok_or_else(|| {
        let message = "the item is not one JSON object";
        Failure::new(FailureKind::Invalid, TRANSACT, write.target, message)
    })?;
    let target = json_text(write.target);
    let change = match write.op {
        WriteOp::Put(_) => format!(r#"{{"Put":{{"TableName":{target},"Item":{text}}}}}"#),
        WriteOp::Delete(_) => format!(r#"{{"Delete":{{"TableName":{target},"Key":{text}}}}}"#),
    };
    let is_deleted = matches!(write.op, WriteOp::Delete(_));
    let fence = json!({"Update": {
        "TableName": write.fence,
        "Key": {"id": {"S": write.fence_id}},
        "UpdateExpression": "SET #order = :order, #deleted = :deleted",
        "ConditionExpression": "attribute_not_exists(#order) OR #order < :order",
        "ExpressionAttributeNames": {"#order": "order", "#deleted": "deleted"},
        "ExpressionAttributeValues": {":order": {"S": write.order}, ":deleted": {"BOOL": is_deleted}},
    }});
    Ok(format!(r#"{{"TransactItems":[{change},{fence}]}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(op: &WriteOp) -> FencedWrite<'_> {
        FencedWrite {
            target: "copy",
            op,
            fence: "fences",
            fence_id: "ab",
            order: "00001",
        }
    }

    #[test]
    fn the_item_goes_out_as_it_is() {
        let put = WriteOp::Put(r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#.into());
        let body = body(&write(&put)).unwrap();
        assert!(
            body.contains(r#""Item":{"id":{"S":"a"},"n":{"N":"1.50"}}"#),
            "{body}"
        );
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
        assert!(super::body(&write(&WriteOp::Delete("{} {}".into()))).is_err());
    }

    #[test]
    fn only_the_fence_alone_says_that_a_write_is_stale() {
        let op = WriteOp::Delete(r#"{"id":{"S":"a"}}"#.into());
        let judged = |codes: &[&str]| {
            let codes: Vec<String> = codes.iter().map(|code| (*code).to_owned()).collect();
            judge(&write(&op), &codes).map_err(|failure| failure.kind)
        };
        assert_eq!(
            judged(&["None", "ConditionalCheckFailed"]),
            Ok(Fenced::Stale)
        );
        let conflict = judged(&["TransactionConflict", "ConditionalCheckFailed"]);
        assert_eq!(conflict, Err(FailureKind::Transient));
        assert_eq!(
            judged(&["None", "TransactionConflict"]),
            Err(FailureKind::Transient)
        );
        assert_eq!(
            judged(&["ValidationError", "None"]),
            Err(FailureKind::Invalid)
        );
    }
}
