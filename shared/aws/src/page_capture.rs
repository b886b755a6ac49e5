//! Takes a `Scan` response's items out of its body before the SDK parses it.
//!
//! The interceptor replaces the body of a good answer by one that drains the original, checks it, keeps
//! the items as they came and gives the SDK the same document with an empty `Items`. Count, position
//! and capacity are thus parsed by the SDK, and no attribute value of an item is ever built.

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
use highwater_domain::item_finder::find_items;
use highwater_domain::scan::RawItems;

use crate::checked_body::{AnswerError, CheckedBytes, ask_for_plain_bytes, exchange_good_answer};

/// The items of one response.
#[derive(Debug)]
pub(crate) struct CapturedPage {
    pub(crate) items: RawItems,
    pub(crate) wire_bytes: u64,
}

/// Where the interceptor leaves the page for the call that it belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageSlot(Arc<Mutex<Option<CapturedPage>>>);

impl PageSlot {
    /// The page of the last attempt, if it was good.
    pub(crate) fn take(&self) -> Option<CapturedPage> {
        self.set(None)
    }

    fn set(&self, page: Option<CapturedPage>) -> Option<CapturedPage> {
        mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            page,
        )
    }

    /// Leaves the answer's items here and returns the rest.
    fn fill(&self, answer: CheckedBytes) -> Result<Bytes, AnswerError> {
        let CheckedBytes { body, had_checksum } = answer;
        let items = find_items(&body)?;
        if !had_checksum {
            // What comes from elsewhere than DynamoDB is looked at item by item.
            items.check(&body)?;
        }
        let rest = items.document_without_items(&body);
        self.set(Some(CapturedPage {
            wire_bytes: body.len() as u64,
            items: items.into_raw_items(body),
        }));
        Ok(rest.into())
    }
}

/// Captures the page of one call into a slot.
#[derive(Debug)]
pub(crate) struct PageCapture(pub(crate) PageSlot);

#[dyn_dispatch_hint]
impl Intercept for PageCapture {
    fn name(&self) -> &'static str {
        "PageCapture"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An attempt that fails half-way must not leave the page of one before it.
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
        Ok(exchange_good_answer(context, move |answer| {
            slot.fill(answer)
        })?)
    }
}
