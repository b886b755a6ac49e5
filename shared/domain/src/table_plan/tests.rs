//! Plans of several kinds of tables.

use serde_json::{Value, json};

use super::*;
use crate::table::{TABLE_JSON_VERSION, UnavailableSetting};
use crate::table_admin::ChangeCall;

const KEY: &str = "arn:aws:kms:eu-north-1:123456789012:key/7";

fn global_indexes() -> Value {
    json!([
        {
            "IndexName": "by-customer", "IndexStatus": "ACTIVE", "Backfilling": false,
            "IndexSizeBytes": 1, "ItemCount": 1, "IndexArn": "arn:i",
            "KeySchema": [{"AttributeName": "customer", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["total", "note"]},
            "ProvisionedThroughput": {
                "ReadCapacityUnits": 1, "WriteCapacityUnits": 2, "NumberOfDecreasesToday": 0
            },
            "WarmThroughput": {"ReadUnitsPerSecond": 12_000, "WriteUnitsPerSecond": 4000}
        },
        {
            "IndexName": "by-old", "IndexStatus": "DELETING",
            "KeySchema": [{"AttributeName": "old", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"},
            "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
        }
    ])
}

fn local_indexes() -> Value {
    json!([{
        "IndexName": "by-date", "IndexSizeBytes": 0, "ItemCount": 0, "IndexArn": "arn:l",
        "KeySchema": [
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "date", "KeyType": "RANGE"}
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"}
    }])
}

/// A table with everything, as `DescribeTable` and the others tell it.
pub(crate) fn rich() -> TableSettings {
    TableSettings {
        version: TABLE_JSON_VERSION,
        table: json!({
            "TableName": "orders",
            "TableArn": "arn:aws:dynamodb:eu-north-1:123456789012:table/orders",
            "TableId": "1f6b3c62-0a5a-4bb4-9d27-1f0f0c5b1a2e",
            "TableStatus": "ACTIVE",
            "CreationDateTime": 1_768_385_930.622,
            "ItemCount": 7,
            "TableSizeBytes": 700,
            "LatestStreamArn": "arn:x",
            "LatestStreamLabel": "2026-01-14T10:18:50.622",
            "KeySchema": [
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "RANGE"}
            ],
            "AttributeDefinitions": [
                {"AttributeName": "id", "AttributeType": "S"},
                {"AttributeName": "at", "AttributeType": "N"},
                {"AttributeName": "customer", "AttributeType": "S"},
                {"AttributeName": "date", "AttributeType": "S"},
                {"AttributeName": "old", "AttributeType": "B"}
            ],
            "ProvisionedThroughput": {
                "ReadCapacityUnits": 5, "WriteCapacityUnits": 6, "NumberOfDecreasesToday": 1,
                "LastIncreaseDateTime": 1.5
            },
            "GlobalSecondaryIndexes": global_indexes(),
            "LocalSecondaryIndexes": local_indexes(),
            "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"},
            "SSEDescription": {"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": KEY},
            "TableClassSummary": {"TableClass": "STANDARD_INFREQUENT_ACCESS", "LastUpdateDateTime": 2},
            "DeletionProtectionEnabled": true,
            "SettingOfNextYear": {"On": 1},
            "EmptySettingOfNextYear": []
        }),
        time_to_live: Some(json!({"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"})),
        tags: Some(json!([
            {"Key": "team", "Value": "sales"},
            {"Key": "aws:cloudformation:stack-name", "Value": "shop"}
        ])),
        continuous_backups: Some(json!({"PointInTimeRecoveryDescription": {
            "PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": 7
        }})),
        unavailable: Vec::new(),
    }
}

pub(crate) fn on_demand() -> TableSettings {
    let mut settings = rich();
    let table = settings.table.as_object_mut().unwrap();
    table.remove("LocalSecondaryIndexes");
    table.remove("SettingOfNextYear");
    table["AttributeDefinitions"] = json!([
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "at", "AttributeType": "N"},
        {"AttributeName": "customer", "AttributeType": "S"}
    ]);
    table.insert(
        "BillingModeSummary".into(),
        json!({"BillingMode": "PAY_PER_REQUEST"}),
    );
    table.insert(
        "OnDemandThroughput".into(),
        json!({"MaxReadRequestUnits": -1, "MaxWriteRequestUnits": 40}),
    );
    table["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 0, "WriteCapacityUnits": 0});
    let index = &mut table["GlobalSecondaryIndexes"];
    index.as_array_mut().unwrap().truncate(1);
    index[0]["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 0, "WriteCapacityUnits": 0});
    settings
}

fn place() -> TargetPlace {
    TargetPlace {
        region: "eu-north-1".into(),
        account: Some("123456789012".into()),
    }
}

fn target() -> TableRef {
    "orders-2".parse().unwrap()
}

fn plan_with(settings: &TableSettings, overrides: &TableOverrides) -> TablePlan {
    TablePlan::of(settings, &target(), &place(), overrides).unwrap()
}

pub(crate) fn plan(settings: &TableSettings) -> TablePlan {
    plan_with(settings, &TableOverrides::default())
}

fn left_out(plan: &TablePlan) -> Vec<&str> {
    plan.not_restored
        .iter()
        .map(|it| it.setting.as_str())
        .collect()
}

pub(crate) fn after(plan: &TablePlan) -> Vec<&str> {
    plan.after_load.iter().map(|it| it.what.as_str()).collect()
}

#[test]
fn a_provisioned_table_comes_back_with_everything_that_create_table_takes() {
    let plan = plan(&rich());
    assert_eq!(
        plan.create.clone().unwrap(),
        json!({
            "TableName": "orders-2",
            "KeySchema": [
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "RANGE"}
            ],
            "AttributeDefinitions": [
                {"AttributeName": "id", "AttributeType": "S"},
                {"AttributeName": "at", "AttributeType": "N"},
                {"AttributeName": "customer", "AttributeType": "S"},
                {"AttributeName": "date", "AttributeType": "S"}
            ],
            "BillingMode": "PROVISIONED",
            "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6},
            "GlobalSecondaryIndexes": [{
                "IndexName": "by-customer",
                "KeySchema": [{"AttributeName": "customer", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["total", "note"]},
                "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 2}
            }],
            "LocalSecondaryIndexes": [{
                "IndexName": "by-date",
                "KeySchema": [
                    {"AttributeName": "id", "KeyType": "HASH"},
                    {"AttributeName": "date", "KeyType": "RANGE"}
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"}
            }],
            "SSESpecification": {"Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": KEY},
            "TableClass": "STANDARD_INFREQUENT_ACCESS",
            "Tags": [{"Key": "team", "Value": "sales"}]
        })
    );
    assert_eq!(
        left_out(&plan),
        [
            "auto scaling",
            "global index by-old",
            "SettingOfNextYear",
            "tag aws:cloudformation:stack-name"
        ]
    );
    assert_eq!(plan.indexes(), 2);
    assert_eq!(plan.creates(), Some("orders-2"));
}

#[test]
fn the_rest_comes_after_the_load_and_protection_last() {
    let plan = plan(&rich());
    assert_eq!(
        after(&plan),
        [
            "take off the tag highwater:restore, which marks the table during the restore",
            "TTL on attribute \"expires\"",
            "stream of NEW_AND_OLD_IMAGES",
            "point-in-time recovery, 7 days",
            "deletion protection",
        ]
    );
    let requests: Vec<&Value> = plan.after_load.iter().map(|it| &it.request).collect();
    assert_eq!(
        *requests[1],
        json!({"TableName": "orders-2", "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": true}})
    );
    assert_eq!(
        *requests[2],
        json!({"TableName": "orders-2", "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"}})
    );
    assert_eq!(
        *requests[3],
        json!({"TableName": "orders-2", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 7}})
    );
    assert_eq!(
        *requests[4],
        json!({"TableName": "orders-2", "DeletionProtectionEnabled": true})
    );
    assert_eq!(plan.before_load, []);
}

