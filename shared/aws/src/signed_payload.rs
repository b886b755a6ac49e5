//! Signs an upload by the SHA-256 of its body that is known already, where the SDK would hash all of it once more.

use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// The hash of a body, as signatures have it: the service refuses any other body.
#[derive(Clone, Debug)]
pub(crate) struct SignedPayload(String);

impl SignedPayload {
    pub(crate) fn of(sha256: &[u8; 32]) -> Self {
        let digits = sha256.iter().map(|byte| format!("{byte:02x}"));
        Self(digits.collect())
    }
}

#[dyn_dispatch_hint]
impl Intercept for SignedPayload {
    fn name(&self) -> &'static str {
        "SignedPayload"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let hash = PayloadSigningOverride::Precomputed(self.0.clone());
        config.interceptor_state().store_put(hash);
        Ok(())
    }
}
