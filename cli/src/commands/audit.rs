//! `highwater audit`.

use std::sync::Arc;
use std::time::Instant;

use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::incident::Incident;
use highwater_domain::live_control::PublishedMark;
use highwater_lambda::SystemClock;
use highwater_steps::audit_stream::{self, AuditInput, AuditReport};
use highwater_steps::{LiveDeps, StepError, StopFlag};
use serde_json::json;

use crate::args::Global;
use crate::args::audit::Audit;
use crate::commands::follow::milliseconds;
use crate::console::Console;
use crate::error::CliError;
use crate::follow_progress::{FollowDisplay, FollowProgress, incident_words, mark_words};
use crate::format::{count, seconds};
use crate::live_job::{LiveJob, until_stopped};
use crate::signals::Signals;

/// Audits a table's change log once, to the end.
pub async fn run(args: &Audit, global: &Global, console: Console) -> Result<(), CliError> {
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let progress = Arc::new(FollowProgress::default());
    let opening = LiveJob::open(global, console, &args.sharing, progress.clone(), stop);
    let job = signals.unless_received(Box::pin(opening)).await?;
    console.say(&format!(
        "Auditing the log of {} at {}",
        args.table, args.to
    ));
    let started = Instant::now();
    let display = FollowDisplay::start(progress.clone(), console);
    let work = to_the_end(&job.deps, input(args));
    let outcome = until_stopped(&mut signals, console, work).await;
    drop(display);
    let found = Found {
        report: outcome?,
        incidents: progress.incidents(),
    };
    if let (false, Some(signal)) = (found.report.done, signals.received()) {
        return Err(CliError::Signal {
            name: signal.name,
            code: signal.code,
            job: None,
        });
    }
    let why = found.why();
    let value = json!({
        "table": args.table,
        "to": args.to.to_string(),
        "seconds": started.elapsed().as_secs_f64(),
        "report": found.report,
        "incidents": found.incidents,
        "needs_a_person": !why.is_empty(),
        "why": why,
    });
    console.result(&found.words(args, started.elapsed().as_secs_f64()), &value);
    if why.is_empty() {
        return Ok(());
    }
    Err(CliError::NeedsAPerson {
        what: format!("the change log of {}", args.table),
        why: why.join("; "),
        hint: Some(
            "take a new backup of the table: from its handoff on every second can be restored again; highwater status shows which cannot",
        ),
    })
}

fn input(args: &Audit) -> AuditInput {
    let new = AuditInput::new(args.table.clone(), args.to.to_string());
    let new = if args.stream.local_engine {
        new.on_local_engine()
    } else {
        new
    };
    let delay = args.stream.publication_delay.map(milliseconds);
    AuditInput {
        worker: args.sharing.worker.clone(),
        publication_ms: delay.unwrap_or(new.publication_ms),
        ..new
    }
}

/// Runs slices of the audit until one says that it is done, and adds up what they found.
async fn to_the_end(deps: &LiveDeps, input: AuditInput) -> Result<AuditReport, StepError> {
    let mut sum: Option<AuditReport> = None;
    loop {
        let slice = audit_stream::run(deps, &input, Budget::UNLIMITED).await?;
        let sum = match &mut sum {
            None => sum.insert(slice),
            Some(sum) => {
                add(sum, slice);
                sum
            }
        };
        if sum.done || deps.stop.is_set() {
            return Ok(sum.clone());
        }
    }
}

fn add(sum: &mut AuditReport, slice: AuditReport) {
    *sum = AuditReport {
        records: sum.records + slice.records,
        missing: sum.missing + slice.missing,
        back_filled: sum.back_filled + slice.back_filled,
        incidents: sum.incidents + slice.incidents,
        ..slice
    };
}

/// What an audit found.
struct Found {
    report: AuditReport,
    /// New ones, in full.
    incidents: Vec<Incident>,
}

impl Found {
    /// Why somebody has to look at it; empty if nobody has to.
    fn why(&self) -> Vec<String> {
        let report = &self.report;
        let mut why = Vec::new();
        let losses = self.incidents.iter().filter(|it| it.kind.loses_records());
        let losses = losses.count() as u64;
        if losses > 0 {
            why.push(format!("{} new incidents lose records", count(losses)));
        }
        if report.mark.as_ref().is_some_and(|mark| mark.held_back) {
            why.push("a loss that no newer backup has healed holds the mark back".to_owned());
        }
        why
    }

    fn words(&self, args: &Audit, elapsed: f64) -> String {
        let report = &self.report;
        let mut lines = vec![
            format!(
                "Audited {} ({}) in {}",
                args.table,
                report.stream_label,
                seconds(elapsed)
            ),
            format!(
                "  {} records of {} shards read; {} were not in the log and are now{}; {} new incidents",
                count(report.records),
                count(report.shards),
                count(report.back_filled),
                match report.missing {
                    0 => String::new(),
                    late => format!(", {} of them minutes late", count(late)),
                },
                count(report.incidents),
            ),
        ];
        let incidents = self.incidents.iter();
        lines.extend(incidents.map(|it| format!("  {}", incident_words(it))));
        lines.push(format!("  {}", mark_of(report.mark.as_ref())));
        lines.push(match self.why() {
            why if why.is_empty() => {
                "  the log holds everything that the stream has shown".to_owned()
            }
            why => format!("  needs a person: {}", why.join("; ")),
        });
        lines.join("\n")
    }
}

fn mark_of(mark: Option<&PublishedMark>) -> String {
    mark.map_or_else(
        || "no mark yet".to_owned(),
        |mark| mark_words(&mark.mark, SystemClock.now()),
    )
}
