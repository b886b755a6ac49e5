//! Something whose items can be read, and read again: a table or a backup.

use std::fmt::Debug;

use async_trait::async_trait;
use highwater_domain::item_lines::Record;
use highwater_domain::key::KeySchema;
use highwater_domain::scan::RawItems;

use crate::error::StepError;

/// A table or a backup that is compared with another.
///
/// Its items come in units (the segments of a scan, the files of a backup) that can be read beside each other and
/// any number of times.
#[async_trait]
pub trait ItemSource: Debug + Send + Sync {
    /// What people call it: `table orders`, `s3://bucket/backups/…`.
    fn name(&self) -> &str;

    /// The primary key of its items, where it is known.
    fn key_schema(&self) -> Option<&KeySchema>;

    /// How many items it says it has, where that must be exact.
    fn claimed_items(&self) -> Option<u64>;

    /// How many units there are.
    fn units(&self) -> u32;

    /// How many units should be read at once.
    fn concurrency(&self) -> u32;

    /// Begins to read unit `unit`, from 0.
    async fn open(&self, unit: u32) -> Result<Box<dyn ItemBatches>, StepError>;
}

/// The items of one unit, a few at a time.
#[async_trait]
pub trait ItemBatches: Send {
    /// The next items, or `None` at the unit's end.
    async fn next(&mut self) -> Result<Option<ItemBatch>, StepError>;
}

/// Some items, as the bytes in which they came.
#[derive(Debug)]
pub enum ItemBatch {
    /// A page of a scan.
    Page {
        /// The segment.
        segment: u32,
        /// The items.
        items: RawItems,
    },
    /// Records of a file.
    Records {
        /// The file.
        object: String,
        /// The records; each puts an item.
        records: Vec<Record>,
    },
}

impl ItemBatch {
    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Page { items, .. } => items.len(),
            Self::Records { records, .. } => records.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of item `index`, from 0: DynamoDB JSON.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        match self {
            Self::Page { items, .. } => items.get(index),
            Self::Records { records, .. } => records.get(index).map(|it| it.op.body().as_ref()),
        }
    }

    /// Where item `index` stands, for people.
    #[must_use]
    pub fn place(&self, index: usize) -> String {
        match self {
            Self::Page { segment, .. } => format!("segment {segment}"),
            Self::Records { object, records } => match records.get(index) {
                Some(record) => format!("{object} line {}", record.line),
                None => object.clone(),
            },
        }
    }
}

/// The primary key by which two sources are compared: what was given, or what they know. All must agree.
pub fn common_key(
    given: Option<&KeySchema>,
    a: &dyn ItemSource,
    b: &dyn ItemSource,
) -> Result<KeySchema, StepError> {
    let told = [
        ("--key", given),
        (a.name(), a.key_schema()),
        (b.name(), b.key_schema()),
    ];
    let mut known = told.iter().filter_map(|(name, key)| Some((name, (*key)?)));
    let Some((name, schema)) = known.next() else {
        return Err(StepError::InvalidInput(format!(
            "neither {} nor {} says what the primary key of its items is: give it (--key id:S, or --key id:S,at:N)",
            a.name(),
            b.name(),
        )));
    };
    match known.find(|(_, other)| *other != schema) {
        None => Ok(schema.clone()),
        Some((other_name, other)) => Err(StepError::InvalidInput(format!(
            "{name} has the key {schema}, {other_name} has {other}: their items cannot be compared",
        ))),
    }
}
