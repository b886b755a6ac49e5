//! Writes behind fences: transactions of items and of the rows that keep their order.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, KeysAndAttributes};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fenced_writer::{
    Fence, FencedTable, FencedWrite, FencedWriter, Repair, Repaired, TOMBSTONE, Transacted, Verdict,
};
use highwater_domain::table_writer::WriteOp;
use serde_json::json;

use crate::attribute_value::from_json;
use crate::batch_write::{is_one_object, json_text};
use crate::failure;
use crate::fenced_repair;
use crate::request_body::RequestBody;

const TRANSACT: &str = "TransactWriteItems";
const GET: &str = "BatchGetItem";

/// How often keys that came back unprocessed are asked for again.
const TRIES: u32 = 10;

/// Keeps tables at the latest record of each key, by `TransactWriteItems`.
///
/// Items go out as they are given. It retries as often as its client does. Needs `dynamodb:PutItem` and `dynamodb:DeleteItem`
/// on the target, and `dynamodb:UpdateItem` and `dynamodb:BatchGetItem` on the table of the fences; where the fences are
/// attributes, `dynamodb:PutItem` and `dynamodb:BatchGetItem` on the target. A repair needs `dynamodb:ConditionCheckItem` on the
/// table of the fences.
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

    /// Sends a transaction; why it was cancelled, if it was.
    async fn send(
        &self,
        table: FencedTable<'_>,
        body: String,
    ) -> Result<Option<Vec<CancellationReason>>, Failure> {
        let sent = self
            .client
            .transact_write_items()
            .set_transact_items(Some(Vec::new()))
            .customize()
            .interceptor(RequestBody::new(body))
            .send()
            .await;
        let Err(error) = sent else {
            return Ok(None);
        };
        if let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
            error.as_service_error()
        {
            return Ok(Some(canceled.cancellation_reasons().to_vec()));
        }
        Err(failure::from_sdk(TRANSACT, table.target, error))
    }
}

#[async_trait]
impl FencedWriter for DynamoFencedWriter {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        Ok(match self.send(table, body(table, writes)?).await? {
            None => Transacted::Done,
            Some(reasons) => Transacted::Canceled(verdicts(table, writes.len(), &reasons)),
        })
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let asked = Asked::of(table, writes)?;
        let mut found: HashMap<String, String> = HashMap::new();
        let mut left = Some(asked.request()?);
        for _ in 0..TRIES {
            let Some(request) = left.take() else { break };
            let sent = self
                .client
                .batch_get_item()
                .request_items(asked.table, request);
            let sent = sent.send().await;
            let mut answer = sent.map_err(|error| failure::from_sdk(GET, asked.table, error))?;
            let rows = answer
                .responses
                .as_mut()
                .and_then(|rows| rows.remove(asked.table));
            for row in rows.into_iter().flatten() {
                if let Some((key, order)) = asked.read(&row) {
                    found.insert(key, order);
                }
            }
            left = answer
                .unprocessed_keys
                .and_then(|mut keys| keys.remove(asked.table));
        }
        if left.is_some() {
            let message = "keys came back unprocessed again and again";
            return Err(Failure::new(
                FailureKind::Throttled,
                GET,
                asked.table,
                message,
            ));
        }
        let orders = asked.names.iter().map(|name| found.remove(name));
        Ok(orders.collect())
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        let sent = self
            .send(table, fenced_repair::body(table, repair)?)
            .await?;
        Ok(sent.map_or(Repaired::Done, |reasons| {
            fenced_repair::met(table, &reasons)
        }))
    }
}

/// What is asked about fences.
struct Asked<'a> {
    table: &'a str,
    /// The attribute that holds the order.
    order: &'a str,
    keys: Vec<HashMap<String, AttributeValue>>,
    /// Each key as text, in the order of the writes.
    names: Vec<String>,
}

impl<'a> Asked<'a> {
    fn of(table: FencedTable<'a>, writes: &[FencedWrite<'_>]) -> Result<Self, Failure> {
        let (name, order) = match table.fence {
            Fence::Table(fences) => (fences, ORDER),
            Fence::Attribute(attribute) => (table.target, attribute),
        };
        let mut keys = Vec::with_capacity(writes.len());
        for write in writes {
            keys.push(match table.fence {
                Fence::Table(_) => {
                    let id = AttributeValue::S(write.fence_id.to_owned());
                    HashMap::from([("id".to_owned(), id)])
                }
                Fence::Attribute(_) => key_of(write.key).map_err(|reason| {
                    Failure::new(FailureKind::Invalid, GET, table.target, reason)
                })?,
            });
        }
        Ok(Self {
            table: name,
            order,
            names: keys.iter().map(name_of).collect(),
            keys,
        })
    }

    fn request(&self) -> Result<KeysAndAttributes, Failure> {
        let names = self.keys.first().into_iter().flat_map(HashMap::keys);
        let mut request = KeysAndAttributes::builder()
            .consistent_read(true)
            .set_keys(Some(self.keys.clone()))
            .expression_attribute_names("#order", self.order);
        let mut projection = "#order".to_owned();
        for (number, name) in names.enumerate() {
            request = request.expression_attribute_names(format!("#k{number}"), name);
            projection = format!("{projection}, #k{number}");
        }
        let request = request.projection_expression(projection).build();
        request
            .map_err(|error| Failure::new(FailureKind::Invalid, GET, self.table, error.to_string()))
    }

    fn read(&self, row: &HashMap<String, AttributeValue>) -> Option<(String, String)> {
        let order = row.get(self.order)?.as_s().ok()?.clone();
        let names = self.keys.first()?.keys();
        let key = names.map(|name| Some((name.clone(), row.get(name)?.clone())));
        Some((name_of(&key.collect::<Option<_>>()?), order))
    }
}

