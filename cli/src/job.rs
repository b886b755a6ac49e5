//! What a command works on: a backup or a restore, by its id.

use std::fmt;

use highwater_domain::ids::SnapshotId;
use highwater_domain::restore::RestoreId;

/// A backup or a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A backup being made.
    Backup(SnapshotId),
    /// A restore being done.
    Restore(RestoreId),
}

impl Job {
    /// The command that goes on with it.
    pub fn resume_command(&self) -> String {
        match self {
            Self::Backup(id) => format!("highwater backup --resume {id}"),
            Self::Restore(id) => format!("highwater restore --resume {id}"),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(id) => write!(f, "backup {id}"),
            Self::Restore(id) => write!(f, "restore {id}"),
        }
    }
}
