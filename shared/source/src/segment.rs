//! One segment: pages become records, and acknowledged pages a checkpoint.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::sequence_number::OrderToken;
use highwater_steps::deps::Unobserved;
use highwater_steps::segment_pages::{Fetched, ScanPorts, SegmentPages, TableScan};
use tokio::sync::{Notify, mpsc};

use crate::ack::{Ack, AckWindow, Acknowledged};
use crate::core::{Core, Outcome};
use crate::dead_letters::DeadLetter;
use crate::error::SourceError;
use crate::record::{Place, Raw, Record};
use crate::scan::Shared;
use crate::snapshot::{SegmentProgress, segment_record};

/// Records that are handed over at once.
const BATCH: usize = 256;

/// The acknowledgements of one segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentAcks {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    window: AckWindow<SegmentProgress>,
    closed: bool,
}

impl Acknowledged for SegmentAcks {
    fn done(&self, number: u64) {
        if self.state().window.done(number) {
            self.changed.notify_one();
        }
    }
}

impl SegmentAcks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_page(&self, progress: SegmentProgress) {
        self.state().window.end_page(progress);
        self.changed.notify_one();
    }

    /// No more is saved than what is acknowledged now.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }
}

/// Reads one segment to its end.
pub(crate) struct SegmentReader<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) segment: u32,
    pub(crate) to: mpsc::Sender<Result<Vec<Record<T>>, SourceError>>,
}

/// Whether there is anybody left to read for.
enum Handed {
    Taken,
    Nobody,
}

