//! DynamoDB's own ImportTable: what it is asked, and what must be set by hand because it takes so little.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ImportTable.html>

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::backup_source::Packing;
use crate::planned_changes::{stream_change, tag_change};
use crate::restore::{LoadTotals, RestoreRecord};
use crate::table_admin::{ChangeCall, ImportState, ImportStatus, TableChange};
use crate::table_plan::TablePlan;

/// The members of `CreateTable` that `TableCreationParameters` has too.
const IMPORT_TAKES: &[&str] = &[
    "TableName",
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "ProvisionedThroughput",
    "OnDemandThroughput",
    "SSESpecification",
    "GlobalSecondaryIndexes",
    "VectorIndexes",
];

/// What an import reads: every object under a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSource {
    /// The bucket.
    pub bucket: String,
    /// The prefix, with the `/` at its end.
    pub prefix: String,
    /// How all of its objects are compressed.
    pub packing: Packing,
}

impl fmt::Display for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl TablePlan {
    /// The same plan with DynamoDB's import as the one that makes and fills the table.
    ///
    /// What `CreateTable` takes and the import does not becomes a change after the load.
    #[must_use]
    pub fn into_import(mut self, source: ImportSource) -> Self {
        let Some(Value::Object(members)) = self.create.take() else {
            return self;
        };
        let name = members["TableName"].as_str().unwrap_or_default().to_owned();
        let (taken, others): (Map<String, Value>, Map<String, Value>) = members
            .into_iter()
            .partition(|(member, _)| IMPORT_TAKES.contains(&member.as_str()));
        // The import's table never carried the marker: the import's token takes its place.
        let mut after_load = std::mem::take(&mut self.before_load);
        after_load.extend(
            others
                .into_iter()
                .map(|(member, value)| later(&name, &member, value)),
        );
        after_load.extend(
            self.after_load
                .into_iter()
                .filter(|change| change.call != ChangeCall::UntagResource),
        );
        Self {
            create: Some(Value::Object(taken)),
            import: Some(source),
            after_load,
            ..self
        }
    }
}

/// A member of `CreateTable` as a change to the finished table.
fn later(name: &str, member: &str, value: Value) -> TableChange {
    match (member, value) {
        ("Tags", Value::Array(tags)) => tag_change(&tags),
        ("StreamSpecification", stream) => stream_change(name, &stream),
        (member, value) => TableChange {
            what: format!(
                "{member} {}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            ),
            call: ChangeCall::UpdateTable,
            request: json!({"TableName": name, member: value}),
        },
    }
}

/// The `ImportTable` request of a restore; `None` if its plan is not an import.
///
/// Its token is the restore's id, so that a repeated call finds the import that a lost call began. DynamoDB keeps
/// a token for eight hours.
#[must_use]
pub fn import_request(record: &RestoreRecord) -> Option<Value> {
    let plan = &record.table_plan;
    let (source, create) = (plan.import.as_ref()?, plan.create.as_ref()?);
    let packing = match source.packing {
        Packing::Gzip => "GZIP",
        Packing::Zstd => "ZSTD",
        Packing::None => "NONE",
    };
    Some(json!({
        "ClientToken": record.id.as_str(),
        "S3BucketSource": {"S3Bucket": source.bucket, "S3KeyPrefix": source.prefix},
        "InputFormat": "DYNAMODB_JSON",
        "InputCompressionType": packing,
        "TableCreationParameters": create,
    }))
}

/// What an import has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportOutcome {
    /// It has not ended.
    Running,
    /// It ended, and every item is in the table.
    Whole(LoadTotals),
    /// It ended, and not every item is; what is missing, and what to do.
    Broken(String),
}

