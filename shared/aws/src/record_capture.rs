//! Takes a `GetRecords` response's records out of its body before the SDK parses it, as
//! [`page_capture`](crate::page_capture) does with items.

use std::borrow::Cow;
use std::mem;
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
use highwater_domain::ids::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checked_body::{AnswerError, answered_at, ask_for_plain_bytes, exchange_good_answer};

/// The records of one response, and when it was given.
#[derive(Debug)]
pub(crate) struct CapturedRecords {
    pub(crate) records: Vec<Bytes>,
    pub(crate) answered_at: UnixMillis,
}

/// Where the interceptor leaves the records for the call that they belong to.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordSlot(Arc<Mutex<Option<CapturedRecords>>>);

impl RecordSlot {
    /// The records of the last attempt, if it was good.
    pub(crate) fn take(&self) -> Option<CapturedRecords> {
        self.set(None)
    }

    fn set(&self, captured: Option<CapturedRecords>) -> Option<CapturedRecords> {
        mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            captured,
        )
    }

    /// Leaves the answer's records here and returns the rest.
    fn fill(&self, body: &Bytes, answered_at: UnixMillis) -> Result<Bytes, AnswerError> {
        let (records, rest) = take_records(body).map_err(AnswerError::Records)?;
        self.set(Some(CapturedRecords {
            records,
            answered_at,
        }));
        Ok(rest)
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
    #[serde(rename = "NextShardIterator", borrow, default)]
    next: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Rest<'a> {
    #[serde(rename = "Records")]
    records: [(); 0],
    #[serde(rename = "NextShardIterator", skip_serializing_if = "Option::is_none")]
    next: Option<Cow<'a, str>>,
}

/// The records of an answer as slices of it, and the answer without them.
fn take_records(body: &Bytes) -> Result<(Vec<Bytes>, Bytes), serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let slice = |raw: &&RawValue| body.slice_ref(raw.get().as_bytes());
    let records = answer.records.iter().map(slice).collect();
    let rest = serde_json::to_vec(&Rest {
        records: [],
        next: answer.next,
    })?;
    Ok((records, rest.into()))
}

/// Captures the records of one call into a slot.
#[derive(Debug)]
pub(crate) struct RecordCapture(pub(crate) RecordSlot);

#[dyn_dispatch_hint]
impl Intercept for RecordCapture {
    fn name(&self) -> &'static str {
        "RecordCapture"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An attempt that fails half-way must not leave the records of one before it.
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
        if !context.response().status().is_success() {
            return Ok(());
        }
        let answered_at = answered_at(context.response())?;
        let slot = self.0.clone();
        Ok(exchange_good_answer(context, move |answer| {
            slot.fill(&answer.body, answered_at)
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_slices_of_the_answer_and_the_rest_is_kept() {
        let text = r#"{"NextShardIterator" : "arn|\u00e9\"x", "Records": [ {"a": {"Records":[1.50]}} ,{"b":"]}"}], "More": 1}"#;
        let body = Bytes::from_static(text.as_bytes());
        let (records, rest) = take_records(&body).unwrap();
        assert_eq!(
            records,
            [r#"{"a": {"Records":[1.50]}}"#, r#"{"b":"]}"}"#],
            "not a byte is changed"
        );
        assert_eq!(
            rest,
            "{\"Records\":[],\"NextShardIterator\":\"arn|é\\\"x\"}"
        );
        let (records, rest) = take_records(&Bytes::from_static(
            b"{\"Records\":[],\"NextShardIterator\":null}",
        ))
        .unwrap();
        assert!(records.is_empty());
        assert_eq!(rest, "{\"Records\":[]}");
    }

    /// An answer without `Records` would pass for an empty one.
    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "{}",
            "null",
            "{\"NextShardIterator\":\"x\"}",
            "{\"Records\":null}",
            "{\"Records\":[{}]",
            "{\"Records\":[{]}",
            "{\"Records\":[],\"Records\":[]}",
            "{\"Records\":[]} x",
        ] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            assert!(take_records(&body).is_err(), "{text}");
        }
    }
}
