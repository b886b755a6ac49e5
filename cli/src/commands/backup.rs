//! `highwater backup`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_aws::{Clients, DynamoDescriber};
use highwater_domain::backoff::Backoff;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::SnapshotId;
use highwater_domain::metadata::Metadata;
use highwater_domain::snapshot::{Compression, SnapshotRecord};
use highwater_domain::stream_source::StreamError;
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::request::BackupRequest;
use highwater_steps::{
    Deps, StepError, StopFlag, capture_handoff, plan_backup, plan_handoff, status,
};
use serde_json::json;

use crate::args::Global;
use crate::args::backup::{self, Backup};
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, per_second, seconds};
use crate::handoff_line;
use crate::job::Job;
use crate::progress::{Counters, Display};
use crate::signals::Signals;
use crate::tasks::StepTasks;
use crate::workflow::LocalExecution;

/// Backs a table up, or goes on with a backup that was stopped.
pub async fn run(args: &Backup, global: &Global, console: Console) -> Result<(), CliError> {
    let request = request(args);
    request.check()?;
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let execution = LocalExecution::new();
    let id = execution.plan_input(request.clone()).snapshot_id()?;
    let counters = Arc::new(Counters::default());
    let prepared = Box::pin(prepare(
        args,
        global,
        console,
        &execution,
        counters.clone(),
        stop,
    ));
    let Some(prepared) = signals.unless_received(prepared).await? else {
        return Ok(());
    };
    let deps = prepared.deps;

    let started = Instant::now();
    let tasks = StepTasks::new(deps.clone());
    let display = Display::start(counters, prepared.expected_items, console);
    let outcome = execution
        .run(
            &request,
            &Job::Backup(id.clone()),
            &tasks,
            console,
            &mut signals,
        )
        .await;
    drop(display);
    if let Err(error) = outcome {
        return Err(with_resume(&deps, &id, &execution, error).await);
    }
    report(&deps, &id, started.elapsed().as_secs_f64(), console).await
}

/// What stands when the workflow may begin.
struct Prepared {
    deps: Deps,
    expected_items: u64,
    _control: Control,
}

/// Connects, shows the plan, opens the control table. `None` if showing the plan was all.
async fn prepare(
    args: &Backup,
    global: &Global,
    console: Console,
    execution: &LocalExecution,
    counters: Arc<Counters>,
    stop: StopFlag,
) -> Result<Option<Prepared>, CliError> {
    let request = request(args);
    let clients = Clients::connect(&connect::settings(global)).await?;
    if let Some(id) = &args.resume {
        // What was begun without this control table cannot be resumed with it: do not make one just to say so.
        let control = connect::control(global, console, Absent::Leave).await;
        let control = control.map_err(|error| unknown_if_absent(error, id))?;
        let deps = connect::deps(&clients, &control, counters.clone(), stop);
        let expected_items = resuming(&deps, id, &counters, console).await;
        let expected_items = expected_items.map_err(|error| unknown_if_absent(error, id))?;
        return Ok(Some(Prepared {
            deps,
            expected_items,
            _control: control,
        }));
    }
    let preview = preview(&clients, execution, &request, stop.clone(), args.dry_run).await?;
    let plan = preview.plan;
    if let Some(handoff) = preview.handoff {
        show_plan(&plan, &handoff, console)?;
        return Ok(None);
    }
    console.say(&beginning(&plan));
    let control = connect::control(global, console, Absent::Create).await?;
    let deps = connect::deps(&clients, &control, counters, stop);
    Ok(Some(Prepared {
        deps,
        expected_items: plan.estimated_items,
        _control: control,
    }))
}

/// Where there are no checkpoints at all there is no backup to resume.
fn unknown_if_absent(error: CliError, id: &SnapshotId) -> CliError {
    match error {
        CliError::Step(StepError::Control(failure)) if failure.kind == FailureKind::NotFound => {
            let place = format!("{}, which is not there", failure.resource);
            StepError::SnapshotNotFound {
                id: id.clone(),
                place,
            }
            .into()
        }
        error => error,
    }
}

