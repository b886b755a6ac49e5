//! `highwater verify --change-log`: the change log beside a backup, read again and held against itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use highwater_domain::backup_source::{Catalog, SourceLocation};
use highwater_domain::budget::Clock as _;
use highwater_domain::restore_point::TablePlace;
use highwater_lambda::SystemClock;
use highwater_steps::record_breaks::record_breaks;
use highwater_steps::verify_log::{self, LogReport, LogTotals};

use crate::args::Global;
use crate::args::verify::Verify;
use crate::connect;
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, per_second};
use crate::progress::{Display, Progress};

/// Reads the logs of all streams of the backup's table.
pub(super) async fn verify(
    args: &Verify,
    global: &Global,
    location: &SourceLocation,
    catalog: &Catalog,
    console: Console,
) -> Result<Vec<LogReport>, CliError> {
    let usage = |message: String| CliError::Usage(message);
    let place = TablePlace::of(location).map_err(|error| usage(error.to_string()))?;
    let schema = catalog.key_schema.as_ref().ok_or_else(|| {
        usage("the backup does not say what the table's key is: give --key id:S".into())
    })?;
    let store = connect::store(global, &place.store).await?;
    let folder = args.result.temp_dir.clone();
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let counters = Arc::new(LogCounters::default());
    let display = Display::start(counters.clone(), 0, console);
    let observe = |totals| counters.set(totals);
    let reports = verify_log::verify(&store, &place.log(), schema, &folder, observe).await;
    drop(display);
    let reports = reports?;
    if args.record_breaks {
        for report in &reports {
            let now = SystemClock.now();
            let new = record_breaks(&store, &place.log(), report, now).await?;
            console.say(&format!(
                "log of stream {}: {} breaks are new on record",
                report.stream_label,
                count(new)
            ));
        }
    }
    if reports.is_empty() {
        let log = store.url(&place.log().root());
        return Err(usage(format!("there is no change log at {log}")));
    }
    Ok(reports)
}

/// Breaks of all logs that nothing explains.
pub(super) fn breaks(reports: &[LogReport]) -> u64 {
    reports.iter().map(|report| report.breaks).sum()
}

/// What was found, for people.
pub(super) fn text(reports: &[LogReport]) -> String {
    let mut lines = Vec::new();
    for report in reports {
        let totals = &report.totals;
        let label = &report.stream_label;
        if let Some(reason) = &report.unchecked {
            lines.push(format!("log of stream {label}: not checked: {reason}"));
            continue;
        }
        let up_to = report
            .up_to
            .map(highwater_domain::mark::UnixSeconds::to_rfc3339);
        lines.push(format!(
            "log of stream {label}\n  {} records of {} keys checked, in {} objects ({}), up to {}",
            count(report.checked),
            count(report.keys),
            count(totals.objects),
            bytes(totals.stored_bytes),
            up_to.unwrap_or_default(),
        ));
        for broken in &report.broken {
            lines.push(format!(
                "  break at key {}: after record {} of shard {} ({}), before {} of {} ({})",
                broken.key,
                broken.after.1,
                broken.after.0,
                broken.between.0.to_rfc3339(),
                broken.before.1,
                broken.before.0,
                broken.between.1.to_rfc3339(),
            ));
        }
        let more = report.breaks.saturating_sub(report.broken.len() as u64);
        if more > 0 {
            lines.push(format!(
                "  and {} more breaks; --record-breaks puts the named ones on record, and the next run names others",
                count(more)
            ));
        }
        if report.explained > 0 {
            lines.push(format!(
                "  {} breaks lie in losses that are on record",
                count(report.explained)
            ));
        }
        lines.push(match report.breaks {
            0 => "verified: each record follows from the one before".to_owned(),
            breaks => format!("broken: {} records do not follow", count(breaks)),
        });
    }
    lines.join("\n")
}

/// The sums so far, for the display.
#[derive(Debug, Default)]
struct LogCounters(Mutex<LogTotals>);

impl LogCounters {
    fn set(&self, totals: LogTotals) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    fn get(&self) -> LogTotals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for LogCounters {
    fn items(&self) -> u64 {
        self.get().records
    }

    fn line(&self, started: Instant, _expected_items: u64, _began_with: u64) -> String {
        let totals = self.get();
        format!(
            "{} records read ({:.0}/s), {} objects, {}",
            count(totals.records),
            per_second(totals.records as f64, started.elapsed().as_secs_f64()),
            count(totals.objects),
            bytes(totals.stored_bytes),
        )
    }
}
