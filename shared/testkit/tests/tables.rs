//! Generated items in the embedded engine: what is loaded is what is scanned.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows test functions, but not the functions that they share"
)]

use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use highwater_domain::key::Key;
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::attribute::{Attribute, Item};
use highwater_testkit::clients;
use highwater_testkit::fill::{SdkItem, TableWriter, fill};
use highwater_testkit::generate::{Generator, KeyShape, canonical};
use highwater_testkit::tables::NewTable;
use serde_json::Value;

fn from_sdk(item: &SdkItem) -> Item {
    let members = item.iter();
    Item(
        members
            .map(|(name, value)| (name.clone(), attribute(value)))
            .collect(),
    )
}

fn attribute(value: &AttributeValue) -> Attribute {
    let bytes = |blob: &Blob| blob.as_ref().to_vec();
    match value {
        AttributeValue::S(text) => Attribute::S(text.clone()),
        AttributeValue::N(digits) => Attribute::N(digits.clone()),
        AttributeValue::B(blob) => Attribute::B(bytes(blob)),
        AttributeValue::Bool(value) => Attribute::Bool(*value),
        AttributeValue::Null(_) => Attribute::Null,
        AttributeValue::M(members) => Attribute::M(from_sdk(members).0),
        AttributeValue::L(values) => Attribute::L(values.iter().map(attribute).collect()),
        AttributeValue::Ss(texts) => Attribute::Ss(texts.clone()),
        AttributeValue::Ns(numbers) => Attribute::Ns(numbers.clone()),
        AttributeValue::Bs(blobs) => Attribute::Bs(blobs.iter().map(bytes).collect()),
        other => panic!("an eleventh type: {other:?}"),
    }
}

async fn scan(client: &aws_sdk_dynamodb::Client, table: &str) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let mut pages = client.scan().table_name(table).into_paginator().send();
    while let Some(page) = pages.next().await {
        items.extend(
            page.unwrap()
                .items()
                .iter()
                .map(|item| from_sdk(item).json()),
        );
    }
    items
}

/// By a key whose numbers are canonical, for engines write them as they like.
fn by_key(shape: KeyShape, items: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Key, Value> {
    let keyed = items.into_iter().map(|item| {
        let item = canonical(&item);
        let bytes = serde_json::to_vec(&item).unwrap();
        (shape.schema().key_of(&bytes).unwrap(), item)
    });
    keyed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_generated_item_comes_back_equal() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let client = clients::dynamodb(engine.endpoint_url());
    for (number, shape) in KeyShape::all().enumerate() {
        let name = format!("table-{number}");
        let mut table = NewTable::new(&name, shape).with_global_index();
        if shape.sort.is_some() {
            table = table.with_local_index();
        }
        table.create(&client).await.unwrap();
        let generator = Generator::new(number as u64, shape).with_big_every(150);
        let items = generator.items(150).map(|item| Ok::<_, ()>(item.sdk()));
        let filled = fill(items, 4, &TableWriter::new(&client, &name))
            .await
            .unwrap();
        assert_eq!(filled.items, 150);
        let expected = by_key(shape, (0..150).map(|index| generator.item(index)));
        let found = by_key(shape, scan(&client, &name).await);
        assert_eq!(found.len(), 150, "{shape:?}");
        assert_eq!(found, expected, "{shape:?}");
    }
}

#[tokio::test]
async fn settings_are_as_asked() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let client = clients::dynamodb(engine.endpoint_url());
    NewTable::new("orders", KeyShape::STRING)
        .with_ttl("expires")
        .with_tag("team", "billing & more")
        .with_stream()
        .provisioned(7, 5)
        .create(&client)
        .await
        .unwrap();
    let answer = client
        .describe_table()
        .table_name("orders")
        .send()
        .await
        .unwrap();
    let table = answer.table().unwrap();
    assert!(table.latest_stream_arn().is_some());
    let throughput = table.provisioned_throughput().unwrap();
    assert_eq!(throughput.read_capacity_units(), Some(7));
    let tags = client
        .list_tags_of_resource()
        .resource_arn(table.table_arn().unwrap());
    assert_eq!(
        tags.send().await.unwrap().tags()[0].value(),
        "billing & more"
    );
    let ttl = client
        .describe_time_to_live()
        .table_name("orders")
        .send()
        .await
        .unwrap();
    let ttl = ttl.time_to_live_description().unwrap();
    assert_eq!(ttl.attribute_name(), Some("expires"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_items_load_quickly() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let client = clients::dynamodb(engine.endpoint_url());
    let generator = Generator::small(5, KeyShape::STRING);
    NewTable::new("many", KeyShape::STRING)
        .create(&client)
        .await
        .unwrap();
    let items = (0..5_000).map(|index| generator.item(index));
    let loaded = engine.import("many", items.collect()).await.unwrap();
    assert_eq!(loaded, 5_000);
    let found = by_key(KeyShape::STRING, scan(&client, "many").await);
    let expected = by_key(
        KeyShape::STRING,
        (0..5_000).map(|index| generator.item(index)),
    );
    assert_eq!(found, expected);
    let wrong = engine
        .import("many", vec![b"{\"pk\":{\"N\":\"1\"}}".to_vec()])
        .await;
    assert!(wrong.unwrap_err().to_string().contains("many"));
    assert!(
        engine
            .import("many", vec![b"not json".to_vec()])
            .await
            .is_err()
    );
    assert!(
        engine
            .import("none", vec![generator.item(0)])
            .await
            .is_err()
    );
}
