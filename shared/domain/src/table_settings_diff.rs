//! Whether a restored table is set up as the one that was backed up, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::described_table::{
    GLOBAL_TABLE, READ_ONLY, RESTORED, attribute_names, is_on_demand, on_demand_limits,
    provisioned_units, says_something,
};
use crate::table::TableSettings;
use crate::table_plan::RESTORE_TAG;

const INDEXES: [&str; 3] = [
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "VectorIndexes",
];

/// One setting that two tables do not share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Which: `GlobalSecondaryIndexes/by-customer/Projection`.
    pub setting: String,
    /// How it is in the backup; `None` if not at all.
    pub source: Option<Value>,
    /// How it is in the restored table; `None` if not at all.
    pub restored: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), Value::to_string)
        };
        let (source, restored) = (say(&self.source), say(&self.restored));
        write!(
            f,
            "{}: {source} in the backup, {restored} in the table",
            self.setting
        )
    }
}

/// Every setting that a restore should bring back and that differs. Empty if the tables are set up alike.
///
/// Names, ARNs, dates and counters differ by nature and are left out, as are the order of lists, throughput that
/// an on-demand table does not have, and settings that the backup could not read.
#[must_use]
pub fn settings_differences(source: &TableSettings, restored: &TableSettings) -> Vec<Difference> {
    let (before, after) = (essence(source), essence(restored));
    let unread: Vec<&str> = [
        ("TimeToLive", source.time_to_live.is_none()),
        ("Tags/", source.tags.is_none()),
        ("PointInTimeRecovery", source.continuous_backups.is_none()),
    ]
    .into_iter()
    .filter_map(|(setting, unread)| unread.then_some(setting))
    .collect();
    let settings: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    settings
        .into_iter()
        .filter(|setting| !unread.iter().any(|name| setting.starts_with(name)))
        .filter(|setting| before.get(*setting) != after.get(*setting))
        .map(|setting| Difference {
            setting: setting.clone(),
            source: before.get(setting).cloned(),
            restored: after.get(setting).cloned(),
        })
        .collect()
}

/// The settings alone, each under its name, in one spelling.
fn essence(settings: &TableSettings) -> BTreeMap<String, Value> {
    let table = &settings.table;
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            all.insert(name.to_owned(), value);
        }
    };
    put("KeySchema", Some(keys(&table["KeySchema"])));
    let on_demand = is_on_demand(table).unwrap_or(false);
    put(
        "BillingMode",
        Some(json!(if on_demand {
            "PAY_PER_REQUEST"
        } else {
            "PROVISIONED"
        })),
    );
    put(
        "ProvisionedThroughput",
        provisioned_units(table).filter(|_| !on_demand),
    );
    put(
        "OnDemandThroughput",
        on_demand_limits(table).filter(|_| on_demand),
    );
    let class = table["TableClassSummary"]["TableClass"].as_str();
    put("TableClass", Some(json!(class.unwrap_or("STANDARD"))));
    put("SSESpecification", encryption(&table["SSEDescription"]));
    let stream = &table["StreamSpecification"];
    put(
        "StreamSpecification",
        (stream["StreamEnabled"] == true).then(|| stream["StreamViewType"].clone()),
    );
    let protected = table["DeletionProtectionEnabled"] == true;
    put("DeletionProtectionEnabled", Some(json!(protected)));
    put(
        "TimeToLive",
        settings.ttl_attribute().map(|name| json!(name)),
    );
    put(
        "PointInTimeRecovery",
        settings
            .recovery_period()
            .map(|days| json!({"RecoveryPeriodInDays": days})),
    );
    all.extend(definitions(table));
    all.extend(tags(settings));
    for kind in INDEXES {
        all.extend(indexes(kind, &table[kind], on_demand));
    }
    all.extend(unknown(table));
    all
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Partition keys first, each kind in its order: an index may have several of one kind.
fn keys(schema: &Value) -> Value {
    let of = |role: &str| -> Vec<Value> {
        rows(schema)
            .filter(|row| row["KeyType"] == role)
            .map(|row| row["AttributeName"].clone())
            .collect()
    };
    json!({"HASH": of("HASH"), "RANGE": of("RANGE")})
}

