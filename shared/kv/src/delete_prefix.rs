//! Deleting many records: all whose names begin alike.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, ReturnConsumedCapacity, WriteRequest,
};

use crate::error::Error;
use crate::expression::Expression;
use crate::field::{EXPIRES, ID, NAME, VERSION};
use crate::hook::Operation;
use crate::pause::Pauses;
use crate::record::Item;
use crate::store::{Partition, key_item};

/// Most writes in a `BatchWriteItem`.
const BATCH: usize = 25;
/// How often what DynamoDB left undone is sent again: about a minute in all.
const TRIES: u32 = 60;

impl Partition {
    /// Deletes every record whose name begins with `prefix` (the empty prefix: the whole partition), whatever
    /// the versions, expired ones included. Returns how many items it deleted.
    ///
    /// Not atomic: a crash leaves a part undone, in the order of names, and a second call does the rest. A record
    /// that somebody creates meanwhile may stay or go.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let files = table.partition("files");
    /// for name in ["a/1", "a/2", "b/1"] {
    ///     files.put(name, Write::text(name)).await?;
    /// }
    /// assert_eq!(files.delete_prefix("a/").await?, 2);
    /// assert!(files.exists("b/1").await?);
    /// # Ok(()) }
    /// ```
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, Error> {
        let mut deleted = 0_u64;
        let mut start = None;
        loop {
            let answer = self.keys_page(prefix, start).await?;
            let names = self.names(answer.items.unwrap_or_default())?;
            for batch in names.chunks(BATCH) {
                self.delete_batch(batch).await?;
                deleted += batch.len() as u64;
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(deleted);
            }
        }
    }

    async fn keys_page(&self, prefix: &str, start: Option<Item>) -> Result<QueryOutput, Error> {
        let mut expression = Expression::default();
        let mut condition = expression.assign(ID, AttributeValue::S(self.id().to_owned()));
        let name = expression.name(NAME);
        if !prefix.is_empty() {
            let prefix = expression.value(AttributeValue::S(prefix.to_owned()));
            condition = format!("{condition} AND begins_with({name}, {prefix})");
        }
        let (version, expires) = (expression.name(VERSION), expression.name(EXPIRES));
        let request = self.request(Operation::DeletePrefix, "Query", prefix);
        request
            .send(
                self.client()
                    .query()
                    .table_name(self.table().name())
                    .key_condition_expression(condition)
                    .projection_expression(format!("{name}, {version}, {expires}"))
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values())
                    .consistent_read(true)
                    .set_exclusive_start_key(start)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await
            .map_err(|error| request.failed(error))
    }

    fn names(&self, items: Vec<Item>) -> Result<Vec<String>, Error> {
        let mut names = Vec::with_capacity(items.len());
        for mut item in items {
            let Some(AttributeValue::S(name)) = item.remove(NAME) else {
                let request = self.request(Operation::DeletePrefix, "Query", "");
                return Err(request.incomplete("a name"));
            };
            // Remembers the versions, so that no record created from here starts below them.
            self.table().standing(&item, &self.record_key(&name))?;
            names.push(name);
        }
        Ok(names)
    }

    async fn delete_batch(&self, names: &[String]) -> Result<(), Error> {
        let mut left = Vec::with_capacity(names.len());
        for name in names {
            let key = key_item(self.id(), name);
            let delete = DeleteRequest::builder().set_key(Some(key)).build();
            // Only a missing key could fail to build, and it is there.
            let delete = delete.map_err(|error| Error::Transaction {
                reason: error.to_string(),
            })?;
            left.push(WriteRequest::builder().delete_request(delete).build());
        }
        let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut tries = 0;
        loop {
            let request = self.request(Operation::DeletePrefix, "BatchWriteItem", "");
            let answer = request
                .send(
                    self.client()
                        .batch_write_item()
                        .request_items(self.table().name(), left)
                        .return_consumed_capacity(ReturnConsumedCapacity::Total)
                        .customize()
                        .interceptor(request.attempts())
                        .send(),
                )
                .await
                .map_err(|error| request.failed(error))?;
            left = answer
                .unprocessed_items
                .into_iter()
                .flatten()
                .flat_map(|(_, undone)| undone)
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            tries += 1;
            if tries == TRIES {
                return Err(request.unprocessed(left.len()));
            }
            pauses.pause().await;
        }
    }
}
