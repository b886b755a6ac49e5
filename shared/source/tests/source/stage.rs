//! The stage: a calm simulated table, ports over it, sinks that write down what they are given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_lease::{Leases, Settings};
use highwater_source::{
    Applied, Change, FnSink, MemoryCheckpoints, OnePlace, Ports, Record, SinkError, SourceBuilder,
    builder,
};
use highwater_steps::live_deps::LeaseGroups;
use highwater_testkit::simulation::{RowTable, SimTable, SimTrace, Trouble, Wire};
use serde::Deserialize;

/// An item of the tests' tables.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Sale {
    pub id: String,
    pub region: u32,
    pub amount: u64,
}

/// A table with its stream, and all that a source keeps.
#[derive(Clone)]
pub struct Stage {
    pub table: Arc<SimTable>,
    pub rows: Arc<RowTable>,
    pub place: Arc<MemoryCheckpoints>,
}

impl Stage {
    /// An empty table. Make it inside the runtime whose time is paused.
    pub fn new() -> Self {
        Self {
            table: SimTable::calm("sales"),
            rows: Arc::default(),
            place: Arc::default(),
        }
    }

    pub fn put(&self, id: &str, region: u32, amount: u64) {
        let item = format!(
            r#"{{"id":{{"S":"{id}"}},"region":{{"N":"{region}"}},"amount":{{"N":"{amount}"}}}}"#
        );
        self.table.put_item(id, &item);
    }

    pub fn ports(&self) -> Ports {
        Ports {
            scanner: self.table.clone(),
            describer: self.table.clone(),
            streams: self.table.clone(),
            leases: Arc::new(self.clone()),
            checkpoints: Arc::new(OnePlace(self.place.clone())),
            clock: self.table.time().clock(),
        }
    }

    /// A source of sales that ends when all is idle.
    pub fn source(&self) -> SourceBuilder<Sale> {
        builder::<Sale>()
            .table("sales")
            .ports(self.ports())
            .until_idle()
            .on_local_engine()
            .seed(1)
    }

    /// The same under another name, with checkpoints of its own.
    pub fn elsewhere(&self) -> Self {
        Self {
            place: Arc::default(),
            rows: Arc::default(),
            ..self.clone()
        }
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stage")
    }
}

impl LeaseGroups for Stage {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        let time = self.table.time();
        let wire = Wire::new(worker, 1, Trouble::NONE, SimTrace::off(time));
        let clock = time.monotonic(Duration::ZERO, 100);
        let rows = Arc::new(self.rows.over(group, &wire));
        Ok(Leases::over(rows, clock, worker, Settings::default())?.seeded(1))
    }
}

/// What a sink was given: the key, the order, and what the item is now.
pub type Given = (String, String, Option<Sale>);

/// Everything that a sink was given.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Vec<Given>>>);

impl Book {
    pub fn note(&self, record: &Record<Change<Sale>>) {
        let one = (
            record.key(),
            record.order().to_string(),
            record.value.current().cloned(),
        );
        self.0.lock().unwrap().push(one);
    }

    pub fn all(&self) -> Vec<Given> {
        self.0.lock().unwrap().clone()
    }

    /// What the table is by what was given: the last word of each key.
    pub fn table(&self) -> BTreeMap<String, Sale> {
        let mut table = BTreeMap::new();
        for (key, _, sale) in self.all() {
            match sale {
                Some(sale) => drop(table.insert(key, sale)),
                None => drop(table.remove(&key)),
            }
        }
        table
    }

    /// The sum of amounts per region.
    pub fn sums(&self) -> BTreeMap<u32, u64> {
        let mut sums = BTreeMap::new();
        for sale in self.table().values() {
            *sums.entry(sale.region).or_default() += sale.amount;
        }
        sums
    }

    /// A sink that writes into this book.
    pub fn sink(
        &self,
    ) -> FnSink<impl Fn(&Record<Change<Sale>>) -> Result<Applied, SinkError> + Send + Sync + 'static>
    {
        let book = self.clone();
        FnSink::new(move |record: &Record<Change<Sale>>| {
            book.note(record);
            Ok(Applied::Done)
        })
    }
}
