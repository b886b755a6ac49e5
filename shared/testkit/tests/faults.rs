//! The fault proxy between the unmodified SDKs and the engines.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows test functions, but not the functions that they share"
)]

use std::collections::BTreeSet;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use bytes::Bytes;
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3};
use highwater_testkit::clients;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::fill::{TableWriter, fill};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

type DynamoDb = aws_sdk_dynamodb::Client;

async fn table_behind_a_proxy() -> (EmbeddedDynamoDb, FaultProxy, DynamoDb) {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let proxy = FaultProxy::start(engine.endpoint_url(), 1).await.unwrap();
    let client = clients::dynamodb_without_retries(proxy.endpoint_url());
    NewTable::new("orders", KeyShape::STRING)
        .create(&client)
        .await
        .unwrap();
    (engine, proxy, client)
}

async fn put(client: &DynamoDb, id: &str) -> Result<(), Option<String>> {
    let request = client
        .put_item()
        .table_name("orders")
        .item("pk", AttributeValue::S(id.to_owned()));
    match request.send().await {
        Ok(_) => Ok(()),
        Err(SdkError::ServiceError(error)) => Err(error.err().meta().code().map(str::to_owned)),
        Err(_) => Err(None),
    }
}

async fn ids(engine: &EmbeddedDynamoDb) -> BTreeSet<String> {
    let client = clients::dynamodb(engine.endpoint_url());
    let scan = client.scan().table_name("orders").send().await.unwrap();
    let items = scan.items().iter();
    items
        .map(|item| item["pk"].as_s().unwrap().clone())
        .collect()
}

#[tokio::test]
async fn refusals_have_the_services_names_and_no_effect() {
    let (engine, proxy, client) = table_behind_a_proxy().await;
    for (fault, code) in [
        (Fault::Throttle, "ProvisionedThroughputExceededException"),
        (Fault::ThrottlingException, "ThrottlingException"),
        (Fault::ServerError, "InternalServerError"),
    ] {
        proxy.clear();
        proxy.inject(Rule::rate(fault, 1.0).on("PutItem"));
        for _ in 0..8 {
            assert_eq!(put(&client, "a").await, Err(Some(code.to_owned())));
        }
        assert_eq!(proxy.count(fault), 8);
    }
    assert!(ids(&engine).await.is_empty());
    proxy.set_enabled(false);
    put(&client, "a").await.unwrap();
    assert_eq!(ids(&engine).await.len(), 1);
}

#[tokio::test]
async fn a_dropped_request_has_no_effect_and_a_lost_answer_has() {
    let (engine, proxy, client) = table_behind_a_proxy().await;
    let faults = [
        (Fault::DropRequest, "dropped", false),
        (Fault::LoseAnswer, "lost", true),
        (Fault::TruncateAnswer, "truncated", true),
    ];
    for (fault, id, takes_effect) in faults {
        proxy.clear();
        proxy.inject(Rule::nth(fault, 1).on("PutItem"));
        assert_eq!(put(&client, id).await, Err(None), "{fault:?}");
        assert_eq!(ids(&engine).await.contains(id), takes_effect, "{fault:?}");
        put(&client, id).await.unwrap();
        assert_eq!(proxy.count(fault), 1);
    }
}

