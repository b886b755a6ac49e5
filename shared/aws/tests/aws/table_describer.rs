//! `DynamoDescriber`: settings as they are, known to the SDK or not, and what cannot be read.

use highwater_domain::failure::FailureKind;
use highwater_domain::table::{TableDescriber, UnavailableSetting};
use highwater_local::EmbeddedDynamoDb;
use serde_json::{Value, json};

use crate::loopback::{Answer, Asked, Loopback, clients};

const ARN: &str = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders";

fn table() -> Value {
    json!({
        "TableName": "orders",
        "TableArn": ARN,
        "TableStatus": "ACTIVE",
        "CreationDateTime": 1_768_385_930.622,
        "ItemCount": 9_007_199_254_740_993_u64,
        "SettingOfNextYear": {"On": [1, 2.5, null]},
    })
}

/// A service that knows more than the SDK does.
fn answer(asked: &Asked) -> Answer {
    let body = match asked.operation() {
        "DescribeTable" => json!({"Table": table()}),
        "DescribeTimeToLive" => {
            json!({"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl", "New": 1}})
        }
        "ListTagsOfResource" => {
            assert_eq!(asked.json()["ResourceArn"], ARN);
            match asked.json()["NextToken"].as_str() {
                None => {
                    json!({"Tags": [{"Key": "a", "Value": "1", "New": true}], "NextToken": "t1"})
                }
                Some("t1") => json!({"Tags": [], "NextToken": "t2"}),
                _ => json!({"Tags": [{"Key": "b", "Value": ""}]}),
            }
        }
        "DescribeContinuousBackups" => json!({"ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED", "New": []}
        }}),
        other => panic!("{other}"),
    };
    Answer::dynamodb(&body.to_string())
}

#[tokio::test]
async fn every_answer_is_kept_with_what_the_sdk_does_not_know() {
    let server = Loopback::start(answer).await;
    let describer = server.clients().await.table_describer();
    let settings = describer.describe("orders").await.unwrap();
    assert_eq!(settings.table, table());
    assert_eq!(settings.arn(), Ok(ARN));
    assert_eq!(
        settings.time_to_live,
        Some(json!({"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl", "New": 1}))
    );
    assert_eq!(
        settings.tags,
        Some(json!([{"Key": "a", "Value": "1", "New": true}, {"Key": "b", "Value": ""}]))
    );
    assert_eq!(
        settings.continuous_backups.unwrap()["PointInTimeRecoveryDescription"],
        json!({"PointInTimeRecoveryStatus": "DISABLED", "New": []})
    );
    assert_eq!(settings.unavailable, []);
}

#[tokio::test]
async fn what_the_service_will_not_tell_is_noted_with_the_reason() {
    let server = Loopback::start(|asked| match asked.operation() {
        "DescribeTable" => answer(asked),
        "DescribeTimeToLive" => Answer::refusal(400, "UnknownOperationException", ""),
        "ListTagsOfResource" => Answer::refusal(400, "AccessDeniedException", "not yours"),
        _ => Answer::dynamodb("{}"),
    })
    .await;
    let describer = server.clients().await.table_describer();
    let settings = describer.describe("orders").await.unwrap();
    assert_eq!(settings.table, table());
    assert_eq!(
        (
            settings.time_to_live,
            settings.tags,
            settings.continuous_backups
        ),
        (None, None, None)
    );
    let noted = |call: &str, reason: &str| UnavailableSetting {
        call: call.into(),
        reason: reason.into(),
    };
    assert_eq!(
        settings.unavailable,
        [
            noted("DescribeTimeToLive", "UnknownOperationException"),
            noted("ListTagsOfResource", "AccessDeniedException: not yours"),
            noted(
                "DescribeContinuousBackups",
                "the answer has no ContinuousBackupsDescription"
            ),
        ]
    );
}

#[tokio::test]
async fn a_throttle_is_waited_out_and_leaves_nothing_out() {
    let throttled = std::sync::atomic::AtomicBool::new(false);
    let server = Loopback::start(move |asked| {
        let first = asked.operation() == "ListTagsOfResource"
            && !throttled.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first {
            return Answer::refusal(400, "ThrottlingException", "slowly");
        }
        answer(asked)
    })
    .await;
    let describer = server.clients().await.table_describer();
    let settings = describer.describe("orders").await.unwrap();
    assert_eq!(settings.tags.unwrap().as_array().unwrap().len(), 2);
    assert_eq!(settings.unavailable, []);
}

#[tokio::test]
async fn an_outage_fails_rather_than_lose_a_setting() {
    let server = Loopback::start(|asked| match asked.operation() {
        "DescribeTimeToLive" => Answer::refusal(500, "InternalServerError", "sorry"),
        _ => answer(asked),
    })
    .await;
    let config = server
        .clients()
        .await
        .dynamodb_without_retries()
        .config()
        .clone();
    let describer =
        highwater_aws::DynamoDescriber::new(aws_sdk_dynamodb::Client::from_conf(config));
    let failure = describer.describe("orders").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transient);
    assert_eq!(failure.operation, "DescribeTimeToLive");
}

#[tokio::test]
async fn an_embedded_table_is_described_and_an_absent_one_is_not_found() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = clients(engine.endpoint_url()).await;
    let failure = clients
        .table_describer()
        .describe("orders")
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    assert_eq!(failure.resource, "orders");

    clients.control_table("orders").ensure().await.unwrap();
    let settings = clients.table_describer().describe("orders").await.unwrap();
    assert_eq!(settings.name(), Ok("orders"));
    assert_eq!(settings.status(), Ok("ACTIVE"));
    assert_eq!(settings.key_schema().unwrap().partition.name, "id");
    assert!(
        settings.time_to_live.is_some(),
        "{:?}",
        settings.unavailable
    );
}
