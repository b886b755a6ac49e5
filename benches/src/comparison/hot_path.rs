//! The hot paths that are compared.

use std::fmt;

use clap::ValueEnum;

/// A hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Path {
    /// A table's items into parts.
    Export,
    /// A backup's parts into a new table.
    Restore,
    /// Lambda's stream events into objects of the log.
    EventLog,
    /// Answers of `GetRecords` into objects of the log.
    RecordLog,
    /// Backup and log into the items of a second.
    Merge,
    /// A backup read again, and compared.
    Verify,
}

impl Path {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 6] = [
        Self::Export,
        Self::Restore,
        Self::EventLog,
        Self::RecordLog,
        Self::Merge,
        Self::Verify,
    ];

    /// A heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Export => "Export: a table into parts",
            Self::Restore => "Restore: parts into a new table",
            Self::EventLog => "Log: Lambda's stream events",
            Self::RecordLog => "Log: answers of GetRecords",
            Self::Merge => "Merge: backup and log into the items of a second",
            Self::Verify => "Verify: a backup read again",
        }
    }

    /// What its gigabytes are of.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Export | Self::Restore => "GB of the items' JSON on the wire",
            Self::EventLog => "GB of events",
            Self::RecordLog => "GB of records",
            Self::Merge => "GB of the log's records before compression",
            Self::Verify => "GB of the items' JSON; of both sides of a comparison",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
