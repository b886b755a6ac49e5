//! How far a comparison is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use highwater_domain::difference::Side;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::scan::Page;
use highwater_steps::Observer;
use highwater_steps::compare::CompareObserver;
use highwater_steps::replica::recheck::RecheckObserver;

use crate::format::{bytes, count, per_second};
use crate::progress::Progress;

/// Counts what is read.
#[derive(Debug, Default)]
pub struct CompareCounters {
    items: AtomicU64,
    bytes: AtomicU64,
    /// Thousandths of a read capacity unit.
    milli_units: AtomicU64,
    retries: AtomicU64,
    /// Items that the second pass looks at one by one; 0 before it.
    suspects: AtomicU64,
    /// Keys of a live replica that are looked at again; 0 before that.
    looking: AtomicU64,
    /// The second that the replica must reach before, and the one as of which it is equal; 0 for none.
    due: AtomicU64,
    equal_at: AtomicU64,
}

impl CompareCounters {
    /// What is done about the keys of a live replica, if it has come to that.
    fn looking_again(&self) -> Option<String> {
        let keys = Some(self.looking.load(Ordering::Relaxed)).filter(|keys| *keys > 0)?;
        let looking = format!("looking again at {} keys", count(keys));
        Some(match self.due.load(Ordering::Relaxed) {
            0 => looking,
            due => {
                let at = match self.equal_at.load(Ordering::Relaxed) {
                    0 => "catching up".to_owned(),
                    at => format!("equal as of {}", UnixSeconds(at)),
                };
                let due = UnixSeconds(due);
                format!("{looking}: the replica is {at}, and is waited for until {due}")
            }
        })
    }

    /// Read capacity units so far.
    pub fn read_units(&self) -> f64 {
        self.milli_units.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

impl CompareObserver for CompareCounters {
    fn items(&self, _side: Side, items: u64, bytes: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn second_pass(&self, suspects: u64) {
        self.items.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.suspects.store(suspects.max(1), Ordering::Relaxed);
    }
}

impl RecheckObserver for CompareCounters {
    fn looking(&self, keys: u64) {
        self.looking.store(keys, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
    }

    fn waiting(&self, keys: u64, due: UnixSeconds, equal_at: Option<UnixSeconds>) {
        self.looking.store(keys, Ordering::Relaxed);
        self.due.store(due.0, Ordering::Relaxed);
        let at = equal_at.map_or(0, |at| at.0);
        self.equal_at.store(at, Ordering::Relaxed);
    }

    fn consumed(&self, read_units: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the price of one item"
        )]
        let milli_units = (read_units * 1000.0) as u64;
        self.milli_units.fetch_add(milli_units, Ordering::Relaxed);
    }
}

impl Observer for CompareCounters {
    fn page(&self, _segment: u32, page: &Page) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the price of one page"
        )]
        let milli_units = (page.consumed_capacity * 1000.0) as u64;
        self.milli_units.fetch_add(milli_units, Ordering::Relaxed);
    }

    fn retrying(&self, _segment: u32, _reason: &str, _wait_ms: u64) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress for CompareCounters {
    fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    fn line(&self, started: Instant, _expected_items: u64, _began_with: u64) -> String {
        if let Some(looking) = self.looking_again() {
            return looking;
        }
        let elapsed = started.elapsed().as_secs_f64();
        let pass = match self.suspects.load(Ordering::Relaxed) {
            0 => String::new(),
            suspects => format!(
                "they differ; reading both again for the keys of about {} items: ",
                count(suspects)
            ),
        };
        let retries = match self.retries.load(Ordering::Relaxed) {
            0 => String::new(),
            retries => format!(", {retries} retries"),
        };
        format!(
            "{pass}{} items of both sides, {}, {:.1} read units ({:.1}/s){retries}",
            count(self.items.load(Ordering::Relaxed)),
            bytes(self.bytes.load(Ordering::Relaxed)),
            self.read_units(),
            per_second(self.read_units(), elapsed),
        )
    }
}
