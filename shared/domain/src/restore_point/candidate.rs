//! A snapshot that a log may be laid over, by its `backup.json`.

use crate::handoff::Handoff;
use crate::ids::{SnapshotId, UnixMillis};
use crate::metadata::Metadata;
use crate::restore_point::Forbidden;
use crate::snapshot::Status;

/// One snapshot of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub snapshot_id: SnapshotId,
    /// Where live changes take over, or why it will not do as it is.
    pub handoff: Result<Handoff, Forbidden>,
    /// Whether it was read strongly consistently.
    pub consistent: bool,
    /// When its scan had ended, by a clock that was not behind DynamoDB's.
    pub scan_ended: UnixMillis,
}

impl Candidate {
    /// A snapshot by its `backup.json`.
    #[must_use]
    pub fn of(snapshot_id: SnapshotId, metadata: &Metadata) -> Self {
        let (handoff, scan_ended) = match usable(metadata) {
            Ok((handoff, ended)) => (Ok(handoff.clone()), ended),
            Err(forbidden) => (Err(forbidden), UnixMillis::default()),
        };
        Self {
            snapshot_id,
            handoff,
            consistent: metadata.consistent,
            scan_ended,
        }
    }
}

/// The handoff of a snapshot that can be laid under a log, and when its scan had ended.
fn usable(metadata: &Metadata) -> Result<(&Handoff, UnixMillis), Forbidden> {
    if metadata.materialized.is_some() {
        return Err(Forbidden::Materialized);
    }
    if metadata.status != Status::Completed {
        return Err(Forbidden::NotSealed);
    }
    if !metadata.selection.is_everything() || metadata.max_items != 0 {
        return Err(Forbidden::Partial);
    }
    let unreadable = |what: &str| Forbidden::Unreadable(format!("its backup.json has {what}"));
    let handoff = metadata
        .handoff()
        .map_err(|error| Forbidden::Unreadable(error.to_string()))?
        .ok_or_else(|| Forbidden::NoHandoff {
            why: metadata
                .no_handoff
                .clone()
                .unwrap_or_else(|| "it was made without a stream".into()),
        })?;
    let time = |text: Option<&str>| text.and_then(UnixMillis::from_rfc3339);
    let ended = time(metadata.backup_end_time.as_deref())
        .ok_or_else(|| unreadable("no readable backup_end_time"))?;
    let started = time(Some(&metadata.backup_start_time))
        .ok_or_else(|| unreadable("no readable backup_start_time"))?;
    // These two were told by the clock of whoever made the snapshot, the handoff's by DynamoDB's. If the former was
    // behind, the scan ended later than it says; if it was ahead, taking it as it is only asks for more of the log.
    let behind = handoff.captured_at.since(started);
    Ok((handoff, UnixMillis(ended.0.saturating_add(behind))))
}