#[test]
fn an_on_demand_table_has_limits_and_no_units() {
    let plan = plan(&on_demand());
    let create = plan.create.clone().unwrap();
    assert_eq!(create["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(
        create["OnDemandThroughput"],
        json!({"MaxWriteRequestUnits": 40})
    );
    assert!(create.get("ProvisionedThroughput").is_none());
    assert!(
        create["GlobalSecondaryIndexes"][0]
            .get("ProvisionedThroughput")
            .is_none()
    );
    assert_eq!(left_out(&plan), ["tag aws:cloudformation:stack-name"]);
    let lines = plan.describe();
    assert_eq!(
        lines[0],
        "table orders-2: on demand (at most 40 write units), key id (S), at (N), class STANDARD_INFREQUENT_ACCESS, encrypted with arn:aws:kms:eu-north-1:123456789012:key/7, 1 tag"
    );
    assert_eq!(
        lines[1],
        "global index by-customer: customer (S), with total, note"
    );
    assert!(
        lines.contains(&"after the load: TTL on attribute \"expires\"".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.last().unwrap().starts_with("not restored: tag aws:"),
        "{lines:?}"
    );
}

#[test]
fn overrides_change_what_they_name_and_say_so() {
    let overrides = TableOverrides {
        billing: Billing::OnDemand,
        stream_first: true,
        no_ttl: true,
        load_write_capacity: None,
        deletion_protection: Some(false),
    };
    let plan = plan_with(&rich(), &overrides);
    let create = plan.create.clone().unwrap();
    assert_eq!(create["BillingMode"], "PAY_PER_REQUEST");
    assert!(create.get("ProvisionedThroughput").is_none());
    assert_eq!(
        create["StreamSpecification"]["StreamViewType"],
        "NEW_AND_OLD_IMAGES"
    );
    assert_eq!(after(&plan)[1..], ["point-in-time recovery, 7 days"]);
    assert_eq!(
        left_out(&plan)[0],
        "provisioned throughput, 5 read and 6 write units"
    );
    assert!(left_out(&plan).contains(&"TTL on attribute \"expires\""));
}

#[test]
fn capacity_for_the_load_is_put_back_before_anything_else() {
    let overrides = TableOverrides {
        load_write_capacity: Some(500),
        ..TableOverrides::default()
    };
    let raised = plan_with(&rich(), &overrides);
    let create = raised.create.clone().unwrap();
    assert_eq!(
        create["ProvisionedThroughput"],
        json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 500})
    );
    assert_eq!(
        create["GlobalSecondaryIndexes"][0]["ProvisionedThroughput"]["WriteCapacityUnits"],
        500
    );
    assert_eq!(
        raised.after_load[0].request,
        json!({
            "TableName": "orders-2",
            "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6},
            "GlobalSecondaryIndexUpdates": [{"Update": {
                "IndexName": "by-customer",
                "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 2}
            }}]
        })
    );
    let limited = plan_with(&on_demand(), &overrides);
    assert_eq!(
        limited.create.clone().unwrap()["OnDemandThroughput"]["MaxWriteRequestUnits"],
        500
    );
    assert_eq!(
        limited.after_load[0].request["OnDemandThroughput"],
        json!({"MaxWriteRequestUnits": 40})
    );
    let lower = TableOverrides {
        load_write_capacity: Some(2),
        ..TableOverrides::default()
    };
    assert_eq!(
        plan_with(&rich(), &lower),
        plan(&rich()),
        "never less than the table has"
    );
}

