//! `DynamoFencedWriter` and `DynamoFenceTables` on an embedded DynamoDB.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use highwater_aws::Clients;
use highwater_domain::fence_tables::FenceTables as _;
use highwater_domain::fenced_writer::{Fence, FencedTable};
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::{fence_tables, fenced_writer, item_reader};

use crate::loopback::clients;

const TARGET: &str = "copy";

async fn embedded() -> (EmbeddedDynamoDb, Clients) {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = clients(engine.endpoint_url()).await;
    create(&clients).await;
    (engine, clients)
}

/// The table of the laws: the string key `id`, and an index.
async fn create(clients: &Clients) {
    let attribute = |name: &str, scalar: ScalarAttributeType| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(scalar).build().unwrap()
    };
    let hash = |name: &str| {
        let key = KeySchemaElement::builder().attribute_name(name);
        key.key_type(KeyType::Hash).build().unwrap()
    };
    let all = Projection::builder().projection_type(ProjectionType::All);
    let index = GlobalSecondaryIndex::builder()
        .index_name("by-indexed")
        .key_schema(hash(fenced_writer::INDEXED))
        .projection(all.build());
    let create = clients.dynamodb().create_table().table_name(TARGET);
    create
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("id", ScalarAttributeType::S))
        .attribute_definitions(attribute(fenced_writer::INDEXED, ScalarAttributeType::N))
        .key_schema(hash("id"))
        .global_secondary_indexes(index.build().unwrap())
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn an_embedded_dynamodb_keeps_the_laws_of_fences_in_a_table() {
    let (_engine, clients) = embedded().await;
    let tables = clients.fence_tables();
    tables.claim("fences", "somebody").await.unwrap();
    fenced_writer::every_law(fenced_writer::Fenced {
        writer: &clients.fenced_writer(),
        scanner: &clients.table_scanner(),
        table: FencedTable {
            target: TARGET,
            fence: Fence::Table("fences"),
        },
    })
    .await;
}

#[tokio::test]
async fn an_embedded_dynamodb_keeps_the_laws_of_fences_in_an_attribute() {
    let (_engine, clients) = embedded().await;
    fenced_writer::every_law(fenced_writer::Fenced {
        writer: &clients.fenced_writer(),
        scanner: &clients.table_scanner(),
        table: FencedTable {
            target: TARGET,
            fence: Fence::Attribute("highwater_order"),
        },
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_dynamodb_keeps_the_laws_of_tables_of_fences() {
    let (_engine, clients) = embedded().await;
    fence_tables::every_law(&fence_tables::FencedAccount {
        tables: Arc::new(clients.fence_tables()),
        writer: Arc::new(clients.fenced_writer()),
        target: TARGET.into(),
    })
    .await;
}

#[tokio::test]
async fn an_embedded_dynamodb_keeps_the_laws_of_single_items() {
    let (_engine, clients) = embedded().await;
    item_reader::every_law(item_reader::Readable {
        reader: &clients.item_reader(),
        writer: &clients.table_writer(),
        table: TARGET,
    })
    .await;
}
