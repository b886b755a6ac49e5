//! Scans a table once and gives every item to one or more sinks, as lines in dyndump's manner.
//!
//! Unlike a backup it keeps no checkpoints: a dump that is stopped begins anew. Nothing takes an unfinished one
//! for whole: sinks show it under its name, or as `completed`, only after the last line of all of them is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use highwater_domain::backoff::Backoff;
use highwater_domain::budget::Budget;
use highwater_domain::dyndump::DyndumpMetadata;
use highwater_domain::encoding::Encoding;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::{TableRef, UnixMillis};
use highwater_domain::key::KeySchema;
use highwater_domain::line_sink::LineSink;
use highwater_domain::scan::{Page, ScanTotals};
use highwater_domain::selection::Selection;
use tokio::task::JoinSet;

use crate::deps::{Deps, StopFlag};
use crate::error::StepError;
use crate::plan_backup;
use crate::request::{BackupRequest, MAX_SEGMENTS, within};
use crate::segment_pages::{Fetched, ScanPorts, SegmentPages, TableScan};

/// Workers at once, if nobody says: dyndump's.
pub const DEFAULT_PARALLEL: u32 = 5;

/// The most workers: dyndump's.
pub const MAX_PARALLEL: u32 = 1000;

/// How often a stop is looked for while a sink takes its time.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// What to dump, and how.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    /// The table: name or ARN.
    pub table: TableRef,
    /// Workers at once, 1 to 1000.
    pub parallel: u32,
    /// Slices of the scan, 1 to 1,000,000; as many as workers by default.
    pub segments: Option<u32>,
    /// Read capacity units per second, for all workers; 0 is unlimited. By default half of a provisioned table's
    /// capacity, unlimited for an on-demand table.
    pub read_capacity: Option<f64>,
    /// Strongly consistent reads.
    pub consistent: bool,
    /// Filter and projection.
    pub selection: Selection,
    /// Stop after exactly so many items; 0 is all.
    pub max_items: u64,
    /// How often a request that fails in passing is sent again.
    pub max_retries: u32,
    /// What a line looks like.
    pub encoding: Encoding,
}

/// A dump that can begin. It is recorded nowhere.
#[derive(Clone, Debug)]
pub struct DumpPlan {
    /// The table.
    pub table: TableRef,
    /// The table's ARN.
    pub table_arn: String,
    /// The table's primary key.
    pub key_schema: KeySchema,
    /// How it is scanned.
    pub scan: TableScan,
    /// Stop after exactly so many items; 0 is all.
    pub max_items: u64,
    /// DynamoDB's own guess, which may be hours old.
    pub estimated_items: u64,
    /// The same in bytes.
    pub estimated_bytes: u64,
    /// When it was planned.
    pub started_at: UnixMillis,
    /// How long a request that fails in passing is tried again.
    pub retries: Backoff,
    /// What a line looks like.
    pub encoding: Encoding,
}

impl DumpPlan {
    /// What dyndump's metadata says of this dump at its begin.
    #[must_use]
    pub fn metadata(&self) -> DyndumpMetadata {
        let whole = self.scan.selection.is_everything() && self.max_items == 0;
        DyndumpMetadata {
            table_name: self.table.name().to_owned(),
            table_arn: self.table_arn.clone(),
            backup_type: if whole { "full" } else { "query" }.to_owned(),
            backup_start_time: self.started_at.to_rfc3339(),
            ..DyndumpMetadata::default()
        }
    }
}

/// What a dump came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DumpReport {
    /// Requests, items read, capacity.
    pub scan: ScanTotals,
    /// Items that were written to every sink.
    pub items: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Whether a stop came first. The sinks have then given the dump up.
    pub stopped: bool,
}

