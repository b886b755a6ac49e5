//! How far a backup or a restore is: a bar on a terminal, a line now and then elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_domain::restore::LoadTotals;
use highwater_domain::scan::Page;
use highwater_domain::snapshot::{PartRow, PartTotals};
use highwater_steps::{Observer, status};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::console::Console;
use crate::format::{bytes, count, per_second, seconds};

/// Counts what the steps tell.
#[derive(Debug, Default)]
pub struct Counters {
    items: AtomicU64,
    wire_bytes: AtomicU64,
    /// Thousandths of a read capacity unit.
    milli_units: AtomicU64,
    stored_bytes: AtomicU64,
    parts: AtomicU64,
    retries: AtomicU64,
    /// Of the read capacity, what was used before anybody looked.
    milli_units_before: AtomicU64,
}

impl Counters {
    /// Starts to show what somebody else does, from where it is.
    pub fn begin_with(&self, done: &status::Progress) {
        self.show(done);
        let units = self.milli_units.load(Ordering::Relaxed);
        self.milli_units_before.store(units, Ordering::Relaxed);
    }

    /// Shows what somebody else has committed.
    pub fn show(&self, done: &status::Progress) {
        self.resume_from(&done.parts);
        self.wire_bytes
            .store(done.parts.plain_bytes, Ordering::Relaxed);
        let units = milli(done.scan.consumed_capacity);
        self.milli_units.store(units, Ordering::Relaxed);
        self.retries.store(done.scan.throttles, Ordering::Relaxed);
    }

    /// Starts from what an earlier run has already committed.
    pub fn resume_from(&self, done: &PartTotals) {
        self.items.store(done.items, Ordering::Relaxed);
        self.parts.store(done.parts, Ordering::Relaxed);
        self.stored_bytes
            .store(done.stored_bytes, Ordering::Relaxed);
    }
}

/// Something that counts items and can say so in a line.
pub trait Progress: Send + Sync + 'static {
    /// Items so far.
    fn items(&self) -> u64;

    /// Everything worth telling, in one line. `began_with` items were there before `started`.
    fn line(&self, started: Instant, expected_items: u64, began_with: u64) -> String;
}

impl Progress for Counters {
    fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    fn line(&self, started: Instant, expected_items: u64, began_with: u64) -> String {
        let elapsed = started.elapsed().as_secs_f64();
        let items = self.items.load(Ordering::Relaxed);
        let units = self.milli_units.load(Ordering::Relaxed) as f64 / 1000.0;
        let before = self.milli_units_before.load(Ordering::Relaxed) as f64 / 1000.0;
        let rate = per_second(items.saturating_sub(began_with) as f64, elapsed);
        let retries = match self.retries.load(Ordering::Relaxed) {
            0 => String::new(),
            retries => format!(", {retries} retries"),
        };
        let left = left(items, expected_items, rate);
        format!(
            "{} items ({rate:.0}/s), {} read, {} parts ({}), {units:.1} read units ({:.1}/s){retries}{left}",
            count(items),
            bytes(self.wire_bytes.load(Ordering::Relaxed)),
            self.parts.load(Ordering::Relaxed),
            bytes(self.stored_bytes.load(Ordering::Relaxed)),
            per_second(units - before, elapsed),
        )
    }
}

/// Thousandths of capacity units.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a price, which is small and not negative"
)]
fn milli(units: f64) -> u64 {
    (units * 1000.0) as u64
}

/// How long it will take at this rate, where that can be told.
fn left(items: u64, expected_items: u64, rate: f64) -> String {
    if rate > 0.0 && expected_items > items {
        let left = (expected_items - items) as f64 / rate;
        return format!(", about {} left", seconds(left));
    }
    String::new()
}

/// Counts what the restore's steps tell.
#[derive(Debug, Default)]
pub struct LoadCounters {
    totals: Mutex<LoadTotals>,
    retries: AtomicU64,
    /// Of the write capacity, what was used before this run.
    milli_units_before: AtomicU64,
}

impl LoadCounters {
    /// Starts from what an earlier run has already committed.
    pub fn resume_from(&self, done: &LoadTotals) {
        self.show(done);
        let units = milli(done.consumed_capacity);
        self.milli_units_before.store(units, Ordering::Relaxed);
    }

    /// Shows what somebody else has committed.
    pub fn show(&self, done: &LoadTotals) {
        *self.totals() = *done;
    }

    /// What became of the items so far.
    pub fn so_far(&self) -> LoadTotals {
        *self.totals()
    }

    /// A poisoned lock means that a worker panicked between two additions: the numbers are still numbers.
    fn totals(&self) -> MutexGuard<'_, LoadTotals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for LoadCounters {
    fn items(&self) -> u64 {
        self.totals().read
    }

