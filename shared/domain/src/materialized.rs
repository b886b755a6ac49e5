//! Where a snapshot comes from that no scan made.

use serde::{Deserialize, Serialize};

use crate::mark::Grade;

/// What a snapshot was made from: another one, and the changes before and after it.
///
/// Such a snapshot has no handoff: no live changes take over from it, because it shows a moment that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Materialized {
    /// The second whose state it holds, RFC 3339.
    pub at: String,
    /// The snapshot that was scanned.
    pub snapshot: String,
    /// The folder of the table's change log.
    pub log: String,
    /// How the completeness of the log was known.
    pub grade: Grade,
}