/// Looks at the table and decides how it is scanned. Writes nothing.
pub async fn plan(deps: &Deps, request: &DumpRequest) -> Result<DumpPlan, StepError> {
    within("parallel", Some(request.parallel), 1, MAX_PARALLEL)?;
    within("segments", request.segments, 1, MAX_SEGMENTS)?;
    request.selection.check()?;
    let pace = BackupRequest {
        read_capacity: request.read_capacity,
        ..BackupRequest::default()
    };
    pace.check_pace()?;
    let table = &request.table;
    let settings = plan_backup::describe_active(deps, table).await?;
    let unsettled = |source| plan_backup::settings_error(table, source);
    let key_schema = settings.key_schema().map_err(unsettled)?;
    let total_segments = request.segments.unwrap_or(request.parallel);
    Ok(DumpPlan {
        table: table.clone(),
        table_arn: settings.arn().map_err(unsettled)?.to_owned(),
        scan: TableScan {
            table: table.to_string(),
            total_segments,
            consistent: request.consistent,
            selection: request.selection.clone().with_keys(&key_schema),
            read_capacity: pace.read_capacity_for(&settings)?,
            concurrency: request.parallel.min(total_segments),
        },
        key_schema,
        max_items: request.max_items,
        estimated_items: settings.item_count(),
        estimated_bytes: settings.size_bytes(),
        started_at: deps.clock.now(),
        retries: Backoff {
            attempts: request.max_retries,
            ..Backoff::SCAN
        },
        encoding: request.encoding,
    })
}

/// Dumps. When it returns, every sink has either shown the dump as whole or given it up.
///
/// The first failure, of the scan or of any sink, ends everything.
pub async fn run(
    deps: &Deps,
    plan: &DumpPlan,
    sinks: &[Arc<dyn LineSink>],
) -> Result<DumpReport, StepError> {
    deps.pace
        .limit(plan.scan.read_capacity, plan.scan.concurrency);
    let outcome = match scan(deps, plan, sinks).await {
        Ok(report) if report.stopped => Ok(report),
        Ok(report) => conclude(sinks).await.map(|()| report),
        Err(error) => Err(error),
    };
    if !matches!(&outcome, Ok(report) if !report.stopped) {
        for sink in sinks {
            if let Err(failure) = sink.abandon().await {
                tracing::warn!(sink = sink.url(), %failure, "what was begun could not be marked as failed");
            }
        }
    }
    outcome
}

/// First everything is made durable everywhere, then it is shown: a sink that fails late spoils no other.
async fn conclude(sinks: &[Arc<dyn LineSink>]) -> Result<(), StepError> {
    let flushed = try_join_all(sinks.iter().map(|sink| sink.flush())).await;
    flushed.map_err(StepError::Store)?;
    for sink in sinks {
        sink.commit().await.map_err(StepError::Store)?;
    }
    Ok(())
}

/// Reads every segment to its end, or until there is enough, or a stop.
async fn scan(
    deps: &Deps,
    plan: &DumpPlan,
    sinks: &[Arc<dyn LineSink>],
) -> Result<DumpReport, StepError> {
    let work = Arc::new(Work {
        deps: deps.clone(),
        plan: plan.clone(),
        sinks: sinks.to_vec(),
        next_segment: AtomicU32::new(0),
        wanted: AtomicU64::new(match plan.max_items {
            0 => u64::MAX,
            items => items,
        }),
    });
    let mut workers = JoinSet::new();
    for _ in 0..plan.scan.concurrency {
        workers.spawn(work.clone().segments());
    }
    let mut report = DumpReport::default();
    // Dropping the set, after a failure, ends the other workers at once.
    while let Some(ended) = workers.join_next().await {
        let part =
            ended.map_err(|error| StepError::Internal(format!("a worker was lost: {error}")))??;
        report.scan.add(&part.scan);
        report.items += part.items;
        report.bytes += part.bytes;
        report.stopped |= part.stopped;
    }
    workers.shutdown().await;
    Ok(report)
}

/// What all workers share.
#[derive(Debug)]
struct Work {
    deps: Deps,
    plan: DumpPlan,
    sinks: Vec<Arc<dyn LineSink>>,
    next_segment: AtomicU32,
    /// Items that may still be taken.
    wanted: AtomicU64,
}

