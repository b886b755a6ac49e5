//! A table's settings, as `table.json` keeps them.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::failure::Failure;
use crate::key::{KeyAttribute, KeySchema, ScalarType};

/// The version of the `table.json` layout that this build writes.
pub const TABLE_JSON_VERSION: u32 = 1;

/// Every setting needed to re-create a table, in the service's own JSON.
///
/// The answers of the four describing calls are kept verbatim, so that a setting which this version
/// has never heard of is still there when a later one restores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSettings {
    /// The layout's version, [`TABLE_JSON_VERSION`].
    pub version: u32,
    /// The `Table` member of `DescribeTable`: keys, attribute definitions, billing, throughput, indexes,
    /// stream, encryption, class, deletion protection, and whatever else DynamoDB says.
    pub table: Value,
    /// The `TimeToLiveDescription` member of `DescribeTimeToLive`.
    pub time_to_live: Option<Value>,
    /// All tags, as `ListTagsOfResource` gives them: `[{"Key":…,"Value":…}]`.
    pub tags: Option<Value>,
    /// The `ContinuousBackupsDescription` member of `DescribeContinuousBackups`: point-in-time recovery.
    pub continuous_backups: Option<Value>,
    /// Settings that could not be read, with the reason: never left out in silence.
    #[serde(default)]
    pub unavailable: Vec<UnavailableSetting>,
}

/// A setting that the service or a policy would not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnavailableSetting {
    /// The call that failed: `DescribeContinuousBackups`.
    pub call: String,
    /// Why.
    pub reason: String,
}

/// `DescribeTable` lacks or garbles something without which no backup can be made.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("DescribeTable's answer has no usable {field}")]
pub struct SettingsError {
    /// The JSON path that is missing or of the wrong type.
    pub field: &'static str,
}

impl TableSettings {
    /// The table's name.
    pub fn name(&self) -> Result<&str, SettingsError> {
        self.text("TableName")
    }

    /// The table's ARN.
    pub fn arn(&self) -> Result<&str, SettingsError> {
        self.text("TableArn")
    }

    /// The table's id, a UUID that changes when a table is dropped and created again under its name.
    #[must_use]
    pub fn table_id(&self) -> Option<&str> {
        self.table.get("TableId").and_then(Value::as_str)
    }

    /// `ACTIVE`, `CREATING`, …
    pub fn status(&self) -> Result<&str, SettingsError> {
        self.text("TableStatus")
    }

    /// DynamoDB's own item count, up to six hours old. For estimates only.
    #[must_use]
    pub fn item_count(&self) -> u64 {
        self.table
            .get("ItemCount")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// DynamoDB's own size in bytes, up to six hours old. For estimates only.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.table
            .get("TableSizeBytes")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// The provisioned read capacity units per second, or `None` for an on-demand table.
    #[must_use]
    pub fn provisioned_read_capacity(&self) -> Option<f64> {
        self.table
            .pointer("/ProvisionedThroughput/ReadCapacityUnits")
            .and_then(Value::as_f64)
            .filter(|units| *units > 0.0)
    }

    /// What an on-demand table can take: its configured maximum, else its warm throughput, in units per second.
    #[must_use]
    pub fn on_demand_read_capacity(&self) -> Option<f64> {
        [
            "/OnDemandThroughput/MaxReadRequestUnits",
            "/WarmThroughput/ReadUnitsPerSecond",
        ]
        .iter()
        .filter_map(|path| self.table.pointer(path).and_then(Value::as_f64))
        .find(|units| *units > 0.0)
    }

    /// The provisioned write capacity units per second, or `None` for an on-demand table.
    #[must_use]
    pub fn provisioned_write_capacity(&self) -> Option<f64> {
        self.table
            .pointer("/ProvisionedThroughput/WriteCapacityUnits")
            .and_then(Value::as_f64)
            .filter(|units| *units > 0.0)
    }

    /// What an on-demand table can take: its configured maximum, else its warm throughput, in units per second.
    #[must_use]
    pub fn on_demand_write_capacity(&self) -> Option<f64> {
        [
            "/OnDemandThroughput/MaxWriteRequestUnits",
            "/WarmThroughput/WriteUnitsPerSecond",
        ]
        .iter()
        .filter_map(|path| self.table.pointer(path).and_then(Value::as_f64))
        .find(|units| *units > 0.0)
    }

    /// The attribute by which items expire, if they do.
    #[must_use]
    pub fn ttl_attribute(&self) -> Option<&str> {
        let ttl = self.time_to_live.as_ref()?;
        matches!(
            ttl["TimeToLiveStatus"].as_str(),
            Some("ENABLED" | "ENABLING")
        )
        .then(|| ttl["AttributeName"].as_str())?
    }

    /// `Some` if point-in-time recovery is on; the inner value is its period in days, where the service says.
    #[must_use]
    pub fn recovery_period(&self) -> Option<Option<u64>> {
        let recovery = &self.continuous_backups.as_ref()?["PointInTimeRecoveryDescription"];
        (recovery["PointInTimeRecoveryStatus"] == "ENABLED")
            .then(|| recovery["RecoveryPeriodInDays"].as_u64())
    }

    /// The primary key.
    pub fn key_schema(&self) -> Result<KeySchema, SettingsError> {
        let partition = self.key_attribute("HASH")?.ok_or(SettingsError {
            field: "KeySchema[HASH]",
        })?;
        Ok(KeySchema {
            partition,
            sort: self.key_attribute("RANGE")?,
        })
    }

    fn text(&self, field: &'static str) -> Result<&str, SettingsError> {
        self.table
            .get(field)
            .and_then(Value::as_str)
            .ok_or(SettingsError { field })
    }

    fn key_attribute(&self, key_type: &str) -> Result<Option<KeyAttribute>, SettingsError> {
        let Some(name) = self
            .rows("KeySchema")
            .find(|row| row["KeyType"] == key_type)
            .map(|row| &row["AttributeName"])
        else {
            return Ok(None);
        };
        let definition = self
            .rows("AttributeDefinitions")
            .find(|row| row["AttributeName"] == *name)
            .ok_or(SettingsError {
                field: "AttributeDefinitions",
            })?;
        let scalar_type: ScalarType = serde_json::from_value(definition["AttributeType"].clone())
            .map_err(|_| SettingsError {
            field: "AttributeDefinitions[].AttributeType",
        })?;
        let name = name.as_str().ok_or(SettingsError {
            field: "KeySchema[].AttributeName",
        })?;
        Ok(Some(KeyAttribute {
            name: name.to_owned(),
            scalar_type,
        }))
    }

    fn rows(&self, field: &str) -> impl Iterator<Item = &Value> {
        self.table
            .get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }
}

/// Reads a table's settings.
#[async_trait]
pub trait TableDescriber: Debug + Send + Sync {
    /// Everything the service says about `table` (a name or an ARN).
    ///
    /// Fails if `DescribeTable` does, and where one of the other three calls cannot be served for now; a
    /// call that is refused for good is noted in [`TableSettings::unavailable`].
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure>;