/// The types of the attributes that a key uses. Those of an index that is being deleted go with it.
fn definitions(table: &Value) -> impl Iterator<Item = (String, Value)> {
    let mut used = BTreeSet::new();
    attribute_names(&table["KeySchema"], &mut used);
    for index in INDEXES.iter().flat_map(|kind| kept(&table[*kind])) {
        attribute_names(index, &mut used);
    }
    rows(&table["AttributeDefinitions"]).filter_map(move |row| {
        let name = row["AttributeName"].as_str()?;
        let setting = format!("AttributeDefinitions/{name}");
        used.contains(name)
            .then(|| (setting, row["AttributeType"].clone()))
    })
}

/// Indexes that are there to stay.
fn kept(described: &Value) -> impl Iterator<Item = &Value> {
    rows(described).filter(|index| index["IndexStatus"] != "DELETING")
}

fn tags(settings: &TableSettings) -> impl Iterator<Item = (String, Value)> {
    let tags = settings.tags.as_ref().and_then(Value::as_array);
    tags.into_iter().flatten().filter_map(|tag| {
        let key = tag["Key"].as_str()?;
        (key != RESTORE_TAG && !key.starts_with("aws:"))
            .then(|| (format!("Tags/{key}"), tag["Value"].clone()))
    })
}

fn encryption(described: &Value) -> Option<Value> {
    matches!(
        described["Status"].as_str(),
        Some("ENABLED" | "ENABLING" | "UPDATING")
    )
    .then(|| json!({"SSEType": described["SSEType"], "KMSMasterKeyArn": described["KMSMasterKeyArn"]}))
}

fn indexes(kind: &str, described: &Value, on_demand: bool) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for index in kept(described) {
        let name = index["IndexName"].as_str().unwrap_or_default();
        let mut put = |setting: &str, value: Option<Value>| {
            all.extend(value.map(|value| (format!("{kind}/{name}/{setting}"), value)));
        };
        for (member, value) in index.as_object().into_iter().flatten() {
            match member.as_str() {
                "KeySchema" => put(member, Some(keys(value))),
                "Projection" => put(member, Some(projection(value))),
                "IndexName" | "IndexStatus" | "Backfilling" | "IndexSizeBytes" | "IndexArn"
                | "ItemCount" | "WarmThroughput" => {}
                "ProvisionedThroughput" => {
                    put(member, provisioned_units(index).filter(|_| !on_demand));
                }
                "OnDemandThroughput" => put(member, on_demand_limits(index).filter(|_| on_demand)),
                _ => put(member, says_something(value).then(|| value.clone())),
            }
        }
    }
    all
}

fn projection(described: &Value) -> Value {
    let mut names: Vec<&str> = rows(&described["NonKeyAttributes"])
        .filter_map(Value::as_str)
        .collect();
    names.sort_unstable();
    json!({"ProjectionType": described["ProjectionType"], "NonKeyAttributes": names})
}