    fn line(&self, started: Instant, expected_items: u64, began_with: u64) -> String {
        let totals = *self.totals();
        let elapsed = started.elapsed().as_secs_f64();
        let rate = per_second(totals.read.saturating_sub(began_with) as f64, elapsed);
        let before = self.milli_units_before.load(Ordering::Relaxed) as f64 / 1000.0;
        let some = |number: u64, what: &str| match number {
            0 => String::new(),
            number => format!(", {} {what}", count(number)),
        };
        format!(
            "{} items read ({rate:.0}/s, {}), {} written{}{}, {:.1} write units ({:.1}/s){}{}",
            count(totals.read),
            bytes(totals.plain_bytes),
            count(totals.written),
            some(totals.skipped(), "skipped"),
            some(totals.rejected, "rejected"),
            totals.consumed_capacity,
            per_second(totals.consumed_capacity - before, elapsed),
            some(self.retries.load(Ordering::Relaxed), "retries"),
            left(totals.read, expected_items, rate),
        )
    }
}

impl Observer for LoadCounters {
    fn loaded(&self, _file: u32, more: &LoadTotals) {
        self.totals().add(more);
    }

    fn retrying(&self, _file: u32, _reason: &str, _wait_ms: u64) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Observer for Counters {
    fn page(&self, _segment: u32, page: &Page) {
        self.items
            .fetch_add(page.items.len() as u64, Ordering::Relaxed);
        self.wire_bytes
            .fetch_add(page.wire_bytes, Ordering::Relaxed);
        self.milli_units
            .fetch_add(milli(page.consumed_capacity), Ordering::Relaxed);
    }

    fn part(&self, row: &PartRow) {
        self.parts.fetch_add(1, Ordering::Relaxed);
        self.stored_bytes
            .fetch_add(row.stored_bytes, Ordering::Relaxed);
    }

    fn adopted(&self, row: &PartRow) {
        self.items.fetch_add(row.items, Ordering::Relaxed);
        self.part(row);
    }

    fn retrying(&self, _segment: u32, _reason: &str, _wait_ms: u64) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

/// Shows counters until it is dropped.
#[derive(Debug)]
pub struct Display {
    ticker: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

/// How often the bar moves, and how often a line appears where there is none.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(10);

impl Display {
    /// Begins to show `counters`; `expected_items` is DynamoDB's own guess and may be hours old.
    pub fn start(counters: Arc<impl Progress>, expected_items: u64, console: Console) -> Self {
        let bar = console.has_terminal().then(|| bar(expected_items));
        let shown = bar.clone();
        let began_with = counters.items();
        let started = Instant::now();
        let ticker = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(if shown.is_some() {
                BAR_INTERVAL
            } else {
                LINE_INTERVAL
            });
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let line = counters.line(started, expected_items, began_with);
                match &shown {
                    Some(bar) => {
                        bar.set_position(counters.items());
                        bar.set_message(line);
                    }
                    None => console.say(&line),
                }
            }
        });
        Self { ticker, bar }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.ticker.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(expected_items: u64) -> ProgressBar {
    let (bar, template) = if expected_items > 0 {
        (
            ProgressBar::new(expected_items),
            "{bar:24} {percent:>3}% {msg}",
        )
    } else {
        (ProgressBar::new_spinner(), "{spinner} {msg}")
    };
    // The templates are constants; a typo in one costs the bar's looks, not the backup.
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who begins to look in the middle is told the speed since then, and the sums since the beginning.
    #[test]
    fn a_late_look_tells_sums_of_all_and_rates_of_what_it_has_seen() {
        let done = |items: u64, units: f64| {
            let mut done = status::Progress::default();
            (done.parts.items, done.parts.parts) = (items, items / 10);
            (done.scan.consumed_capacity, done.scan.throttles) = (units, 3);
            done
        };
        let Some(started) = Instant::now().checked_sub(Duration::from_secs(100)) else {
            return;
        };
        let counters = Counters::default();
        counters.begin_with(&done(1000, 500.0));
        counters.show(&done(3000, 900.0));
        let line = counters.line(started, 5000, 1000);
        for words in [
            "3,000 items (20/s)",
            "300 parts",
            "900.0 read units (4.0/s)",
            "3 retries",
            "left",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
        let counters = LoadCounters::default();
        let totals = |read: u64, consumed_capacity: f64| LoadTotals {
            read,
            written: read,
            consumed_capacity,
            ..LoadTotals::default()
        };
        counters.resume_from(&totals(1000, 500.0));
        counters.show(&totals(3000, 900.0));
        let line = counters.line(started, 5000, 1000);
        for words in [
            "3,000 items read (20/s",
            "3,000 written",
            "900.0 write units (4.0/s)",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }
}
