//! Why a step failed, and the one name by which a state machine knows it.

use highwater_domain::backup_source::LocationError;
use highwater_domain::engine_choice::EngineRefused;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::{NameError, SnapshotId};
use highwater_domain::key_filter::FilterError;
use highwater_domain::layout::DestinationError;
use highwater_domain::part_reader::PartError;
use highwater_domain::replica::ReplicaId;
use highwater_domain::restore::RestoreId;
use highwater_domain::selection::SelectionError;
use highwater_domain::stream_source::StreamError;
use highwater_domain::table::SettingsError;
use highwater_domain::table_plan::{KeySpecError, PlanError};
use thiserror::Error;

pub use crate::error_name::ErrorName;

/// A failed step. The variants are what a caller can act on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StepError {
    /// A call to the table failed.
    #[error(transparent)]
    Table(Failure),
    /// A call to the bucket or directory failed.
    #[error(transparent)]
    Store(Failure),
    /// A call to the control table failed.
    #[error(transparent)]
    Control(Failure),
    /// The request cannot be done as it stands.
    #[error("{0}")]
    InvalidInput(String),
    /// The snapshot id is taken.
    #[error("snapshot {id} already exists at {place}")]
    SnapshotExists {
        /// The id.
        id: SnapshotId,
        /// Where.
        place: String,
    },
    /// No such snapshot.
    #[error("there is no snapshot {id} in {place}")]
    SnapshotNotFound {
        /// The id.
        id: SnapshotId,
        /// Where it was looked for.
        place: String,
    },
    /// The store does not keep its promise of create-if-absent, so that no part's name can be a claim.
    #[error("{place} overwrites objects that were to be created only if absent (If-None-Match)")]
    StoreUnsuitable {
        /// The object with which this was seen.
        place: String,
    },
    /// The table was dropped and created again since the snapshot began.
    #[error(
        "table {table} is not the one that snapshot {id} began with: it was dropped and created again"
    )]
    TableChanged {
        /// The table.
        table: String,
        /// The snapshot.
        id: SnapshotId,
    },
    /// The table cannot be scanned in its present state.
    #[error("table {table} is {status}, not ACTIVE")]
    TableNotActive {
        /// The table.
        table: String,
        /// Its status.
        status: String,
    },
    /// `DescribeTable` said something that cannot be worked with.
    #[error("table {table}: {source}")]
    Settings {
        /// The table.
        table: String,
        /// What is missing.
        #[source]
        source: SettingsError,
    },
    /// An object is not what it should be.
    #[error("{0}")]
    PartCorrupt(String),
    /// A part that is listed, or was committed, is not in the store.
    #[error("a part of the backup is not there: {0}")]
    PartMissing(String),
    /// Finalizing was asked for before every segment was done.
    #[error("snapshot {id}: {unfinished} of {total} segments are not done")]
    SegmentsUnfinished {
        /// The snapshot.
        id: SnapshotId,
        /// How many are not done.
        unfinished: u64,
        /// Of how many.
        total: u32,
    },
    /// A signal, or another execution that took the snapshot over, ended the work. What was done is kept.
    #[error("snapshot {id} was interrupted: {reason}")]
    Interrupted {
        /// The snapshot.
        id: SnapshotId,
        /// By what.
        reason: String,
    },
    /// The snapshot is being made.
    #[error("snapshot {0} is running")]
    SnapshotRunning(SnapshotId),
    /// A dump was to go where a backup, or what is left of one, already is.
    #[error("a backup already exists at {url}: {what}")]
    BackupExists {
        /// The place.
        url: String,
        /// What is there.
        what: String,
    },
    /// Nothing that is a backup is there.
    #[error("there is no backup at {url}: {looked_for}")]
    BackupNotFound {
        /// The place.
        url: String,
        /// What was looked for, and what is there instead.
        looked_for: String,
    },
    /// The backup was never finished, and nobody said that this is all right.
    #[error("the backup at {url} is {status}, not completed")]
    BackupIncomplete {
        /// The place.
        url: String,
        /// What it says of itself.
        status: String,
    },
    /// The table that was to be created is there.
    #[error("table {0} already exists")]
    TableExists(String),
    /// The restore id is taken.
    #[error("restore {0} already exists")]
    RestoreExists(RestoreId),
    /// No such restore.
    #[error("there is no restore {0} in the control table")]
    RestoreNotFound(RestoreId),
    /// The target was dropped and created again since the restore began.
    #[error(
        "table {table} is not the one that restore {id} began to fill: it was dropped and created again"
    )]
    TargetChanged {
        /// The table.
        table: String,
        /// The restore.
        id: RestoreId,
    },
    /// Ending was asked for before every file was loaded.
    #[error("restore {id}: {unfinished} of {total} files are not loaded")]
    FilesUnfinished {
        /// The restore.
        id: RestoreId,
        /// How many are not loaded.
        unfinished: u64,
        /// Of how many.
        total: u64,
    },
    /// A signal, or another execution that took the restore over, ended the work. What was done is kept.
    #[error("restore {id} was interrupted: {reason}")]
    RestoreInterrupted {
        /// The restore.
        id: RestoreId,
        /// By what.
        reason: String,
    },
    /// The table does not take an item, and the restore was told to stop at the first or has nowhere to keep it.
    #[error("{object} line {line} cannot be written: {reason}")]
    ItemRejected {
        /// The file.
        object: String,
        /// The line, from 1.
        line: u64,
        /// The service's words, or ours.
        reason: String,
    },
    /// DynamoDB's own import did not do all of its work.
    #[error("the import of table {table} is not complete: {reason}")]
    ImportFailed {
        /// The table, which stays as the import left it.
        table: String,
        /// What is missing.
        reason: String,
    },
    /// A call to the table's stream failed.
    #[error(transparent)]
    Stream(StreamError),
    /// A call about leases failed.
    #[error(transparent)]
    Lease(highwater_lease::Error),
    /// The table has no stream that can be followed.
    #[error("the stream of table {table} cannot be followed: {reason}")]
    StreamUnsuitable {
        /// The table.
        table: String,
        /// Why: disabled, or what its view lacks.
        reason: String,
    },
    /// The stream was disabled or enabled anew since the snapshot began: changes in between have no records.
    #[error("the stream of table {table} is not the one of snapshot {id}'s handoff: {reason}")]
    StreamChanged {
        /// The table.
        table: String,
        /// The snapshot.
        id: SnapshotId,
        /// What is there instead.
        reason: String,
    },
    /// Records from the handoff on are gone, and nobody has read them.
    #[error("the handoff of snapshot {id} has expired: {reason}")]
    HandoffExpired {
        /// The snapshot.
        id: SnapshotId,
        /// Which records.
        reason: String,
    },
    /// No restore to this second can be exact.
    #[error("{table} cannot be restored to {at}: {reason}")]
    NotRestorable {
        /// The table.
        table: String,
        /// The second, RFC 3339.
        at: String,
        /// What forbids it.
        reason: String,
    },
    /// An object of the change log is not what it should be.
    #[error("{0}")]
    LogCorrupt(String),
    /// A replica cannot be made like this; nothing was written.
    #[error("{table} cannot be used for a replica: {reason}")]
    ReplicaRefused {
        /// The table, or the snapshot.
        table: String,
        /// What stands against it.
        reason: String,
    },
    /// There is no such replica.
    #[error("there is no replica {0} in the control table")]
    ReplicaNotFound(ReplicaId),
    /// A replica is not where this needs it to be, or cannot go on.
    #[error("replica {id} cannot go on: {reason}")]
    ReplicaFailed {
        /// The replica.
        id: ReplicaId,
        /// Why.
        reason: String,
    },
    /// A bug, or a machine that fails in a way nobody foresaw.
    #[error("{0}")]
    Internal(String),
}

