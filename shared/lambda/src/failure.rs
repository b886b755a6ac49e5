//! A failed step as Lambda reports it: the one place where an `errorType` is made.

use highwater_steps::{ErrorName, StepError};
use lambda_runtime::Diagnostic;

/// A failed step on its way to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
    /// Becomes `errorType`, which `Retry` and `Catch` match.
    pub name: ErrorName,
    /// Becomes `errorMessage`.
    pub message: String,
}

impl From<&StepError> for StepFailure {
    fn from(error: &StepError) -> Self {
        Self {
            name: error.name(),
            message: error.to_string(),
        }
    }
}

impl From<StepFailure> for Diagnostic {
    fn from(failure: StepFailure) -> Self {
        Self {
            error_type: failure.name.as_str().to_owned(),
            error_message: failure.message,
        }
    }
}