/// A key given as DynamoDB JSON.
pub(crate) fn key_of(json: &[u8]) -> Result<HashMap<String, AttributeValue>, String> {
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| format!("the key is not JSON: {error}"))?;
    let values = members.iter().map(|(name, value)| {
        let value = from_json(value).map_err(|error| error.to_string())?;
        Ok((name.clone(), value))
    });
    values.collect()
}

/// A key as text, the same for equal keys. Only DynamoDB's own spelling of numbers meets itself here: both come from it.
fn name_of(key: &HashMap<String, AttributeValue>) -> String {
    let mut parts: Vec<String> = key
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    parts.sort();
    parts.join(",")
}

/// What each write met: with fences in a table the reasons come in pairs, the item's before its fence's.
pub(crate) fn verdicts(
    table: FencedTable<'_>,
    writes: usize,
    reasons: &[CancellationReason],
) -> Vec<Verdict> {
    let mut reasons = reasons.iter();
    let mut verdicts = Vec::with_capacity(writes);
    for _ in 0..writes {
        verdicts.push(match table.fence {
            Fence::Table(_) => {
                let (item, fence) = (of_reason(reasons.next()), of_reason(reasons.next()));
                match (item, fence) {
                    (refused @ Verdict::Refused(_), _) => refused,
                    // An item has no condition: only its fence can be in the way.
                    (Verdict::Clear | Verdict::Stale, fence) => fence,
                    (passing, _) => passing,
                }
            }
            Fence::Attribute(_) => of_reason(reasons.next()),
        });
    }
    verdicts
}

fn of_reason(reason: Option<&CancellationReason>) -> Verdict {
    let Some(reason) = reason else {
        return Verdict::Clear;
    };
    let code = reason.code().unwrap_or("None");
    match code {
        "None" => Verdict::Clear,
        "ConditionalCheckFailed" => Verdict::Stale,
        "TransactionConflict"
        | "ProvisionedThroughputExceeded"
        | "ThrottlingError"
        | "ThrottlingException" => Verdict::Passing(code.to_owned()),
        _ => Verdict::Refused(match reason.message() {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        }),
    }
}

/// The attribute of a fence's row that holds the order.
pub(crate) const ORDER: &str = "order";

/// The request, with the items' bytes as they are.
fn body(table: FencedTable<'_>, writes: &[FencedWrite<'_>]) -> Result<String, Failure> {
    let mut text = String::from(r#"{"TransactItems":["#);
    for (number, write) in writes.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        match table.fence {
            Fence::Table(fences) => push_pair(&mut text, table.target, fences, write)?,
            Fence::Attribute(attribute) => push_item(&mut text, table.target, attribute, write)?,
        }
    }
    text.push_str("]}");
    Ok(text)
}

/// An item, and the row that keeps its order.
fn push_pair(
    text: &mut String,
    target: &str,
    fences: &str,
    write: &FencedWrite<'_>,
) -> Result<(), Failure> {
    let item = object(target, write.op.body())?;
    let table = json_text(target);
    let is_deleted = matches!(write.op, WriteOp::Delete(_));
    let parts = if is_deleted {
        [
            r#"{"Delete":{"TableName":"#,
            &table,
            r#","Key":"#,
            item,
            "}},",
        ]
    } else {
        [
            r#"{"Put":{"TableName":"#,
            &table,
            r#","Item":"#,
            item,
            "}},",
        ]
    };
    text.extend(parts);
    let fence = json!({"Update": {
        "TableName": fences,
        "Key": {"id": {"S": write.fence_id}},
        "UpdateExpression": "SET #order = :order, #deleted = :deleted",
        "ConditionExpression": "attribute_not_exists(#order) OR #order < :order",
        "ExpressionAttributeNames": {"#order": ORDER, "#deleted": "deleted"},
        "ExpressionAttributeValues": {":order": {"S": write.order}, ":deleted": {"BOOL": is_deleted}},
    }});
    text.push_str(&fence.to_string());
    Ok(())
}

