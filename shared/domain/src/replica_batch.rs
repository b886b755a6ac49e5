//! What of a batch of stream records is written to a replica, and how a transaction that was cancelled goes on.

use std::collections::HashMap;

use bytes::Bytes;
use thiserror::Error;

use crate::fenced_writer::{FencedWrite, MAX_FENCED_BYTES, MAX_FENCED_WRITES, Verdict};
use crate::key::KeySchema;
use crate::key_filter::KeyFilter;
use crate::key_print::UnusableKey;
use crate::mark::UnixSeconds;
use crate::replica::ReplicaRecord;
use crate::sequence_number::{Generation, OrderToken, ShardOrdinal};
use crate::stream_record::{Change, StreamRecord};
use crate::table_writer::WriteOp;

/// By what records become writes.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaRules {
    /// The primary key of both tables.
    pub schema: KeySchema,
    /// Only items whose key passes every one of these. A key never changes, so that what passes once passes always.
    pub filter: Vec<KeyFilter>,
    /// Records stamped before this were seen by the scan.
    pub apply_from: UnixSeconds,
    /// The stream's number among the table's.
    pub generation: Generation,
}

impl From<&ReplicaRecord> for ReplicaRules {
    fn from(record: &ReplicaRecord) -> Self {
        Self {
            schema: record.key_schema.clone(),
            filter: record.filter.clone(),
            apply_from: record.apply_from(),
            generation: record.generation,
        }
    }
}

/// One write of a replica, with the record that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaWrite {
    /// The write.
    pub op: WriteOp,
    /// The key, DynamoDB JSON.
    pub key: Bytes,
    /// The key's print, in hex: its row among the fences.
    pub fence_id: String,
    /// Its order among the records of its key, as text.
    pub order: String,
    /// The record as it came.
    pub raw: Bytes,
}

impl ReplicaWrite {
    /// The same, for the port.
    #[must_use]
    pub fn fenced(&self) -> FencedWrite<'_> {
        FencedWrite {
            op: &self.op,
            key: &self.key,
            fence_id: &self.fence_id,
            order: &self.order,
        }
    }

    /// What it adds to a request: the fence is some hundred bytes.
    fn bytes(&self) -> usize {
        self.op.body().len() + 2 * self.key.len() + 1024
    }
}

/// A batch of records, ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaBatch {
    /// Writes of different keys, in the order of their records.
    pub writes: Vec<ReplicaWrite>,
    /// Records whose key has a later one in the batch.
    pub superseded: u64,
    /// Records that the scan has seen.
    pub seen: u64,
    /// Records whose key the filter leaves out.
    pub filtered: u64,
}

/// A record that cannot be of the replica's source.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StrangeRecord {
    /// Its key is not the table's.
    #[error("record {number}: {reason}")]
    Key {
        /// The record's sequence number.
        number: String,
        /// What is wrong with the key.
        reason: UnusableKey,
    },
    /// It does not say what the item became.
    #[error(
        "record {0} does not say what the item became: the stream must carry NEW_AND_OLD_IMAGES or NEW_IMAGE"
    )]
    NoImage(String),
}

/// Makes writes of the records of one shard, which come in ascending order. Only the last record of a key is written: what the
/// ones before it made is gone with it.
///
/// # Errors
/// For a record that is not of this table, or of a stream that carries no new images.
pub fn replica_batch(
    rules: &ReplicaRules,
    shard: ShardOrdinal,
    records: &[StreamRecord],
) -> Result<ReplicaBatch, StrangeRecord> {
    let mut batch = ReplicaBatch::default();
    let mut places: HashMap<[u8; 16], usize> = HashMap::new();
    let mut writes: Vec<Option<ReplicaWrite>> = Vec::with_capacity(records.len());
    for record in records {
        if record.created_at < rules.apply_from.0 {
            batch.seen += 1;
            continue;
        }
        let number = || record.sequence_number.as_str().to_owned();
        let strange = |reason| StrangeRecord::Key {
            number: number(),
            reason,
        };
        let print = rules.schema.print_of(&record.keys).map_err(strange)?;
        if !rules.filter.is_empty() {
            // The print has read the key already: it is one.
            let key = rules.schema.key_of(&record.keys).ok();
            let passes = |filter: &KeyFilter| key.as_ref().is_some_and(|key| filter.passes(key));
            if !rules.filter.iter().all(passes) {
                batch.filtered += 1;
                continue;
            }
        }
        let op = match (&record.new_image, record.change == Change::Remove) {
            (Some(image), _) => WriteOp::Put(image.clone()),
            (None, true) => WriteOp::Delete(record.keys.clone()),
            (None, false) => return Err(StrangeRecord::NoImage(number())),
        };
        let order = OrderToken {
            generation: rules.generation,
            shard,
            sequence_number: record.sequence_number.clone(),
        };
        if let Some(earlier) = places.insert(print.0, writes.len()) {
            batch.superseded += 1;
            if let Some(place) = writes.get_mut(earlier) {
                *place = None;
            }
        }
        writes.push(Some(ReplicaWrite {
            op,
            key: record.keys.clone(),
            fence_id: hex::encode(print.0),
            order: order.to_string(),
            raw: record.raw.clone(),
        }));
    }
    batch.writes = writes.into_iter().flatten().collect();
    Ok(batch)
}

