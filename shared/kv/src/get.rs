//! Reading one record.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use crate::error::Error;
use crate::expression::Expression;
use crate::field::{EXPIRES, ID, VERSION};
use crate::hook::Operation;
use crate::record::Record;
use crate::store::{Partition, key_item};

impl Partition {
    /// Reads a record; `None` if it does not exist or has expired.
    ///
    /// A record is expired from the second in its `expires` on, whether or not DynamoDB has removed the
    /// item by then (which may take days).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let users = table.partition("users");
    /// assert_eq!(users.get("ada").await?, None);
    /// users.put("ada", Write::text("Ada Lovelace")).await?;
    /// let ada = users.get("ada").await?.expect("was put just now");
    /// assert_eq!(ada.text()?, "Ada Lovelace");
    /// # Ok(()) }
    /// ```
    pub async fn get(&self, name: &str) -> Result<Option<Record>, Error> {
        let now = self.now();
        let request = self.request(Operation::Get, "GetItem", name);
        let answer = request
            .send(
                self.client()
                    .get_item()
                    .table_name(self.table().name())
                    .set_key(Some(key_item(self.id(), name)))
                    .consistent_read(self.is_consistent())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await
            .map_err(|error| request.failed(error))?;
        let Some(item) = answer.item else {
            return Ok(None);
        };
        let record = self.table().record(item)?;
        Ok((!record.is_expired(now)).then_some(record))
    }

    /// Reads a record that should be there.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist or has expired.
    pub async fn require(&self, name: &str) -> Result<Record, Error> {
        self.get(name).await?.ok_or_else(|| Error::NotFound {
            key: self.record_key(name),
            after_retry: false,
        })
    }

    /// Whether a record exists and has not expired. Costs as much as [`get`](Self::get), but carries no payload.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// assert!(!table.partition("users").exists("ada").await?);
    /// # Ok(()) }
    /// ```
    pub async fn exists(&self, name: &str) -> Result<bool, Error> {
        let now = self.now();
        let mut expression = Expression::default();
        let projection = [ID, VERSION, EXPIRES]
            .map(|attribute| expression.name(attribute))
            .join(", ");
        let request = self.request(Operation::Exists, "GetItem", name);
        let answer = request
            .send(
                self.client()
                    .get_item()
                    .table_name(self.table().name())
                    .set_key(Some(key_item(self.id(), name)))
                    .consistent_read(self.is_consistent())
                    .projection_expression(projection)
                    .set_expression_attribute_names(expression.names())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await
            .map_err(|error| request.failed(error))?;
        let Some(item) = answer.item else {
            return Ok(false);
        };
        let standing = self.table().standing(&item, &self.record_key(name))?;
        Ok(!now.is_past(standing.expires))
    }
}
