//! Making a table for records, and telling whether it is there.

use std::time::Duration;

use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use aws_sdk_dynamodb::types::{
    BillingMode, KeyType, ScalarAttributeType, TableDescription, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::field::{EXPIRES, ID, NAME};
use crate::hook::Operation;
use crate::pause::Pauses;
use crate::store::Table;
use crate::table_spec::{Shape, TableSpec};

/// Longest wait for a table to become active.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// How it stands with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableState {
    /// There is no such table.
    Missing,
    /// It can be used.
    Active,
    /// It exists, in this status of DynamoDB's: `CREATING`, `DELETING`, …
    Busy(String),
}

impl Table {
    /// Makes the table if it does not exist: on demand, with TTL on `expires`. Waits until it can be used.
    ///
    /// Returns whether this call made it. Calling it again, or by several at once, does no harm; a crash in
    /// between is mended by the next call.
    ///
    /// # Errors
    /// [`Error::Table`] if a table of this name has other keys, another TTL attribute, lacks an index of
    /// `spec`, or is not active after five minutes.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// # let store = table.store().clone();
    /// let table = store.table("records");
    /// assert_eq!(table.state().await?, TableState::Missing);
    /// let spec = TableSpec::new().local_index("by_created", "created", FieldType::S);
    /// assert!(table.create(&spec).await?);
    /// assert_eq!(table.state().await?, TableState::Active);
    /// assert!(!table.create(&spec).await?);
    /// # Ok(()) }
    /// ```
    pub async fn create(&self, spec: &TableSpec) -> Result<bool, Error> {
        // Whoever may use the table need not be allowed to make it.
        let created = self.state().await? == TableState::Missing && self.send_create(spec).await?;
        let description = self.wait_until_active().await?;
        self.check_shape(spec, &description)?;
        self.enable_ttl().await?;
        Ok(created)
    }

    /// How it stands with the table. Tells a missing table from a forbidden one, which is an error.
    ///
    /// # Errors
    /// [`Error::Aws`], for example of class [`Denied`](crate::FailureClass::Denied).
    pub async fn state(&self) -> Result<TableState, Error> {
        Ok(match self.describe(Operation::TableState).await? {
            None => TableState::Missing,
            Some(description) => match description.table_status() {
                Some(TableStatus::Active | TableStatus::Updating) => TableState::Active,
                status => TableState::Busy(
                    status
                        .map_or_else(|| "UNKNOWN".to_owned(), |status| status.as_str().to_owned()),
                ),
            },
        })
    }

    async fn describe(&self, operation: Operation) -> Result<Option<TableDescription>, Error> {
        let request = self.request(operation, "DescribeTable", None, None);
        let answer = request
            .send(
                self.store()
                    .client()
                    .describe_table()
                    .table_name(self.name())
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        match answer {
            Ok(answer) => match answer.table {
                Some(table) => Ok(Some(table)),
                None => Err(request.incomplete("the table")),
            },
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DescribeTableError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(request.failed(error)),
        }
    }

    async fn send_create(&self, spec: &TableSpec) -> Result<bool, Error> {
        let shape = Shape::of(spec).map_err(|reason| self.unusable(reason))?;
        let request = self.request(Operation::CreateTable, "CreateTable", None, None);
        let answer = request
            .send(
                self.store()
                    .client()
                    .create_table()
                    .table_name(self.name())
                    .billing_mode(BillingMode::PayPerRequest)
                    .set_attribute_definitions(Some(shape.attributes))
                    .set_key_schema(Some(shape.keys))
                    .set_local_secondary_indexes(shape.local)
                    .set_global_secondary_indexes(shape.global)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(CreateTableError::is_resource_in_use_exception) =>
            {
                // Our own first try, if its answer got lost, or somebody else.
                Ok(false)
            }
            Err(error) => Err(request.failed(error)),
        }
    }

    async fn wait_until_active(&self) -> Result<TableDescription, Error> {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            // A table made a moment ago may still be unknown to DescribeTable.
            let description = self.describe(Operation::CreateTable).await?;
            let status = description.as_ref().and_then(|table| table.table_status());
            let known = status.map(|status| status.as_str().to_owned());
            if let (Some(TableStatus::Active | TableStatus::Updating), Some(description)) =
                (status, description.clone())
            {
                return Ok(description);
            }
            if Instant::now() >= deadline {
                let status = known.unwrap_or_else(|| "missing".into());
                return Err(self.unusable(format!("still {status} after five minutes")));
            }
            pauses.pause().await;
        }
    }

    fn check_shape(&self, spec: &TableSpec, table: &TableDescription) -> Result<(), Error> {
        let keys: Vec<_> = table
            .key_schema()
            .iter()
            .map(|key| (key.attribute_name(), key.key_type().clone()))
            .collect();
        if keys != [(ID, KeyType::Hash), (NAME, KeyType::Range)] {
            return Err(self.unusable("its keys are not id and name".into()));
        }
        for definition in table.attribute_definitions() {
            let name = definition.attribute_name();
            let text = *definition.attribute_type() == ScalarAttributeType::S;
            if (name == ID || name == NAME) && !text {
                return Err(self.unusable(format!("its key {name} is not of type S")));
            }
        }
        let local = table.local_secondary_indexes().iter();
        let global = table.global_secondary_indexes().iter();
        let present: Vec<_> = local
            .filter_map(|index| index.index_name())
            .chain(global.filter_map(|index| index.index_name()))
            .collect();
        match spec.index_names().find(|name| !present.contains(name)) {
            Some(name) => Err(self.unusable(format!("it has no index {name}"))),
            None => Ok(()),
        }
    }

    async fn enable_ttl(&self) -> Result<(), Error> {
        if self.has_ttl().await? {
            return Ok(());
        }
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(EXPIRES)
            .enabled(true)
            .build()
            .map_err(|error| self.unusable(error.to_string()))?;
        let request = self.request(Operation::CreateTable, "UpdateTimeToLive", None, None);
        let answer = request
            .send(
                self.store()
                    .client()
                    .update_time_to_live()
                    .table_name(self.name())
                    .time_to_live_specification(specification)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        match answer {
            Ok(_) => Ok(()),
            // Somebody else may have been first; then it is as it should be.
            Err(error) => match self.has_ttl().await {
                Ok(true) => Ok(()),
                _ => Err(request.failed(error)),
            },
        }
    }

    /// Whether TTL works on `expires`. Refuses another attribute.
    async fn has_ttl(&self) -> Result<bool, Error> {
        let request = self.request(Operation::CreateTable, "DescribeTimeToLive", None, None);
        let answer = request
            .send(
                self.store()
                    .client()
                    .describe_time_to_live()
                    .table_name(self.name())
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await
            .map_err(|error| request.failed(error))?;
        let Some(ttl) = answer.time_to_live_description else {
            return Ok(false);
        };
        let on = matches!(
            ttl.time_to_live_status(),
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        );
        match ttl.attribute_name() {
            Some(attribute) if on && attribute != EXPIRES => {
                Err(self.unusable(format!("its TTL attribute is {attribute}, not {EXPIRES}")))
            }
            _ => Ok(on),
        }
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Table {
            table: self.name().to_owned(),
            reason,
        }
    }
}
