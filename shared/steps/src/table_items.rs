//! The items of a live table, by parallel scan.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::key::KeySchema;
use highwater_domain::selection::Selection;
use highwater_domain::table::TableDescriber;

use crate::error::StepError;
use crate::item_source::{ItemBatch, ItemBatches, ItemSource};
use crate::pace::Pace;
use crate::request::BackupRequest;
use crate::segment_pages::{Fetched, ScanPorts, SegmentPages, TableScan};

/// How a table is read.
#[derive(Clone, Debug, Default)]
pub struct TableReading {
    /// Slices to scan it in; by default what its size suggests.
    pub segments: Option<u32>,
    /// Slices that are scanned at once; 4 by default.
    pub concurrency: Option<u32>,
    /// Read capacity units per second; 0 is unlimited. By default half of what a provisioned table has.
    pub read_capacity: Option<f64>,
    /// Eventually consistent reads, at half the price.
    pub eventual: bool,
}

/// Slices that are scanned at once unless somebody says otherwise.
const CONCURRENCY: u32 = 4;

/// A live table as a source of items. Dropping what it gives cancels the requests on their way.
#[derive(Debug)]
pub struct TableItems {
    name: String,
    schema: KeySchema,
    scan: TableScan,
    ports: ScanPorts,
    estimated_items: u64,
}

impl TableItems {
    /// Looks at the table; reads nothing yet. `ports.pace` is taken for this table alone.
    pub async fn open(
        describer: &dyn TableDescriber,
        ports: ScanPorts,
        table: &TableRef,
        reading: &TableReading,
    ) -> Result<Self, StepError> {
        let settings = describer
            .describe(table.as_str())
            .await
            .map_err(StepError::Table)?;
        let unusable = |source| StepError::Settings {
            table: table.to_string(),
            source,
        };
        let schema = settings.key_schema().map_err(unusable)?;
        let request = BackupRequest {
            segments: reading.segments,
            concurrency: reading.concurrency,
            read_capacity: reading.read_capacity,
            ..BackupRequest::default()
        };
        request.check_pace()?;
        let concurrency = reading.concurrency.unwrap_or(CONCURRENCY);
        let scan = TableScan {
            table: table.to_string(),
            total_segments: request.segments_for(settings.size_bytes(), concurrency),
            consistent: !reading.eventual,
            selection: Selection::default(),
            read_capacity: request.read_capacity_for(&settings)?,
            concurrency,
        };
        ports.pace.limit(scan.read_capacity, concurrency);
        Ok(Self {
            name: format!("table {table}"),
            schema,
            scan,
            ports,
            estimated_items: settings.item_count(),
        })
    }

    /// What keeps its reads within its capacity: whoever reads single items of the table draws from the same bucket.
    #[must_use]
    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.ports.pace)
    }

    /// DynamoDB's own item count, up to six hours old.
    #[must_use]
    pub fn estimated_items(&self) -> u64 {
        self.estimated_items
    }
}

#[async_trait]
impl ItemSource for TableItems {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_schema(&self) -> Option<&KeySchema> {
        Some(&self.schema)
    }

    /// A table counts its items every six hours: that proves nothing.
    fn claimed_items(&self) -> Option<u64> {
        None
    }

    fn units(&self) -> u32 {
        self.scan.total_segments
    }

    fn concurrency(&self) -> u32 {
        self.scan.concurrency
    }

    async fn open(&self, unit: u32) -> Result<Box<dyn ItemBatches>, StepError> {
        let (ports, scan) = (self.ports.clone(), self.scan.clone());
        Ok(Box::new(SegmentItems {
            pages: SegmentPages::new(ports, scan, unit, None, None, Budget::UNLIMITED),
            table: self.name.clone(),
            segment: unit,
        }))
    }
}

/// The items of one segment.
struct SegmentItems {
    pages: SegmentPages,
    table: String,
    segment: u32,
}

#[async_trait]
impl ItemBatches for SegmentItems {
    async fn next(&mut self) -> Result<Option<ItemBatch>, StepError> {
        match self.pages.next().await? {
            None => Ok(None),
            Some(Fetched::Page(page, _)) => Ok(Some(ItemBatch::Page {
                segment: self.segment,
                items: page.items,
            })),
            Some(Fetched::OutOfTime) => Err(StepError::Internal(format!(
                "reading segment {} of {} was stopped half-way",
                self.segment, self.table
            ))),
        }
    }
}
