//! `S3Store`: the laws on an embedded S3, and what only a misbehaving server shows.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_aws::S3Store;
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_local::EmbeddedS3;
use highwater_testkit::conformance::object_store::every_law;
use sha2::{Digest, Sha256};

use crate::loopback::{Answer, Loopback, clients};

fn object(key: &str, body: &str) -> NewObject {
    NewObject {
        key: key.into(),
        body: body.to_owned().into(),
        content_type: "application/gzip",
        item_count: Some(7),
        ..NewObject::default()
    }
}

async fn embedded() -> (EmbeddedS3, tempfile::TempDir, S3Store) {
    let root = tempfile::tempdir().unwrap();
    let engine = EmbeddedS3::start(root.path()).await.unwrap();
    engine.create_bucket("bucket").await.unwrap();
    let store = clients(engine.endpoint_url()).await.s3_store("bucket");
    (engine, root, store)
}

async fn against(server: &Loopback) -> S3Store {
    server.clients().await.s3_store("bucket")
}

#[tokio::test]
async fn an_embedded_s3_keeps_the_laws() {
    let (_engine, _root, store) = embedded().await;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    every_law(&store).await;
}

#[tokio::test]
async fn facts_tell_size_hash_and_item_count_without_a_download() {
    let (_engine, _root, store) = embedded().await;
    store.create(object("a part", "lines")).await.unwrap();
    let facts = store.facts("a part").await.unwrap().unwrap();
    assert_eq!(facts.bytes, 5);
    assert_eq!(facts.sha256, Some(Sha256::digest("lines").into()));
    assert_eq!(facts.item_count, Some(7));
    let plain = NewObject {
        item_count: None,
        ..object("plain", "x")
    };
    store.replace(plain).await.unwrap();
    assert_eq!(
        store.facts("plain").await.unwrap().unwrap().item_count,
        None
    );
    assert_eq!(store.url("a part"), "s3://bucket/a part");
    assert_eq!(store.bucket(), "bucket");
}

