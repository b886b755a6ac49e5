//! The bytes of `BatchWriteItem`: the request made from raw items, and the writes that come back undone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
    BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use highwater_domain::table_writer::WriteOp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::checked_body::{AnswerError, CheckedBytes, ask_for_plain_bytes, exchange_good_answer};

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

/// Where the interceptor leaves the undone writes for the call that they belong to, by table.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnprocessedSlot(Arc<Mutex<Option<Unprocessed>>>);

/// Undone writes under the name or ARN that the service gives their table.
pub(crate) type Unprocessed = BTreeMap<String, Vec<WriteOp>>;

impl UnprocessedSlot {
    /// The undone writes of the last attempt; `None` unless it was answered well.
    pub(crate) fn take(&self) -> Option<Unprocessed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Leaves the undone writes here; the rest is the same answer without them.
    fn fill(&self, answer: &Bytes) -> Result<Bytes, AnswerError> {
        let response: Response<'_> = serde_json::from_slice(answer)?;
        let mut unprocessed = Unprocessed::new();
        for (table, writes) in response.unprocessed_items.unwrap_or_default() {
            let writes = writes.into_iter().map(|write| write.into_op(answer));
            unprocessed.insert(table, writes.collect());
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(unprocessed);
        let capacity = response.consumed_capacity.map_or("[]", RawValue::get);
        Ok(format!(r#"{{"UnprocessedItems":{{}},"ConsumedCapacity":{capacity}}}"#).into())
    }
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

/// Takes the undone writes out of an answer, so that the SDK builds no attribute values of them.
#[derive(Debug)]
pub(crate) struct UnprocessedCapture(pub(crate) UnprocessedSlot);

#[dyn_dispatch_hint]
impl Intercept for UnprocessedCapture {
    fn name(&self) -> &'static str {
        "UnprocessedCapture"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An attempt that fails half-way must not leave the answer of one before it.
        self.0.take();
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        ask_for_plain_bytes(context);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let slot = self.0.clone();
        Ok(exchange_good_answer(
            context,
            move |CheckedBytes { body, .. }| slot.fill(&body),
        )?)
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
        let slot = UnprocessedSlot::default();
        let answer = Bytes::from_static(
            br#"{"ConsumedCapacity":[{"CapacityUnits":2.5}],"New":[1],"UnprocessedItems":{"orders":[{"PutRequest":{"Item": {"n":{"N":"1.0"}} }},{"DeleteRequest":{"Key":{"n":{"N":"2"}}}}]}}"#,
        );
        let rest = slot.fill(&answer).unwrap();
        assert_eq!(
            rest,
            r#"{"UnprocessedItems":{},"ConsumedCapacity":[{"CapacityUnits":2.5}]}"#
        );
        assert_eq!(
            slot.take().unwrap()["orders"],
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
            let slot = UnprocessedSlot::default();
            let rest = slot.fill(&Bytes::from_static(answer.as_bytes())).unwrap();
            assert_eq!(rest, r#"{"UnprocessedItems":{},"ConsumedCapacity":[]}"#);
            assert_eq!(slot.take(), Some(Unprocessed::new()));
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
            let slot = UnprocessedSlot::default();
            let error = slot
                .fill(&Bytes::from_static(answer.as_bytes()))
                .unwrap_err();
            assert_eq!(error.kind(), kind, "{answer}: {error}");
            assert_eq!(slot.take(), None);
        }
    }
}
