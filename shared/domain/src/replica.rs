//! A replica: a second table that is kept equal to the first. What is known of one, and how it goes from phase to phase.
//!
//! ```text
//! load ──► quiesce ──► live ──► promoted
//!   └─────────┴──────────┴────► failed
//! ```
//!
//! In `load` the items of a snapshot are written without conditions, by any number of loaders. In `quiesce` no new loader begins, and
//! the requests of the last ones run out. In `live` there are only writes behind fences. So no write of a loader can land on one of the
//! stream: see [`ReplicaRecord::settled_at`].

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::handoff::EVENTUAL_MARGIN_MS;
use crate::ids::{TableRef, UnixMillis};
use crate::key::KeySchema;
use crate::key_filter::KeyFilter;
use crate::mark::UnixSeconds;
use crate::restore::RestoreId;
use crate::sequence_number::Generation;

pub use crate::replica_id::ReplicaId;

/// The version of the record's layout that this build writes.
pub const REPLICA_VERSION: u32 = 1;

/// For so long after its signature AWS takes a request.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>
pub const LATE_REQUEST_MS: u64 = 300_000;

/// What clocks may differ by.
pub const CLOCK_MARGIN_MS: u64 = 60_000;

/// The seconds behind the end of a scan from which on a replica can be equal to its source: DynamoDB's stamps are so near the time.
pub const STAMP_MARGIN_S: u64 = 60;

/// Loaders that may be at work at once.
pub const MAX_ATTEMPTS: usize = 1000;

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The snapshot is loaded.
    Load,
    /// The loaders' last requests run out.
    Quiesce,
    /// The log is applied.
    Live,
    /// It stands by itself: nothing is applied any more.
    Promoted,
    /// It cannot go on, and must be rebuilt.
    Failed,
}

impl Phase {
    /// The word in JSON and for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Quiesce => "quiesce",
            Self::Live => "live",
            Self::Promoted => "promoted",
            Self::Failed => "failed",
        }
    }

    /// Whether it has come to an end.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Promoted | Self::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the order of the last change of each key is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceMode {
    /// In a table beside the replica. The replica's items are the source's, byte for byte.
    #[default]
    Table,
    /// In an attribute of the replica's items. Cheaper; a deleted item stays as a tombstone until the replica is promoted.
    Attribute,
}

impl FenceMode {
    /// The word on the command line and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Attribute => "attribute",
        }
    }
}

/// The attribute of [`FenceMode::Attribute`].
pub const FENCE_ATTRIBUTE: &str = "highwater_order";

/// One loader at work, until when its requests may be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name, used once.
    pub id: String,
    /// It signs no request after this.
    pub deadline: UnixMillis,
}

/// The control table's record of one replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// The layout's version.
    pub version: u32,
    /// The replica's name.
    pub id: ReplicaId,
    /// The source table, as it was named.
    pub source: TableRef,
    /// The source table's ARN.
    pub source_arn: String,
    /// The source table's UUID.
    pub source_table_id: Option<String>,
    /// The table that is kept equal, by ARN where another account or region has it.
    pub target: TableRef,
    /// The target's UUID: another one later means that it was dropped and re-created.
    pub target_table_id: Option<String>,
    /// The target's region, if it is another than the source's.
    #[serde(default)]
    pub target_region: Option<String>,
    /// The role that is assumed to write the target.
    #[serde(default)]
    pub target_role: Option<String>,
    /// Where the order of writes is kept.
    pub fence: FenceMode,
    /// The primary key of both tables.
    pub key_schema: KeySchema,
    /// Only items whose key passes every one of these.
    #[serde(default)]
    pub filter: Vec<KeyFilter>,
    /// The destination that holds the log: `s3://bucket/prefix` or `file:///path`.
    pub log: String,
    /// The snapshot that is loaded.
    pub snapshot: String,
    /// The restore that loads it.
    pub load: RestoreId,
    /// The stream whose log is applied: the one of the snapshot's handoff.
    pub stream_arn: String,
    /// That stream's label.
    pub stream_label: String,
    /// That stream's number among the table's.
    pub generation: Generation,
    /// When the handoff was captured.
    pub captured_at: UnixMillis,
    /// When the scan ended.
    pub scanned_at: UnixMillis,
    /// Where it is in its life.
    pub phase: Phase,
    /// The loaders at work.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// How long after a loader's deadline one of its requests may still land, in milliseconds: [`LATE_REQUEST_MS`] and
    /// [`CLOCK_MARGIN_MS`], or 0 for a local engine, which keeps no request back.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// By how many seconds DynamoDB's stamps may be off at the end of the scan: [`STAMP_MARGIN_S`], or 0 for a local engine.
    #[serde(default = "stamp_margin_s")]
    pub stamp_margin_s: u64,
    /// When it was planned.
    pub began_at: UnixMillis,
    /// Since when it is live.
    #[serde(default)]
    pub live_since: Option<UnixMillis>,
    /// The second up to which it is known to hold everything.
    #[serde(default)]
    pub applied: Option<UnixSeconds>,
    /// When that was found.
    #[serde(default)]
    pub applied_at: Option<UnixMillis>,
    /// Items of the snapshot that it did not take; each is kept whole with the load's rejects.
    #[serde(default)]
    pub rejected: u64,
    /// Records that it did not take; each is kept whole.
    #[serde(default)]
    pub refused: u64,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

