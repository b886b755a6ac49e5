//! Fills a table of the embedded engine without going through HTTP.

use dynoxide::Database;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::embedded_dynamodb::EmbeddedDynamoDb;
use crate::error::LocalError;

/// DynamoDB's bound on the writes of one `BatchWriteItem`.
const ITEMS_PER_BATCH: usize = 25;

impl EmbeddedDynamoDb {
    /// Creates a table, given as the body of a `CreateTable` request, and puts items, in DynamoDB JSON.
    ///
    /// # Errors
    /// [`LocalError::Seed`] with the engine's words.
    pub async fn seed(&self, create_table: Value, items: Vec<Value>) -> Result<(), LocalError> {
        let database = self.database().clone();
        let seeded = spawn_blocking(move || seed(&database, create_table, items)).await;
        seeded.unwrap_or_else(|error| Err(refused(error)))
    }

    /// Puts or deletes items of a table that is there, all of them at once: at most 25 of the `PutRequest`s and
    /// `DeleteRequest`s that `BatchWriteItem` takes. They leave their records in the table's stream.
    ///
    /// # Errors
    /// [`LocalError::Seed`] with the engine's words.
    pub async fn write(&self, table: &str, writes: Vec<Value>) -> Result<(), LocalError> {
        let database = self.database().clone();
        let name = table.to_owned();
        let written = spawn_blocking(move || write(&database, &name, &writes)).await;
        written.unwrap_or_else(|error| Err(refused(error)))
    }
}

fn write(database: &Database, table: &str, writes: &[Value]) -> Result<(), LocalError> {
    let request = json!({"RequestItems": {table: writes}});
    let request = serde_json::from_value(request).map_err(refused)?;
    database.batch_write_item(request).map_err(refused)?;
    Ok(())
}

fn seed(database: &Database, create_table: Value, items: Vec<Value>) -> Result<(), LocalError> {
    let table = create_table.get("TableName").cloned().unwrap_or_default();
    let request = serde_json::from_value(create_table).map_err(refused)?;
    database.create_table(request).map_err(refused)?;
    let mut writes: Vec<Value> = items
        .into_iter()
        .map(|item| json!({"PutRequest": {"Item": item}}))
        .collect();
    let name = table.as_str().unwrap_or_default();
    while !writes.is_empty() {
        let batch: Vec<Value> = writes.drain(..writes.len().min(ITEMS_PER_BATCH)).collect();
        write(database, name, &batch)?;
    }
    Ok(())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn refused(reason: impl ToString) -> LocalError {
    LocalError::Seed {
        reason: reason.to_string(),
    }
}
