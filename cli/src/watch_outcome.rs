//! How an execution of a deployed stack ended: the same results and exit codes as of a job of this machine.

use highwater_domain::executions::ExecutionStatus;
use highwater_domain::ids::SnapshotId;
use highwater_domain::metadata::Metadata;
use highwater_domain::restore::{RestoreId, RestoreRecord};
use highwater_domain::snapshot::{SnapshotRecord, Status};
use highwater_steps::stack::{JobId, StackError, StackExecution};
use highwater_steps::{ErrorName, RestoreDeps, status};

use crate::commands::backup;
use crate::commands::watch::{told, what};
use crate::console::Console;
use crate::error::{self, CliError};
use crate::restore_report;
use crate::stack_connection::StackConnection;
use crate::stack_trouble::StackTrouble;

/// Tells how it ended: the result on standard output, or the error that a command of this machine would give.
pub async fn tell(
    stack: &StackConnection,
    deps: &RestoreDeps,
    execution: &StackExecution,
    console: Console,
) -> Result<(), CliError> {
    let end = End {
        stack,
        deps,
        execution,
        console,
    };
    match &execution.job {
        Some(JobId::Backup(id)) => end.of_backup(id).await,
        Some(JobId::Restore(id)) => end.of_restore(id).await,
        None => end.of_nothing(),
    }
}

struct End<'a> {
    stack: &'a StackConnection,
    deps: &'a RestoreDeps,
    execution: &'a StackExecution,
    console: Console,
}

impl End<'_> {
    fn succeeded(&self) -> bool {
        self.execution.state.status == ExecutionStatus::Succeeded
    }

    /// How long it took, in seconds.
    fn elapsed(&self) -> f64 {
        let state = &self.execution.state;
        let until = state.stopped_at.unwrap_or(state.started_at);
        until.since(state.started_at) as f64 / 1000.0
    }

    async fn of_backup(&self, id: &SnapshotId) -> Result<(), CliError> {
        let control = self.deps.snapshots.control.as_ref();
        let record = control.snapshot(id).await;
        let record = record.map_err(|error| self.stack.trouble(&StackError::Control(error)))?;
        let record = record.map(|it| it.value);
        match record {
            // A resume of what is complete changes nothing, not even whose it is.
            Some(record) if self.succeeded() && record.status == Status::Completed => {
                self.completed(&record).await
            }
            _ if self.succeeded() => self.of_nothing(),
            record => {
                let ours = record.filter(|it| it.request_id == self.execution.state.arn);
                Err(self.failure(ours.map(|it| it.status)))
            }
        }
    }

    async fn completed(&self, record: &SnapshotRecord) -> Result<(), CliError> {
        let deps = &self.deps.snapshots;
        let progress = status::progress(deps.control.as_ref(), &record.id).await?;
        let metadata = Metadata::of(record, &progress.parts, &progress.scan);
        // Names the place. Nothing is read from there.
        let store = status::open_store(deps, record)?;
        let url = store.url(status::layout(record)?.root());
        backup::tell(&metadata, &record.id, &url, self.elapsed(), self.console);
        Ok(())
    }

    async fn of_restore(&self, id: &RestoreId) -> Result<(), CliError> {
        let record = self.deps.restores.restore(id).await;
        let record = record.map_err(|error| self.stack.trouble(&StackError::Control(error)))?;
        let record: Option<RestoreRecord> = record.map(|it| it.value);
        let ours = |it: &RestoreRecord| it.request_id == self.execution.state.arn;
        match record {
            Some(record) if self.succeeded() && record.status == Status::Completed => {
                restore_report::result(&record, self.elapsed(), self.console);
                Ok(())
            }
            // It went to its end, and some items are not in the table.
            Some(record) if ours(&record) && restore_report::ended_with_rejects(&record) => {
                restore_report::result(&record, self.elapsed(), self.console);
                Err(restore_report::rejected(&record))
            }
            _ if self.succeeded() => self.of_nothing(),
            record => {
                let ours = record.filter(ours);
                Err(self.failure(ours.map(|it| it.status)))
            }
        }
    }

    /// Of an execution of which the control table tells nothing.
    fn of_nothing(&self) -> Result<(), CliError> {
        if !self.succeeded() {
            return Err(self.failure(None));
        }
        let state = &self.execution.state;
        self.console.result(
            &format!(
                "Execution {} is {}; the control table {} has no record of it",
                state.name,
                state.status.as_str(),
                self.stack.stack.tags.control_table
            ),
            &told(self.execution),
        );
        Ok(())
    }

    /// The error of an execution that did not succeed. `status` is that of what it made, as long as it is its own.
    fn failure(&self, status: Option<Status>) -> CliError {
        let state = &self.execution.state;
        let what = what(self.execution);
        let name = state.error.as_deref();
        let cause = error::message_in(state.cause.as_deref().unwrap_or_default());
        let why = match (name, cause.as_str()) {
            (Some(name), "") => format!(": {name}"),
            (Some(name), cause) => format!(": {name}: {cause}"),
            (None, "") => String::new(),
            (None, cause) => format!(": {cause}"),
        };
        let message = match &state.status {
            ExecutionStatus::Aborted => format!("{what} was stopped{why}"),
            ExecutionStatus::TimedOut => {
                format!("{what} took longer than its state machine allows{why}")
            }
            _ => format!("{what} failed{why}"),
        };
        StackTrouble {
            name: name.unwrap_or(state.status.as_str()).to_owned(),
            message,
            code: match name {
                Some("InvalidInput") => 2,
                _ => 1,
            },
            hint: Some(self.hint(name, &cause, status)),
        }
        .into()
    }

    fn hint(&self, name: Option<&str>, cause: &str, status: Option<Status>) -> String {
        let state = &self.execution.state;
        let way_out = match name.and_then(ErrorName::parse) {
            // Those of the functions, not of whoever watches.
            Some(ErrorName::AccessDenied) => Some(
                "the function's role lacks a right: deploy this version's template.yaml, and see that key and bucket policies let it".to_owned(),
            ),
            Some(ErrorName::Config) => Some("deploy the stack again: sam deploy".to_owned()),
            Some(ErrorName::SnapshotNotFound | ErrorName::RestoreNotFound) => {
                Some(format!("highwater list {} shows what is there", self.stack.stack.tags.to))
            }
            Some(ErrorName::Interrupted) => None,
            Some(name) => error::of_name(name, cause).map(str::to_owned),
            None if state.status == ExecutionStatus::Aborted => None,
            None => Some(format!(
                "what it did, state by state: aws stepfunctions get-execution-history --execution-arn {}",
                state.arn
            )),
        };
        let next = match (status, &self.execution.job) {
            (Some(Status::Failed), Some(job)) => {
                let words = format!(
                    "start {} --resume {}",
                    job.workflow().as_str(),
                    job.as_str()
                );
                Some(self.stack.command(&words))
            }
            // Nobody has marked it: an execution that is stopped by other means runs no Catch.
            (Some(Status::Running), Some(_)) => {
                let mark = self.stack.command(&format!("stop {}", state.name));
                Some(format!(
                    "{mark} (marks it failed, so that it can be resumed)"
                ))
            }
            _ => None,
        };
        match (way_out, next) {
            (Some(way_out), Some(next)) => format!("{way_out}; then: {next}"),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => format!(
                "highwater list {} shows what is there",
                self.stack.stack.tags.to
            ),
        }
    }
}
