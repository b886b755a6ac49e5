//! `highwater replicate`.

use std::sync::Arc;
use std::time::Instant;

use highwater_domain::budget::Clock as _;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::Layout;
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::restore::RestoreId;
use highwater_domain::snapshot::Status;
use highwater_domain::table_stream::StreamedTable;
use highwater_lambda::SystemClock;
use highwater_steps::follow::FollowRequest;
use highwater_steps::replica::apply::ApplyRequest;
use highwater_steps::replica::plan::{self, PlannedReplica, ReplicaRequest};
use highwater_steps::replica::status::ReplicaStatus;
use highwater_steps::{StepError, StopFlag, list_snapshots};
use serde_json::json;

use super::restore::{self, Wanted};
use crate::args::replicate::Replicate;
use crate::args::{Args, Command, Global};
use crate::console::Console;
use crate::error::CliError;
use crate::format::{count, seconds};
use crate::live_job::until_stopped;
use crate::replica_job::{Fed, ReplicaJob, fed_value, fed_words, feed, follow_and_feed};
use crate::replica_progress::{ReplicaDisplay, ReplicaProgress, standing_words};
use crate::signals::{Received, Signals};

/// Loads a replica and feeds it until it is stopped.
pub async fn run(args: &Replicate, global: &Global, console: Console) -> Result<(), CliError> {
    let stop = StopFlag::default();
    let progress = Arc::new(ReplicaProgress::default());
    let job = ReplicaJob::open(
        global,
        console,
        &args.sharing,
        progress.clone(),
        stop.clone(),
    );
    let job = Box::pin(job).await?;
    let snapshot = snapshot(&job, args, global, console).await?;
    let request = ReplicaRequest {
        source: args.table.clone(),
        to: args.to.clone(),
        target_region: args.access.target_region.clone(),
        target_role: args.access.target_role.clone(),
        filter: args.filter.clone(),
        fence: args.fence.into(),
        log: args.from.to_string(),
        snapshot,
        local: args.stream.local_engine,
    };
    let now = SystemClock.now();
    let load = RestoreId::of_execution(&format!("replicate:{:016x}", fastrand::u64(..)), now);
    let planned = plan::plan(&job.deps, &request, load, now).await?;
    if args.dry_run {
        show_plan(&planned, console);
        return Ok(());
    }
    let record = plan::begin(&job.deps, &planned).await?;
    if record.phase == Phase::Load {
        load_it(&job, &record, planned.makes_table, global, console).await?;
        plan::note_target(&job.deps, &record).await?;
    }
    let mut signals = Signals::listen(stop)?;
    let started = Instant::now();
    let follow = (!args.no_follow).then(|| follow_request(args));
    let display = ReplicaDisplay::start(progress, console);
    let apply = apply_request(args);
    let feeding = feed(&job.deps, &record.source_arn, &record.id, &apply, console);
    let work = Box::pin(follow_and_feed(job.live(), follow.as_ref(), feeding));
    let outcome = until_stopped(&mut signals, console, work).await;
    drop(display);
    let (_, fed) = outcome?;
    report(
        &fed,
        started.elapsed().as_secs_f64(),
        signals.received(),
        console,
    )
}

/// The URL of the snapshot that is loaded: the one that is named, the newest that will do, or one that is taken now.
async fn snapshot(
    job: &ReplicaJob,
    args: &Replicate,
    global: &Global,
    console: Console,
) -> Result<String, CliError> {
    if let Some(id) = &args.snapshot {
        return url_of(job, args, id);
    }
    // A replica that was begun goes on with its own.
    if let Ok(arn) = job.source_arn(&args.table).await
        && let Ok(standing) = job.find(&arn, &args.to).await
        && !standing.phase.is_over()
    {
        return Ok(standing.snapshot);
    }
    if let Some(id) = newest(job, args).await? {
        return url_of(job, args, &id);
    }
    if args.dry_run {
        return Err(StepError::ReplicaRefused {
            table: args.table.to_string(),
            reason: format!(
                "{} has no backup of its stream's with a handoff; without --dry-run one is taken",
                args.from
            ),
        }
        .into());
    }
    console.say("no backup with a handoff is there: taking one");
    let (table, to) = (args.table.to_string(), args.from.to_string());
    let mut words = vec!["highwater", "backup", &table, "--to", &to, "--with-stream"];
    if args.stream.local_engine {
        words.extend(["--settle-seconds", "0"]);
    }
    let parsed = Args::try_read(words).map_err(|error| CliError::Usage(error.to_string()))?;
    if let Command::Backup(backup) = &parsed.command {
        Box::pin(super::backup::run(backup, global, console.preliminary())).await?;
    }
    let taken = newest(job, args).await?;
    let taken = taken
        .ok_or_else(|| StepError::Internal("the backup that was taken is not there".into()))?;
    url_of(job, args, &taken)
}

fn url_of(job: &ReplicaJob, args: &Replicate, id: &SnapshotId) -> Result<String, CliError> {
    let layout = Layout::new(args.from.prefix(), args.table.name(), id);
    let store = job
        .deps
        .live
        .stores
        .open(&args.from)
        .map_err(StepError::Store)?;
    Ok(store.url(layout.root().trim_end_matches('/')))
}