/// Judges an import of a backup of `expected` items.
///
/// The status is not believed: an import completes with an empty table where its prefix matches nothing.
#[must_use]
pub fn import_outcome(expected: u64, state: &ImportState) -> ImportOutcome {
    if matches!(
        state.status,
        ImportStatus::InProgress | ImportStatus::Cancelling
    ) {
        return ImportOutcome::Running;
    }
    let whole = state.status == ImportStatus::Completed
        && state.imported_items == expected
        && state.errors == 0;
    if whole {
        return ImportOutcome::Whole(LoadTotals {
            read: expected,
            written: expected,
            plain_bytes: state.processed_bytes,
            ..LoadTotals::default()
        });
    }
    let mut reason = format!(
        "it is {}, with {} of {expected} items imported and {} errors",
        match state.status {
            ImportStatus::Completed => "completed",
            ImportStatus::Cancelled => "cancelled",
            _ => "failed",
        },
        state.imported_items,
        state.errors
    );
    if let Some(failure) = &state.failure {
        reason = format!("{reason} ({failure})");
    }
    if let Some(log_group) = &state.log_group {
        reason = format!("{reason}; each failed item has a line in the log group {log_group}");
    }
    ImportOutcome::Broken(format!(
        "{reason}. The table stays as the import left it: delete it and restore again with --engine write"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_plan::tests::{after, on_demand, plan};

    fn state(status: ImportStatus, imported_items: u64, errors: u64) -> ImportState {
        ImportState {
            status,
            imported_items,
            processed_items: imported_items + errors,
            processed_bytes: 77,
            errors,
            failure: None,
            log_group: None,
        }
    }

    #[test]
    fn only_every_item_without_an_error_is_whole() {
        use ImportStatus::{Cancelled, Cancelling, Completed, Failed, InProgress};
        let whole = import_outcome(5, &state(Completed, 5, 0));
        assert!(
            matches!(whole, ImportOutcome::Whole(totals) if totals.is_balanced() && totals.written == 5)
        );
        for (status, imported, errors) in [
            (Completed, 4, 0),
            (Completed, 6, 0),
            (Completed, 5, 1),
            (Failed, 5, 0),
            (Cancelled, 5, 0),
        ] {
            let outcome = import_outcome(5, &state(status, imported, errors));
            assert!(matches!(outcome, ImportOutcome::Broken(_)), "{outcome:?}");
        }
        for status in [InProgress, Cancelling] {
            assert_eq!(
                import_outcome(0, &state(status, 0, 0)),
                ImportOutcome::Running
            );
        }
        let empty = import_outcome(0, &state(Completed, 0, 0));
        assert!(matches!(empty, ImportOutcome::Whole(_)));
    }

    #[test]
    fn an_import_gets_what_it_takes_and_the_rest_comes_after() {
        let source = ImportSource {
            bucket: "bucket".into(),
            prefix: "x/data/".into(),
            packing: Packing::Zstd,
        };
        let before = plan(&on_demand());
        let import = before.clone().into_import(source.clone());
        let create = import.create.clone().unwrap();
        let members: Vec<&String> = create.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            [
                "AttributeDefinitions",
                "BillingMode",
                "GlobalSecondaryIndexes",
                "KeySchema",
                "OnDemandThroughput",
                "SSESpecification",
                "TableName"
            ]
        );
        assert_eq!(
            after(&import),
            [
                "TableClass STANDARD_INFREQUENT_ACCESS",
                "tags team",
                "TTL on attribute \"expires\"",
                "stream of NEW_AND_OLD_IMAGES",
                "point-in-time recovery, 7 days",
                "deletion protection",
            ],
            "order, and no marker to take off"
        );
        let class: Vec<&Value> = import
            .after_load
            .iter()
            .map(|it| &it.request)
            .take(2)
            .collect();
        assert_eq!(
            *class[0],
            json!({"TableName": "orders-2", "TableClass": "STANDARD_INFREQUENT_ACCESS"})
        );
        assert_eq!(
            *class[1],
            json!({"Tags": [{"Key": "team", "Value": "sales"}]})
        );
        assert_eq!(import.not_restored, before.not_restored);
        assert_eq!(import.import, Some(source));
    }
}
