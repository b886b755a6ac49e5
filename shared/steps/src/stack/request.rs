//! The input of an execution, and the id of what comes of it.

use std::fmt;

use highwater_domain::ids::{SnapshotId, TableRef, UnixMillis};
use highwater_domain::restore::RestoreId;
use highwater_domain::stack::Workflow;
use serde::Serialize;
use serde_json::Value;

use crate::error::StepError;
use crate::plan_backup::PlanInput;
use crate::plan_restore::PlanRestoreInput;
use crate::request::BackupRequest;
use crate::restore_request::RestoreRequest;

/// What an execution is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum JobRequest {
    /// The input of `backup.asl.json`.
    Backup(Box<BackupRequest>),
    /// The input of `restore.asl.json`.
    Restore(Box<RestoreRequest>),
}

/// What comes of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobId {
    /// A snapshot.
    Backup(SnapshotId),
    /// A restore.
    Restore(RestoreId),
}

impl JobId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Backup(id) => id.as_str(),
            Self::Restore(id) => id.as_str(),
        }
    }

    /// The workflow that makes it.
    #[must_use]
    pub fn workflow(&self) -> Workflow {
        match self {
            Self::Backup(_) => Workflow::Backup,
            Self::Restore(_) => Workflow::Restore,
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.workflow().as_str(), self.as_str())
    }
}

impl JobRequest {
    /// Reads an execution's input. `None` for one that no state could read either, or that only a newer version can.
    #[must_use]
    pub fn read(workflow: Workflow, input: &str) -> Option<Self> {
        // A list of members in their order would be read too, but nobody writes one.
        let members: serde_json::Map<String, Value> = serde_json::from_str(input).ok()?;
        let input = Value::Object(members);
        Some(match workflow {
            Workflow::Backup => Self::Backup(serde_json::from_value(input).ok()?),
            Workflow::Restore => Self::Restore(serde_json::from_value(input).ok()?),
        })
    }

    /// Finds what can be known to be wrong without asking anybody.
    pub fn check(&self) -> Result<(), StepError> {
        match self {
            Self::Backup(request) => request.check(),
            Self::Restore(request) => request.check(),
        }
    }

    /// The workflow that takes it.
    #[must_use]
    pub fn workflow(&self) -> Workflow {
        match self {
            Self::Backup(_) => Workflow::Backup,
            Self::Restore(_) => Workflow::Restore,
        }
    }

    /// The table that is read or filled, where the request says: a resume need not.
    #[must_use]
    pub fn table(&self) -> Option<&TableRef> {
        match self {
            Self::Backup(request) => request.table.as_ref(),
            Self::Restore(request) => request.to.as_ref(),
        }
    }

    /// The execution's input: what a person would write, without the members that were left as they are.
    ///
    /// The same request gives the same text in every version that knows no more of it, so that a name finds its
    /// execution.
    pub fn input(&self) -> Result<Value, StepError> {
        match self {
            Self::Backup(request) => beside_defaults(request.as_ref()),
            Self::Restore(request) => beside_defaults(request.as_ref()),
        }
    }

    /// What an execution of this ARN that started then makes of it.
    pub fn job(&self, execution_arn: &str, started_at: UnixMillis) -> Result<JobId, StepError> {
        let (execution_id, started_at) = (execution_arn.to_owned(), started_at.to_rfc3339());
        Ok(match self {
            Self::Backup(request) => {
                let request = request.as_ref().clone();
                let input = PlanInput {
                    request,
                    execution_id,
                    started_at,
                };
                JobId::Backup(input.snapshot_id()?)
            }
            Self::Restore(request) => {
                let request = request.as_ref().clone();
                let input = PlanRestoreInput {
                    request,
                    execution_id,
                    started_at,
                };
                JobId::Restore(input.restore_id()?)
            }
        })
    }
}

fn beside_defaults<T: Serialize + Default>(request: &T) -> Result<Value, StepError> {
    let value = |of: &T| {
        serde_json::to_value(of)
            .map_err(|error| StepError::Internal(format!("a request is no JSON: {error}")))
    };
    let (mut input, defaults) = (value(request)?, value(&T::default())?);
    if let Some(members) = input.as_object_mut() {
        members.retain(|name, value| defaults.get(name) != Some(value));
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:states:eu-north-1:111122223333:execution:s-backup:one";

    fn backup(request: BackupRequest) -> JobRequest {
        JobRequest::Backup(Box::new(request))
    }

    #[test]
    fn an_input_says_what_was_asked_and_nothing_else() {
        let request = backup(BackupRequest {
            table: Some("orders".parse().unwrap()),
            to: Some("s3://bkt/nightly".into()),
            concurrency: Some(8),
            ..BackupRequest::default()
        });
        let input = request.input().unwrap();
        let expected = json!({"table": "orders", "to": "s3://bkt/nightly", "concurrency": 8});
        assert_eq!(input, expected);
        let read = JobRequest::read(Workflow::Backup, &input.to_string());
        assert_eq!(read, Some(request), "the state machine reads the same");
    }

    #[test]
    fn an_id_follows_from_the_execution_unless_the_request_names_one() {
        let at = UnixMillis(1_768_385_930_622);
        let of = |request: BackupRequest| backup(request).job(ARN, at).unwrap();
        let derived = of(BackupRequest::default());
        assert_eq!(derived, JobId::Backup(SnapshotId::of_execution(ARN, at)));
        let named: SnapshotId = "01768385930622-efd1a093".parse().unwrap();
        let id = of(BackupRequest {
            snapshot_id: Some(named.clone()),
            ..BackupRequest::default()
        });
        assert_eq!(id, JobId::Backup(named));
        let restore = JobRequest::Restore(Box::default());
        let id = restore.job(ARN, at).unwrap();
        assert_eq!(id, JobId::Restore(RestoreId::of_execution(ARN, at)));
    }

    #[test]
    fn an_input_that_no_state_can_read_is_none() {
        for text in ["", "[]", "{\"tabel\":\"orders\"}", "{\"table\":7}"] {
            assert_eq!(JobRequest::read(Workflow::Backup, text), None, "{text}");
        }
    }
}
