//! Whether what a plan needs fits the history of one execution, or each branch needs an execution of its own.
//!
//! An execution of Step Functions holds 25,000 events and runs 40 iterations of an inline Map at once; a distributed Map
//! gives each branch a child execution with a history of its own:
//! <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>,
//! <https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html>.

use crate::restore::{Engine, RestoreRecord};
use crate::snapshot::SnapshotRecord;

/// How many iterations of an inline Map run at once at most.
pub const INLINE_CONCURRENCY: u32 = 40;

/// How many events one execution's history holds.
const MOST_EVENTS: u64 = 25_000;

/// What the estimate may come to. The rest is for retries, and for tables that are larger or slower than they were told
/// to be.
const PLANNED_EVENTS: u64 = MOST_EVENTS * 2 / 5;

/// An iteration begins and ends, and so does its last state.
const EVENTS_PER_BRANCH: u64 = 4;

/// The Task is entered, scheduled, started, done and left; the Choice behind it is entered and left.
const EVENTS_PER_ROUND: u64 = 7;

/// How long an invocation works, of the 900 seconds that it may.
const SECONDS_PER_ROUND: f64 = 840.0;

/// What one worker moves in a second if nothing but itself holds it back, at a pessimist's guess.
const BYTES_PER_SECOND: f64 = 4_194_304.0;

/// How many plain bytes a stored byte may stand for, where nobody has counted.
const PLAIN_PER_STORED: u64 = 8;

/// What one Map has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
struct MapWork {
    /// Iterations.
    branches: u32,
    /// Workers at once.
    concurrency: u32,
    /// Rounds that there are in any case.
    pieces: u64,
    /// Plain bytes to move.
    bytes: u64,
    /// Capacity units that this takes.
    units: f64,
    /// Capacity units per second for all workers together; 0 is unlimited.
    capacity: f64,
}

impl MapWork {
    fn events(&self) -> u64 {
        let moving = self.bytes as f64 / BYTES_PER_SECOND;
        let waiting = if self.capacity > 0.0 {
            f64::from(self.concurrency) * self.units / self.capacity
        } else {
            0.0
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a positive float saturates, which is many rounds"
        )]
        let by_time = (moving.max(waiting) / SECONDS_PER_ROUND) as u64;
        let rounds = self.pieces.saturating_add(by_time);
        rounds
            .saturating_mul(EVENTS_PER_ROUND)
            .saturating_add(u64::from(self.branches) * EVENTS_PER_BRANCH)
    }
}

/// Whether the Maps of one execution must be distributed ones.
fn needs_children(maps: &[MapWork]) -> bool {
    let events = maps.iter().map(MapWork::events);
    let events = events.fold(0, u64::saturating_add);
    let workers = maps.iter().map(|map| map.concurrency.min(map.branches));
    events > PLANNED_EVENTS || workers.max().unwrap_or(0) > INLINE_CONCURRENCY
}

/// Whether the branches of a backup need executions of their own.
#[must_use]
pub fn backup_needs_children(record: &SnapshotRecord) -> bool {
    let bytes_per_unit = if record.consistent { 4096.0 } else { 8192.0 };
    needs_children(&[MapWork {
        branches: record.lanes,
        concurrency: record.concurrency,
        pieces: record.total_segments.into(),
        bytes: record.estimated_bytes,
        units: record.estimated_bytes as f64 / bytes_per_unit,
        capacity: record.read_capacity,
    }])
}

/// Whether the branches of a restore need executions of their own.
#[must_use]
pub fn restore_needs_children(record: &RestoreRecord) -> bool {
    let source = &record.source;
    // While DynamoDB imports there is a single branch, which mostly waits.
    let bytes = match record.engine {
        Engine::ImportTable => 0,
        Engine::Write => source
            .plain_bytes
            .unwrap_or_else(|| source.stored_bytes.saturating_mul(PLAIN_PER_STORED)),
    };
    let files = MapWork {
        branches: record.lanes,
        concurrency: record.concurrency,
        pieces: record.lanes.into(),
        bytes,
        units: (bytes as f64 / 1024.0).max(source.items.unwrap_or(0) as f64),
        capacity: record.write_capacity,
    };
    let logged = record.point.as_ref().map_or(0, |point| point.stored_bytes);
    let of_log = |branches: u32| MapWork {
        branches,
        pieces: branches.into(),
        bytes: logged.saturating_mul(PLAIN_PER_STORED),
        units: 0.0,
        capacity: 0.0,
        ..files
    };
    let shards = of_log(record.branches(record.shards()));
    let buckets = of_log(record.branches(record.buckets()));
    needs_children(&[shards, buckets, files])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn scan(segments: u32, concurrency: u32, bytes: u64, capacity: f64) -> MapWork {
        MapWork {
            branches: segments.min(1000),
            concurrency,
            pieces: segments.into(),
            bytes,
            units: bytes as f64 / 4096.0,
            capacity,
        }
    }

    #[test]
    fn a_usual_table_fits_one_history() {
        for map in [
            scan(4, 4, 0, 0.0),
            scan(200, 4, 100 * GIB, 0.0),
            scan(40, 40, 20 * GIB, 5000.0),
            // 909 branches of one round: 11 events each, and a thousand events in all to spare.
            scan(909, 4, 0, 0.0),
        ] {
            assert!(!needs_children(&[map]), "{map:?}: {}", map.events());
        }
    }

    #[test]
    fn many_branches_many_rounds_and_many_workers_do_not() {
        for (map, why) in [
            (scan(910, 4, 0, 0.0), "branches"),
            (scan(1_000_000, 4, 0, 0.0), "lanes of segments"),
            (scan(41, 41, 0, 0.0), "more workers than an inline Map has"),
            (scan(8, 4, 6000 * GIB, 0.0), "hours of scanning"),
            (
                scan(8, 4, 1024 * GIB, 100.0),
                "a month at 100 units a second",
            ),
        ] {
            assert!(needs_children(&[map]), "{why}: {}", map.events());
        }
        let half = scan(600, 4, 0, 0.0);
        assert!(!needs_children(&[half]));
        assert!(needs_children(&[half, half]), "one history holds all Maps");
    }

    #[test]
    fn workers_beyond_the_branches_count_for_nothing() {
        assert!(!needs_children(&[scan(8, 1000, 0, 0.0)]));
    }

    #[test]
    fn no_number_is_too_large() {
        let map = scan(1_000_000, 1000, u64::MAX, f64::MIN_POSITIVE);
        assert!(needs_children(&[map, map]));
    }

    /// Each worker's share of a small capacity makes its rounds long, and all of them are rounds.
    #[test]
    fn a_round_is_counted_for_every_worker_that_waits_in_it() {
        let alone = scan(8, 1, 100 * GIB, 1000.0);
        let together = scan(8, 8, 100 * GIB, 1000.0);
        let rounds = |map: MapWork| (map.events() - 8 * EVENTS_PER_BRANCH) / EVENTS_PER_ROUND - 8;
        // 26,214,400 units at 1000 a second are 26,214 seconds: 31 rounds of 840 seconds.
        assert_eq!((rounds(alone), rounds(together)), (31, 249));
    }
}
