//! `highwater restore` and `highwater load`.

use std::sync::Arc;
use std::time::Instant;

use highwater_aws::Clients;
use highwater_domain::failure::FailureKind;
use highwater_domain::restore::{OnExisting, RestoreId, RestoreRecord};
use highwater_steps::plan_restore;
use highwater_steps::restore_request::{EngineChoice, RestoreRequest, TableOverrides};
use highwater_steps::{RestoreDeps, StepError, StopFlag, restore_status};

use crate::args::Global;
use crate::args::restore::{
    BillingArg, EngineArg, ItemFlags, Load, NewTable, OnOff, Restore, WritePace,
};
use crate::backup_place::{self, BackupPlace};
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::format::count;
use crate::job::Job;
use crate::progress::{Display, LoadCounters};
use crate::restore_report;
use crate::signals::Signals;
use crate::tasks::RestoreTasks;
use crate::workflow::LocalExecution;

/// Restores a backup, or goes on with a restore that was stopped.
pub async fn run(args: &Restore, global: &Global, console: Console) -> Result<(), CliError> {
    let job = match (&args.resume, &args.backup) {
        (Some(id), _) => Wanted::Resume(RestoreRequest {
            restore_id: Some(id.clone()),
            resume: true,
            ..paced(&args.pace)
        }),
        (None, Some(backup)) => Wanted::New {
            backup: backup.clone(),
            from: args.from.clone(),
            request: RestoreRequest {
                to: args.to.clone(),
                into_existing: args.into_existing,
                restore_id: args.id.clone(),
                ..of_items(&args.items, args.into_existing)?
            }
            .with(paced(&args.pace), &args.table),
            dry_run: args.dry_run,
        },
        (None, None) => return Err(CliError::Usage("name a backup to restore".into())),
    };
    restore(job, global, console).await
}

/// Fills an existing table: dyndump's `load`.
pub async fn load(args: &Load, global: &Global, console: Console) -> Result<(), CliError> {
    let backup = match (&args.file, &args.from, &args.s3_bucket, &args.s3_prefix) {
        _ if args.stdin => "-".to_owned(),
        (Some(file), ..) => file
            .to_str()
            .ok_or_else(|| CliError::Usage(format!("{} is not valid UTF-8", file.display())))?
            .to_owned(),
        (_, Some(from), ..) => from.clone(),
        (_, _, Some(bucket), Some(prefix)) => format!("s3://{bucket}/{prefix}"),
        _ => return Err(CliError::Usage("say what to load".into())),
    };
    let request = RestoreRequest {
        to: Some(args.table.clone()),
        into_existing: true,
        ..of_items(&args.items, true)?
    }
    .with(paced(&args.pace), &NewTable::default());
    let job = Wanted::New {
        backup,
        from: None,
        request,
        dry_run: args.dry_run,
    };
    restore(job, global, console).await
}

/// What is to be done.
enum Wanted {
    Resume(RestoreRequest),
    New {
        backup: String,
        from: Option<highwater_domain::layout::Destination>,
        request: RestoreRequest,
        dry_run: bool,
    },
}

fn paced(pace: &WritePace) -> RestoreRequest {
    RestoreRequest {
        concurrency: pace.concurrency,
        write_capacity: pace.write_capacity,
        write_percent: pace.write_percent,
        ..RestoreRequest::default()
    }
}

fn of_items(items: &ItemFlags, into_existing: bool) -> Result<RestoreRequest, CliError> {
    if items.allow_overwrite && !into_existing {
        return Err(CliError::Usage(
            "--allow-overwrite needs --into-existing: a new table has no items".into(),
        ));
    }
    let rejects = match &items.rejects {
        Some(place) => place.to_string(),
        None => default_rejects()?,
    };
    Ok(RestoreRequest {
        on_existing: into_existing.then_some(if items.allow_overwrite {
            OnExisting::Overwrite
        } else {
            OnExisting::Skip
        }),
        filter: items.filter.clone(),
        max_items: items.max_items.filter(|items| *items > 0),
        rejects: Some(rejects),
        fail_fast: items.fail_fast,
        skip_checks: items.skip_checks,
        allow_incomplete: items.allow_incomplete,
        ..RestoreRequest::default()
    })
}

