//! Failures of DynamoDB itself, as classes with the SDK's error kept underneath.

use std::error::Error as _;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use highwater_kv::{AwsError, FailureClass};

use crate::engine::*;
use crate::probes::LossyClient;

fn aws(error: Error) -> AwsError {
    match error {
        Error::Aws(error) => *error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_table_is_named_and_told_from_a_missing_record() {
    let (_engine, table) = fresh_table().await;
    let missing = table.store().table("missing");
    let error = missing.partition("p").get("n").await.unwrap_err();
    assert!(!error.is_conflict());
    let error = aws(error);
    assert_eq!(error.class, FailureClass::NotFound);
    assert_eq!(
        (error.operation, error.table.as_str()),
        ("GetItem", "missing")
    );
    assert_eq!(error.code.as_deref(), Some("ResourceNotFoundException"));
    let source = error.source().unwrap();
    assert!(source.downcast_ref::<SdkError<GetItemError>>().is_some());
    assert!(
        error
            .to_string()
            .starts_with("GetItem on missing failed: ResourceNotFoundException: ")
    );
}

#[tokio::test]
async fn a_wrong_request_is_invalid_with_dynamodbs_own_words() {
    let (_engine, table) = fresh_table().await;
    let error = table.partition("").get("n").await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Invalid);
    let error = table
        .partition("p")
        .list(&List::new().limit(0))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Invalid);
    let index = List::new().index(Index::local("no_such_index", "f"));
    let error = table.partition("p").list(&index).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Invalid);
    let by = table.list_by("x", &List::new()).await.unwrap_err();
    assert!(matches!(by, Error::Index { .. }));
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_lost_answers_are_transient() {
    let (engine, _table) = fresh_table().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let closed = config(&engine).endpoint_url(endpoint).build();
    let closed = Store::new(aws_sdk_dynamodb::Client::from_conf(closed)).table("kv-table");
    let error = aws(closed.partition("p").get("n").await.unwrap_err());
    assert_eq!(error.class, FailureClass::Unreachable, "{error}");

    let lossy = LossyClient::new();
    lossy.lose(100);
    let lossy = config(&engine).http_client(lossy).build();
    let lossy = Store::new(aws_sdk_dynamodb::Client::from_conf(lossy)).table("kv-table");
    let error = lossy.partition("p").get("n").await.unwrap_err();
    assert!(error.is_retryable());
    assert!(
        error.to_string().contains("the connection was dropped"),
        "{error}"
    );
}

#[tokio::test]
async fn absent_credentials_are_denied() {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new("eu-central-1"))
        .endpoint_url("http://127.0.0.1:1")
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let table = Store::new(aws_sdk_dynamodb::Client::from_conf(config)).table("kv-table");
    let error = aws(table.state().await.unwrap_err());
    assert_eq!(error.class, FailureClass::Denied, "{error}");
}