impl From<StreamError> for StepError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl From<highwater_lease::Error> for StepError {
    fn from(error: highwater_lease::Error) -> Self {
        Self::Lease(error)
    }
}

impl From<PartError> for StepError {
    fn from(error: PartError) -> Self {
        Self::PartCorrupt(error.to_string())
    }
}

impl From<LocationError> for StepError {
    fn from(error: LocationError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<PlanError> for StepError {
    fn from(error: PlanError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<KeySpecError> for StepError {
    fn from(error: KeySpecError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<EngineRefused> for StepError {
    fn from(error: EngineRefused) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<FilterError> for StepError {
    fn from(error: FilterError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<NameError> for StepError {
    fn from(error: NameError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<SelectionError> for StepError {
    fn from(error: SelectionError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<DestinationError> for StepError {
    fn from(error: DestinationError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl StepError {
    /// The name by which a state machine and the command line tell what to do.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        match self {
            Self::Table(failure) => of_kind(failure.kind, ErrorName::TableNotFound),
            Self::Store(failure) => of_kind(failure.kind, ErrorName::StoreNotFound),
            Self::Control(failure) => of_kind(failure.kind, ErrorName::Config),
            Self::InvalidInput(_)
            | Self::TableNotActive { .. }
            | Self::Settings { .. }
            | Self::SnapshotRunning(_)
            | Self::ReplicaRefused { .. }
            | Self::ReplicaNotFound(_)
            | Self::ReplicaFailed { .. } => ErrorName::InvalidInput,
            Self::SnapshotExists { .. } | Self::BackupExists { .. } => ErrorName::SnapshotExists,
            Self::SnapshotNotFound { .. } | Self::BackupNotFound { .. } => {
                ErrorName::SnapshotNotFound
            }
            Self::BackupIncomplete { .. } => ErrorName::BackupIncomplete,
            Self::TableExists(_) => ErrorName::TableExists,
            Self::RestoreExists(_) => ErrorName::RestoreExists,
            Self::RestoreNotFound(_) => ErrorName::RestoreNotFound,
            Self::ItemRejected { .. } => ErrorName::ItemRejected,
            Self::ImportFailed { .. } => ErrorName::ImportFailed,
            Self::StoreUnsuitable { .. } => ErrorName::StoreUnsuitable,
            Self::TableChanged { .. } | Self::TargetChanged { .. } => ErrorName::TableChanged,
            Self::Stream(error) => of_stream(error),
            Self::Lease(error) if error.is_over() => ErrorName::LeaseLost,
            Self::Lease(error) if error.is_retryable() => ErrorName::TransientAws,
            Self::Lease(_) => ErrorName::Internal,
            Self::StreamUnsuitable { .. } => ErrorName::StreamUnsuitable,
            Self::StreamChanged { .. } => ErrorName::StreamChanged,
            Self::HandoffExpired { .. } => ErrorName::HandoffExpired,
            Self::NotRestorable { .. } => ErrorName::NotRestorable,
            Self::PartCorrupt(_) | Self::LogCorrupt(_) => ErrorName::PartCorrupt,
            Self::PartMissing(_) => ErrorName::PartMissing,
            Self::Interrupted { .. } | Self::RestoreInterrupted { .. } => ErrorName::Interrupted,
            Self::SegmentsUnfinished { .. } | Self::FilesUnfinished { .. } | Self::Internal(_) => {
                ErrorName::Internal
            }
        }
    }
}

fn of_stream(error: &StreamError) -> ErrorName {
    match error {
        StreamError::Failed(failure) => of_kind(failure.kind, ErrorName::StreamUnsuitable),
        StreamError::Gone(_) => ErrorName::StreamUnsuitable,
        StreamError::Trimmed { .. } => ErrorName::HandoffExpired,
        StreamError::IteratorExpired(_) => ErrorName::TransientAws,
    }
}

fn of_kind(kind: FailureKind, not_found: ErrorName) -> ErrorName {
    match kind {
        FailureKind::Throttled => ErrorName::Throttled,
        FailureKind::Transient | FailureKind::Unreachable => ErrorName::TransientAws,
        FailureKind::Denied => ErrorName::AccessDenied,
        FailureKind::NotFound => not_found,
        FailureKind::Invalid => ErrorName::InvalidInput,
        FailureKind::NotWritable => ErrorName::StoreNotWritable,
        FailureKind::Corrupt => ErrorName::PartCorrupt,
        _ => ErrorName::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_read_back() {
        for name in ErrorName::ALL {
            assert_eq!(ErrorName::parse(name.as_str()), Some(name));
            assert_eq!(format!("{name:?}"), name.as_str());
            assert!(!name.as_str().starts_with("States."));
        }
    }

    #[test]
    fn what_was_not_found_depends_on_where_it_was_looked_for() {
        let missing = || Failure::new(FailureKind::NotFound, "Scan", "orders", "no such thing");
        assert_eq!(StepError::Table(missing()).name(), ErrorName::TableNotFound);
        assert_eq!(StepError::Store(missing()).name(), ErrorName::StoreNotFound);
        assert_eq!(StepError::Control(missing()).name(), ErrorName::Config);
    }
}
