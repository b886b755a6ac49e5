//! `highwater diff --live`.

use std::sync::Arc;
use std::time::Instant;

use highwater_aws::Clients;
use highwater_domain::ids::TableRef;
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::replica_targets::TargetAccess;
use highwater_domain::scan::TableScanner;
use highwater_domain::table::TableDescriber;
use highwater_lambda::SystemClock;
use highwater_steps::compare::SpillLimits;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::replica::live_diff::{self, LiveDiffObservers, LiveDiffRequest, LiveTables};
use highwater_steps::replica::recheck::{RecheckOptions, Repairing, require_live};
use highwater_steps::segment_pages::ScanPorts;
use highwater_steps::table_items::{TableItems, TableReading};
use highwater_steps::{StepError, StopFlag};

use super::diff::named;
use crate::args::Global;
use crate::args::diff::{Diff, Places};
use crate::args::follow::Sharing;
use crate::compare_progress::CompareCounters;
use crate::comparison::Named;
use crate::connect;
use crate::console::Console;
use crate::error::CliError;
use crate::live_diff_report::Report;
use crate::progress::Display;
use crate::replica_job::ReplicaJob;
use crate::signals::Signals;

/// Suspects that are looked at unless somebody says otherwise.
const SUSPECTS: usize = 10_000;

/// Compares a live replica with its source, and mends it if that is asked for.
pub async fn run(args: &Diff, global: &Global, console: Console) -> Result<(), CliError> {
    let (source, target) = tables(args)?;
    let request = request(args)?;
    let mut signals = Signals::listen(StopFlag::default())?;
    let compared = Box::pin(compare(args, &source, &target, &request, global, console));
    // What was repaired before a signal stays: each key is a transaction of its own.
    signals.unless_received(compared).await
}

/// The two tables, if the command line says what a live comparison can do.
fn tables(args: &Diff) -> Result<(TableRef, TableRef), CliError> {
    let usage = |why: &str| Err(CliError::Usage(why.to_owned()));
    let (Named::Table(source), Named::Table(target)) = (named(&args.a)?, named(&args.b)?) else {
        return usage("--live compares two tables: a source, and a replica of it");
    };
    let Places {
        a_endpoint_url,
        a_region,
        a_profile,
        b_endpoint_url,
        b_region,
        b_profile,
    } = &args.places;
    let places = [
        a_endpoint_url,
        a_region,
        a_profile,
        b_endpoint_url,
        b_region,
        b_profile,
    ];
    if places.into_iter().any(Option::is_some) {
        return usage(
            "--live reaches the replica as its record says: use --region, --profile and --endpoint-url for the source",
        );
    }
    if args.reading.eventual {
        return usage("--live needs strongly consistent reads: leave out --eventual");
    }
    if args.live.dry_run && !args.live.repair {
        return usage("--dry-run shows what --repair would write: give both");
    }
    Ok((source, target))
}

fn request(args: &Diff) -> Result<LiveDiffRequest, CliError> {
    let folder = args.result.temp_dir.clone();
    let limit = args.result.limit.unwrap_or(SUSPECTS);
    if limit == 0 {
        return Err(CliError::Usage("--limit 0 would look at no key".into()));
    }
    Ok(LiveDiffRequest {
        limit,
        spill: SpillLimits::in_folder(folder.unwrap_or_else(std::env::temp_dir)),
        recheck: RecheckOptions {
            patience: args.live.patience,
            rounds: args.live.rounds,
            repair: match (args.live.repair, args.live.dry_run) {
                (false, _) => Repairing::Never,
                (true, true) => Repairing::DryRun,
                (true, false) => Repairing::Write,
            },
            salt: fastrand::u128(..),
        },
    })
}

async fn compare(
    args: &Diff,
    source: &TableRef,
    target: &TableRef,
    request: &LiveDiffRequest,
    global: &Global,
    console: Console,
) -> Result<(), CliError> {
    let (sharing, stop) = (Sharing::default(), StopFlag::default());
    let job = ReplicaJob::open(global, console, &sharing, Arc::default(), stop);
    let job = Box::pin(job).await?;
    let source_arn = job.source_arn(source).await?;
    let record = job.find(&source_arn, target).await?;
    require_live(&record, &record)?;
    let counters = Arc::new(CompareCounters::default());
    let (tables, expected) = open(args, &job, &record, global, &counters).await?;
    console.say(&format!(
        "comparing {} with its live replica {}",
        record.source, record.target
    ));
    let started = Instant::now();
    let observers = LiveDiffObservers {
        compare: counters.clone(),
        recheck: counters.clone(),
    };
    let display = Display::start(counters.clone(), expected, console);
    let compared = live_diff::run(&job.deps, &record, tables, request, &observers);
    let compared = Box::pin(compared).await;
    drop(display);
    let report = Report {
        found: &compared?,
        read_units: counters.read_units(),
        seconds: started.elapsed().as_secs_f64(),
    };
    console.result(&report.text(), &report.json());
    report.verdict()
}

/// Both tables, and about how many items they have.
async fn open(
    args: &Diff,
    job: &ReplicaJob,
    record: &ReplicaRecord,
    global: &Global,
    counters: &Arc<CompareCounters>,
) -> Result<(LiveTables, u64), CliError> {
    let clients = Clients::connect(&connect::settings(global)).await?;
    let access = TargetAccess::from(record);
    let target = job.deps.targets.open(&access).await;
    let target = target.map_err(StepError::Table)?;
    let how = TableReading {
        segments: args.reading.segments,
        concurrency: args.reading.concurrency,
        read_capacity: args.reading.read_capacity,
        eventual: false,
    };
    let items =
        async |scanner: Arc<dyn TableScanner>, describer: &dyn TableDescriber, table: &TableRef| {
            let clock = Arc::new(SystemClock);
            let ports = ScanPorts {
                scanner,
                // A bucket of its own: each table has its own capacity.
                pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
                clock,
                observer: counters.clone(),
                stop: StopFlag::default(),
            };
            TableItems::open(describer, ports, table, &how).await
        };
    let scanner = Arc::new(clients.table_scanner());
    let source = items(scanner, &clients.table_describer(), &record.source).await?;
    let scanner = Arc::clone(&target.scanner);
    let replica = items(scanner, target.describer.as_ref(), &record.target).await?;
    let expected = source.estimated_items() + replica.estimated_items();
    let tables = LiveTables {
        source,
        replica,
        reader: Arc::new(clients.item_reader()),
        target,
    };
    Ok((tables, expected))
}
