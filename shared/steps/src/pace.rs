//! Keeps the workers of one process within a table's read capacity.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::capacity::{CapacityBucket, PageLimit};
use highwater_domain::item_size::item_size;
use highwater_domain::scan::Page;
use highwater_domain::snapshot::SnapshotRecord;

use crate::segment_pages::TableScan;

/// Who shares the snapshot's capacity with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All workers run in this process and draw from one bucket.
    Process,
    /// Each worker is an invocation of its own and has its part of the capacity.
    Invocation,
}

/// The capacity limiter: one bucket and one page-size estimate, shared by all workers of a process.
#[derive(Debug)]
pub struct Pace {
    clock: Arc<dyn Clock>,
    share: Share,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bucket: CapacityBucket,
    page_limit: PageLimit,
}

/// How many items of a page are measured: enough for a median, cheap enough for every page.
const MEASURED_PER_PAGE: usize = 50;

impl Pace {
    /// Unlimited until [`follow`](Self::follow) says otherwise.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, share: Share) -> Self {
        let bucket = CapacityBucket::new(0.0, clock.now());
        Self {
            clock,
            share,
            state: Mutex::new(State {
                bucket,
                page_limit: PageLimit::default(),
            }),
        }
    }

    /// Takes over the snapshot's rate. The bucket goes on as it is if the rate has not changed.
    pub fn follow(&self, record: &SnapshotRecord) {
        self.limit(record.read_capacity, record.concurrency);
    }

    /// Takes over a rate of `units_per_second` for all of `concurrency` workers together; 0 is unlimited.
    pub fn limit(&self, units_per_second: f64, concurrency: u32) {
        let workers = match self.share {
            Share::Process => 1.0,
            Share::Invocation => f64::from(concurrency.max(1)),
        };
        let rate = units_per_second / workers;
        let mut state = self.state();
        if (state.bucket.units_per_second() - rate).abs() > f64::EPSILON {
            state.bucket = CapacityBucket::new(rate, self.clock.now());
        }
    }

    /// Whether all workers run in this process: no history of an execution fills up with what they do.
    #[must_use]
    pub fn is_one_process(&self) -> bool {
        self.share == Share::Process
    }

    /// How many of `concurrency` workers run in this process.
    #[must_use]
    pub fn workers_here(&self, concurrency: u32) -> u32 {
        match self.share {
            Share::Process => concurrency.max(1),
            Share::Invocation => 1,
        }
    }

    /// Waits until a request that will cost about `estimate` units may start.
    ///
    /// `false` if that would be past the budget or a stop was asked for: the request must not be sent.
    pub async fn admit(&self, estimate: f64, budget: &Budget, stopping: impl Fn() -> bool) -> bool {
        !stopping() && self.admit_begun(estimate, budget, stopping).await
    }

    /// The same for a request of something that is begun: a stop is heard only where it would have to wait.
    pub async fn admit_begun(
        &self,
        estimate: f64,
        budget: &Budget,
        stopping: impl Fn() -> bool,
    ) -> bool {
        loop {
            let now = self.clock.now();
            let wait_ms = match self.state().bucket.start(now, estimate) {
                Ok(()) => return true,
                Err(wait_ms) => wait_ms,
            };
            if !budget.allows_wait(now, wait_ms) {
                return false;
            }
            // Short naps, so that a signal is heard in the middle of a long debt.
            tokio::time::sleep(Duration::from_millis(wait_ms.min(500))).await;
            if stopping() {
                return false;
            }
        }
    }

    /// Whether a request would have to wait for capacity now.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.state().bucket.must_wait(self.clock.now())
    }

    /// Accounts for a request: what was reserved, and what it cost.
    pub fn settle(&self, estimate: f64, consumed: f64) {
        self.state().bucket.settle(estimate, consumed);
    }

    /// Learns item sizes from a page, if they matter.
    pub fn learn(&self, page: &Page) {
        let mut state = self.state();
        if state.bucket.is_unlimited() {
            return;
        }
        for item in page.items.iter().take(MEASURED_PER_PAGE) {
            if let Ok(bytes) = item_size(item) {
                state.page_limit.learn(bytes);
            }
        }
    }

    /// The `Limit` for the next request of one of the scan's workers.
    #[must_use]
    pub fn page_limit(&self, scan: &TableScan) -> Option<u32> {
        let per_worker = scan.read_capacity / f64::from(scan.concurrency.max(1));
        self.state().page_limit.next(per_worker, scan.consistent)
    }

    /// A poisoned lock means that another worker panicked between two additions: the numbers are still numbers.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
