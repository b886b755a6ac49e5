//! `DynamoScanner`: what it asks, what it makes of the answers, and of torn ones.

use std::collections::BTreeMap;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use highwater_aws::DynamoScanner;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::{Key, KeyValue};
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::selection::Selection;
use serde_json::{Value, json};

use crate::loopback::{Answer, Loopback, clients};

const PAGE: &str = r#"{"ConsumedCapacity":{"CapacityUnits":2.5,"TableName":"orders"},"Count":2,"Items":[{"id":{"S":"a"},"x":{"S":"}},{\"Items\":["}},{"id":{"S":"b\\"}}],"LastEvaluatedKey":{"id":{"S":"b\\"}},"ScannedCount":7}"#;

pub fn request() -> ScanRequest {
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

async fn scan(answers: impl IntoIterator<Item = Answer>) -> (Result<Page, Failure>, usize) {
    let server = Loopback::answering(answers).await;
    let result = server
        .clients()
        .await
        .table_scanner()
        .scan_page(&request())
        .await;
    (result, server.asked().len())
}

/// The failure of a scan that got this one answer, which must not have been asked for twice.
async fn failure(answer: Answer) -> Failure {
    let (result, asked) = scan([answer]).await;
    assert_eq!(asked, 1, "the scanner does not retry");
    let failure = result.expect_err("no page");
    assert_eq!(failure.operation, "Scan");
    assert_eq!(failure.resource, "orders");
    assert!(
        !failure.message.contains('\n') && !failure.message.is_empty(),
        "{failure}"
    );
    failure
}

fn lines(page: &Page) -> Vec<String> {
    page.items
        .iter()
        .map(|item| String::from_utf8(item.to_vec()).unwrap())
        .collect()
}

fn string_key(name: &str, value: &str) -> Key {
    Key(BTreeMap::from([(name.into(), KeyValue::S(value.into()))]))
}

#[tokio::test]
async fn a_page_is_the_wires_bytes_and_what_stands_around_them() {
    let (page, _) = scan([Answer::dynamodb(PAGE)]).await;
    let page = page.unwrap();
    assert_eq!(
        lines(&page),
        [
            r#"{"id":{"S":"a"},"x":{"S":"}},{\"Items\":["}}"#,
            r#"{"id":{"S":"b\\"}}"#
        ]
    );
    assert_eq!(page.last_evaluated_key, Some(string_key("id", "b\\")));
    assert_eq!(page.scanned_count, 7);
    assert!((page.consumed_capacity - 2.5).abs() < f64::EPSILON);
    assert_eq!(page.wire_bytes, PAGE.len() as u64);
}

#[tokio::test]
async fn an_answer_without_checksum_or_length_is_read_too() {
    let (page, _) = scan([Answer::new(200, PAGE).without_length()]).await;
    assert_eq!(page.unwrap().items.len(), 2);
}

#[tokio::test]
async fn white_space_between_tokens_is_taken_out_of_the_items() {
    let (page, _) = scan([Answer::dynamodb(
        "{\"Items\": [\n {\"id\": {\"S\": \"a b\"}}\n], \"Count\": 1, \"ScannedCount\": 1}",
    )])
    .await;
    let page = page.unwrap();
    assert_eq!(lines(&page), [r#"{"id":{"S":"a b"}}"#]);
    assert_eq!(page.last_evaluated_key, None);
}

#[tokio::test]
async fn a_wrong_checksum_is_transient() {
    let failure = failure(Answer::new(200, PAGE).header("x-amz-crc32", "1")).await;
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.message.contains("x-amz-crc32"), "{failure}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_transient_wherever_it_does() {
    for cut in [0, 1, PAGE.len() / 2, PAGE.len() - 1] {
        let torn = failure(Answer::dynamodb(PAGE).cut_at(cut)).await;
        assert_eq!(torn.kind, FailureKind::Transient, "cut at {cut}: {torn}");
        let unmeasured = failure(Answer::new(200, PAGE).without_length().cut_at(cut)).await;
        assert_eq!(
            unmeasured.kind,
            FailureKind::Transient,
            "cut at {cut}: {unmeasured}"
        );
    }
}

#[tokio::test]
async fn refusals_have_their_kind_and_the_services_words() {
    for (status, code, kind) in [
        (
            400,
            "ProvisionedThroughputExceededException",
            FailureKind::Throttled,
        ),
        (400, "ThrottlingException", FailureKind::Throttled),
        (400, "RequestLimitExceeded", FailureKind::Throttled),
        (503, "ServiceUnavailable", FailureKind::Throttled),
        (500, "InternalServerError", FailureKind::Transient),
        (400, "ResourceNotFoundException", FailureKind::NotFound),
        (400, "ValidationException", FailureKind::Invalid),
        (400, "AccessDeniedException", FailureKind::Denied),
        (400, "ExpiredTokenException", FailureKind::Denied),
        (400, "UnrecognizedClientException", FailureKind::Denied),
    ] {
        let failure = failure(Answer::refusal(status, code, "told\nso")).await;
        assert_eq!(failure.kind, kind, "{code}");
        assert_eq!(failure.message, format!("{code}: told so"));
    }
}

#[tokio::test]
async fn a_bare_server_error_is_transient() {
    let failure = failure(Answer::new(502, "<html>Bad Gateway</html>")).await;
    assert_eq!(failure.kind, FailureKind::Transient);
}

#[tokio::test]
async fn an_answer_that_contradicts_itself_is_corrupt() {
    for (answer, part) in [
        (
            Answer::dynamodb(&PAGE.replace("\"Count\":2", "\"Count\":3")),
            "Count is 3, but there are 2 items",
        ),
        (
            Answer::dynamodb(&PAGE.replace(
                "\"LastEvaluatedKey\":{\"id\":{\"S\":\"b\\\\\"}}",
                "\"LastEvaluatedKey\":{\"id\":{\"BOOL\":true}}",
            )),
            "\"id\"",
        ),
        (Answer::dynamodb(r#"{"Count":1,"Items":[{}{}]}"#), "one `,`"),
        (
            Answer::new(200, r#"{"Count":1,"Items":[{"a":{"BOOL":tru}}]}"#),
            "item 0 is not JSON",
        ),
        (
            Answer::dynamodb(PAGE).header("content-encoding", "gzip"),
            "gzip",
        ),
        (
            Answer::new(200, PAGE)
                .without_length()
                .header("content-length", "99999999999"),
            "longer than",
        ),
    ] {
        let failure = failure(answer).await;
        assert_eq!(failure.kind, FailureKind::Corrupt, "{failure}");
        assert!(failure.message.contains(part), "{failure}");
    }
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_host_are_unreachable() {
    let port = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    for url in [
        format!("http://127.0.0.1:{port}"),
        "http://no-such-host.invalid:8000".into(),
    ] {
        let scanner = loopback_scanner(&url).await;
        let failure = scanner.scan_page(&request()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unreachable, "{url}: {failure}");
    }
}

/// A scanner with credentials of its own, since made-up ones are for this machine only.
async fn loopback_scanner(url: &str) -> DynamoScanner {
    let clients = clients("http://127.0.0.1:1").await;
    let config = clients
        .dynamodb_without_retries()
        .config()
        .to_builder()
        .endpoint_url(url)
        .build();
    DynamoScanner::new(aws_sdk_dynamodb::Client::from_conf(config))
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("nothing is set")))
    }
}

#[tokio::test]
async fn without_credentials_the_answer_is_denied_and_says_what_to_set() {
    let clients = clients("http://127.0.0.1:1").await;
    let config = clients
        .dynamodb_without_retries()
        .config()
        .to_builder()
        .credentials_provider(NoCredentials)
        .build();
    let scanner = DynamoScanner::new(aws_sdk_dynamodb::Client::from_conf(config));
    let failure = scanner.scan_page(&request()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
    assert!(failure.message.contains("AWS_ACCESS_KEY_ID"), "{failure}");
}

#[tokio::test]
async fn a_retried_attempt_leaves_one_whole_page() {
    let server = Loopback::answering([
        Answer::new(200, PAGE).header("x-amz-crc32", "1"),
        Answer::dynamodb(PAGE).cut_at(PAGE.len() - 3),
        Answer::refusal(500, "InternalServerError", "later"),
        Answer::dynamodb(PAGE),
    ])
    .await;
    let config = server
        .clients()
        .await
        .dynamodb()
        .config()
        .to_builder()
        .retry_config(
            aws_sdk_dynamodb::config::retry::RetryConfig::standard()
                .with_max_attempts(4)
                .with_initial_backoff(std::time::Duration::from_millis(1)),
        )
        .build();
    let scanner = DynamoScanner::new(aws_sdk_dynamodb::Client::from_conf(config));
    let page = scanner.scan_page(&request()).await.unwrap();
    assert_eq!(lines(&page).len(), 2);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn the_request_says_all_that_was_asked_for() {
    let server = Loopback::answering([Answer::dynamodb(
        r#"{"Count":0,"Items":[],"ScannedCount":0}"#,
    )])
    .await;
    let scanner = server.clients().await.table_scanner();
    let asked_for = ScanRequest {
        segment: 3,
        total_segments: 1_000_000,
        exclusive_start_key: Some(Key(BTreeMap::from([
            ("id".into(), KeyValue::B(vec![0xff, 0])),
            ("at".into(), KeyValue::N("1.50".into())),
        ]))),
        consistent: false,
        limit: Some(0),
        selection: Selection {
            filter: Some("#s = :s".into()),
            projection: Some("#s, id".into()),
            names: BTreeMap::from([("#s".into(), "status".into())]),
            values: BTreeMap::from([(
                ":s".into(),
                json!({"L": [{"NS": ["1.50"]}, {"B": "/wA="}]}),
            )]),
        },
        ..request()
    };
    scanner.scan_page(&asked_for).await.unwrap();
    let asked = &server.asked()[0];
    assert_eq!(
        asked.json(),
        json!({
            "TableName": "orders",
            "Segment": 3,
            "TotalSegments": 1_000_000,
            "ConsistentRead": false,
            "Limit": 1,
            "ReturnConsumedCapacity": "TOTAL",
            "ExclusiveStartKey": {"id": {"B": "/wA="}, "at": {"N": "1.50"}},
            "FilterExpression": "#s = :s",
            "ProjectionExpression": "#s, id",
            "ExpressionAttributeNames": {"#s": "status"},
            "ExpressionAttributeValues": {":s": {"L": [{"NS": ["1.50"]}, {"B": "/wA="}]}},
        })
    );
    assert_eq!(asked.headers["accept-encoding"], "identity");
    assert!(asked.headers["x-amz-user-agent"].contains("app/highwater"));

    let mut untyped = asked_for;
    untyped.selection.values = BTreeMap::from([(":s".into(), json!({"N": 7}))]);
    let failure = scanner.scan_page(&untyped).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.message, "value :s: N needs a string, not 7");
    assert_eq!(server.asked().len(), 1, "it was not sent");
}

/// A table whose items are numbered: three to a page, three pages or one to a segment.
pub fn numbered_page(asked: &Value, pages: u64) -> Answer {
    let segment = asked["Segment"].as_u64().unwrap();
    let start = asked["ExclusiveStartKey"]["id"]["N"].as_str();
    let first = start.map_or(segment * 10, |last| last.parse::<u64>().unwrap() + 1);
    let item = |n: u64| json!({"id": {"N": n.to_string()}});
    let mut answer = json!({
        "Count": 3,
        "ScannedCount": 3,
        "Items": [item(first), item(first + 1), item(first + 2)],
    });
    if first + 3 < segment * 10 + 3 * pages {
        answer["LastEvaluatedKey"] = item(first + 2);
    }
    Answer::dynamodb(&answer.to_string())
}

/// The numbers of a segment's items, as a worker collects them.
pub async fn numbers(scanner: &DynamoScanner, mut request: ScanRequest) -> Vec<String> {
    let mut numbers = Vec::new();
    loop {
        let page = scanner.scan_page(&request).await.unwrap();
        for item in page.items.iter() {
            let item: Value = serde_json::from_slice(item).unwrap();
            numbers.push(item["id"]["N"].as_str().unwrap().to_owned());
        }
        if page.last_evaluated_key.is_none() {
            return numbers;
        }
        request.exclusive_start_key = page.last_evaluated_key;
    }
}

#[tokio::test]
async fn dd_05_a_segment_worker_chains_its_pages() {
    let server = Loopback::start(|asked| numbered_page(&asked.json(), 3)).await;
    let scanner = server.clients().await.table_scanner();
    let request = ScanRequest {
        segment: 2,
        total_segments: 4,
        ..request()
    };
    let expected: Vec<String> = (20..29).map(|n| n.to_string()).collect();
    assert_eq!(numbers(&scanner, request).await, expected);
    let asked: Vec<Value> = server
        .asked()
        .iter()
        .map(crate::loopback::Asked::json)
        .collect();
    assert_eq!(asked.len(), 3);
    for (body, start) in asked.iter().zip([Value::Null, json!("22"), json!("25")]) {
        assert_eq!(body["TableName"], "orders");
        assert_eq!(body["ConsistentRead"], true);
        assert_eq!(body["Segment"], 2);
        assert_eq!(body["TotalSegments"], 4);
        assert_eq!(body["ExclusiveStartKey"]["id"]["N"], start);
    }
    assert_eq!(asked[0].get("ExclusiveStartKey"), None);
}
