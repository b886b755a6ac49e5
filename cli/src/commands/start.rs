//! `highwater start`.

use highwater_domain::budget::Clock as _;
use highwater_domain::executions::ExecutionStatus;
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::layout::Destination;
use highwater_domain::restore::RestoreId;
use highwater_domain::stack::{ExecutionName, Workflow};
use highwater_lambda::SystemClock;
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::stack::{JobRequest, Started, start};
use highwater_steps::{ErrorName, StopFlag};
use serde_json::json;

use crate::args::Global;
use crate::args::backup::Backup;
use crate::args::restore::Restore;
use crate::args::stack::{Start, StartBackup, StartFlags, StartRestore, StartWhat};
use crate::backup_place;
use crate::commands::restore::wanted::Wanted;
use crate::commands::{backup, watch};
use crate::console::Console;
use crate::error::CliError;
use crate::signals::Signals;
use crate::stack_connection::StackConnection;
use crate::stack_trouble::StackTrouble;

/// Where a restore keeps the items that its table does not take, below the stack's own place.
const REJECTS: &str = "rejects";

/// Starts one of a stack's state machines.
pub async fn run(args: &Start, global: &Global, console: Console) -> Result<(), CliError> {
    let mut signals = Signals::listen(StopFlag::default())?;
    let (stack, flags) = match &args.what {
        StartWhat::Backup(args) => (&args.stack, &args.start),
        StartWhat::Restore(args) => (&args.stack, &args.start),
    };
    let preparing = async {
        let stack = StackConnection::open(stack, global, console).await?;
        let request = match &args.what {
            StartWhat::Backup(args) => backup_request(args, &stack)?,
            StartWhat::Restore(args) => restore_request(args, &stack).await?,
        };
        request.check()?;
        Ok((stack, request))
    };
    let (stack, request) = signals.unless_received(Box::pin(preparing)).await?;
    let name = flags.name.clone().unwrap_or_else(|| new_name(&request));
    if flags.dry_run {
        return show(&stack, &request, flags, console);
    }
    let starting = async {
        let executions = stack.ports.executions.as_ref();
        let started = start(executions, &stack.stack, &name, &request).await;
        started.map_err(|error| stack.trouble(&error))
    };
    let started = signals.unless_received(starting).await;
    let started = started.map_err(|error| perhaps(&stack, &name, error))?;
    let text = words(&stack, &name, &started);
    if flags.watch {
        console.say(&text);
        return watch::to_the_end(&stack, &started.arn, console, &mut signals).await;
    }
    tell(&stack, &name, &request, &started, &text, console)
}

/// A signal came while the request to start was on its way: the name tells whether it arrived.
fn perhaps(stack: &StackConnection, execution: &ExecutionName, error: CliError) -> CliError {
    let CliError::Signal { name, code, .. } = error else {
        return error;
    };
    let execution = execution.as_str();
    StackTrouble {
        name: ErrorName::Interrupted.as_str().to_owned(),
        message: format!(
            "stopped by {name} while execution {execution} was being started; it may run"
        ),
        code,
        hint: Some(stack.command(&format!("watch {execution}"))),
    }
    .into()
}

/// The request, with the stack's own word for the table and its place.
fn backup_request(args: &StartBackup, stack: &StackConnection) -> Result<JobRequest, CliError> {
    let table = args.table.as_ref().map(|table| stack.stack.table(table));
    let table = table.transpose().map_err(|error| stack.trouble(&error))?;
    let request = backup::request(&Backup {
        table: table.cloned(),
        to: Some(stack.stack.tags.to.clone()),
        resume: args.resume.clone(),
        id: args.id.clone(),
        dry_run: false,
        pace: args.pace.clone(),
        selection: args.selection.clone(),
        shape: args.shape.clone(),
        handoff: args.handoff.clone(),
    });
    Ok(JobRequest::Backup(Box::new(request)))
}

