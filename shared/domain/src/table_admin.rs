//! The port through which tables are made and set up, by us or by DynamoDB's own import.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::object_store::Creation;

/// The calls that set something on a table that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeCall {
    /// `UpdateTimeToLive`.
    UpdateTimeToLive,
    /// `UpdateTable`.
    UpdateTable,
    /// `UpdateContinuousBackups`.
    UpdateContinuousBackups,
    /// `TagResource`. The request may lack its `ResourceArn`, see [`TableChange::addressed_to`].
    TagResource,
    /// `UntagResource`, likewise.
    UntagResource,
}

/// One setting that is made after the table is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableChange {
    /// In people's words: `TTL on attribute "expires"`.
    pub what: String,
    /// The call.
    pub call: ChangeCall,
    /// Its request, in the service's own JSON.
    pub request: Value,
}

/// Makes and changes tables.
///
/// Requests are the service's own JSON and are sent as they are, so that a setting which this version has never
/// heard of can be restored.
///
/// # Laws
/// - [`create_table`](Self::create_table) answers [`Creation::Exists`] if the name is taken, whoever took it.
/// - [`change`](Self::change) succeeds if the setting already is as asked: it can be repeated.
/// - What only has to wait fails with a [retryable](crate::failure::FailureKind::is_retryable) kind: the table is
///   busy with another change (`ResourceInUseException`), too many changes are under way (`LimitExceededException`),
///   backups are being enabled (`ContinuousBackupsUnavailableException`).
#[async_trait]
pub trait TableAdmin: Debug + Send + Sync {
    /// `CreateTable`. Does not wait until the table can be used.
    async fn create_table(&self, request: &Value) -> Result<Creation, Failure>;

    /// Makes one setting. Does not wait until it is in force.
    async fn change(&self, change: &TableChange) -> Result<(), Failure>;
}

/// Where an import is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImportStatus {
    /// DynamoDB is at work; its counters stay 0 until the end.
    InProgress,
    /// It ended. That does not say that everything was imported.
    Completed,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// It ended with errors; the table and the good items stay.
    Failed,
}

/// What `DescribeImport` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportState {
    /// Where it is.
    pub status: ImportStatus,
    /// Items that are in the table.
    pub imported_items: u64,
    /// Items that were looked at.
    pub processed_items: u64,
    /// Bytes that were looked at, uncompressed.
    pub processed_bytes: u64,
    /// Items that failed.
    pub errors: u64,
    /// The service's code and message, if it failed.
    pub failure: Option<String>,
    /// The log group that holds one line per failed item.
    pub log_group: Option<String>,
}

/// DynamoDB's own import from S3 into a new table.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.HowItWorks.html>
#[async_trait]
pub trait TableImporter: Debug + Send + Sync {
    /// `ImportTable`: begins an import and gives its ARN. The request's `ClientToken` makes a repeated call find
    /// the first one's import.
    async fn import_table(&self, request: &Value) -> Result<String, Failure>;

    /// `DescribeImport`.
    async fn describe_import(&self, import_arn: &str) -> Result<ImportState, Failure>;
}
