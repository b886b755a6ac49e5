//! A live replica and its source as sides of a comparison: what belongs to neither is left out.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::fenced_item::FencedItem;
use highwater_domain::key::KeySchema;
use highwater_domain::key_filter::KeyFilter;
use highwater_domain::replica::{FENCE_ATTRIBUTE, FenceMode, ReplicaRecord};
use highwater_domain::scan::RawItems;

use crate::error::StepError;
use crate::item_source::{ItemBatch, ItemBatches, ItemSource};
use crate::table_items::TableItems;

/// The source, without what the replica's filter leaves out.
#[must_use]
pub fn of_source(items: TableItems, record: &ReplicaRecord) -> Arc<dyn ItemSource> {
    if record.filter.is_empty() {
        return Arc::new(items);
    }
    let (schema, filter) = (record.key_schema.clone(), record.filter.clone());
    Arc::new(Side::new(items, Takes::Passing { schema, filter }))
}

/// The replica, without what is the fence's.
#[must_use]
pub fn of_replica(items: TableItems, record: &ReplicaRecord) -> Arc<dyn ItemSource> {
    match record.fence {
        FenceMode::Table => Arc::new(items),
        FenceMode::Attribute => Arc::new(Side::new(items, Takes::Unfenced)),
    }
}

/// What is taken of a table.
#[derive(Clone, Debug)]
enum Takes {
    /// Items whose keys pass.
    Passing {
        schema: KeySchema,
        filter: Vec<KeyFilter>,
    },
    /// Items as they would be without fences.
    Unfenced,
}

impl Takes {
    /// What is taken of these items.
    fn of(&self, items: &RawItems) -> Result<RawItems, String> {
        let mut taken: Vec<Bytes> = Vec::with_capacity(items.len());
        for item in (0..items.len()).filter_map(|index| items.slice(index)) {
            match self {
                Self::Passing { schema, filter } => {
                    let key = schema.key_of(&item).map_err(|error| error.to_string())?;
                    if filter.iter().all(|it| it.passes(&key)) {
                        taken.push(item);
                    }
                }
                Self::Unfenced => {
                    let apart = FencedItem::of(&item, FENCE_ATTRIBUTE);
                    taken.extend(apart.map_err(|error| error.to_string())?.item);
                }
            }
        }
        Ok(RawItems::from_items(taken))
    }
}

/// A table of which not everything takes part.
#[derive(Debug)]
struct Side {
    items: TableItems,
    takes: Arc<Takes>,
}

impl Side {
    fn new(items: TableItems, takes: Takes) -> Self {
        Self {
            items,
            takes: Arc::new(takes),
        }
    }
}

#[async_trait]
impl ItemSource for Side {
    fn name(&self) -> &str {
        self.items.name()
    }

    fn key_schema(&self) -> Option<&KeySchema> {
        self.items.key_schema()
    }

    fn claimed_items(&self) -> Option<u64> {
        None
    }

    fn units(&self) -> u32 {
        self.items.units()
    }

    fn concurrency(&self) -> u32 {
        self.items.concurrency()
    }

    async fn open(&self, unit: u32) -> Result<Box<dyn ItemBatches>, StepError> {
        Ok(Box::new(SideBatches {
            whole: self.items.open(unit).await?,
            takes: Arc::clone(&self.takes),
            table: self.items.name().to_owned(),
        }))
    }
}

/// The items of one unit that take part.
struct SideBatches {
    whole: Box<dyn ItemBatches>,
    takes: Arc<Takes>,
    table: String,
}

#[async_trait]
impl ItemBatches for SideBatches {
    async fn next(&mut self) -> Result<Option<ItemBatch>, StepError> {
        match self.whole.next().await? {
            None => Ok(None),
            Some(ItemBatch::Page { segment, items }) => {
                let taken = self.takes.of(&items);
                let items = taken.map_err(|reason| {
                    let table = &self.table;
                    StepError::PartCorrupt(format!("{table} segment {segment}: {reason}"))
                })?;
                Ok(Some(ItemBatch::Page { segment, items }))
            }
            Some(ItemBatch::Records { object, .. }) => Err(StepError::Internal(format!(
                "{} gave a file, {object}: a table has pages",
                self.table
            ))),
        }
    }
}