/// Members that this version does not know are compared as they are.
fn unknown(table: &Value) -> impl Iterator<Item = (String, Value)> {
    let members = table.as_object().into_iter().flatten();
    members
        .filter(|(member, value)| {
            let name = member.as_str();
            let by_nature = READ_ONLY.contains(&name)
                || RESTORED.contains(&name)
                || name == "ArchivalSummary"
                || (GLOBAL_TABLE.contains(&name) && name != "Replicas");
            !by_nature && says_something(value)
        })
        .map(|(member, value)| (member.clone(), value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_plan::tests::rich;

    #[test]
    fn tables_alike_have_no_difference_whatever_their_names_dates_and_order() {
        let source = rich();
        let mut restored = rich();
        restored.table["TableName"] = json!("other");
        restored.table["ItemCount"] = json!(0);
        restored.table["LatestStreamArn"] = json!("arn:other");
        // The index that was being deleted did not come back, nor its attribute.
        restored.table["AttributeDefinitions"]
            .as_array_mut()
            .unwrap()
            .truncate(4);
        restored.table["AttributeDefinitions"]
            .as_array_mut()
            .unwrap()
            .reverse();
        restored.table["GlobalSecondaryIndexes"]
            .as_array_mut()
            .unwrap()
            .truncate(1);
        restored.table["GlobalSecondaryIndexes"][0]["Projection"]["NonKeyAttributes"] =
            json!(["note", "total"]);
        restored.tags =
            Some(json!([{"Key": RESTORE_TAG, "Value": "x"}, {"Key": "team", "Value": "sales"}]));
        assert_eq!(settings_differences(&source, &restored), []);
    }

    fn named(restored: &TableSettings) -> Vec<String> {
        let found = settings_differences(&rich(), restored);
        found.into_iter().map(|it| it.setting).collect()
    }

    #[test]
    fn each_member_of_the_table_that_differs_is_named() {
        let index = "/GlobalSecondaryIndexes/0";
        let all = json!({"ProjectionType": "ALL"});
        for (setting, pointer, value) in [
            ("KeySchema", "/KeySchema/1/KeyType", json!("HASH")),
            (
                "AttributeDefinitions/at",
                "/AttributeDefinitions/1/AttributeType",
                json!("S"),
            ),
            (
                "ProvisionedThroughput",
                "/ProvisionedThroughput/WriteCapacityUnits",
                json!(9),
            ),
            (
                "GlobalSecondaryIndexes/by-customer/Projection",
                &format!("{index}/Projection"),
                all,
            ),
            (
                "GlobalSecondaryIndexes/by-customer/ProvisionedThroughput",
                &format!("{index}/ProvisionedThroughput/ReadCapacityUnits"),
                json!(2),
            ),
            (
                "LocalSecondaryIndexes/by-date/KeySchema",
                "/LocalSecondaryIndexes/0/KeySchema/1/KeyType",
                json!("HASH"),
            ),
            (
                "StreamSpecification",
                "/StreamSpecification/StreamEnabled",
                json!(false),
            ),
            ("SSESpecification", "/SSEDescription", Value::Null),
            ("TableClass", "/TableClassSummary", Value::Null),
            (
                "DeletionProtectionEnabled",
                "/DeletionProtectionEnabled",
                json!(false),
            ),
            ("SettingOfNextYear", "/SettingOfNextYear/On", json!(2)),
        ] {
            let mut restored = rich();
            *restored.table.pointer_mut(pointer).unwrap() = value;
            assert_eq!(named(&restored), [setting]);
        }
    }

    #[test]
    fn a_lost_index_and_each_other_setting_that_differs_are_named() {
        let mut restored = rich();
        restored.time_to_live = Some(json!({"TimeToLiveStatus": "DISABLED"}));
        assert_eq!(named(&restored), ["TimeToLive"]);
        let mut restored = rich();
        restored.tags = Some(json!([]));
        assert_eq!(named(&restored), ["Tags/team"]);
        let mut restored = rich();
        restored.continuous_backups = None;
        assert_eq!(named(&restored), ["PointInTimeRecovery"]);
        let mut restored = rich();
        restored.table["LocalSecondaryIndexes"] = Value::Null;
        let index = "LocalSecondaryIndexes/by-date";
        assert_eq!(
            named(&restored),
            [
                "AttributeDefinitions/date".to_owned(),
                format!("{index}/KeySchema"),
                format!("{index}/Projection")
            ]
        );
        let mut unread = rich();
        unread.tags = None;
        let found = settings_differences(&unread, &rich());
        assert_eq!(found, [], "what the backup could not read is not compared");
    }
}
