// A table in an embedded DynamoDB. The examples in the documentation include this file too, which is
// why it has no inner documentation and exports what they use.

use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
use highwater_local::EmbeddedDynamoDb;

pub use highwater_kv::{
    Cause, Error, FieldType, Index, List, PageToken, Partition, Record, Store, Table, TableSpec,
    TableState, Transaction, Write,
};

/// The settings of a client for an engine.
pub fn config(engine: &EmbeddedDynamoDb) -> Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(engine.endpoint_url())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
}

/// A store on an engine, with the system's clock.
pub fn store(engine: &EmbeddedDynamoDb) -> Store {
    Store::new(aws_sdk_dynamodb::Client::from_conf(config(engine).build()))
}

/// An empty table without indexes; the engine stops when dropped.
pub async fn fresh_table() -> (EmbeddedDynamoDb, Table) {
    let engine = EmbeddedDynamoDb::start().await.expect("the engine starts");
    let table = store(&engine).table("kv-table");
    table
        .create(&TableSpec::new())
        .await
        .expect("the table is created");
    (engine, table)
}
