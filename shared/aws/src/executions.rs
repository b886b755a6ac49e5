//! Step Functions: finds, starts and stops executions.
//!
//! Apart from [`Clients`](crate::Clients), because no function needs it: a program pays for an SDK that it uses.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types as sdk;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use highwater_domain::executions::{
    ExecutionState, ExecutionStatus, Executions, Listed, Machine, RunningExecution, Start,
};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;

use crate::connection::{ConnectionSettings, sfn_config};
use crate::failure;

const MACHINES: &str = "ListStateMachines";
const TAGS: &str = "ListTagsForResource";
const START: &str = "StartExecution";
const DESCRIBE: &str = "DescribeExecution";
const RUNNING: &str = "ListExecutions";
const STOP: &str = "StopExecution";

/// What the listings are of, where no ARN is asked for.
const ACCOUNT: &str = "the account's state machines";

/// The most that a page holds.
const PER_PAGE: i32 = 1000;

/// Executions of the account's state machines.
///
/// Needs `states:ListStateMachines`, `ListTagsForResource`, `StartExecution`, `DescribeExecution`, `ListExecutions`
/// and `StopExecution`, each for what is asked of it. Throttles and failures in passing are retried.
///
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_Operations.html>
#[derive(Clone, Debug)]
pub struct SfnExecutions {
    client: Client,
}

impl SfnExecutions {
    /// Resolves region, endpoint and credentials as [`Clients::connect`](crate::Clients::connect) does.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] if no region is known or the endpoint is no URL.
    pub async fn connect(settings: &ConnectionSettings) -> Result<Self, Failure> {
        let config = sfn_config(settings).await?;
        Ok(Self {
            client: Client::from_conf(config),
        })
    }
}

#[async_trait]
impl Executions for SfnExecutions {
    async fn machines(&self, after: Option<&str>) -> Result<Listed<Machine>, Failure> {
        let page = self
            .client
            .list_state_machines()
            .max_results(PER_PAGE)
            .set_next_token(after.map(str::to_owned))
            .send()
            .await
            .map_err(|error| failed(MACHINES, ACCOUNT, error))?;
        let machine = |item: &sdk::StateMachineListItem| Machine {
            name: item.name.clone(),
            arn: item.state_machine_arn.clone(),
        };
        listed(
            MACHINES,
            ACCOUNT,
            after,
            page.state_machines().iter().map(machine).collect(),
            page.next_token.clone(),
        )
    }

    async fn tags(&self, machine_arn: &str) -> Result<BTreeMap<String, String>, Failure> {
        let call = self.client.list_tags_for_resource();
        let answer = call.resource_arn(machine_arn).send().await;
        let answer = answer.map_err(|error| failed(TAGS, machine_arn, error))?;
        let tags = answer.tags.unwrap_or_default().into_iter();
        Ok(tags
            .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
            .collect())
    }

    async fn start(&self, machine_arn: &str, name: &str, input: &str) -> Result<Start, Failure> {
        let call = self.client.start_execution();
        let answer = call
            .state_machine_arn(machine_arn)
            .name(name)
            .input(input)
            .send()
            .await;
        match answer {
            Ok(started) => Ok(Start::Started {
                started_at: millis(START, name, &started.start_date)?,
                arn: started.execution_arn,
            }),
            Err(error) if code(&error) == Some("ExecutionAlreadyExists") => Ok(Start::NameTaken),
            Err(error) => Err(failed(START, format!("{name} of {machine_arn}"), error)),
        }
    }

    async fn describe(&self, execution_arn: &str) -> Result<Option<ExecutionState>, Failure> {
        let call = self.client.describe_execution();
        let answer = match call.execution_arn(execution_arn).send().await {
            Ok(answer) => answer,
            Err(error) if code(&error) == Some("ExecutionDoesNotExist") => return Ok(None),
            Err(error) => return Err(failed(DESCRIBE, execution_arn, error)),
        };
        let moment = |at: &DateTime| millis(DESCRIBE, execution_arn, at);
        let name = match answer.name {
            Some(name) => name,
            None => execution_arn.rsplit(':').next().unwrap_or_default().into(),
        };
        Ok(Some(ExecutionState {
            name,
            status: ExecutionStatus::of_word(answer.status.as_str()),
            started_at: moment(&answer.start_date)?,
            stopped_at: answer.stop_date.as_ref().map(moment).transpose()?,
            arn: answer.execution_arn,
            machine_arn: answer.state_machine_arn,
            input: answer.input,
            error: answer.error,
            cause: answer.cause,
        }))
    }

