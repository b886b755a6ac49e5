//! The ports of a source as the steps of the live side take them.

use std::sync::{Arc, Mutex, PoisonError};

use highwater_domain::incident::{Incident, IncidentKind};
use highwater_domain::shard::ShardId;
use highwater_steps::StopFlag;
use highwater_steps::live_deps::{LiveDeps, LiveObserver, LogDeps};

use crate::core::Core;
use crate::metrics::Metrics;
use crate::ports::NoLog;
use crate::record::Place;

/// The ports, watched by nobody but the metrics.
pub(crate) fn live_deps<T>(core: &Core<T>) -> LiveDeps {
    let watch = LossWatch::new(Arc::clone(&core.metrics));
    deps_watched(core, Arc::new(watch), core.stop.clone())
}

/// The ports, with somebody who hears of losses.
pub(crate) fn deps_watched<T>(core: &Core<T>, watch: Arc<LossWatch>, stop: StopFlag) -> LiveDeps {
    let ports = &core.ports;
    LiveDeps {
        streams: Arc::clone(&ports.streams),
        log: LogDeps {
            describer: Arc::new(Arc::clone(&ports.describer)),
            stores: Arc::new(NoLog),
            leases: Arc::clone(&ports.leases),
            live: Arc::new(NoLog),
            clock: Arc::clone(&ports.clock),
            observer: watch,
            stop,
        },
    }
}

/// Hears of what is lost, and halts the reading at it: what comes behind a loss must not be applied as if nothing were missing.
#[derive(Debug)]
pub(crate) struct LossWatch {
    metrics: Arc<dyn Metrics>,
    pub(crate) halt: StopFlag,
    lost: Mutex<Option<Incident>>,
}

impl LossWatch {
    pub(crate) fn new(metrics: Arc<dyn Metrics>) -> Self {
        Self {
            metrics,
            halt: StopFlag::default(),
            lost: Mutex::default(),
        }
    }

    /// The first loss that was seen.
    pub(crate) fn lost(&self) -> Option<Incident> {
        self.lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Whether what is on record ends the reading at once. The end of a stream does not: what is left of it is read first.
pub(crate) fn is_fatal(incident: &Incident) -> bool {
    incident.kind.loses_records() && incident.kind != IncidentKind::StreamEnded
}

impl LiveObserver for LossWatch {
    fn met(&self, incident: &Incident) {
        if is_fatal(incident) {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.get_or_insert_with(|| incident.clone());
            self.halt.set();
        }
    }

    fn owns(&self, shard: &ShardId, owned: bool) {
        self.metrics.owns(&Place::Shard(shard.clone()), owned);
    }

    fn retrying(&self, what: &str, reason: &str, _: u64) {
        self.metrics.request_failed(what, reason);
    }
}
