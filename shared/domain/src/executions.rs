//! The port to Step Functions: which state machines there are, and what their executions do.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::ids::UnixMillis;

/// A state machine, as a listing names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name: one of a kind in its account and region.
    pub name: String,
    /// Its ARN, `arn:aws:states:REGION:ACCOUNT:stateMachine:NAME`.
    pub arn: String,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// What is on it.
    pub found: Vec<T>,
    /// What the next page is asked for with; `None` on the last one.
    pub next: Option<String>,
}

/// An execution at work, as a listing names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningExecution {
    /// Its ARN, `arn:aws:states:REGION:ACCOUNT:execution:MACHINE:NAME`.
    pub arn: String,
    /// Its name: one of a kind in its machine for 90 days.
    pub name: String,
    /// When it started: the same moment as `$$.Execution.StartTime`.
    pub started_at: UnixMillis,
}

/// Where an execution is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// At work, or waiting to be taken up again (`PENDING_REDRIVE`).
    Running,
    /// Ended in a Succeed state.
    Succeeded,
    /// Ended in a Fail state, or by an error that no state caught.
    Failed,
    /// Ended by its machine's own time limit.
    TimedOut,
    /// Ended by `StopExecution`.
    Aborted,
    /// A word that this version does not know.
    Other(String),
}

impl ExecutionStatus {
    /// The service's own word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
            Self::Other(word) => word,
        }
    }

    /// What the service's word means.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word {
            "RUNNING" | "PENDING_REDRIVE" => Self::Running,
            "SUCCEEDED" => Self::Succeeded,
            "FAILED" => Self::Failed,
            "TIMED_OUT" => Self::TimedOut,
            "ABORTED" => Self::Aborted,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Aborted
        )
    }
}

/// What `DescribeExecution` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionState {
    /// Its ARN, which is `$$.Execution.Id` to its states.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// The state machine's ARN.
    pub machine_arn: String,
    /// Where it is.
    pub status: ExecutionStatus,
    /// When it started: the same moment as `$$.Execution.StartTime`.
    pub started_at: UnixMillis,
    /// When it ended, if it has.
    pub stopped_at: Option<UnixMillis>,
    /// Its input, JSON; `None` where the service keeps it back.
    pub input: Option<String>,
    /// The error's name, if it failed or was stopped with one.
    pub error: Option<String>,
    /// Why it failed, in words, which Lambda wraps in JSON.
    pub cause: Option<String>,
}

/// What became of a request to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It runs: since now, or since an earlier request with the same name and the same input.
    Started {
        /// The execution's ARN.
        arn: String,
        /// When it started: the same moment as `$$.Execution.StartTime`.
        started_at: UnixMillis,
    },
    /// The name was given to an execution with another input, or to one that has ended.
    NameTaken,
}

/// Finds, starts and stops executions.
///
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/Welcome.html>. Listings and descriptions are
/// eventually consistent there: what was just started may be missing for a moment.
///
/// - Moments are whole milliseconds, rounded and not cut: ids are made of them.
/// - A page may be empty and still have a next one.
#[async_trait]
pub trait Executions: Debug + Send + Sync {
    /// `ListStateMachines`: one page, the first if `after` is `None`.
    async fn machines(&self, after: Option<&str>) -> Result<Listed<Machine>, Failure>;

    /// `ListTagsForResource` of a state machine.
    async fn tags(&self, machine_arn: &str) -> Result<BTreeMap<String, String>, Failure>;

    /// `StartExecution`, which may be repeated: a name starts one execution at most.
    async fn start(&self, machine_arn: &str, name: &str, input: &str) -> Result<Start, Failure>;

    /// `DescribeExecution`; `None` if there is no such execution.
    async fn describe(&self, execution_arn: &str) -> Result<Option<ExecutionState>, Failure>;

    /// `ListExecutions` of those at work: one page, the first if `after` is `None`.
    async fn running(
        &self,
        machine_arn: &str,
        after: Option<&str>,
    ) -> Result<Listed<RunningExecution>, Failure>;

    /// `StopExecution`. It runs no Catch, and invocations that are under way go on to their own ends.
    async fn stop(&self, execution_arn: &str, error: &str, cause: &str) -> Result<(), Failure>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_service_is_read_and_told() {
        for word in ["RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"] {
            let status = ExecutionStatus::of_word(word);
            assert_eq!(status.as_str(), word);
            assert_eq!(status.has_ended(), word != "RUNNING", "{word}");
        }
        // It goes on under the same ARN.
        let redrive = ExecutionStatus::of_word("PENDING_REDRIVE");
        assert!(!redrive.has_ended());
        let new = ExecutionStatus::of_word("HIBERNATING");
        assert_eq!(new.as_str(), "HIBERNATING");
        assert!(!new.has_ended(), "what is not known has not ended");
    }
}
