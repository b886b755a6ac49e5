//! The replay server, seen from its clients: the real program and the SDKs.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot start its server has failed"
)]

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Delete, EncodingType, ObjectIdentifier};
use highwater_benches::backup;
use highwater_benches::data_set::DataSet;
use highwater_benches::server::ReplayServer;
use highwater_benches::table::ReplayTable;
use highwater_testkit::clients;
use highwater_tests::binaries;

/// A server with one table.
async fn server(set: DataSet, wire_bytes: u64) -> ReplayServer {
    let table = ReplayTable::new(set, wire_bytes);
    ReplayServer::start(0, table).await.unwrap()
}

/// `backup::run` fails unless the items, parts and bytes of `backup.json` are what passed the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_completes_and_its_sums_are_the_servers() {
    let highwater = binaries::path("highwater");
    let table = ReplayTable::new(DataSet::Medium, 20_000_000).unwrap();
    let items = table.items();
    let server = ReplayServer::start(0, [table]).await.unwrap();
    let more = ["--part-size".into(), "1MB".into()];
    let run = backup::run(&highwater, &server, DataSet::Medium, &more)
        .await
        .unwrap();
    assert_eq!(run.served.items, items);
    assert!(run.served.wire_bytes >= 20_000_000);
    assert!(run.usage.cpu_seconds > 0.0);
    assert!(run.usage.peak_rss_bytes > 0);
}

#[tokio::test]
async fn a_backup_that_fails_says_why() {
    let highwater = binaries::path("highwater");
    let server = server(DataSet::Small, 1).await;
    let error = backup::run(&highwater, &server, DataSet::Large, &[])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("large"), "{error}");
}

#[tokio::test]
async fn a_scan_goes_on_where_it_stopped() {
    let server = server(DataSet::Large, 3_000_000).await;
    let client = clients::dynamodb(server.endpoint_url());
    let described = client.describe_table().table_name("large").send();
    let table = described.await.unwrap().table.unwrap();
    let (mut start, mut items) = (None, 0);
    loop {
        let scan = client.scan().table_name("large").limit(40);
        let page = scan.set_exclusive_start_key(start).send().await.unwrap();
        items += i64::from(page.count());
        let last = page.items().last().unwrap();
        start = page.last_evaluated_key.clone();
        match &start {
            Some(key) => assert_eq!(key["pk"], last["pk"]),
            None => break,
        }
    }
    assert_eq!(Some(items), table.item_count());
}

#[tokio::test]
async fn what_cannot_be_served_is_refused() {
    let server = server(DataSet::Small, 1).await;
    let client = clients::dynamodb(server.endpoint_url());
    let filtered = client.scan().table_name("small").filter_expression("a = b");
    let error = filtered.send().await.unwrap_err().into_service_error();
    assert!(format!("{error:?}").contains("FilterExpression"));
    let foreign = client
        .scan()
        .table_name("small")
        .exclusive_start_key("pk", AttributeValue::S("small-0-000001".into()));
    let error = foreign.send().await.unwrap_err().into_service_error();
    assert!(format!("{error:?}").contains("starting key is invalid"));
    let missing = client.scan().table_name("orders").send();
    let error = missing.await.unwrap_err().into_service_error();
    assert!(error.is_resource_not_found_exception());
}

#[tokio::test]
async fn the_sink_keeps_the_first_of_two_creates_and_what_it_says_of_it() {
    let server = server(DataSet::Small, 1).await;
    let s3 = clients::s3(server.endpoint_url());
    let put = |key: &str, body: Vec<u8>| {
        s3.put_object()
            .bucket("bucket")
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .metadata("items", "17")
            .body(ByteStream::from(body))
            .send()
    };
    put("a/<b> & c+d.json", b"{}".to_vec()).await.unwrap();
    put("a/part.gz", vec![7; 3_000_000]).await.unwrap();
    let again = put("a/part.gz", vec![8; 5]).await.unwrap_err();
    assert_eq!(again.raw_response().unwrap().status().as_u16(), 412);

    let head = s3.head_object().bucket("bucket").key("a/part.gz");
    let head = head
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(3_000_000));
    assert_eq!(head.metadata().unwrap()["items"], "17");
    assert_eq!(head.checksum_sha256().unwrap().len(), 44);
    let dropped = s3.get_object().bucket("bucket").key("a/part.gz").send();
    assert!(dropped.await.is_err());
    let kept = s3.get_object().bucket("bucket").key("a/<b> & c+d.json");
    let kept = kept
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(kept.body.collect().await.unwrap().to_vec(), b"{}");
}

/// A file is uploaded in the aws-chunked framing, with its checksum behind it.
#[tokio::test]
async fn a_framed_upload_is_the_file_and_not_its_framing() {
    let server = server(DataSet::Small, 1).await;
    let s3 = clients::s3(server.endpoint_url());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 200_000]).unwrap();
    let body = ByteStream::from_path(file.path()).await.unwrap();
    let put = s3.put_object().bucket("bucket").key("file");
    let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).body(body);
    put.send().await.unwrap();
    let get = s3.get_object().bucket("bucket").key("file").send();
    let got = get.await.unwrap().body.collect().await.unwrap().to_vec();
    assert_eq!(got, vec![b'x'; 200_000]);
}

#[tokio::test]
async fn listings_have_pages_folders_and_awkward_keys() {
    let server = server(DataSet::Small, 1).await;
    let s3 = clients::s3(server.endpoint_url());
    let keys = ["a/1", "a/2 <&>", "b", "c/d/e", "c/f"];
    for key in keys {
        let put = s3.put_object().bucket("bucket").key(key);
        put.body(ByteStream::from_static(b"12345"))
            .send()
            .await
            .unwrap();
    }
    let list = || s3.list_objects_v2().bucket("bucket").max_keys(2);
    let pages = list().into_paginator().send().collect::<Vec<_>>().await;
    let listed: Vec<_> = pages
        .iter()
        .flat_map(|page| page.as_ref().unwrap().contents())
        .map(|object| (object.key().unwrap(), object.size()))
        .collect();
    assert_eq!(listed, keys.map(|key| (key, Some(5))));

    let mut entries = Vec::new();
    let mut folders = list().delimiter("/").into_paginator().send();
    while let Some(page) = folders.next().await {
        let page = page.unwrap();
        entries.extend(
            page.common_prefixes()
                .iter()
                .map(|it| it.prefix().unwrap().to_owned()),
        );
        entries.extend(
            page.contents()
                .iter()
                .map(|it| it.key().unwrap().to_owned()),
        );
    }
    assert_eq!(entries, ["a/", "b", "c/"]);
    let below = s3.list_objects_v2().bucket("bucket").prefix("a/");
    let below = below.encoding_type(EncodingType::Url).send().await.unwrap();
    let below: Vec<_> = below
        .contents()
        .iter()
        .map(|it| it.key().unwrap())
        .collect();
    assert_eq!(below, ["a/1", "a/2%20%3C%26%3E"]);

    let key = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
    let both = Delete::builder().objects(key("a/2 <&>")).objects(key("b"));
    let delete = s3.delete_objects().bucket("bucket");
    delete.delete(both.build().unwrap()).send().await.unwrap();
    assert_eq!(server.stored_below("bucket", "").objects, 3);
}
