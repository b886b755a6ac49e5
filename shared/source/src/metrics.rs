//! Hooks for numbers: what a pipeline does, as it does it.

use std::fmt::Debug;

use highwater_domain::ids::UnixMillis;

use crate::record::Place;

/// Hears of a pipeline's progress. Must not block. Every hook does nothing unless it is written.
pub trait Metrics: Debug + Send + Sync {
    /// A page of the snapshot has arrived: so many items, for so many read capacity units.
    fn scanned(&self, _segment: u32, _items: u64, _consumed_capacity: f64) {}

    /// A record was applied by the sink; with the time that it happened.
    fn applied(&self, _place: &Place, _event_time: UnixMillis) {}

    /// A record was not applied because it, or a later one of its key, had been.
    fn duplicate(&self, _place: &Place) {}

    /// The decoder passed a record over.
    fn skipped(&self, _place: &Place) {}

    /// The sink failed in passing, and is tried again after `wait_ms`.
    fn retrying(&self, _place: &Place, _attempt: u32, _wait_ms: u64) {}

    /// A record went to the dead letters.
    fn dead_letter(&self, _place: &Place) {}

    /// So many records were applied in one go and made durable.
    fn batch(&self, _place: &Place, _records: u64) {}

    /// Which records are claimed could not be asked or told: the record is applied, perhaps once more.
    fn claim_failed(&self, _place: &Place) {}

    /// This process got or lost the right to read a shard.
    fn owns(&self, _place: &Place, _owned: bool) {}

    /// A request to DynamoDB failed in passing, and is tried again.
    fn request_failed(&self, _what: &str, _reason: &str) {}
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMetrics;

impl Metrics for NoMetrics {}
