//! What is there when a run is over: the truth, and everything that the product has left behind.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::control_table::ControlTable as _;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::layout::Layout;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::NewObject;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::ShardId;
use highwater_domain::snapshot::{PartRow, SnapshotRecord, Status};
use highwater_testkit::simulation::{SimRecord, Version};
use serde_json::value::RawValue;

use super::backups::Outcome;
use super::bucket_reader::{self, Sealed, StreamLog};
use super::plan::Plan;
use super::world::{PREFIX, TABLE, World, log_place};

/// Everything that the checks look at.
pub struct Evidence {
    pub world: World,
    pub plan: Plan,
    pub logs: Vec<StreamLog>,
    /// True records by the label of their stream, their shard and their number.
    pub records: BTreeMap<(String, ShardId, SequenceNumber), Arc<SimRecord>>,
    /// Every state of every item, by its key as DynamoDB JSON.
    pub histories: BTreeMap<Bytes, Vec<Version>>,
    pub snapshots: Vec<Snapshot>,
    pub outcomes: Vec<Outcome>,
    /// Whether everything was caught up with when patience ended.
    pub caught_up: Result<(), String>,
}

/// One snapshot, as the control table and the bucket have it.
pub struct Snapshot {
    pub record: SnapshotRecord,
    pub parts: Vec<PartRow>,
    /// The bytes of its parts, by the keys of their objects; `None` for one that is not there.
    pub bodies: Vec<Option<Bytes>>,
    pub metadata: Option<Metadata>,
    /// Items by key, if it is sealed.
    pub items: Vec<(Bytes, Bytes)>,
}

/// A key as the stream's records spell it.
pub fn key_json(key: &str) -> Bytes {
    serde_json::json!({"id": {"S": key}}).to_string().into()
}

/// The key of an item.
fn key_of(item: &[u8]) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Keyed<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let keyed: Keyed<'_> = serde_json::from_slice(item).unwrap();
    format!(r#"{{"id":{}}}"#, keyed.id.get()).into()
}

impl Evidence {
    /// Collects everything.
    pub async fn of(
        world: World,
        plan: Plan,
        outcomes: Vec<Outcome>,
        caught_up: Result<(), String>,
    ) -> Result<Self, String> {
        let objects = world.bucket.objects();
        let labels = world.table.stream_labels();
        let records = world.table.all_records().into_iter().map(|record| {
            let label = labels[usize::from(record.generation) - 1].clone();
            let place = (label, record.shard.clone(), record.sequence_number.clone());
            (place, record)
        });
        let histories = world.table.histories().into_iter();
        let mut snapshots = Vec::new();
        for outcome in &outcomes {
            if let Some(snapshot) = Snapshot::of(&world, &objects, &outcome.id).await {
                snapshots.push(snapshot);
            }
        }
        Ok(Self {
            logs: bucket_reader::read(&log_place(), &objects)?,
            records: records.collect(),
            histories: histories
                .map(|(key, versions)| (key_json(&key), versions))
                .collect(),
            snapshots,
            outcomes,
            caught_up,
            world,
            plan,
        })
    }

    /// The log of a stream.
    pub fn log(&self, label: &str) -> Option<&StreamLog> {
        self.logs.iter().find(|log| log.facts.stream_label == label)
    }

    /// When a record was first in its shard's folder of the log.
    pub fn logged_at(&self, log: &StreamLog, record: &SimRecord) -> Option<UnixMillis> {
        let shard = log.shards.get(&record.shard)?;
        let copies = shard.records.get(&record.sequence_number)?;
        let created = copies
            .iter()
            .map(|(key, _)| self.world.bucket.created_at(key));
        created.min()
    }

    /// The true records of a stream.
    pub fn records_of<'a>(
        &'a self,
        log: &'a StreamLog,
    ) -> impl Iterator<Item = &'a Arc<SimRecord>> {
        let label = &log.facts.stream_label;
        let all = self.records.iter();
        all.filter(move |((of, ..), _)| of == label)
            .map(|(_, record)| record)
    }

    /// What the table was at a second, by the records of one stream.
    pub fn truth_at(&self, generation: u16, at: UnixSeconds) -> BTreeMap<Bytes, Bytes> {
        let state = |versions: &[Version]| {
            let mut state = None;
            for version in versions {
                let happened = match &version.record {
                    Some(record) if record.generation == generation => record.event_time <= at,
                    // Before this stream: it is where the item's history begins.
                    Some(record) => record.generation < generation,
                    // Before this stream, or after it.
                    None => UnixSeconds::of(version.at) <= at,
                };
                if happened {
                    state.clone_from(&version.item);
                }
            }
            state
        };
        let items = self.histories.iter();
        items
            .filter_map(|(key, versions)| Some((key.clone(), state(versions)?)))
            .collect()
    }
}

impl Snapshot {
    async fn of(
        world: &World,
        objects: &BTreeMap<String, NewObject>,
        id: &SnapshotId,
    ) -> Option<Self> {
        let record = world.control.snapshot(id).await.unwrap()?.value;
        let mut parts = Vec::new();
        loop {
            let after = parts.last().map(|part: &PartRow| part.id);
            let page = world.control.parts(id, after, 100).await.unwrap();
            if page.is_empty() {
                break;
            }
            parts.extend(page);
        }
        let bodies: Vec<Option<Bytes>> = parts
            .iter()
            .map(|part| objects.get(&part.object).map(|object| object.body.clone()))
            .collect();
        let layout = Layout::new(PREFIX, TABLE, id);
        let metadata = objects.get(&layout.metadata());
        let metadata = metadata.map(|object| serde_json::from_slice(&object.body).unwrap());
        let mut items = Vec::new();
        if record.status == Status::Completed {
            for body in bodies.iter().flatten() {
                items.extend(items_of(body));
            }
        }
        Some(Self {
            record,
            parts,
            bodies,
            metadata,
            items,
        })
    }

    /// As a base for restores, if it is sealed and has a handoff.
    pub fn sealed(&self) -> Option<Sealed> {
        let metadata = self.metadata.as_ref()?;
        let handoff = metadata.handoff().ok()??.clone();
        let ended_at = UnixSeconds::of(self.record.ended_at?);
        (self.record.status == Status::Completed).then(|| Sealed {
            handoff,
            ended_at,
            items: self.items.iter().cloned().collect(),
        })
    }
}

/// A line of a part.
#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(rename = "Item", borrow)]
    item: &'a RawValue,
}

/// The items of a part, in order, by key.
fn items_of(body: &[u8]) -> Vec<(Bytes, Bytes)> {
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(body);
    decoder.read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| {
        let line: Line<'_> = serde_json::from_str(line).unwrap();
        let item = line.item.get().as_bytes();
        (key_of(item), Bytes::copy_from_slice(item))
    });
    lines.collect()
}
