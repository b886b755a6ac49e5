//! Changing a record that must still be as it was seen.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};

use crate::clock::Now;
use crate::error::Error;
use crate::expression::Expression;
use crate::field::VERSION;
use crate::hook::Operation;
use crate::record::{Item, Record, RecordKey};
use crate::request::Request;
use crate::store::{Partition, Table, key_item};
use crate::write::Write;

impl Partition {
    /// Merges a write into a record if it still has the version `seen`. Of any number of updates of one
    /// version exactly one succeeds, and its version is `seen + 1`.
    ///
    /// One request tells all outcomes apart; nothing is read first.
    ///
    /// If the SDK had to send the request twice because an answer got lost, the second try finds the version
    /// that the first one made, and the answer is `Modified` with `after_retry` set: the change may be this
    /// very one. Read the record to see, or use [`Table::transact`], whose answer is exact even then, at
    /// twice the write capacity.
    ///
    /// # Errors
    /// [`Error::Modified`] with the version that is there; [`Error::NotFound`] if the record does not exist
    /// or has expired.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let counters = table.partition("counters");
    /// let first = counters.create("visits", Write::value(&1)?).await?;
    /// let second = counters.update("visits", first.version(), Write::value(&2)?).await?;
    /// assert!(second.version() > first.version());
    ///
    /// // Somebody who still has the first version in hand is told.
    /// let late = counters.update("visits", first.version(), Write::value(&9)?).await;
    /// assert!(matches!(late, Err(Error::Modified { current, .. }) if current == second.version()));
    /// # Ok(()) }
    /// ```
    pub async fn update(&self, name: &str, seen: i64, write: Write) -> Result<Record, Error> {
        write.check()?;
        let key = self.record_key(name);
        let now = self.now();
        let next = next_version(seen, &key)?;
        let mut expression = Expression::default();
        let condition = expression.still(seen, now);
        let next = expression.number(next);
        let update = write.update(&mut expression, &next, now);
        let request = self.request(Operation::Update, "UpdateItem", name);
        let answer = self
            .send_update(&request, name, &expression, update, condition)
            .await;
        match answer {
            Ok(answer) => {
                let item = answer
                    .attributes
                    .ok_or_else(|| request.incomplete("the new attributes"))?;
                self.table().record(item)
            }
            Err(error) => {
                let found = request.refused(error)?;
                Err(self
                    .table()
                    .lost(key, seen, found.as_ref(), now, request.was_retried()))
            }
        }
    }

    /// The one request that merges a write into what is there, if `condition` holds for it.
    pub(crate) async fn send_update(
        &self,
        request: &Request<'_>,
        name: &str,
        expression: &Expression,
        update: String,
        condition: String,
    ) -> Result<UpdateItemOutput, SdkError<UpdateItemError>> {
        let update = self
            .client()
            .update_item()
            .table_name(self.table().name())
            .set_key(Some(key_item(self.id(), name)))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(expression.names())
            .set_expression_attribute_values(expression.values())
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .customize()
            .interceptor(request.attempts());
        request.send(update.send()).await
    }
}

impl Table {
    /// Why a condition on the version `seen` failed, from the item that was there.
    pub(crate) fn lost(
        &self,
        key: RecordKey,
        seen: i64,
        found: Option<&Item>,
        now: Now,
        after_retry: bool,
    ) -> Error {
        let Some(item) = found else {
            return Error::NotFound { key, after_retry };
        };
        let current = self.standing(item, &key).and_then(|standing| {
            if now.is_past(standing.expires) {
                Ok(None)
            } else {
                standing.live_version(&key).map(Some)
            }
        });
        match current {
            Ok(Some(current)) => Error::Modified {
                key,
                seen,
                current,
                after_retry,
            },
            Ok(None) => Error::NotFound { key, after_retry },
            Err(error) => error,
        }
    }
}

/// The version after `seen`.
pub(crate) fn next_version(seen: i64, key: &RecordKey) -> Result<i64, Error> {
    seen.checked_add(1).ok_or_else(|| Error::Malformed {
        key: key.clone(),
        attribute: VERSION,
        reason: "has no successor",
    })
}
