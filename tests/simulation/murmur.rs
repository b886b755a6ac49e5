//! What a bootstrap with a handoff owes a live stream: MU-14 to MU-16. MU-17 and MU-18 are with the steps,
//! in `handoffs.rs` and `crashes.rs`.

use std::time::Duration;

use highwater_testkit::simulation::Trouble;
use tokio::time::sleep;

use super::evidence::key_json;
use super::log_invariants::{i3_the_log_holds_facts_only, i8_nothing_below_a_mark_is_missing};
use super::plan::{Mapping, Plan, Readers};
use super::scenario::{quiet_plan, restored_to_the_end, scan_begins, scenario, twelve};
use super::snapshot_invariants::i1_parts_cover_what_was_scanned;
use super::world::World;

/// MU-14: an item that is written during the scan, after the capture, is in the final state, and each change counts once.
#[test]
fn mu_14_a_write_during_the_scan_counts_once() {
    let evidence = scenario(quiet_plan(14), twelve, async |world: World| {
        scan_begins(&world).await;
        for n in 0..25 {
            world.table.put("k3", &format!("balance {n}"));
            sleep(Duration::from_millis(30)).await;
        }
    });
    let restored = restored_to_the_end(&evidence);
    let item = restored.get(&key_json("k3")).unwrap();
    assert!(std::str::from_utf8(item).unwrap().contains("balance 24"));
    i3_the_log_holds_facts_only(&evidence).unwrap();
    let log = &evidence.logs[0];
    let changes: Vec<_> = evidence
        .records_of(log)
        .filter(|record| record.key == "k3")
        .collect();
    assert_eq!(changes.len(), 25);
    for change in changes {
        let logged = evidence.logged_at(log, change);
        assert!(logged.is_some(), "{} is not logged", change.sequence_number);
    }
}

/// MU-15: a consumer that dies between any two of its calls is given the batch again, and what it has begun is neither
/// taken for done nor done twice.
#[test]
fn mu_15_a_crash_before_the_answer_is_repaired_by_redelivery() {
    for seed in 0..6 {
        let plan = Plan {
            trouble: Trouble {
                delay_ms: 60,
                per_mille: 60,
                late_ms: 30_000,
            },
            readers: Readers {
                followers: 0,
                mapping: Some(Mapping {
                    windows: true,
                    discards: false,
                }),
                auditors: 1,
            },
            ..quiet_plan(seed)
        };
        let evidence = scenario(plan, twelve, async |world: World| {
            for n in 0..120 {
                world.table.put(&format!("k{}", n % 12), &format!("{n}"));
                sleep(Duration::from_millis(50)).await;
            }
        });
        i3_the_log_holds_facts_only(&evidence).unwrap();
        i8_nothing_below_a_mark_is_missing(&evidence).unwrap();
        restored_to_the_end(&evidence);
    }
}

/// MU-16: more shards than a page of a listing has, and splits during the scan: nothing is missed.
#[test]
fn mu_16_more_than_a_hundred_shards_and_splits_during_the_scan() {
    let evidence = scenario(quiet_plan(16), twelve, async |world: World| {
        // Before the backup has sent its first request.
        for round in 0..7 {
            for shard in world.table.open_shards() {
                world.table.split(&shard);
            }
            for n in 0..200 {
                world.table.put(&format!("k{n}"), &format!("round {round}"));
            }
        }
        assert!(world.table.open_shards().len() > 100);
        scan_begins(&world).await;
        for n in 0..200 {
            let key = format!("k{n}");
            if n % 10 == 0
                && let Some(shard) = world.table.shard_of(&key)
            {
                world.table.split(&shard);
            }
            world.table.put(&key, "during the scan");
            sleep(Duration::from_millis(5)).await;
        }
    });
    i1_parts_cover_what_was_scanned(&evidence).unwrap();
    i8_nothing_below_a_mark_is_missing(&evidence).unwrap();
    let handoff = evidence.snapshots[0].record.handoff.as_ref().unwrap();
    assert!(
        handoff.shards.len() > 100,
        "{} shards",
        handoff.shards.len()
    );
    let restored = restored_to_the_end(&evidence);
    assert_eq!(restored.len(), 200);
}
