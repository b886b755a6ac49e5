//! The life of a function that events with items come to: nothing of them is parsed twice, and nothing is logged.

use std::future::Future;

use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_steps::consume_stream::{ConsumeInput, ConsumeOutput};
use highwater_steps::{LiveObserver as _, StepError};
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::{LambdaEvent, Runtime, service_fn};

use crate::config::Config;
use crate::event_body::EventBody;
use crate::invocation::{Ids, Subject};
use crate::observed::Observed;
use crate::serve::{Invocation, StartError, refuse};

/// Answers a stream's batches with `step` until the sandbox ends, as [`serve`](crate::serve) does with other events.
///
/// The step is given slices of the event's own bytes, so that records stay as they came. A message about an event that cannot be
/// read names the place in it and no content.
pub async fn serve_stream<D, S, F>(deps: D, step: S) -> Result<(), StartError>
where
    D: Observed,
    S: Fn(D, ConsumeInput, Budget) -> F,
    F: Future<Output = Result<ConsumeOutput, StepError>> + Send + 'static,
{
    let stack = Config::from_pairs(std::env::vars())?.stack;
    let (deps, step, stack) = (&deps, &step, &stack);
    let body = EventBody::default();
    let kept = body.clone();
    let handler = service_fn(move |event: LambdaEvent<()>| {
        let (payload, context) = (kept.take(), event.context);
        async move {
            let span = Ids::span(&context);
            span.in_scope(|| tracing::debug!(bytes = payload.len(), "invoked"));
            let input = match read(&payload) {
                Ok(input) => input,
                Err(message) => {
                    let failure = refuse(&span, message);
                    // It comes again, like every batch that is answered with an error.
                    let nothing = Invocation::new(&context, span, &Ids::default(), stack.clone());
                    nothing.observer.delivered(true);
                    nothing.observer.flush();
                    return Err(failure);
                }
            };
            drop(payload);
            let invocation = Invocation::new(&context, span, &input.ids(), stack.clone());
            invocation
                .run(deps, |deps, budget| step(deps, input, budget))
                .await
        }
    });
    let runtime = Runtime::new(handler).layer(body);
    let runtime = runtime.layer(TracingLayer::new());
    runtime.run().await.map_err(StartError::Runtime)
}

fn read(payload: &Bytes) -> Result<ConsumeInput, String> {
    ConsumeInput::read(payload).map_err(|error| {
        format!(
            "the event is no batch of a DynamoDB stream: {:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_cannot_be_read_is_told_without_its_content() {
        let payload = Bytes::from_static(br#"{"Records":"secret 4711"}"#);
        let message = read(&payload).unwrap_err();
        assert!(message.contains("line 1"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
