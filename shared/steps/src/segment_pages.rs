//! The pages of one segment: paced, retried, and fetched one ahead.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::backoff::Backoff;
use highwater_domain::budget::{Budget, Clock};
use highwater_domain::failure::FailureKind;
use highwater_domain::key::Key;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::SnapshotRecord;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::deps::{Deps, Observer, StopFlag};
use crate::error::StepError;
use crate::pace::Pace;

/// How long a stop may go unnoticed while a page is awaited.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

/// What a scan works with.
#[derive(Clone, Debug)]
pub struct ScanPorts {
    /// Reads pages.
    pub scanner: Arc<dyn TableScanner>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Keeps the scan within its read capacity.
    pub pace: Arc<Pace>,
    /// Is told of progress.
    pub observer: Arc<dyn Observer>,
    /// Asks for an early, orderly end.
    pub stop: StopFlag,
}

impl From<&Deps> for ScanPorts {
    fn from(deps: &Deps) -> Self {
        Self {
            scanner: Arc::clone(&deps.scanner),
            clock: Arc::clone(&deps.clock),
            pace: Arc::clone(&deps.pace),
            observer: Arc::clone(&deps.observer),
            stop: deps.stop.clone(),
        }
    }
}

/// How one table is scanned: what all of its segments have in common.
#[derive(Clone, Debug)]
pub struct TableScan {
    /// The table's name or ARN.
    pub table: String,
    /// How many slices it is scanned in.
    pub total_segments: u32,
    /// Strongly consistent reads.
    pub consistent: bool,
    /// Filter and projection.
    pub selection: Selection,
    /// Read capacity units per second of all workers; 0 is unlimited.
    pub read_capacity: f64,
    /// How many workers there are.
    pub concurrency: u32,
}

impl From<&SnapshotRecord> for TableScan {
    fn from(record: &SnapshotRecord) -> Self {
        Self {
            table: record.table.to_string(),
            total_segments: record.total_segments,
            consistent: record.consistent,
            selection: record.selection.clone(),
            read_capacity: record.read_capacity,
            concurrency: record.concurrency,
        }
    }
}

/// What came of asking for a page.
#[derive(Debug)]
pub enum Fetched {
    /// A page, and how often it was throttled before.
    Page(Page, u64),
    /// There was no time left to send the request, or a stop was asked for. Nothing was read.
    OutOfTime,
}

/// The pages of one segment from a position on.
///
/// While the caller works on a page the next one is on its way. Dropping this cancels that request.
#[derive(Debug)]
pub struct SegmentPages {
    fetcher: Fetcher,
    ahead: Option<InFlight>,
    ended: bool,
}

/// A request that is cancelled when nobody waits for it any more.
#[derive(Debug)]
struct InFlight(JoinHandle<Result<Fetched, StepError>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone, Debug)]
struct Fetcher {
    ports: ScanPorts,
    scan: TableScan,
    segment: u32,
    budget: Budget,
    retries: Backoff,
    /// At most so many items may still be taken.
    quota: Option<u64>,
    /// What the last page cost: the best guess for the next.
    estimate: f64,
}

impl SegmentPages {
    /// The pages of `segment` after `start`, of which at most `quota` items are wanted.
    #[must_use]
    pub fn new(
        ports: ScanPorts,
        scan: TableScan,
        segment: u32,
        start: Option<Key>,
        quota: Option<u64>,
        budget: Budget,
    ) -> Self {
        Self::with_retries(ports, scan, segment, start, quota, budget, Backoff::SCAN)
    }

    /// The same, with another patience for requests that fail in passing.
    #[must_use]
    pub fn with_retries(
        ports: ScanPorts,
        scan: TableScan,
        segment: u32,
        start: Option<Key>,
        quota: Option<u64>,
        budget: Budget,
        retries: Backoff,
    ) -> Self {
        let fetcher = Fetcher {
            ports,
            scan,
            segment,
            budget,
            retries,
            quota,
            estimate: 0.0,
        };
        // Nothing wanted, nothing asked for: a page costs capacity.
        let ahead = (quota != Some(0)).then(|| fetcher.start(start));
        Self {
            fetcher,
            ahead,
            ended: false,
        }
    }

