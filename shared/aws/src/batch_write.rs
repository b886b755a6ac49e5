//! The bytes of `BatchWriteItem`: the request made from raw items, and the writes that come back undone.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::table_writer::WriteOp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer_capture::Captured;
use crate::checked_body::{AnswerError, CheckedBytes};

/// The request that writes `ops` to `table`.
pub(crate) fn request(table: &str, ops: &[WriteOp]) -> Vec<u8> {
    let table = json_text(table);
    let items: usize = ops.iter().map(|op| op.body().len()).sum();
    // What stands around an item takes 26 bytes at most, and around all of them 60 and the table's name.
    let mut body = Vec::with_capacity(items + 32 * ops.len() + table.len() + 64);
    body.extend_from_slice(br#"{"RequestItems":{"#);
    body.extend_from_slice(table.as_bytes());
    body.extend_from_slice(b":[");
    for (index, op) in ops.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let head: &[u8] = match op {
            WriteOp::Put(_) => br#"{"PutRequest":{"Item":"#,
            WriteOp::Delete(_) => br#"{"DeleteRequest":{"Key":"#,
        };
        body.extend_from_slice(head);
        body.extend_from_slice(op.body());
        body.extend_from_slice(b"}}");
    }
    body.extend_from_slice(br#"]},"ReturnConsumedCapacity":"TOTAL"}"#);
    body
}

/// A string as JSON spells it, quotes included.
pub(crate) fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// Whether the bytes are one JSON object as far as quotes and brackets tell: what is put between other
/// bytes must not be able to close them and open something of its own, such as a write to another table.
pub(crate) fn is_one_object(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let last = bytes.len().saturating_sub(1);
    for (at, byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return false,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && at < last {
            return false;
        }
    }
    bytes.first() == Some(&b'{') && depth == 0 && !in_string
}

/// Undone writes under the name or ARN that the service gives their table.
pub(crate) type Unprocessed = BTreeMap<String, Vec<WriteOp>>;

impl Captured for Unprocessed {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        taken_apart(&answer.body)
    }
}

