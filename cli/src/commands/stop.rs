//! `highwater stop`.

use std::time::Duration;

use highwater_domain::snapshot::Status;
use highwater_steps::stack::{Effect, StackExecution, Stopped, stop};
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::stack::Stop;
use crate::commands::watch::{self, what};
use crate::console::Console;
use crate::error::CliError;
use crate::stack_connection::StackConnection;

/// Stops an execution of a stack.
pub async fn run(args: &Stop, global: &Global, console: Console) -> Result<(), CliError> {
    let stack = StackConnection::open(&args.stack, global, console).await?;
    let found = stack.stack.execution(&stack.ports, &args.target).await;
    let execution = found.map_err(|error| stack.trouble(&error))?;
    if args.dry_run {
        show(&stack, &execution, console);
        return Ok(());
    }
    let executions = stack.ports.executions.as_ref();
    let patience = Duration::from_secs(args.wait);
    let stopped = stop(executions, &stack.deps(), &execution, patience)
        .await
        .map_err(|error| stack.trouble(&error))?;
    tell(&stack, &execution, &stopped, console);
    Ok(())
}

fn show(stack: &StackConnection, execution: &StackExecution, console: Console) {
    let name = &execution.state.name;
    let text = if execution.state.status.has_ended() {
        format!(
            "Execution {name} has ended: {}; what it left as running would be marked failed",
            execution.state.status.as_str()
        )
    } else {
        format!("Would stop execution {name}: {}", what(execution))
    };
    console.result(
        &format!("{text}\nnothing was stopped (--dry-run)"),
        &told(stack, execution, json!({"dry_run": true})),
    );
}

fn tell(stack: &StackConnection, execution: &StackExecution, stopped: &Stopped, console: Console) {
    let name = &execution.state.name;
    let what = what(execution);
    let mut lines = vec![match &stopped.effect {
        Effect::Stopped => format!("Execution {name} is stopped"),
        Effect::HadEnded(status) => format!("Execution {name} had ended: {}", status.as_str()),
        Effect::Completed => {
            format!("Execution {name} was left alone: it is done, and ends by itself")
        }
    }];
    let resume = match (stopped.status, &execution.job) {
        (Some(Status::Failed), Some(job)) => {
            let words = format!(
                "start {} --resume {}",
                job.workflow().as_str(),
                job.as_str()
            );
            Some(stack.command(&words))
        }
        _ => None,
    };
    match (stopped.status, &resume) {
        (_, Some(resume)) => lines.push(format!(
            "{what} is marked failed, what it has done is kept; to go on:\n  {resume}"
        )),
        (Some(status), None) => lines.push(format!("{what} is {}", status.as_str())),
        (None, None) => lines.push("it had begun nothing that would have to be marked".to_owned()),
    }
    console.result(
        &lines.join("\n"),
        &told(
            stack,
            execution,
            json!({
                "stopped": stopped.effect == Effect::Stopped,
                "job_status": stopped.status,
                "may_begin": stopped.may_begin,
                "resume": resume,
            }),
        ),
    );
    if stopped.effect == Effect::Stopped {
        console.say("functions that are under way end by themselves, within 15 minutes");
    }
    if stopped.may_begin {
        console.say(&format!(
            "its plan may still be under way and leave {what} as running, with nobody at work on it; to mark it then: {}",
            stack.command(&format!("stop {name}"))
        ));
    }
}

/// The execution for programs, and more.
fn told(stack: &StackConnection, execution: &StackExecution, more: Value) -> Value {
    let mut value = watch::told(execution);
    if let (Some(members), Value::Object(more)) = (value.as_object_mut(), more) {
        members.insert("stack".into(), stack.stack.name.to_string().into());
        members.extend(more);
    }
    value
}
