//! What AWS has and the embedded engine lacks: point-in-time recovery, and the import of tables.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use highwater_testkit::clients;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::tables::NewTable;
use highwater_testkit::wire_call::{Instead, WireCall};
use serde_json::{Value, json};

use super::account::TABLE;

/// Answers as the services do, as far as our functions look at it.
pub struct MissingServices {
    client: aws_sdk_dynamodb::Client,
    /// Tables with point-in-time recovery.
    recoverable: Mutex<BTreeSet<String>>,
    import: Mutex<Import>,
}

/// The one import that there is at a time.
#[derive(Clone, Debug, Default)]
struct Import {
    arn: String,
    status: &'static str,
    items: u64,
    failure: Option<&'static str>,
}

impl MissingServices {
    pub fn beside(dynamodb: &str) -> Arc<Self> {
        Arc::new(Self {
            client: clients::dynamodb(dynamodb),
            recoverable: Mutex::new([TABLE.to_owned()].into()),
            import: Mutex::default(),
        })
    }

    /// The next import will find so many items, and fail if there is a failure.
    pub fn will_import(&self, items: u64, failure: Option<&'static str>) {
        *self.import.lock().unwrap() = Import {
            items,
            failure,
            ..Import::default()
        };
    }

    /// The answer to a call that the engine does not know.
    pub fn answer(self: &Arc<Self>, call: &WireCall) -> Option<Instead> {
        let body = call.json();
        let answer = match call.operation.as_str() {
            "DescribeContinuousBackups" => self.recovery(&body),
            "UpdateContinuousBackups" => {
                let name = body["TableName"].as_str().unwrap_or_default();
                self.recoverable.lock().unwrap().insert(name.to_owned());
                self.recovery(&body)
            }
            "ImportTable" => self.begin(&body),
            "DescribeImport" => self.described(),
            _ => return None,
        };
        Some(Instead::Answer(call.answer(&answer)))
    }

    fn recovery(&self, body: &Value) -> Value {
        let name = body["TableName"].as_str().unwrap_or_default();
        let on = self.recoverable.lock().unwrap().contains(name);
        let status = if on { "ENABLED" } else { "DISABLED" };
        json!({"ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": status},
        }})
    }

    /// Makes the table meanwhile, as the service does: it is there when the import has ended.
    fn begin(self: &Arc<Self>, body: &Value) -> Value {
        let name = body["TableCreationParameters"]["TableName"]
            .as_str()
            .unwrap();
        let mut import = self.import.lock().unwrap();
        if import.arn.is_empty() {
            import.arn = format!(
                "arn:aws:dynamodb:dynoxide:000000000000:table/{name}/import/01768385930622-61b683f7"
            );
            import.status = "IN_PROGRESS";
            let (services, name) = (Arc::clone(self), name.to_owned());
            tokio::spawn(async move {
                let table = NewTable::new(&name, KeyShape::STRING);
                table.create(&services.client).await.unwrap();
                let mut import = services.import.lock().unwrap();
                import.status = if import.failure.is_some() {
                    "FAILED"
                } else {
                    "COMPLETED"
                };
            });
        }
        drop(import);
        self.described()
    }

    fn described(&self) -> Value {
        let import = self.import.lock().unwrap().clone();
        let items = if import.status == "COMPLETED" {
            import.items
        } else {
            0
        };
        let mut description = json!({
            "ImportArn": import.arn, "ImportStatus": import.status, "ImportedItemCount": items,
            "ProcessedItemCount": items, "ErrorCount": 0,
        });
        if import.status == "FAILED" {
            description["FailureCode"] = json!("S3NoSuchKey");
            description["FailureMessage"] = json!(import.failure);
        }
        json!({"ImportTableDescription": description})
    }
}
