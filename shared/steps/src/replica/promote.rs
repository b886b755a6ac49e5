//! Lets a replica go: once it has caught up it is detached from its source, and what is ours is taken out of it.
//!
//! The phase first, so that nobody begins to apply; then the fences, without which every transaction of somebody who should have
//! stopped fails as a whole. Fences that are attributes are no such lock once they are taken out: so what was sent before the phase
//! changed is waited for, and a process that was suspended all the while is the one thing that this kind of fence does not stop.

use std::time::Duration;

use highwater_domain::replica::{FenceMode, Phase, PhaseError, ReplicaRecord};
use highwater_domain::replica_targets::TargetAccess;

use super::{ReplicaDeps, load, strip, update};
use crate::error::StepError;

/// Which replicas may be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// Only one that is known to be equal to its source no longer than so many seconds ago.
    WithinSeconds(u64),
    /// Any that is live, as it is: the source is gone, or what it lacks does not matter.
    AsItIs,
}

/// Within this time everybody who applies has noticed that it is over, in milliseconds.
const NOTICED_MS: u64 = 20_000;

/// Promotes a replica. One that was promoted before is only tidied up.
///
/// # Errors
/// [`StepError::ReplicaFailed`] says by how much it is behind, or in which phase it is.
pub async fn run(
    deps: &ReplicaDeps,
    record: &ReplicaRecord,
    caught: Caught,
) -> Result<ReplicaRecord, StepError> {
    let refused = |reason: String| StepError::ReplicaFailed {
        id: record.id.clone(),
        reason,
    };
    let known = load(deps, &record.source_arn, &record.id).await?.value;
    if known.phase != Phase::Promoted {
        check(deps, &known, caught).map_err(refused)?;
    }
    let promoted = update(
        deps,
        &record.source_arn,
        &record.id,
        |latest| match latest.promoted() {
            Ok(next) => Ok(next),
            Err(PhaseError::Wrong {
                phase: Phase::Promoted,
                ..
            }) => Ok(latest.clone()),
            Err(error) => Err(refused(error.to_string())),
        },
    )
    .await?;
    let access = TargetAccess::from(&promoted);
    let target = deps.targets.open(&access).await.map_err(StepError::Table)?;
    if promoted.fence == FenceMode::Attribute {
        let wait = promoted.late_ms + NOTICED_MS;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let stripped = strip::run(&promoted, &target).await?;
        deps.observer.stripped(&promoted.id, &stripped);
    }
    let deleted = target.fences.delete(&promoted.fence_table()).await;
    deleted.map_err(StepError::Table)?;
    Ok(promoted)
}

/// Whether a replica may be promoted as it stands.
///
/// # Errors
/// Why not.
pub fn check(deps: &ReplicaDeps, record: &ReplicaRecord, caught: Caught) -> Result<(), String> {
    if record.phase != Phase::Live {
        return Err(format!(
            "it is in phase {}, and only a live one can be promoted",
            record.phase
        ));
    }
    let Caught::WithinSeconds(most) = caught else {
        return Ok(());
    };
    if record.refused + record.rejected > 0 {
        return Err(format!(
            "it lacks {} items and {} records that it did not take; see `highwater status`",
            record.rejected, record.refused
        ));
    }
    let Some(equal_at) = record.equal_at() else {
        return Err("it has not caught up with its snapshot's scan yet".into());
    };
    let behind = (deps.live.clock.now().0 / 1000).saturating_sub(equal_at.0);
    if behind > most {
        return Err(format!(
            "it is {behind} seconds behind its source, of {most} that are allowed"
        ));
    }
    Ok(())
}
