//! Making tables, and refusing to work on what is not one of ours.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use highwater_local::EmbeddedDynamoDb;

use crate::engine::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_creators_one_made_the_table_and_all_can_use_it() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let creators: Vec<_> = (0..6)
        .map(|number| {
            let table = store(&engine).table("kv-table");
            tokio::spawn(async move {
                let made = table.create(&TableSpec::new()).await?;
                table
                    .partition("p")
                    .put(&number.to_string(), Write::new())
                    .await?;
                Ok::<_, Error>(made)
            })
        })
        .collect();
    let mut made = 0;
    for creator in creators {
        made += i32::from(creator.await.unwrap().unwrap());
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn the_table_has_the_documented_shape() {
    let (_engine, table) = fresh_table().await;
    let client = table.store().client();
    let described = client
        .describe_table()
        .table_name("kv-table")
        .send()
        .await
        .unwrap();
    let described = described.table.unwrap();
    let keys: Vec<_> = described
        .key_schema()
        .iter()
        .map(KeySchemaElement::attribute_name)
        .collect();
    assert_eq!(keys, ["id", "name"]);
    let billing = described
        .billing_mode_summary
        .and_then(|summary| summary.billing_mode);
    assert_eq!(billing, Some(BillingMode::PayPerRequest));
    let ttl = client
        .describe_time_to_live()
        .table_name("kv-table")
        .send()
        .await
        .unwrap();
    let ttl = ttl.time_to_live_description.unwrap();
    assert_eq!(ttl.attribute_name.as_deref(), Some("expires"));
    assert!(
        ttl.time_to_live_status
            .unwrap()
            .as_str()
            .starts_with("ENABL")
    );
}

#[tokio::test]
async fn tables_of_another_shape_are_refused() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let store = store(&engine);
    let attribute = AttributeDefinition::builder()
        .attribute_name("pk")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    let key = KeySchemaElement::builder()
        .attribute_name("pk")
        .key_type(KeyType::Hash)
        .build()
        .unwrap();
    let create = store.client().create_table().table_name("other");
    let create = create.attribute_definitions(attribute).key_schema(key);
    create
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    let refused = store.table("other").create(&TableSpec::new()).await;
    assert!(
        matches!(&refused, Err(Error::Table { table, .. }) if table == "other"),
        "{refused:?}"
    );

    let plain = store.table("plain");
    plain.create(&TableSpec::new()).await.unwrap();
    let spec = TableSpec::new().global_index("by_f", ("f", FieldType::S), None);
    let refused = plain.create(&spec).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "table plain cannot be used: it has no index by_f"
    );
}

#[tokio::test]
async fn an_attribute_has_one_type_in_all_indexes() {
    let (_engine, table) = fresh_table().await;
    let table = table.store().table("typed");
    for spec in [
        TableSpec::new().local_index("a", "name", FieldType::N),
        TableSpec::new().local_index("a", "expires", FieldType::S),
        TableSpec::new()
            .local_index("a", "f", FieldType::S)
            .global_index("b", ("f", FieldType::N), None),
    ] {
        let result = table.create(&spec).await;
        assert!(matches!(result, Err(Error::Table { .. })), "{result:?}");
    }
    assert_eq!(table.state().await.unwrap(), TableState::Missing);
}
