//! An account's tables in memory: made, changed, described, scanned and written by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::KeySchema;
use highwater_domain::object_store::Creation;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::table::{TABLE_JSON_VERSION, TableDescriber, TableSettings};
use highwater_domain::table_admin::{ChangeCall, TableAdmin, TableChange};
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};
use serde_json::{Value, json};

use crate::fake_table::FakeTable;
use crate::fenced_account::FenceRows;
use crate::table_rules::{FakeSettings, Status, check_create};

/// Makes an empty table of a name and a key.
type MakeTable = Box<dyn Fn(&str, KeySchema) -> FakeTable + Send + Sync>;

/// Tables in memory, by name or ARN.
///
/// Strict where DynamoDB is: a table that is made or changed is busy for a while, refuses further changes so
/// long, and takes no items before it is there. Time passes by being asked: each `describe` and each refused
/// change brings a busy table nearer to its end.
pub struct FakeAdmin {
    busy_for: u64,
    make: MakeTable,
    tables: Mutex<BTreeMap<String, Entry>>,
    /// The tables of fences, by name.
    pub(crate) fences: Mutex<BTreeMap<String, FenceRows>>,
    pub(crate) ignores_fences: bool,
}

struct Entry {
    table: Arc<FakeTable>,
    settings: FakeSettings,
    created_by: Value,
}

impl fmt::Debug for FakeAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeAdmin")
            .field("tables", &self.names())
            .finish_non_exhaustive()
    }
}

impl Default for FakeAdmin {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeAdmin {
    /// An account without tables. A table is busy for two looks, unless told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self {
            busy_for: 2,
            make: Box::new(|name, schema| FakeTable::new(name, schema, 1)),
            tables: Mutex::default(),
            fences: Mutex::default(),
            ignores_fences: false,
        }
    }

    /// How many looks a table is busy for, when it is made or changed.
    #[must_use]
    pub fn busy_for(mut self, looks: u64) -> Self {
        self.busy_for = looks;
        self
    }

    /// How tables are made: with which seed, pages, unprocessed writes.
    #[must_use]
    pub fn making(
        mut self,
        make: impl Fn(&str, KeySchema) -> FakeTable + Send + Sync + 'static,
    ) -> Self {
        self.make = Box::new(make);
        self
    }

    /// Adds a table that somebody else made; it is active, and replaces one of its name.
    pub fn add(&self, table: &Arc<FakeTable>) {
        let (settings, created_by) = (FakeSettings::of_key(table.schema()), Value::Null);
        let entry = Entry {
            table: Arc::clone(table),
            settings,
            created_by,
        };
        self.locked().insert(table.name().to_owned(), entry);
    }

    /// Deletes a table behind everybody's back. False if it was not there.
    pub fn lose(&self, name: &str) -> bool {
        self.locked().remove(name).is_some()
    }

    /// The table of this name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<Arc<FakeTable>> {
        self.locked().get(name).map(|entry| entry.table.clone())
    }

    /// The request that made the table; null for one that was [added](Self::add).
    #[must_use]
    pub fn created_by(&self, name: &str) -> Option<Value> {
        self.locked()
            .get(name)
            .map(|entry| entry.created_by.clone())
    }

    /// The names of all tables.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.locked().keys().cloned().collect()
    }

    /// Makes a table, which is busy until [`set_active`](Self::set_active) if `looks` is `None`.
    pub(crate) fn create(
        &self,
        operation: &'static str,
        request: &Value,
        looks: Option<u64>,
    ) -> Result<Creation, Failure> {
        let name = request["TableName"].as_str().unwrap_or_default();
        let schema = check_create(request).map_err(|reason| {
            let message = format!("ValidationException: {reason}");
            Failure::new(FailureKind::Invalid, operation, name, message)
        })?;
        let mut tables = self.locked();
        if tables.contains_key(name) {
            return Ok(Creation::Exists);
        }
        let table = Arc::new((self.make)(name, schema));
        let mut settings = FakeSettings::created(request);
        settings.status = Status::Creating(looks);
        let entry = Entry {
            table,
            settings,
            created_by: request.clone(),
        };
        tables.insert(name.to_owned(), entry);
        Ok(Creation::Created)
    }

    /// Ends the making of a table.
    pub(crate) fn set_active(&self, name: &str) {
        if let Some(entry) = self.locked().get_mut(name) {
            entry.settings.status = Status::Active;
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.tables.lock().unwrap()
    }

    /// The table for a call that needs it to be there, made or not.
    fn with<T>(
        &self,
        operation: &'static str,
        table: &str,
        act: impl FnOnce(&mut Entry) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tables = self.locked();
        let found = tables
            .values_mut()
            .find(|entry| table == entry.table.name() || table == entry.table.arn());
        act(found.ok_or_else(|| not_found(operation, table))?)
    }

    /// The table for a call on items: it must have been made.
    pub(crate) fn made(
        &self,
        operation: &'static str,
        table: &str,
    ) -> Result<Arc<FakeTable>, Failure> {
        self.with(operation, table, |entry| match entry.settings.status {
            Status::Creating(_) => Err(not_found(operation, table)),
            _ => Ok(entry.table.clone()),
        })
    }
}

