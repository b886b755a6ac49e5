//! `DynamoWriter`: the laws on an embedded DynamoDB, with faults and without, and answers that go wrong.

use bytes::Bytes;
use highwater_domain::failure::FailureKind;
use highwater_domain::table_admin::TableAdmin;
use highwater_domain::table_writer::{
    BatchAnswer, MAX_BATCH_BYTES, PutAnswer, TableWriter, WriteOp,
};
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::table_writer::{WritableTable, create_request, every_law};
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::faults::{Fault, Rule};
use serde_json::{Value, json};

use crate::loopback::{Answer, Loopback, clients};

const ARN: &str = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders";

fn put(item: &str) -> WriteOp {
    WriteOp::Put(Bytes::copy_from_slice(item.as_bytes()))
}

fn delete(key: &str) -> WriteOp {
    WriteOp::Delete(Bytes::copy_from_slice(key.as_bytes()))
}

fn two_writes() -> [WriteOp; 2] {
    [
        put(r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#),
        delete(r#"{"id":{"S":"b"}}"#),
    ]
}

#[tokio::test]
async fn an_embedded_dynamodb_is_written_by_the_laws() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = clients(engine.endpoint_url()).await;
    let request = create_request("orders");
    clients.table_admin().create_table(&request).await.unwrap();
    every_law(WritableTable {
        writer: &clients.table_writer(),
        scanner: &clients.table_scanner(),
        name: "orders",
    })
    .await;
}

#[tokio::test]
async fn writes_that_come_back_or_are_throttled_arrive_all_the_same() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let straight = clients(engine.endpoint_url()).await;
    let request = create_request("orders");
    straight.table_admin().create_table(&request).await.unwrap();
    let proxy = FaultProxy::start(engine.endpoint_url(), 7).await.unwrap();
    for fault in [
        Fault::Unprocessed,
        Fault::Throttle,
        Fault::ServerError,
        Fault::LoseAnswer,
        Fault::TruncateAnswer,
        Fault::WrongChecksum,
    ] {
        proxy.inject(Rule::rate(fault, 0.15).on("BatchWriteItem"));
    }
    let crooked = clients(proxy.endpoint_url()).await;
    let table = WritableTable {
        writer: &crooked.table_writer(),
        scanner: &straight.table_scanner(),
        name: "orders",
    };
    highwater_testkit::conformance::table_writer::items_of_every_type_arrive(table).await;
    for fault in [Fault::Unprocessed, Fault::Throttle, Fault::LoseAnswer] {
        assert!(proxy.count(fault) > 0, "{fault:?} never struck");
    }
}

#[tokio::test]
async fn a_batch_goes_out_as_it_is_and_comes_back_raw() {
    // The service answers under a name of its choice, and spells items its own way.
    for (asked_as, answered_as) in [
        ("orders", "orders"),
        (ARN, ARN),
        (ARN, "orders"),
        ("orders", ARN),
    ] {
        let server = Loopback::start(move |asked| {
            assert_eq!(
                asked.headers["content-length"],
                asked.body.len().to_string()
            );
            Answer::dynamodb(
                &json!({
                    "UnprocessedItems": {answered_as: [
                        {"DeleteRequest": {"Key": {"id": {"S": "b"}}}},
                        {"PutRequest": {"Item": {"n": {"N": "1.5"}, "id": {"S": "a"}}}}
                    ]},
                    "ConsumedCapacity": [{"TableName": answered_as, "CapacityUnits": 2.5}]
                })
                .to_string(),
            )
        })
        .await;
        let writer = server.clients().await.table_writer();
        let answer = writer.write_batch(asked_as, &two_writes()).await.unwrap();
        assert_eq!(
            answer,
            BatchAnswer {
                unprocessed: vec![
                    delete(r#"{"id":{"S":"b"}}"#),
                    put(r#"{"id":{"S":"a"},"n":{"N":"1.5"}}"#),
                ],
                consumed_capacity: 2.5,
            }
        );
        let asked = &server.asked()[0];
        assert_eq!(asked.operation(), "BatchWriteItem");
        assert_eq!(
            asked.text(),
            format!(
                r#"{{"RequestItems":{{"{asked_as}":[{{"PutRequest":{{"Item":{{"id":{{"S":"a"}},"n":{{"N":"1.50"}}}}}}}},{{"DeleteRequest":{{"Key":{{"id":{{"S":"b"}}}}}}}}]}},"ReturnConsumedCapacity":"TOTAL"}}"#
            )
        );
    }
}

#[tokio::test]
async fn each_attempt_sends_and_signs_the_same_bytes() {
    let server = Loopback::answering([
        Answer::refusal(500, "InternalServerError", "sorry"),
        Answer::dynamodb("{}"),
    ])
    .await;
    let retrying = highwater_aws::DynamoWriter::new(server.clients().await.dynamodb());
    retrying.write_batch("orders", &two_writes()).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].body, asked[1].body);
    for request in &asked {
        assert!(request.headers["authorization"].starts_with("AWS4-HMAC-SHA256"));
        assert_eq!(
            request.headers["content-length"],
            request.body.len().to_string()
        );
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_true_is_corrupt() {
    let undone = |writes: Value| {
        let body = json!({"UnprocessedItems": writes}).to_string();
        Answer::dynamodb(&body)
    };
    let a_put = json!({"PutRequest": {"Item": {"id": {"S": "a"}}}});
    for answer in [
        undone(json!({"orders": [a_put, a_put]})),
        undone(json!({"others": [a_put]})),
        undone(json!({"orders": [{"UpsertRequest": {"Item": {}}}]})),
        undone(json!({"orders": [{}]})),
        undone(json!([])),
        Answer::dynamodb("[]"),
        Answer::dynamodb("{}").header("content-encoding", "gzip"),
    ] {
        let server = Loopback::answering([answer.clone()]).await;
        let writer = server.clients().await.table_writer();
        let failure = writer
            .write_batch("orders", &two_writes())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Corrupt, "{failure} {answer:?}");
        assert_eq!(failure.resource, "orders");
        assert_eq!(server.asked().len(), 1, "it does not retry");
    }
}

#[tokio::test]
async fn an_answer_that_was_damaged_on_the_way_may_be_asked_for_again() {
    let whole = r#"{"UnprocessedItems":{}}"#;
    for answer in [
        Answer::new(200, whole).header("x-amz-crc32", "1"),
        Answer::dynamodb(whole).cut_at(10),
        Answer::new(200, &whole[..12]),
        Answer::new(200, ""),
        Answer::dynamodb(whole).without_length().cut_at(5),
    ] {
        let server = Loopback::answering([answer.clone()]).await;
        let writer = server.clients().await.table_writer();
        let failure = writer
            .write_batch("orders", &two_writes())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transient, "{failure} {answer:?}");
    }
}

