//! Takes a replica from phase to phase: each step is one compare-and-set, so that it does not matter who does it, or how often.

use highwater_domain::ids::UnixMillis;
use highwater_domain::replica::{Phase, PhaseError, ReplicaRecord};
use highwater_domain::snapshot::Status;

use super::{FeedDeps, update};
use crate::error::StepError;

/// Where a replica stands, and what it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Advanced {
    /// The record.
    pub record: ReplicaRecord,
    /// Until when the last requests of loaders run out, if that is what it waits for.
    pub quiet_at: Option<UnixMillis>,
    /// What became of the load, while that is not done.
    pub load: Option<Status>,
}

/// Takes the replica as far as it goes at this moment.
pub async fn run(deps: &FeedDeps, record: ReplicaRecord) -> Result<Advanced, StepError> {
    let mut record = record;
    let advanced = |record, quiet_at, load| Advanced {
        record,
        quiet_at,
        load,
    };
    if record.phase == Phase::Load {
        let restore = deps.restores.restore(&record.load).await;
        let restore = restore.map_err(StepError::Control)?;
        let status = restore
            .as_ref()
            .map_or(Status::Running, |it| it.value.status);
        if status != Status::Completed {
            return Ok(advanced(record, None, Some(status)));
        }
        let rejected = restore.map_or(0, |it| it.value.totals.rejected);
        record = update(deps, &record.source_arn, &record.id, |latest| {
            match latest.quiescing() {
                Ok(next) => Ok(ReplicaRecord { rejected, ..next }),
                // Somebody else was first.
                Err(PhaseError::Wrong { .. }) => Ok(latest.clone()),
                Err(error) => Err(StepError::Internal(error.to_string())),
            }
        })
        .await?;
    }
    if record.phase == Phase::Quiesce {
        let now = deps.live.clock.now();
        record = update(
            deps,
            &record.source_arn,
            &record.id,
            |latest| match latest.living(now) {
                Ok(Ok(next)) => Ok(next),
                Ok(Err(_)) | Err(_) => Ok(latest.clone()),
            },
        )
        .await?;
        if record.phase == Phase::Quiesce {
            let quiet_at = record.settled_at();
            return Ok(advanced(record, quiet_at, None));
        }
    }
    Ok(advanced(record, None, None))
}

/// Puts on record that a replica cannot go on.
pub async fn fail(
    deps: &FeedDeps,
    record: &ReplicaRecord,
    why: &str,
) -> Result<ReplicaRecord, StepError> {
    update(deps, &record.source_arn, &record.id, |latest| {
        Ok(latest.failed(why))
    })
    .await
}