fn not_found(operation: &'static str, table: &str) -> Failure {
    let message = "ResourceNotFoundException: Requested resource not found";
    Failure::new(FailureKind::NotFound, operation, table, message)
}

#[async_trait]
impl TableAdmin for FakeAdmin {
    async fn create_table(&self, request: &Value) -> Result<Creation, Failure> {
        self.create("CreateTable", request, Some(self.busy_for))
    }

    async fn change(&self, change: &TableChange) -> Result<(), Failure> {
        let (operation, member) = match change.call {
            ChangeCall::UpdateTimeToLive => ("UpdateTimeToLive", "TableName"),
            ChangeCall::UpdateTable => ("UpdateTable", "TableName"),
            ChangeCall::UpdateContinuousBackups => ("UpdateContinuousBackups", "TableName"),
            ChangeCall::TagResource => ("TagResource", "ResourceArn"),
            ChangeCall::UntagResource => ("UntagResource", "ResourceArn"),
        };
        let target = change.request[member].as_str().unwrap_or_default();
        self.with(operation, target, |entry| {
            if entry.settings.is_busy() {
                entry.settings.pass_time();
                let message = "ResourceInUseException: the table is being created or updated";
                return Err(Failure::new(
                    FailureKind::Transient,
                    operation,
                    target,
                    message,
                ));
            }
            let changed = entry.settings.change(change.call, &change.request);
            let needs_time = changed.map_err(|reason| {
                let message = format!("ValidationException: {reason}");
                Failure::new(FailureKind::Invalid, operation, target, message)
            })?;
            if needs_time {
                entry.settings.status = Status::Updating(self.busy_for);
            }
            Ok(())
        })
    }
}

#[async_trait]
impl TableDescriber for FakeAdmin {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        self.with("DescribeTable", table, |entry| {
            let items = entry.table.items();
            let bytes: usize = items.values().map(Bytes::len).sum();
            let settings = &mut entry.settings;
            let mut description = settings.description();
            description["TableName"] = json!(entry.table.name());
            description["TableArn"] = json!(entry.table.arn());
            description["TableId"] = json!(entry.table.id());
            description["ItemCount"] = json!(items.len());
            description["TableSizeBytes"] = json!(bytes);
            let described = TableSettings {
                version: TABLE_JSON_VERSION,
                table: description,
                time_to_live: Some(settings.time_to_live.clone()),
                tags: Some(settings.tags()),
                continuous_backups: Some(json!({
                    "ContinuousBackupsStatus": "ENABLED",
                    "PointInTimeRecoveryDescription": settings.recovery,
                })),
                unavailable: Vec::new(),
            };
            settings.pass_time();
            Ok(described)
        })
    }
}

#[async_trait]
impl TableScanner for FakeAdmin {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let table = self.made("Scan", &request.table)?;
        table.scan_page(request).await
    }
}

#[async_trait]
impl TableWriter for FakeAdmin {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        if ops.is_empty() {
            return Ok(BatchAnswer::default());
        }
        let found = self.made("BatchWriteItem", table)?;
        found.write_batch(table, ops).await
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let found = self.made("PutItem", table)?;
        found
            .put_if_absent(table, partition_key, item, want_existing)
            .await
    }
}
