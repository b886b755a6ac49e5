//! Puts breaks of a change log on record, so that no restore goes through them.

use std::sync::Arc;

use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{Creation, ObjectStore};

use crate::error::StepError;
use crate::status::json_object;
use crate::verify_log::{ChainBreak, LogReport};

/// Writes an incident for each break that the report names; gives how many were new.
///
/// The mark stands still before the first of them until a snapshot that was begun later heals it. A second copy beside
/// this one writes the same incidents under the same names.
pub async fn record_breaks(
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
    report: &LogReport,
    seen_at: UnixMillis,
) -> Result<u64, StepError> {
    let mut new = 0;
    for broken in &report.broken {
        let incident = incident(broken, &report.stream_label, seen_at);
        let key = place.incident(&report.stream_label, &incident.id);
        let object = json_object(key, &incident)?;
        let creation = store.create(object).await.map_err(StepError::Store)?;
        new += u64::from(creation == Creation::Created);
    }
    Ok(new)
}

fn incident(broken: &ChainBreak, label: &str, seen_at: UnixMillis) -> Incident {
    let (from, until) = broken.between;
    let ((after_shard, after), (shard, before)) = (&broken.after, &broken.before);
    Incident {
        version: INCIDENT_VERSION,
        id: format!("{}-{shard}-{before}", IncidentKind::ChainBreak),
        kind: IncidentKind::ChainBreak,
        stream_label: label.to_owned(),
        shard: Some(shard.clone()),
        from: from.min(until),
        until: until.max(from),
        seen_at,
        detail: format!(
            "record {before} of shard {shard} does not follow from record {after} of shard {after_shard}, the one before \
             of its key"
        ),
    }
}
