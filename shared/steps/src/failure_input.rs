//! What went wrong with an execution, as its last state is told.

use serde::{Deserialize, Serialize};

/// A caught error, as the state machine puts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailureInput {
    /// The error's name.
    pub error: String,
    /// Its message, which Lambda wraps in JSON.
    #[serde(default)]
    pub cause: String,
}

/// The name under which a distributed Map fails, whatever failed its child executions.
const CHILD_FAILED: &str = "States.ExceedToleratedFailureThreshold";

impl FailureInput {
    /// Whether it says no more than that a child execution failed, which has told the reason itself.
    pub(crate) fn is_a_childs(&self) -> bool {
        self.error == CHILD_FAILED
    }

    /// The message inside Lambda's JSON, or the cause as it is.
    pub(crate) fn message(&self) -> String {
        let wrapped: Option<serde_json::Value> = serde_json::from_str(&self.cause).ok();
        let message = wrapped
            .as_ref()
            .and_then(|cause| cause["errorMessage"].as_str());
        format!("{}: {}", self.error, message.unwrap_or(&self.cause))
    }
}
