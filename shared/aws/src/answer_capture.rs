//! Takes what is wanted of a response out of its body before the SDK parses it.
//!
//! The interceptor replaces the body of a good answer by one that drains the original, checks it, keeps what is wanted as it
//! came and gives the SDK the same document without it. So the rest is parsed by the SDK, and no attribute value is ever built.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
    BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;

use crate::checked_body::{AnswerError, CheckedBytes, ask_for_plain_bytes, exchange_good_answer};
use highwater_domain::reused_buffers::ReusedBuffers;

/// What is kept of an answer.
pub(crate) trait Captured: Debug + Send + Sized + 'static {
    /// Parts an answer into what is kept, and what the SDK parses in its place.
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError>;
}

/// Where the interceptor leaves it for the call that it belongs to.
#[derive(Debug)]
pub(crate) struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Slot<T> {
    /// What the last attempt brought, if that was answered well.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same where there must be something: a good answer of which nothing was kept is none.
    pub(crate) fn taken(&self) -> Result<T, ConnectorError> {
        let unsaid = || ConnectorError::other(AnswerError::Unsaid.into(), None);
        self.take().ok_or_else(unsaid)
    }

    pub(crate) fn put(&self, captured: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(captured);
    }
}

/// Captures the answer of one call into a slot.
#[derive(Debug)]
pub(crate) struct Capture<T> {
    slot: Slot<T>,
    buffers: ReusedBuffers,
}

impl<T> Capture<T> {
    /// The answer has a buffer of its own.
    pub(crate) fn into(slot: &Slot<T>) -> Self {
        Self::with(slot, &ReusedBuffers::default())
    }

    /// The answer is in one of these buffers, for as long as anything of what is captured is kept.
    pub(crate) fn with(slot: &Slot<T>, buffers: &ReusedBuffers) -> Self {
        Self {
            slot: slot.clone(),
            buffers: buffers.clone(),
        }
    }
}

#[dyn_dispatch_hint]
impl<T: Captured> Intercept for Capture<T> {
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An attempt that fails half-way must not leave what one before it has brought.
        self.slot.take();
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
        let slot = self.slot.clone();
        Ok(exchange_good_answer(
            context.response_mut(),
            &self.buffers,
            move |answer| {
                let (captured, rest) = T::part(answer)?;
                slot.put(captured);
                Ok(rest)
            },
        )?)
    }
}
