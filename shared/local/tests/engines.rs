//! The engines, as the unmodified AWS SDKs see them.
#![allow(
    clippy::unwrap_used,
    reason = "clippy knows test functions, but not the functions that they share"
)]

use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier,
};
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3, LocalError};

fn s3(server: &EmbeddedS3) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .region(aws_sdk_s3::config::Region::new("eu-north-1"))
        .credentials_provider(aws_sdk_s3::config::Credentials::new(
            "anybody", "anything", None, None, "test",
        ))
        .endpoint_url(server.endpoint_url())
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn dynamodb(server: &EmbeddedDynamoDb) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new("eu-north-1"))
        .credentials_provider(aws_sdk_dynamodb::config::Credentials::new(
            "anybody", "anything", None, None, "test",
        ))
        .endpoint_url(server.endpoint_url())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str) {
    client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(
            KeySchemaElement::builder()
                .attribute_name("id")
                .key_type(KeyType::Hash)
                .build()
                .unwrap(),
        )
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name("id")
                .attribute_type(ScalarAttributeType::S)
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_table_in_memory_is_gone_with_its_engine() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let client = dynamodb(&engine);
    create_table(&client, "orders").await;
    client
        .put_item()
        .table_name("orders")
        .item("id", AttributeValue::S("a".into()))
        .send()
        .await
        .unwrap();
    let scan = client.scan().table_name("orders").send().await.unwrap();
    assert_eq!(scan.count(), 1);
    engine.stop().await;
    assert!(client.scan().table_name("orders").send().await.is_err());
}

#[tokio::test]
async fn a_database_file_outlives_its_engine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made/on/the/way.db");
    let engine = EmbeddedDynamoDb::open(&file).await.unwrap();
    create_table(&dynamodb(&engine), "orders").await;
    engine.stop().await;

    let engine = EmbeddedDynamoDb::open(&file).await.unwrap();
    let tables = dynamodb(&engine).list_tables().send().await.unwrap();
    assert_eq!(tables.table_names(), ["orders"]);
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(
        &file,
        "this is not a database at all, whatever its length may be",
    )
    .unwrap();
    let error = EmbeddedDynamoDb::open(&file).await.unwrap_err();
    assert!(
        matches!(&error, LocalError::Database { path, .. } if *path == file),
        "{error:?}"
    );
    let below_a_file = file.join("table.db");
    let error = EmbeddedDynamoDb::open(&below_a_file).await.unwrap_err();
    assert!(
        matches!(&error, LocalError::Folder { path, .. } if *path == file),
        "{error:?}"
    );
    let error = EmbeddedDynamoDb::open(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains(folder.path().to_str().unwrap()));
}

async fn bucket(root: &Path) -> (EmbeddedS3, aws_sdk_s3::Client) {
    let server = EmbeddedS3::start(root).await.unwrap();
    server.create_bucket("backups").await.unwrap();
    let client = s3(&server);
    (server, client)
}