/// The undone writes of an answer, and the same answer without them.
fn taken_apart(answer: &Bytes) -> Result<(Unprocessed, Bytes), AnswerError> {
    let response: Response<'_> = serde_json::from_slice(answer)?;
    let mut unprocessed = Unprocessed::new();
    for (table, writes) in response.unprocessed_items.unwrap_or_default() {
        let writes = writes.into_iter().map(|write| write.into_op(answer));
        unprocessed.insert(table, writes.collect());
    }
    let capacity = response.consumed_capacity.map_or("[]", RawValue::get);
    let rest = format!(r#"{{"UnprocessedItems":{{}},"ConsumedCapacity":{capacity}}}"#);
    Ok((unprocessed, rest.into()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response<'a> {
    #[serde(borrow)]
    unprocessed_items: Option<BTreeMap<String, Vec<WriteRequest<'a>>>>,
    #[serde(borrow)]
    consumed_capacity: Option<&'a RawValue>,
}

/// One undone write. Anything else than the two kinds is refused: it could not be sent again.
#[derive(Deserialize)]
enum WriteRequest<'a> {
    PutRequest {
        #[serde(borrow, rename = "Item")]
        item: &'a RawValue,
    },
    DeleteRequest {
        #[serde(borrow, rename = "Key")]
        key: &'a RawValue,
    },
}

impl WriteRequest<'_> {
    fn into_op(self, answer: &Bytes) -> WriteOp {
        let slice = |raw: &RawValue| answer.slice_ref(raw.get().as_bytes());
        match self {
            Self::PutRequest { item } => WriteOp::Put(slice(item)),
            Self::DeleteRequest { key } => WriteOp::Delete(slice(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_domain::failure::FailureKind;

    use super::*;

    fn put(item: &'static str) -> WriteOp {
        WriteOp::Put(Bytes::from_static(item.as_bytes()))
    }

    fn delete(key: &'static str) -> WriteOp {
        WriteOp::Delete(Bytes::from_static(key.as_bytes()))
    }

    #[test]
    fn a_request_holds_the_items_as_they_are() {
        let body = request(
            "a\"b",
            &[
                put(r#"{"id":{"S":"\u00e4"}}"#),
                delete(r#"{"id":{"S":"b"}}"#),
            ],
        );
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"RequestItems":{"a\"b":[{"PutRequest":{"Item":{"id":{"S":"\u00e4"}}}},{"DeleteRequest":{"Key":{"id":{"S":"b"}}}}]},"ReturnConsumedCapacity":"TOTAL"}"#
        );
    }

    #[test]
    fn the_buffer_of_a_request_never_grows() {
        let ops = vec![delete("{}"); 25];
        let body = request("orders", &ops);
        assert!(body.len() <= 25 * (2 + 32) + 8 + 64, "{}", body.len());
    }

    #[test]
    fn what_would_break_out_of_its_place_is_no_object() {
        for object in [
            r"{}",
            r#"{"a":{"S":"}]\"}"},"b":{"L":[]}}"#,
            r#"{"a":"\\"}"#,
            r#"{"}":{"M":{}}}"#,
        ] {
            assert!(is_one_object(object.as_bytes()), "{object}");
        }
        for other in [
            "",
            "[]",
            "1",
            " {}",
            "{} ",
            "{}{}",
            "{",
            r#"{"a":"}"#,
            r#"{"a":"\"}"#,
            r#"{}}},{"DeleteRequest":{"Key":{}"#,
            r#"{"id":{"S":"x"}}}}],"other":[{"PutRequest":{"Item":{"id":{"S":"y"}}"#,
            "}{",
        ] {
            assert!(!is_one_object(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn undone_writes_are_slices_of_the_answer() {
        let answer = Bytes::from_static(
            br#"{"ConsumedCapacity":[{"CapacityUnits":2.5}],"New":[1],"UnprocessedItems":{"orders":[{"PutRequest":{"Item": {"n":{"N":"1.0"}} }},{"DeleteRequest":{"Key":{"n":{"N":"2"}}}}]}}"#,
        );
        let (unprocessed, rest) = taken_apart(&answer).unwrap();
        assert_eq!(
            rest,
            r#"{"UnprocessedItems":{},"ConsumedCapacity":[{"CapacityUnits":2.5}]}"#
        );
        assert_eq!(
            unprocessed["orders"],
            [put(r#"{"n":{"N":"1.0"}}"#), delete(r#"{"n":{"N":"2"}}"#)]
        );
    }

    #[test]
    fn an_answer_without_undone_writes_has_none() {
        for answer in [
            "{}",
            r#"{"UnprocessedItems":{},"ConsumedCapacity":null}"#,
            r#"{"UnprocessedItems":null}"#,
        ] {
            let (unprocessed, rest) = taken_apart(&Bytes::from_static(answer.as_bytes())).unwrap();
            assert_eq!(rest, r#"{"UnprocessedItems":{},"ConsumedCapacity":[]}"#);
            assert_eq!(unprocessed, Unprocessed::new());
        }
    }

    #[test]
    fn a_torn_answer_may_come_whole_next_time_and_nonsense_will_not() {
        for (answer, kind) in [
            (
                r#"{"UnprocessedItems":{"orders":[{"Put"#,
                FailureKind::Transient,
            ),
            (r"[]", FailureKind::Corrupt),
            (
                r#"{"UnprocessedItems":{"orders":[{"UpsertRequest":{"Item":{}}}]}}"#,
                FailureKind::Corrupt,
            ),
            (
                r#"{"UnprocessedItems":{"orders":[{"PutRequest":{}}]}}"#,
                FailureKind::Corrupt,
            ),
        ] {
            let error = taken_apart(&Bytes::from_static(answer.as_bytes())).unwrap_err();
            assert_eq!(error.kind(), kind, "{answer}: {error}");
        }
    }
}