#[test]
fn a_key_of_another_account_or_region_is_left_out_and_named() {
    for (region, account) in [
        ("us-east-1", Some("123456789012")),
        ("eu-north-1", Some("999999999999")),
        ("eu-north-1", None),
    ] {
        let place = TargetPlace {
            region: region.into(),
            account: account.map(str::to_owned),
        };
        let plan = TablePlan::of(&rich(), &target(), &place, &TableOverrides::default()).unwrap();
        assert!(
            plan.create
                .as_ref()
                .unwrap()
                .get("SSESpecification")
                .is_none()
        );
        assert!(
            left_out(&plan).contains(&format!("KMS key {KEY}").as_str()),
            "{region}"
        );
    }
}

#[test]
fn an_arn_of_elsewhere_is_refused_and_one_of_here_gives_its_name() {
    let of = |arn: &str| {
        TablePlan::of(
            &rich(),
            &arn.parse().unwrap(),
            &place(),
            &TableOverrides::default(),
        )
    };
    let here = of("arn:aws:dynamodb:eu-north-1:123456789012:table/copy").unwrap();
    assert_eq!(here.creates(), Some("copy"));
    for arn in [
        "arn:aws:dynamodb:us-east-1:123456789012:table/copy",
        "arn:aws:dynamodb:eu-north-1:999999999999:table/copy",
    ] {
        assert!(matches!(of(arn), Err(PlanError::ForeignTarget { target, .. }) if target == arn));
    }
}

