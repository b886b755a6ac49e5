//! `DynamoStreams` against a server that answers as it is told.

use bytes::Bytes;
use highwater_aws::DynamoStreams;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::UnixMillis;
use highwater_domain::lineage::Position;
use highwater_domain::stream_source::{ShardIterator, StartAt, StreamError, StreamSource};
use serde_json::json;

use crate::loopback::{Answer, Loopback};

const ARN: &str =
    "arn:aws:dynamodb:eu-north-1:111122223333:table/orders/stream/2026-01-14T10:18:50.622";
const SHARD: &str = "shardId-00000001768385930622-efd1a093";
const DATE: &str = "Wed, 14 Jan 2026 10:20:00 GMT";

async fn source(server: &Loopback) -> DynamoStreams {
    server.clients().await.with_retries(0).stream_source()
}

fn iterator() -> ShardIterator {
    ShardIterator(format!("{SHARD}@{ARN}|1|AAAA@AA=="))
}

#[tokio::test]
async fn records_are_the_bytes_that_came() {
    let body = r#"{ "NextShardIterator":"next@2","Records":[{"eventID":"1", "dynamodb":{"ApproximateCreationDateTime":1.7683860E9,"NewImage":{"n":{"N":"1.50"}}}} , {"eventID":"\u00e9"}]}"#;
    let server = Loopback::answering([Answer::dynamodb(body).header("date", DATE)]).await;
    let page = source(&server).await.records(&iterator(), 7).await.unwrap();
    let expected = [
        r#"{"eventID":"1", "dynamodb":{"ApproximateCreationDateTime":1.7683860E9,"NewImage":{"n":{"N":"1.50"}}}}"#,
        r#"{"eventID":"\u00e9"}"#,
    ];
    assert_eq!(page.records, expected.map(Bytes::from));
    assert_eq!(page.answered_at, UnixMillis(1_768_386_000_000));
    assert_eq!(page.next, Some(ShardIterator(format!("{SHARD}@next@2"))));
    let asked = &server.asked()[0];
    assert_eq!(
        asked.headers["x-amz-target"],
        "DynamoDBStreams_20120810.GetRecords"
    );
    assert_eq!(asked.headers["accept-encoding"], "identity");
    let expected = json!({"ShardIterator": format!("{ARN}|1|AAAA@AA=="), "Limit": 7});
    assert_eq!(asked.json(), expected);
}