#[tokio::test]
async fn a_missing_bucket_is_not_found_whatever_is_asked() {
    let (engine, _root, _) = embedded().await;
    let clients = clients(engine.endpoint_url()).await;
    let store = clients.s3_store("no-such-bucket");
    let failures = [
        store.read("k").await.unwrap_err(),
        store.facts("k").await.unwrap_err(),
        store.create(object("k", "x")).await.unwrap_err(),
        store.replace(object("k", "x")).await.unwrap_err(),
        store.list("", None).await.unwrap_err(),
        store.list_folders("", None).await.unwrap_err(),
        store.delete(&["k".into()]).await.unwrap_err(),
    ];
    for failure in failures {
        assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
        assert!(
            failure.resource.starts_with("s3://no-such-bucket"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn more_than_a_page_is_listed_and_deleted_whole() {
    let (_engine, root, store) = embedded().await;
    let keys: Vec<String> = (0..1203).map(|n| format!("many/{n:04}&+ é")).collect();
    // Straight into the engine's folder: so many uploads take seconds.
    let bucket = root.path().join("bucket");
    std::fs::create_dir(bucket.join("many")).unwrap();
    for key in &keys {
        std::fs::write(bucket.join(key), "x").unwrap();
    }
    let mut listed = Vec::new();
    let mut after: Option<String> = None;
    let mut pages = 0;
    loop {
        let page = store.list("many/", after.as_deref()).await.unwrap();
        listed.extend(page.objects.into_iter().map(|object| object.key));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 2);
    assert_eq!(listed, keys);
    store.delete(&keys).await.unwrap();
    assert_eq!(store.list("many/", None).await.unwrap().objects, []);
}

#[tokio::test]
async fn a_create_is_conditional_and_carries_its_hash() {
    let server = Loopback::answering([Answer::new(200, "")]).await;
    let creation = against(&server)
        .await
        .create(object("a+b/ü", "lines"))
        .await
        .unwrap();
    assert_eq!(creation, Creation::Created);
    let asked = &server.asked()[0];
    assert_eq!(asked.method, "PUT");
    assert!(
        asked.target.starts_with("/bucket/a%2Bb/%C3%BC"),
        "{}",
        asked.target
    );
    assert_eq!(asked.headers["if-none-match"], "*");
    assert_eq!(
        asked.headers["x-amz-checksum-sha256"],
        BASE64.encode(Sha256::digest("lines"))
    );
    assert_eq!(asked.headers["content-type"], "application/gzip");
    assert_eq!(asked.headers["x-amz-meta-highwater-items"], "7");
    assert_eq!(asked.text(), "lines");
}

/// A hash that is known is signed and sent as it is, and the service holds the body against it.
#[tokio::test]
async fn a_hash_that_is_known_is_not_computed_again() {
    let known = |sha256| NewObject {
        sha256: Some(sha256),
        ..object("k", "lines")
    };
    let (_engine, _root, store) = embedded().await;
    let right: [u8; 32] = Sha256::digest("lines").into();
    store.create(known(right)).await.unwrap();
    assert_eq!(store.read("k").await.unwrap().unwrap(), "lines");
    let failure = store.replace(known([7; 32])).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    assert_eq!(store.facts("k").await.unwrap().unwrap().sha256, Some(right));

    let server = Loopback::answering([Answer::new(200, "")]).await;
    let store = against(&server).await;
    store.replace(known([7; 32])).await.unwrap();
    let headers = &server.asked()[0].headers;
    assert_eq!(headers["x-amz-content-sha256"], "07".repeat(32));
    assert_eq!(headers["x-amz-checksum-sha256"], BASE64.encode([7; 32]));
}

#[tokio::test]
async fn a_replacement_is_unconditional() {
    let server = Loopback::answering([Answer::new(200, "")]).await;
    against(&server)
        .await
        .replace(object("k", "x"))
        .await
        .unwrap();
    assert_eq!(server.asked()[0].headers.get("if-none-match"), None);
}

#[tokio::test]
async fn creates_that_collide_are_repeated_until_one_is_in() {
    let conflict = Answer::s3_refusal(409, "ConditionalRequestConflict");
    let server = Loopback::answering([
        conflict.clone(),
        conflict.clone(),
        Answer::s3_refusal(412, "PreconditionFailed"),
    ])
    .await;
    let creation = against(&server)
        .await
        .create(object("k", "x"))
        .await
        .unwrap();
    assert_eq!(creation, Creation::Exists);
    assert_eq!(server.asked().len(), 3);

    let server = Loopback::answering([conflict, Answer::new(200, "")]).await;
    let creation = against(&server)
        .await
        .create(object("k", "x"))
        .await
        .unwrap();
    assert_eq!(creation, Creation::Created);
}

#[tokio::test]
async fn a_store_without_conditions_is_refused_not_trusted() {
    let server = Loopback::answering([Answer::s3_refusal(501, "NotImplemented")]).await;
    let failure = against(&server)
        .await
        .create(object("k", "x"))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    assert_eq!(failure.message, "NotImplemented: told so");
    assert_eq!(failure.resource, "s3://bucket/k");
}

#[tokio::test]
async fn a_forbidden_head_says_which_right_is_missing() {
    let server = Loopback::answering([Answer::new(403, "")]).await;
    let failure = against(&server).await.facts("k").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.message.contains("s3:ListBucket"), "{failure}");
}

#[tokio::test]
async fn a_download_that_breaks_off_is_begun_again() {
    let body = "x".repeat(10_000);
    let torn = Answer::new(200, body.clone()).cut_at(5000);
    let server =
        Loopback::answering([torn.clone(), torn.clone(), Answer::new(200, body.clone())]).await;
    let read = against(&server).await.read("k").await.unwrap().unwrap();
    assert_eq!(read, body);

    let server = Loopback::answering([torn]).await;
    let failure = against(&server).await.read("k").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transient, "{failure}");
    assert_eq!(failure.operation, "GetObject");
}

#[tokio::test]
async fn a_download_with_a_wrong_checksum_is_not_taken() {
    let wrong = Answer::new(200, "lines").header(
        "x-amz-checksum-sha256",
        &BASE64.encode(Sha256::digest("other")),
    );
    let server = Loopback::answering([wrong]).await;
    let failure = against(&server).await.read("k").await.unwrap_err();
    assert!(server.asked().len() > 1, "it was tried again");
    assert!(
        failure.message.to_lowercase().contains("checksum"),
        "{failure}"
    );
}

#[tokio::test]
async fn one_key_that_stays_is_a_failure_that_names_it() {
    let server = Loopback::answering([Answer::new(
        200,
        "<DeleteResult><Error><Key>a&amp;b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>",
    )])
    .await;
    let keys = ["a&b".to_owned(), "<c>".to_owned()];
    let failure = against(&server).await.delete(&keys).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    assert_eq!(failure.resource, "s3://bucket/a&b");
    assert_eq!(failure.message, "AccessDenied: no");
    let body = server.asked()[0].text();
    assert!(
        body.contains("<Key>a&amp;b</Key>") && body.contains("<Key>&lt;c&gt;</Key>"),
        "{body}"
    );
    assert!(body.contains("<Quiet>true</Quiet>"), "{body}");
}

#[tokio::test]
async fn keys_that_xml_cannot_spell_are_deleted_one_by_one() {
    let server = Loopback::start(|asked| match asked.method.as_str() {
        "POST" => Answer::new(200, "<DeleteResult></DeleteResult>"),
        _ => Answer::new(204, ""),
    })
    .await;
    let keys = ["a\u{1}b".to_owned(), "plain".to_owned(), "c\r".to_owned()];
    against(&server).await.delete(&keys).await.unwrap();
    let asked = server.asked();
    let requests: Vec<_> = asked
        .iter()
        .map(|it| (it.method.as_str(), it.target.as_str()))
        .collect();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].0, "POST");
    assert!(asked[0].text().contains("<Key>plain</Key>"));
    assert!(requests[1].0 == "DELETE" && requests[1].1.starts_with("/bucket/a%01b"));
    assert!(requests[2].0 == "DELETE" && requests[2].1.starts_with("/bucket/c%0D"));
}