    /// The next page, or `None` after the segment's last.
    pub async fn next(&mut self) -> Result<Option<Fetched>, StepError> {
        if self.ended {
            return Ok(None);
        }
        let Some(mut ahead) = self.ahead.take() else {
            return Ok(Some(Fetched::OutOfTime));
        };
        let fetched = tokio::select! {
            fetched = &mut ahead.0 => fetched,
            // A request that hangs must not take the part in the making with it.
            () = self.fetcher.out_of_time() => return Ok(Some(Fetched::OutOfTime)),
        };
        let fetched = fetched
            .map_err(|error| StepError::Internal(format!("a scan request was lost: {error}")))??;
        if let Fetched::Page(page, _) = &fetched {
            self.prefetch(page);
        }
        Ok(Some(fetched))
    }

    fn prefetch(&mut self, page: &Page) {
        self.fetcher.estimate = page.consumed_capacity;
        if let Some(quota) = &mut self.fetcher.quota {
            *quota = quota.saturating_sub(page.items.len() as u64);
            if *quota == 0 {
                // Enough. Whoever asks for more is told that there is no time for it.
                return;
            }
        }
        match &page.last_evaluated_key {
            None => self.ended = true,
            Some(key) => self.ahead = Some(self.fetcher.start(Some(key.clone()))),
        }
    }
}

impl Fetcher {
    fn start(&self, start: Option<Key>) -> InFlight {
        let fetcher = self.clone();
        let fetch = async move { fetcher.fetch(start).await };
        InFlight(tokio::spawn(fetch.in_current_span()))
    }

    fn should_stop(&self) -> bool {
        self.ports.stop.is_set() || self.budget.is_spent(self.ports.clock.now())
    }

    /// Returns when the budget is spent or a stop was asked for.
    async fn out_of_time(&self) {
        while !self.should_stop() {
            let left = self
                .budget
                .left_ms(self.ports.clock.now())
                .unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_millis(left).min(STOP_INTERVAL)).await;
        }
    }

    /// One page, however often it takes. Gives up after its retries, or when time is short.
    async fn fetch(&self, start: Option<Key>) -> Result<Fetched, StepError> {
        let ScanPorts { scanner, pace, .. } = &self.ports;
        let stopping = || self.should_stop();
        let request = self.request(start);
        let mut throttles = 0;
        for retry in 0.. {
            if !pace.admit(self.estimate, &self.budget, stopping).await {
                return Ok(Fetched::OutOfTime);
            }
            let failure = match scanner.scan_page(&request).await {
                Ok(page) => {
                    pace.settle(self.estimate, page.consumed_capacity);
                    pace.learn(&page);
                    self.ports.observer.page(self.segment, &page);
                    return Ok(Fetched::Page(page, throttles));
                }
                Err(failure) => failure,
            };
            pace.settle(self.estimate, 0.0);
            if failure.kind == FailureKind::Throttled {
                throttles += 1;
                self.ports.observer.throttled(self.segment);
            }
            // Damaged in transit is as good as not arrived: a page counts only whole and checked.
            let passing = failure.kind.is_retryable() || failure.kind == FailureKind::Corrupt;
            let wait_ms = self
                .retries
                .wait_ms(retry, fastrand::f64())
                .filter(|_| passing);
            let Some(wait_ms) = wait_ms else {
                return Err(StepError::Table(failure));
            };
            if !self.budget.allows_wait(self.ports.clock.now(), wait_ms) {
                return Ok(Fetched::OutOfTime);
            }
            self.ports
                .observer
                .retrying(self.segment, &failure.to_string(), wait_ms);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        Ok(Fetched::OutOfTime)
    }

    fn request(&self, start: Option<Key>) -> ScanRequest {
        let scan = &self.scan;
        // A filter is applied after the limit, so a quota bounds the request only without one.
        let wanted = self.quota.filter(|_| scan.selection.filter.is_none());
        let wanted = wanted.map(|items| u32::try_from(items).unwrap_or(u32::MAX));
        let paced = self.ports.pace.page_limit(scan);
        ScanRequest {
            table: scan.table.clone(),
            segment: self.segment,
            total_segments: scan.total_segments,
            exclusive_start_key: start,
            consistent: scan.consistent,
            limit: [wanted, paced].into_iter().flatten().min(),
            selection: scan.selection.clone(),
        }
    }
}
