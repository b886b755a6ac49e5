//! Whether a backup holds what the table holds: key by key, value by value.

use std::collections::BTreeMap;

use highwater_domain::key::{Key, KeySchema};
use highwater_domain::scan::{ScanRequest, TableScanner};
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::SnapshotRecord;
use highwater_steps::StepError;
use serde_json::Value;

use crate::error::CliError;

/// Items by key. For the demo's table, which fits in memory.
#[derive(Debug, Default, PartialEq)]
pub struct Items(BTreeMap<Key, Value>);

impl Items {
    /// Adds one item. The same key twice is an error: no table has that.
    pub fn add(&mut self, item: &[u8], schema: &KeySchema) -> Result<(), CliError> {
        let different = |reason: String| CliError::Different(reason);
        let key = schema
            .key_of(item)
            .map_err(|error| different(error.to_string()))?;
        let value: Value =
            serde_json::from_slice(item).map_err(|error| different(error.to_string()))?;
        match self.0.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(different(format!("the item {key:?} is there twice"))),
        }
    }

    /// Every item of the table, by one strongly consistent scan.
    pub async fn of_table(
        scanner: &dyn TableScanner,
        record: &SnapshotRecord,
    ) -> Result<Self, CliError> {
        let mut items = Self::default();
        let mut request = ScanRequest {
            table: record.table.to_string(),
            segment: 0,
            total_segments: 1,
            exclusive_start_key: None,
            consistent: true,
            limit: None,
            selection: Selection::default(),
        };
        loop {
            let page = scanner
                .scan_page(&request)
                .await
                .map_err(StepError::Table)?;
            for item in page.items.iter() {
                items.add(item, &record.key_schema)?;
            }
            request.exclusive_start_key = page.last_evaluated_key;
            if request.exclusive_start_key.is_none() {
                return Ok(items);
            }
        }
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Says which item differs, if any does.
    pub fn require_equal(&self, backup: &Self) -> Result<(), CliError> {
        let differs =
            |(key, value): (&Key, &Value)| (backup.0.get(key) != Some(value)).then(|| key.clone());
        if let Some(key) = self.0.iter().find_map(differs) {
            return Err(CliError::Different(format!(
                "the item {key:?} of the table is not so in the backup"
            )));
        }
        if let Some(key) = backup.0.keys().find(|key| !self.0.contains_key(key)) {
            return Err(CliError::Different(format!(
                "the item {key:?} is in the backup and not in the table"
            )));
        }
        Ok(())
    }
}
