//! The bytes of `BatchWriteItem`: the request made from raw items, and the writes that come back undone.

use std::collections::BTreeMap;
use std::ops::Add as _;

use bytes::Bytes;
use highwater_domain::json_string::end_of_string;
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::table_writer::WriteOp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer_capture::Captured;
use crate::checked_body::{AnswerError, CheckedBytes};

/// The request that writes `ops` to `table`, in one of `buffers`.
pub(crate) fn request(table: &str, ops: &[WriteOp], buffers: &ReusedBuffers) -> Bytes {
    let table = json_text(table);
    let items: usize = ops.iter().map(|op| op.body().len()).sum();
    // What stands around an item takes 26 bytes at most, and around all of them 60 and the table's name.
    let mut body = buffers.take(items + 32 * ops.len() + table.len() + 64);
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
    body.freeze()
}

/// A string as JSON spells it, quotes included.
pub(crate) fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// Whether the bytes are one JSON object as far as quotes and brackets tell: what is put between other
/// bytes must not be able to close them and open something of its own, such as a write to another table.
pub(crate) fn is_one_object(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if depth == 0 && at > 0 {
            return false;
        }
        at += 1;
        match byte {
            b'"' => match end_of_string(bytes, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return false,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    bytes.first() == Some(&b'{') && depth == 0
}

/// What became of a batch, as the service says it.
#[derive(Debug, PartialEq)]
pub(crate) struct BatchDone {
    /// Undone writes under the name or ARN that the service gives their table.
    pub(crate) unprocessed: BTreeMap<String, Vec<WriteOp>>,
    /// Write capacity units of the rest; 0.0 if it does not say.
    pub(crate) consumed_capacity: f64,
}

impl Captured for BatchDone {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        Ok((batch_done(&answer.body)?, Bytes::from_static(b"{}")))
    }
}

fn batch_done(answer: &Bytes) -> Result<BatchDone, serde_json::Error> {
    let response: BatchResponse<'_> = serde_json::from_slice(answer)?;
    let mut unprocessed = BTreeMap::new();
    for (table, writes) in response.unprocessed_items.unwrap_or_default() {
        let writes = writes.into_iter().map(|write| write.into_op(answer));
        unprocessed.insert(table, writes.collect());
    }
    let capacity = response.consumed_capacity.unwrap_or_default();
    Ok(BatchDone {
        unprocessed,
        consumed_capacity: capacity.iter().map(Capacity::units).fold(0.0, f64::add),
    })
}

/// What a put that was done cost, in write capacity units; 0.0 if the service does not say.
#[derive(Debug)]
pub(crate) struct PutDone(pub(crate) f64);

impl Captured for PutDone {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        let response: PutResponse = serde_json::from_slice(&answer.body)?;
        let units = response
            .consumed_capacity
            .as_ref()
            .map_or(0.0, Capacity::units);
        Ok((Self(units), Bytes::from_static(b"{}")))
    }
}

/// The item that a refused put found in its place, as the service sent it.
pub(crate) fn existing_item(refusal: &[u8]) -> Option<Bytes> {
    let refusal: Refusal<'_> = serde_json::from_slice(refusal).ok()?;
    Some(Bytes::copy_from_slice(refusal.item?.get().as_bytes()))
}

/// What a call cost, as the service says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Capacity {
    capacity_units: Option<f64>,
}

impl Capacity {
    /// Units; 0.0 if it does not say.
    pub(crate) fn units(&self) -> f64 {
        self.capacity_units.unwrap_or(0.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutResponse {
    consumed_capacity: Option<Capacity>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow, rename = "Item")]
    item: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchResponse<'a> {
    #[serde(borrow)]
    unprocessed_items: Option<BTreeMap<String, Vec<WriteRequest<'a>>>>,
    consumed_capacity: Option<Vec<Capacity>>,
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
            &ReusedBuffers::default(),
        );
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"RequestItems":{"a\"b":[{"PutRequest":{"Item":{"id":{"S":"\u00e4"}}}},{"DeleteRequest":{"Key":{"id":{"S":"b"}}}}]},"ReturnConsumedCapacity":"TOTAL"}"#
        );
    }

    #[test]
    fn the_buffer_of_a_request_never_grows() {
        let ops = vec![delete("{}"); 25];
        let body = request("orders", &ops, &ReusedBuffers::default());
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

    fn done(answer: &'static str) -> Result<BatchDone, AnswerError> {
        Ok(batch_done(&Bytes::from_static(answer.as_bytes()))?)
    }

    #[test]
    fn undone_writes_are_as_they_came_and_the_cost_is_that_of_all() {
        let done = done(
            r#"{"ConsumedCapacity":[{"CapacityUnits":2.5},{"CapacityUnits":1.0}],"New":[1],"UnprocessedItems":{"orders":[{"PutRequest":{"Item": {"n":{"N":"1.0"}} }},{"DeleteRequest":{"Key":{"n":{"N":"2"}}}}]}}"#,
        )
        .unwrap();
        let undone = vec![put(r#"{"n":{"N":"1.0"}}"#), delete(r#"{"n":{"N":"2"}}"#)];
        assert_eq!(
            done.unprocessed,
            BTreeMap::from([("orders".into(), undone)])
        );
        assert!((done.consumed_capacity - 3.5).abs() < f64::EPSILON);
    }

    #[test]
    fn an_answer_without_undone_writes_has_none() {
        for answer in [
            "{}",
            r#"{"UnprocessedItems":{},"ConsumedCapacity":null}"#,
            r#"{"UnprocessedItems":null,"ConsumedCapacity":[{"TableName":"t"}]}"#,
        ] {
            let none = BatchDone {
                unprocessed: BTreeMap::new(),
                consumed_capacity: 0.0,
            };
            assert_eq!(done(answer).unwrap(), none, "{answer}");
        }
    }

    #[test]
    fn a_refusal_tells_the_item_that_is_there_if_it_has_it() {
        let item = |refusal: &str| existing_item(refusal.as_bytes());
        assert_eq!(
            item(r#"{"__type":"x","Item":{"id": {"S":"a"}}}"#),
            Some(Bytes::from_static(br#"{"id": {"S":"a"}}"#))
        );
        for refusal in ["", "{}", r#"{"Item":null}"#, r#"{"Item":{"#] {
            assert_eq!(item(refusal), None, "{refusal}");
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
            let error = done(answer).unwrap_err();
            assert_eq!(error.kind(), kind, "{answer}: {error}");
        }
    }
}
