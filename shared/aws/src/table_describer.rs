//! Reads a table's settings as the service's own JSON.
//!
//! The SDK asks and retries, but what it would parse is thrown away: the body of each answer is kept
//! as it came, so that a setting which this SDK has never heard of is still in the backup.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::table::{
    TABLE_JSON_VERSION, TableDescriber, TableSettings, UnavailableSetting,
};
use serde_json::{Map, Value};

use crate::failure;

/// Reads tables' settings from DynamoDB.
///
/// Needs `dynamodb:DescribeTable`; also asks `DescribeTimeToLive`, `ListTagsOfResource` and
/// `DescribeContinuousBackups`, and notes which of these it was refused. A call that the service could
/// not serve for now, after the client's retries, fails as a whole: a setting is not left out for a
/// moment's weather.
#[derive(Clone, Debug)]
pub struct DynamoDescriber {
    client: Client,
}

impl DynamoDescriber {
    /// A describer over this client, which should retry.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn table(&self, table: &str) -> Result<Value, Failure> {
        let answer = Answer::default();
        let result = self
            .client
            .describe_table()
            .table_name(table)
            .customize()
            .interceptor(answer.clone())
            .send()
            .await;
        answer.member("DescribeTable", table, result, "Table")
    }

    async fn time_to_live(&self, table: &str) -> Result<Value, Failure> {
        let answer = Answer::default();
        let result = self
            .client
            .describe_time_to_live()
            .table_name(table)
            .customize()
            .interceptor(answer.clone())
            .send()
            .await;
        answer.member("DescribeTimeToLive", table, result, "TimeToLiveDescription")
    }

    async fn continuous_backups(&self, table: &str) -> Result<Value, Failure> {
        let answer = Answer::default();
        let result = self
            .client
            .describe_continuous_backups()
            .table_name(table)
            .customize()
            .interceptor(answer.clone())
            .send()
            .await;
        answer.member(
            "DescribeContinuousBackups",
            table,
            result,
            "ContinuousBackupsDescription",
        )
    }

    /// All tags of the table with this ARN, from however many pages.
    async fn tags(&self, arn: &str) -> Result<Value, Failure> {
        const CALL: &str = "ListTagsOfResource";
        let mut tags = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let answer = Answer::default();
            let result = self
                .client
                .list_tags_of_resource()
                .resource_arn(arn)
                .set_next_token(token.clone())
                .customize()
                .interceptor(answer.clone())
                .send()
                .await;
            let mut page = answer.object(CALL, arn, result)?;
            match page.remove("Tags") {
                Some(Value::Array(more)) => tags.extend(more),
                None | Some(Value::Null) => {}
                Some(_) => return Err(corrupt(CALL, arn, "`Tags` is not an array".to_owned())),
            }
            let next = page
                .get("NextToken")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if next.is_none() {
                return Ok(Value::Array(tags));
            }
            if next == token {
                return Err(corrupt(CALL, arn, "NextToken does not move on".to_owned()));
            }
            token = next;
        }
    }
}

#[async_trait]
impl TableDescriber for DynamoDescriber {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        let description = self.table(table).await?;
        let mut unavailable = Vec::new();
        let time_to_live = or_note(self.time_to_live(table).await, &mut unavailable)?;
        let tags = match description.get("TableArn").and_then(Value::as_str) {
            Some(arn) => self.tags(arn).await,
            None => Err(corrupt(
                "ListTagsOfResource",
                table,
                "DescribeTable gave no TableArn to ask with".to_owned(),
            )),
        };
        let tags = or_note(tags, &mut unavailable)?;
        let continuous_backups = or_note(self.continuous_backups(table).await, &mut unavailable)?;
        Ok(TableSettings {
            version: TABLE_JSON_VERSION,
            table: description,
            time_to_live,
            tags,
            continuous_backups,
            unavailable,
        })
    }

    /// One call, not four: this is asked before every round of a scan.
    async fn description(&self, table: &str) -> Result<Value, Failure> {
        self.table(table).await
    }

    async fn table_id(&self, table: &str) -> Result<Option<String>, Failure> {
        let description = self.table(table).await?;
        Ok(description
            .get("TableId")
            .and_then(Value::as_str)
            .map(str::to_owned))
    }
}

/// Notes a setting that the service or a policy will not tell; what may pass is not noted but returned.
fn or_note(
    result: Result<Value, Failure>,
    unavailable: &mut Vec<UnavailableSetting>,
) -> Result<Option<Value>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.kind.is_retryable() || failure.kind == FailureKind::Unreachable => {
            Err(failure)
        }
        Err(failure) => {
            unavailable.push(UnavailableSetting {
                call: failure.operation.to_owned(),
                reason: failure.message,
            });
            Ok(None)
        }
    }
}

fn corrupt(operation: &'static str, resource: &str, message: String) -> Failure {
    Failure::new(FailureKind::Corrupt, operation, resource, message)
}

/// Keeps the bytes of the last good answer of one call.
#[derive(Clone, Debug, Default)]
struct Answer(Arc<Mutex<Option<Bytes>>>);

#[dyn_dispatch_hint]
impl Intercept for Answer {
    fn name(&self) -> &'static str {
        "Answer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response
            .body()
            .bytes()
            .filter(|_| response.status().is_success())
            .map(Bytes::copy_from_slice);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body;
        Ok(())
    }
}

impl Answer {
    /// The answer as a JSON object, once its call is over.
    fn object<T, E>(
        &self,
        operation: &'static str,
        resource: &str,
        result: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<Map<String, Value>, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        result.map_err(|error| failure::from_sdk(operation, resource, error))?;
        let body = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_default();
        serde_json::from_slice(&body).map_err(|error| {
            corrupt(
                operation,
                resource,
                format!("the answer is no JSON object: {error}"),
            )
        })
    }

    /// One member of the answer.
    fn member<T, E>(
        &self,
        operation: &'static str,
        resource: &str,
        result: Result<T, SdkError<E, HttpResponse>>,
        name: &str,
    ) -> Result<Value, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.object(operation, resource, result)?
            .remove(name)
            .filter(|value| !value.is_null())
            .ok_or_else(|| corrupt(operation, resource, format!("the answer has no {name}")))
    }
}