#[tokio::test]
async fn the_end_of_a_shard_is_null_or_nothing() {
    for body in [
        r#"{"Records":[],"NextShardIterator":null}"#,
        r#"{"Records":[]}"#,
    ] {
        let server = Loopback::answering([Answer::dynamodb(body).header("date", DATE)]).await;
        let page = source(&server).await.records(&iterator(), 1).await.unwrap();
        assert_eq!((page.records.len(), page.next), (0, None));
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_trusted_is_an_error() {
    let good = r#"{"Records":[{"eventID":"1"}],"NextShardIterator":"x"}"#;
    let wrong_sum = Answer::new(200, good).header("x-amz-crc32", "1");
    let cut = Answer::dynamodb(good).cut_at(20);
    for (answer, kind, part) in [
        (
            wrong_sum.header("date", DATE),
            FailureKind::Transient,
            "CRC-32",
        ),
        (cut.header("date", DATE), FailureKind::Transient, ""),
        (Answer::dynamodb(good), FailureKind::Corrupt, "Date"),
        (
            Answer::dynamodb(good).header("date", "yesterday"),
            FailureKind::Corrupt,
            "\"yesterday\"",
        ),
        (
            Answer::dynamodb("{}").header("date", DATE),
            FailureKind::Corrupt,
            "Records",
        ),
    ] {
        let server = Loopback::answering([answer]).await;
        let error = source(&server).await.records(&iterator(), 1).await;
        let Err(StreamError::Failed(failure)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(part), "{failure}");
        assert_eq!(
            (failure.operation, failure.resource.as_str()),
            ("GetRecords", SHARD)
        );
    }
}

/// Records of an attempt that broke never stand in for those of the next.
#[tokio::test]
async fn a_page_is_asked_for_again() {
    let first = r#"{"Records":[{"eventID":"1"}],"NextShardIterator":"x"}"#;
    let second = r#"{"Records":[{"eventID":"2"}],"NextShardIterator":"y"}"#;
    let server = Loopback::answering([
        Answer::refusal(400, "LimitExceededException", "slower"),
        Answer::new(200, first)
            .header("x-amz-crc32", "1")
            .header("date", DATE),
        Answer::dynamodb(second).header("date", DATE),
    ])
    .await;
    let source = server.clients().await.with_retries(3).stream_source();
    let page = source.records(&iterator(), 1).await.unwrap();
    assert_eq!(page.records, [Bytes::from(r#"{"eventID":"2"}"#)]);
    assert_eq!(server.asked().len(), 3);
}

/// Every page after the first is asked for after the first one's pattern, whichever shard it is of.
#[tokio::test]
async fn pages_follow_each_other_and_are_asked_for_alike() {
    let page =
        |id, next| format!(r#"{{"Records":[{{"eventID":"{id}"}}],"NextShardIterator":{next}}}"#);
    let answer = |body: &str| Answer::dynamodb(body).header("date", DATE);
    let server = Loopback::answering([
        answer(&page(1, r#""b\u00e9""#)),
        answer(&page(2, "null")),
        Answer::refusal(400, "ExpiredIteratorException", "too old"),
    ])
    .await;
    let source = server.clients().await.stream_source();
    let first = source.records(&iterator(), 1000).await.unwrap();
    let next = ShardIterator(format!("{SHARD}@bé"));
    assert_eq!(first.next.as_ref(), Some(&next));
    let second = source.records(&next, 1000).await.unwrap();
    assert_eq!(second.records, [Bytes::from(r#"{"eventID":"2"}"#)]);
    assert_eq!((second.next, second.answered_at), (None, first.answered_at));
    let third = source.records(&ShardIterator("other@c".into()), 7).await;
    assert!(
        matches!(&third, Err(StreamError::IteratorExpired(shard)) if shard == "other"),
        "{third:?}"
    );
    let asked = server.asked();
    let bodies: Vec<_> = asked.iter().map(crate::loopback::Asked::json).collect();
    let expected = [
        json!({"ShardIterator": format!("{ARN}|1|AAAA@AA=="), "Limit": 1000}),
        json!({"ShardIterator": "bé", "Limit": 1000}),
        json!({"ShardIterator": "c", "Limit": 7}),
    ];
    assert_eq!(
        bodies, expected,
        "the last one once: it would not do better again"
    );
    for call in &asked {
        assert_eq!(call.target, asked[0].target);
        assert_eq!(call.headers["accept-encoding"], "identity");
    }
}

#[tokio::test]
async fn refusals_keep_their_meaning_and_name_the_shard() {
    let shard = SHARD.parse().unwrap();
    let at = StartAt::Position(Position::At("111000000000000000000001".parse().unwrap()));
    for code in [
        "TrimmedDataAccessException",
        "ResourceNotFoundException",
        "ExpiredIteratorException",
        "LimitExceededException",
        "AccessDeniedException",
        "InternalServerError",
    ] {
        let server = Loopback::answering([Answer::refusal(400, code, "told so")]).await;
        let source = source(&server).await;
        let of_iterator = source.iterator(ARN, &shard, &at).await.unwrap_err();
        let of_records = source.records(&iterator(), 1).await.unwrap_err();
        for error in [of_iterator, of_records] {
            let fits = match &error {
                StreamError::Trimmed { .. } => code == "TrimmedDataAccessException",
                StreamError::Gone(_) => code == "ResourceNotFoundException",
                StreamError::IteratorExpired(_) => code == "ExpiredIteratorException",
                StreamError::Failed(failure) => matches!(
                    (code, failure.kind),
                    ("LimitExceededException", FailureKind::Throttled)
                        | ("AccessDeniedException", FailureKind::Denied)
                        | ("InternalServerError", FailureKind::Transient)
                ),
            };
            assert!(fits, "{code}: {error:?}");
            assert!(error.to_string().contains(SHARD), "{code}: {error}");
        }
        let of_listing = source.listing(ARN).await.unwrap_err();
        assert!(of_listing.to_string().contains(ARN), "{of_listing}");
    }
}

#[tokio::test]
async fn an_iterator_is_asked_for_exactly() {
    let body = r#"{"ShardIterator":"opaque"}"#;
    let server = Loopback::answering([Answer::dynamodb(body)]).await;
    let source = source(&server).await;
    let shard = SHARD.parse().unwrap();
    let number = || "111000000000000000000001".parse().unwrap();
    for (from, kind, sent) in [
        (
            StartAt::Position(Position::At(number())),
            "AT_SEQUENCE_NUMBER",
            Some(number()),
        ),
        (
            StartAt::Position(Position::After(number())),
            "AFTER_SEQUENCE_NUMBER",
            Some(number()),
        ),
        (StartAt::WhatIsLeft, "TRIM_HORIZON", None),
    ] {
        let iterator = source.iterator(ARN, &shard, &from).await.unwrap();
        assert_eq!(iterator.0, format!("{SHARD}@opaque"));
        let asked = server.asked().pop().unwrap().json();
        assert_eq!(asked["ShardIteratorType"], kind);
        assert_eq!(
            (&asked["StreamArn"], &asked["ShardId"]),
            (&json!(ARN), &json!(SHARD))
        );
        assert_eq!(asked["SequenceNumber"], json!(sent), "{kind}");
    }
    let before = server.asked().len();
    let end = source
        .iterator(ARN, &shard, &StartAt::Position(Position::End))
        .await;
    assert!(matches!(end, Err(StreamError::Failed(_))), "{end:?}");
    let foreign = source.records(&ShardIterator("foreign".into()), 1).await;
    assert!(
        matches!(foreign, Err(StreamError::Failed(_))),
        "{foreign:?}"
    );
    assert_eq!(server.asked().len(), before, "neither is worth a call");
}

fn description(status: &str, shards: &serde_json::Value, last: Option<&str>) -> Answer {
    let mut description = json!({
        "StreamArn": ARN,
        "StreamLabel": "2026-01-14T10:18:50.622",
        "StreamStatus": status,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        "Shards": shards,
    });
    if let Some(last) = last {
        description["LastEvaluatedShardId"] = last.into();
    }
    Answer::dynamodb(&json!({"StreamDescription": description}).to_string())
}

fn shard(id: &str) -> serde_json::Value {
    json!({"ShardId": id, "SequenceNumberRange": {"StartingSequenceNumber": "1"}})
}

#[tokio::test]
async fn a_listing_follows_every_page_and_keeps_the_first_ones_status() {
    let server = Loopback::answering([
        description("ENABLED", &json!([shard("a")]), Some("a")),
        description("ENABLED", &json!([]), Some("b")),
        description("DISABLED", &json!([shard("c")]), None),
    ])
    .await;
    let listing = source(&server).await.listing(ARN).await.unwrap();
    let ids: Vec<_> = listing
        .shards
        .iter()
        .map(|shard| shard.id.as_str())
        .collect();
    assert_eq!(ids, ["a", "c"]);
    assert_eq!(
        listing.status,
        highwater_domain::shard::StreamStatus::Enabled
    );
    let starts: Vec<_> = server
        .asked()
        .iter()
        .map(|asked| asked.json()["ExclusiveStartShardId"].clone())
        .collect();
    assert_eq!(starts, [json!(null), json!("a"), json!("b")]);
}

#[tokio::test]
async fn children_are_asked_for_by_a_filter_and_picked_from_what_comes() {
    let mut child = shard("child");
    child["ParentShardId"] = SHARD.into();
    let all = json!([shard("stranger"), child]);
    let server = Loopback::answering([description("ENABLED", &all, None)]).await;
    let parent = SHARD.parse().unwrap();
    let children = source(&server).await.children(ARN, &parent).await.unwrap();
    let ids: Vec<_> = children.iter().map(|shard| shard.id.as_str()).collect();
    assert_eq!(ids, ["child"]);
    let filter = json!({"Type": "CHILD_SHARDS", "ShardId": SHARD});
    assert_eq!(server.asked()[0].json()["ShardFilter"], filter);
}

#[tokio::test]
async fn a_description_that_makes_no_sense_is_an_error() {
    let bad = |shard| description("ENABLED", &json!([shard]), None);
    for (answer, part) in [
        (bad(json!({"ShardId": "a"})), "StartingSequenceNumber"),
        (
            bad(json!({"ShardId": "../a", "SequenceNumberRange": {"StartingSequenceNumber": "1"}})),
            "../a",
        ),
        (
            bad(json!({"ShardId": "a", "SequenceNumberRange": {"StartingSequenceNumber": "x"}})),
            "shard a",
        ),
        (description("SLEEPING", &json!([]), None), "StreamStatus"),
        (Answer::dynamodb("{}"), "StreamDescription"),
        // The same page for ever.
        (
            description("ENABLED", &json!([shard("a")]), Some("a")),
            "lead back",
        ),
    ] {
        let server = Loopback::answering([answer]).await;
        let error = source(&server).await.listing(ARN).await.unwrap_err();
        assert!(error.to_string().contains(part), "{part}: {error}");
        let StreamError::Failed(failure) = error else {
            panic!("{error:?}");
        };
        assert_eq!(failure.kind, FailureKind::Corrupt);
    }
}
