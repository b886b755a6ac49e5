//! Which engine is asked, as whom, and what is said when that is not known.

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::scan::{ScanRequest, TableScanner};
use highwater_domain::selection::Selection;

use crate::loopback::{Answer, Loopback};

fn request() -> ScanRequest {
    ScanRequest {
        table: "orders".into(),
        segment: 0,
        total_segments: 1,
        exclusive_start_key: None,
        consistent: true,
        limit: None,
        selection: Selection::default(),
    }
}

#[tokio::test]
async fn each_service_is_asked_at_its_own_endpoint_and_buckets_by_path() {
    let dynamodb = Loopback::answering([Answer::dynamodb(
        r#"{"Count":0,"ScannedCount":0,"Items":[]}"#,
    )])
    .await;
    let s3 = Loopback::answering([Answer::new(200, "bytes")]).await;
    let clients = Clients::connect(&ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some("http://127.0.0.1:1".into()),
        dynamodb_endpoint_url: Some(dynamodb.url.clone()),
        s3_endpoint_url: Some(s3.url.clone()),
        ..ConnectionSettings::default()
    })
    .await
    .unwrap();
    assert_eq!(clients.region(), "eu-north-1");
    clients.table_scanner().scan_page(&request()).await.unwrap();
    let read = clients.s3_store("bucket").read("a key").await.unwrap();
    assert_eq!(read.unwrap(), "bytes");
    assert_eq!(dynamodb.asked()[0].operation(), "Scan");
    assert_eq!(s3.asked()[0].target, "/bucket/a%20key?x-id=GetObject");
    for asked in [&dynamodb.asked()[0], &s3.asked()[0]] {
        let authorization = &asked.headers["authorization"];
        assert!(authorization.contains("/eu-north-1/"), "{authorization}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused_by_name() {
    let settings = ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some("localhost:8000".into()),
        ..ConnectionSettings::default()
    };
    let failure = Clients::connect(&settings).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.resource, "localhost:8000");
}