pub(super) fn request(args: &Backup) -> BackupRequest {
    let (pace, selection, shape) = (&args.pace, &args.selection, &args.shape);
    if let Some(id) = &args.resume {
        // The plan is frozen; what else the environment may say of it is meant for other backups.
        return BackupRequest {
            table: args.table.clone(),
            to: None,
            snapshot_id: Some(id.clone()),
            resume: true,
            concurrency: pace.concurrency,
            read_capacity: pace.read_capacity,
            read_percent: pace.read_percent,
            ..BackupRequest::default()
        };
    }
    BackupRequest {
        table: args.table.clone(),
        to: args.to.as_ref().map(ToString::to_string),
        snapshot_id: args.id.clone(),
        resume: false,
        segments: pace.segments,
        concurrency: pace.concurrency,
        read_capacity: pace.read_capacity,
        read_percent: pace.read_percent,
        consistent: match (pace.consistent, pace.eventual) {
            (_, true) => Some(false),
            (true, _) => Some(true),
            _ => None,
        },
        filter: selection.filter.clone(),
        projection: selection.projection.clone(),
        names: selection.names.iter().cloned().collect(),
        values: selection.values.iter().cloned().collect(),
        max_items: selection.max_items.filter(|items| *items > 0),
        compression: shape.compression.map(|compression| match compression {
            backup::Compression::Gzip => Compression::Gzip,
            backup::Compression::Zstd => Compression::Zstd,
        }),
        part_bytes: shape.part_size,
        with_stream: args.handoff.with_stream,
        settle_seconds: args.handoff.settle_seconds,
    }
}

/// How long a preview puts up with throttles and passing faults: some ten seconds.
const PATIENCE: Backoff = Backoff {
    base_ms: 100,
    max_ms: 3000,
    attempts: 8,
};

/// What a plan would be, without anything written.
struct Preview {
    plan: SnapshotRecord,
    /// What would be handed over from, where that was asked for.
    handoff: Option<capture_handoff::Preview>,
}

