//! What a command works on: a backup or a restore, by its id.

use std::fmt;

use highwater_domain::ids::SnapshotId;
use highwater_domain::restore::RestoreId;

use crate::args::{DEFAULT_CONTROL_TABLE, Global};

/// A backup or a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A backup being made.
    Backup(SnapshotId),
    /// A restore being done.
    Restore(RestoreId),
    /// A restore that makes a snapshot and fills no table.
    Materialize(RestoreId),
}

impl Job {
    /// The command that goes on with it, with the connection and the checkpoints that `global` names: it works as
    /// it is printed.
    pub fn resume_command(&self, global: &Global) -> String {
        let mut command = match self {
            Self::Backup(id) => format!("highwater backup --resume {id}"),
            Self::Restore(id) => format!("highwater restore --resume {id}"),
            Self::Materialize(id) => format!("highwater materialize --resume {id}"),
        };
        let control_table = Some(&global.control_table).filter(|it| *it != DEFAULT_CONTROL_TABLE);
        let control = global.control.as_ref().map(ToString::to_string);
        let flags = [
            ("--endpoint-url", global.endpoint_url.as_ref()),
            ("--s3-endpoint-url", global.s3_endpoint_url.as_ref()),
            ("--profile", global.profile.as_ref()),
            ("--region", global.region.as_ref()),
            ("--control-table", control_table),
            ("--control", control.as_ref()),
        ];
        add_flags(&mut command, &flags);
        command
    }
}

/// Adds the flags that have a value to a command.
pub fn add_flags(command: &mut String, flags: &[(&str, Option<&String>)]) {
    for (flag, value) in flags {
        if let Some(value) = value {
            command.extend([" ", flag, " ", &quoted(value)]);
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_./:=@%+,".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(id) => write!(f, "backup {id}"),
            Self::Restore(id) => write!(f, "restore {id}"),
            Self::Materialize(id) => write!(f, "materialize {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("local:/var/lib/x-1.db"), "local:/var/lib/x-1.db");
        assert_eq!(quoted("local:check points"), "'local:check points'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
