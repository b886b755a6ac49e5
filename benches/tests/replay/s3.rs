//! S3's side, through the SDK.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Delete, EncodingType, ObjectIdentifier};
use highwater_benches::data_set::DataSet;
use highwater_benches::dynamodb::Tables;
use highwater_benches::s3::Sink;
use highwater_benches::server::ReplayServer;
use highwater_testkit::clients;

use crate::server;

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

#[tokio::test]
async fn a_sink_that_keeps_gives_back_all_bytes_and_any_range() {
    for sink in [Sink::keeping(), Sink::on_disk().unwrap()] {
        gives_back_all_bytes_and_any_range(sink).await;
    }
}

async fn gives_back_all_bytes_and_any_range(sink: Sink) {
    let server = ReplayServer::over(0, Tables::default(), sink);
    let server = server.await.unwrap();
    let s3 = clients::s3(server.endpoint_url());
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let put = s3.put_object().bucket("bucket").key("part");
    let put = put.body(ByteStream::from(body.clone()));
    put.send().await.unwrap();
    let get = |range: Option<&str>| {
        let get = s3.get_object().bucket("bucket").key("part");
        get.set_range(range.map(str::to_owned)).send()
    };
    for (range, bytes) in [
        (None, 0..3_000_000),
        (Some("bytes=0-0"), 0..1),
        (Some("bytes=1000-1999999"), 1000..2_000_000),
        (Some("bytes=2999999-5000000"), 2_999_999..3_000_000),
        (Some("bytes=17-"), 17..3_000_000),
    ] {
        let got = get(range).await.unwrap().body.collect().await.unwrap();
        assert!(got.to_vec() == body[bytes], "{range:?}");
    }
    let beyond = get(Some("bytes=3000000-3000001")).await.unwrap_err();
    assert_eq!(beyond.raw_response().unwrap().status().as_u16(), 416);
}
