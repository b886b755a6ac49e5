//! A change to a table: how it is addressed, and whether the table already is as it asks for.
//!
//! DynamoDB refuses to enable what is enabled, with words that differ from setting to setting and from year
//! to year. A change that is repeated after a crash is therefore judged by what the table says of itself.

use serde_json::{Value, json};

use crate::table::TableSettings;
use crate::table_admin::{ChangeCall, TableChange};

impl TableChange {
    /// The request as it is sent: tagging calls name the table by its ARN, which only the table itself can tell.
    #[must_use]
    pub fn addressed_to(&self, table_arn: &str) -> Self {
        let mut addressed = self.clone();
        if matches!(
            self.call,
            ChangeCall::TagResource | ChangeCall::UntagResource
        ) && let Some(members) = addressed.request.as_object_mut()
        {
            members
                .entry("ResourceArn")
                .or_insert_with(|| json!(table_arn));
        }
        addressed
    }

    /// Whether all that the change asks for is in force, or on its way there.
    ///
    /// `false` where this cannot be told: a member of the request that is not known here, or a setting that was
    /// not read. Then the service decides.
    #[must_use]
    pub fn is_in_force(&self, settings: &TableSettings) -> bool {
        let request = &self.request;
        match self.call {
            ChangeCall::UpdateTimeToLive => {
                let asked = &request["TimeToLiveSpecification"];
                let found = settings.time_to_live.as_ref();
                asked.is_object() && found.is_some_and(|found| time_to_live(asked, found))
            }
            ChangeCall::UpdateContinuousBackups => {
                let asked = &request["PointInTimeRecoverySpecification"];
                let found = settings.continuous_backups.as_ref();
                asked.is_object()
                    && found.is_some_and(|found| {
                        point_in_time_recovery(asked, &found["PointInTimeRecoveryDescription"])
                    })
            }
            ChangeCall::TagResource => rows(&request["Tags"]).is_some_and(|mut asked| {
                let found = settings.tags.as_ref().and_then(Value::as_array);
                asked.all(|tag| found.is_some_and(|found| found.contains(tag)))
            }),
            ChangeCall::UntagResource => rows(&request["TagKeys"]).is_some_and(|mut asked| {
                let found = settings.tags.as_ref().and_then(Value::as_array);
                asked.all(|key| {
                    found.is_some_and(|found| found.iter().all(|tag| tag["Key"] != *key))
                })
            }),
            ChangeCall::UpdateTable => request.as_object().is_some_and(|members| {
                members
                    .iter()
                    .all(|(name, asked)| table_member(name, asked, &settings.table))
            }),
        }
    }
}

fn time_to_live(asked: &Value, found: &Value) -> bool {
    let status = found["TimeToLiveStatus"].as_str();
    match (asked["Enabled"].as_bool(), status) {
        (Some(true), Some("ENABLED" | "ENABLING")) => {
            asked["AttributeName"] == found["AttributeName"]
        }
        (Some(false), Some("DISABLED" | "DISABLING")) => true,
        _ => false,
    }
}

fn point_in_time_recovery(asked: &Value, found: &Value) -> bool {
    let enabled = match found["PointInTimeRecoveryStatus"].as_str() {
        Some("ENABLED") => true,
        Some("DISABLED") => false,
        _ => return false,
    };
    asked["PointInTimeRecoveryEnabled"].as_bool() == Some(enabled)
        && is_absent_or_equal(asked, found, "RecoveryPeriodInDays")
}

