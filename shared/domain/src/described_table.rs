//! The members of `DescribeTable`'s answer, and what they mean for a table that is made again.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html>

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::table::SettingsError;

/// Members of a description that say how the table is, not how it is set up.
pub(crate) const READ_ONLY: &[&str] = &[
    "TableName",
    "TableStatus",
    "CreationDateTime",
    "TableSizeBytes",
    "ItemCount",
    "TableArn",
    "TableId",
    "LatestStreamArn",
    "LatestStreamLabel",
    "RestoreSummary",
    "TableThroughputModeSummary",
];

/// Members that are taken over here or in the changes after the load.
pub(crate) const RESTORED: &[&str] = &[
    "KeySchema",
    "AttributeDefinitions",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "VectorIndexes",
    "BillingModeSummary",
    "ProvisionedThroughput",
    "OnDemandThroughput",
    "WarmThroughput",
    "TableClassSummary",
    "SSEDescription",
    "StreamSpecification",
    "DeletionProtectionEnabled",
];

/// Members of a global table, which a restore does not make.
pub(crate) const GLOBAL_TABLE: &[&str] = &[
    "GlobalTableVersion",
    "GlobalTableSettingsReplicationMode",
    "GlobalTableWitnesses",
    "DisassociationProtectionEnabled",
    "MultiRegionConsistency",
    "Replicas",
];

/// Whether the described table is on demand. A table that never was has no summary.
pub(crate) fn is_on_demand(table: &Value) -> Result<bool, SettingsError> {
    match table.pointer("/BillingModeSummary/BillingMode") {
        None | Some(Value::Null) => Ok(false),
        Some(mode) if mode == "PROVISIONED" => Ok(false),
        Some(mode) if mode == "PAY_PER_REQUEST" => Ok(true),
        Some(_) => Err(SettingsError {
            field: "BillingModeSummary.BillingMode",
        }),
    }
}

/// `ProvisionedThroughput` without its dates and counters; `None` if it is absent or zero.
pub(crate) fn provisioned_units(described: &Value) -> Option<Value> {
    let units = |name: &str| {
        described["ProvisionedThroughput"][name]
            .as_u64()
            .filter(|units| *units > 0)
    };
    let (read, write) = (units("ReadCapacityUnits")?, units("WriteCapacityUnits")?);
    Some(json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write}))
}

/// The maximum throughput of an on-demand table or index; -1 is no maximum, which only an update can say.
pub(crate) fn on_demand_limits(described: &Value) -> Option<Value> {
    let limits: Map<String, Value> = ["MaxReadRequestUnits", "MaxWriteRequestUnits"]
        .iter()
        .filter_map(|name| {
            let units = described["OnDemandThroughput"][*name].as_u64()?;
            (units > 0).then(|| ((*name).to_owned(), json!(units)))
        })
        .collect();
    (!limits.is_empty()).then_some(Value::Object(limits))
}

/// Every `AttributeName` below `value`.
pub(crate) fn attribute_names<'a>(value: &'a Value, names: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                match value.as_str() {
                    Some(name) if member == "AttributeName" => {
                        names.insert(name);
                    }
                    _ => attribute_names(value, names),
                }
            }
        }
        Value::Array(rows) => {
            for row in rows {
                attribute_names(row, names);
            }
        }
        _ => {}
    }
}

/// Whether a member holds anything but "not set".
pub(crate) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(rows) => !rows.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    }
}