/// An item that carries its own order; of a deleted one what is left is its key.
fn push_item(
    text: &mut String,
    target: &str,
    attribute: &str,
    write: &FencedWrite<'_>,
) -> Result<(), Failure> {
    let (bytes, tombstone) = match write.op {
        WriteOp::Put(item) => (item.as_ref(), String::new()),
        WriteOp::Delete(_) => (write.key, format!(r#","{TOMBSTONE}":{{"BOOL":true}}"#)),
    };
    let item = object(target, bytes)?;
    let (table, name, order) = (
        json_text(target),
        json_text(attribute),
        json_text(write.order),
    );
    // The object has its key in it, so that there is something before the comma.
    let open = item.strip_suffix('}').unwrap_or(item);
    text.extend([r#"{"Put":{"TableName":"#, &table, r#","Item":"#, open]);
    text.extend([",", &name, r#":{"S":"#, &order, "}", &tombstone, "}"]);
    text.push_str(r#","ConditionExpression":"attribute_not_exists(#order) OR #order < :order""#);
    text.extend([r##","ExpressionAttributeNames":{"#order":"##, &name, "}"]);
    text.extend([
        r#","ExpressionAttributeValues":{":order":{"S":"#,
        &order,
        "}}}}",
    ]);
    Ok(())
}

pub(crate) fn object<'a>(target: &str, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|_| is_one_object(bytes));
    text.ok_or_else(|| {
        let message = "the item is not one JSON object";
        Failure::new(FailureKind::Invalid, TRANSACT, target, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_TABLE: FencedTable<'_> = FencedTable {
        target: "copy",
        fence: Fence::Table("fences"),
    };
    const BY_ATTRIBUTE: FencedTable<'_> = FencedTable {
        target: "copy",
        fence: Fence::Attribute("highwater_order"),
    };

    fn write(op: &WriteOp) -> FencedWrite<'_> {
        FencedWrite {
            op,
            key: br#"{"id":{"S":"a"}}"#,
            fence_id: "ab",
            order: "00001",
        }
    }

    fn sent(table: FencedTable<'_>, ops: &[WriteOp]) -> serde_json::Value {
        let writes: Vec<_> = ops.iter().map(write).collect();
        serde_json::from_str(&body(table, &writes).unwrap()).unwrap()
    }

    #[test]
    fn the_items_go_out_as_they_are() {
        let put = WriteOp::Put(r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#.into());
        let text = body(BY_TABLE, &[write(&put)]).unwrap();
        assert!(
            text.contains(r#""Item":{"id":{"S":"a"},"n":{"N":"1.50"}}"#),
            "{text}"
        );
        let delete = WriteOp::Delete(r#"{"id":{"S":"a"}}"#.into());
        let body = sent(BY_TABLE, &[put, delete]);
        assert_eq!(body["TransactItems"].as_array().unwrap().len(), 4);
        assert_eq!(body["TransactItems"][2]["Delete"]["Key"]["id"]["S"], "a");
        let two = WriteOp::Delete("{} {}".into());
        assert!(super::body(BY_TABLE, &[write(&two)]).is_err());
    }

    #[test]
    fn an_item_can_carry_its_own_order() {
        let put = WriteOp::Put(r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#.into());
        let delete = WriteOp::Delete(r#"{"id":{"S":"a"}}"#.into());
        let body = sent(BY_ATTRIBUTE, &[put, delete]);
        let items = body["TransactItems"].as_array().unwrap();
        assert_eq!(items[0]["Put"]["Item"]["highwater_order"]["S"], "00001");
        assert_eq!(items[0]["Put"]["Item"]["n"]["N"], "1.50");
        assert_eq!(items[1]["Put"]["Item"][TOMBSTONE]["BOOL"], true);
        assert_eq!(items[1]["Put"]["Item"]["id"]["S"], "a");
    }

    #[test]
    fn only_the_fence_says_that_a_write_is_stale() {
        let judged = |codes: &[&str]| {
            let reasons: Vec<CancellationReason> = codes
                .iter()
                .map(|code| CancellationReason::builder().code(*code).build())
                .collect();
            verdicts(BY_TABLE, codes.len() / 2, &reasons)
        };
        let passing = |code: &str| Verdict::Passing(code.into());
        assert_eq!(
            judged(&["None", "ConditionalCheckFailed", "None", "None"]),
            [Verdict::Stale, Verdict::Clear]
        );
        assert_eq!(
            judged(&["TransactionConflict", "ConditionalCheckFailed"]),
            [passing("TransactionConflict")]
        );
        assert_eq!(
            judged(&["None", "TransactionConflict"]),
            [passing("TransactionConflict")]
        );
        assert!(matches!(
            &judged(&["ValidationError", "None"])[..],
            [Verdict::Refused(_)]
        ));
        assert!(matches!(
            &judged(&["None", "ItemCollectionSizeLimitExceeded"])[..],
            [Verdict::Refused(_)]
        ));
    }
}
