//! What a dump has read so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use highwater_domain::scan::Page;
use highwater_steps::Observer;

use crate::format::{bytes, per_second};
use crate::progress::Progress;

/// Counts pages as they come.
#[derive(Debug, Default)]
pub struct DumpCounters {
    items: AtomicU64,
    wire_bytes: AtomicU64,
    /// Thousandths of a read capacity unit.
    milli_units: AtomicU64,
    retries: AtomicU64,
}

impl DumpCounters {
    /// Read capacity units so far.
    pub fn units(&self) -> f64 {
        self.milli_units.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

impl Observer for DumpCounters {
    fn page(&self, _segment: u32, page: &Page) {
        self.items
            .fetch_add(page.items.len() as u64, Ordering::Relaxed);
        self.wire_bytes
            .fetch_add(page.wire_bytes, Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "capacity of one page, in thousandths"
        )]
        let milli = (page.consumed_capacity.max(0.0) * 1000.0) as u64;
        self.milli_units.fetch_add(milli, Ordering::Relaxed);
    }

    fn retrying(&self, _segment: u32, _reason: &str, _wait_ms: u64) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress for DumpCounters {
    fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    fn line(&self, started: Instant, _expected_items: u64, _began_with: u64) -> String {
        let elapsed = started.elapsed().as_secs_f64();
        let retries = match self.retries.load(Ordering::Relaxed) {
            0 => String::new(),
            retries => format!("  Retries: {retries}"),
        };
        format!(
            "Total items: {}  Items/sec: {:.1}  Capacity/sec: {:.1}  Read: {}{retries}",
            self.items(),
            per_second(self.items() as f64, elapsed),
            per_second(self.units(), elapsed),
            bytes(self.wire_bytes.load(Ordering::Relaxed)),
        )
    }
}
