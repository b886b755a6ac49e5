//! Calls that are made after the pattern of one of the SDK's: they are what the SDK would send, and end as its own do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use bytes::Bytes;
use highwater_aws::DynamoWriter;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::table_writer::{BatchAnswer, TableWriter, WriteOp};
use highwater_testkit::clients::dynamodb_config;

use crate::loopback::{Answer, Asked, Loopback};

const ITEM: &str = r#"{"id":{"S":"a"}}"#;

async fn write(writer: &DynamoWriter, table: &str) -> Result<BatchAnswer, Failure> {
    let put = WriteOp::Put(Bytes::from_static(ITEM.as_bytes()));
    writer.write_batch(table, &[put]).await
}

fn good() -> Answer {
    Answer::dynamodb("{}")
}

/// The SDK numbers its own calls.
fn is_of_sdk(asked: &Asked) -> bool {
    asked.headers.contains_key("amz-sdk-invocation-id")
}

/// Headers that are of one request alone.
const OF_ONE: [&str; 2] = ["amz-sdk-invocation-id", "amz-sdk-request"];

#[tokio::test]
async fn a_repeated_call_is_signed_and_sent_as_the_sdk_would_do_it() {
    let server = Loopback::answering([good()]).await;
    let clients = server.clients().await;
    // In the same second the same bytes have the same signature.
    for _ in 0..20 {
        let writer = clients.table_writer();
        let before = server.asked().len();
        for _ in 0..2 {
            let answer = write(&writer, "orders").await.unwrap();
            assert_eq!(answer, BatchAnswer::default());
        }
        let asked = server.asked();
        let [first, second] = &asked[before..] else {
            panic!("{} calls", asked.len() - before);
        };
        assert!(is_of_sdk(first) && !is_of_sdk(second));
        assert_eq!((&first.body, &first.target), (&second.body, &second.target));
        let names = |asked: &Asked| asked.headers.keys().cloned().collect::<BTreeSet<_>>();
        let mut expected = names(first);
        expected.retain(|name| !OF_ONE.contains(&name.as_str()));
        assert_eq!(names(second), expected);
        if first.headers["x-amz-date"] == second.headers["x-amz-date"] {
            for (name, value) in &second.headers {
                assert_eq!(first.headers[name], *value, "{name}");
            }
            return;
        }
    }
    panic!("no two calls in one second");
}

#[tokio::test]
async fn another_table_has_the_sdks_own_call() {
    let server = Loopback::answering([good()]).await;
    let writer = server.clients().await.table_writer();
    for (table, of_sdk) in [
        ("orders", true),
        ("orders", false),
        ("others", true),
        ("others", false),
        ("orders", true),
    ] {
        write(&writer, table).await.unwrap();
        assert_eq!(is_of_sdk(server.asked().last().unwrap()), of_sdk, "{table}");
    }
}

async fn retrying(server: &Loopback) -> DynamoWriter {
    DynamoWriter::new(server.clients().await.with_retries(2).dynamodb())
}

/// What may pass is the SDK's to try again; what will not is said at once.
#[tokio::test]
async fn where_the_client_retries_a_repeated_call_that_failed_in_passing_is_made_by_the_sdk() {
    let refusal = |status, code| Answer::refusal(status, code, "told so");
    for answer in [
        refusal(400, "ThrottlingException"),
        refusal(500, "InternalServerError"),
        Answer::new(200, "{}").header("x-amz-crc32", "1"),
        good().cut_at(1),
    ] {
        let answers = [good(), answer.clone(), answer.clone(), good()];
        let server = Loopback::answering(answers).await;
        let writer = retrying(&server).await;
        for _ in 0..3 {
            write(&writer, "orders").await.unwrap();
        }
        let of_sdk: Vec<bool> = server.asked().iter().map(is_of_sdk).collect();
        // After the SDK's call was answered, there is a pattern again.
        assert_eq!(of_sdk, [true, false, true, true, false], "{answer:?}");
    }
    for code in ["ValidationException", "AccessDeniedException"] {
        let server = Loopback::answering([good(), refusal(400, code)]).await;
        let writer = retrying(&server).await;
        write(&writer, "orders").await.unwrap();
        write(&writer, "orders").await.unwrap_err();
        assert_eq!(server.asked().len(), 2, "{code}");
    }
}

