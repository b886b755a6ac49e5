//! What `S3Store` says is an upload's MD5: S3's own, computed nowhere else, and nothing where an `ETag` is something else.

use highwater_domain::digest::md5;
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_local::EmbeddedS3;

use crate::loopback::{Answer, Loopback, clients};

fn part(body: &'static str) -> NewObject {
    NewObject {
        key: "part".into(),
        body: body.into(),
        ..NewObject::default()
    }
}

fn stored(etag: &str, encryption: &str) -> Answer {
    Answer::new(200, "")
        .header("etag", &format!("\"{etag}\""))
        .header("x-amz-server-side-encryption", encryption)
}

#[tokio::test]
async fn the_md5_is_that_of_the_answer_once_it_was_seen_to_be_one() {
    let server = Loopback::answering([
        stored(&hex::encode(md5(b"first")), "AES256"),
        stored(&"07".repeat(16), "AES256"),
        stored(&"07".repeat(16), "aws:kms"),
        Answer::s3_refusal(412, "PreconditionFailed"),
    ])
    .await;
    let store = server.clients().await.s3_store("bucket");
    for (body, told) in [
        ("first", (Creation::Created, Some(md5(b"first")))),
        ("believed", (Creation::Created, Some([7; 16]))),
        ("by another key", (Creation::Created, None)),
        ("there already", (Creation::Exists, None)),
    ] {
        let created = store.create_told_md5(part(body)).await;
        assert_eq!(created.unwrap(), told, "{body}");
    }
}

#[tokio::test]
async fn another_s3_is_believed_only_what_is_true() {
    let root = tempfile::tempdir().unwrap();
    let engine = EmbeddedS3::start(root.path()).await.unwrap();
    engine.create_bucket("bucket").await.unwrap();
    let store = clients(engine.endpoint_url()).await.s3_store("bucket");
    let (created, told) = store.create_told_md5(part("lines")).await.unwrap();
    assert_eq!(created, Creation::Created);
    assert!(told.is_none_or(|told| told == md5(b"lines")), "{told:?}");
}

/// What S3 sends of an object that was put with this checksum.
fn sent(body: &str, etag: &str, encryption: &str, checksum: Option<(&str, &str)>) -> Answer {
    let answer = Answer::new(200, body)
        .header("etag", &format!("\"{etag}\""))
        .header("x-amz-server-side-encryption", encryption);
    match checksum {
        Some((name, value)) => answer.header(name, value),
        None => answer,
    }
}

#[tokio::test]
async fn the_md5_of_what_is_read_is_told_where_another_checksum_was_compared() {
    // Of `lines`.
    let checksums = [
        (
            "x-amz-checksum-sha256",
            "XqRMOWHxZkPmFENUlrFhFaptdUWLXMP9U5iq4pHzEms=",
        ),
        ("x-amz-checksum-crc32", "TwGMlg=="),
    ];
    let etag = "07".repeat(16);
    for checksum in checksums {
        let wrong = (checksum.0, "AAAAAA==");
        let parts = (checksum.0, "TwGMlg==-2");
        for (encryption, checksum, told) in [
            ("AES256", Some(checksum), Some(Some([7; 16]))),
            ("aws:kms", Some(checksum), Some(None)),
            ("AES256", Some(parts), Some(None)),
            ("AES256", None, Some(None)),
            ("AES256", Some(wrong), None),
        ] {
            let server = Loopback::answering([sent("lines", &etag, encryption, checksum)]).await;
            let store = server.clients().await.s3_store("bucket");
            let read = store.read_told_md5("part").await;
            let Some(told) = told else {
                assert_eq!(read.unwrap_err().kind, FailureKind::Transient);
                continue;
            };
            assert_eq!(read.unwrap(), Some(("lines".into(), told)), "{checksum:?}");
        }
    }
}
