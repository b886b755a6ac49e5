//! `highwater dump`.

mod counters;
mod file_sink;
mod stdout_sink;

use std::sync::Arc;
use std::time::Instant;

use highwater_aws::Clients;
use highwater_domain::dyndump::DyndumpKeys;
use highwater_domain::encoding::Encoding;
use highwater_domain::line_sink::LineSink;
use highwater_domain::selection::Selection;
use highwater_steps::dump::{self, DumpPlan, DumpReport, DumpRequest};
use highwater_steps::dump_parts::{DEFAULT_PART_BYTES, DumpPlace};
use highwater_steps::{Deps, StepError, StopFlag};
use serde_json::json;

use self::counters::DumpCounters;
use self::file_sink::FileSink;
use self::stdout_sink::StdoutSink;
use super::backup;
use crate::args::Global;
use crate::args::backup::{Backup, Handoff, Pace, Shape};
use crate::args::dump::{Dump, EncodingArg, LayoutArg};
use crate::connect::{self, Control};
use crate::console::Console;
use crate::dyndump_store;
use crate::error::CliError;
use crate::format::{bytes, per_second};
use crate::job_log::JobLog;
use crate::progress::{Display, Progress as _};
use crate::signals::{Received, Signals};

/// Dumps a table.
pub async fn run(args: &Dump, global: &Global, console: Console) -> Result<(), CliError> {
    check(args)?;
    let console = if args.talk.silent {
        console.silenced()
    } else {
        console
    };
    if args.targets.layout == LayoutArg::Highwater && to_store(args) {
        return backup::run(&as_backup(args)?, global, console).await;
    }
    let log = JobLog::open(args.talk.log_to.as_deref(), &args.talk.log_timestamp)?;
    if log.is_on_stdout() && args.targets.stdout {
        return Err(CliError::Usage(
            "the log would mix with the items on standard output: --log-to stderr, or a file"
                .into(),
        ));
    }
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let counters = Arc::new(DumpCounters::default());
    let prepared = Box::pin(prepare(args, global, counters.clone(), stop));
    let prepared = signals.unless_received(prepared).await?;
    if args.dry_run {
        show_plan(&prepared, args, console);
        return Ok(());
    }
    let table = prepared.plan.table.name().to_owned();
    let outcome = work(args, &prepared, counters, &log, console, &mut signals).await;
    match &outcome {
        Ok(()) => log.line(&format!("Dump completed OK table={table}")),
        Err(CliError::Signal { .. }) => log.line("Aborted"),
        Err(error) => log.line(&format!("Dump failed table={table} error={error}")),
    }
    outcome
}

/// Refuses what makes no sense together.
fn check(args: &Dump) -> Result<(), CliError> {
    let usage = |message: &str| Err(CliError::Usage(message.into()));
    let wire = args.lines.encoding == EncodingArg::Wire;
    if wire && args.lines.string_nums {
        return usage(
            "--string-nums goes with --encoding typed or plain: in the wire form numbers are in quotes anyway",
        );
    }
    if to_store(args) && !wire {
        return usage(
            "an object store takes --encoding wire only, because nothing could load it again; write the other encodings to --file or --stdout",
        );
    }
    let highwater = args.targets.layout == LayoutArg::Highwater;
    if highwater && !to_store(args) {
        return usage("--layout is of the object store: give --to, or --s3-bucket and --s3-prefix");
    }
    if highwater && (args.targets.file.is_some() || args.targets.stdout) {
        return usage(
            "--layout highwater goes to an object store alone; for a file as well, run `highwater backup` and then `highwater dump --file`",
        );
    }
    Ok(())
}

/// Whether an object store is among the targets.
fn to_store(args: &Dump) -> bool {
    args.targets.to.is_some() || args.targets.place.s3_bucket.is_some()
}