/// How many of these writes go into the next transaction: as many as it takes, at least one.
#[must_use]
pub fn next_transaction(writes: &[ReplicaWrite]) -> usize {
    let mut bytes = 0;
    let fits = |write: &&ReplicaWrite| {
        bytes += write.bytes();
        bytes <= MAX_FENCED_BYTES
    };
    let count = writes
        .iter()
        .take(MAX_FENCED_WRITES)
        .take_while(fits)
        .count();
    count.max(1).min(writes.len())
}

/// How the writes of a cancelled transaction go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resent {
    /// Those that are to be sent again.
    pub again: Vec<ReplicaWrite>,
    /// Those that came too late: the replica has them, or later ones.
    pub stale: u64,
    /// Those that the replica does not take, with the reasons.
    pub refused: Vec<(ReplicaWrite, String)>,
    /// What stands in the way of one that is sent again, if anything does: it is waited with.
    pub waits_for: Option<String>,
}

/// Sorts the writes of a cancelled transaction by what it found at each.
#[must_use]
pub fn resent(writes: Vec<ReplicaWrite>, verdicts: Vec<Verdict>) -> Resent {
    let mut resent = Resent::default();
    let mut verdicts = verdicts.into_iter();
    for write in writes {
        match verdicts.next() {
            Some(Verdict::Stale) => resent.stale += 1,
            Some(Verdict::Refused(reason)) => resent.refused.push((write, reason)),
            Some(Verdict::Passing(reason)) => {
                resent.waits_for.get_or_insert(reason);
                resent.again.push(write);
            }
            Some(Verdict::Clear) | None => resent.again.push(write),
        }
    }
    if resent.stale == 0 && resent.refused.is_empty() && resent.waits_for.is_none() {
        // Cancelled for no reason that it tells: sent again at once it might go on so for ever.
        resent.waits_for = Some("the transaction was cancelled without a reason".into());
    }
    resent
}

