//! The target of a replica as its readers take it: items without what is ours, and the state of the source that a fence names.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::fenced_writer::TOMBSTONE;
use highwater_domain::replica::{FENCE_ATTRIBUTE, FenceMode};
use highwater_testkit::fake_table::string_key;
use highwater_testkit::simulation::Version;
use serde_json::Value;

use super::evidence::key_json;
use super::replica_watch::Watched;
use super::replica_world::TARGET;

/// An item as a reader of the replica takes it, and its order.
pub struct Found {
    pub order: Option<String>,
    pub item: Option<Bytes>,
}

impl Watched {
    /// The items of the replica, as a reader takes them.
    pub fn items(&self) -> BTreeMap<String, Bytes> {
        let keys = self.world.table.histories().into_keys();
        let found = keys.filter_map(|key| Some((key.clone(), self.found(&key)?.item?)));
        found.collect()
    }

    /// How many items the target really has, tombstones included.
    pub fn stored(&self) -> usize {
        let table = self.account.table(TARGET);
        table.map_or(0, |table| table.items().len())
    }

    pub fn found(&self, key: &str) -> Option<Found> {
        let record = self.record()?;
        let json = key_json(key);
        let schema = string_key("id");
        let stored = self
            .account
            .table(TARGET)?
            .get(&schema.key_of(&json).unwrap());
        if record.fence == FenceMode::Table {
            let print = schema.print_of(&json).unwrap();
            let fences = self.account.fences(&record.fence_table());
            let order = fences.and_then(|it| it.get(&hex::encode(print.0)).cloned());
            return Some(Found {
                order,
                item: stored,
            });
        }
        let mut item: Value = match stored {
            Some(stored) => serde_json::from_slice(&stored).unwrap(),
            None => {
                return Some(Found {
                    order: None,
                    item: None,
                });
            }
        };
        let members = item.as_object_mut().unwrap();
        let order = members.remove(FENCE_ATTRIBUTE);
        let order = order.map(|order| order["S"].as_str().unwrap().to_owned());
        let is_gone = members.remove(TOMBSTONE).is_some();
        Some(Found {
            order,
            item: (!is_gone).then(|| item.to_string().into()),
        })
    }

    /// The state of an item that a fence names, by its place in the item's history.
    pub fn named(versions: &[Version], order: &str) -> Option<usize> {
        let mut parts = order.split('-').skip(1);
        let ordinal: u64 = parts.next()?.parse().ok()?;
        let number = parts.next()?;
        // Shards may use a number again. An ordinal is a shard's time, or a little above it where its parent is as young.
        let place_in_time = |version: &Version| {
            let record = version.record.as_ref()?;
            let made = record.shard.created_at()?.0;
            (record.sequence_number.padded() == number && made <= ordinal).then_some(made)
        };
        let named = versions.iter().enumerate();
        let named = named.filter_map(|(place, version)| Some((place_in_time(version)?, place)));
        // An order without a shard, which only a mutation makes, names the first of its number.
        let by_number = || {
            versions.iter().position(|version| {
                let record = version.record.as_ref();
                record.is_some_and(|record| record.sequence_number.padded() == number)
            })
        };
        named.max().map(|(_, place)| place).or_else(by_number)
    }
}

/// Whether two items are one: of fences in attributes the target's spelling may differ.
pub fn is_same(one: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    let read = |item: &Bytes| serde_json::from_slice::<Value>(item).unwrap();
    one == other || one.map(read) == other.map(read)
}
