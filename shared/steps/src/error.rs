//! Why a step failed, and the one name by which a state machine knows it.

use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::{NameError, SnapshotId};
use highwater_domain::layout::DestinationError;
use highwater_domain::part_reader::PartError;
use highwater_domain::selection::SelectionError;
use highwater_domain::table::SettingsError;
use thiserror::Error;

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
    /// A part that was committed is not in the store.
    #[error("part {0} was committed but is not there any more")]
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
    /// A bug, or a machine that fails in a way nobody foresaw.
    #[error("{0}")]
    Internal(String),
}

impl From<PartError> for StepError {
    fn from(error: PartError) -> Self {
        Self::PartCorrupt(error.to_string())
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

/// The closed set of names that `Retry` and `Catch` in the state machines match.
///
/// None begins with `States.`, which the Amazon States Language keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorName {
    /// A service asked us to slow down for longer than a step waits by itself.
    Throttled,
    /// A service was out of order or out of reach.
    TransientAws,
    /// Credentials or a policy forbid it.
    AccessDenied,
    /// There is no such table.
    TableNotFound,
    /// There is no such bucket or directory.
    StoreNotFound,
    /// The store lacks create-if-absent.
    StoreUnsuitable,
    /// The store is full or read-only.
    StoreNotWritable,
    /// The snapshot id is taken.
    SnapshotExists,
    /// There is no such snapshot.
    SnapshotNotFound,
    /// The table was dropped and created again.
    TableChanged,
    /// An object is not what it should be.
    PartCorrupt,
    /// A committed part is gone.
    PartMissing,
    /// The request cannot be done as it stands.
    InvalidInput,
    /// The program is set up wrongly: an absent control table or environment variable.
    Config,
    /// A signal or a take-over.
    Interrupted,
    /// A bug or a panic.
    Internal,
}

impl ErrorName {
    /// Every name.
    pub const ALL: [Self; 16] = [
        Self::Throttled,
        Self::TransientAws,
        Self::AccessDenied,
        Self::TableNotFound,
        Self::StoreNotFound,
        Self::StoreUnsuitable,
        Self::StoreNotWritable,
        Self::SnapshotExists,
        Self::SnapshotNotFound,
        Self::TableChanged,
        Self::PartCorrupt,
        Self::PartMissing,
        Self::InvalidInput,
        Self::Config,
        Self::Interrupted,
        Self::Internal,
    ];

    /// The name on the wire: `errorType` of a Lambda error, `ErrorEquals` in the state machine.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "Throttled",
            Self::TransientAws => "TransientAws",
            Self::AccessDenied => "AccessDenied",
            Self::TableNotFound => "TableNotFound",
            Self::StoreNotFound => "StoreNotFound",
            Self::StoreUnsuitable => "StoreUnsuitable",
            Self::StoreNotWritable => "StoreNotWritable",
            Self::SnapshotExists => "SnapshotExists",
            Self::SnapshotNotFound => "SnapshotNotFound",
            Self::TableChanged => "TableChanged",
            Self::PartCorrupt => "PartCorrupt",
            Self::PartMissing => "PartMissing",
            Self::InvalidInput => "InvalidInput",
            Self::Config => "Config",
            Self::Interrupted => "Interrupted",
            Self::Internal => "Internal",
        }
    }

    /// The name that reads like this, if it is one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
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
            | Self::SnapshotRunning(_) => ErrorName::InvalidInput,
            Self::SnapshotExists { .. } => ErrorName::SnapshotExists,
            Self::SnapshotNotFound { .. } => ErrorName::SnapshotNotFound,
            Self::StoreUnsuitable { .. } => ErrorName::StoreUnsuitable,
            Self::TableChanged { .. } => ErrorName::TableChanged,
            Self::PartCorrupt(_) => ErrorName::PartCorrupt,
            Self::PartMissing(_) => ErrorName::PartMissing,
            Self::Interrupted { .. } => ErrorName::Interrupted,
            Self::SegmentsUnfinished { .. } | Self::Internal(_) => ErrorName::Internal,
        }
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
