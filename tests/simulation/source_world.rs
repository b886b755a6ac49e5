//! What a source finds in the simulated world: its ports over a worker's connection, checkpoints that outlive it, and a target.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::{Fenced, FencedWrite, FencedWriter};
use highwater_domain::table_writer::WriteOp;
use highwater_source::{Checkpoints, MemoryCheckpoints, OnePlace, Ports};
use highwater_testkit::simulation::Wire;

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
        describer: live.describer,
        streams: live.streams,
        leases: live.leases,
        checkpoints: Arc::new(OnePlace(Arc::new(checkpoints))),
        clock: live.clock,
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

    fn write(&self, op: &WriteOp, fence_id: &str, order: &str) -> Fenced {
        let mut state = self.0.lock().unwrap();
        let stands = state.fences.get(fence_id);
        if stands.is_some_and(|stands| stands.as_str() >= order) {
            state.stale += 1;
            return Fenced::Stale;
        }
        state.fences.insert(fence_id.to_owned(), order.to_owned());
        let effect = (fence_id.to_owned(), order.to_owned());
        *state.effects.entry(effect).or_default() += 1;
        match op {
            WriteOp::Put(item) => drop(state.items.insert(id_of(item), item.clone())),
            WriteOp::Delete(key) => drop(state.items.remove(&id_of(key))),
        }
        Fenced::Applied
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
    async fn write(&self, write: &FencedWrite<'_>) -> Result<Fenced, Failure> {
        let target = Arc::clone(&self.target);
        let (op, fence, order) = (
            write.op.clone(),
            write.fence_id.to_owned(),
            write.order.to_owned(),
        );
        let about = format!("{order} {}", String::from_utf8_lossy(op.body()));
        let effect = move || target.write(&op, &fence, &order);
        self.wire.write("fenced write", about, effect).await
    }
}