#[tokio::test]
async fn a_repeated_call_fails_as_the_sdks_own_does() {
    let refusal = |status, code| Answer::refusal(status, code, "told so");
    // And whether the service has understood the call and who makes it, so that the next one may be like it.
    for (answer, stands) in [
        (refusal(400, "ProvisionedThroughputExceededException"), true),
        (refusal(400, "ThrottlingException"), true),
        (refusal(400, "ValidationException"), true),
        (refusal(400, "ResourceNotFoundException"), true),
        (refusal(400, "AccessDeniedException"), false),
        (refusal(400, "InvalidSignatureException"), false),
        (refusal(500, "InternalServerError"), false),
        (Answer::new(503, "<html>busy</html>"), false),
        (Answer::new(400, ""), true),
        (Answer::new(200, "{}").header("x-amz-crc32", "1"), false),
        (good().cut_at(1), false),
        (good().without_length().cut_at(1), false),
        (good().header("content-encoding", "gzip"), false),
        (Answer::dynamodb("[]"), false),
    ] {
        let server = Loopback::answering([answer.clone()]).await;
        let by_sdk = write(&server.clients().await.table_writer(), "orders").await;
        let by_sdk = by_sdk.unwrap_err();
        let server = Loopback::answering([good(), answer.clone(), good()]).await;
        let writer = server.clients().await.table_writer();
        write(&writer, "orders").await.unwrap();
        let repeated = write(&writer, "orders").await.unwrap_err();
        assert_eq!(repeated.kind, by_sdk.kind, "{repeated}");
        assert_eq!(repeated.message, by_sdk.message);
        assert_eq!(server.asked().len(), 2, "it does not retry: {answer:?}");
        write(&writer, "orders").await.unwrap();
        assert_eq!(is_of_sdk(&server.asked()[2]), !stands, "{by_sdk}");
    }
}

/// Each time another pair of keys, the last one before it is needed; every second is of a session.
#[derive(Debug)]
struct Rotating(Arc<AtomicUsize>);

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        future::ProvideCredentials::ready(provider::Result::Ok(Credentials::new(
            format!("KEY{number}"),
            "secret",
            (number % 2 == 1).then(|| format!("token{number}")),
            Some(SystemTime::now() + Duration::from_millis(1)),
            "rotating",
        )))
    }
}

#[tokio::test]
async fn credentials_are_those_in_force() {
    let server = Loopback::answering([good()]).await;
    let issued = Arc::new(AtomicUsize::new(0));
    let config = dynamodb_config(&server.url)
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Rotating(Arc::clone(&issued)));
    let writer = DynamoWriter::new(aws_sdk_dynamodb::Client::from_conf(config.build()));
    for _ in 0..6 {
        write(&writer, "orders").await.unwrap();
        let asked = server.asked().pop().unwrap();
        let authorization = &asked.headers["authorization"];
        let number = (0..issued.load(Ordering::SeqCst))
            .find(|number| authorization.contains(&format!("=KEY{number}/")))
            .unwrap();
        let token = asked.headers.get("x-amz-security-token").cloned();
        assert_eq!(token, (number % 2 == 1).then(|| format!("token{number}")));
        assert_eq!(
            authorization.contains("x-amz-security-token"),
            number % 2 == 1
        );
    }
    assert!(issued.load(Ordering::SeqCst) > 3, "they were renewed");
}

#[tokio::test]
async fn a_repeated_call_waits_no_longer_than_the_sdk_would() {
    let server = Loopback::answering([good(), good().stalling(), good()]).await;
    let patience = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(100));
    let config = dynamodb_config(&server.url)
        .retry_config(RetryConfig::disabled())
        .timeout_config(patience.build());
    let writer = DynamoWriter::new(aws_sdk_dynamodb::Client::from_conf(config.build()));
    write(&writer, "orders").await.unwrap();
    let failure = write(&writer, "orders").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transient, "{failure}");
    write(&writer, "orders").await.unwrap();
    assert!(is_of_sdk(server.asked().last().unwrap()));
}