#[test]
fn what_cannot_be_set_or_was_not_read_is_listed() {
    let mut settings = on_demand();
    settings.table["Replicas"] = json!([{"RegionName": "us-east-1"}]);
    settings.table["GlobalTableVersion"] = json!("2019.11.21");
    settings.table["ArchivalSummary"] =
        json!({"ArchivalReason": "INACCESSIBLE_ENCRYPTION_CREDENTIALS"});
    settings.table["WarmThroughput"] =
        json!({"ReadUnitsPerSecond": 20_000, "WriteUnitsPerSecond": 4000});
    settings.table["GlobalSecondaryIndexes"][0]["IndexSettingOfNextYear"] = json!(true);
    settings.tags = None;
    settings.unavailable = vec![UnavailableSetting {
        call: "ListTagsOfResource".into(),
        reason: "AccessDeniedException".into(),
    }];
    assert_eq!(
        left_out(&plan(&settings)),
        [
            "IndexSettingOfNextYear of global index by-customer",
            "warm throughput of the table, 20000 read and 4000 write units",
            "global table with replicas in us-east-1",
            "archival",
            "tags",
        ]
    );
}

#[test]
fn the_fiftieth_tag_waits_until_the_marker_is_gone() {
    let mut settings = on_demand();
    let tags: Vec<Value> = (0..50)
        .map(|n| json!({"Key": format!("k{n}"), "Value": ""}))
        .collect();
    settings.tags = Some(json!(tags));
    let plan = plan(&settings);
    assert_eq!(
        plan.create.as_ref().unwrap()["Tags"]
            .as_array()
            .unwrap()
            .len(),
        49
    );
    assert_eq!(plan.after_load[0].call, ChangeCall::UntagResource);
    assert_eq!(
        plan.after_load[1].request,
        json!({"Tags": [{"Key": "k49", "Value": ""}]})
    );
}

#[test]
fn a_description_that_cannot_make_a_table_is_refused_by_field() {
    let mut settings = rich();
    settings.table["ProvisionedThroughput"] =
        json!({"ReadCapacityUnits": 0, "WriteCapacityUnits": 0});
    let refused = TablePlan::of(&settings, &target(), &place(), &TableOverrides::default());
    let field = "ProvisionedThroughput";
    assert_eq!(refused, Err(PlanError::Settings(SettingsError { field })));
    settings.table["BillingModeSummary"] = json!({"BillingMode": "PER_MOON_PHASE"});
    let refused = TablePlan::of(&settings, &target(), &place(), &TableOverrides::default());
    let field = "BillingModeSummary.BillingMode";
    assert_eq!(refused, Err(PlanError::Settings(SettingsError { field })));
}

#[test]
fn a_backup_without_settings_makes_a_plain_table_and_says_what_is_unknown() {
    let schema = parse_key_schema("id:S,at:N").unwrap();
    let plan =
        TablePlan::minimal(&schema, &target(), &place(), &TableOverrides::default()).unwrap();
    assert_eq!(
        plan.create.clone().unwrap(),
        json!({
            "TableName": "orders-2",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "at", "AttributeType": "N"}],
            "BillingMode": "PAY_PER_REQUEST"
        })
    );
    assert_eq!(
        plan.describe()[0],
        "table orders-2: on demand, key id (S), at (N)"
    );
    assert_eq!(plan.not_restored.len(), 1);
}

#[test]
fn keys_are_spelled_name_and_type() {
    assert_eq!(parse_key_schema("a:b:B").unwrap().partition.name, "a:b");
    for (text, reason) in [
        ("id", "an attribute needs its type after a colon"),
        ("", "an attribute needs its type after a colon"),
        ("id:s", "the type of a key attribute is S, N or B"),
        ("id:S,at", "an attribute needs its type after a colon"),
        (
            "id:S,at:N,x:S",
            "a key has one or two attributes, and their names no comma here",
        ),
        (":S", "the name of a key attribute has 1 to 255 bytes"),
        ("id:S,id:N", "partition and sort key are the same attribute"),
    ] {
        let refused = parse_key_schema(text);
        assert_eq!(
            refused,
            Err(KeySpecError {
                text: text.into(),
                reason
            })
        );
    }
}

#[test]
fn plans_survive_the_record() {
    let plan = plan(&rich());
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<TablePlan>(&text).unwrap(), plan);
}