impl<T: Send + 'static> SegmentReader<T> {
    pub(crate) async fn read(self) -> Result<(), SourceError> {
        let core = Arc::clone(&self.shared.core);
        if self.shared.should_stop() {
            return self.out_of_time();
        }
        self.shared.plan.fresh_handoff(&core)?;
        let name = segment_record(self.segment);
        let stands = core.ledger.load::<SegmentProgress>(&name).await?;
        let (mut progress, version) = match stands {
            Some(stands) => (stands.value, Some(stands.version)),
            None => (SegmentProgress::default(), None),
        };
        let acks = Arc::new(SegmentAcks::default());
        let saver = save(
            Arc::clone(&core),
            self.segment,
            Arc::clone(&acks),
            version,
            progress.done,
        );
        self.shared.follow(&acks, saver, self.to.downgrade());
        if progress.done {
            return Ok(());
        }
        let mut pages = self.pages(&progress);
        while let Some(fetched) = pages.next().await? {
            let Fetched::Page(page, throttles) = fetched else {
                return self.out_of_time();
            };
            core.metrics.scanned(
                self.segment,
                page.items.len() as u64,
                page.consumed_capacity,
            );
            if let Handed::Nobody = self
                .hand_over(&acks, &page, throttles, &mut progress)
                .await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A scan that is being finished wants no error; anybody else is told that there is more.
    fn out_of_time(&self) -> Result<(), SourceError> {
        if self.shared.core.should_stop() && !self.shared.halt.is_set() {
            return Err(self.shared.core.stopped());
        }
        Ok(())
    }

    fn pages(&self, progress: &SegmentProgress) -> SegmentPages {
        let core = &self.shared.core;
        let scan = TableScan {
            table: core.table.to_string(),
            total_segments: core.scan.segments,
            consistent: core.scan.consistent,
            selection: core.scan.selection.clone(),
            read_capacity: core.scan.read_capacity,
            concurrency: core.scan.concurrency,
        };
        let scanner = Arc::clone(&core.ports.scanner);
        let ports = ScanPorts {
            scanner: match core.scan.page_size {
                Some(most) => Arc::new(SmallPages { scanner, most }),
                None => scanner,
            },
            clock: Arc::clone(&core.ports.clock),
            pace: Arc::clone(&self.shared.pace),
            observer: Arc::new(Unobserved),
            stop: core.stop.clone(),
        };
        let start = progress.next.clone();
        SegmentPages::new(ports, scan, self.segment, start, None, core.budget)
    }

    /// Decodes a page and hands its records over; then its end may become a checkpoint.
    async fn hand_over(
        &self,
        acks: &Arc<SegmentAcks>,
        page: &Page,
        throttles: u64,
        progress: &mut SegmentProgress,
    ) -> Result<Handed, SourceError> {
        let scanned_at = self.shared.core.ports.clock.now();
        let place = Place::Segment(self.segment);
        let mut batch = Vec::with_capacity(page.items.len().min(BATCH));
        for index in 0..page.items.len() {
            let Some(item) = page.items.slice(index) else {
                continue;
            };
            let letter = || self.letter(&place, &item);
            let value = match self.shared.core.decode(&item, &place, letter).await? {
                Outcome::Value(value) => value,
                Outcome::Skipped => {
                    progress.skipped += 1;
                    continue;
                }
                Outcome::Buried => {
                    progress.buried += 1;
                    continue;
                }
            };
            let number = acks.state().window.hand_out();
            let ack = Ack::new(Arc::clone(acks) as Arc<dyn Acknowledged>, number);
            batch.push(self.record(value, ack, Raw::Item(item), scanned_at));
            if batch.len() == BATCH && self.to.send(Ok(std::mem::take(&mut batch))).await.is_err() {
                return Ok(Handed::Nobody);
            }
        }
        if !batch.is_empty() && self.to.send(Ok(batch)).await.is_err() {
            return Ok(Handed::Nobody);
        }
        progress.next.clone_from(&page.last_evaluated_key);
        progress.done = page.last_evaluated_key.is_none();
        progress.totals.pages += 1;
        progress.totals.items += page.items.len() as u64;
        progress.totals.scanned += page.scanned_count;
        progress.totals.consumed_capacity += page.consumed_capacity;
        progress.totals.throttles += throttles;
        acks.end_page(progress.clone());
        Ok(Handed::Taken)
    }

    fn record(&self, value: T, ack: Ack, raw: Raw, event_time: UnixMillis) -> Record<T> {
        Record {
            value,
            event_time,
            place: Place::Segment(self.segment),
            ack,
            raw,
            about: Arc::clone(&self.shared.about),
        }
    }

    fn letter(&self, place: &Place, item: &bytes::Bytes) -> DeadLetter {
        let about = &self.shared.about;
        let key = about.key_json(item);
        DeadLetter {
            event_id: format!("{}/{key}", about.table),
            table: about.table.clone(),
            place: place.to_string(),
            key,
            order: OrderToken::of_scan().to_string(),
            reason: String::new(),
            attempts: 0,
            new: Some(item.clone()),
            old: None,
        }
    }
}

/// Saves each position that the acknowledgements reach. Whether the segment was done in the end.
async fn save<T: Send + 'static>(
    core: Arc<Core<T>>,
    segment: u32,
    acks: Arc<SegmentAcks>,
    mut version: Option<i64>,
    is_done: bool,
) -> Result<bool, SourceError> {
    if is_done {
        return Ok(true);
    }
    let name = segment_record(segment);
    loop {
        let (reached, closed) = {
            let mut state = acks.state();
            (state.window.advance(), state.closed)
        };
        let Some(progress) = reached else {
            if closed {
                return Ok(false);
            }
            acks.changed.notified().await;
            continue;
        };
        let saved = core.ledger.save(&name, version, &progress).await?;
        version = Some(saved.ok_or_else(|| SourceError::Raced {
            name: core.name.clone(),
            segment,
        })?);
        if progress.done {
            return Ok(true);
        }
    }
}

/// A scanner whose pages are no larger than was asked for.
#[derive(Debug)]
struct SmallPages {
    scanner: Arc<dyn TableScanner>,
    most: u32,
}

#[async_trait]
impl TableScanner for SmallPages {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let limit = request
            .limit
            .map_or(self.most, |limit| limit.min(self.most));
        let request = ScanRequest {
            limit: Some(limit),
            ..request.clone()
        };
        self.scanner.scan_page(&request).await
    }
}