/// One member of an `UpdateTable` request against `DescribeTable`'s answer.
fn table_member(name: &str, asked: &Value, table: &Value) -> bool {
    match name {
        // The table that was described is the one that was asked about.
        "TableName" => true,
        "AttributeDefinitions" => {
            let found = table[name].as_array();
            rows(asked)
                .is_some_and(|mut asked| asked.all(|row| found.is_some_and(|it| it.contains(row))))
        }
        "StreamSpecification" => stream(asked, &table[name]),
        "DeletionProtectionEnabled" => {
            asked.as_bool() == Some(table[name].as_bool().unwrap_or(false))
        }
        "TableClass" => {
            let found = table["TableClassSummary"]["TableClass"].as_str();
            asked.as_str() == Some(found.unwrap_or("STANDARD"))
        }
        "BillingMode" => {
            let found = table["BillingModeSummary"]["BillingMode"].as_str();
            asked.as_str() == Some(found.unwrap_or("PROVISIONED"))
        }
        "ProvisionedThroughput" => {
            let units = ["ReadCapacityUnits", "WriteCapacityUnits"];
            same_numbers(asked, &table[name], &units)
        }
        "OnDemandThroughput" => {
            let limits = ["MaxReadRequestUnits", "MaxWriteRequestUnits"];
            same_numbers(asked, &table[name], &limits)
        }
        "WarmThroughput" => is_as_warm(asked, &table[name]),
        "SSESpecification" => encryption(asked, &table["SSEDescription"]),
        "GlobalSecondaryIndexUpdates" => {
            rows(asked).is_some_and(|mut updates| updates.all(|update| index_update(update, table)))
        }
        _ => false,
    }
}

fn stream(asked: &Value, found: &Value) -> bool {
    let enabled = found["StreamEnabled"].as_bool().unwrap_or(false);
    asked["StreamEnabled"].as_bool() == Some(enabled)
        && (!enabled || asked["StreamViewType"] == found["StreamViewType"])
}

fn encryption(asked: &Value, found: &Value) -> bool {
    match (asked["Enabled"].as_bool(), found["Status"].as_str()) {
        (Some(true), Some("ENABLED" | "ENABLING" | "UPDATING")) => {
            let key = asked["KMSMasterKeyId"].as_str();
            let arn = found["KMSMasterKeyArn"].as_str().unwrap_or_default();
            is_absent_or_equal(asked, found, "SSEType")
                && key.is_none_or(|key| arn == key || arn.ends_with(&format!(":key/{key}")))
        }
        // A table under DynamoDB's own key has no description of its encryption.
        (Some(false), None | Some("DISABLED" | "DISABLING")) => true,
        _ => false,
    }
}

/// Warm throughput is a floor that only rises.
fn is_as_warm(asked: &Value, found: &Value) -> bool {
    asked.as_object().is_some_and(|members| {
        members.iter().all(|(name, asked)| {
            matches!(name.as_str(), "ReadUnitsPerSecond" | "WriteUnitsPerSecond")
                && asked
                    .as_u64()
                    .zip(found[name].as_u64())
                    .is_some_and(|(asked, found)| found >= asked)
        })
    })
}

/// One element of `GlobalSecondaryIndexUpdates`.
fn index_update(update: &Value, table: &Value) -> bool {
    let only = update
        .as_object()
        .filter(|update| update.len() == 1)
        .and_then(|update| update.iter().next());
    let Some((kind, asked)) = only else {
        return false;
    };
    let found = rows(&table["GlobalSecondaryIndexes"])
        .and_then(|mut indexes| indexes.find(|index| index["IndexName"] == asked["IndexName"]));
    match (kind.as_str(), found) {
        ("Create", Some(found)) => is_same_index(asked, found),
        ("Update", Some(found)) => asked.as_object().is_some_and(|members| {
            members
                .iter()
                .all(|(name, asked)| name == "IndexName" || index_throughput(name, asked, found))
        }),
        ("Delete", None) => asked["IndexName"].is_string(),
        ("Delete", Some(found)) => found["IndexStatus"] == "DELETING",
        _ => false,
    }
}

fn is_same_index(asked: &Value, found: &Value) -> bool {
    asked.as_object().is_some_and(|members| {
        members.iter().all(|(name, asked)| match name.as_str() {
            "IndexName" | "KeySchema" => found[name] == *asked,
            "Projection" => same_projection(asked, &found[name]),
            _ => index_throughput(name, asked, found),
        })
    })
}

fn same_projection(asked: &Value, found: &Value) -> bool {
    let sorted = |projection: &Value| {
        let names = rows(&projection["NonKeyAttributes"]).into_iter().flatten();
        let mut names: Vec<String> = names.map(ToString::to_string).collect();
        names.sort();
        names
    };
    asked["ProjectionType"] == found["ProjectionType"] && sorted(asked) == sorted(found)
}