    async fn running(
        &self,
        machine_arn: &str,
        after: Option<&str>,
    ) -> Result<Listed<RunningExecution>, Failure> {
        let page = self
            .client
            .list_executions()
            .state_machine_arn(machine_arn)
            .status_filter(sdk::ExecutionStatus::Running)
            .max_results(PER_PAGE)
            .set_next_token(after.map(str::to_owned))
            .send()
            .await
            .map_err(|error| failed(RUNNING, machine_arn, error))?;
        let mut found = Vec::new();
        for item in page.executions() {
            found.push(RunningExecution {
                arn: item.execution_arn.clone(),
                name: item.name.clone(),
                started_at: millis(RUNNING, &item.execution_arn, &item.start_date)?,
            });
        }
        listed(RUNNING, machine_arn, after, found, page.next_token)
    }

    async fn stop(&self, execution_arn: &str, error: &str, cause: &str) -> Result<(), Failure> {
        let call = self.client.stop_execution().execution_arn(execution_arn);
        let answer = call.error(error).cause(cause).send().await;
        answer.map_err(|error| failed(STOP, execution_arn, error))?;
        Ok(())
    }
}

/// A page, unless it leads back to itself.
fn listed<T>(
    operation: &'static str,
    resource: &str,
    after: Option<&str>,
    found: Vec<T>,
    next: Option<String>,
) -> Result<Listed<T>, Failure> {
    let next = next.filter(|token| !token.is_empty());
    if next.is_some() && next.as_deref() == after {
        let why = "a page of the listing leads back to itself";
        return Err(Failure::new(FailureKind::Corrupt, operation, resource, why));
    }
    Ok(Listed { found, next })
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(E::code)
}

fn failed<E>(
    operation: &'static str,
    resource: impl Into<String>,
    error: SdkError<E, HttpResponse>,
) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    failure::from_sdk(operation, resource, error)
}

/// To the nearest millisecond. The wire has seconds as a decimal fraction, of which the SDK makes a binary one and cuts
/// off what is beyond its precision: `.622` comes as `.621999979`.
fn millis(operation: &'static str, resource: &str, at: &DateTime) -> Result<UnixMillis, Failure> {
    let nanos = at.as_nanos().saturating_add(500_000);
    u64::try_from(nanos / 1_000_000)
        .map(UnixMillis)
        .map_err(|_| {
            let why = format!("{at:?} is no moment after 1970");
            Failure::new(FailureKind::Corrupt, operation, resource, why)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_rounded_to_the_millisecond_that_was_sent() {
        for sent in [1_768_385_930_622_u64, 1_768_385_930_000, 1_700_000_000_999] {
            #[expect(clippy::cast_precision_loss, reason = "the wire's own form")]
            let seconds = sent as f64 / 1000.0;
            let at = DateTime::from_secs_f64(seconds);
            assert_eq!(millis(START, "x", &at).unwrap(), UnixMillis(sent));
        }
        let cut = DateTime::from_secs_f64(1_768_385_930.622);
        assert_eq!(cut.to_millis().unwrap(), 1_768_385_930_621, "why it rounds");
        assert!(millis(START, "x", &DateTime::from_secs(-1)).is_err());
    }

    #[test]
    fn a_page_that_leads_back_to_itself_is_no_page() {
        let page =
            |next: Option<&str>| listed(RUNNING, "m", Some("t"), vec![1], next.map(str::to_owned));
        assert_eq!(page(Some("u")).unwrap().next.as_deref(), Some("u"));
        assert_eq!(page(Some("")).unwrap().next, None);
        assert_eq!(page(Some("t")).unwrap_err().kind, FailureKind::Corrupt);
    }
}