/// The writes whose fences do not stand at or above them, of writes whose `orders` were read.
#[must_use]
pub fn unfinished(
    writes: Vec<ReplicaWrite>,
    orders: &[Option<String>],
) -> (Vec<ReplicaWrite>, u64) {
    let mut stale = 0;
    let mut orders = orders.iter();
    let mut left = Vec::new();
    for write in writes {
        match orders.next() {
            Some(Some(order)) if *order >= write.order => stale += 1,
            _ => left.push(write),
        }
    }
    (left, stale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyAttribute, ScalarType};

    fn rules() -> ReplicaRules {
        ReplicaRules {
            schema: KeySchema {
                partition: KeyAttribute {
                    name: "id".into(),
                    scalar_type: ScalarType::S,
                },
                sort: None,
            },
            filter: Vec::new(),
            apply_from: UnixSeconds(100),
            generation: Generation(1),
        }
    }

    fn record(number: u64, at: u64, key: &str, new: Option<&str>) -> StreamRecord {
        let keys = format!(r#"{{"id":{{"S":"{key}"}}}}"#);
        let image = new.map_or_else(String::new, |value| {
            format!(r#","NewImage":{{"id":{{"S":"{key}"}},"v":{{"S":"{value}"}}}}"#)
        });
        let verb = if new.is_some() { "MODIFY" } else { "REMOVE" };
        let raw = format!(
            r#"{{"eventID":"e{number}","eventName":"{verb}","dynamodb":{{"ApproximateCreationDateTime":{at},"Keys":{keys}{image},"SequenceNumber":"{number}"}}}}"#
        );
        StreamRecord::read(&Bytes::from(raw)).unwrap()
    }

    fn made(records: &[StreamRecord]) -> ReplicaBatch {
        replica_batch(&rules(), ShardOrdinal(7), records).unwrap()
    }

    #[test]
    fn only_the_last_record_of_a_key_is_written() {
        let batch = made(&[
            record(1, 200, "a", Some("1")),
            record(2, 200, "b", Some("1")),
            record(9, 200, "a", None),
            record(10, 201, "a", Some("2")),
        ]);
        let ops: Vec<&WriteOp> = batch.writes.iter().map(|write| &write.op).collect();
        assert_eq!(batch.superseded, 2);
        assert_eq!(ops.len(), 2);
        assert!(matches!(ops[0], WriteOp::Put(item) if item.ends_with(br#""v":{"S":"1"}}"#)));
        assert!(matches!(ops[1], WriteOp::Put(item) if item.ends_with(br#""v":{"S":"2"}}"#)));
        assert!(batch.writes[1].order > batch.writes[0].order);
        assert_ne!(batch.writes[0].fence_id, batch.writes[1].fence_id);
    }

    #[test]
    fn what_the_scan_has_seen_is_left_out_and_counted() {
        let batch = made(&[record(1, 99, "a", Some("1")), record(2, 100, "a", None)]);
        assert_eq!((batch.seen, batch.superseded), (1, 0));
        assert_eq!(
            batch.writes[0].op,
            WriteOp::Delete(Bytes::from_static(br#"{"id":{"S":"a"}}"#))
        );
    }

    #[test]
    fn a_filter_looks_at_the_key() {
        let rules = ReplicaRules {
            filter: vec!["id^=a".parse().unwrap()],
            ..rules()
        };
        let records = [record(1, 200, "ab", Some("1")), record(2, 200, "b", None)];
        let batch = replica_batch(&rules, ShardOrdinal(1), &records).unwrap();
        assert_eq!((batch.writes.len(), batch.filtered), (1, 1));
    }

    #[test]
    fn records_of_another_table_or_without_an_image_are_errors() {
        let mut strange = record(1, 200, "a", Some("1"));
        strange.new_image = None;
        let records = [strange];
        let refused = replica_batch(&rules(), ShardOrdinal(1), &records);
        assert_eq!(refused, Err(StrangeRecord::NoImage("1".into())));
        let mut other = record(2, 200, "a", None);
        other.keys = Bytes::from_static(br#"{"pk":{"S":"a"}}"#);
        let refused = replica_batch(&rules(), ShardOrdinal(1), &[other]);
        assert!(matches!(refused, Err(StrangeRecord::Key { .. })));
    }

    /// The shard decides before the number does: numbers of two shards say nothing about each other.
    #[test]
    fn case_46_a_childs_record_is_later_whatever_its_number() {
        let parent = replica_batch(&rules(), ShardOrdinal(7), &[record(900, 200, "a", None)]);
        let child = replica_batch(&rules(), ShardOrdinal(8), &[record(5, 201, "a", None)]);
        assert!(child.unwrap().writes[0].order > parent.unwrap().writes[0].order);
    }

    #[test]
    fn case_67_of_a_cancelled_transaction_the_fresh_are_sent_again() {
        let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
        let records: Vec<StreamRecord> = (1..)
            .zip(&keys)
            .map(|(n, key)| record(n, 200, key, Some("x")))
            .collect();
        let writes = made(&records).writes;
        let verdict = |n| match n {
            3 | 17 | 49 => Verdict::Stale,
            8 => Verdict::Refused("wrong type".into()),
            _ => Verdict::Clear,
        };
        let sorted = resent(writes.clone(), (0..50).map(verdict).collect());
        assert_eq!((sorted.stale, sorted.refused.len()), (3, 1));
        assert_eq!(sorted.refused[0].0, writes[8]);
        assert_eq!((sorted.again.len(), sorted.waits_for), (46, None));
        let conflict = vec![
            Verdict::Passing("TransactionConflict".into()),
            Verdict::Stale,
        ];
        let sorted = resent(writes[..2].to_vec(), conflict);
        assert_eq!(sorted.again, writes[..1]);
        assert!(sorted.waits_for.is_some());
        assert!(resent(writes, Vec::new()).waits_for.is_some());
    }

    #[test]
    fn a_transaction_takes_what_dynamodb_takes() {
        let big = "x".repeat(300_000);
        let small: Vec<StreamRecord> = (0..120)
            .map(|n| record(n + 1, 200, &format!("k{n}"), Some("x")))
            .collect();
        let large: Vec<StreamRecord> = (0..20)
            .map(|n| record(n + 1, 200, &format!("k{n}"), Some(&big)))
            .collect();
        assert_eq!(next_transaction(&made(&small).writes), 50);
        assert_eq!(next_transaction(&made(&large).writes), 10);
        assert_eq!(next_transaction(&[]), 0);
    }

    #[test]
    fn what_a_fence_stands_above_is_left_out() {
        let writes = made(&[record(5, 200, "a", None), record(6, 200, "b", None)]).writes;
        let orders = [Some(writes[0].order.clone()), None];
        let (left, stale) = unfinished(writes.clone(), &orders);
        assert_eq!((left, stale), (writes[1..].to_vec(), 1));
    }
}
