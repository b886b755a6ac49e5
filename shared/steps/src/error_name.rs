//! The names of errors at the edge: what a state machine matches and a command prints.

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
    /// The backup was never finished.
    BackupIncomplete,
    /// The table that was to be created is there.
    TableExists,
    /// The restore id is taken.
    RestoreExists,
    /// There is no such restore.
    RestoreNotFound,
    /// The table does not take an item.
    ItemRejected,
    /// DynamoDB's own import did not do all of its work.
    ImportFailed,
    /// The table has no stream that can be followed.
    StreamUnsuitable,
    /// The stream was disabled or enabled anew.
    StreamChanged,
    /// Records from the handoff on are gone unread.
    HandoffExpired,
    /// No restore to this second can be exact.
    NotRestorable,
    /// Somebody else has the shard now.
    LeaseLost,
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
    pub const ALL: [Self; 27] = [
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
        Self::BackupIncomplete,
        Self::TableExists,
        Self::RestoreExists,
        Self::RestoreNotFound,
        Self::ItemRejected,
        Self::ImportFailed,
        Self::StreamUnsuitable,
        Self::StreamChanged,
        Self::HandoffExpired,
        Self::NotRestorable,
        Self::LeaseLost,
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
            Self::BackupIncomplete => "BackupIncomplete",
            Self::TableExists => "TableExists",
            Self::RestoreExists => "RestoreExists",
            Self::RestoreNotFound => "RestoreNotFound",
            Self::ItemRejected => "ItemRejected",
            Self::ImportFailed => "ImportFailed",
            Self::StreamUnsuitable => "StreamUnsuitable",
            Self::StreamChanged => "StreamChanged",
            Self::HandoffExpired => "HandoffExpired",
            Self::NotRestorable => "NotRestorable",
            Self::LeaseLost => "LeaseLost",
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
