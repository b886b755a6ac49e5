//! The ports of the live side: leases in memory, and a table that has no stream.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Clock;
use highwater_domain::object_store::Stores;
use highwater_domain::table::TableLook;
use highwater_lease::{Leases, Settings};
use highwater_steps::deps::Unobserved;
use highwater_steps::{LeaseGroups, LiveDeps, LogDeps, StopFlag};
use highwater_testkit::fake_live_control::FakeLiveControl;
use highwater_testkit::simulation::{
    Nastiness, RowTable, SimTable, SimTime, SimTrace, Trouble, Wire,
};

/// Leases in one worker's reach.
#[derive(Clone, Debug)]
pub struct Groups {
    pub rows: Arc<RowTable>,
    pub wire: Wire,
    pub time: SimTime,
}

impl LeaseGroups for Groups {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        let rows = Arc::new(self.rows.over(group, &self.wire));
        let clock = self.time.monotonic(Duration::ZERO, 100);
        Ok(Leases::over(rows, clock, worker, Settings::default())?.seeded(7))
    }
}

/// A connection on which nothing goes wrong.
pub fn calm_wire(time: SimTime) -> Wire {
    Wire::new("calm", 1, Trouble::NONE, SimTrace::off(time))
}

/// The live side of a table without a stream, as its description says.
pub fn without_stream(
    describer: Arc<dyn TableLook>,
    stores: Arc<dyn Stores>,
    clock: Arc<dyn Clock>,
) -> LiveDeps {
    let time = SimTime::start();
    let trace = SimTrace::off(time);
    LiveDeps {
        streams: Arc::new(SimTable::new("orders", trace, time, 1, Nastiness::CALM)),
        log: LogDeps {
            describer,
            stores,
            leases: Arc::new(Groups {
                rows: Arc::default(),
                wire: calm_wire(time),
                time,
            }),
            live: Arc::new(FakeLiveControl::new()),
            clock,
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        },
    }
}
