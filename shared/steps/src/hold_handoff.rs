//! Whether a snapshot's handoff still holds: the table and its stream are the ones that it was captured from, and no record
//! from its positions on is gone unread.
//!
//! Looked at before every stretch of scanning and before the seal. A stream that is disabled and enabled anew in between
//! has changes without records, and the scan may have missed them; nothing mends that but another snapshot.

use std::collections::{BTreeMap, BTreeSet};

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::handoff::{Handoff, Reading};
use highwater_domain::lineage::Position;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::shard::ShardId;
use highwater_domain::snapshot::SnapshotRecord;
use highwater_domain::table_stream::StreamedTable;
use highwater_lease::LeaseId;

use crate::begin_log::{REGISTRAR, log_of};
use crate::deps::Deps;
use crate::error::StepError;
use crate::shard_rows::ShardRow;
use crate::status;

/// Shards that a message names; the others it counts.
const NAMED: usize = 3;

/// Refuses to go on with a table, or a stream, that is not the one the snapshot began with.
///
/// # Errors
/// [`StepError::TableChanged`], [`StepError::StreamChanged`].
pub async fn check_source(deps: &Deps, record: &SnapshotRecord) -> Result<(), StepError> {
    let Some(handoff) = holding(record) else {
        return status::check_same_table(deps, record).await;
    };
    let described = deps.describer.description(record.table.as_str()).await;
    let table = StreamedTable::of(&described.map_err(StepError::Table)?);
    if table.table_id != record.table_id {
        return Err(StepError::TableChanged {
            table: record.table.to_string(),
            id: record.id.clone(),
        });
    }
    let reason = match table.stream {
        Some(stream) if stream.arn == handoff.stream_arn => return Ok(()),
        Some(stream) => format!("{} has taken its place", stream.arn),
        None => format!("{} was disabled", handoff.stream_arn),
    };
    Err(StepError::StreamChanged {
        table: record.table.to_string(),
        id: record.id.clone(),
        reason: format!("{reason}; begin a new backup"),
    })
}

/// The handoff, unless there is none or it was given up.
fn holding(record: &SnapshotRecord) -> Option<&Handoff> {
    record.handoff.as_ref().filter(|handoff| !handoff.expired)
}

/// The last look before the seal: once more at table and stream, and at how far the log has got.
///
/// Where records from the handoff on are gone unread, a snapshot that was asked to have one is refused, and any other is
/// marked: it will be sealed as a plain backup.
///
/// `None` if another copy of this execution has sealed the snapshot meanwhile.
///
/// # Errors
/// [`StepError::HandoffExpired`], and those of [`check_source`].
pub async fn judge(
    deps: &Deps,
    store: &dyn ObjectStore,
    checked: Versioned<SnapshotRecord>,
) -> Result<Option<Versioned<SnapshotRecord>>, StepError> {
    let record = &checked.value;
    let Some(handoff) = holding(record) else {
        return Ok(Some(checked));
    };
    check_source(deps, record).await?;
    let readings = readings(deps, store, record, handoff).await?;
    let gone = handoff.expired_shards(&readings, deps.clock.now());
    if gone.is_empty() {
        return Ok(Some(checked));
    }
    let reason = reason(&gone);
    if record.with_stream {
        return Err(StepError::HandoffExpired {
            id: record.id.clone(),
            reason,
        });
    }
    tracing::warn!(snapshot = %record.id, reason, "the handoff has expired; this is a plain backup");
    give_up(deps, checked).await
}

fn reason(gone: &[&ShardId]) -> String {
    let named: Vec<&str> = gone.iter().take(NAMED).map(|id| id.as_str()).collect();
    let others = match gone.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "nobody has read {}{others}, and DynamoDB keeps records for 24 hours only; let `highwater follow` or the deployed \
         functions read the stream while a backup runs",
        named.join(", ")
    )
}

/// How far the shards that the handoff begins with were read. Keeps no other rows.
async fn readings(
    deps: &Deps,
    store: &dyn ObjectStore,
    record: &SnapshotRecord,
    handoff: &Handoff,
) -> Result<BTreeMap<ShardId, Reading>, StepError> {
    let place = status::log_place(record)?;
    let log = log_of(store, &place, &handoff.stream_arn, &handoff.stream_label);
    let leases = deps.live.leases.group(&log.lease_group(), REGISTRAR)?;
    let begins: BTreeSet<&ShardId> = handoff.beginnings().map(|it| &it.shard.id).collect();
    let mut readings = BTreeMap::new();
    let mut after: Option<LeaseId> = None;
    loop {
        let page = leases.page(after.as_ref()).await?;
        let Some(last) = page.last() else {
            return Ok(readings);
        };
        after = Some(last.id.clone());
        for row in &page {
            let row = ShardRow::of(row)?;
            if begins.contains(&row.shard) {
                readings.insert(row.shard.clone(), reading(row));
            }
        }
    }
}

fn reading(row: ShardRow) -> Reading {
    let position = match row.position {
        highwater_lease::Position::End => Position::End,
        highwater_lease::Position::Open(place) if place.after => {
            Position::After(place.sequence_number)
        }
        highwater_lease::Position::Open(place) => Position::At(place.sequence_number),
    };
    Reading {
        position,
        lost: row.lost,
    }
}

/// Marks the handoff as expired. The positions stay, to show what was meant. `None` if another copy of this execution
/// has sealed the snapshot meanwhile.
async fn give_up(
    deps: &Deps,
    mut checked: Versioned<SnapshotRecord>,
) -> Result<Option<Versioned<SnapshotRecord>>, StepError> {
    loop {
        match &mut checked.value.handoff {
            Some(handoff) if !handoff.expired => handoff.expired = true,
            // By a second copy, or by this very call, whose answer got lost.
            _ => return Ok(Some(checked)),
        }
        let updated = deps
            .control
            .update_snapshot(checked.version, &checked.value)
            .await;
        match updated.map_err(StepError::Control)? {
            Cas::Applied(version) => {
                checked.version = version;
                return Ok(Some(checked));
            }
            Cas::Lost => match status::again(deps, &checked.value).await? {
                Some(known) => checked = known,
                None => return Ok(None),
            },
        }
    }
}
