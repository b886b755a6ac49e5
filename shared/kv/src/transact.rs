//! Several records at once: all of it happens, or nothing.

use std::time::Duration;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::TransactWriteItemBuilder;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, ReturnConsumedCapacity,
    ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use crate::clock::Now;
use crate::create::TRIES;
use crate::error::{Cause, Error, Reason};
use crate::expression::Expression;
use crate::hook::Operation;
use crate::pause::Pauses;
use crate::record::RecordKey;
use crate::store::{Table, key_item};
use crate::transaction::{Action, Transaction, Verb};
use crate::update::next_version;

impl Table {
    /// Does all actions of a transaction, or none. Returns the new version per action, in order; `None` for
    /// deletes and checks.
    ///
    /// The answer is exact even if the SDK has to send the request again after a lost answer, because its tries
    /// carry one [`ClientRequestToken`][idempotency]. Only if the SDK gives up ([`Error::Aws`]) is the outcome open: read
    /// the records. A cancellation for reasons that pass (another transaction, throttling) is tried again a few
    /// times. Costs twice the write capacity of the single writes.
    ///
    /// [idempotency]: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
    ///
    /// # Errors
    /// [`Error::TransactionCanceled`] with a reason per action; nothing was written then.
    /// [`Error::Transaction`] for one without actions, with more than 100, or with one record twice.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let tasks = table.partition("tasks");
    /// let progress = tasks.create("progress", Write::value(&0)?).await?;
    ///
    /// let step = Transaction::new()
    ///     .create("tasks", "part/1", Write::text("done"))
    ///     .update("tasks", "progress", progress.version(), Write::value(&1)?);
    /// table.transact(step.clone()).await?;
    ///
    /// // The same step again is refused as a whole.
    /// match table.transact(step).await {
    ///     Err(Error::TransactionCanceled { reasons, .. }) => {
    ///         assert!(matches!(reasons[0].cause, Cause::Exists { .. }));
    ///         assert!(matches!(reasons[1].cause, Cause::Modified { .. }));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn transact(&self, transaction: Transaction) -> Result<Vec<Option<i64>>, Error> {
        transaction.validate()?;
        let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut tries = 1;
        loop {
            let reasons = match self.try_transact(&transaction).await? {
                Attempt::Done(versions) => return Ok(versions),
                Attempt::Canceled(reasons) => reasons,
            };
            let may_pass = reasons
                .iter()
                .all(|reason| reason.cause == Cause::Fine || reason.cause.passes());
            if !may_pass || tries == TRIES {
                return Err(Error::TransactionCanceled {
                    table: self.name().to_owned(),
                    reasons,
                });
            }
            tries += 1;
            pauses.pause().await;
        }
    }

    async fn try_transact(&self, transaction: &Transaction) -> Result<Attempt, Error> {
        let now = self.store().now();
        let mut items = Vec::with_capacity(transaction.actions.len());
        let mut versions = Vec::with_capacity(transaction.actions.len());
        for action in &transaction.actions {
            let version = self.new_version(action, now)?;
            items.push(self.transact_item(action, version, now)?);
            versions.push(version);
        }
        let request = self.request(Operation::Transact, "TransactWriteItems", None, None);
        let answer = request
            .send(
                self.store()
                    .client()
                    .transact_write_items()
                    .set_transact_items(Some(items))
                    // A fresh token each time: the tries differ in time and drawn versions.
                    .client_request_token(format!("{:032x}", fastrand::u128(..)))
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        let Err(error) = answer else {
            for version in versions.iter().flatten() {
                self.store().versions().saw(*version);
            }
            return Ok(Attempt::Done(versions));
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
            error.as_service_error()
        else {
            return Err(request.failed(error));
        };
        let reasons = canceled.cancellation_reasons();
        if reasons.len() != transaction.actions.len() {
            return Err(request.failed(error));
        }
        transaction
            .actions
            .iter()
            .zip(reasons)
            .map(|(action, reason)| self.reason(action, reason, now))
            .collect::<Result<_, _>>()
            .map(Attempt::Canceled)
    }

    fn new_version(&self, action: &Action, now: Now) -> Result<Option<i64>, Error> {
        match &action.verb {
            Verb::Create(_) => Ok(Some(self.store().versions().draw(now))),
            Verb::Update(seen, _) => next_version(*seen, &self.key_of(action)).map(Some),
            Verb::Delete(_) | Verb::Check(_) | Verb::CheckAbsent => Ok(None),
        }
    }

    fn key_of(&self, action: &Action) -> RecordKey {
        RecordKey::new(self.name(), &action.partition, &action.name)
    }

    fn transact_item(
        &self,
        action: &Action,
        version: Option<i64>,
        now: Now,
    ) -> Result<TransactWriteItem, Error> {
        let mut expression = Expression::default();
        let key = key_item(&action.partition, &action.name);
        let condition = match &action.verb {
            Verb::Create(_) => expression.free_for(version.unwrap_or_default(), now),
            Verb::Update(seen, _) | Verb::Delete(seen) | Verb::Check(seen) => {
                expression.still(*seen, now)
            }
            Verb::CheckAbsent => expression.absent(now),
        };
        let item = TransactWriteItem::builder();
        let version = version.unwrap_or_default();
        macro_rules! conditional {
            ($builder:expr) => {
                $builder
                    .table_name(self.name())
                    .condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values())
                    .return_values_on_condition_check_failure(
                        ReturnValuesOnConditionCheckFailure::AllOld,
                    )
                    .build()
            };
        }
        let built = match &action.verb {
            Verb::Create(write) => {
                let new = write.new_item(&action.partition, &action.name, version, now);
                conditional!(Put::builder().set_item(Some(new))).map(|put| item.put(put))
            }
            Verb::Update(_, write) => {
                let version = expression.number(version);
                let update = write.update(&mut expression, &version, now);
                let builder = Update::builder().update_expression(update);
                conditional!(builder.set_key(Some(key))).map(|update| item.update(update))
            }
            Verb::Delete(_) => {
                conditional!(Delete::builder().set_key(Some(key))).map(|delete| item.delete(delete))
            }
            Verb::Check(_) | Verb::CheckAbsent => {
                conditional!(ConditionCheck::builder().set_key(Some(key)))
                    .map(|check| item.condition_check(check))
            }
        };
        built
            .map(TransactWriteItemBuilder::build)
            .map_err(|error| Error::Transaction {
                reason: error.to_string(),
            })
    }

    fn reason(
        &self,
        action: &Action,
        reason: &CancellationReason,
        now: Now,
    ) -> Result<Reason, Error> {
        let key = self.key_of(action);
        let cause = match reason.code().unwrap_or("None") {
            "None" => Cause::Fine,
            "TransactionConflict" => Cause::Busy,
            "ThrottlingError" | "ProvisionedThroughputExceeded" => Cause::Throttled,
            "ConditionalCheckFailed" => self.failed_condition(action, reason, &key, now)?,
            code => Cause::Refused {
                code: code.to_owned(),
                message: reason.message().unwrap_or_default().to_owned(),
            },
        };
        Ok(Reason { key, cause })
    }

    fn failed_condition(
        &self,
        action: &Action,
        reason: &CancellationReason,
        key: &RecordKey,
        now: Now,
    ) -> Result<Cause, Error> {
        let creates = matches!(action.verb, Verb::Create(_) | Verb::CheckAbsent);
        let Some(item) = reason.item() else {
            return Ok(if creates {
                Cause::Refused {
                    code: "ConditionalCheckFailed".into(),
                    message: "the answer lacks the item that made the condition fail".into(),
                }
            } else {
                Cause::NotFound
            });
        };
        let standing = self.standing(item, key)?;
        let expired = now.is_past(standing.expires);
        Ok(match (creates, expired) {
            (true, true) => Cause::Expired,
            (true, false) => Cause::Exists {
                version: standing.live_version(key)?,
            },
            (false, true) => Cause::NotFound,
            (false, false) => Cause::Modified {
                current: standing.live_version(key)?,
            },
        })
    }
}

enum Attempt {
    Done(Vec<Option<i64>>),
    Canceled(Vec<Reason>),
}
