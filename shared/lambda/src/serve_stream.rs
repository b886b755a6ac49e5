//! The life of a function that events with items come to: nothing of them is parsed twice, and nothing is logged.

use std::future::Future;

use highwater_domain::budget::Budget;
use highwater_steps::{LiveObserver as _, StepError};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::invocation::{Ids, Subject};
use crate::observed::Observed;
use crate::serve::{Invocation, StartError, refuse};

/// Answers a stream's batches with `step` until the sandbox ends, as [`serve`](crate::serve) does with other events.
///
/// The step reads the event's own bytes, so that records stay as they came. A message about an event that cannot be
/// read names the place in it and no content.
pub async fn serve_stream<D, I, O, S, F>(deps: D, step: S) -> Result<(), StartError>
where
    D: Observed,
    I: Subject + DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    S: Fn(D, I, Budget) -> F,
    F: Future<Output = Result<O, StepError>> + Send + 'static,
{
    let stack = Config::from_pairs(std::env::vars())?.stack;
    let (deps, step, stack) = (&deps, &step, &stack);
    let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        let LambdaEvent { payload, context } = event;
        let span = Ids::span(&context);
        let bytes = payload.get().len();
        span.in_scope(|| tracing::debug!(bytes, "invoked"));
        let input: I = match read(&payload) {
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
    });
    lambda_runtime::run(handler)
        .await
        .map_err(StartError::Runtime)
}

fn read<I: DeserializeOwned>(payload: &RawValue) -> Result<I, String> {
    serde_json::from_str(payload.get()).map_err(|error| {
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
        let payload = RawValue::from_string(r#"{"secret":"4711"}"#.into()).unwrap();
        let message = read::<Vec<u8>>(&payload).unwrap_err();
        assert!(message.contains("line 1"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
