//! Makes and changes tables by requests in the service's own JSON.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::Creation;
use highwater_domain::table::TableDescriber;
use highwater_domain::table_admin::{ChangeCall, TableAdmin, TableChange};
use serde_json::Value;

use crate::request_body::RequestBody;
use crate::{DynamoDescriber, failure};

const CREATE: &str = "CreateTable";

/// Codes of a table that is at work on something else, or not yet ready for this.
const BUSY: &[&str] = &[
    "ResourceInUseException",
    "TableInUseException",
    "ContinuousBackupsUnavailableException",
];

/// Creates tables and changes their settings.
///
/// A change that the service refuses counts as made if the table is found to be as asked, because the
/// service refuses to enable what is enabled. A table that is busy is a
/// [`Transient`](FailureKind::Transient) failure: wait and repeat.
///
/// Needs `dynamodb:CreateTable`, `UpdateTable`, `UpdateTimeToLive`, `UpdateContinuousBackups`, `TagResource`,
/// `UntagResource`, and what [`DynamoDescriber`] needs.
#[derive(Clone, Debug)]
pub struct DynamoAdmin {
    client: Client,
    describer: DynamoDescriber,
}

impl DynamoAdmin {
    /// An admin over this client, which should retry.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            describer: DynamoDescriber::new(client.clone()),
            client,
        }
    }

    /// Sends a change as it is.
    async fn send(&self, change: &TableChange, target: &str) -> Result<(), Failure> {
        let body = RequestBody::of_json(&change.request);
        match change.call {
            ChangeCall::UpdateTable => {
                let call = self.client.update_table().table_name(target);
                judged(
                    change,
                    target,
                    call.customize().interceptor(body).send().await,
                )
            }
            ChangeCall::UpdateTimeToLive => {
                let call = self.client.update_time_to_live().table_name(target);
                judged(
                    change,
                    target,
                    call.customize().interceptor(body).send().await,
                )
            }
            ChangeCall::UpdateContinuousBackups => {
                let call = self.client.update_continuous_backups().table_name(target);
                judged(
                    change,
                    target,
                    call.customize().interceptor(body).send().await,
                )
            }
            ChangeCall::TagResource => {
                let call = self.client.tag_resource().resource_arn(target);
                judged(
                    change,
                    target,
                    call.customize().interceptor(body).send().await,
                )
            }
            ChangeCall::UntagResource => {
                let call = self.client.untag_resource().resource_arn(target);
                judged(
                    change,
                    target,
                    call.customize().interceptor(body).send().await,
                )
            }
        }
    }
}

#[async_trait]
impl TableAdmin for DynamoAdmin {
    async fn create_table(&self, request: &Value) -> Result<Creation, Failure> {
        let table = named(request, "TableName", CREATE)?;
        let result = self
            .client
            .create_table()
            .table_name(table)
            .customize()
            .interceptor(RequestBody::of_json(request))
            .send()
            .await;
        match result {
            Ok(_) => Ok(Creation::Created),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(CreateTableError::is_resource_in_use_exception) =>
            {
                Ok(Creation::Exists)
            }
            Err(error) => Err(failure::from_sdk(CREATE, table, error)),
        }
    }

    async fn change(&self, change: &TableChange) -> Result<(), Failure> {
        let member = match change.call {
            ChangeCall::TagResource | ChangeCall::UntagResource => "ResourceArn",
            _ => "TableName",
        };
        let target = named(&change.request, member, operation(change.call))?;
        let Err(refusal) = self.send(change, target).await else {
            return Ok(());
        };
        if refusal.kind != FailureKind::Invalid {
            return Err(refusal);
        }
        // The words of a refusal are not the setting's state, and they change: what counts is what is there.
        match self.describer.describe(target).await {
            Ok(settings) if change.is_in_force(&settings) => Ok(()),
            Err(failure) if failure.kind.is_retryable() => Err(failure),
            _ => Err(refusal),
        }
    }
}

/// The call in the service's word.
fn operation(call: ChangeCall) -> &'static str {
    match call {
        ChangeCall::UpdateTimeToLive => "UpdateTimeToLive",
        ChangeCall::UpdateTable => "UpdateTable",
        ChangeCall::UpdateContinuousBackups => "UpdateContinuousBackups",
        ChangeCall::TagResource => "TagResource",
        ChangeCall::UntagResource => "UntagResource",
    }
}

/// What a request is about.
fn named<'a>(
    request: &'a Value,
    member: &'static str,
    operation: &'static str,
) -> Result<&'a str, Failure> {
    request.get(member).and_then(Value::as_str).ok_or_else(|| {
        Failure::new(
            FailureKind::Invalid,
            operation,
            "a table without a name",
            format!("the request has no {member}"),
        )
    })
}

/// Judges a change's answer, its waits among them.
fn judged<T, E>(
    change: &TableChange,
    target: &str,
    result: Result<T, SdkError<E, HttpResponse>>,
) -> Result<(), Failure>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Err(error) = result else {
        return Ok(());
    };
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code);
    let busy = code.is_some_and(|code| BUSY.contains(&code));
    // UpdateTimeToLive's answer to a second change within the hour.
    let too_often = service
        .and_then(ProvideErrorMetadata::message)
        .is_some_and(|message| message.contains("modified multiple times within a fixed interval"));
    let mut failure = failure::from_sdk(operation(change.call), target, error);
    if busy {
        failure.kind = FailureKind::Transient;
    } else if too_often {
        failure.kind = FailureKind::Throttled;
    }
    Err(failure)
}
