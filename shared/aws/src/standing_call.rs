//! Repeats a call of the SDK's with other bodies.
//!
//! For each request the SDK gathers its plugins, resolves an endpoint, runs some forty interceptors and signs what it
//! finds. Beside a batch of 25 small items that is most of the work, and it comes to the same each time. So one call
//! is made by the SDK and looked at just before it is sent; those that follow are made after its pattern.
//!
//! A pattern is believed if it signs that first request as the SDK did, and for as long as calls are answered: after
//! any other end the next call is the SDK's again. Nothing here retries: where the client does, a repeated call that
//! failed in passing goes to the SDK, which asks as often as it always would.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
    BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use bytes::Bytes;
use highwater_domain::failure::FailureKind;
use highwater_domain::reused_buffers::ReusedBuffers;

use crate::answer_capture::{Capture, Captured, Slot};
use crate::call_pattern::{CallError, Pattern, Sample};
use crate::failure::{judge, kind_of};
use crate::request_body::RequestBody;

/// The call that a client makes again and again on one resource. Clones share what was learnt.
#[derive(Clone, Debug)]
pub(crate) struct StandingCall {
    /// Whether the client tries again by itself.
    retries: bool,
    standing: Arc<Mutex<Option<Standing>>>,
}

/// What was learnt, and of the calls on what.
#[derive(Debug)]
struct Standing {
    resource: String,
    pattern: Arc<Pattern>,
}

impl StandingCall {
    /// One of the calls of a client that is told this of retries.
    pub(crate) fn of(retries: Option<&RetryConfig>) -> Self {
        Self {
            retries: retries.is_none_or(|retries| retries.max_attempts() > 1),
            standing: Arc::default(),
        }
    }

    /// Calls on `resource` with this body, and keeps what is wanted of the answer, which comes into one of `buffers`: by the
    /// pattern, or else by `sdk`, which makes the same call with the interceptor that it is given.
    pub(crate) async fn call<T, F, O, E>(
        &self,
        resource: &str,
        body: Bytes,
        buffers: &ReusedBuffers,
        sdk: impl FnOnce(OwnBytes<T>) -> F + Send,
    ) -> Result<T, CallError>
    where
        T: Captured,
        F: Future<Output = Result<O, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata,
    {
        if let Some(pattern) = self.on(resource) {
            let answer = pattern.call(body.clone(), buffers).await;
            if !is_answer(&answer) {
                self.set(None);
            }
            if !self.retries || !answer.as_ref().is_err_and(is_passing) {
                return answer;
            }
        }
        let (slot, seen) = (Slot::default(), Slot::default());
        let own = OwnBytes {
            body: RequestBody::new(body),
            answer: Capture::with(&slot, buffers),
            seen: seen.clone(),
        };
        if let Err(error) = sdk(own).await {
            return Err(error.map_service_error(|error| error.meta().clone()));
        }
        if let Some(sample) = seen.take()
            && let Some(pattern) = Sample::into_pattern(sample).await
        {
            self.set(Some(Standing {
                resource: resource.to_owned(),
                pattern: Arc::new(pattern),
            }));
        }
        slot.taken().map_err(SdkError::dispatch_failure)
    }

    fn on(&self, resource: &str) -> Option<Arc<Pattern>> {
        let standing = self.standing.lock();
        let standing = standing.unwrap_or_else(PoisonError::into_inner);
        let standing = standing.as_ref().filter(|it| it.resource == resource)?;
        Some(Arc::clone(&standing.pattern))
    }

    fn set(&self, standing: Option<Standing>) {
        let mut known = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *known = standing;
    }
}

/// Whether the service has understood the call and who makes it, whatever it says to it.
fn is_answer<T>(answer: &Result<T, CallError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(SdkError::ServiceError(refused)) => {
            let status = refused.raw().status().as_u16();
            status == 400 && kind_of(refused.err().code(), status) != FailureKind::Denied
        }
        Err(_) => false,
    }
}

/// Whether another try may be answered.
fn is_passing(error: &CallError) -> bool {
    let (kind, _) = judge(error);
    kind.is_retryable() || kind == FailureKind::Unreachable
}

/// Has the SDK send our bytes and leave us the answer's, and looks at the request that it was about to send.
#[derive(Debug)]
pub(crate) struct OwnBytes<T> {
    body: RequestBody,
    answer: Capture<T>,
    seen: Slot<Sample>,
}

#[dyn_dispatch_hint]
impl<T: Captured> Intercept for OwnBytes<T> {
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.body
            .modify_before_retry_loop(context, components, config)
    }

    fn read_before_attempt(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.answer.read_before_attempt(context, components, config)
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.answer
            .modify_before_signing(context, components, config)
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(sample) = Sample::of(context.request(), components, config) {
            self.seen.put(sample);
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.answer
            .modify_before_deserialization(context, components, config)
    }
}