impl Work {
    /// One worker: a segment after the other.
    async fn segments(self: Arc<Self>) -> Result<DumpReport, StepError> {
        let mut report = DumpReport::default();
        let total = self.plan.scan.total_segments;
        loop {
            let segment = self.next_segment.fetch_add(1, Ordering::Relaxed);
            if segment >= total || self.has_enough() {
                return Ok(report);
            }
            self.segment(segment, &mut report).await?;
            if report.stopped {
                return Ok(report);
            }
            self.deps.observer.segment_done(segment);
        }
    }

    fn has_enough(&self) -> bool {
        self.wanted.load(Ordering::Acquire) == 0
    }

    async fn segment(&self, segment: u32, report: &mut DumpReport) -> Result<(), StepError> {
        let quota = Some(self.wanted.load(Ordering::Acquire)).filter(|wanted| *wanted < u64::MAX);
        let mut pages = SegmentPages::with_retries(
            ScanPorts::from(&self.deps),
            self.plan.scan.clone(),
            segment,
            None,
            quota,
            Budget::UNLIMITED,
            self.plan.retries,
        );
        while !self.has_enough() {
            let (page, throttles) = match pages.next().await? {
                None => return Ok(()),
                // Either a stop, or this segment alone has given all that was wanted.
                Some(Fetched::OutOfTime) => {
                    report.stopped = self.deps.stop.is_set();
                    return Ok(());
                }
                Some(Fetched::Page(page, throttles)) => (page, throttles),
            };
            report.scan.add(&ScanTotals {
                pages: 1,
                scanned: page.scanned_count,
                items: page.items.len() as u64,
                consumed_capacity: page.consumed_capacity,
                throttles,
            });
            let taken = self.take(page.items.len() as u64);
            let lines = self.lines(&page, taken)?;
            let bytes = lines.len() as u64;
            if !self.write(lines).await? {
                report.stopped = true;
                return Ok(());
            }
            report.items += taken;
            report.bytes += bytes;
        }
        Ok(())
    }

    /// How many of `offered` items may be taken; they then are.
    fn take(&self, offered: u64) -> u64 {
        let before = self
            .wanted
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |wanted| {
                Some(match wanted {
                    u64::MAX => wanted,
                    wanted => wanted.saturating_sub(offered),
                })
            });
        before.unwrap_or_else(|wanted| wanted).min(offered)
    }

    /// The lines of the page's first `taken` items.
    fn lines(&self, page: &Page, taken: u64) -> Result<Bytes, StepError> {
        let wire: usize = page.items.iter().map(|item| item.len() + 1).sum();
        let mut lines = Vec::with_capacity(wire);
        for item in page
            .items
            .iter()
            .take(usize::try_from(taken).unwrap_or(usize::MAX))
        {
            self.plan
                .encoding
                .write_line(item, &mut lines)
                .map_err(|error| {
                    let key = self.plan.key_schema.key_of(item);
                    let key =
                        key.map_or_else(|_| "unknown key".to_owned(), |key| format!("{key:?}"));
                    StepError::Table(Failure::new(
                        FailureKind::Corrupt,
                        "Scan",
                        self.plan.scan.table.clone(),
                        format!("the item with {key} cannot be encoded: {error}"),
                    ))
                })?;
        }
        Ok(lines.into())
    }

    /// Gives lines to every sink. `false` if a stop came first: a reader of standard output may never come.
    async fn write(&self, lines: Bytes) -> Result<bool, StepError> {
        if lines.is_empty() {
            return Ok(true);
        }
        let writes = self.sinks.iter().map(|sink| sink.write(lines.clone()));
        tokio::select! {
            written = try_join_all(writes) => written.map(|_| true).map_err(StepError::Store),
            () = stopped(&self.deps.stop) => Ok(false),
        }
    }
}

async fn stopped(stop: &StopFlag) {
    while !stop.is_set() {
        tokio::time::sleep(STOP_INTERVAL).await;
    }
}
