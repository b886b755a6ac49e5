//! The handoff of the snapshot that a replica is loaded from: where the log takes over.

use highwater_domain::backup_source::SourceLocation;
use highwater_domain::handoff::Handoff;
use highwater_domain::ids::UnixMillis;
use highwater_domain::metadata::Metadata;
use highwater_domain::restore_point::TablePlace;
use highwater_domain::snapshot::Status;

use crate::error::StepError;
use crate::live_deps::LogDeps;
use crate::snapshot_info;

/// A sealed snapshot with a handoff.
#[derive(Clone, Debug)]
pub(crate) struct HandedOver {
    pub(crate) metadata: Metadata,
    pub(crate) handoff: Handoff,
    /// When the scan ended.
    pub(crate) scanned_at: UnixMillis,
}

/// Reads the `backup.json` of the snapshot at `url`.
pub(crate) async fn read(deps: &LogDeps, url: &str) -> Result<HandedOver, StepError> {
    let location: SourceLocation = url.parse()?;
    let wrong = |reason: &str| StepError::ReplicaRefused {
        table: url.to_owned(),
        reason: reason.to_owned(),
    };
    let place = TablePlace::of(&location);
    let place = place.map_err(|error| StepError::InvalidInput(error.to_string()))?;
    let Some(id) = place.snapshot.clone() else {
        return Err(wrong(
            "it is a table's folder, and one snapshot in it is needed",
        ));
    };
    let store = deps.stores.open(&place.store).map_err(StepError::Store)?;
    let metadata = snapshot_info::metadata(store.as_ref(), &place.layout(&id), &id).await?;
    if metadata.status != Status::Completed {
        return Err(StepError::BackupIncomplete {
            url: url.to_owned(),
            status: metadata.status.as_str().to_owned(),
        });
    }
    if metadata.max_items > 0 || !metadata.selection.is_everything() {
        return Err(wrong("it holds a part of its table only"));
    }
    let handoff = match metadata.handoff() {
        Ok(Some(handoff)) => handoff.clone(),
        Ok(None) => {
            return Err(wrong(
                "it has no handoff, so that no log takes over from it: take one with --with-stream",
            ));
        }
        Err(error) => return Err(StepError::PartCorrupt(format!("{url}: {error}"))),
    };
    let ended = metadata.backup_end_time.as_deref();
    let scanned_at = ended.and_then(UnixMillis::from_rfc3339).ok_or_else(|| {
        StepError::PartCorrupt(format!(
            "{url}: its backup.json does not say when the scan ended"
        ))
    })?;
    Ok(HandedOver {
        metadata,
        handoff,
        scanned_at,
    })
}
