//! The request of a repair: one item, under its fence as it stands.

use aws_sdk_dynamodb::types::CancellationReason;
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::{Fence, FencedTable, Repair, Repaired, TOMBSTONE, Verdict};
use highwater_domain::table_writer::WriteOp;
use serde_json::{Value, json};

use crate::batch_write::json_text;
use crate::fenced_writer::{ORDER, object, verdicts};

/// The request, with the item's bytes as they are.
pub(crate) fn body(table: FencedTable<'_>, repair: Repair<'_>) -> Result<String, Failure> {
    let mut text = String::from(r#"{"TransactItems":["#);
    match table.fence {
        Fence::Table(fences) => {
            push_action(&mut text, table.target, repair.op, None, &Value::Null)?;
            let mut check = condition(ORDER, repair.expected);
            check["TableName"] = fences.into();
            check["Key"] = json!({"id": {"S": repair.fence_id}});
            text.extend([",", &json!({"ConditionCheck": check}).to_string()]);
        }
        Fence::Attribute(attribute) => {
            let check = condition(attribute, repair.expected);
            let tombstone = WriteOp::Put(repair.key.to_vec().into());
            let (op, carries) = match (repair.op, repair.expected) {
                (op, None) => (op, None),
                (op @ WriteOp::Put(_), Some(order)) => (op, Some(order_of(attribute, order))),
                (WriteOp::Delete(_), Some(order)) => {
                    let carries = order_of(attribute, order);
                    let carries = format!(r#"{carries},"{TOMBSTONE}":{{"BOOL":true}}"#);
                    (&tombstone, Some(carries))
                }
            };
            push_action(&mut text, table.target, op, carries.as_deref(), &check)?;
        }
    }
    text.push_str("]}");
    Ok(text)
}

/// A put or a delete, with more attributes and a condition, where there are any.
fn push_action(
    text: &mut String,
    target: &str,
    op: &WriteOp,
    carries: Option<&str>,
    check: &Value,
) -> Result<(), Failure> {
    let (action, holds) = match op {
        WriteOp::Put(_) => ("Put", "Item"),
        WriteOp::Delete(_) => ("Delete", "Key"),
    };
    let item = object(target, op.body())?;
    text.extend([r#"{""#, action, r#"":{"TableName":"#, &json_text(target)]);
    text.extend([r#",""#, holds, r#"":"#]);
    match carries {
        // The object has its key in it, so that there is something before the comma.
        Some(more) => text.extend([item.strip_suffix('}').unwrap_or(item), ",", more, "}"]),
        None => text.push_str(item),
    }
    for (name, value) in check.as_object().into_iter().flatten() {
        text.extend([",", &json_text(name), ":", &value.to_string()]);
    }
    text.push_str("}}");
    Ok(())
}

fn order_of(attribute: &str, order: &str) -> String {
    format!(r#"{}:{{"S":{}}}"#, json_text(attribute), json_text(order))
}

/// That the order in this attribute is the one that is expected, or that there is none.
fn condition(attribute: &str, expected: Option<&str>) -> Value {
    let names = json!({"#order": attribute});
    match expected {
        Some(order) => json!({
            "ConditionExpression": "#order = :order",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {":order": {"S": order}},
        }),
        None => json!({
            "ConditionExpression": "attribute_not_exists(#order)",
            "ExpressionAttributeNames": names,
        }),
    }
}

/// What a cancelled repair has met.
pub(crate) fn met(table: FencedTable<'_>, reasons: &[CancellationReason]) -> Repaired {
    match verdicts(table, 1, reasons).pop() {
        Some(Verdict::Stale) => Repaired::Moved,
        Some(Verdict::Refused(why)) => Repaired::Refused(why),
        Some(Verdict::Passing(why)) => Repaired::Passing(why),
        Some(Verdict::Clear) | None => Repaired::Passing("cancelled without a reason".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = br#"{"id":{"S":"a"}}"#;

    fn sent(fence: Fence<'_>, op: &WriteOp, expected: Option<&str>) -> (String, Value) {
        let table = FencedTable {
            target: "copy",
            fence,
        };
        let repair = Repair {
            op,
            key: KEY,
            fence_id: "ab",
            expected,
        };
        let text = body(table, repair).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        (text, value["TransactItems"].clone())
    }

    #[test]
    fn a_fence_in_a_table_is_looked_at_and_left() {
        let put = WriteOp::Put(r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#.into());
        let (text, items) = sent(Fence::Table("fences"), &put, Some("07"));
        assert!(
            text.contains(r#""Item":{"id":{"S":"a"},"n":{"N":"1.50"}}"#),
            "{text}"
        );
        let check = &items[1]["ConditionCheck"];
        assert_eq!(check["TableName"], "fences");
        assert_eq!(check["Key"]["id"]["S"], "ab");
        assert_eq!(check["ExpressionAttributeValues"][":order"]["S"], "07");
        let delete = WriteOp::Delete(KEY.to_vec().into());
        let (_, items) = sent(Fence::Table("fences"), &delete, None);
        assert_eq!(items[0]["Delete"]["Key"]["id"]["S"], "a");
        let check = &items[1]["ConditionCheck"];
        assert_eq!(check["ConditionExpression"], "attribute_not_exists(#order)");
        assert_eq!(check["ExpressionAttributeValues"], Value::Null);
    }

    #[test]
    fn a_fence_in_an_attribute_stays_in_what_is_written() {
        let fence = Fence::Attribute("order");
        let put = WriteOp::Put(r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#.into());
        let (_, items) = sent(fence, &put, Some("07"));
        assert_eq!(items[0]["Put"]["Item"]["order"]["S"], "07");
        assert_eq!(items[0]["Put"]["Item"]["n"]["N"], "1.50");
        assert_eq!(items[0]["Put"]["ConditionExpression"], "#order = :order");
        let (_, items) = sent(fence, &put, None);
        assert_eq!(items[0]["Put"]["Item"]["order"], Value::Null);
        let delete = WriteOp::Delete(KEY.to_vec().into());
        let (_, items) = sent(fence, &delete, Some("07"));
        assert_eq!(items[0]["Put"]["Item"][TOMBSTONE]["BOOL"], true);
        assert_eq!(items[0]["Put"]["Item"]["order"]["S"], "07");
        let (_, items) = sent(fence, &delete, None);
        assert_eq!(
            items[0]["Delete"]["ConditionExpression"],
            "attribute_not_exists(#order)"
        );
    }
}