/// The plan, before anything is written. What is not there at all shows at once: a wrong endpoint, a
/// table that does not exist.
async fn preview(
    clients: &Clients,
    execution: &LocalExecution,
    request: &BackupRequest,
    stop: StopFlag,
    and_handoff: bool,
) -> Result<Preview, CliError> {
    // A preview does not look into the control table.
    let nowhere = Control::of(clients.control_table("unused"));
    let deps = Deps {
        describer: Arc::new(DynamoDescriber::new(clients.dynamodb_without_retries())),
        ..connect::deps(clients, &nowhere, Arc::new(Counters::default()), stop)
    };
    let input = execution.plan_input(request.clone());
    for retry in 0.. {
        let error = match look_ahead(&deps, &input, and_handoff).await {
            Ok(preview) => return Ok(preview),
            Err(error) => error,
        };
        let passing = match &error {
            StepError::Table(failure) | StepError::Stream(StreamError::Failed(failure)) => {
                failure.kind.is_retryable()
            }
            _ => false,
        };
        match PATIENCE.wait_ms(retry, fastrand::f64()).filter(|_| passing) {
            Some(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
            None => return Err(error.into()),
        }
    }
    Err(StepError::Internal("a preview was never tried".into()).into())
}

async fn look_ahead(
    deps: &Deps,
    input: &PlanInput,
    and_handoff: bool,
) -> Result<Preview, StepError> {
    let plan = plan_backup::preview(deps, input).await?;
    let handoff = if and_handoff {
        Some(plan_handoff::preview(deps, &input.request, &plan).await?)
    } else {
        None
    };
    Ok(Preview { plan, handoff })
}

/// The line with which a backup begins.
pub fn beginning(plan: &SnapshotRecord) -> String {
    let capacity = match plan.read_capacity {
        units if units > 0.0 => format!("{units} units/s"),
        _ => "unlimited".to_owned(),
    };
    format!(
        "Beginning scan: table={:?} readCapacity={capacity} parallel={} segments={} itemCount={} totalSize={} target={}\nbackup {}",
        plan.table.name(),
        plan.concurrency,
        plan.total_segments,
        plan.estimated_items,
        bytes(plan.estimated_bytes),
        plan.destination,
        plan.id,
    )
}

fn show_plan(
    plan: &SnapshotRecord,
    handoff: &capture_handoff::Preview,
    console: Console,
) -> Result<(), CliError> {
    let value =
        serde_json::to_value(plan).map_err(|error| StepError::Internal(error.to_string()))?;
    // A strongly consistent unit reads 4 KiB, an eventually consistent one twice as much.
    let units = plan.estimated_bytes as f64 / if plan.consistent { 4096.0 } else { 8192.0 };
    let text = format!(
        "{}\n{}\nabout {units:.0} read units{}\nnothing was written (--dry-run)",
        beginning(plan),
        handoff_line::of_preview(handoff, plan.consistent),
        if plan.read_capacity > 0.0 {
            format!(", {} at this pace", seconds(units / plan.read_capacity))
        } else {
            String::new()
        },
    );
    console.result(
        &text,
        &json!({
            "plan": value,
            "handoff": handoff_line::json_of_preview(handoff),
            "estimated_read_units": units,
            "dry_run": true,
        }),
    );
    Ok(())
}

/// Says what a resume begins with. Gives how many items to expect in all.
async fn resuming(
    deps: &Deps,
    id: &SnapshotId,
    counters: &Counters,
    console: Console,
) -> Result<u64, CliError> {
    let record = status::load(deps, id).await?.value;
    let parts = status::progress(deps.control.as_ref(), id).await?.parts;
    counters.resume_from(&parts);
    console.say(&format!(
        "Resuming backup {id} of {}: {} items in {} parts are there",
        record.table,
        count(parts.items),
        count(parts.parts),
    ));
    Ok(record.estimated_items)
}

/// Tells of a way to go on, where this execution left something to go on with.
async fn with_resume(
    deps: &Deps,
    snapshot: &SnapshotId,
    execution: &LocalExecution,
    mut error: CliError,
) -> CliError {
    let record = deps.control.snapshot(snapshot).await.ok().flatten();
    let ours = record.is_some_and(|record| record.value.request_id == execution.id());
    match &mut error {
        CliError::Workflow { resumable, .. } => *resumable = ours,
        CliError::Signal { job, .. } => *job = ours.then(|| Job::Backup(snapshot.clone())),
        _ => {}
    }
    error
}

/// The result, from what the bucket now says.
async fn report(
    deps: &Deps,
    id: &SnapshotId,
    elapsed: f64,
    console: Console,
) -> Result<(), CliError> {
    let record = status::load(deps, id).await?.value;
    let store = status::open_store(deps, &record)?;
    let layout = status::layout(&record)?;
    let metadata = highwater_steps::snapshot_info::metadata(store.as_ref(), &layout, id).await?;
    tell(&metadata, id, &store.url(layout.root()), elapsed, console);
    Ok(())
}

/// The result of a backup that is complete and lies at `url`.
pub fn tell(metadata: &Metadata, id: &SnapshotId, url: &str, elapsed: f64, console: Console) {
    let text = format!(
        "{}\n{}",
        summary(metadata, url, elapsed),
        handoff_line::of(metadata)
    );
    let value = json!({
        "snapshot_id": id,
        "url": url,
        "seconds": elapsed,
        "backup": metadata,
    });
    console.result(&text, &value);
}

fn summary(metadata: &Metadata, url: &str, elapsed: f64) -> String {
    let items = metadata.item_count;
    let scan = &metadata.scan;
    format!(
        "Backup {} of {} is {}\n  {url}\n  {} items in {} parts, {} ({} before compression), {:.1} read units, {}\n  \
         read {} = written {} + skipped {} + rejected 0\nAvg items/sec: {:.2}\nAvg capacity/sec: {:.2}\nTotal items read:  {}",
        metadata
            .snapshot_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        metadata.table_name,
        metadata.status.as_str(),
        count(items),
        count(metadata.part_count),
        bytes(metadata.compressed_bytes),
        bytes(metadata.uncompressed_bytes),
        scan.consumed_capacity,
        seconds(elapsed),
        scan.scanned,
        items,
        scan.scanned.saturating_sub(items),
        per_second(items as f64, elapsed),
        per_second(scan.consumed_capacity, elapsed),
        items,
    )
}