/// The backup that `--layout highwater` is another name for.
fn as_backup(args: &Dump) -> Result<Backup, CliError> {
    let to = args.targets.destination().transpose();
    let pace = &args.pace;
    Ok(Backup {
        table: Some(args.table.clone()),
        to: to.map_err(CliError::Usage)?,
        resume: None,
        id: None,
        dry_run: args.dry_run,
        pace: Pace {
            segments: pace.segments,
            concurrency: Some(pace.parallel),
            read_capacity: pace.read_capacity,
            read_percent: None,
            consistent: pace.consistent_read,
            eventual: !pace.consistent_read,
        },
        selection: args.selection.clone(),
        shape: Shape {
            compression: None,
            part_size: args.targets.part_size,
        },
        handoff: Handoff {
            with_stream: false,
            settle_seconds: None,
        },
    })
}

/// What stands when the dump may begin. Nothing is written yet.
struct Prepared {
    deps: Deps,
    plan: DumpPlan,
    place: Option<DumpPlace>,
}

async fn prepare(
    args: &Dump,
    global: &Global,
    counters: Arc<DumpCounters>,
    stop: StopFlag,
) -> Result<Prepared, CliError> {
    let location = match (&args.targets.to, args.targets.place.location()) {
        (Some(url), _) => Some(dyndump_store::location(url)?),
        (None, Some(location)) => Some(location.map_err(CliError::Usage)?),
        (None, None) => None,
    };
    let clients = Clients::connect(&connect::settings(global)).await?;
    let clients = clients.with_retries(args.pace.max_retries);
    // A dump keeps no checkpoints: this table is never looked for.
    let nowhere = Control::of(clients.control_table("unused"));
    let deps = connect::deps(&clients, &nowhere, counters, stop);
    let plan = dump::plan(&deps, &request(args)).await?;
    let place = match location {
        Some(location) => {
            let place = DumpPlace {
                store: deps.stores.open(&location.store)?,
                keys: DyndumpKeys::new(&location.key),
                part_bytes: args.targets.part_size.unwrap_or(DEFAULT_PART_BYTES),
            };
            place.check().await?;
            Some(place)
        }
        None => None,
    };
    Ok(Prepared { deps, plan, place })
}

fn request(args: &Dump) -> DumpRequest {
    let (pace, selection) = (&args.pace, &args.selection);
    DumpRequest {
        table: args.table.clone(),
        parallel: pace.parallel,
        segments: pace.segments,
        read_capacity: pace.read_capacity,
        consistent: pace.consistent_read,
        selection: Selection {
            filter: selection.filter.clone(),
            projection: selection.projection.clone(),
            names: selection.names.iter().cloned().collect(),
            values: selection.values.iter().cloned().collect(),
        },
        max_items: selection.max_items.unwrap_or(0),
        max_retries: pace.max_retries,
        encoding: args.lines.encoding(),
    }
}

/// Opens every target. The metadata in an object store, which is a claim, comes last.
async fn open(args: &Dump, prepared: &Prepared) -> Result<Vec<Arc<dyn LineSink>>, CliError> {
    let mut sinks: Vec<Arc<dyn LineSink>> = Vec::new();
    if args.targets.stdout {
        sinks.push(Arc::new(StdoutSink));
    }
    if let Some(path) = &args.targets.file {
        let path = path.clone();
        let file = tokio::task::spawn_blocking(move || FileSink::create(&path)).await;
        let file = file.map_err(|error| StepError::Internal(error.to_string()))?;
        sinks.push(Arc::new(file.map_err(StepError::Store)?));
    }
    if let Some(place) = &prepared.place {
        let claim = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let clock = prepared.deps.clock.clone();
        let parts = place
            .clone()
            .begin(prepared.plan.metadata(), claim, clock)
            .await?;
        sinks.push(Arc::new(parts));
    }
    Ok(sinks)
}

