//! Takes a `GetItem` response's item out of its body before the SDK parses it, as [`page_capture`](crate::page_capture) does with
//! those of a page.

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

/// The item of one response, if it has one, and when it was given.
#[derive(Debug)]
pub(crate) struct CapturedItem {
    pub(crate) item: Option<Bytes>,
    pub(crate) answered_at: UnixMillis,
}

/// Where the interceptor leaves the item for the call that it belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemSlot(Arc<Mutex<Option<CapturedItem>>>);

impl ItemSlot {
    /// The item of the last attempt, if that was good.
    pub(crate) fn take(&self) -> Option<CapturedItem> {
        self.set(None)
    }

    fn set(&self, captured: Option<CapturedItem>) -> Option<CapturedItem> {
        mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            captured,
        )
    }

    /// Leaves the answer's item here and returns the rest.
    fn fill(&self, body: &Bytes, answered_at: UnixMillis) -> Result<Bytes, AnswerError> {
        let (item, rest) = take_item(body).map_err(AnswerError::Item)?;
        self.set(Some(CapturedItem { item, answered_at }));
        Ok(rest)
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Item", borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(rename = "ConsumedCapacity", borrow, default)]
    consumed: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Rest<'a> {
    #[serde(rename = "ConsumedCapacity", skip_serializing_if = "Option::is_none")]
    consumed: Option<&'a RawValue>,
}

/// The item of an answer as a slice of it, and the answer without it.
fn take_item(body: &Bytes) -> Result<(Option<Bytes>, Bytes), serde_json::Error> {
    // An array would pass for an object without members.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(serde::de::Error::custom("an array"));
    }
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let item = answer.item.map(|raw| body.slice_ref(raw.get().as_bytes()));
    let rest = serde_json::to_vec(&Rest {
        consumed: answer.consumed,
    })?;
    Ok((item, rest.into()))
}

/// Captures the item of one call into a slot.
#[derive(Debug)]
pub(crate) struct ItemCapture(pub(crate) ItemSlot);

#[dyn_dispatch_hint]
impl Intercept for ItemCapture {
    fn name(&self) -> &'static str {
        "ItemCapture"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An attempt that fails half-way must not leave the item of one before it.
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
    fn an_item_is_a_slice_of_the_answer_and_the_rest_is_kept() {
        let text = r#"{"ConsumedCapacity":{"CapacityUnits":0.5},"Item":{"id":{"S":"}\""},"n":{"N":"1.50"}}}"#;
        let (item, rest) = take_item(&Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(item.unwrap(), r#"{"id":{"S":"}\""},"n":{"N":"1.50"}}"#);
        assert_eq!(rest, r#"{"ConsumedCapacity":{"CapacityUnits":0.5}}"#);
        let (item, rest) = take_item(&Bytes::from_static(b"{}")).unwrap();
        assert_eq!((item, rest), (None, Bytes::from_static(b"{}")));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "[]",
            "{\"Item\":{}",
            "{\"Item\":{},\"Item\":{}}",
            "{} x",
        ] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            assert!(take_item(&body).is_err(), "{text}");
        }
    }
}
