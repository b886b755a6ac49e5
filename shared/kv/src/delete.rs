//! Deleting one record, whatever its version or only as it was seen.

use aws_sdk_dynamodb::types::{
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};

use crate::error::Error;
use crate::expression::Expression;
use crate::hook::Operation;
use crate::store::{Partition, key_item};

impl Partition {
    /// Deletes a record whatever its version, and says whether one that had not expired was there.
    ///
    /// After a lost answer the SDK's second try finds nothing and the answer is `false`, although the first
    /// try has deleted the record; if somebody has created it again in between, the second try deletes that
    /// too. Where this matters, name the version: [`delete_if`](Self::delete_if).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let users = table.partition("users");
    /// users.put("ada", Write::text("Ada")).await?;
    /// assert!(users.delete("ada").await?);
    /// assert!(!users.delete("ada").await?);
    /// # Ok(()) }
    /// ```
    pub async fn delete(&self, name: &str) -> Result<bool, Error> {
        let now = self.now();
        let request = self.request(Operation::Delete, "DeleteItem", name);
        let answer = request
            .send(
                self.client()
                    .delete_item()
                    .table_name(self.table().name())
                    .set_key(Some(key_item(self.id(), name)))
                    .return_values(ReturnValue::AllOld)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await
            .map_err(|error| request.failed(error))?;
        let Some(item) = answer.attributes else {
            return Ok(false);
        };
        let standing = self.table().standing(&item, &self.record_key(name))?;
        Ok(!now.is_past(standing.expires))
    }

    /// Deletes a record if it still has the version `seen`.
    ///
    /// A record created under the same name afterwards starts above every version of this one, so nobody
    /// who holds an old version can touch it (see the crate's page on versions).
    ///
    /// After a lost answer the SDK's second try finds nothing: `NotFound` with `after_retry` set, which
    /// for most callers is as good as a success.
    ///
    /// # Errors
    /// [`Error::Modified`] with the version that is there; [`Error::NotFound`] if the record does not exist
    /// or has expired.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let locks = table.partition("locks");
    /// let lock = locks.create("door", Write::text("me")).await?;
    /// locks.delete_if("door", lock.version()).await?;
    /// let again = locks.delete_if("door", lock.version()).await;
    /// assert!(matches!(again, Err(Error::NotFound { .. })));
    /// # Ok(()) }
    /// ```
    pub async fn delete_if(&self, name: &str, seen: i64) -> Result<(), Error> {
        let now = self.now();
        let mut expression = Expression::default();
        let condition = expression.still(seen, now);
        let request = self.request(Operation::DeleteIf, "DeleteItem", name);
        let answer = request
            .send(
                self.client()
                    .delete_item()
                    .table_name(self.table().name())
                    .set_key(Some(key_item(self.id(), name)))
                    .condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values())
                    .return_values_on_condition_check_failure(
                        ReturnValuesOnConditionCheckFailure::AllOld,
                    )
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        let Err(error) = answer else {
            self.table().store().versions().saw(seen);
            return Ok(());
        };
        let found = request.refused(error)?;
        let key = self.record_key(name);
        Err(self
            .table()
            .lost(key, seen, found.as_ref(), now, request.was_retried()))
    }
}
