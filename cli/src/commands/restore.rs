//! `highwater restore`, `highwater load` and `highwater materialize`.

pub(super) mod wanted;

use std::sync::Arc;
use std::time::Instant;

use highwater_aws::Clients;
use highwater_domain::failure::FailureKind;
use highwater_domain::restore::{RestoreId, RestoreRecord};
use highwater_steps::plan_restore;
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::{RestoreDeps, StepError, StopFlag, restore_status};
use serde_json::Value;

use crate::args::Global;
use crate::args::materialize::Materialize;
use crate::args::restore::{Load, Restore};
use crate::backup_place::{self, BackupPlace};
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::format::{count, per_second};
use crate::job::Job;
use crate::job_log::{JobLog, Ticking};
use crate::progress::{Display, LoadCounters};
use crate::restore_report;
use crate::signals::Signals;
use crate::tasks::RestoreTasks;
use crate::workflow::LocalExecution;
pub(super) use wanted::Wanted;

/// Restores a backup, or goes on with a restore that was stopped.
pub async fn run(args: &Restore, global: &Global, console: Console) -> Result<(), CliError> {
    let job = Wanted::by_restore(args)?;
    restore(job, &Manners::default(), global, console).await
}

/// Makes a snapshot in the place of a table.
pub async fn materialize(
    args: &Materialize,
    global: &Global,
    console: Console,
) -> Result<(), CliError> {
    let job = Wanted::by_materialize(args)?;
    restore(job, &Manners::default(), global, console).await
}

/// Does a restore that is a part of another job.
pub(super) async fn run_wanted(
    wanted: Wanted,
    global: &Global,
    console: Console,
) -> Result<(), CliError> {
    restore(wanted, &Manners::default(), global, console).await
}

/// How a restore talks, and how often it tries.
#[derive(Default)]
struct Manners {
    max_retries: Option<u32>,
    no_progress: bool,
    log: Option<JobLog>,
}

/// Fills an existing table: dyndump's `load`.
pub async fn load(args: &Load, global: &Global, console: Console) -> Result<(), CliError> {
    let talk = &args.talk;
    let console = if talk.silent {
        console.silenced()
    } else {
        console
    };
    let log = JobLog::open(talk.log_to.as_deref(), &talk.log_timestamp)?;
    if log.is_on_stdout() && global.json {
        return Err(CliError::Usage(
            "the log would mix with the JSON on standard output: --log-to stderr, or a file".into(),
        ));
    }
    let manners = Manners {
        max_retries: args.max_retries,
        no_progress: talk.no_progress,
        log: Some(log.clone()),
    };
    let job = Wanted::by_load(args)?;
    if args.dry_run {
        return restore(job, &manners, global, console).await;
    }
    let outcome = restore(job, &manners, global, console).await;
    let table = args.table.name();
    match &outcome {
        Ok(()) => log.line(&format!("Restore completed OK table={table}")),
        Err(CliError::Signal { .. }) => log.line("Aborted"),
        Err(error) => log.line(&format!("Restore failed table={table} error={error}")),
    }
    outcome
}

async fn restore(
    wanted: Wanted,
    manners: &Manners,
    global: &Global,
    console: Console,
) -> Result<(), CliError> {
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let execution = match manners.max_retries {
        Some(_) => LocalExecution::new().without_retries(),
        None => LocalExecution::new(),
    };
    let counters = Arc::new(LoadCounters::default());
    let prepared = Box::pin(prepare(
        wanted,
        global,
        console,
        &execution,
        counters.clone(),
        stop,
    ));
    let Some(mut prepared) = signals.unless_received(prepared).await? else {
        return Ok(());
    };
    prepared.deps.max_retries = manners.max_retries;
    let Prepared {
        deps,
        request,
        job,
        id,
        expected_items,
        ..
    } = &prepared;

    let started = Instant::now();
    let tasks = RestoreTasks::new(deps.clone());
    let shown_on = if manners.no_progress {
        console.silenced()
    } else {
        console
    };
    let display = Display::start(counters.clone(), *expected_items, shown_on);
    let ticking = manners
        .log
        .as_ref()
        .map(|log| tick(log, request, counters, started));
    let outcome = execution
        .run(request, job, &tasks, console, &mut signals)
        .await;
    drop((display, ticking));
    let elapsed = started.elapsed().as_secs_f64();
    tell(deps, (id, job), &execution, outcome, elapsed, console).await
}

/// The result on standard output, or what went wrong and how to go on.
async fn tell(
    deps: &RestoreDeps,
    (id, job): (&RestoreId, &Job),
    execution: &LocalExecution,
    outcome: Result<Value, CliError>,
    elapsed: f64,
    console: Console,
) -> Result<(), CliError> {
    let record = restore_status::load(deps, id)
        .await
        .map(|known| known.value);
    match (outcome, record) {
        (Ok(_), record) => {
            restore_report::result(&record?, elapsed, console);
            Ok(())
        }
        // It went to its end, and some items are not in the table.
        (Err(_), Ok(record)) if restore_report::ended_with_rejects(&record) => {
            restore_report::result(&record, elapsed, console);
            Err(restore_report::rejected(&record))
        }
        (Err(error), record) => Err(with_resume(record.ok(), execution, job, error)),
    }
}

