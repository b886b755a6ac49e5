//! A simulated table with its stream, a bucket, and workers that make backups of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::handoff::Handoff;
use highwater_domain::incident::Incident;
use highwater_domain::layout::Layout;
use highwater_domain::log_facts::{ShardFacts, StreamFacts};
use highwater_domain::metadata::Metadata;
use highwater_domain::shard::{ShardId, StreamView};
use highwater_domain::snapshot::SnapshotRecord;
use highwater_lease::Row;
use highwater_steps::deps::Unobserved;
use highwater_steps::finalize_backup::FinalizeOutput;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::request::BackupRequest;
use highwater_steps::shard_rows::{lease_of, new_lease};
use highwater_steps::{
    Deps, LeaseGroups, LiveDeps, LogDeps, SnapshotDeps, StepError, StopFlag, finalize_backup,
    plan_backup,
};
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_live_control::FakeLiveControl;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::simulation::{
    Nastiness, RowTable, SimTable, SimTime, SimTrace, Wire, Wired, WiredControl, WiredStores,
};
use serde::de::DeserializeOwned;

use crate::live_ports::{Groups, calm_wire};
use crate::stage::{finalize_input, id, plan_input, request, scan_all};

pub const HOUR: Duration = Duration::from_hours(1);

pub struct World {
    pub time: SimTime,
    pub table: Arc<SimTable>,
    pub store: Arc<FakeStore>,
    pub control: Arc<FakeControl>,
    pub rows: Arc<RowTable>,
}

impl World {
    /// A table of some items with a stream that carries this, a day and a half old, rolled every four hours; or without one.
    pub async fn with(view: Option<StreamView>) -> Self {
        Self::nasty(view, Nastiness::CALM).await
    }

    pub async fn nasty(view: Option<StreamView>, nasty: Nastiness) -> Self {
        let time = SimTime::start();
        let table = SimTable::new("orders", SimTrace::off(time), time, 1, nasty);
        if let Some(view) = view {
            table.enable_stream(view);
        }
        for _ in 0..9 {
            tokio::time::sleep(4 * HOUR).await;
            for shard in table.open_shards() {
                table.roll(&shard);
            }
        }
        tokio::time::sleep(HOUR).await;
        for n in 0..20 {
            table.put(&format!("item-{n}"), "1");
        }
        Self {
            time,
            table: Arc::new(table),
            store: Arc::new(FakeStore::new()),
            control: Arc::new(FakeControl::new()),
            rows: Arc::default(),
        }
    }

    pub fn deps(&self) -> Deps {
        self.deps_over(&calm_wire(self.time))
    }

    /// The ports of a worker with this connection.
    pub fn deps_over(&self, wire: &Wire) -> Deps {
        let clock = self.time.clock();
        let table = Arc::new(Wired::new(&self.table, wire));
        let stores = Arc::new(WiredStores::new(self.store.clone(), wire));
        Deps {
            scanner: table.clone(),
            describer: table.clone(),
            admin: table.clone(),
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            snapshots: SnapshotDeps {
                stores: stores.clone(),
                control: Arc::new(WiredControl::new(&self.control, wire)),
                clock: clock.clone(),
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
            live: LiveDeps {
                streams: table.clone(),
                log: LogDeps {
                    describer: table.clone(),
                    stores,
                    leases: Arc::new(self.groups(wire)),
                    live: Arc::new(FakeLiveControl::new()),
                    clock,
                    observer: Arc::new(Unobserved),
                    stop: StopFlag::default(),
                },
            },
        }
    }

    fn groups(&self, wire: &Wire) -> Groups {
        Groups {
            rows: self.rows.clone(),
            wire: wire.clone(),
            time: self.time,
        }
    }

    pub async fn plan(&self, request: BackupRequest) -> Result<SnapshotRecord, StepError> {
        plan(&self.deps(), request).await?;
        Ok(self.record().await)
    }

    pub async fn scan(&self) -> Result<(), StepError> {
        scan_all(&self.deps(), 2).await
    }

    pub async fn finalize(&self) -> Result<FinalizeOutput, StepError> {
        finalize_backup::run(&self.deps(), &finalize_input(), Budget::UNLIMITED).await
    }

    pub async fn record(&self) -> SnapshotRecord {
        let deps = self.deps();
        deps.control.snapshot(&id()).await.unwrap().unwrap().value
    }

    pub fn metadata(&self) -> Metadata {
        self.object(&Layout::new("backups", "orders", &id()).metadata())
    }

    fn object<T: DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_slice(&self.store.objects()[key].body).unwrap()
    }

