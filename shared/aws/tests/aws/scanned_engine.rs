//! `DynamoScanner` on an embedded DynamoDB: the laws, and the same items that the SDK sees.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use highwater_aws::Clients;
use highwater_domain::key::{Key, KeyAttribute, KeySchema, KeyValue, ScalarType};
use highwater_domain::scan::{ScanRequest, TableScanner};
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::table_scanner::{KnownTable, every_law};
use serde_json::{Value, json};

use crate::loopback::{Loopback, clients};

use crate::table_scanner::{numbered_page, numbers, request};
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
    every_law(&scanner, &table).await;
}
