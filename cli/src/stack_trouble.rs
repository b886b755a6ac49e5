//! What went wrong with a deployed stack, with its way out.

use std::fmt;

use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::stack::TagError;
use highwater_steps::StepError;
use highwater_steps::stack::StackError;

use crate::args::Global;
use crate::args::stack::StackFlags;
use crate::error::{self, CliError};
use crate::job;

/// An error of `start`, `stop` or `watch`: its hint is made where the stack is known.
#[derive(Debug)]
pub struct StackTrouble {
    /// The error's name, for programs.
    pub name: String,
    /// The message.
    pub message: String,
    /// The exit code.
    pub code: u8,
    /// A way out.
    pub hint: Option<String>,
}

impl From<StackTrouble> for CliError {
    fn from(trouble: StackTrouble) -> Self {
        Self::Stack(Box::new(trouble))
    }
}

impl fmt::Display for StackTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A command for this stack that works as it is printed: `highwater <words> --stack NAME`, and the connection.
pub fn command(words: &str, stack: &StackFlags, global: &Global) -> String {
    let mut command = format!("highwater {words} --stack {}", stack.stack);
    let flags = [
        ("--endpoint-url", global.endpoint_url.as_ref()),
        ("--s3-endpoint-url", global.s3_endpoint_url.as_ref()),
        ("--sfn-endpoint-url", stack.sfn_endpoint_url.as_ref()),
        ("--profile", global.profile.as_ref()),
        ("--region", global.region.as_ref()),
    ];
    job::add_flags(&mut command, &flags);
    command
}

impl StackTrouble {
    /// The trouble that an error of the stack is, with a command of this connection as its way out.
    pub fn of(error: &StackError, stack: &StackFlags, global: &Global) -> Self {
        let code = match error {
            StackError::Step(StepError::InvalidInput(_)) => 2,
            _ => 1,
        };
        Self {
            name: error.name().to_owned(),
            message: error.to_string(),
            code,
            hint: hint(error, stack, global),
        }
    }
}

fn hint(error: &StackError, stack: &StackFlags, global: &Global) -> Option<String> {
    Some(match error {
        StackError::Service(failure) => return of_service(failure),
        StackError::Control(failure) => return of_control(failure),
        StackError::NotFound(_) => {
            "check --stack, --region and --profile; the state machines that you may see: aws stepfunctions list-state-machines".into()
        }
        StackError::Incomplete { .. } => "deploy the stack again: sam deploy".into(),
        StackError::Tags { source: TagError::Missing(_), .. } => {
            "it was deployed by another version: deploy this version's template.yaml, which sets them".into()
        }
        StackError::Tags { .. } => "deploy the stack again, which sets its tags: sam deploy".into(),
        StackError::TableNotOfStack { table, .. } => format!(
            "add it to the stack's parameter TableNames and deploy, or back it up from here: highwater backup {table} --to URL"
        ),
        StackError::NameTaken { name, .. } => format!(
            "give another --name, or none; or see what has it: {}",
            command(&format!("watch {name}"), stack, global)
        ),
        StackError::UnknownTarget { .. } => {
            format!("what runs: {}", command("watch", stack, global))
        }
        StackError::NothingRuns { table, .. } => {
            command(&format!("start backup {table}"), stack, global)
        }
        StackError::Ambiguous { executions, .. } => {
            format!("name one: {}", executions.join(", "))
        }
        StackError::NotStopped { source, .. } => return of_service(source),
        StackError::NotMarked { execution, source, .. } => {
            let again = command(&format!("stop {execution}"), stack, global);
            match error::of_step(source) {
                Some(cause) => format!("{cause}; then mark it: {again}"),
                None => format!("mark it: {again}"),
            }
        }
        StackError::Step(error) => return error::of_step(error),
    })
}

fn of_service(failure: &Failure) -> Option<String> {
    Some(match failure.kind {
        FailureKind::Denied => format!(
            "check who you are (aws sts get-caller-identity); it needs states:{}, and docs/OPERATIONS.md lists what else",
            failure.operation
        ),
        FailureKind::Unreachable => {
            "check --sfn-endpoint-url, --endpoint-url, --region and the network; nothing answered there".into()
        }
        FailureKind::Invalid if failure.message.contains("UnknownOperation") => {
            "this endpoint has no Step Functions: give --sfn-endpoint-url".into()
        }
        FailureKind::Throttled | FailureKind::Transient => {
            "Step Functions was busy or out of reach; try again".into()
        }
        _ => return None,
    })
}

/// The way out of a control table that does not answer.
pub fn of_control(failure: &Failure) -> Option<String> {
    Some(match failure.kind {
        FailureKind::Denied => {
            "watching needs dynamodb:GetItem and Query on the stack's control table, and stopping UpdateItem too; docs/OPERATIONS.md lists what else".into()
        }
        FailureKind::NotFound => {
            "the tag highwater:control-table names a table that is not here: check --region, or deploy the stack again".into()
        }
        _ => return error::of_failure(failure),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> StackFlags {
        StackFlags {
            stack: "night".parse().unwrap(),
            sfn_endpoint_url: Some("http://localhost:8083".into()),
        }
    }

    fn global() -> Global {
        Global {
            endpoint_url: None,
            s3_endpoint_url: None,
            profile: Some("ops team".into()),
            region: None,
            control_table: "mine".into(),
            control: None,
            json: false,
            quiet: false,
            log: None,
        }
    }

    #[test]
    fn a_command_works_as_it_is_printed() {
        assert_eq!(
            command("watch one", &stack(), &global()),
            "highwater watch one --stack night --sfn-endpoint-url http://localhost:8083 --profile 'ops team'",
            "the control table is the stack's"
        );
    }

    #[test]
    fn a_refusal_names_the_right_that_is_missing() {
        let denied = |operation| {
            let failure = Failure::new(
                FailureKind::Denied,
                operation,
                "*",
                "AccessDeniedException: no",
            );
            StackTrouble::of(&StackError::Service(failure), &stack(), &global())
        };
        for operation in ["ListStateMachines", "StopExecution"] {
            let hint = denied(operation).hint.unwrap();
            assert!(hint.contains(&format!("states:{operation}")), "{hint}");
        }
    }
}
