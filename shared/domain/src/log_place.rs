//! Where a table's change log and the facts about it lie.
//!
//! ```text
//! <prefix>/<table>/log/generations/<number>.json      one per stream of the table, in the order in which they were met
//! <prefix>/<table>/log/<stream label>/mark.json       the mark, as it was last published; the only object that is replaced
//! <prefix>/<table>/log/<stream label>/incidents/<id>.json
//! <prefix>/<table>/log/<stream label>/unread/<sha-256>.json       a record that could not be understood, as it came
//! <prefix>/<table>/log/<stream label>/unplaced/<first>-<last>-<count>.jsonl.zst     a batch that did not name its shard
//! <prefix>/<table>/log/<stream label>/<shard id>/shard.json       how the shard came to be known
//! <prefix>/<table>/log/<stream label>/<shard id>/<first>-<last>-<count>.jsonl.zst
//! <prefix>/<table>/log/<stream label>/<shard id>/end.json         that it was read to its end, and who goes on
//! ```
//!
//! All but the mark are facts: created once, never changed, so that a reader needs nothing but the bucket.

use crate::change_log::log_folder;
use crate::layout::Layout;
use crate::sequence_number::Generation;
use crate::shard::ShardId;

/// The folder, in the place of a shard's, of batches that did not name their shard.
pub const UNPLACED: &str = "unplaced";

/// The keys of one table's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    prefix: String,
    table: String,
}

impl LogPlace {
    /// The log of the table called `table`, below `prefix` (which may be empty).
    #[must_use]
    pub fn new(prefix: &str, table: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            table: table.to_owned(),
        }
    }

    /// What lies before the table's folder; may be empty.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The folder of the whole log, ending in `/`.
    #[must_use]
    pub fn root(&self) -> String {
        format!("{}{}/log/", Layout::folder(&self.prefix), self.table)
    }

    /// The folder of the generations' facts, ending in `/`.
    #[must_use]
    pub fn generations(&self) -> String {
        format!("{}generations/", self.root())
    }

    /// The facts of one stream. Creating this object is the claim to the number.
    #[must_use]
    pub fn generation(&self, generation: Generation) -> String {
        format!("{}{:05}.json", self.generations(), generation.0)
    }

    /// The folder of one stream's log, ending in `/`.
    #[must_use]
    pub fn stream(&self, label: &str) -> String {
        log_folder(&self.prefix, &self.table, label)
    }

    /// The mark.
    #[must_use]
    pub fn mark(&self, label: &str) -> String {
        format!("{}mark.json", self.stream(label))
    }

    /// The folder of the incidents, ending in `/`.
    #[must_use]
    pub fn incidents(&self, label: &str) -> String {
        format!("{}incidents/", self.stream(label))
    }

    /// One incident.
    #[must_use]
    pub fn incident(&self, label: &str, id: &str) -> String {
        format!("{}{id}.json", self.incidents(label))
    }

    /// A record that could not be understood, named by the SHA-256 of its bytes in hex.
    #[must_use]
    pub fn unread(&self, label: &str, sha256: &str) -> String {
        format!("{}unread/{sha256}.json", self.stream(label))
    }

    /// The folder of one shard, ending in `/`.
    #[must_use]
    pub fn shard(&self, label: &str, shard: &ShardId) -> String {
        format!("{}{shard}/", self.stream(label))
    }

    /// How the shard came to be known.
    #[must_use]
    pub fn shard_facts(&self, label: &str, shard: &ShardId) -> String {
        format!("{}shard.json", self.shard(label, shard))
    }

    /// That the shard was read to its end.
    #[must_use]
    pub fn shard_end(&self, label: &str, shard: &ShardId) -> String {
        format!("{}end.json", self.shard(label, shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_the_format_says() {
        let place = LogPlace::new("daily", "orders");
        let shard = "shardId-00000001768385930622-efd1a093".parse().unwrap();
        let label = "2026-01-14T10:18:50.622";
        assert_eq!(
            place.generation(Generation(1)),
            "daily/orders/log/generations/00001.json"
        );
        assert_eq!(
            place.shard_end(label, &shard),
            format!("daily/orders/log/{label}/{shard}/end.json")
        );
        assert_eq!(
            place.incident(label, "gap-1"),
            format!("daily/orders/log/{label}/incidents/gap-1.json")
        );
        assert_eq!(LogPlace::new("", "orders").root(), "orders/log/");
    }
}