fn default_rejects() -> Result<String, CliError> {
    let here = std::env::current_dir().map_err(CliError::Runtime)?;
    Ok(format!(
        "file://{}",
        here.join("highwater-rejects").display()
    ))
}

/// The two halves of a request that come from flags of their own.
trait With {
    fn with(self, pace: RestoreRequest, table: &NewTable) -> Self;
}

impl With for RestoreRequest {
    fn with(self, pace: RestoreRequest, table: &NewTable) -> Self {
        Self {
            concurrency: pace.concurrency,
            write_capacity: pace.write_capacity,
            write_percent: pace.write_percent,
            engine: match table.engine {
                Some(EngineArg::Write) => EngineChoice::Write,
                Some(EngineArg::ImportTable) => EngineChoice::ImportTable,
                Some(EngineArg::Auto) | None => EngineChoice::Auto,
            },
            key: table.key.clone(),
            settings: overrides(table),
            ..self
        }
    }
}

fn overrides(table: &NewTable) -> TableOverrides {
    TableOverrides {
        billing: match table.billing {
            Some(BillingArg::OnDemand) => highwater_domain::table_plan::Billing::OnDemand,
            Some(BillingArg::AsIs) | None => highwater_domain::table_plan::Billing::AsIs,
        },
        stream_first: table.stream_first,
        no_ttl: table.no_ttl,
        load_write_capacity: table.load_write_capacity,
        deletion_protection: table.deletion_protection.map(|asked| asked == OnOff::On),
    }
}

async fn restore(wanted: Wanted, global: &Global, console: Console) -> Result<(), CliError> {
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let execution = LocalExecution::new();
    let counters = Arc::new(LoadCounters::default());
    let prepared = Box::pin(prepare(
        wanted,
        global,
        console,
        &execution,
        counters.clone(),
        stop,
    ));
    let Some(prepared) = signals.unless_received(prepared).await? else {
        return Ok(());
    };
    let Prepared {
        deps,
        request,
        id,
        expected_items,
        ..
    } = &prepared;

    let started = Instant::now();
    let tasks = RestoreTasks::new(deps.clone());
    let display = Display::start(counters, *expected_items, console);
    let outcome = execution
        .run(
            request,
            &Job::Restore(id.clone()),
            &tasks,
            console,
            &mut signals,
        )
        .await;
    drop(display);
    let elapsed = started.elapsed().as_secs_f64();
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
        (Err(error), record) => Err(with_resume(record.ok(), &execution, id, error)),
    }
}

/// What stands when the workflow may begin.
struct Prepared {
    deps: RestoreDeps,
    request: RestoreRequest,
    id: RestoreId,
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
    // A preview does not look into the control table.
    let nowhere = Control::of(clients.control_table("unused"));
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
    console.say(&restore_report::beginning(&plan));
    let control = connect::control(global, console, Absent::Create).await?;
    Ok(Some(Prepared {
        deps: connect::restore_deps(
            &clients,
            &control,
            connect::control_table(global),
            counters,
            stop,
        ),
        id: input.restore_id()?,
        expected_items: plan.source.items.unwrap_or(0),
        request,
        _place: Some(place),
        _control: control,
    }))
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
    console.say(&format!(
        "Resuming restore {id} into {}: {} items are accounted for",
        record.target,
        count(done.read),
    ));
    Ok(Prepared {
        deps,
        request,
        id,
        expected_items: record.source.items.unwrap_or(0),
        _place: None,
        _control: control,
    })
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
    id: &RestoreId,
    mut error: CliError,
) -> CliError {
    let ours = record.is_some_and(|record| {
        record.request_id == execution.id() && !restore_report::is_spooled(&record)
    });
    match &mut error {
        CliError::Workflow { resumable, .. } => *resumable = ours,
        CliError::Signal { job, .. } => *job = ours.then(|| Job::Restore(id.clone())),
        _ => {}
    }
    error
}
