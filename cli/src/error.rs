//! What went wrong, and what to do about it.

use highwater_asl::{DefinitionError, ExecutionFailed};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_local::LocalError;
use highwater_steps::{ErrorName, StepError};
use thiserror::Error;

use crate::args::Global;
use crate::job::Job;
use crate::stack_trouble::StackTrouble;

/// A command that did not do what it was asked to.
#[derive(Debug, Error)]
pub enum CliError {
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The workflow failed; what was done is kept.
    #[error("{job} failed in {}: {}", failed.state, message(failed))]
    Workflow {
        /// The backup or restore.
        job: Job,
        /// The failure.
        failed: ExecutionFailed,
        /// Whether there is something that can be resumed.
        resumable: bool,
    },
    /// A signal stopped the work.
    #[error("stopped by {name}{}", job.as_ref().map(|job| format!("; {job} is marked failed and can be resumed")).unwrap_or_default())]
    Signal {
        /// `SIGINT` or `SIGTERM`.
        name: &'static str,
        /// 128 and the signal's number.
        code: u8,
        /// What was being done.
        job: Option<Job>,
    },
    /// The connection cannot be set up.
    #[error(transparent)]
    Connection(#[from] Failure),
    /// A local engine failed.
    #[error("{}", with_source(.0))]
    Local(#[from] LocalError),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// Nobody could be asked, or somebody said no.
    #[error("{0}")]
    NotConfirmed(&'static str),
    /// A restore went to its end without every item.
    #[error("{items} items were not taken by table {table}; they are in {place}")]
    Rejected {
        /// How many.
        items: u64,
        /// The table.
        table: String,
        /// Where they are, whole.
        place: String,
    },
    /// What was read back is not what was written.
    #[error("{0}")]
    Different(String),
    /// A live replica is not what its source is, and will not be by itself.
    #[error("{0}")]
    GoneWrong(String),
    /// A live replica was compared with its source, and of some keys nothing can be said.
    #[error("{0}")]
    Undecided(String),
    /// Something was found that no program can mend.
    #[error("{what} needs a person: {why}")]
    NeedsAPerson {
        /// What.
        what: String,
        /// Why, all reasons.
        why: String,
        /// A way out, where the reasons do not tell it.
        hint: Option<&'static str>,
    },
    /// Something is wrong with a deployed stack, or with what it did.
    #[error("{0}")]
    Stack(Box<StackTrouble>),
    /// The state machine's definition is broken: a bug.
    #[error("the state machine cannot be read: {0}")]
    Definition(#[from] DefinitionError),
    /// The machine gives no threads, no timer, no folder.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// The message inside Lambda's JSON, or the cause as it is.
pub fn message(failed: &ExecutionFailed) -> String {
    message_in(&failed.cause)
}

/// The same of any cause.
pub fn message_in(cause: &str) -> String {
    let wrapped: Option<serde_json::Value> = serde_json::from_str(cause).ok();
    let message = wrapped
        .as_ref()
        .and_then(|cause| cause["errorMessage"].as_str());
    message.unwrap_or(cause).to_owned()
}

fn with_source(error: &LocalError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl CliError {
    /// The error's name, the same as in the deployed state machine where there is one.
    pub fn name(&self) -> &str {
        match self {
            Self::Step(error) => error.name().as_str(),
            Self::Workflow { failed, .. } => &failed.error,
            Self::Signal { .. } => ErrorName::Interrupted.as_str(),
            Self::Connection(_) => "Connection",
            Self::Local(_) => "Local",
            Self::Usage(_) => "Usage",
            Self::NotConfirmed(_) => "NotConfirmed",
            Self::Rejected { .. } => ErrorName::ItemRejected.as_str(),
            Self::Different(_) | Self::GoneWrong(_) => "Different",
            Self::Undecided(_) => "Undecided",
            Self::NeedsAPerson { .. } => "NeedsAPerson",
            Self::Stack(trouble) => &trouble.name,
            Self::Definition(_) | Self::Runtime(_) => ErrorName::Internal.as_str(),
        }
    }

    /// 1 failed, 2 wrong usage, 3 different or in need of a person, 4 compared and not decided, 128 and more for signals.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Signal { code, .. } => *code,
            Self::Usage(_) | Self::Step(StepError::InvalidInput(_)) => 2,
            Self::Different(_) | Self::GoneWrong(_) | Self::NeedsAPerson { .. } => 3,
            Self::Undecided(_) => 4,
            Self::Stack(trouble) => trouble.code,
            _ => 1,
        }
    }

    /// A way out, with a command to type where there is one. `global` are the flags of the command that failed.
    pub fn hint(&self, global: &Global) -> Option<String> {
        match self {
            Self::Workflow {
                job,
                resumable,
                failed,
            } => {
                let resume = resumable.then(|| job.resume_command(global));
                let cause = ErrorName::parse(&failed.error)
                    .and_then(|name| of_name(name, &message(failed)));
                match (cause, resume) {
                    (Some(cause), Some(resume)) => Some(format!("{cause}; then: {resume}")),
                    (cause, resume) => resume.or(cause.map(Into::into)),
                }
            }
            Self::Signal { job: Some(job), .. } => Some(job.resume_command(global)),
            Self::Step(error) => of_step(error),
            Self::Connection(failure) => of_failure(failure),
            Self::Local(LocalError::Database { .. }) => Some(
                "is another highwater using it? Name another file: --control local:PATH".into(),
            ),
            Self::Rejected { .. } => Some(
                "each line of the files there has an item and the reason: mend it, and write it yourself".into(),
            ),
            Self::GoneWrong(_) => Some(
                "find out who else writes to the replica; the same command with --repair writes the source's items there (--repair --dry-run shows them)".into(),
            ),
            Self::Undecided(_) => Some(
                "see that the replica is fed (highwater status), and compare again; with more --patience, --rounds or --limit more is decided".into(),
            ),
            Self::NeedsAPerson { hint, .. } => hint.map(str::to_owned),
            Self::Stack(trouble) => trouble.hint.clone(),
            Self::NotConfirmed(_) => Some("give --force to delete without being asked".into()),
            _ => None,
        }
    }
}

/// The way out of a step's error.
pub fn of_step(error: &StepError) -> Option<String> {
    match error {
        StepError::Table(failure) | StepError::Store(failure) | StepError::Control(failure)
            if failure.kind == FailureKind::Unreachable =>
        {
            of_failure(failure)
        }
        StepError::SnapshotExists { id, .. } => Some(format!(
            "leave out --id, or go on with it: highwater backup --resume {id}"
        )),
        StepError::BackupExists { url, .. } => Some(format!(
            "choose another prefix, or delete what is there: highwater delete {url} (parts without metadata: --force-orphans)"
        )),
        StepError::BackupNotFound { .. } => Some(
            "highwater list s3://BUCKET/PREFIX shows the backups there; name one by its id and --from, or by its own place".into(),
        ),
        StepError::RestoreExists(id) => Some(format!(
            "leave out --id, or go on with it: highwater restore --resume {id}"
        )),
        StepError::SnapshotRunning(id) => Some(format!(
            "wait for it, or stop it; if its process is gone: highwater backup --resume {id}, or delete --force"
        )),
        StepError::TableNotActive { .. } => Some("wait until the table is ACTIVE".into()),
        StepError::ReplicaFailed { .. } => Some(
            "highwater status shows how the replica stands, and highwater replicate takes it on from there".into(),
        ),
        _ => of_name(error.name(), &error.to_string()).map(Into::into),
    }
}

/// The way out of a failed call.
pub fn of_failure(failure: &Failure) -> Option<String> {
    match failure.kind {
        FailureKind::Unreachable => {
            Some("check --endpoint-url, --region and the network; nothing answered there".into())
        }
        FailureKind::Denied => of_name(ErrorName::AccessDenied, &failure.message).map(Into::into),
        _ => None,
    }
}

/// The way out of an error of this name; its message tells a bucket from a folder.
pub fn of_name(name: ErrorName, message: &str) -> Option<&'static str> {
    Some(match name {
        _ if message.contains("UnknownOperation") && message.contains("ImportTable") => {
            "this endpoint has no ImportTable: give --engine write"
        }
        ErrorName::Throttled => "the table is busy: lower --read-capacity or --read-percent",
        ErrorName::TransientAws => "a service was out of reach; try again",
        // A file system's refusal carries the system's error number; no service's does.
        ErrorName::AccessDenied if message.contains("(os error") => {
            "make the folder and what is in it readable and writable for you, or choose another place"
        }
        ErrorName::AccessDenied => {
            "check who you are (aws sts get-caller-identity) and the permissions listed in the README; with read rights only, add --control local"
        }
        ErrorName::TableNotFound => {
            "check the name and the region: aws dynamodb list-tables --region REGION"
        }
        ErrorName::StoreNotFound if message.contains("s3://") => {
            "create the bucket first (aws s3 mb s3://BUCKET), or check its name"
        }
        ErrorName::StoreNotFound => "make the folder, or choose another place",
        ErrorName::StoreUnsuitable => {
            "use a store that honours If-None-Match on PutObject; Amazon S3 does"
        }
        ErrorName::StoreNotWritable => {
            "free some space, make the place writable, or choose another one"
        }
        ErrorName::SnapshotNotFound => {
            "highwater list URL shows what is there; a resume needs the same --control-table or --control as the start"
        }
        ErrorName::TableChanged => "start a new backup: this one cannot be finished",
        ErrorName::PartCorrupt | ErrorName::PartMissing => {
            "do not restore from it; start a new backup"
        }
        ErrorName::Config => "check --control-table and the region",
        ErrorName::BackupIncomplete => {
            "take another backup, or give --allow-incomplete to load what there is"
        }
        ErrorName::TableExists => "name a table that does not exist, or give --into-existing",
        ErrorName::RestoreNotFound => {
            "a resume needs the same --control-table or --control as the start"
        }
        ErrorName::ItemRejected => "mend the item, or leave out --fail-fast to go on without it",
        ErrorName::ImportFailed => {
            "delete the table and restore with --engine write, which tells each item that is not taken"
        }
        ErrorName::StreamUnsuitable
        | ErrorName::StreamChanged
        | ErrorName::HandoffExpired
        | ErrorName::NotRestorable
        | ErrorName::LeaseLost => return of_live(name, message),
        ErrorName::SnapshotExists
        | ErrorName::RestoreExists
        | ErrorName::InvalidInput
        | ErrorName::Interrupted
        | ErrorName::Internal => {
            return None;
        }
    })
}

/// The same for the names of the live side.
fn of_live(name: ErrorName, message: &str) -> Option<&'static str> {
    Some(match name {
        // A view that is there is not changed: whoever reads it would lose their stream.
        ErrorName::StreamUnsuitable if message.contains("its stream carries") => {
            "if nobody else reads that stream, disable it and enable it anew with NEW_AND_OLD_IMAGES; then take a new backup"
        }
        ErrorName::StreamUnsuitable => {
            "enable a stream with a first backup: highwater backup TABLE --to URL --with-stream"
        }
        ErrorName::StreamChanged | ErrorName::HandoffExpired => {
            "take a new backup: highwater backup TABLE --to URL --with-stream"
        }
        ErrorName::NotRestorable => {
            "highwater status URL shows which seconds can be restored, and why others cannot"
        }
        ErrorName::LeaseLost => "another process has the shard now; run the command again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_of(failure: Failure) -> String {
        of_step(&StepError::Store(failure)).unwrap_or_default()
    }

    #[test]
    fn a_folder_that_refuses_is_no_matter_of_aws() {
        let denied = |message: &str| Failure::new(FailureKind::Denied, "PutObject", "x", message);
        let folder = hint_of(denied("Permission denied (os error 13)"));
        assert!(
            folder.contains("folder") && !folder.contains("aws"),
            "{folder}"
        );
        let bucket = hint_of(denied("AccessDenied: Access Denied"));
        assert!(bucket.contains("aws sts get-caller-identity"), "{bucket}");
    }
}
