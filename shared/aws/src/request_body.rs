//! Sends our own bytes as a request's body.
//!
//! The SDK is given a request of the right kind with nothing in it, and what it writes is exchanged once,
//! before its retry loop: every attempt is signed over, and sends, the bytes that stand here. Items thus go
//! out as they lie in the backup, and settings that this SDK has never heard of go out at all.

use std::fmt;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use serde_json::Value;

/// The body that a request gets in place of the SDK's.
pub(crate) struct RequestBody(Bytes);

impl RequestBody {
    /// A body of these bytes.
    pub(crate) fn new(body: impl Into<Bytes>) -> Self {
        Self(body.into())
    }

    /// A request in the service's own JSON.
    pub(crate) fn of_json(request: &Value) -> Self {
        Self::new(request.to_string())
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its bytes may be 16 MB of somebody's items.
        write!(f, "RequestBody({} bytes)", self.0.len())
    }
}

#[dyn_dispatch_hint]
impl Intercept for RequestBody {
    fn name(&self) -> &'static str {
        "RequestBody"
    }

    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        *request.body_mut() = SdkBody::from(self.0.clone());
        request
            .headers_mut()
            .insert("content-length", self.0.len().to_string());
        Ok(())
    }
}
