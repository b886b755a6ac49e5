//! The items of a backup, whoever wrote it, file by file.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_domain::backup_source::{Catalog, SourceKind};
use highwater_domain::key::KeySchema;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::table_writer::WriteOp;

use crate::error::StepError;
use crate::item_source::{ItemBatch, ItemBatches, ItemSource};
use crate::source_file::{Records, open_file_in};

/// A backup as a source of items.
#[derive(Debug)]
pub struct BackupItems {
    store: Arc<dyn ObjectStore>,
    catalog: Catalog,
    concurrency: u32,
    skip_checks: bool,
    buffers: ReusedBuffers,
}

impl BackupItems {
    /// The backup that `catalog` tells of, of which `concurrency` files are read at once.
    ///
    /// An incremental export is refused: it holds changes, and what they were made to is not there.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        catalog: Catalog,
        concurrency: u32,
        skip_checks: bool,
    ) -> Result<Self, StepError> {
        if catalog.kind == SourceKind::IncrementalExport {
            return Err(StepError::InvalidInput(format!(
                "{} is an incremental export, changes without the items they were made to, and cannot be compared: restore it onto its full export first, then compare the table",
                catalog.url
            )));
        }
        Ok(Self {
            store,
            catalog,
            concurrency: concurrency.max(1),
            skip_checks,
            buffers: ReusedBuffers::default(),
        })
    }
}

#[async_trait]
impl ItemSource for BackupItems {
    fn name(&self) -> &str {
        &self.catalog.url
    }

    fn key_schema(&self) -> Option<&KeySchema> {
        self.catalog.key_schema.as_ref()
    }

    fn claimed_items(&self) -> Option<u64> {
        self.catalog.items.filter(|_| !self.skip_checks)
    }

    fn units(&self) -> u32 {
        u32::try_from(self.catalog.files.len()).unwrap_or(u32::MAX)
    }

    fn concurrency(&self) -> u32 {
        self.concurrency
    }

    async fn open(&self, unit: u32) -> Result<Box<dyn ItemBatches>, StepError> {
        let file = self.catalog.files.get(unit as usize).ok_or_else(|| {
            StepError::Internal(format!("{} has no file {unit}", self.catalog.url))
        })?;
        let records = open_file_in(&self.store, file, self.skip_checks, &self.buffers).await?;
        Ok(Box::new(FileItems {
            records,
            object: self.store.url(&file.object),
        }))
    }
}

/// The items of one file.
struct FileItems {
    records: Records,
    object: String,
}

#[async_trait]
impl ItemBatches for FileItems {
    async fn next(&mut self) -> Result<Option<ItemBatch>, StepError> {
        let Some(records) = self.records.next().await? else {
            return Ok(None);
        };
        let delete = records
            .iter()
            .find(|record| matches!(record.op, WriteOp::Delete(_)));
        if let Some(record) = delete {
            return Err(StepError::InvalidInput(format!(
                "{} line {} deletes a key: a list of changes cannot be compared",
                self.object, record.line
            )));
        }
        Ok(Some(ItemBatch::Records {
            object: self.object.clone(),
            records,
        }))
    }
}
