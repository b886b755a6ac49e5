//! What a source finds in the simulated world: its ports over a worker's connection, checkpoints that outlive it, and a target.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fenced_writer::{
    FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted, Verdict,
};
use highwater_domain::table_writer::WriteOp;
use highwater_source::{Checkpoints, MemoryCheckpoints, OnePlace, Ports};
use highwater_testkit::simulation::Wire;
use highwater_testkit::simulation::Wired;

use super::world::Worker;

/// Checkpoints over a worker's connection.
#[derive(Debug)]
pub struct WiredCheckpoints {
    pub place: Arc<MemoryCheckpoints>,
    pub wire: Wire,
}

#[async_trait]
impl Checkpoints for WiredCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Versioned<Bytes>>, Failure> {
        let call = self.place.load(name);
        self.wire.read("load checkpoint", name, call).await?
    }

    async fn save(&self, name: &str, seen: Option<i64>, body: Bytes) -> Result<Cas, Failure> {
        let (place, about) = (Arc::clone(&self.place), name.to_owned());
        let effect = move || {
            let saved = place.save(&about, seen, body.clone());
            saved.now_or_never().expect("memory answers at once")
        };
        let about = format!("{name} over {seen:?}");
        self.wire.write("save checkpoint", about, effect).await?
    }

    async fn names(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, Failure> {
        let call = self.place.names(prefix, after);
        self.wire.read("list checkpoints", prefix, call).await?
    }
}

/// The ports of one worker.
pub fn ports(worker: &Worker, place: &Arc<MemoryCheckpoints>) -> Ports {
    let live = worker.live();
    let checkpoints = WiredCheckpoints {
        place: Arc::clone(place),
        wire: worker.wire.clone(),
    };
    Ports {
        scanner: worker.scanner(),
        describer: Arc::new(Wired::new(&worker.world.table, &worker.wire)),
        streams: live.streams,
        leases: live.log.leases,
        checkpoints: Arc::new(OnePlace(Arc::new(checkpoints))),
        clock: live.log.clock,
    }
}

/// A target table with its fences, and everything that was ever tried on it.
#[derive(Debug, Default)]
pub struct Target(Mutex<TargetState>);

#[derive(Debug, Default)]
struct TargetState {
    items: BTreeMap<String, Bytes>,
    fences: BTreeMap<String, String>,
    /// Effects per fence and order.
    effects: BTreeMap<(String, String), u32>,
    stale: u64,
}

impl Target {
    /// The items, by their `id`.
    pub fn items(&self) -> BTreeMap<String, Bytes> {
        self.0.lock().unwrap().items.clone()
    }

    /// The most effects that any record had, and how many writes came too late.
    pub fn most_effects(&self) -> (u32, u64) {
        let state = self.0.lock().unwrap();
        let most = state.effects.values().max().copied().unwrap_or(0);
        (most, state.stale)
    }

    fn transact(&self, writes: &[Owned]) -> Transacted {
        let mut state = self.0.lock().unwrap();
        let is_stale = |write: &Owned| {
            let stands = state.fences.get(&write.fence_id);
            stands.is_some_and(|stands| *stands >= write.order)
        };
        let late: Vec<bool> = writes.iter().map(is_stale).collect();
        if late.contains(&true) {
            state.stale += late.iter().filter(|it| **it).count() as u64;
            let verdict = |is_late| {
                if is_late {
                    Verdict::Stale
                } else {
                    Verdict::Clear
                }
            };
            return Transacted::Canceled(late.into_iter().map(verdict).collect());
        }
        for write in writes {
            let (fence, order) = (write.fence_id.clone(), write.order.clone());
            state.fences.insert(fence.clone(), order.clone());
            *state.effects.entry((fence, order)).or_default() += 1;
            match &write.op {
                WriteOp::Put(item) => drop(state.items.insert(id_of(item), item.clone())),
                WriteOp::Delete(key) => drop(state.items.remove(&id_of(key))),
            }
        }
        Transacted::Done
    }

    fn orders(&self, writes: &[Owned]) -> Vec<Option<String>> {
        let state = self.0.lock().unwrap();
        let order = |write: &Owned| state.fences.get(&write.fence_id).cloned();
        writes.iter().map(order).collect()
    }
}

/// A write that may arrive later.
#[derive(Clone, Debug)]
struct Owned {
    op: WriteOp,
    fence_id: String,
    order: String,
}

impl Owned {
    fn all(writes: &[FencedWrite<'_>]) -> Vec<Self> {
        let owned = |write: &FencedWrite<'_>| Self {
            op: write.op.clone(),
            fence_id: write.fence_id.to_owned(),
            order: write.order.to_owned(),
        };
        writes.iter().map(owned).collect()
    }
}

/// The `id` of an item or a key.
pub fn id_of(item: &[u8]) -> String {
    let item: serde_json::Value = serde_json::from_slice(item).unwrap();
    item["id"]["S"].as_str().unwrap().to_owned()
}

/// A worker's way to the target.
#[derive(Debug)]
pub struct WiredTarget {
    pub target: Arc<Target>,
    pub wire: Wire,
}

#[async_trait]
impl FencedWriter for WiredTarget {
    async fn transact(
        &self,
        _: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        let (target, writes) = (Arc::clone(&self.target), Owned::all(writes));
        let tell = |write: &Owned| {
            format!(
                "{} {}",
                write.order,
                String::from_utf8_lossy(write.op.body())
            )
        };
        let about: Vec<String> = writes.iter().map(tell).collect();
        let effect = move || target.transact(&writes);
        self.wire
            .write("fenced write", about.join("; "), effect)
            .await
    }

    async fn orders(
        &self,
        _: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        let (target, writes) = (Arc::clone(&self.target), Owned::all(writes));
        let about = format!("{} fences", writes.len());
        let call = async move { target.orders(&writes) };
        self.wire.read("fences", &about, call).await
    }

    async fn repair(&self, table: FencedTable<'_>, _: Repair<'_>) -> Result<Repaired, Failure> {
        let message = "nobody mends a user's own target";
        Err(Failure::new(
            FailureKind::Invalid,
            "repair",
            table.target,
            message,
        ))
    }
}
