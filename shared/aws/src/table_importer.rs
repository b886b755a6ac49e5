//! Has DynamoDB import a table from S3 by itself.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ImportStatus as SdkStatus, ImportTableDescription};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::table_admin::{ImportState, ImportStatus, TableImporter};
use serde_json::Value;

use crate::failure;
use crate::request_body::RequestBody;

const IMPORT: &str = "ImportTable";
const DESCRIBE: &str = "DescribeImport";

/// Imports tables by `ImportTable`.
///
/// Needs `dynamodb:ImportTable`, `dynamodb:DescribeImport`, and what the import does in the caller's name:
/// `s3:ListBucket` and `s3:GetObject`, and rights on the log group `/aws-dynamodb/imports`.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Requesting.html>
#[derive(Clone, Debug)]
pub struct DynamoImporter {
    client: Client,
}

impl DynamoImporter {
    /// An importer over this client, which should retry.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl TableImporter for DynamoImporter {
    async fn import_table(&self, request: &Value) -> Result<String, Failure> {
        let text = |path| request.pointer(path).and_then(Value::as_str);
        let table = text("/TableCreationParameters/TableName").unwrap_or("(no table name)");
        let token = text("/ClientToken").filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| {
            let message =
                "the request has no ClientToken: a repeated call would begin another import";
            Failure::new(FailureKind::Invalid, IMPORT, table, message)
        })?;
        let output = self
            .client
            .import_table()
            .client_token(token)
            .customize()
            .interceptor(RequestBody::of_json(request))
            .send()
            .await
            .map_err(|error| failure::from_sdk(IMPORT, table, error))?;
        output
            .import_table_description()
            .and_then(ImportTableDescription::import_arn)
            .map(str::to_owned)
            .ok_or_else(|| {
                let message = "the answer has no ImportArn";
                Failure::new(FailureKind::Corrupt, IMPORT, table, message)
            })
    }

    async fn describe_import(&self, import_arn: &str) -> Result<ImportState, Failure> {
        let output = self
            .client
            .describe_import()
            .import_arn(import_arn)
            .send()
            .await
            .map_err(|error| failure::from_sdk(DESCRIBE, import_arn, error))?;
        output
            .import_table_description()
            .ok_or_else(|| "the answer has no ImportTableDescription".to_owned())
            .and_then(state)
            .map_err(|message| Failure::new(FailureKind::Corrupt, DESCRIBE, import_arn, message))
    }
}

/// What the service says of an import, in the port's words.
fn state(import: &ImportTableDescription) -> Result<ImportState, String> {
    let count = |name: &str, count: i64| {
        u64::try_from(count).map_err(|_| format!("the answer's {name} is {count}"))
    };
    Ok(ImportState {
        status: status(import.import_status())?,
        imported_items: count("ImportedItemCount", import.imported_item_count())?,
        processed_items: count("ProcessedItemCount", import.processed_item_count())?,
        processed_bytes: count(
            "ProcessedSizeBytes",
            import.processed_size_bytes().unwrap_or(0),
        )?,
        errors: count("ErrorCount", import.error_count())?,
        failure: reason(import.failure_code(), import.failure_message()),
        log_group: import.cloud_watch_log_group_arn().map(str::to_owned),
    })
}

fn status(status: Option<&SdkStatus>) -> Result<ImportStatus, String> {
    match status {
        Some(SdkStatus::InProgress) => Ok(ImportStatus::InProgress),
        Some(SdkStatus::Completed) => Ok(ImportStatus::Completed),
        Some(SdkStatus::Cancelling) => Ok(ImportStatus::Cancelling),
        Some(SdkStatus::Cancelled) => Ok(ImportStatus::Cancelled),
        Some(SdkStatus::Failed) => Ok(ImportStatus::Failed),
        Some(other) => Err(format!(
            "the answer's ImportStatus is {:?}, which this version does not know",
            other.as_str()
        )),
        None => Err("the answer has no ImportStatus".to_owned()),
    }
}

/// Code and message, on one line, of whichever there are.
fn reason(code: Option<&str>, message: Option<&str>) -> Option<String> {
    match (code, message) {
        (None, None | Some("")) => None,
        (code, message) => Some(failure::service_message(
            code,
            message.unwrap_or_default(),
            200,
        )),
    }
}
