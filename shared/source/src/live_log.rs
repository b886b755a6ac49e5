//! The log that is none: what the live side reads a stream by, and how it tells of losses.

use std::sync::Arc;

use highwater_domain::handoff::Handoff;
use highwater_domain::incident::{Incident, IncidentKind};
use highwater_domain::live_control::LogId;
use highwater_domain::log_facts::{LOG_FACTS_VERSION, StreamFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::DEFAULT_PUBLICATION_MS;
use highwater_domain::object_store::ObjectStore;
use highwater_lease::{LeaseId, Position};
use highwater_steps::StepError;
use highwater_steps::service_time::ServiceTime;
use highwater_steps::stream_log::StreamLog;

use crate::core::Core;
use crate::error::SourceError;
use crate::facts_store::FactsStore;
use crate::plan::Plan;

pub(crate) fn records_lost<T>(core: &Core<T>, detail: String) -> SourceError {
    SourceError::RecordsLost {
        name: core.name.clone(),
        table: core.table.to_string(),
        detail,
    }
}

/// A loss before anything of a shard was read means that the handoff has expired.
pub(crate) async fn loss<T>(
    core: &Core<T>,
    log: &StreamLog,
    handoff: &Handoff,
    lost: &Incident,
) -> SourceError {
    let detail = lost.detail.clone();
    let begins = handoff
        .beginnings()
        .find(|begins| Some(&begins.shard.id) == lost.shard.as_ref());
    let lease = begins.and_then(|begins| LeaseId::new(begins.shard.id.as_str()).ok());
    if lost.kind == IncidentKind::Gap
        && let Some(lease) = lease
        && let Ok(row) = log.leases.fetch(&lease).await
        && matches!(&row.lease.position, Position::Open(place) if !place.after)
    {
        return SourceError::HandoffExpired {
            name: core.name.clone(),
            detail,
        };
    }
    records_lost(core, detail)
}

/// The log that is none: its facts are among the source's checkpoints, its records go elsewhere.
pub(crate) fn stream_log<T>(
    core: &Core<T>,
    plan: &Plan,
    handoff: &Handoff,
) -> Result<StreamLog, SourceError> {
    let store: Arc<dyn ObjectStore> = Arc::new(FactsStore {
        source: core.name.clone(),
        place: Arc::clone(&core.ledger.place),
    });
    let id = LogId::of(&handoff.stream_arn, &store.url(""));
    let leases = core
        .ports
        .leases
        .group(&id.lease_group(), &core.live.worker);
    Ok(StreamLog {
        place: LogPlace::new("", "stream"),
        facts: StreamFacts {
            version: LOG_FACTS_VERSION,
            generation: handoff.generation,
            stream_arn: handoff.stream_arn.clone(),
            stream_label: handoff.stream_label.clone(),
            view: handoff.view,
            table_arn: plan.table_arn.clone(),
            table_id: plan.table_id.clone(),
            met_at: handoff.captured_at,
            log_from: handoff.log_from,
        },
        id,
        leases: leases.map_err(StepError::from)?.seeded(core.live.seed),
        time: ServiceTime::new(Arc::clone(&core.ports.clock)),
        publication_ms: DEFAULT_PUBLICATION_MS,
        store,
    })
}
