//! Writing a record whatever was there before.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use crate::clock::Now;
use crate::create::TRIES;
use crate::error::Error;
use crate::expression::Expression;
use crate::field::VERSION;
use crate::hook::Operation;
use crate::record::{Item, Record};
use crate::store::Partition;
use crate::update::next_version;
use crate::write::Write;

impl Partition {
    /// Writes a record, whatever version it has; creates it if it does not exist.
    ///
    /// What the write does not mention (payload, fields, expiry) is kept from a record that is there. Nothing is kept
    /// from one that has expired: it is replaced whole, at the cost of a second request. The version moves on
    /// in every case, so a put is seen by everyone who holds an older version.
    ///
    /// If the SDK had to send the request twice because an answer got lost, the version may have moved on twice.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// use std::time::Duration;
    ///
    /// let sessions = table.partition("sessions");
    /// let session = sessions.put("s1", Write::text("ada").ttl(Duration::from_secs(60))).await?;
    /// assert!(session.expires().is_some());
    /// let kept = sessions.put("s1", Write::new().no_expiry().field("vip", true)).await?;
    /// assert_eq!((kept.text()?, kept.expires()), ("ada".to_owned(), None));
    /// # Ok(()) }
    /// ```
    pub async fn put(&self, name: &str, write: Write) -> Result<Record, Error> {
        write.check()?;
        for _ in 0..TRIES {
            let now = self.now();
            let expired = match self.merge(name, &write, now).await? {
                Merged::Done(record) => return Ok(record),
                Merged::Expired(item) => item,
            };
            if let Some(record) = self.replace_expired(name, &write, &expired, now).await? {
                return Ok(record);
            }
        }
        Err(Error::Contended {
            key: self.record_key(name),
        })
    }

    /// Merges the write into the record, or creates it, unless an expired one is in the way.
    async fn merge(&self, name: &str, write: &Write, now: Now) -> Result<Merged, Error> {
        let mut expression = Expression::default();
        let condition = expression.not_expired(now);
        // One below the drawn version, because the expression adds one to whatever it finds.
        let start = self.table().store().versions().draw(now) - 1;
        let (current, start) = (expression.name(VERSION), expression.number(start));
        let one = expression.number(1);
        let version = format!("if_not_exists({current}, {start}) + {one}");
        let update = write.update(&mut expression, &version, now);
        let request = self.request(Operation::Put, "UpdateItem", name);
        let answer = self
            .send_update(&request, name, &expression, update, condition)
            .await;
        match answer {
            Ok(answer) => {
                let item = answer
                    .attributes
                    .ok_or_else(|| request.incomplete("the new attributes"))?;
                Ok(Merged::Done(self.table().record(item)?))
            }
            Err(error) => request
                .refused(error)?
                .map(Merged::Expired)
                .ok_or_else(|| request.incomplete("the item that made the condition fail")),
        }
    }

    /// Replaces the expired record that was found; `None` if it is not there any more as it was.
    async fn replace_expired(
        &self,
        name: &str,
        write: &Write,
        expired: &Item,
        now: Now,
    ) -> Result<Option<Record>, Error> {
        let key = self.record_key(name);
        let old = self.table().standing(expired, &key)?.version;
        let drawn = self.table().store().versions().draw(now);
        let version = match old {
            Some(old) => drawn.max(next_version(old, &key)?),
            None => drawn,
        };
        let item = write.new_item(self.id(), name, version, now);
        let mut expression = Expression::default();
        let condition = expression.expired_at(old, now);
        let request = self.request(Operation::Put, "PutItem", name);
        let answer = request
            .send(
                self.client()
                    .put_item()
                    .table_name(self.table().name())
                    .set_item(Some(item.clone()))
                    .condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        match answer {
            Ok(_) => self.table().record(item).map(Some),
            Err(error) => request.refused(error).map(|_| None),
        }
    }
}

enum Merged {
    Done(Record),
    Expired(Item),
}