fn late_ms() -> u64 {
    LATE_REQUEST_MS + CLOCK_MARGIN_MS
}

fn stamp_margin_s() -> u64 {
    STAMP_MARGIN_S
}

/// A step that this phase does not allow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PhaseError {
    /// It is in another phase.
    #[error("replica {id} is in phase {phase}, and this needs {needed}")]
    Wrong {
        /// The replica.
        id: ReplicaId,
        /// Where it is.
        phase: Phase,
        /// What it would take.
        needed: Phase,
    },
    /// Too many loaders are at work.
    #[error("replica {0} has {MAX_ATTEMPTS} loaders at work already")]
    TooManyLoaders(ReplicaId),
}

impl ReplicaRecord {
    /// The name of the table of the fences, beside the target.
    #[must_use]
    pub fn fence_table(&self) -> String {
        format!("{}-highwater-fences", self.target.name())
    }

    fn in_phase(&self, needed: Phase) -> Result<(), PhaseError> {
        if self.phase == needed {
            return Ok(());
        }
        Err(PhaseError::Wrong {
            id: self.id.clone(),
            phase: self.phase,
            needed,
        })
    }

    /// With a loader at work that signs no request after `deadline`.
    ///
    /// # Errors
    /// Once the phase is over nobody loads any more.
    pub fn with_attempt(&self, id: &str, deadline: UnixMillis) -> Result<Self, PhaseError> {
        self.in_phase(Phase::Load)?;
        let mut next = self.clone();
        next.attempts.retain(|attempt| attempt.id != id);
        if next.attempts.len() >= MAX_ATTEMPTS {
            return Err(PhaseError::TooManyLoaders(self.id.clone()));
        }
        next.attempts.push(Attempt {
            id: id.to_owned(),
            deadline,
        });
        Ok(next)
    }

    /// Without a loader, each of whose requests was answered.
    #[must_use]
    pub fn without_attempt(&self, id: &str) -> Self {
        let mut next = self.clone();
        next.attempts.retain(|attempt| attempt.id != id);
        next
    }

    /// Without the loaders of which nothing can land any more: those that died long ago.
    #[must_use]
    pub fn without_settled(&self, now: UnixMillis) -> Self {
        let mut next = self.clone();
        let is_open = |attempt: &Attempt| self.settled(attempt) > now;
        next.attempts.retain(is_open);
        next
    }

    /// The phase in which no loader begins.
    ///
    /// # Errors
    /// From another phase than `load`.
    pub fn quiescing(&self) -> Result<Self, PhaseError> {
        self.in_phase(Phase::Load)?;
        Ok(Self {
            phase: Phase::Quiesce,
            ..self.clone()
        })
    }

    /// The phase in which the log is applied, if at `now` no request of a loader can land any more; else when that will be.
    ///
    /// # Errors
    /// From another phase than `quiesce`.
    pub fn living(&self, now: UnixMillis) -> Result<Result<Self, UnixMillis>, PhaseError> {
        self.in_phase(Phase::Quiesce)?;
        Ok(match self.settled_at() {
            Some(at) if at > now => Err(at),
            _ => Ok(Self {
                phase: Phase::Live,
                attempts: Vec::new(),
                live_since: Some(now),
                ..self.clone()
            }),
        })
    }

    /// When the last request of its loaders can land: AWS refuses what was signed five minutes before. `None` if none is at work.
    #[must_use]
    pub fn settled_at(&self) -> Option<UnixMillis> {
        let settled = self.attempts.iter().map(|attempt| self.settled(attempt));
        settled.max()
    }

    fn settled(&self, attempt: &Attempt) -> UnixMillis {
        UnixMillis(attempt.deadline.0.saturating_add(self.late_ms))
    }

    /// The phase in which it stands by itself.
    ///
    /// # Errors
    /// From another phase than `live`.
    pub fn promoted(&self) -> Result<Self, PhaseError> {
        self.in_phase(Phase::Live)?;
        Ok(Self {
            phase: Phase::Promoted,
            ..self.clone()
        })
    }

    /// The end, with its reason. What is over stays as it is.
    #[must_use]
    pub fn failed(&self, why: impl Into<String>) -> Self {
        if self.phase.is_over() {
            return self.clone();
        }
        Self {
            phase: Phase::Failed,
            error: Some(why.into()),
            ..self.clone()
        }
    }

    /// Changes stamped before this second were seen by the scan, whatever the stamps are off by: they need not be applied.
    #[must_use]
    pub fn apply_from(&self) -> UnixSeconds {
        UnixSeconds(self.captured_at.0.saturating_sub(EVENTUAL_MARGIN_MS) / 1000)
    }

