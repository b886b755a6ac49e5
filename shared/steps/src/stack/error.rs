//! What keeps a command from a stack.

use highwater_domain::failure::Failure;
use highwater_domain::stack::TagError;
use thiserror::Error;

use crate::error::StepError;
use crate::stack::JobId;

/// A stack that cannot be worked on as it was asked for.
#[derive(Debug, Error)]
pub enum StackError {
    /// A call to Step Functions failed.
    #[error(transparent)]
    Service(Failure),
    /// A call to the control table failed.
    #[error(transparent)]
    Control(Failure),
    /// No state machine has the stack's names.
    #[error("there is no stack {0} here: no state machine is called {0}-backup or {0}-restore")]
    NotFound(String),
    /// One of the two has, the other has not.
    #[error("stack {stack} is not whole: no state machine is called {machine}")]
    Incomplete {
        /// The stack.
        stack: String,
        /// The machine that is not there.
        machine: String,
    },
    /// The tags do not say what belongs to the stack.
    #[error("state machine {machine} {source}")]
    Tags {
        /// The machine.
        machine: String,
        /// What is wrong with them.
        #[source]
        source: TagError,
    },
    /// The stack protects other tables.
    #[error("table {table} is none of stack {stack}'s, which are {tables}")]
    TableNotOfStack {
        /// The table.
        table: String,
        /// The stack.
        stack: String,
        /// Its tables.
        tables: String,
    },
    /// The name was given to another request.
    #[error("the name {name} is taken: it was given to an execution with another input{}", .status.as_ref().map(|it| format!(", which is {it}")).unwrap_or_default())]
    NameTaken {
        /// The name.
        name: String,
        /// Where that execution is, if it could be asked.
        status: Option<String>,
    },
    /// Neither an execution, nor a table, nor an id of this stack.
    #[error(
        "stack {stack} knows no {target}: no execution, no table that one is at work on, and no id has this name"
    )]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// The stack.
        stack: String,
    },
    /// Nobody is at work on the table.
    #[error("no execution of stack {stack} is at work on table {table}")]
    NothingRuns {
        /// The table.
        table: String,
        /// The stack.
        stack: String,
    },
    /// Several are at work on it.
    #[error("{} executions are at work on table {table}: {}", .executions.len(), .executions.join(", "))]
    Ambiguous {
        /// The table.
        table: String,
        /// The executions' names.
        executions: Vec<String>,
    },
    /// The execution goes on. Its snapshot or restore may be marked failed: then it ends by itself at its next look.
    #[error("execution {execution} could not be stopped: {source}{}", .marked.as_ref().map(|job| format!("; {job} is marked failed, so that it ends by itself with its next state")).unwrap_or_default())]
    NotStopped {
        /// The execution's name.
        execution: String,
        /// What was marked.
        marked: Option<JobId>,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// The execution has ended, and its snapshot or restore still says that it runs.
    #[error("execution {execution} is stopped, but {job} could not be marked failed: {source}")]
    NotMarked {
        /// The execution's name.
        execution: String,
        /// What is to be marked.
        job: JobId,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// The request is none, or a step over the control table failed.
    #[error(transparent)]
    Step(StepError),
}

impl StackError {
    /// The error's name, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Service(_) => "StepFunctions",
            Self::Control(_) => "ControlTable",
            Self::NotFound(_) => "StackNotFound",
            Self::Incomplete { .. } => "StackIncomplete",
            Self::Tags { .. } => "StackTags",
            Self::TableNotOfStack { .. } => "TableNotOfStack",
            Self::NameTaken { .. } => "ExecutionNameTaken",
            Self::UnknownTarget { .. } => "ExecutionNotFound",
            Self::NothingRuns { .. } => "NothingRuns",
            Self::Ambiguous { .. } => "SeveralRun",
            Self::NotStopped { .. } => "NotStopped",
            Self::NotMarked { .. } => "NotMarked",
            Self::Step(error) => error.name().as_str(),
        }
    }
}
