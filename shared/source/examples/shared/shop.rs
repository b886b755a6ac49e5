//! What the examples run against: an embedded DynamoDB with a table of products, its stream, and a control table.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write as _;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use highwater_aws::{Clients, ConnectionSettings};
use highwater_local::EmbeddedDynamoDb;
use highwater_source::create_control_table;

/// The table of products.
pub const TABLE: &str = "products";

/// Where the source keeps its progress.
pub const CONTROL: &str = "control";

/// The engine and its clients.
pub struct Shop {
    pub clients: Clients,
    // It ends with its handle.
    _engine: EmbeddedDynamoDb,
}

/// Starts the engine and makes the tables.
pub async fn open() -> Result<Shop, Box<dyn Error>> {
    let engine = EmbeddedDynamoDb::start().await?;
    let settings = ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some(engine.endpoint_url().to_owned()),
        ..ConnectionSettings::default()
    };
    let clients = Clients::connect(&settings).await?;
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages);
    let id = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder()
        .attribute_name("id")
        .key_type(KeyType::Hash);
    clients
        .dynamodb()
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(id.build()?)
        .key_schema(key.build()?)
        .stream_specification(stream.build()?)
        .send()
        .await?;
    create_control_table(&clients, CONTROL).await?;
    Ok(Shop {
        clients,
        _engine: engine,
    })
}

impl Shop {
    /// Puts a product.
    pub async fn put(&self, id: &str, category: &str, title: &str) -> Result<(), Box<dyn Error>> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item: HashMap<String, AttributeValue> = [
            ("id".into(), text(id)),
            ("category".into(), text(category)),
            ("title".into(), text(title)),
        ]
        .into();
        let put = self.clients.dynamodb().put_item();
        put.table_name(TABLE).set_item(Some(item)).send().await?;
        Ok(())
    }

    /// Deletes a product.
    pub async fn delete(&self, id: &str) -> Result<(), Box<dyn Error>> {
        let delete = self.clients.dynamodb().delete_item().table_name(TABLE);
        delete
            .key("id", AttributeValue::S(id.to_owned()))
            .send()
            .await?;
        Ok(())
    }
}

/// One line on standard output; somebody who closed it does not want to know.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
