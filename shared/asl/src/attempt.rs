//! Retry and Catch around a state that can fail.

use serde_json::{Value, json};

use crate::Pause;
use crate::definition::Outcome;
use crate::error::ExecutionFailed;
use crate::limit;
use crate::observe::Event;
use crate::retry::{Catcher, matches};
use crate::visit::Visit;
use crate::walk::{Step, Walker};

impl Walker<'_> {
    /// Runs `once` until it succeeds or its retriers give up; then a catcher leads on, if one matches.
    ///
    /// Each retrier counts for itself, and only the first that matches an error decides about it.
    pub(crate) async fn attempt<'d, F>(
        &self,
        visit: &Visit<'d, '_>,
        outcome: &'d Outcome,
        once: impl Fn() -> F,
    ) -> Result<Step<'d>, ExecutionFailed>
    where
        F: Future<Output = Result<Value, ExecutionFailed>>,
    {
        let mut counts = vec![0_u32; outcome.retry.len()];
        loop {
            let failure = match once().await {
                Ok(output) => return Ok(Step::new(output, &outcome.transition)),
                Err(failure) => failure,
            };
            let retrier = outcome
                .retry
                .iter()
                .zip(&mut counts)
                .find(|(retrier, _)| matches(&retrier.errors, &failure.error));
            if let Some((retrier, used)) = retrier
                && *used < retrier.max_attempts
                && self.options.retries
            {
                *used += 1;
                let delay = self.delay(retrier, *used);
                self.tell(&Event::Retrying {
                    state: visit.name,
                    item: visit.index,
                    failure: &failure,
                    attempt: *used,
                    delay,
                });
                self.pause(Pause::Retry, delay).await;
                continue;
            }
            let catcher = outcome
                .catch
                .iter()
                .find(|catcher| matches(&catcher.errors, &failure.error));
            return match catcher {
                Some(catcher) => self.caught(visit, catcher, &failure),
                None => Err(failure),
            };
        }
    }

    fn caught<'d>(
        &self,
        visit: &Visit<'d, '_>,
        catcher: &'d Catcher,
        failure: &ExecutionFailed,
    ) -> Result<Step<'d>, ExecutionFailed> {
        self.tell(&Event::Caught {
            state: visit.name,
            item: visit.index,
            failure,
            next: &catcher.next,
        });
        let error = json!({"Error": failure.error, "Cause": failure.cause});
        let output = visit.place(&catcher.result_path, error)?;
        limit::check(visit.name, "output", &output)?;
        Ok(Step {
            output,
            next: Some(&catcher.next),
        })
    }
}
