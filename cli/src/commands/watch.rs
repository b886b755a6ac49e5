//! `highwater watch`.

use std::time::Duration;

use highwater_domain::budget::Clock as _;
use highwater_domain::stack::Workflow;
use highwater_lambda::SystemClock;
use highwater_steps::stack::{JobId, StackError, StackExecution};
use highwater_steps::{ErrorName, StopFlag};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::args::Global;
use crate::args::stack::Watch;
use crate::console::Console;
use crate::error::CliError;
use crate::format::seconds;
use crate::signals::Signals;
use crate::stack_connection::StackConnection;
use crate::stack_trouble::StackTrouble;
use crate::watching;

/// Watches an execution of a stack, or tells which there are.
pub async fn run(args: &Watch, global: &Global, console: Console) -> Result<(), CliError> {
    let mut signals = Signals::listen(StopFlag::default())?;
    let opening = StackConnection::open(&args.stack, global, console);
    let stack = signals.unless_received(Box::pin(opening)).await?;
    let finding = choose(&stack, args.target.as_deref());
    match signals.unless_received(finding).await? {
        Chosen::One(execution) => watch(&stack, *execution, console, &mut signals).await,
        Chosen::Several(executions) => {
            list(&stack, &executions, console);
            Ok(())
        }
    }
}

enum Chosen {
    One(Box<StackExecution>),
    Several(Vec<StackExecution>),
}

async fn choose(stack: &StackConnection, target: Option<&str>) -> Result<Chosen, CliError> {
    let Some(target) = target else {
        let running = stack.stack.running(&stack.ports).await;
        let mut running = running.map_err(|error| stack.trouble(&error))?;
        return Ok(match running.pop() {
            Some(only) if running.is_empty() => Chosen::One(Box::new(only)),
            last => Chosen::Several(running.into_iter().chain(last).collect()),
        });
    };
    let found = stack.stack.execution(&stack.ports, target).await;
    let found = found.map_err(|error| stack.trouble(&error))?;
    Ok(Chosen::One(Box::new(found)))
}

/// How long, in seconds, a new execution may be missing from what Step Functions describes.
const APPEARS_WITHIN: u32 = 30;

/// Watches an execution that was just started.
pub(super) async fn to_the_end(
    stack: &StackConnection,
    arn: &str,
    console: Console,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let finding = async {
        for _ in 0..APPEARS_WITHIN {
            match stack.stack.execution(&stack.ports, arn).await {
                Err(StackError::UnknownTarget { .. }) => sleep(Duration::from_secs(1)).await,
                found => return found.map_err(|error| stack.trouble(&error)),
            }
        }
        let found = stack.stack.execution(&stack.ports, arn).await;
        found.map_err(|error| stack.trouble(&error))
    };
    let name = arn.rsplit(':').next().unwrap_or(arn);
    let found = signals.unless_received(finding).await;
    let execution = found.map_err(|error| goes_on(stack, name, error))?;
    watch(stack, execution, console, signals).await
}

async fn watch(
    stack: &StackConnection,
    execution: StackExecution,
    console: Console,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let name = execution.state.name.clone();
    let watching = Box::pin(watching::watch(stack, execution, console));
    let outcome = signals.unless_received(watching).await;
    outcome.map_err(|error| goes_on(stack, &name, error))
}

/// A signal ends the watching and nothing else: says so.
fn goes_on(stack: &StackConnection, execution: &str, error: CliError) -> CliError {
    let CliError::Signal { name, code, .. } = error else {
        return error;
    };
    StackTrouble {
        name: ErrorName::Interrupted.as_str().to_owned(),
        message: format!("stopped watching by {name}; execution {execution} goes on"),
        code,
        hint: Some(format!(
            "{}, or stop it: {}",
            stack.command(&format!("watch {execution}")),
            stack.command(&format!("stop {execution}"))
        )),
    }
    .into()
}

fn list(stack: &StackConnection, executions: &[StackExecution], console: Console) {
    let name = &stack.stack.name;
    let value = json!({
        "stack": name.to_string(),
        "executions": executions.iter().map(told).collect::<Vec<Value>>(),
    });
    if executions.is_empty() {
        console.result(&format!("Nothing runs in stack {name}"), &value);
        return;
    }
    let now = SystemClock.now();
    let lines: Vec<String> = executions
        .iter()
        .map(|it| {
            let age = seconds(now.since(it.state.started_at) as f64 / 1000.0);
            format!("{}  {}, for {age}", it.state.name, what(it))
        })
        .collect();
    console.result(&lines.join("\n"), &value);
    console.say(&format!(
        "name one to watch it: {}",
        stack.command("watch EXECUTION")
    ));
}

/// What an execution is about, for people: `backup 01768385930622-efd1a093 of orders`.
pub(crate) fn what(execution: &StackExecution) -> String {
    let job = execution
        .job
        .as_ref()
        .map_or_else(|| execution.workflow.as_str().to_owned(), JobId::to_string);
    match (&execution.table, execution.workflow) {
        (Some(table), Workflow::Backup) => format!("{job} of {table}"),
        (Some(table), Workflow::Restore) => format!("{job} into {table}"),
        (None, _) => job,
    }
}

/// An execution for programs.
pub(crate) fn told(execution: &StackExecution) -> Value {
    let id = match execution.workflow {
        Workflow::Backup => "snapshot_id",
        Workflow::Restore => "restore_id",
    };
    json!({
        "execution": execution.state.name,
        "execution_arn": execution.state.arn,
        "status": execution.state.status.as_str(),
        "started_at": execution.state.started_at.to_rfc3339(),
        "workflow": execution.workflow.as_str(),
        "table": execution.table,
        id: execution.job.as_ref().map(JobId::as_str),
    })
}
