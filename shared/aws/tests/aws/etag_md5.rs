//! What `S3Store` says is an upload's MD5: S3's own, computed nowhere else, and nothing where an `ETag` is something else.

use highwater_domain::digest::md5;
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
