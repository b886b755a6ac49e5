//! The shards of a made-up stream: two roots, of which each splits in two, and each of these goes on in one.

use highwater_domain::ids::UnixMillis;
use highwater_domain::sequence_number::{SequenceNumber, ShardOrdinal, ordinal};
use highwater_domain::shard::{Shard, ShardId, ShardIdError};
use thiserror::Error;

use crate::changes::{Changes, sequence_number};

/// How many shards there are.
pub const SHARDS: usize = 10;

/// A shard could not be made.
#[derive(Debug, Error)]
pub enum LineageError {
    /// Its id is none.
    #[error(transparent)]
    Id(#[from] ShardIdError),
    /// Its start is no sequence number.
    #[error(transparent)]
    Start(#[from] highwater_domain::sequence_number::SequenceNumberError),
}

/// The shard of a change: the roots have the first half, their children the third quarter, those behind them the last.
#[must_use]
pub fn shard_of(changes: &Changes, record: u64) -> usize {
    let lane = changes.lane(record);
    match record * 4 / changes.records() {
        0 | 1 => lane & 1,
        2 => 2 + lane,
        _ => 6 + lane,
    }
}

/// The shard that one goes on from.
#[must_use]
pub fn parent(shard: usize) -> Option<usize> {
    match shard {
        0 | 1 => None,
        2..6 => Some(shard & 1),
        _ => Some(shard - 4),
    }
}

/// The shards that go on from one; none of the last ones, which are open.
#[must_use]
pub fn children(shard: usize) -> Vec<usize> {
    (0..SHARDS)
        .filter(|child| parent(*child) == Some(shard))
        .collect()
}

/// All shards as they are listed when they begin, each with its place in the order of records.
pub fn shards(
    changes: &Changes,
    roots_made: UnixMillis,
) -> Result<Vec<(Shard, ShardOrdinal)>, LineageError> {
    let mut made: Vec<(Shard, ShardOrdinal)> = Vec::with_capacity(SHARDS);
    for shard in 0..SHARDS {
        let first = match shard {
            0 | 1 => 0,
            2..6 => changes.records().div_ceil(2),
            _ => (changes.records() * 3).div_ceil(4),
        };
        let at = match shard {
            0 | 1 => roots_made,
            _ => UnixMillis(changes.stamp(first).0 * 1000),
        };
        let id: ShardId = format!("shardId-{:020}-{shard:08x}", at.0).parse()?;
        let above = parent(shard).and_then(|parent| made.get(parent));
        let start: SequenceNumber = sequence_number(first).parse()?;
        let place = ordinal(&id, above.map(|(_, ordinal)| *ordinal), at.0);
        let shard = Shard {
            parent: above.map(|(shard, _)| shard.id.clone()),
            id,
            start,
            end: None,
        };
        made.push((shard, place));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use highwater_domain::mark::UnixSeconds;

    use crate::changes::Keys;
    use crate::data_set::DataSet;
    use crate::table::ReplayTable;

    /// A key's records lie on one path, and in each shard behind its start and before its children's.
    #[test]
    fn every_key_goes_down_one_path() {
        let table = Arc::new(ReplayTable::new(DataSet::Large, 1).unwrap());
        let arn = "arn:aws:dynamodb:us-east-1:123456789012:table/large/stream/x";
        let changes = Changes::new(
            table,
            1003,
            Keys::Few(50),
            UnixSeconds(1_768_385_930),
            arn.into(),
        );
        let shards = shards(&changes, UnixMillis(1_768_300_000_000)).unwrap();
        let mut paths: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for record in 0..changes.records() {
            let shard = shard_of(&changes, record);
            let number: SequenceNumber = sequence_number(record).parse().unwrap();
            assert!(shards[shard].0.start <= number);
            for child in children(shard) {
                assert!(shards[child].0.start > number);
                assert!(shards[child].1 > shards[shard].1);
            }
            let path = paths.entry(record % 50).or_default();
            if path.last() != Some(&shard) {
                assert_eq!(path.last().copied(), parent(shard));
                path.push(shard);
            }
        }
        assert!(paths.values().all(|path| path.len() == 3), "{paths:?}");
        let used: std::collections::BTreeSet<_> = paths.values().flatten().collect();
        assert_eq!(used.len(), SHARDS);
    }
}
