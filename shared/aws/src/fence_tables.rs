//! The tables of a replica's fences: made on demand, claimed by a row, deleted when the replica stands by itself.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TableStatus,
};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fence_tables::{CLAIM_ROW, FenceTables};
use tokio::time::Instant;

use crate::failure;
use crate::fenced_writer::key_of;

const UPDATE: &str = "UpdateItem";
const DELETE: &str = "DeleteItem";

/// The partition key of a fence table.
const ID: &str = "id";

/// The attribute of the claim that names the replica.
const HOLDER: &str = "replica";

/// The pause between two looks at a table that is made or deleted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for either.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Makes and claims fence tables. Needs `dynamodb:CreateTable`, `dynamodb:DescribeTable`, `dynamodb:DeleteTable`,
/// `dynamodb:GetItem` and `dynamodb:PutItem` on them; to strip a target, `dynamodb:UpdateItem` and `dynamodb:DeleteItem` on that.
#[derive(Clone, Debug)]
pub struct DynamoFenceTables {
    client: Client,
}

impl DynamoFenceTables {
    /// The port over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn status(&self, table: &str) -> Result<Option<TableStatus>, Failure> {
        let described = self.client.describe_table().table_name(table).send().await;
        match described {
            Ok(described) => Ok(described.table.and_then(|table| table.table_status)),
            Err(error) => match failure::from_sdk("DescribeTable", table, error) {
                failure if failure.kind == FailureKind::NotFound => Ok(None),
                failure => Err(failure),
            },
        }
    }

    async fn make(&self, table: &str) -> Result<(), Failure> {
        let wrong = |error: aws_sdk_dynamodb::error::BuildError| {
            Failure::new(
                FailureKind::Invalid,
                "CreateTable",
                table,
                error.to_string(),
            )
        };
        let attribute = AttributeDefinition::builder()
            .attribute_name(ID)
            .attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder()
            .attribute_name(ID)
            .key_type(KeyType::Hash);
        let sent = self
            .client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute.build().map_err(wrong)?)
            .key_schema(key.build().map_err(wrong)?)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            // Somebody else was first, or this very call, whose answer got lost.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(CreateTableError::is_resource_in_use_exception) =>
            {
                Ok(())
            }
            Err(error) => Err(failure::from_sdk("CreateTable", table, error)),
        }
    }

    /// Waits until the table has this status; `None` until it is gone.
    async fn wait(&self, table: &str, wanted: Option<&TableStatus>) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let status = self.status(table).await?;
            if status.as_ref() == wanted {
                return Ok(());
            }
            if begun.elapsed() >= LONGEST_WAIT {
                let status =
                    status.map_or_else(|| "absent".to_owned(), |it| it.as_str().to_owned());
                let message = format!("it is {status} after five minutes");
                return Err(Failure::new(
                    FailureKind::Transient,
                    "DescribeTable",
                    table,
                    message,
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// An item that is not as it was is left as it is.
fn unless_other<T, E>(
    operation: &'static str,
    target: &str,
    sent: Result<T, SdkError<E>>,
    is_other: impl Fn(&E) -> bool,
) -> Result<(), Failure>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.as_service_error().is_some_and(is_other) => Ok(()),
        Err(error) => Err(failure::from_sdk(operation, target, error)),
    }
}

#[async_trait]
impl FenceTables for DynamoFenceTables {
    async fn holder(&self, table: &str) -> Result<Option<String>, Failure> {
        let sent = self
            .client
            .get_item()
            .table_name(table)
            .key(ID, AttributeValue::S(CLAIM_ROW.to_owned()))
            .consistent_read(true)
            .send()
            .await;
        match sent {
            Ok(answer) => {
                let row = answer.item.unwrap_or_default();
                Ok(row.get(HOLDER).and_then(|it| it.as_s().ok().cloned()))
            }
            Err(error) => match failure::from_sdk("GetItem", table, error) {
                failure if failure.kind == FailureKind::NotFound => Ok(None),
                failure => Err(failure),
            },
        }
    }

    async fn claim(&self, table: &str, holder: &str) -> Result<String, Failure> {
        if self.status(table).await?.is_none() {
            self.make(table).await?;
        }
        self.wait(table, Some(&TableStatus::Active)).await?;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .item(ID, AttributeValue::S(CLAIM_ROW.to_owned()))
            .item(HOLDER, AttributeValue::S(holder.to_owned()))
            .condition_expression("attribute_not_exists(#id)")
            .expression_attribute_names("#id", ID)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(holder.to_owned()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                let known = self.holder(table).await?;
                known.ok_or_else(|| {
                    let message = "its claim was there and is gone";
                    Failure::new(FailureKind::Transient, "PutItem", table, message)
                })
            }
            Err(error) => Err(failure::from_sdk("PutItem", table, error)),
        }
    }

    async fn strip(
        &self,
        target: &str,
        attribute: &str,
        key: &[u8],
        order: &str,
        is_tombstone: bool,
    ) -> Result<(), Failure> {
        let key = key_of(key);
        let key = key.map_err(|why| Failure::new(FailureKind::Invalid, UPDATE, target, why))?;
        let order = AttributeValue::S(order.to_owned());
        if is_tombstone {
            let sent = self
                .client
                .delete_item()
                .table_name(target)
                .set_key(Some(key))
                .condition_expression("#order = :order")
                .expression_attribute_names("#order", attribute)
                .expression_attribute_values(":order", order)
                .send()
                .await;
            let is_other = DeleteItemError::is_conditional_check_failed_exception;
            return unless_other(DELETE, target, sent, is_other);
        }
        let sent = self
            .client
            .update_item()
            .table_name(target)
            .set_key(Some(key))
            .update_expression("REMOVE #order")
            .condition_expression("#order = :order")
            .expression_attribute_names("#order", attribute)
            .expression_attribute_values(":order", order)
            .send()
            .await;
        let is_other = UpdateItemError::is_conditional_check_failed_exception;
        unless_other(UPDATE, target, sent, is_other)
    }

    async fn delete(&self, table: &str) -> Result<(), Failure> {
        if self.status(table).await?.is_none() {
            return Ok(());
        }
        let sent = self.client.delete_table().table_name(table).send().await;
        if let Err(error) = sent {
            let failure = failure::from_sdk("DeleteTable", table, error);
            if failure.kind != FailureKind::NotFound {
                return Err(failure);
            }
        }
        // A table that is being deleted may take writes to the last.
        self.wait(table, None).await
    }
}
