//! What a table in memory says of itself.

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::key::KeySchema;
use highwater_domain::table::{TABLE_JSON_VERSION, TableDescriber, TableSettings};
use serde_json::{Value, json};

use crate::fake_table::FakeTable;

/// A key as `AttributeDefinitions` and `KeySchema` say it.
pub(crate) fn key_members(schema: &KeySchema) -> (Vec<Value>, Vec<Value>) {
    let definitions = schema
        .attributes()
        .map(|key| json!({"AttributeName": key.name, "AttributeType": key.scalar_type}));
    let keys = schema
        .attributes()
        .zip(["HASH", "RANGE"])
        .map(|(key, role)| json!({"AttributeName": key.name, "KeyType": role}));
    (definitions.collect(), keys.collect())
}

#[async_trait]
impl TableDescriber for FakeTable {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        self.know("DescribeTable", table)?;
        let items = self.items();
        let bytes: usize = items.values().map(Bytes::len).sum();
        let (definitions, keys) = key_members(self.schema());
        let table = self.set_to_say().unwrap_or_else(|| {
            json!({
                "TableName": self.name(),
                "TableArn": self.arn(),
                "TableId": self.id(),
                "TableStatus": "ACTIVE",
                "AttributeDefinitions": definitions,
                "KeySchema": keys,
                "ItemCount": items.len(),
                "TableSizeBytes": bytes,
                "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            })
        });
        Ok(TableSettings {
            version: TABLE_JSON_VERSION,
            table,
            time_to_live: Some(json!({"TimeToLiveStatus": "DISABLED"})),
            tags: Some(json!([])),
            continuous_backups: None,
            unavailable: Vec::new(),
        })
    }
}
