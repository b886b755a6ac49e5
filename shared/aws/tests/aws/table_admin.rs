//! `DynamoAdmin`: the laws on an embedded DynamoDB, and what the service says that the engine does not.

use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::Creation;
use highwater_domain::table_admin::{ChangeCall, TableAdmin, TableChange};
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::table_admin::{Account, every_law};
use serde_json::{Value, json};

use crate::loopback::{Answer, Asked, Loopback, clients};

const ARN: &str = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders";

#[tokio::test]
async fn an_embedded_dynamodb_keeps_the_laws() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = clients(engine.endpoint_url()).await;
    every_law(Account {
        admin: &clients.table_admin(),
        describer: &clients.table_describer(),
    })
    .await;
}

fn change(call: ChangeCall, request: Value) -> TableChange {
    TableChange {
        what: "a setting".into(),
        call,
        request,
    }
}

/// One change of each kind.
fn changes() -> [TableChange; 5] {
    [
        change(
            ChangeCall::UpdateTimeToLive,
            json!({
                "TableName": "orders",
                "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "expires"}
            }),
        ),
        change(
            ChangeCall::UpdateTable,
            json!({
                "TableName": "orders",
                "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_IMAGE"}
            }),
        ),
        change(
            ChangeCall::UpdateContinuousBackups,
            json!({
                "TableName": "orders",
                "PointInTimeRecoverySpecification": {
                    "PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 7
                }
            }),
        ),
        change(
            ChangeCall::TagResource,
            json!({"ResourceArn": ARN, "Tags": [{"Key": "a", "Value": "1"}]}),
        ),
        change(
            ChangeCall::UntagResource,
            json!({"ResourceArn": ARN, "TagKeys": ["b"]}),
        ),
    ]
}

/// What a table says of itself on which every change of [`changes`] is in force, or none is.
fn described(asked: &Asked, in_force: bool) -> Answer {
    let body = match asked.operation() {
        "DescribeTable" => json!({"Table": {
            "TableName": "orders",
            "TableArn": ARN,
            "StreamSpecification": {
                "StreamEnabled": true,
                "StreamViewType": if in_force { "NEW_IMAGE" } else { "KEYS_ONLY" }
            }
        }}),
        "DescribeTimeToLive" => json!({"TimeToLiveDescription": {
            "TimeToLiveStatus": "ENABLING",
            "AttributeName": if in_force { "expires" } else { "other" }
        }}),
        "ListTagsOfResource" => {
            json!({"Tags": [{"Key": if in_force { "a" } else { "b" }, "Value": "1"}]})
        }
        "DescribeContinuousBackups" => json!({"ContinuousBackupsDescription": {
            "PointInTimeRecoveryDescription": {
                "PointInTimeRecoveryStatus": "ENABLED",
                "RecoveryPeriodInDays": if in_force { 7 } else { 35 }
            }
        }}),
        other => panic!("{other} was asked for"),
    };
    Answer::dynamodb(&body.to_string())
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_with_members_that_no_sdk_knows() {
    let server = Loopback::answering([Answer::dynamodb("{}")]).await;
    let admin = server.clients().await.table_admin();
    let mut sent = Vec::new();
    for mut change in changes() {
        change.request["SettingOfNextYear"] = json!({"On": [1, 2.50]});
        admin.change(&change).await.unwrap();
        sent.push((format!("{:?}", change.call), change.request));
    }
    let create = json!({"TableName": "orders", "SettingOfNextYear": true});
    assert_eq!(
        admin.create_table(&create).await.unwrap(),
        Creation::Created
    );
    sent.push(("CreateTable".to_owned(), create));
    let asked: Vec<(String, Value)> = server
        .asked()
        .iter()
        .map(|asked| (asked.operation().to_owned(), asked.json()))
        .collect();
    assert_eq!(asked, sent);
}

#[tokio::test]
async fn a_refused_change_counts_only_if_the_table_is_as_asked() {
    for in_force in [true, false] {
        let server = Loopback::start(move |asked| match asked.operation() {
            call if call.starts_with("Describe") || call.starts_with("List") => {
                described(asked, in_force)
            }
            _ => Answer::refusal(400, "ValidationException", "it is so already"),
        })
        .await;
        let admin = server.clients().await.table_admin();
        for change in changes() {
            let done = admin.change(&change).await;
            if in_force {
                done.unwrap();
            } else {
                let failure = done.unwrap_err();
                assert_eq!(failure.kind, FailureKind::Invalid);
                assert!(failure.message.ends_with("it is so already"), "{failure}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_whose_reason_cannot_be_looked_up_stays_what_it_is() {
    for (code, kind) in [
        ("AccessDeniedException", FailureKind::Invalid),
        ("InternalServerError", FailureKind::Transient),
    ] {
        let server = Loopback::start(move |asked| match asked.operation() {
            "DescribeTable" => Answer::refusal(400, code, "not now"),
            _ => Answer::refusal(400, "ValidationException", "no"),
        })
        .await;
        let client = server.clients().await.dynamodb_without_retries();
        let admin = highwater_aws::DynamoAdmin::new(client);
        for change in changes() {
            let failure = admin.change(&change).await.unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
        }
    }
}

#[tokio::test]
async fn what_only_has_to_wait_can_be_repeated() {
    for (code, message, kind) in [
        (
            "ResourceInUseException",
            "it is being updated",
            FailureKind::Transient,
        ),
        (
            "ContinuousBackupsUnavailableException",
            "soon",
            FailureKind::Transient,
        ),
        (
            "LimitExceededException",
            "too many at once",
            FailureKind::Throttled,
        ),
        (
            "ValidationException",
            "Time to live has been modified multiple times within a fixed interval",
            FailureKind::Throttled,
        ),
    ] {
        let server = Loopback::start(move |_| Answer::refusal(400, code, message)).await;
        let client = server.clients().await.dynamodb_without_retries();
        let admin = highwater_aws::DynamoAdmin::new(client);
        for change in changes() {
            let failure = admin.change(&change).await.unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.kind.is_retryable());
        }
    }
}

#[tokio::test]
async fn a_table_of_that_name_exists_and_other_refusals_are_failures() {
    for (code, outcome) in [
        ("ResourceInUseException", Ok(Creation::Exists)),
        ("ValidationException", Err(FailureKind::Invalid)),
        ("LimitExceededException", Err(FailureKind::Throttled)),
        ("AccessDeniedException", Err(FailureKind::Denied)),
    ] {
        let server = Loopback::start(move |_| Answer::refusal(400, code, "told so")).await;
        let client = server.clients().await.dynamodb_without_retries();
        let admin = highwater_aws::DynamoAdmin::new(client);
        let created = admin.create_table(&json!({"TableName": "orders"})).await;
        assert_eq!(created.map_err(|failure| failure.kind), outcome);
    }
}

#[tokio::test]
async fn a_request_that_names_no_table_is_not_sent() {
    let server = Loopback::answering([Answer::dynamodb("{}")]).await;
    let admin = server.clients().await.table_admin();
    let failure = admin.create_table(&json!({})).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    for mut change in changes() {
        let members = change.request.as_object_mut().unwrap();
        members.remove("TableName");
        members.remove("ResourceArn");
        let failure = admin.change(&change).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert_eq!(failure.operation, format!("{:?}", change.call));
    }
    assert_eq!(server.asked().len(), 0);
}