/// Whether the answer to a `ListTables` request has the checksum that it says, and is JSON.
async fn checksum_holds(url: &str) -> (bool, bool) {
    let request = hyper::Request::post(format!("{url}/"))
        .header("x-amz-target", "DynamoDB_20120810.ListTables")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-date", "20260101T000000Z")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/eu-north-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
        .body(Full::<Bytes>::from("{}"))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.unwrap();
    let claimed = answer.headers()["x-amz-crc32"].to_str().unwrap().to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let holds = claimed == crc32fast::hash(&body).to_string();
    (holds, body == r#"{"TableNames":["orders"]}"#)
}

#[tokio::test]
async fn checksums_of_answers_are_kept_or_broken_as_told() {
    let (_engine, proxy, _client) = table_behind_a_proxy().await;
    let url = proxy.endpoint_url();
    assert_eq!(checksum_holds(url).await, (true, true));
    proxy.inject(Rule::nth(Fault::WrongChecksum, 1));
    assert_eq!(checksum_holds(url).await, (false, true));
    proxy.inject(Rule::nth(Fault::CorruptAnswer, 1));
    assert_eq!(checksum_holds(url).await, (false, false));
}

#[tokio::test]
async fn a_duplicate_takes_effect_twice() {
    let (engine, proxy, client) = table_behind_a_proxy().await;
    proxy.inject(Rule::nth(Fault::Duplicate, 1).on("UpdateItem"));
    client
        .update_item()
        .table_name("orders")
        .key("pk", AttributeValue::S("a".into()))
        .update_expression("ADD n :one")
        .expression_attribute_values(":one", AttributeValue::N("1".into()))
        .send()
        .await
        .unwrap();
    let direct = clients::dynamodb(engine.endpoint_url());
    let scan = direct.scan().table_name("orders").send().await.unwrap();
    assert_eq!(scan.items()[0]["n"], AttributeValue::N("2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_survives_all_faults_and_writes_everything() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let proxy = FaultProxy::start(engine.endpoint_url(), 7).await.unwrap();
    let retries = aws_sdk_dynamodb::config::retry::RetryConfig::standard()
        .with_max_attempts(20)
        .with_initial_backoff(std::time::Duration::from_millis(1))
        .with_max_backoff(std::time::Duration::from_millis(5));
    let config = clients::dynamodb_config(proxy.endpoint_url()).retry_config(retries);
    let client = DynamoDb::from_conf(config.build());
    NewTable::new("orders", KeyShape::STRING)
        .create(&client)
        .await
        .unwrap();
    let faults = [
        Fault::Unprocessed,
        Fault::Throttle,
        Fault::LoseAnswer,
        Fault::TruncateAnswer,
        Fault::DropRequest,
        Fault::Duplicate,
        Fault::Delay(2),
    ];
    for fault in faults {
        proxy.inject(Rule::rate(fault, 0.1));
    }
    let generator = Generator::small(1, KeyShape::STRING);
    let items = generator.items(1000).map(|item| Ok::<_, ()>(item.sdk()));
    let filled = fill(items, 4, &TableWriter::new(&client, "orders"))
        .await
        .unwrap();
    assert_eq!(filled.items, 1000);
    assert!(filled.unprocessed > 0);
    assert_eq!(ids(&engine).await.len(), 1000);
    assert!(proxy.injected().len() >= 5, "{:?}", proxy.injected());
}

#[tokio::test]
async fn s3_is_mistreated_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let engine = EmbeddedS3::start(folder.path()).await.unwrap();
    engine.create_bucket("backups").await.unwrap();
    let proxy = FaultProxy::start(engine.endpoint_url(), 1).await.unwrap();
    let client = clients::s3_without_retries(proxy.endpoint_url());
    let put = |key: &'static str| {
        client
            .put_object()
            .bucket("backups")
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .body(ByteStream::from_static(b"some bytes of a part"))
            .send()
    };
    let get = |key: &'static str| {
        let request = client.get_object().bucket("backups").key(key);
        request.checksum_mode(ChecksumMode::Enabled).send()
    };

    proxy.inject(
        Rule::nth(Fault::Throttle, 1)
            .on("PutObject")
            .under("/backups/a"),
    );
    assert_eq!(put("a+b c").await.unwrap_err().code(), Some("SlowDown"));
    put("a+b c").await.unwrap();

    proxy.inject(
        Rule::nth(Fault::LoseAnswer, 1)
            .on("PutObject")
            .under("/backups/lost"),
    );
    assert!(put("lost").await.is_err());
    assert_eq!(
        put("lost").await.unwrap_err().code(),
        Some("PreconditionFailed")
    );

    let read = get("a+b c").await.unwrap();
    let body = read.body.collect().await.unwrap().to_vec();
    assert_eq!(body, b"some bytes of a part");
    for fault in [
        Fault::WrongChecksum,
        Fault::CorruptAnswer,
        Fault::TruncateAnswer,
    ] {
        proxy.inject(Rule::nth(fault, 1).on("GetObject"));
        let read = get("a+b c").await.unwrap();
        assert!(read.body.collect().await.is_err(), "{fault:?}");
    }
    let head = client
        .head_object()
        .bucket("backups")
        .key("lost")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(20));
}
