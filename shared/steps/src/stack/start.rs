//! Starts an execution, once per name.

use std::time::Duration;

use highwater_domain::executions::{ExecutionState, ExecutionStatus, Executions, Start};
use highwater_domain::ids::UnixMillis;
use highwater_domain::stack::{ExecutionName, execution_arn};
use serde_json::Value;
use tokio::time::sleep;

use crate::stack::{JobId, JobRequest, Stack, StackError};

/// An execution that was started, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its ARN.
    pub arn: String,
    /// When it started.
    pub started_at: UnixMillis,
    /// What comes of it.
    pub job: JobId,
    /// Where it is, if the name was found to be given to the same request before. `None` says that it runs; an
    /// earlier request's execution that still runs is not told from a new one.
    pub before: Option<ExecutionStatus>,
}

/// How often, a second apart, an execution whose name is taken is looked for: descriptions come later than names.
const LOOKS: u32 = 5;

/// Starts an execution of this name. A second start of the same name and request finds the first.
pub async fn start(
    executions: &dyn Executions,
    stack: &Stack,
    name: &ExecutionName,
    request: &JobRequest,
) -> Result<Started, StackError> {
    request.check().map_err(StackError::Step)?;
    let machine = stack.machine(request.workflow());
    let input = request.input().map_err(StackError::Step)?;
    let started = executions
        .start(&machine.arn, name.as_str(), &input.to_string())
        .await
        .map_err(StackError::Service)?;
    let (arn, started_at, before) = match started {
        Start::Started { arn, started_at } => (arn, started_at, None),
        Start::NameTaken => {
            let taken = || StackError::NameTaken {
                name: name.as_str().to_owned(),
                status: None,
            };
            let arn = execution_arn(&machine.arn, name.as_str()).ok_or_else(taken)?;
            let there = look_for(executions, &arn).await?.ok_or_else(taken)?;
            if !has_input(&there, &input) {
                return Err(StackError::NameTaken {
                    name: name.as_str().to_owned(),
                    status: Some(there.status.as_str().to_owned()),
                });
            }
            (there.arn, there.started_at, Some(there.status))
        }
    };
    let job = request.job(&arn, started_at).map_err(StackError::Step)?;
    Ok(Started {
        arn,
        started_at,
        job,
        before,
    })
}

async fn look_for(
    executions: &dyn Executions,
    arn: &str,
) -> Result<Option<ExecutionState>, StackError> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(Duration::from_secs(1)).await;
        }
        let described = executions.describe(arn).await;
        if let Some(state) = described.map_err(StackError::Service)? {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// Whether an execution was asked for the same, however it was written.
fn has_input(there: &ExecutionState, input: &Value) -> bool {
    let text = there.input.as_deref().unwrap_or_default();
    serde_json::from_str::<Value>(text).is_ok_and(|there| there == *input)
}
