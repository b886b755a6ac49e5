//! The port to the table: one page of a parallel scan at a time.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::key::Key;
use crate::selection::Selection;

/// One `Scan` request.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanRequest {
    /// The table's name or ARN.
    pub table: String,
    /// Which slice of the table, from 0.
    pub segment: u32,
    /// Of how many slices. A position is valid only under the same total.
    pub total_segments: u32,
    /// The position after which to begin, or `None` for the segment's start.
    pub exclusive_start_key: Option<Key>,
    /// Strongly consistent reads, at twice the price.
    pub consistent: bool,
    /// The most items to evaluate, at least 1; `None` leaves it to the 1 MB page.
    pub limit: Option<u32>,
    /// Filter, projection and their names and values.
    pub selection: Selection,
}

/// The items of one page, still as the bytes that DynamoDB sent.
///
/// One buffer for the page; an item is a slice of it. The bytes are one JSON object without line breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawItems {
    buffer: Bytes,
    spans: Vec<(u32, u32)>,
}

impl RawItems {
    /// Items cut out of `buffer` at `spans`: start and end offsets, in order, each inside the buffer.
    ///
    /// # Panics
    /// If a span lies outside the buffer; the item finder produces them from that same buffer.
    #[must_use]
    pub fn new(buffer: Bytes, spans: Vec<(u32, u32)>) -> Self {
        assert!(
            spans
                .iter()
                .all(|&(start, end)| start <= end && end as usize <= buffer.len()),
            "item spans lie inside their page"
        );
        Self { buffer, spans }
    }

    /// Items given one by one, for tests and for generated tables.
    #[must_use]
    pub fn from_items<I: AsRef<[u8]>>(items: impl IntoIterator<Item = I>) -> Self {
        let mut buffer = Vec::new();
        let mut spans = Vec::new();
        for item in items {
            let start = offset(buffer.len());
            buffer.extend_from_slice(item.as_ref());
            spans.push((start, offset(buffer.len())));
        }
        Self {
            buffer: buffer.into(),
            spans,
        }
    }

    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of item `index`, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let &(start, end) = self.spans.get(index)?;
        self.buffer.get(start as usize..end as usize)
    }

    /// The same as a slice that shares the page's buffer.
    #[must_use]
    pub fn slice(&self, index: usize) -> Option<Bytes> {
        let &(start, end) = self.spans.get(index)?;
        Some(self.buffer.slice(start as usize..end as usize))
    }

    /// All items, in scan order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans
            .iter()
            .map(|&(start, end)| &self.buffer[start as usize..end as usize])
    }
}

/// Offsets fit 32 bits because a page is bounded far below 4 GiB by the scanner.
fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// One `Scan` response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The items, raw.
    pub items: RawItems,
    /// Where this page stopped; `None` only at the end of the segment. An empty page with a key is not the end.
    pub last_evaluated_key: Option<Key>,
    /// Items evaluated before the filter, never less than the items returned.
    pub scanned_count: u64,
    /// Read capacity units that the page cost; 0.0 if the service did not say.
    pub consumed_capacity: f64,
    /// Bytes of the response body.
    pub wire_bytes: u64,
}

/// Totals of what a scan took from the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanTotals {
    /// `Scan` requests answered.
    pub pages: u64,
    /// Items evaluated, before any filter.
    pub scanned: u64,
    /// Items returned.
    pub items: u64,
    /// Read capacity units consumed.
    pub consumed_capacity: f64,
    /// Requests that DynamoDB throttled.
    pub throttles: u64,
}

impl ScanTotals {
    /// Adds another scan's totals.
    pub fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.scanned += other.scanned;
        self.items += other.items;
        self.consumed_capacity += other.consumed_capacity;
        self.throttles += other.throttles;
    }
}

/// Reads a table page by page.
///
/// # Laws
/// - The union over all segments is the table, and no item comes twice.
/// - Resuming from any `last_evaluated_key` gives exactly the rest of that segment.
/// - A failed call returned nothing: there is no half page.
///
/// # Idempotence
/// Reads only; a call may be repeated at any time. It does not retry: pacing and retries are the caller's.
#[async_trait]
pub trait TableScanner: Debug + Send + Sync {
    /// Fetches one page.
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure>;
}
