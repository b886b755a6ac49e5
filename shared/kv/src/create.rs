//! Creating a record that must not exist yet.

use aws_sdk_dynamodb::types::{ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};

use crate::error::Error;
use crate::expression::Expression;
use crate::hook::Operation;
use crate::record::Record;
use crate::store::Partition;
use crate::write::Write;

/// How often a write is tried again when each time somebody else was in between.
pub(crate) const TRIES: usize = 8;

impl Partition {
    /// Creates a record unless one of this name exists and has not expired. Of any number of creators at
    /// once exactly one succeeds.
    ///
    /// An expired record that DynamoDB has not removed yet is replaced whole: nothing of its payload,
    /// fields or expiry remains. Either way the version is one that no earlier record of this name
    /// had, so that whoever still holds a version of a former record cannot change this one.
    ///
    /// If the SDK had to send the request twice because an answer got lost, and the record found
    /// is the very one that the first try created, that is told from its version and content, and is a success.
    /// Only if somebody has changed it since is the answer `Exists`.
    ///
    /// # Errors
    /// [`Error::Exists`] with the version of the record that is there.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let locks = table.partition("locks");
    /// let mine = locks.create("door", Write::text("me")).await?;
    /// match locks.create("door", Write::text("you")).await {
    ///     Err(Error::Exists { version, .. }) => assert_eq!(version, mine.version()),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn create(&self, name: &str, write: Write) -> Result<Record, Error> {
        write.check()?;
        let key = self.record_key(name);
        for _ in 0..TRIES {
            let now = self.now();
            let version = self.table().store().versions().draw(now);
            let item = write.new_item(self.id(), name, version, now);
            let mut expression = Expression::default();
            let condition = expression.free_for(version, now);
            let request = self.request(Operation::Create, "PutItem", name);
            let answer = request
                .send(
                    self.client()
                        .put_item()
                        .table_name(self.table().name())
                        .set_item(Some(item.clone()))
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
                return self.table().record(item);
            };
            let Some(found) = request.refused(error)? else {
                return Err(request.incomplete("the item that made the condition fail"));
            };
            let standing = self.table().standing(&found, &key)?;
            if now.is_past(standing.expires) {
                // Expired, but above the drawn version: our clock is slow. The next draw is higher.
                continue;
            }
            if request.was_retried() && found == item {
                return self.table().record(item);
            }
            let version = standing.live_version(&key)?;
            return Err(Error::Exists { key, version });
        }
        Err(Error::Contended { key })
    }

    /// Creates a record if none was `seen`, or updates the version that was: one call for both.
    ///
    /// # Errors
    /// Those of [`create`](Self::create) or [`update`](Self::update).
    pub async fn put_if(
        &self,
        name: &str,
        seen: Option<i64>,
        write: Write,
    ) -> Result<Record, Error> {
        match seen {
            None => self.create(name, write).await,
            Some(seen) => self.update(name, seen, write).await,
        }
    }
}
