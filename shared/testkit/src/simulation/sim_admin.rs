//! The table's settings: described, and its stream switched on and off.

use async_trait::async_trait;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::Creation;
use highwater_domain::shard::StreamView;
use highwater_domain::table::{TABLE_JSON_VERSION, TableDescriber, TableSettings};
use highwater_domain::table_admin::{ChangeCall, TableAdmin, TableChange};
use serde_json::{Value, json};

use super::sim_scan::key_schema;
use super::sim_table::SimTable;
use crate::fake_describer::key_members;

impl SimTable {
    /// The table's id, which changes when it is dropped and made again.
    #[must_use]
    pub fn table_id(&self) -> String {
        let incarnation = self.locked().incarnation;
        format!("00000000-0000-4000-8000-{incarnation:012x}")
    }

    fn know(&self, operation: &'static str, table: &str) -> Result<(), Failure> {
        if table == self.name() || table == self.arn() {
            return Ok(());
        }
        let message = "ResourceNotFoundException: no such table";
        Err(Failure::new(
            FailureKind::NotFound,
            operation,
            table,
            message,
        ))
    }
}

#[async_trait]
impl TableDescriber for SimTable {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        self.know("DescribeTable", table)?;
        let (definitions, keys) = key_members(&key_schema());
        let mut described = json!({
            "TableName": self.name(),
            "TableArn": self.arn(),
            "TableId": self.table_id(),
            "TableStatus": "ACTIVE",
            "AttributeDefinitions": definitions,
            "KeySchema": keys,
            "ItemCount": self.items().len(),
            "TableSizeBytes": 0,
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        });
        let state = self.locked();
        if let Some(stream) = state.streams.last() {
            // DynamoDB goes on to name the stream that was there last.
            described["LatestStreamArn"] = json!(stream.arn);
            described["LatestStreamLabel"] = json!(stream.label);
            if stream.disabled_at.is_none() {
                described["StreamSpecification"] =
                    json!({"StreamEnabled": true, "StreamViewType": stream.view});
            }
        }
        Ok(TableSettings {
            version: TABLE_JSON_VERSION,
            table: described,
            time_to_live: Some(json!({"TimeToLiveStatus": "DISABLED"})),
            tags: Some(json!([])),
            continuous_backups: None,
            unavailable: Vec::new(),
        })
    }
}

#[async_trait]
impl TableAdmin for SimTable {
    async fn create_table(&self, _request: &Value) -> Result<Creation, Failure> {
        Ok(Creation::Exists)
    }

    async fn change(&self, change: &TableChange) -> Result<(), Failure> {
        let invalid = |message: &str| {
            let name = self.name().to_owned();
            Failure::new(FailureKind::Invalid, "UpdateTable", name, message)
        };
        let asked = &change.request["StreamSpecification"];
        if change.call != ChangeCall::UpdateTable || !asked.is_object() {
            return Err(invalid("this table only knows streams"));
        }
        let is_on = self.stream_is_on();
        match (asked["StreamEnabled"].as_bool(), is_on) {
            (Some(true), false) => {
                let view = serde_json::from_value::<StreamView>(asked["StreamViewType"].clone())
                    .map_err(|_| invalid("no such StreamViewType"))?;
                self.enable_stream(view);
            }
            (Some(true), true) => {
                let found = json!(self.true_listing().view);
                if found != asked["StreamViewType"] {
                    return Err(invalid("Table already has an enabled stream"));
                }
            }
            (Some(false), true) => self.disable_stream(),
            (Some(false), false) | (None, _) => {}
        }
        Ok(())
    }
}
