//! Against the embedded engine, over the real adapters: a copy of a table, kept by a bootstrap.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::control_table::Cas;
use highwater_local::EmbeddedDynamoDb;
use highwater_source::{
    Checkpoints, KvCheckpoints, MemoryCheckpoints, Ports, TableSink, builder, create_control_table,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
    cents: u64,
}

async fn connect(engine: &EmbeddedDynamoDb) -> Clients {
    let settings = ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some(engine.endpoint_url().to_owned()),
        ..ConnectionSettings::default()
    };
    Clients::connect(&settings).await.unwrap()
}

async fn create(client: &aws_sdk_dynamodb::Client, name: &str, with_stream: bool) {
    let id = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S);
    let hash = KeySchemaElement::builder()
        .attribute_name("id")
        .key_type(KeyType::Hash);
    let mut create = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(id.build().unwrap())
        .key_schema(hash.build().unwrap());
    if with_stream {
        let stream = StreamSpecification::builder().stream_enabled(true);
        let stream = stream.stream_view_type(StreamViewType::NewAndOldImages);
        create = create.stream_specification(stream.build().unwrap());
    }
    create.send().await.unwrap();
}

async fn put(client: &aws_sdk_dynamodb::Client, id: &str, cents: u64) {
    let put = client.put_item().table_name("orders");
    let put = put.item("id", AttributeValue::S(id.into()));
    put.item("cents", AttributeValue::N(cents.to_string()))
        .send()
        .await
        .unwrap();
}

async fn items(client: &aws_sdk_dynamodb::Client, table: &str) -> BTreeMap<String, String> {
    let all = client
        .scan()
        .table_name(table)
        .consistent_read(true)
        .send()
        .await
        .unwrap();
    let all = all.items().iter();
    let pair = |item: &std::collections::HashMap<String, AttributeValue>| {
        (
            item["id"].as_s().unwrap().clone(),
            item["cents"].as_n().unwrap().clone(),
        )
    };
    all.map(pair).collect()
}

#[tokio::test]
async fn a_copy_of_a_table_is_kept_by_the_real_adapters() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = connect(&engine).await;
    let client = clients.dynamodb();
    create(&client, "orders", true).await;
    create(&client, "copy", false).await;
    create(&client, "fences", false).await;
    create_control_table(&clients, "control").await.unwrap();
    for n in 0..60 {
        put(&client, &format!("o{n}"), n).await;
    }
    let bootstrap = || {
        builder::<Order>()
            .table("orders")
            .ports(Ports::of(&clients, "control"))
            .segments(3)
            .until_idle()
            .on_local_engine()
            .bootstrap(TableSink::new(&clients, "copy", "fences"))
            .unwrap()
    };
    let report = bootstrap().run().await.unwrap();
    assert_eq!(report.snapshot.applied, 60);
    assert_eq!(items(&client, "copy").await, items(&client, "orders").await);
    // Changes, a delete, and everything once more by another process.
    for n in 50..70 {
        put(&client, &format!("o{n}"), n * 2).await;
    }
    client
        .delete_item()
        .table_name("orders")
        .key("id", AttributeValue::S("o3".into()))
        .send()
        .await
        .unwrap();
    let report = bootstrap().run().await.unwrap();
    assert_eq!(report.snapshot.applied, 0);
    assert_eq!(report.live.counts.applied, 21);
    assert_eq!(items(&client, "copy").await, items(&client, "orders").await);
    let fence = client.scan().table_name("fences").send().await.unwrap();
    assert_eq!(fence.count(), 70, "that of the deleted item stays");
}

#[tokio::test]
async fn a_typed_item_is_what_was_put() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = connect(&engine).await;
    create(&clients.dynamodb(), "orders", false).await;
    create_control_table(&clients, "control").await.unwrap();
    put(&clients.dynamodb(), "a", 1250).await;
    let ports = Ports::of(&clients, "control");
    let source = builder::<Order>()
        .table("orders")
        .ports(ports)
        .without_stream();
    let mut scan = source.snapshot().unwrap().scan().await.unwrap();
    let batch = scan.next_batch().await.unwrap().unwrap();
    assert_eq!(
        (batch[0].value.id.as_str(), batch[0].value.cents),
        ("a", 1250)
    );
    assert_eq!(batch[0].key(), r#"{"id":{"S":"a"}}"#);
}

/// What every place of checkpoints keeps.
async fn checkpoints_keep_their_laws(place: &dyn Checkpoints) {
    assert_eq!(place.load("a/1").await.unwrap(), None);
    let Cas::Applied(first) = place.save("a/1", None, "one".into()).await.unwrap() else {
        panic!("nothing was there");
    };
    assert_eq!(
        place.save("a/1", None, "rival".into()).await.unwrap(),
        Cas::Lost
    );
    assert_eq!(
        place
            .save("a/2", Some(first), "nobody".into())
            .await
            .unwrap(),
        Cas::Lost
    );
    let Cas::Applied(second) = place.save("a/1", Some(first), "two".into()).await.unwrap() else {
        panic!("it was as it was seen");
    };
    assert!(second > first);
    assert_eq!(
        place.save("a/1", Some(first), "late".into()).await.unwrap(),
        Cas::Lost
    );
    let found = place.load("a/1").await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.version), (&b"two"[..], second));
    for n in 2..250 {
        let name = format!("a/{n:03}");
        assert!(matches!(
            place.save(&name, None, name.clone().into()).await.unwrap(),
            Cas::Applied(_)
        ));
    }
    place.save("b/1", None, "other".into()).await.unwrap();
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page: Vec<String> = place.names("a/", after.as_deref()).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        names.extend(page);
    }
    assert_eq!(names.len(), 249);
    assert!(names.is_sorted() && names.iter().all(|name| name.starts_with("a/")));
}

#[tokio::test]
async fn every_place_of_checkpoints_keeps_the_laws() {
    checkpoints_keep_their_laws(&MemoryCheckpoints::new()).await;
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = connect(&engine).await;
    create_control_table(&clients, "control").await.unwrap();
    let control = clients.control_table("control");
    checkpoints_keep_their_laws(&KvCheckpoints::new(control.table(), "orders")).await;
    // Another source's are not seen.
    let other = KvCheckpoints::new(control.table(), "others");
    assert_eq!(other.names("", None).await.unwrap(), [""; 0]);
}