/// The request that `highwater restore` would make, but with nothing that is on this machine.
async fn restore_request(
    args: &StartRestore,
    stack: &StackConnection,
) -> Result<JobRequest, CliError> {
    let home = &stack.stack.tags.to;
    let wanted = Wanted::by_restore(&Restore {
        backup: args.backup.clone(),
        from: Some(args.from.clone().unwrap_or_else(|| home.clone())),
        to: args.to.clone(),
        resume: args.resume.clone(),
        id: args.id.clone(),
        dry_run: false,
        into_existing: args.into_existing,
        second: args.second.clone(),
        items: args.items.clone(),
        pace: args.pace.clone(),
        table: args.table.clone(),
    })?;
    let request = match wanted {
        Wanted::Resume(request) => request,
        Wanted::New {
            backup,
            from,
            request,
            ..
        } => {
            let backup = location(&backup, from.as_ref(), stack).await?;
            let home = home.to_string();
            let rejects = args.items.rejects.as_ref().map(ToString::to_string);
            let rejects =
                rejects.unwrap_or_else(|| format!("{}/{REJECTS}", home.trim_end_matches('/')));
            RestoreRequest {
                backup: Some(reachable(backup, "the backup")?),
                rejects: Some(reachable(rejects, "--rejects")?),
                // Beside the log, where the stack's functions may write.
                work: args.second.work.as_ref().map(ToString::to_string),
                ..request
            }
        }
    };
    Ok(JobRequest::Restore(Box::new(request)))
}

/// Where the backup is. What is no URL is an id: files and standard input are out of the functions' reach.
async fn location(
    backup: &str,
    from: Option<&Destination>,
    stack: &StackConnection,
) -> Result<String, CliError> {
    let is_id = backup.parse::<SnapshotId>().is_ok();
    if !is_id && !backup.contains("://") {
        return Err(CliError::Usage(format!(
            "{backup:?} is neither a backup's id nor s3://BUCKET/KEY; with --at it may be one of the stack's tables; files are restored from here: highwater restore"
        )));
    }
    let place = backup_place::find(backup, from, stack.global()).await?;
    Ok(place.location.to_string())
}

/// A place that a function can reach.
fn reachable(place: String, what: &str) -> Result<String, CliError> {
    if place.starts_with("s3://") {
        return Ok(place);
    }
    Err(CliError::Usage(format!(
        "{what} is at {place}, which the stack's functions cannot reach: name a place in S3, s3://BUCKET/…"
    )))
}

fn new_name(request: &JobRequest) -> ExecutionName {
    let resumed = match request {
        JobRequest::Backup(request) => request.snapshot_id.as_ref().map(SnapshotId::as_str),
        JobRequest::Restore(request) => request.restore_id.as_ref().map(RestoreId::as_str),
    };
    let about = request.table().map(TableRef::name).or(resumed);
    ExecutionName::new(
        request.workflow(),
        about.unwrap_or("resume"),
        SystemClock.now(),
        fastrand::u32(..),
    )
}

/// Shows the input of `--dry-run`.
fn show(
    stack: &StackConnection,
    request: &JobRequest,
    flags: &StartFlags,
    console: Console,
) -> Result<(), CliError> {
    let input = request.input()?;
    let machine = stack.stack.machine(request.workflow());
    let pretty = serde_json::to_string_pretty(&input).unwrap_or_default();
    let name = flags.name.as_ref().map(ExecutionName::as_str);
    let text = format!(
        "Would start {} ({}){}\n{pretty}\nnothing was started (--dry-run)",
        machine.name,
        machine.arn,
        name.map(|name| format!(" as {name}")).unwrap_or_default(),
    );
    console.result(
        &text,
        &json!({
            "stack": stack.stack.name.to_string(),
            "state_machine_arn": machine.arn,
            "name": name,
            "input": input,
            "dry_run": true,
        }),
    );
    Ok(())
}

fn words(stack: &StackConnection, name: &ExecutionName, started: &Started) -> String {
    let did = match &started.before {
        None => "Started".to_owned(),
        Some(ExecutionStatus::Running) => "Was started before, and runs:".to_owned(),
        Some(status) => format!(
            "Was started before, and is {}; nothing new was started:",
            status.as_str()
        ),
    };
    format!(
        "{did} execution {} of stack {}\n  {}\n{}",
        name.as_str(),
        stack.stack.name,
        started.arn,
        started.job
    )
}

fn tell(
    stack: &StackConnection,
    name: &ExecutionName,
    request: &JobRequest,
    started: &Started,
    text: &str,
    console: Console,
) -> Result<(), CliError> {
    let id = match started.job.workflow() {
        Workflow::Backup => "snapshot_id",
        Workflow::Restore => "restore_id",
    };
    let watch = stack.command(&format!("watch {}", name.as_str()));
    console.result(
        text,
        &json!({
            "stack": stack.stack.name.to_string(),
            "execution_arn": started.arn,
            "execution": name.as_str(),
            "started_at": started.started_at.to_rfc3339(),
            "before": started.before.as_ref().map(ExecutionStatus::as_str),
            "input": request.input()?,
            id: started.job.as_str(),
        }),
    );
    console.say(&format!("watch it: {watch}"));
    Ok(())
}