    /// The first second at which it can be equal to its source. Before it, the scan was under way.
    #[must_use]
    pub fn equal_from(&self) -> UnixSeconds {
        UnixSeconds(self.scanned_at.0.div_ceil(1000) + self.stamp_margin_s)
    }

    /// Whether it is equal to the source as of a second, and which.
    #[must_use]
    pub fn equal_at(&self) -> Option<UnixSeconds> {
        let is_live = matches!(self.phase, Phase::Live | Phase::Promoted);
        self.applied
            .filter(|applied| is_live && *applied >= self.equal_from())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ReplicaRecord {
        ReplicaRecord {
            version: REPLICA_VERSION,
            id: ReplicaId::of("arn:source", "arn:target"),
            source: "orders".parse().unwrap(),
            source_arn: "arn:source".into(),
            source_table_id: None,
            target: "copy".parse().unwrap(),
            target_table_id: None,
            target_region: None,
            target_role: None,
            fence: FenceMode::Table,
            key_schema: KeySchema {
                partition: crate::key::KeyAttribute {
                    name: "id".into(),
                    scalar_type: crate::key::ScalarType::S,
                },
                sort: None,
            },
            filter: Vec::new(),
            log: "file:///log".into(),
            snapshot: "file:///log/t/AWSDynamoDB/x".into(),
            load: "01768385930622-efd1a093".parse().unwrap(),
            stream_arn: "arn:stream".into(),
            stream_label: "label".into(),
            generation: Generation(1),
            captured_at: UnixMillis(2_000_000),
            scanned_at: UnixMillis(2_000_500),
            phase: Phase::Load,
            attempts: Vec::new(),
            late_ms: late_ms(),
            stamp_margin_s: stamp_margin_s(),
            began_at: UnixMillis(2_000_000),
            live_since: None,
            applied: None,
            applied_at: None,
            rejected: 0,
            refused: 0,
            error: None,
        }
    }

    #[test]
    fn no_loader_begins_once_loading_is_over() {
        let loading = record().with_attempt("a", UnixMillis(10)).unwrap();
        let quiescing = loading.quiescing().unwrap();
        let refused = quiescing.with_attempt("b", UnixMillis(20));
        assert!(matches!(refused, Err(PhaseError::Wrong { .. })));
        assert!(quiescing.quiescing().is_err());
        assert!(loading.living(UnixMillis(u64::MAX)).is_err());
        assert!(loading.promoted().is_err());
    }

    #[test]
    fn loaders_that_died_long_ago_make_room() {
        let loading = record().with_attempt("a", UnixMillis(5_000)).unwrap();
        let loading = loading.with_attempt("b", UnixMillis(9_000)).unwrap();
        let at = |ms| loading.without_settled(UnixMillis(ms)).attempts.len();
        assert_eq!((at(364_999), at(365_000), at(369_000)), (2, 1, 0));
    }

    #[test]
    fn case_51_a_loader_that_died_is_waited_for_until_nothing_of_it_can_land() {
        let loading = record();
        let loading = loading.with_attempt("a", UnixMillis(5_000)).unwrap();
        let loading = loading.with_attempt("b", UnixMillis(9_000)).unwrap();
        let quiescing = loading.quiescing().unwrap();
        let until = UnixMillis(9_000 + 300_000 + 60_000);
        assert_eq!(quiescing.living(UnixMillis(0)).unwrap(), Err(until));
        let almost = UnixMillis(until.0 - 1);
        assert_eq!(quiescing.living(almost).unwrap(), Err(until));
        let live = quiescing.living(until).unwrap().unwrap();
        assert_eq!((live.phase, live.live_since), (Phase::Live, Some(until)));
        // The one that ended well is waited for by nobody.
        let one = quiescing.without_attempt("b").without_attempt("a");
        assert!(one.living(UnixMillis(0)).unwrap().is_ok());
    }

    #[test]
    fn it_is_equal_only_behind_the_scan() {
        let mut live = ReplicaRecord {
            phase: Phase::Live,
            ..record()
        };
        assert_eq!(live.equal_from(), UnixSeconds(2001 + 60));
        live.applied = Some(UnixSeconds(2060));
        assert_eq!(live.equal_at(), None);
        live.applied = Some(UnixSeconds(2061));
        assert_eq!(live.equal_at(), Some(UnixSeconds(2061)));
        assert_eq!(live.failed("gap").equal_at(), None);
        assert_eq!(live.apply_from(), UnixSeconds(1100));
    }

    #[test]
    fn what_is_over_stays_over() {
        let promoted = ReplicaRecord {
            phase: Phase::Live,
            ..record()
        };
        let promoted = promoted.promoted().unwrap();
        assert_eq!(promoted.failed("late").phase, Phase::Promoted);
        let failed = record().failed("gap");
        assert_eq!(failed.error.as_deref(), Some("gap"));
        assert!(failed.promoted().is_err() && failed.with_attempt("a", UnixMillis(1)).is_err());
    }

    #[test]
    fn the_record_reads_back() {
        let record = record().with_attempt("a", UnixMillis(7)).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<ReplicaRecord>(&text).unwrap(),
            record
        );
    }
}
