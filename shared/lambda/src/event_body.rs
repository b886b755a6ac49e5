//! Hands an event's bytes past the runtime, which would parse all of them and copy them before the step does.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use lambda_runtime::LambdaInvocation;
use lambda_runtime::tower::{Layer, Service};

/// What the runtime is given to parse in the event's place.
const NOTHING: &[u8] = b"null";

/// The bytes of the event whose handler is called next.
///
/// As a layer of the runtime it keeps them back, and a handler of `LambdaEvent<()>` takes them when it is called. There is no
/// await between the two, so that the bytes are those of the handler's own invocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventBody(Arc<Mutex<Bytes>>);

impl EventBody {
    /// The event's bytes, once.
    pub(crate) fn take(&self) -> Bytes {
        self.replace(Bytes::new())
    }

    fn replace(&self, body: Bytes) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut kept, body)
    }
}

impl<S> Layer<S> for EventBody {
    type Service = WithoutBody<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let body = self.clone();
        WithoutBody { body, inner }
    }
}

/// A service that is called without the event's bytes.
pub(crate) struct WithoutBody<S> {
    body: EventBody,
    inner: S,
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for WithoutBody<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> Self::Future {
        let body = std::mem::replace(&mut invocation.body, Bytes::from_static(NOTHING));
        self.body.replace(body);
        self.inner.call(invocation)
    }
}

#[cfg(test)]
mod tests {
    use lambda_runtime::{Context, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_handler_takes_its_own_events_bytes_and_the_runtime_parses_none_of_them() {
        let body = EventBody::default();
        let kept = body.clone();
        let inner = service_fn(move |invocation: LambdaInvocation| {
            let taken = kept.take();
            async move { Ok::<_, lambda_runtime::Error>((taken, invocation.body)) }
        });
        let mut service = body.layer(inner);
        for event in ["{\"Records\":[]}", "no JSON at all"] {
            let (parts, ()) = http::Response::new(()).into_parts();
            let invocation = LambdaInvocation {
                parts,
                body: Bytes::from_static(event.as_bytes()),
                context: Context::default(),
            };
            let answer = service.call(invocation).await;
            let (taken, given) = answer.unwrap();
            assert_eq!((taken, given), (event.into(), Bytes::from_static(NOTHING)));
            assert!(service.body.take().is_empty(), "it is given once");
        }
    }
}