/// The newest finished snapshot with a handoff in the stream that the table has now.
async fn newest(job: &ReplicaJob, args: &Replicate) -> Result<Option<SnapshotId>, CliError> {
    let deps = &job.deps.live;
    let described = deps.describer.description(args.table.as_str()).await;
    let stream = StreamedTable::of(&described.map_err(StepError::Table)?).stream;
    let Some(stream) = stream else {
        return Ok(None);
    };
    let store = deps.stores.open(&args.from).map_err(StepError::Store)?;
    let listed =
        list_snapshots::run(store.as_ref(), args.from.prefix(), Some(args.table.name())).await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(StepError::Store(failure)) if failure.kind == FailureKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let fits = |metadata: &highwater_domain::metadata::Metadata| {
        let handoff = metadata.handoff().ok().flatten();
        metadata.status == Status::Completed
            && metadata.selection.is_everything()
            && metadata.max_items == 0
            && handoff.is_some_and(|handoff| handoff.stream_arn == stream.arn)
    };
    let found = listed.into_iter().rev();
    let mut found = found.filter(|it| it.metadata.as_ref().is_some_and(fits));
    Ok(found.next().map(|it| it.snapshot_id))
}

/// Loads the snapshot, or goes on with a load that was stopped.
async fn load_it(
    job: &ReplicaJob,
    record: &ReplicaRecord,
    makes_table: bool,
    global: &Global,
    console: Console,
) -> Result<(), CliError> {
    let known = job.deps.restores.restore(&record.load).await;
    let known = known.map_err(StepError::Control)?;
    if known
        .as_ref()
        .is_some_and(|it| it.value.status == Status::Completed)
    {
        return Ok(());
    }
    let request = plan::load_request(record, makes_table);
    let wanted = match known {
        Some(_) => Wanted::resume(record.load.clone()),
        None => Wanted::New {
            backup: record.snapshot.clone(),
            from: None,
            request,
            dry_run: false,
        },
    };
    let loaded = Box::pin(restore::run_wanted(wanted, global, console.preliminary())).await;
    match loaded {
        // What it does not take is kept with the load, counted, and told at the end.
        Err(CliError::Rejected { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

fn follow_request(args: &Replicate) -> FollowRequest {
    let new = FollowRequest::new(args.table.clone(), args.from.to_string());
    let new = if args.stream.local_engine {
        new.on_local_engine()
    } else {
        new
    };
    let delay = args
        .stream
        .publication_delay
        .map(super::follow::milliseconds);
    FollowRequest {
        worker: args.sharing.worker.clone(),
        publication_ms: delay.unwrap_or(new.publication_ms),
        until_idle: args.until_idle,
        ..new
    }
}

fn apply_request(args: &Replicate) -> ApplyRequest {
    ApplyRequest {
        worker: args.sharing.worker.clone(),
        until_idle: args.until_idle,
        ..ApplyRequest::default()
    }
}

fn show_plan(planned: &PlannedReplica, console: Console) {
    let record = &planned.record;
    let made = if planned.makes_table {
        "made like the source"
    } else {
        "filled"
    };
    let text = match &planned.standing {
        Some(standing) => format!(
            "Would go on with the replica of {} in {}\n  it is in phase {}: {}",
            record.source_arn,
            record.target,
            standing.phase,
            standing_words(standing, SystemClock.now())
        ),
        None => format!(
            "Would replicate {} to {}\n  {} is {made}, its fences are in {}\n  {} items are loaded from {}\n  then every change from {} on is applied from the log in {}\n  Nothing was written.",
            record.source_arn,
            record.target,
            record.target,
            record.fence_table(),
            count(planned.items),
            record.snapshot,
            record.captured_at.to_rfc3339(),
            record.log,
        ),
    };
    let value = json!({
        "makes_table": planned.makes_table,
        "items": planned.items,
        "replica": record,
        "standing": planned.standing,
    });
    console.result(&text, &value);
}

fn report(
    fed: &Fed,
    elapsed: f64,
    signal: Option<Received>,
    console: Console,
) -> Result<(), CliError> {
    let record = &fed.record;
    let end = signal.map_or_else(
        || "the log has no more".to_owned(),
        |signal| format!("stopped by {}; the same command goes on", signal.name),
    );
    let text = format!(
        "Replicated {} to {} for {}\n{}\n  {end}",
        record.source_arn,
        record.target,
        seconds(elapsed),
        fed_words(fed),
    );
    let mut value = fed_value(fed);
    value["seconds"] = json!(elapsed);
    value["stopped_by"] = json!(signal.map(|signal| signal.name));
    console.result(&text, &value);
    let why = ReplicaStatus::of(record.clone(), SystemClock.now()).why;
    if why.is_empty() {
        return Ok(());
    }
    Err(CliError::NeedsAPerson {
        what: record.target.to_string(),
        why: why.join("; "),
        hint: None,
    })
}