/// Dumps, in order also when a signal comes: the second one ends it at once.
async fn work(
    args: &Dump,
    prepared: &Prepared,
    counters: Arc<DumpCounters>,
    log: &JobLog,
    console: Console,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let (deps, plan) = (&prepared.deps, &prepared.plan);
    let begin = beginning(plan, &targets(args, prepared));
    console.say(&begin);
    log.line(&begin);
    let started = Instant::now();
    let quiet = if args.talk.no_progress {
        console.silenced()
    } else {
        console
    };
    let display = Display::start(counters.clone(), plan.estimated_items, quiet);
    let shown = (plan.table.name().to_owned(), counters);
    let ticking = log.progress(move || {
        let (table, counters) = &shown;
        let (items, elapsed) = (counters.items(), started.elapsed().as_secs_f64());
        format!(
            "Dump in progress - current stats table={table} avg_items_sec={:.2} avg_capacity_sec={:.2} total_items_read={items}",
            per_second(items as f64, elapsed),
            per_second(counters.units(), elapsed),
        )
    });
    let dumping = async {
        let sinks = open(args, prepared).await?;
        Ok::<_, CliError>(dump::run(deps, plan, &sinks).await?)
    };
    let mut dumping = Box::pin(dumping);
    let outcome = loop {
        tokio::select! {
            outcome = &mut dumping => break outcome,
            signal = signals.next() => match signal {
                None => {
                    log.line("Abort request received");
                    console.say("stopping (again to quit at once)");
                }
                Some(again) => return Err(stopped_by(again)),
            },
        }
    };
    drop((display, ticking));
    let report = outcome?;
    if report.stopped {
        let first = signals.received();
        return Err(stopped_by(first.unwrap_or(Received {
            name: "a signal",
            code: 1,
        })));
    }
    tell(
        args,
        prepared,
        &report,
        started.elapsed().as_secs_f64(),
        console,
    );
    Ok(())
}

fn stopped_by(signal: Received) -> CliError {
    CliError::Signal {
        name: signal.name,
        code: signal.code,
        job: None,
    }
}

/// The targets in people's words.
fn targets(args: &Dump, prepared: &Prepared) -> Vec<String> {
    let mut targets = Vec::new();
    if args.targets.stdout {
        targets.push("stdout".to_owned());
    }
    if let Some(path) = &args.targets.file {
        targets.push(format!("file://{}", path.display()));
    }
    if let Some(place) = &prepared.place {
        targets.push(place.store.url(place.keys.prefix()));
    }
    targets
}

fn beginning(plan: &DumpPlan, targets: &[String]) -> String {
    format!(
        "Beginning scan: table={:?} readCapacity={} parallel={} itemCount={} totalSize={} targets={}",
        plan.table.name(),
        plan.scan.read_capacity,
        plan.scan.concurrency,
        plan.estimated_items,
        bytes(plan.estimated_bytes),
        targets.join(","),
    )
}

fn show_plan(prepared: &Prepared, args: &Dump, console: Console) {
    let plan = &prepared.plan;
    let targets = targets(args, prepared);
    let note = match plan.encoding {
        Encoding::Plain { .. } => "\nit will not be restorable (--encoding plain)",
        _ => "",
    };
    let text = format!(
        "{}{note}\nnothing was written (--dry-run)",
        beginning(plan, &targets)
    );
    let value = json!({
        "dry_run": true,
        "table": plan.table,
        "table_arn": plan.table_arn,
        "targets": targets,
        "segments": plan.scan.total_segments,
        "parallel": plan.scan.concurrency,
        "read_capacity": plan.scan.read_capacity,
        "consistent": plan.scan.consistent,
        "max_items": plan.max_items,
        "estimated_items": plan.estimated_items,
        "estimated_bytes": plan.estimated_bytes,
        "restorable": plan.encoding.is_restorable(),
    });
    console.result(&text, &value);
}

/// The result: dyndump's lines on standard error, or one JSON document where the items do not go.
fn tell(args: &Dump, prepared: &Prepared, report: &DumpReport, elapsed: f64, console: Console) {
    let units = report.scan.consumed_capacity;
    let value = json!({
        "table": prepared.plan.table,
        "targets": targets(args, prepared),
        "items": report.items,
        "bytes": report.bytes,
        "requests": report.scan.pages,
        "consumed_capacity": units,
        "throttles": report.scan.throttles,
        "seconds": elapsed,
        "avg_items_sec": per_second(report.items as f64, elapsed),
        "avg_capacity_sec": per_second(units, elapsed),
        "restorable": prepared.plan.encoding.is_restorable(),
    });
    let text = format!(
        "Avg items/sec: {:.2}\nAvg capacity/sec: {:.2}\nTotal items read:  {}",
        per_second(report.items as f64, elapsed),
        per_second(units, elapsed),
        report.items,
    );
    console.account(&text, &value, args.targets.stdout);
}
