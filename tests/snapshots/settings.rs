//! `table.json`: everything that DynamoDB says of a table, as it says it.

use std::sync::Arc;

use highwater_domain::ids::SnapshotId;
use highwater_domain::key::ScalarType;
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::export_rules::Export;
use super::stage::{BUCKET, PREFIX, Stage};

const TABLE: &str = "furnished";

/// An operation's answer without an SDK in between, which might leave out what it does not know.
async fn ask(stage: &Stage, operation: &str, input: &Value) -> Value {
    let host = stage.dynamodb.endpoint_url().trim_start_matches("http://");
    let body = input.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amz-target: DynamoDB_20120810.{operation}\r\ncontent-length: {}\r\nx-amz-date: 20260114T101850Z\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=test/20260114/eu-north-1/dynamodb/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-target, Signature=00\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(host).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

async fn table_json(stage: &Stage, table: &str, id: &SnapshotId) -> Value {
    let key = format!("{PREFIX}/{table}/AWSDynamoDB/{id}/table.json");
    let object = stage
        .s3
        .get_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    let body = object.body.collect().await.unwrap().to_vec();
    serde_json::from_slice(&body).unwrap()
}

/// Backs a table up and gives its `table.json`, after a look at the rest.
async fn backed_up(stage: &Stage, table: &str) -> Value {
    let scanner = Arc::new(stage.clients.table_scanner());
    let id = stage.back_up(table, Stage::request(table), scanner).await;
    Export::new(&stage.s3, table, &id).check(|_| ()).await;
    table_json(stage, table, &id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_is_kept_as_dynamodb_says_it() {
    let stage = Stage::start().await;
    let shape = KeyShape {
        partition: ScalarType::B,
        sort: Some(ScalarType::N),
    };
    NewTable::new(TABLE, shape)
        .with_global_index()
        .with_local_index()
        .with_stream()
        .with_ttl("expires")
        .with_tag("team", "orders")
        .with_tag("cost centre", "\u{e9}/42")
        .provisioned(40, 20)
        .create(&stage.direct)
        .await
        .unwrap();
    let items: Vec<Vec<u8>> = Generator::new(3, shape)
        .items(60)
        .map(|item| item.json())
        .collect();
    stage.dynamodb.import(TABLE, items).await.unwrap();
    let kept = backed_up(&stage, TABLE).await;

    let described = ask(&stage, "DescribeTable", &json!({"TableName": TABLE})).await;
    assert_eq!(kept["table"], described["Table"], "verbatim");
    let table = &kept["table"];
    assert_eq!(
        table["KeySchema"],
        json!([{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}])
    );
    assert_eq!(table["AttributeDefinitions"].as_array().unwrap().len(), 4);
    assert_eq!(table["ProvisionedThroughput"]["ReadCapacityUnits"], 40);
    assert_eq!(table["ProvisionedThroughput"]["WriteCapacityUnits"], 20);
    assert_eq!(
        table["GlobalSecondaryIndexes"][0]["IndexName"],
        "by-gsi-key"
    );
    assert_eq!(
        table["GlobalSecondaryIndexes"][0]["Projection"]["ProjectionType"],
        "ALL"
    );
    assert_eq!(table["LocalSecondaryIndexes"][0]["IndexName"], "by-lsi-key");
    assert_eq!(
        table["StreamSpecification"],
        json!({"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"})
    );
    assert!(table["LatestStreamArn"].is_string());

    check_beside_the_table(&stage, &kept).await;
}

/// Time to live and tags, and a note of what could not be read.
async fn check_beside_the_table(stage: &Stage, kept: &Value) {
    let ttl = ask(stage, "DescribeTimeToLive", &json!({"TableName": TABLE})).await;
    assert_eq!(kept["time_to_live"], ttl["TimeToLiveDescription"]);
    assert_eq!(kept["time_to_live"]["AttributeName"], "expires");
    let arn = json!({"ResourceArn": kept["table"]["TableArn"]});
    let tags = ask(stage, "ListTagsOfResource", &arn).await;
    assert_eq!(kept["tags"], tags["Tags"]);
    let mut tags = kept["tags"].as_array().unwrap().clone();
    tags.sort_by_key(|tag| tag["Key"].to_string());
    assert_eq!(
        tags,
        [
            json!({"Key": "cost centre", "Value": "\u{e9}/42"}),
            json!({"Key": "team", "Value": "orders"})
        ]
    );
    // What could not be read is named, and nothing else is.
    let unavailable = kept["unavailable"].as_array().unwrap();
    assert_eq!(
        unavailable.len(),
        usize::from(kept["continuous_backups"].is_null()),
        "{kept}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_table_on_demand_has_what_it_has() {
    let stage = Stage::start().await;
    NewTable::new("plain", KeyShape::STRING)
        .create(&stage.direct)
        .await
        .unwrap();
    let kept = backed_up(&stage, "plain").await;
    let described = ask(&stage, "DescribeTable", &json!({"TableName": "plain"})).await;
    assert_eq!(kept["table"], described["Table"]);
    assert_eq!(
        kept["table"]["BillingModeSummary"]["BillingMode"],
        "PAY_PER_REQUEST"
    );
    assert_eq!(kept["table"].get("GlobalSecondaryIndexes"), None);
    assert_eq!(kept["tags"], json!([]));
    assert_ne!(kept["time_to_live"]["TimeToLiveStatus"], "ENABLED");
}