async fn create(client: &aws_sdk_s3::Client, key: &str, body: &[u8]) -> Result<(), Option<String>> {
    client
        .put_object()
        .bucket("backups")
        .key(key)
        .if_none_match("*")
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .metadata("items", body.len().to_string())
        .body(ByteStream::from(body.to_vec()))
        .send()
        .await
        .map(drop)
        .map_err(|error| error.code().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_conditional_creates_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = bucket(folder.path()).await;
    for round in 0..8 {
        let key = format!("data/s00000-p{round:06}.json.gz");
        let bodies: Vec<Vec<u8>> = (0..16u8)
            .map(|n| vec![n; 1 + usize::from(n) * 700])
            .collect();
        let creates = bodies.iter().map(|body| create(&client, &key, body));
        let outcomes = futures::future::join_all(creates).await;
        let winners: Vec<usize> = (0..16).filter(|&n| outcomes[n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(
            outcomes
                .iter()
                .filter_map(|outcome| outcome.as_ref().err())
                .all(|code| { code.as_deref() == Some("PreconditionFailed") })
        );
        let read = client
            .get_object()
            .bucket("backups")
            .key(&key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        assert!(read.checksum_sha256().is_some());
        let expected = &bodies[winners[0]];
        assert_eq!(
            read.metadata().unwrap()["items"],
            expected.len().to_string()
        );
        assert_eq!(read.body.collect().await.unwrap().to_vec(), *expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_conditional_completions_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = bucket(folder.path()).await;
    let mut completions = Vec::new();
    for n in 0..8u8 {
        let upload = client
            .create_multipart_upload()
            .bucket("backups")
            .key("big")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .unwrap();
        let id = upload.upload_id().unwrap().to_owned();
        let part = client
            .upload_part()
            .bucket("backups")
            .key("big")
            .upload_id(&id)
            .part_number(1)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .body(ByteStream::from(vec![n; 1000]))
            .send()
            .await
            .unwrap();
        let parts = CompletedMultipartUpload::builder()
            .parts(
                CompletedPart::builder()
                    .part_number(1)
                    .set_e_tag(part.e_tag().map(str::to_owned))
                    .build(),
            )
            .build();
        completions.push(
            client
                .complete_multipart_upload()
                .bucket("backups")
                .key("big")
                .upload_id(id)
                .if_none_match("*")
                .multipart_upload(parts)
                .send(),
        );
    }
    let outcomes = futures::future::join_all(completions).await;
    let winners: Vec<usize> = (0..8).filter(|&n| outcomes[n].is_ok()).collect();
    assert_eq!(winners.len(), 1);
    let read = client.get_object().bucket("backups").key("big").send();
    let body = read.await.unwrap().body.collect().await.unwrap().to_vec();
    assert_eq!(body, vec![u8::try_from(winners[0]).unwrap(); 1000]);
}

#[tokio::test]
async fn odd_keys_name_themselves_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = bucket(folder.path()).await;
    for key in [
        "a+b",
        "a b",
        "100%",
        "%2F",
        "ünï/cödé/日本",
        "a&b=c;d?e#f",
        "x'\"<>",
    ] {
        create(&client, key, key.as_bytes()).await.unwrap();
        let read = client.get_object().bucket("backups").key(key).send().await;
        let body = read.unwrap().body.collect().await.unwrap().to_vec();
        assert_eq!(body, key.as_bytes(), "{key}");
    }
    let listed = client.list_objects_v2().bucket("backups").send().await;
    assert_eq!(listed.unwrap().contents().len(), 7);
    for key in ["../other/x", "a/../b", "a/./b", &"n".repeat(300)] {
        assert!(create(&client, key, b"x").await.is_err(), "{key}");
    }
}

#[tokio::test]
async fn what_is_absent_has_the_services_names() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = bucket(folder.path()).await;
    create(&client, "a/b", b"x").await.unwrap();
    let code = |bucket: &'static str, key: &'static str| {
        let call = client.get_object().bucket(bucket).key(key).send();
        async move { call.await.unwrap_err().code().map(str::to_owned) }
    };
    assert_eq!(code("backups", "none").await.as_deref(), Some("NoSuchKey"));
    assert_eq!(code("backups", "a").await.as_deref(), Some("NoSuchKey"));
    assert_eq!(
        code("elsewhere", "a").await.as_deref(),
        Some("NoSuchBucket")
    );
    assert!(matches!(
        server.create_bucket("No_Bucket").await,
        Err(LocalError::BucketName(name)) if name == "No_Bucket"
    ));
}

#[tokio::test]
async fn a_refused_upload_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = bucket(folder.path()).await;
    let wrong = client
        .put_object()
        .bucket("backups")
        .key("torn")
        .checksum_sha256("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        .body(ByteStream::from_static(b"not that"))
        .send()
        .await;
    assert_eq!(wrong.unwrap_err().code(), Some("BadDigest"));
    let head = client
        .head_object()
        .bucket("backups")
        .key("torn")
        .send()
        .await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
}

/// The client of a request may die while it is answered: the object is the old one or the new one, with its checksum.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_is_given_up_is_done_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = bucket(folder.path()).await;
    let (mut whole, mut given_up) = (0, 0);
    for number in 0..300_u64 {
        // A client of its own, so that the connection dies with the request.
        let mortal = s3(&server);
        let body = ByteStream::from(vec![b'x'; 100 + usize::try_from(number).unwrap()]);
        let put = mortal.put_object().bucket("backups").key("mark.json");
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).body(body);
        let patience = Duration::from_micros(500 + number % 100 * 60);
        given_up += u32::from(tokio::time::timeout(patience, put.send()).await.is_err());
        drop(mortal);
        let got = client.get_object().bucket("backups").key("mark.json");
        let got = got.checksum_mode(ChecksumMode::Enabled).send().await;
        if let Ok(object) = got {
            let read = object.body.collect().await;
            read.unwrap_or_else(|error| panic!("after replacement {number}: {error:?}"));
            whole += 1;
        }
    }
    assert!(
        whole > 100 && given_up > 10,
        "{whole} read, {given_up} given up"
    );
}

#[tokio::test]
async fn a_key_can_be_used_again_after_its_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = bucket(folder.path()).await;
    create(&client, "k", b"first").await.unwrap();
    let gone = [
        ObjectIdentifier::builder().key("k").build().unwrap(),
        ObjectIdentifier::builder().key("never").build().unwrap(),
    ];
    let deleted = client
        .delete_objects()
        .bucket("backups")
        .delete(
            Delete::builder()
                .set_objects(Some(gone.to_vec()))
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.deleted().len(), 2);
    client
        .put_object()
        .bucket("backups")
        .key("k")
        .body(ByteStream::from_static(b"second"))
        .send()
        .await
        .unwrap();
    let head = client
        .head_object()
        .bucket("backups")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(6));
    assert!(
        head.metadata()
            .is_none_or(std::collections::HashMap::is_empty)
    );
}

#[tokio::test]
async fn a_folder_is_served_once_and_keeps_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = bucket(folder.path()).await;
    create(&client, "k", b"kept").await.unwrap();
    assert!(matches!(
        EmbeddedS3::start(folder.path()).await,
        Err(LocalError::InUse { .. })
    ));
    drop(server);
    let (_server, client) = bucket(folder.path()).await;
    assert_eq!(
        create(&client, "k", b"x").await,
        Err(Some("PreconditionFailed".into()))
    );
}
