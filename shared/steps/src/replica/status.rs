//! How a table's replicas stand, and whether a person is needed.

use highwater_domain::ids::UnixMillis;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use serde::Serialize;

use crate::error::StepError;

/// A replica that nobody has looked at for so long: nobody applies.
const UNATTENDED_MS: u64 = 60 * 60 * 1000;

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaStatus {
    /// What is on record.
    #[serde(flatten)]
    pub record: ReplicaRecord,
    /// The second as of which it is equal to its source; `None` while it catches up.
    pub equal_at: Option<UnixSeconds>,
    /// How long ago that second was.
    pub lag_seconds: Option<u64>,
    /// What does not mend itself, in words, with what to do.
    pub why: Vec<String>,
}

impl ReplicaStatus {
    /// How a replica stands at `now`.
    #[must_use]
    pub fn of(record: ReplicaRecord, now: UnixMillis) -> Self {
        let equal_at = record.equal_at();
        Self {
            equal_at,
            lag_seconds: equal_at.map(|at| (now.0 / 1000).saturating_sub(at.0)),
            why: reasons(&record, now),
            record,
        }
    }
}

/// The replicas of a table, those that are over at the end.
pub async fn of_table(
    control: &dyn ReplicaControl,
    source_arn: &str,
    now: UnixMillis,
) -> Result<Vec<ReplicaStatus>, StepError> {
    let mut records = control
        .replicas(source_arn)
        .await
        .map_err(StepError::Control)?;
    records.sort_by_key(|record| (record.phase.is_over(), record.began_at));
    let status = |record| ReplicaStatus::of(record, now);
    Ok(records.into_iter().map(status).collect())
}

fn reasons(record: &ReplicaRecord, now: UnixMillis) -> Vec<String> {
    let target = &record.target;
    let mut why = Vec::new();
    if record.phase == Phase::Failed {
        let reason = record
            .error
            .as_deref()
            .unwrap_or("for a reason that is not known");
        why.push(format!(
            "the replica {target} cannot go on ({reason}): replicate into a fresh table"
        ));
    }
    if record.refused + record.rejected > 0 && record.phase != Phase::Promoted {
        why.push(format!(
            "the replica {target} did not take {} items of the snapshot and {} records; they are kept whole beside the log",
            record.rejected, record.refused
        ));
    }
    let seen = record.applied_at.or(record.live_since);
    if record.phase == Phase::Live && seen.is_some_and(|at| now.since(at) >= UNATTENDED_MS) {
        why.push(format!(
            "nobody applies the log to the replica {target}: run highwater replicate again"
        ));
    }
    why
}