    fn objects<T: DeserializeOwned>(&self, part: &str) -> BTreeMap<String, T> {
        let keys = self.store.keys();
        let wanted = keys.iter().filter(|key| key.contains(part));
        wanted.map(|key| (key.clone(), self.object(key))).collect()
    }

    pub fn generations(&self) -> Vec<StreamFacts> {
        self.objects("/log/generations/").into_values().collect()
    }

    pub fn incidents(&self) -> BTreeMap<String, Incident> {
        self.objects("/incidents/")
    }

    pub fn shard_facts(&self) -> Vec<ShardFacts> {
        self.objects("/shard.json").into_values().collect()
    }

    /// All leases of all logs.
    pub fn leases(&self) -> Vec<Row> {
        assert_eq!(self.rows.violations(), [""; 0]);
        let groups = self.rows.groups();
        let rows = groups.iter().flat_map(|group| self.rows.rows(group));
        rows.collect()
    }

    pub fn registered(&self) -> Vec<ShardId> {
        let rows = self.leases();
        rows.iter()
            .map(|row| row.id.as_str().parse().unwrap())
            .collect()
    }

    /// What a follower does, in short: reads every shard that is registered, and those that follow, as far as they go.
    pub async fn follow(&self) {
        let wire = calm_wire(self.time);
        for group in self.rows.groups() {
            let leases = self.groups(&wire).group(&group, "follower").unwrap();
            let mut next = self.rows.rows(&group);
            while let Some(row) = next.pop() {
                let Ok(held) = leases.acquire(&row.id).await else {
                    continue;
                };
                let shard: ShardId = row.id.as_str().parse().unwrap();
                if let Some(last) = self.table.records_of(&shard).last() {
                    held.checkpoint(&last.sequence_number).await.unwrap();
                }
                if self.table.listed(&shard).end.is_none() {
                    held.release().await.unwrap();
                    continue;
                }
                let children = self.table.children_of(&shard).into_iter();
                let children: Vec<_> = children
                    .map(|child| new_lease(&self.facts_of(&child), Some(&shard)).unwrap())
                    .collect();
                held.shard_end(&children).await.unwrap();
                for child in self.table.children_of(&shard) {
                    let rows = self.rows.rows(&group).into_iter();
                    let lease = lease_of(&child).unwrap();
                    next.extend(rows.filter(|row| row.id == lease));
                }
            }
        }
    }

    fn facts_of(&self, shard: &ShardId) -> ShardFacts {
        ShardFacts {
            version: 1,
            shard: self.table.listed(shard),
            ordinal: highwater_domain::sequence_number::ShardOrdinal(1),
            event_time: None,
            origin: highwater_domain::log_facts::Origin::Child,
            registered_at: self.time.now(),
        }
    }
}

pub async fn plan(deps: &Deps, request: BackupRequest) -> Result<(), StepError> {
    plan_backup::run(deps, &plan_input(request)).await?;
    Ok(())
}

pub fn with_stream() -> BackupRequest {
    BackupRequest {
        with_stream: true,
        ..request(2)
    }
}

pub fn begins(handoff: &Handoff) -> Vec<ShardId> {
    let begins = handoff.beginnings();
    begins.map(|shard| shard.shard.id.clone()).collect()
}