#[tokio::test]
async fn refusals_are_judged_by_their_codes() {
    for (status, code, kind) in [
        (
            400,
            "ProvisionedThroughputExceededException",
            FailureKind::Throttled,
        ),
        (400, "ThrottlingException", FailureKind::Throttled),
        (400, "TransactionConflictException", FailureKind::Transient),
        (500, "InternalServerError", FailureKind::Transient),
        (400, "ValidationException", FailureKind::Invalid),
        (400, "ResourceNotFoundException", FailureKind::NotFound),
        (400, "AccessDeniedException", FailureKind::Denied),
    ] {
        let server = Loopback::answering([Answer::refusal(status, code, "told so")]).await;
        let writer = server.clients().await.table_writer();
        let batch = writer.write_batch("orders", &two_writes()).await;
        let item = two_writes()[0].body().clone();
        let put = writer.put_if_absent("orders", "id", &item, true).await;
        for failure in [batch.unwrap_err(), put.unwrap_err()] {
            assert_eq!(failure.kind, kind, "{failure}");
            assert_eq!(failure.message, format!("{code}: told so"));
        }
        assert_eq!(server.asked().len(), 2, "it does not retry");
    }
}

#[tokio::test]
async fn what_the_service_would_refuse_is_not_sent() {
    let server = Loopback::answering([Answer::dynamodb("{}")]).await;
    let writer = server.clients().await.table_writer();
    let empty = writer.write_batch("orders", &[]).await.unwrap();
    assert_eq!(empty, BatchAnswer::default());
    let large = put(&format!(
        r#"{{"id":{{"S":"{}"}}}}"#,
        "x".repeat(MAX_BATCH_BYTES)
    ));
    let smuggled = put(r#"{"id":{"S":"a"}}}},{"DeleteRequest":{"Key":{"id":{"S":"b"}}"#);
    for (ops, word) in [
        (vec![put("{}"); 26], "26 writes"),
        (vec![put("{}"), large], "16777216"),
        (vec![put("{}"), smuggled.clone()], "write 1"),
    ] {
        let failure = writer.write_batch("orders", &ops).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert!(failure.message.contains(word), "{failure}");
    }
    let put = writer.put_if_absent("orders", "id", smuggled.body(), true);
    assert_eq!(put.await.unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn a_conditional_put_names_its_key_and_gives_the_item_that_is_there() {
    let refusal = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "message": "The conditional request failed",
        "Item": {"id": {"S": "a"}, "n": {"N": "1.0"}, "future": {"F16": "0.5"}}
    });
    let server = Loopback::answering([Answer::new(400, refusal.to_string())]).await;
    let writer = server.clients().await.table_writer();
    let item = Bytes::from_static(br#"{"id":{"S":"a"},"n":{"N":"1.00"}}"#);
    for want_existing in [true, false] {
        let answer = writer
            .put_if_absent("orders", "i\"d", &item, want_existing)
            .await;
        let existing = want_existing.then(|| Bytes::from(refusal["Item"].to_string()));
        assert_eq!(answer.unwrap(), PutAnswer::Exists { item: existing });
    }
    let asked = server.asked();
    assert!(
        asked[0]
            .text()
            .contains(r#""Item":{"id":{"S":"a"},"n":{"N":"1.00"}}}"#)
    );
    let mut request = asked[0].json();
    assert_eq!(request["TableName"], "orders");
    assert_eq!(request["ConditionExpression"], "attribute_not_exists(#k)");
    assert_eq!(request["ExpressionAttributeNames"], json!({"#k": "i\"d"}));
    assert_eq!(request["ReturnConsumedCapacity"], "TOTAL");
    let members = request.as_object_mut().unwrap();
    let all_old = members.remove("ReturnValuesOnConditionCheckFailure");
    assert_eq!(all_old, Some(json!("ALL_OLD")));
    assert_eq!(
        asked[1].json(),
        request,
        "the existing item is not asked for"
    );
}