    /// What `DescribeTable` alone says: the `Table` member of its answer.
    async fn description(&self, table: &str) -> Result<Value, Failure> {
        Ok(self.describe(table).await?.table)
    }

    /// The table's UUID alone, to see whether it is still the same table.
    async fn table_id(&self, table: &str) -> Result<Option<String>, Failure> {
        Ok(self.describe(table).await?.table_id().map(str::to_owned))
    }
}

#[async_trait]
impl<T: TableDescriber + ?Sized> TableDescriber for Arc<T> {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        T::describe(self, table).await
    }

    async fn description(&self, table: &str) -> Result<Value, Failure> {
        T::description(self, table).await
    }

    async fn table_id(&self, table: &str) -> Result<Option<String>, Failure> {
        T::table_id(self, table).await
    }
}

/// Looks at a table by `DescribeTable` alone. Whoever does no more than that holds no code for the other calls of a [`TableDescriber`],
/// each of which is one.
#[async_trait]
pub trait TableLook: Debug + Send + Sync {
    /// As [`TableDescriber::description`].
    async fn description(&self, table: &str) -> Result<Value, Failure>;

    /// As [`TableDescriber::table_id`].
    async fn table_id(&self, table: &str) -> Result<Option<String>, Failure>;
}

#[async_trait]
impl<T: TableDescriber + ?Sized> TableLook for T {
    async fn description(&self, table: &str) -> Result<Value, Failure> {
        TableDescriber::description(self, table).await
    }

    async fn table_id(&self, table: &str) -> Result<Option<String>, Failure> {
        TableDescriber::table_id(self, table).await
    }
}

/// The ARN in a table's description.
///
/// # Errors
/// If there is none.
pub fn arn_of(description: &Value) -> Result<&str, SettingsError> {
    let field = "TableArn";
    let arn = description.get(field).and_then(Value::as_str);
    arn.ok_or(SettingsError { field })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(table: Value) -> TableSettings {
        TableSettings {
            version: TABLE_JSON_VERSION,
            table,
            time_to_live: None,
            tags: None,
            continuous_backups: None,
            unavailable: Vec::new(),
        }
    }

    #[test]
    fn the_key_schema_is_read_with_its_types() {
        let schema = settings(json!({
            "KeySchema": [
                {"AttributeName": "at", "KeyType": "RANGE"},
                {"AttributeName": "id", "KeyType": "HASH"}
            ],
            "AttributeDefinitions": [
                {"AttributeName": "id", "AttributeType": "S"},
                {"AttributeName": "at", "AttributeType": "N"},
                {"AttributeName": "gsi", "AttributeType": "B"}
            ]
        }))
        .key_schema()
        .unwrap();
        assert_eq!(
            schema.partition,
            KeyAttribute {
                name: "id".into(),
                scalar_type: ScalarType::S
            }
        );
        assert_eq!(
            schema.sort,
            Some(KeyAttribute {
                name: "at".into(),
                scalar_type: ScalarType::N
            })
        );
    }

    #[test]
    fn a_description_without_keys_is_refused() {
        assert_eq!(
            settings(json!({})).key_schema(),
            Err(SettingsError {
                field: "KeySchema[HASH]"
            })
        );
        assert_eq!(
            settings(json!({"TableName": 7})).name(),
            Err(SettingsError { field: "TableName" })
        );
    }

    #[test]
    fn unknown_settings_survive_verbatim() {
        let table = json!({"TableName": "t", "SettingOfNextYear": {"On": [1, 2.50]}});
        let text = serde_json::to_string(&settings(table.clone())).unwrap();
        assert_eq!(
            serde_json::from_str::<TableSettings>(&text).unwrap().table,
            table
        );
    }
}