fn index_throughput(name: &str, asked: &Value, index: &Value) -> bool {
    matches!(
        name,
        "ProvisionedThroughput" | "OnDemandThroughput" | "WarmThroughput"
    ) && table_member(name, asked, index)
}

/// Whether `asked` names only these members and `found` has the same values. An absent limit is -1.
fn same_numbers(asked: &Value, found: &Value, names: &[&str]) -> bool {
    let number = |value: &Value| value.as_i64().unwrap_or(-1);
    asked.as_object().is_some_and(|members| {
        members.iter().all(|(name, asked)| {
            names.contains(&name.as_str()) && number(asked) == number(&found[name])
        })
    })
}

fn is_absent_or_equal(asked: &Value, found: &Value, name: &str) -> bool {
    asked.get(name).is_none_or(|asked| *asked == found[name])
}

fn rows(value: &Value) -> Option<impl Iterator<Item = &Value>> {
    value.as_array().map(|rows| rows.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TABLE_JSON_VERSION;

    fn settings() -> TableSettings {
        TableSettings {
            version: TABLE_JSON_VERSION,
            table: json!({
                "AttributeDefinitions": [{"AttributeName": "by", "AttributeType": "N"}],
                "ProvisionedThroughput": {
                    "ReadCapacityUnits": 5, "WriteCapacityUnits": 7, "NumberOfDecreasesToday": 2
                },
                "OnDemandThroughput": {"MaxReadRequestUnits": 50},
                "WarmThroughput": {"ReadUnitsPerSecond": 12_000, "WriteUnitsPerSecond": 4000, "Status": "ACTIVE"},
                "GlobalSecondaryIndexes": [{
                    "IndexName": "by",
                    "IndexStatus": "CREATING",
                    "KeySchema": [{"AttributeName": "by", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["a", "b"]},
                    "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 2}
                }],
                "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_IMAGE"},
                "SSEDescription": {"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": "arn:aws:kms:r:1:key/7"},
                "DeletionProtectionEnabled": true,
            }),
            time_to_live: Some(json!({"TimeToLiveStatus": "ENABLING", "AttributeName": "at"})),
            tags: Some(json!([{"Key": "team", "Value": "x"}])),
            continuous_backups: Some(json!({"PointInTimeRecoveryDescription": {
                "PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": 7
            }})),
            unavailable: Vec::new(),
        }
    }

    fn asked(call: ChangeCall, request: Value, settings: &TableSettings) -> bool {
        let change = TableChange {
            what: String::new(),
            call,
            request,
        };
        change.is_in_force(settings)
    }

    #[test]
    fn ttl_recovery_and_tags_count_only_as_they_are_asked_for() {
        use ChangeCall::{TagResource, UntagResource, UpdateContinuousBackups, UpdateTimeToLive};
        let ttl = |name, on| json!({"TableName": "t", "TimeToLiveSpecification": {"AttributeName": name, "Enabled": on}});
        let recovery = |asked: Value| json!({"PointInTimeRecoverySpecification": asked});
        let cases = [
            (UpdateTimeToLive, ttl("at", true), true),
            (UpdateTimeToLive, ttl("on", true), false),
            (UpdateTimeToLive, ttl("at", false), false),
            (
                UpdateContinuousBackups,
                recovery(json!({"PointInTimeRecoveryEnabled": true})),
                true,
            ),
            (
                UpdateContinuousBackups,
                recovery(json!({"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 7})),
                true,
            ),
            (
                UpdateContinuousBackups,
                recovery(json!({"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 35})),
                false,
            ),
            (
                UpdateContinuousBackups,
                recovery(json!({"PointInTimeRecoveryEnabled": false})),
                false,
            ),
            (
                TagResource,
                json!({"Tags": [{"Key": "team", "Value": "x"}]}),
                true,
            ),
            (
                TagResource,
                json!({"Tags": [{"Key": "team", "Value": "y"}]}),
                false,
            ),
            (UntagResource, json!({"TagKeys": ["gone"]}), true),
            (UntagResource, json!({"TagKeys": ["gone", "team"]}), false),
        ];
        let unread = TableSettings {
            time_to_live: None,
            tags: None,
            continuous_backups: None,
            ..settings()
        };
        for (call, request, expected) in cases {
            let found = asked(call, request.clone(), &settings());
            assert_eq!(found, expected, "{call:?} {request}");
            assert!(
                !asked(call, request.clone(), &unread),
                "not read is not known: {request}"
            );
            assert!(
                !asked(call, json!({"TableName": "t"}), &settings()),
                "nothing asked"
            );
        }
    }

    /// Of each pair the first is in force and the second is not.
    fn compare(member: &str, pairs: &[(Value, Value)]) {
        let table = |value: &Value| {
            let request = json!({"TableName": "t", member: value});
            asked(ChangeCall::UpdateTable, request, &settings())
        };
        for (same, other) in pairs {
            assert!(table(same), "{member} {same}");
            assert!(!table(other), "{member} {other}");
        }
    }

    fn units(read: u64, write: u64) -> Value {
        json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write})
    }

    #[test]
    fn each_member_of_a_table_update_is_compared() {
        compare("ProvisionedThroughput", &[(units(5, 7), units(5, 8))]);
        let unlimited = json!({"MaxReadRequestUnits": 50, "MaxWriteRequestUnits": -1});
        let limited = json!({"MaxWriteRequestUnits": 9});
        compare("OnDemandThroughput", &[(unlimited, limited)]);
        let warm = |units| json!({"WriteUnitsPerSecond": units});
        compare("WarmThroughput", &[(warm(4000), warm(4001))]);
        let stream = |on, view| json!({"StreamEnabled": on, "StreamViewType": view});
        let now = stream(true, "NEW_IMAGE");
        let off = stream(false, "NEW_IMAGE");
        compare(
            "StreamSpecification",
            &[(now.clone(), stream(true, "KEYS_ONLY")), (now, off)],
        );
        let key = |id| json!({"Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": id});
        let arn = key("arn:aws:kms:r:1:key/7");
        let pairs = [(key("7"), key("8")), (arn, json!({"Enabled": false}))];
        compare("SSESpecification", &pairs);
        compare("DeletionProtectionEnabled", &[(json!(true), json!(false))]);
        let classes = [(json!("STANDARD"), json!("STANDARD_INFREQUENT_ACCESS"))];
        compare("TableClass", &classes);
        compare(
            "BillingMode",
            &[(json!("PROVISIONED"), json!("PAY_PER_REQUEST"))],
        );
        let define = |scalar| json!([{"AttributeName": "by", "AttributeType": scalar}]);
        compare("AttributeDefinitions", &[(define("N"), define("S"))]);
    }

    #[test]
    fn each_part_of_an_index_update_is_compared() {
        let update =
            |units| json!([{"Update": {"IndexName": "by", "ProvisionedThroughput": units}}]);
        let create = |keys: &str, names: &[&str]| {
            json!([{"Create": {
                "IndexName": "by",
                "KeySchema": [{"AttributeName": keys, "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": names}
            }}])
        };
        let delete = |name| json!([{"Delete": {"IndexName": name}}]);
        let pairs = [
            (update(units(1, 2)), update(units(1, 3))),
            (create("by", &["b", "a"]), create("by", &["a"])),
            (create("by", &["b", "a"]), create("id", &["a", "b"])),
            (delete("of"), delete("by")),
        ];
        compare("GlobalSecondaryIndexUpdates", &pairs);
    }

    #[test]
    fn a_part_that_is_not_in_force_or_not_known_is_enough_to_ask() {
        for request in [
            json!({"DeletionProtectionEnabled": true, "StreamSpecification": {"StreamEnabled": false}}),
            json!({"TableName": "t", "SettingOfNextYear": true}),
        ] {
            assert!(!asked(ChangeCall::UpdateTable, request, &settings()));
        }
    }

    #[test]
    fn only_tagging_is_addressed_by_arn() {
        let addressed = |call| {
            let change = TableChange {
                what: String::new(),
                call,
                request: json!({}),
            };
            change.addressed_to("arn:x").request
        };
        let arn = json!({"ResourceArn": "arn:x"});
        assert_eq!(addressed(ChangeCall::TagResource), arn);
        assert_eq!(addressed(ChangeCall::UntagResource), arn);
        assert_eq!(addressed(ChangeCall::UpdateTable), json!({}));
    }
}
