//! Takes out of a promoted replica what is ours: the order that each item carries, and the tombstones.
//!
//! An item that somebody has written since carries no order any more, or another one: it is left as it is. So the work may be broken off
//! and begun again, and may go on beside the replica's new life.

use std::borrow::Cow;
use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::fenced_writer::TOMBSTONE;
use highwater_domain::replica::{FENCE_ATTRIBUTE, ReplicaRecord};
use highwater_domain::replica_targets::TargetPorts;
use highwater_domain::scan::ScanRequest;
use highwater_domain::selection::Selection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::StepError;

/// Items that are stripped at once.
const AT_ONCE: usize = 16;

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stripped {
    /// Items that carried an order.
    pub items: u64,
    /// Keys of deleted items.
    pub tombstones: u64,
}

/// An item with an order of ours.
#[derive(Debug, PartialEq, Eq)]
struct Ours {
    key: String,
    order: String,
    is_tombstone: bool,
}

/// Strips all items of the replica's table.
pub(crate) async fn run(
    record: &ReplicaRecord,
    target: &TargetPorts,
) -> Result<Stripped, StepError> {
    let table = record.target.as_str();
    let mut stripped = Stripped::default();
    let mut scan = ScanRequest {
        table: table.to_owned(),
        segment: 0,
        total_segments: 1,
        exclusive_start_key: None,
        consistent: true,
        limit: None,
        selection: Selection::default(),
    };
    loop {
        let page = target.scanner.scan_page(&scan).await;
        let page = page.map_err(StepError::Table)?;
        let ours: Vec<Ours> = page
            .items
            .iter()
            .filter_map(|item| ours(record, item).transpose())
            .collect::<Result<_, _>>()?;
        let tombstones = ours.iter().filter(|it| it.is_tombstone).count() as u64;
        stripped.tombstones += tombstones;
        stripped.items += ours.len() as u64 - tombstones;
        stream::iter(&ours)
            .map(|it| {
                let key = it.key.as_bytes();
                target
                    .fences
                    .strip(table, FENCE_ATTRIBUTE, key, &it.order, it.is_tombstone)
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| async { Ok(()) })
            .await
            .map_err(StepError::Table)?;
        scan.exclusive_start_key = page.last_evaluated_key;
        if scan.exclusive_start_key.is_none() {
            return Ok(stripped);
        }
    }
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: String,
}

/// What of an item is ours, if anything is.
fn ours(record: &ReplicaRecord, item: &[u8]) -> Result<Option<Ours>, StepError> {
    let broken = |error: &dyn std::fmt::Display| {
        StepError::Internal(format!(
            "an item of {} cannot be read: {error}",
            record.target
        ))
    };
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(item).map_err(|error| broken(&error))?;
    let Some(order) = members.get(FENCE_ATTRIBUTE) else {
        return Ok(None);
    };
    // An attribute of this name that is no text is not ours.
    let Ok(order) = serde_json::from_str::<Text>(order.get()) else {
        return Ok(None);
    };
    let key = record.key_schema.key_of(item);
    let key = key.map_err(|error| broken(&error))?;
    Ok(Some(Ours {
        key: serde_json::to_string(&key).map_err(|error| broken(&error))?,
        order: order.text,
        is_tombstone: members.contains_key(TOMBSTONE),
    }))
}
