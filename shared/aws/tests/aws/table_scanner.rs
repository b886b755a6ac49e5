//! `DynamoScanner`: what it asks, what it makes of the answers, and of torn ones.

use std::collections::{BTreeMap, BTreeSet};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use highwater_aws::{Clients, DynamoScanner};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::{Key, KeyAttribute, KeySchema, KeyValue, ScalarType};
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::selection::Selection;
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::table_scanner::{
    KnownTable, a_limit_is_kept_and_loses_nothing, an_unknown_table_is_not_found,
    any_position_resumes_the_rest, segments_are_the_table_once,
};
use serde_json::{Value, json};

use crate::loopback::{Answer, Loopback, clients};

const PAGE: &str = r#"{"ConsumedCapacity":{"CapacityUnits":2.5,"TableName":"orders"},"Count":2,"Items":[{"id":{"S":"a"},"x":{"S":"}},{\"Items\":["}},{"id":{"S":"b\\"}}],"LastEvaluatedKey":{"id":{"S":"b\\"}},"ScannedCount":7}"#;

fn request() -> ScanRequest {
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
fn numbered_page(asked: &Value, pages: u64) -> Answer {
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
async fn numbers(scanner: &DynamoScanner, mut request: ScanRequest) -> Vec<String> {
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

#[tokio::test]
async fn dd_06_four_segments_are_the_table_without_duplicates() {
    let server = Loopback::start(|asked| numbered_page(&asked.json(), 1)).await;
    let scanner = server.clients().await.table_scanner();
    let mut all = Vec::new();
    for segment in 0..4 {
        let request = ScanRequest {
            segment,
            total_segments: 4,
            ..request()
        };
        all.extend(numbers(&scanner, request).await);
    }
    assert_eq!(
        all,
        [
            "0", "1", "2", "10", "11", "12", "20", "21", "22", "30", "31", "32"
        ]
    );
}

/// A table with a partition key `id` (binary) and a sort key `at` (number).
async fn create_table(clients: &Clients, name: &str) {
    let key = |name: &str, key_type| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(key_type)
            .build()
            .unwrap()
    };
    let attribute = |name: &str, scalar_type| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(scalar_type)
            .build()
            .unwrap()
    };
    clients
        .dynamodb()
        .create_table()
        .table_name(name)
        .key_schema(key("id", KeyType::Hash))
        .key_schema(key("at", KeyType::Range))
        .attribute_definitions(attribute("id", ScalarAttributeType::B))
        .attribute_definitions(attribute("at", ScalarAttributeType::N))
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
}

/// Item `n`: every type, and text that a careless reader would trip over.
fn item(n: u32) -> std::collections::HashMap<String, AttributeValue> {
    let text = |text: &str| AttributeValue::S(text.into());
    let number = |text: &str| AttributeValue::N(text.into());
    [
        ("id", AttributeValue::B(Blob::new((n / 3).to_be_bytes()))),
        ("at", number(&format!("{}.5", n % 3))),
        ("Items", text("}},{\"Items\":[\\\"")),
        (
            "LastEvaluatedKey",
            text("\u{0}\u{1f}\n\u{fc}\u{1f600}\u{2028}"),
        ),
        ("quote\"back\\slash", text("")),
        ("n", number("12345678901234567890123456789012345678")),
        (
            "tiny",
            number("-0.00000000000000000000000000000000000000000000000000001"),
        ),
        ("b", AttributeValue::B(Blob::new([0, 255]))),
        ("t", AttributeValue::Bool(false)),
        ("z", AttributeValue::Null(true)),
        ("ss", AttributeValue::Ss(vec!["a".into(), "}".into()])),
        ("ns", AttributeValue::Ns(vec!["1".into(), "-2".into()])),
        ("bs", AttributeValue::Bs(vec![Blob::new([1])])),
        (
            "l",
            AttributeValue::L(vec![AttributeValue::L(vec![]), text("]")]),
        ),
        (
            "m",
            AttributeValue::M([("k".to_owned(), AttributeValue::M([].into()))].into()),
        ),
        ("long", text(&"x}\\\"".repeat(n as usize % 90))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The SDK's value as DynamoDB JSON, written by other means than the scanner uses.
fn json_of(value: &AttributeValue) -> Value {
    use base64::Engine as _;
    let b64 = |blob: &Blob| base64::engine::general_purpose::STANDARD.encode(blob.as_ref());
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(text) => json!({"N": text}),
        AttributeValue::B(blob) => json!({"B": b64(blob)}),
        AttributeValue::Bool(flag) => json!({"BOOL": flag}),
        AttributeValue::Null(flag) => json!({"NULL": flag}),
        AttributeValue::Ss(texts) => json!({"SS": sorted(texts.clone())}),
        AttributeValue::Ns(texts) => json!({"NS": sorted(texts.clone())}),
        AttributeValue::Bs(blobs) => json!({"BS": sorted(blobs.iter().map(b64).collect())}),
        AttributeValue::L(list) => json!({"L": list.iter().map(json_of).collect::<Vec<_>>()}),
        AttributeValue::M(map) => {
            json!({"M": map.iter().map(|(k, v)| (k.clone(), json_of(v))).collect::<BTreeMap<_, _>>()})
        }
        other => panic!("{other:?}"),
    }
}

/// Sets have no order.
fn with_sorted_sets(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        for (name, member) in members {
            if let ("SS" | "NS" | "BS", Some(set)) = (name.as_str(), member.as_array_mut()) {
                set.sort_by_key(ToString::to_string);
            }
            with_sorted_sets(member);
        }
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(with_sorted_sets);
    }
}

#[tokio::test]
async fn raw_items_are_the_items_that_the_sdk_sees() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = clients(engine.endpoint_url()).await;
    create_table(&clients, "orders").await;
    for n in 0..60 {
        let put = clients
            .dynamodb()
            .put_item()
            .table_name("orders")
            .set_item(Some(item(n)));
        put.send().await.unwrap();
    }
    let scanner = clients.table_scanner();
    let mut request = ScanRequest {
        limit: Some(25),
        ..request()
    };
    let mut raw = Vec::new();
    loop {
        let page = scanner.scan_page(&request).await.unwrap();
        for line in page.items.iter() {
            assert!(!line.contains(&b'\n'));
            let mut value: Value = serde_json::from_slice(line).unwrap();
            with_sorted_sets(&mut value);
            raw.push(value);
        }
        assert!(page.consumed_capacity > 0.0);
        if page.last_evaluated_key.is_none() {
            break;
        }
        request.exclusive_start_key = page.last_evaluated_key;
    }
    let typed = clients.dynamodb().scan().table_name("orders");
    let typed = typed.segment(0).total_segments(1).send().await.unwrap();
    let typed: Vec<Value> = typed
        .items()
        .iter()
        .map(|item| item.iter().map(|(k, v)| (k.clone(), json_of(v))).collect())
        .collect();
    assert_eq!(raw.len(), 60);
    assert_eq!(raw, typed);
}

async fn known_table(clients: &Clients) -> KnownTable {
    create_table(clients, "orders").await;
    let attribute = |name: &str, scalar_type| KeyAttribute {
        name: name.into(),
        scalar_type,
    };
    let schema = KeySchema {
        partition: attribute("id", ScalarType::B),
        sort: Some(attribute("at", ScalarType::N)),
    };
    let mut keys = BTreeSet::new();
    for n in 0..100 {
        let put = clients
            .dynamodb()
            .put_item()
            .table_name("orders")
            .set_item(Some(item(n)));
        put.send().await.unwrap();
        keys.insert(Key(BTreeMap::from([
            ("id".into(), KeyValue::B((n / 3).to_be_bytes().to_vec())),
            ("at".into(), KeyValue::N(format!("{}.5", n % 3))),
        ])));
    }
    KnownTable {
        name: "orders".into(),
        schema,
        keys,
    }
}

#[tokio::test]
async fn an_embedded_dynamodb_is_scanned_by_the_laws() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = clients(engine.endpoint_url()).await;
    let table = known_table(&clients).await;
    let scanner = clients.table_scanner();
    segments_are_the_table_once(&scanner, &table).await;
    any_position_resumes_the_rest(&scanner, &table).await;
    a_limit_is_kept_and_loses_nothing(&scanner, &table).await;
    an_unknown_table_is_not_found(&scanner).await;
    // Not `a_scan_repeats_itself`: it compares bytes, and this engine shuffles the attributes of an item.
}
