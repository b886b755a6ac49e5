//! What the bucket alone says, read the plain way: the whole log in memory, and the state at any second by handoff and
//! order tokens. Written for itself, next to the product's own reader, so that one checks the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::change_log::{LogName, read_log_object};
use highwater_domain::handoff::Handoff;
use highwater_domain::incident::Incident;
use highwater_domain::key_history::{ItemChange, ItemState, state_at};
use highwater_domain::log_facts::{ShardEnd, ShardFacts, StreamFacts};
use highwater_domain::log_place::{LogPlace, UNPLACED};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::NewObject;
use highwater_domain::sequence_number::{OrderToken, SequenceNumber, ShardOrdinal};
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;

use super::mutations::Mutation;

/// One stream's log.
#[derive(Clone, Debug)]
pub struct StreamLog {
    pub facts: StreamFacts,
    pub shards: BTreeMap<ShardId, ShardLog>,
    pub unplaced: Vec<(String, StreamRecord)>,
    pub incidents: Vec<(String, Incident)>,
}

/// One shard's log.
#[derive(Clone, Debug, Default)]
pub struct ShardLog {
    pub facts: Option<ShardFacts>,
    pub end: Option<ShardEnd>,
    /// Each record under every object that holds it.
    pub records: BTreeMap<SequenceNumber, Vec<(String, StreamRecord)>>,
}

fn json<T: serde::de::DeserializeOwned>(key: &str, object: &NewObject) -> Result<T, String> {
    serde_json::from_slice(&object.body).map_err(|error| format!("{key}: {error}"))
}

/// Every stream's log of the table at `place`, in the order of their generations.
pub fn read(
    place: &LogPlace,
    objects: &BTreeMap<String, NewObject>,
) -> Result<Vec<StreamLog>, String> {
    let below = |folder: String| {
        let from = objects.range(folder.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&folder))
    };
    let mut logs = Vec::new();
    for (key, object) in below(place.generations()) {
        let facts: StreamFacts = json(key, object)?;
        let folder = place.stream(&facts.stream_label);
        let mut log = StreamLog {
            facts,
            shards: BTreeMap::new(),
            unplaced: Vec::new(),
            incidents: Vec::new(),
        };
        for (key, object) in below(folder.clone()) {
            log.take(&folder, key, object)?;
        }
        logs.push(log);
    }
    Ok(logs)
}

impl StreamLog {
    fn take(&mut self, folder: &str, key: &str, object: &NewObject) -> Result<(), String> {
        let (first, rest) = key[folder.len()..]
            .split_once('/')
            .unwrap_or((&key[folder.len()..], ""));
        match (first, rest) {
            ("incidents", _) => self.incidents.push((key.to_owned(), json(key, object)?)),
            ("mark.json" | "unread", _) => {}
            (shard, "shard.json") => {
                self.shard(shard)?.facts = Some(json(key, object)?);
            }
            (shard, "end.json") => self.shard(shard)?.end = Some(json(key, object)?),
            (shard, _) => {
                let name =
                    LogName::parse(folder, key).ok_or_else(|| format!("{key} is no log object"))?;
                let records =
                    read_log_object(key, &name, &object.body).map_err(|error| error.to_string())?;
                for record in records {
                    if shard == UNPLACED {
                        self.unplaced.push((key.to_owned(), record));
                        continue;
                    }
                    let number = record.sequence_number.clone();
                    let found = &mut self.shard(shard)?.records;
                    found
                        .entry(number)
                        .or_default()
                        .push((key.to_owned(), record));
                }
            }
        }
        Ok(())
    }

    fn shard(&mut self, text: &str) -> Result<&mut ShardLog, String> {
        let id: ShardId = text.parse().map_err(|error| format!("{error}"))?;
        Ok(self.shards.entry(id).or_default())
    }