#[tokio::test]
async fn listings_are_decoded_if_and_only_if_they_are_encoded() {
    let listing = |encoding: &str| {
        Answer::new(
            200,
            format!(
                "<ListBucketResult>{encoding}<IsTruncated>false</IsTruncated>\
                 <Contents><Key>a+b%2B%01</Key><Size>3</Size></Contents>\
                 <CommonPrefixes><Prefix>c+d/</Prefix></CommonPrefixes></ListBucketResult>"
            ),
        )
    };
    for (encoding, key, folder) in [
        ("<EncodingType>url</EncodingType>", "a b+\u{1}", "c d/"),
        ("", "a+b%2B%01", "c+d/"),
    ] {
        let server = Loopback::answering([listing(encoding)]).await;
        let page = against(&server).await.list_folders("", None).await.unwrap();
        assert_eq!(page.objects[0].key, key);
        assert_eq!(page.folders, [folder]);
        let target = server.asked()[0].target.clone();
        assert!(
            target.contains("encoding-type=url") && target.contains("delimiter=%2F"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_server_that_only_claims_to_encode_is_seen_through() {
    let listing = |prefix: &str, key: &str| {
        Answer::new(
            200,
            format!(
                "<ListBucketResult><EncodingType>url</EncodingType><Prefix>{prefix}</Prefix>\
                 <Contents><Key>{key}</Key><Size>3</Size></Contents></ListBucketResult>"
            ),
        )
    };
    for (asked, prefix, listed, key) in [
        ("a+b/", "a+b/", "a+b/c", "a+b/c"),
        ("a+b/", "a%2Bb/", "a%2Bb/c", "a+b/c"),
        ("d/", "d/", "d/100% ü", "d/100% ü"),
    ] {
        let server = Loopback::answering([listing(prefix, listed)]).await;
        let page = against(&server).await.list(asked, None).await.unwrap();
        assert_eq!(page.objects[0].key, key);
    }
}

#[tokio::test]
async fn an_empty_page_in_the_middle_ends_nothing() {
    let page = |inside: &str| {
        Answer::new(
            200,
            format!("<ListBucketResult>{inside}</ListBucketResult>"),
        )
    };
    let server = Loopback::answering([
        page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"),
        page("<IsTruncated>true</IsTruncated><NextContinuationToken>u</NextContinuationToken><Contents><Key>k</Key><Size>1</Size></Contents>"),
    ])
    .await;
    let listed = against(&server).await.list("", None).await.unwrap();
    assert_eq!(listed.objects.len(), 1);
    assert_eq!(listed.next.as_deref(), Some("k"));
    assert!(server.asked()[1].target.contains("continuation-token=t"));
}

#[tokio::test]
async fn metadata_and_encoding_are_kept_beside_the_object() {
    let (engine, _root, store) = embedded().await;
    let whole = NewObject {
        content_encoding: Some("gzip"),
        user_metadata: [("dyndump-sha256".to_owned(), "abc=".to_owned())].into(),
        ..object("a part", "lines")
    };
    store.create(whole).await.unwrap();
    let facts = store.facts("a part").await.unwrap().unwrap();
    let metadata = facts.user_metadata;
    assert_eq!(metadata.get("dyndump-sha256").unwrap(), "abc=");
    assert_eq!(facts.item_count, Some(7));
    // The port does not tell encodings; S3 does.
    let client = highwater_testkit::clients::s3(engine.endpoint_url());
    let head = client.head_object().bucket("bucket").key("a part");
    let head = head.send().await.unwrap();
    assert_eq!(head.content_encoding(), Some("gzip"));
}
