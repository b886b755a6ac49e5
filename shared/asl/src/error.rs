//! What can go wrong: in a definition, in a task, in an execution.

use thiserror::Error;

/// Error names of the language itself; a function may not use the prefix `States.`.
///
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html#error-handling-error-representation>
pub mod names {
    /// The wildcard of retriers and catchers.
    pub const ALL: &str = "States.ALL";
    /// The wildcard for everything but a time-out.
    pub const TASK_FAILED: &str = "States.TaskFailed";
    /// `TimeoutSeconds` passed.
    pub const TIMEOUT: &str = "States.Timeout";
    /// A state cannot be computed: a path without a value, an `ItemsPath` that is no list. Never caught.
    pub const RUNTIME: &str = "States.Runtime";
    /// A payload over 256 KiB. Caught only by its own name.
    pub const DATA_LIMIT_EXCEEDED: &str = "States.DataLimitExceeded";
    /// A child execution of a distributed Map failed. What failed it is in the child, and not in this error.
    pub const EXCEED_TOLERATED_FAILURE_THRESHOLD: &str = "States.ExceedToleratedFailureThreshold";
    /// `ResultPath` points into something that is no object.
    pub const RESULT_PATH_MATCH_FAILURE: &str = "States.ResultPathMatchFailure";
}

/// Why a definition cannot be walked here. `state` is `(definition)` for fields outside of any state.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The text is not JSON, or an object in it has two members of one name.
    #[error("the definition is not JSON")]
    Json(#[source] serde_json::Error),
    /// A field, or a value of it, that this driver does not implement.
    #[error("state {state}: {field} is not implemented: {reason}")]
    Unsupported {
        /// The state.
        state: String,
        /// The field, with its place inside the state: `Retry[0].MaxAttempts`.
        field: String,
        /// What is not implemented about it.
        reason: String,
    },
    /// A field with a value that the language does not allow.
    #[error("state {state}: {field} is wrong: {reason}")]
    Invalid {
        /// The state.
        state: String,
        /// The field, with its place inside the state.
        field: String,
        /// What the language wants.
        reason: String,
    },
    /// A required field is absent.
    #[error("state {state}: {field} is missing")]
    Missing {
        /// The state.
        state: String,
        /// The field.
        field: String,
    },
    /// A transition to a state that does not exist in its scope.
    #[error("state {state}: {field} names {target:?}, and there is no such state beside it")]
    NoSuchState {
        /// The state that the transition leaves.
        state: String,
        /// The field with the transition.
        field: String,
        /// The name in it.
        target: String,
    },
    /// No transition leads here.
    #[error("state {state} cannot be reached from the start")]
    Unreachable {
        /// The state.
        state: String,
    },
    /// No transitions lead from here to an end.
    #[error("state {state} leads to no end: no Succeed, Fail or End can be reached from it")]
    Endless {
        /// The state.
        state: String,
    },
    /// Two states of one name, in a Map and outside of it: names are unique in the whole definition.
    #[error("state {state} is defined twice")]
    Duplicate {
        /// The state.
        state: String,
    },
}

/// A task's failure, as Lambda reports it to Step Functions.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{error}: {cause}")]
pub struct TaskError {
    /// The name that `Retry` and `Catch` match: a function's `errorType`, `Lambda.TooManyRequestsException`.
    pub error: String,
    /// The story behind it, for people.
    pub cause: String,
}

impl TaskError {
    /// A failure of this name, with its story.
    #[must_use]
    pub fn new(error: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            cause: cause.into(),
        }
    }
}

/// How an execution ended that did not succeed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("state {state} failed with {error}: {cause}")]
pub struct ExecutionFailed {
    /// The state that failed; inside a Map the innermost.
    pub state: String,
    /// The error's name.
    pub error: String,
    /// The story behind it.
    pub cause: String,
}

impl ExecutionFailed {
    /// A failure of the language's own: the state cannot be computed.
    pub(crate) fn runtime(state: &str, cause: impl Into<String>) -> Self {
        Self::named(state, names::RUNTIME, cause)
    }

    pub(crate) fn named(state: &str, error: &str, cause: impl Into<String>) -> Self {
        Self {
            state: state.to_owned(),
            error: error.to_owned(),
            cause: cause.into(),
        }
    }

    pub(crate) fn of_task(state: &str, error: TaskError) -> Self {
        Self {
            state: state.to_owned(),
            error: error.error,
            cause: error.cause,
        }
    }
}