    /// All changes of each item, with event times counted along the path.
    ///
    /// A shard without facts is none that the log has begun with: its records count for nothing.
    pub fn changes(&self, mutation: Option<Mutation>) -> BTreeMap<Bytes, Vec<ItemChange>> {
        let mut changes: BTreeMap<Bytes, Vec<ItemChange>> = BTreeMap::new();
        for shard in self.shards.values() {
            let Some(facts) = &shard.facts else {
                continue;
            };
            let mut event_time = facts.event_time.unwrap_or_default();
            let mut as_text: Vec<&str> = shard.records.keys().map(SequenceNumber::as_str).collect();
            as_text.sort_unstable();
            for copies in shard.records.values() {
                let (_, record) = &copies[0];
                event_time = event_time.max(UnixSeconds(record.created_at));
                if mutation == Some(Mutation::StampsForEventTimes) {
                    event_time = UnixSeconds(record.created_at);
                }
                let number = &record.sequence_number;
                let change = ItemChange {
                    token: OrderToken {
                        generation: self.facts.generation,
                        shard: match mutation {
                            Some(Mutation::OrdinalOmitted) => ShardOrdinal(0),
                            _ => facts.ordinal,
                        },
                        sequence_number: match mutation {
                            Some(Mutation::NumbersAsText) => {
                                let place = as_text.binary_search(&number.as_str());
                                place.unwrap().to_string().parse().unwrap()
                            }
                            _ => number.clone(),
                        },
                    },
                    event_time,
                    change: record.change,
                    new_image: record.new_image.clone(),
                    old_image: record.old_image.clone(),
                };
                changes.entry(record.keys.clone()).or_default().push(change);
            }
        }
        changes
    }

    /// The losses that touch an interval.
    pub fn losses(&self, from: UnixSeconds, until: UnixSeconds) -> Vec<&Incident> {
        let incidents = self.incidents.iter().map(|(_, incident)| incident);
        incidents.filter(|it| it.touches(from, until)).collect()
    }
}

/// A sealed snapshot, in memory.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub handoff: Handoff,
    /// When the scan was over.
    pub ended_at: UnixSeconds,
    /// Item by key, both as DynamoDB JSON.
    pub items: BTreeMap<Bytes, Bytes>,
}

/// How far stamps may be from the true time, in seconds.
pub const STAMP_MARGIN: u64 = 60;

impl Sealed {
    /// The seconds of which no record may be missing for a restore to `at`.
    pub fn needed(&self, at: UnixSeconds) -> (UnixSeconds, UnixSeconds) {
        let captured = UnixSeconds::of(self.handoff.captured_at).0 - STAMP_MARGIN;
        if self.is_forward(at) {
            (UnixSeconds(captured), at)
        } else {
            let from = at.0.min(captured);
            (
                UnixSeconds(from),
                UnixSeconds(self.ended_at.0 + STAMP_MARGIN),
            )
        }
    }

    /// Whether new images alone lead to `at`.
    pub fn is_forward(&self, at: UnixSeconds) -> bool {
        at.0 >= self.ended_at.0 + STAMP_MARGIN
    }

    /// The table as it was at `at`, by the log `changes`.
    pub fn restored(
        &self,
        at: UnixSeconds,
        changes: &BTreeMap<Bytes, Vec<ItemChange>>,
    ) -> Result<BTreeMap<Bytes, Bytes>, String> {
        let until = at.0.max(self.ended_at.0 + STAMP_MARGIN);
        let mut table = BTreeMap::new();
        for key in self.items.keys().chain(changes.keys()) {
            if table.contains_key(key) {
                continue;
            }
            let of_key = changes.get(key).into_iter().flatten();
            let known: Vec<ItemChange> = of_key
                .filter(|change| change.event_time.0 <= until)
                .cloned()
                .collect();
            let state = state_at(at, known, self.items.get(key).cloned());
            if let ItemState::There(item) = state.map_err(|error| error.to_string())? {
                table.insert(key.clone(), item);
            }
        }
        Ok(table)
    }
}
