//! One attempt of a Task state.

use std::borrow::Cow;
use std::time::Duration;

use futures::future::{BoxFuture, Either, FutureExt as _, select};
use serde_json::{Value, json};

use crate::Pause;
use crate::definition::{Resource, Task};
use crate::error::{ExecutionFailed, TaskError, names};
use crate::limit;
use crate::visit::Visit;
use crate::walk::Walker;

impl Walker<'_> {
    /// Calls what the state calls once, and shapes what it returns into the state's output.
    pub(crate) async fn task(
        &self,
        visit: &Visit<'_, '_>,
        task: &Task,
    ) -> Result<Value, ExecutionFailed> {
        let input = visit.effective_input()?;
        let payload = match &task.resource {
            Resource::LambdaInvoke { payload, .. } => match payload {
                Some(template) => visit.fill("Parameters.Payload", template, &input)?,
                None => json!({}),
            },
            Resource::Function { parameters, .. } => match parameters {
                Some(template) => visit.fill("Parameters", template, &input)?,
                None => Cow::into_owned(input),
            },
            Resource::StartExecution {
                input: template, ..
            } => visit.fill("Parameters.Input", template, &input)?,
        };
        limit::check(visit.name, "task's payload", &payload)?;
        let returned = self
            .within(visit, task.timeout, self.call(&task.resource, payload))
            .await?;
        let result = match &task.resource {
            // The members of Lambda's own answer that are the same in every call.
            Resource::LambdaInvoke { .. } => json!({
                "ExecutedVersion": "$LATEST",
                "Payload": returned,
                "StatusCode": 200,
            }),
            Resource::Function { .. } => returned,
            Resource::StartExecution { .. } => json!({"ExecutionArn": returned}),
        };
        limit::check(visit.name, "task's result", &result)?;
        let selected = match &task.outcome.selector {
            Some(template) => visit.fill("ResultSelector", template, &result)?,
            None => result,
        };
        visit.output(visit.place(&task.outcome.result_path, selected)?)
    }

    fn call<'b>(
        &'b self,
        resource: &'b Resource,
        payload: Value,
    ) -> BoxFuture<'b, Result<Value, TaskError>> {
        match resource {
            Resource::LambdaInvoke { function, .. } | Resource::Function { function, .. } => {
                self.tasks.invoke(function, payload)
            }
            Resource::StartExecution { machine, .. } => {
                let started = self.tasks.start_execution(machine, payload);
                started.map(|arn| arn.map(Value::String)).boxed()
            }
        }
    }

    async fn within(
        &self,
        visit: &Visit<'_, '_>,
        timeout: Option<Duration>,
        call: BoxFuture<'_, Result<Value, TaskError>>,
    ) -> Result<Value, ExecutionFailed> {
        let returned = match timeout {
            None => call.await,
            // The call is polled first: an answer that is there in time counts, however late it is seen.
            Some(timeout) => match select(call, self.pause(Pause::Timeout, timeout)).await {
                Either::Left((returned, _)) => returned,
                Either::Right(((), _)) => {
                    let cause = format!("no answer within {timeout:?}");
                    return Err(ExecutionFailed::named(visit.name, names::TIMEOUT, cause));
                }
            },
        };
        returned.map_err(|error| ExecutionFailed::of_task(visit.name, error))
    }
}