/// Tells the job's log how far it is, every now and then.
fn tick(
    log: &JobLog,
    request: &RestoreRequest,
    counters: Arc<LoadCounters>,
    started: Instant,
) -> Ticking {
    let table = request
        .to
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    log.line(&format!(
        "Beginning restore: table={table:?} source={:?}",
        request.backup.as_deref().unwrap_or_default()
    ));
    log.progress(move || {
        let totals = counters.so_far();
        let elapsed = started.elapsed().as_secs_f64();
        format!(
            "Restore in progress - current stats table={table} avg_items_sec={:.2} avg_capacity_sec={:.2} total_items_written={} total_items_skipped={}",
            per_second(totals.written as f64, elapsed),
            per_second(totals.consumed_capacity, elapsed),
            totals.written,
            totals.skipped(),
        )
    })
}

/// What stands when the workflow may begin.
struct Prepared {
    deps: RestoreDeps,
    request: RestoreRequest,
    id: RestoreId,
    job: Job,
    expected_items: u64,
    _place: Option<BackupPlace>,
    _control: Control,
}

/// Connects, shows the plan, opens the control table. `None` if showing the plan was all.
async fn prepare(
    wanted: Wanted,
    global: &Global,
    console: Console,
    execution: &LocalExecution,
    counters: Arc<LoadCounters>,
    stop: StopFlag,
) -> Result<Option<Prepared>, CliError> {
    let clients = Clients::connect(&connect::settings(global)).await?;
    let (backup, from, mut request, dry_run) = match wanted {
        Wanted::Resume(request) => {
            return resume(&clients, request, global, console, counters, stop)
                .await
                .map(Some);
        }
        Wanted::New {
            backup,
            from,
            request,
            dry_run,
        } => (backup, from, request, dry_run),
    };
    let place = backup_place::find(&backup, from.as_ref(), global).await?;
    request.backup = Some(place.location.to_string());
    let input = execution.restore_input(request.clone());
    // A preview does not look into the control table, but for where a replica is.
    let nowhere = if request.replica.is_some() {
        connect::control(global, console, Absent::Create).await?
    } else {
        Control::of(clients.control_table("unused"))
    };
    let deps = connect::restore_deps(
        &clients,
        &nowhere,
        connect::control_table(global),
        counters.clone(),
        stop.clone(),
    );
    let plan = plan_restore::preview(&deps, &input).await?;
    if dry_run {
        restore_report::plan(&plan, console);
        return Ok(None);
    }
    announce(&plan, console);
    let control = connect::control(global, console, Absent::Create).await?;
    let id = input.restore_id()?;
    let job = job_of(&plan);
    let known = control.restores.restore(&id).await;
    if known.map_err(StepError::Control)?.is_some() {
        return Err(StepError::RestoreExists(id).into());
    }
    Ok(Some(Prepared {
        deps: connect::restore_deps(
            &clients,
            &control,
            connect::control_table(global),
            counters,
            stop,
        ),
        id,
        job,
        expected_items: plan.source.items.unwrap_or(0),
        request,
        _place: Some(place),
        _control: control,
    }))
}

/// Says what begins, and what of it cannot be checked.
fn announce(plan: &RestoreRecord, console: Console) {
    console.say(&restore_report::beginning(plan));
    for line in restore_report::unchecked(plan) {
        console.say(&line);
    }
    if plan.skip_checks {
        console.say("not checked: hashes and counts are not compared with what the backup says, as was asked");
    }
}

/// Says what a resume begins with.
async fn resume(
    clients: &Clients,
    request: RestoreRequest,
    global: &Global,
    console: Console,
    counters: Arc<LoadCounters>,
    stop: StopFlag,
) -> Result<Prepared, CliError> {
    request.check()?;
    let Some(id) = request.restore_id.clone() else {
        return Err(CliError::Usage("a resume needs the restore's id".into()));
    };
    // What was begun without this control table cannot be resumed with it: do not make one just to say so.
    let control = connect::control(global, console, Absent::Leave).await;
    let control = control.map_err(|error| unknown_if_absent(error, &id))?;
    let deps = connect::restore_deps(
        clients,
        &control,
        connect::control_table(global),
        counters.clone(),
        stop,
    );
    let record = restore_status::load(&deps, &id).await;
    let record = record
        .map_err(|error| unknown_if_absent(error.into(), &id))?
        .value;
    let done = restore_status::totals(&deps, &id).await?.totals;
    counters.resume_from(&done);
    let job = job_of(&record);
    let into = match &record.materialize {
        Some(place) => place.clone(),
        None => record.target.to_string(),
    };
    console.say(&format!(
        "Resuming {job} into {into}: {} items are accounted for",
        count(done.read),
    ));
    Ok(Prepared {
        deps,
        request,
        id,
        job,
        expected_items: record.source.items.unwrap_or(0),
        _place: None,
        _control: control,
    })
}

/// By which command it is resumed.
fn job_of(record: &RestoreRecord) -> Job {
    match record.materialize {
        Some(_) => Job::Materialize(record.id.clone()),
        None => Job::Restore(record.id.clone()),
    }
}

/// Where there are no checkpoints at all there is no restore to resume.
fn unknown_if_absent(error: CliError, id: &RestoreId) -> CliError {
    match error {
        CliError::Step(StepError::Control(failure)) if failure.kind == FailureKind::NotFound => {
            StepError::RestoreNotFound(id.clone()).into()
        }
        error => error,
    }
}

/// Tells of a way to go on, where this execution left something to go on with.
fn with_resume(
    record: Option<RestoreRecord>,
    execution: &LocalExecution,
    begun: &Job,
    mut error: CliError,
) -> CliError {
    let ours = record.is_some_and(|record| {
        record.request_id == execution.id() && !restore_report::is_spooled(&record)
    });
    match &mut error {
        CliError::Workflow { resumable, .. } => *resumable = ours,
        CliError::Signal { job, .. } => *job = ours.then(|| begun.clone()),
        _ => {}
    }
    error
}
