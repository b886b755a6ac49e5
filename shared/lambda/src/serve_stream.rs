//! The life of a function that events with items come to: nothing of them is parsed twice, and nothing is logged.

use std::future::Future;

use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::ids::UnixMillis;
use highwater_steps::{ErrorName, StepError};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::failure::StepFailure;
use crate::ports::SystemClock;
use crate::serve::{StartError, finish};

/// Answers a stream's batches with `step` until the sandbox ends, as [`serve`](crate::serve) does with other events.
///
/// The step reads the event's own bytes, so that records stay as they came. A message about an event that cannot be
/// read names the place in it and no content.
pub async fn serve_stream<D, I, O, S, F>(deps: D, step: S) -> Result<(), StartError>
where
    D: Clone,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    S: Fn(D, I, Budget) -> F,
    F: Future<Output = Result<O, StepError>> + Send + 'static,
{
    let (deps, step) = (&deps, &step);
    let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        let bytes = event.payload.get().len();
        tracing::debug!(bytes, "invoked");
        let input: I = read(&event.payload)?;
        drop(event.payload);
        let budget = Budget::until(UnixMillis(event.context.deadline), SystemClock.now());
        let span = tracing::info_span!("batch", request_id = event.context.request_id);
        // A task of its own only so that a panic becomes an answer: it is over before the invocation is.
        let outcome = tokio::spawn(step(deps.clone(), input, budget).instrument(span)).await;
        finish(outcome)
    });
    lambda_runtime::run(handler)
        .await
        .map_err(StartError::Runtime)
}

fn read<I: DeserializeOwned>(payload: &RawValue) -> Result<I, StepFailure> {
    serde_json::from_str(payload.get()).map_err(|error| StepFailure {
        name: ErrorName::InvalidInput,
        message: format!(
            "the event is no batch of a DynamoDB stream: {:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_cannot_be_read_is_told_without_its_content() {
        let payload = RawValue::from_string(r#"{"secret":"4711"}"#.into()).unwrap();
        let error = read::<Vec<u8>>(&payload).unwrap_err();
        assert_eq!(error.name, ErrorName::InvalidInput);
        assert!(error.message.contains("line 1"), "{}", error.message);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}
