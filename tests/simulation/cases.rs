//! Cases of the race matrix as named scenarios; `case_table.rs` says where the others are shown.

use std::time::Duration;

use tokio::time::sleep;

use super::evidence::key_json;
use super::mutations::Mutation;
use super::scenario::{
    quiet_plan, restored_to_the_end, scan_begins, scanned, scenario, twelve, until_seen,
};
use super::snapshot_invariants::{i1_parts_cover_what_was_scanned, i14_restores_are_the_truth};
use super::world::World;

#[test]
fn case_06_a_write_before_the_capture_published_after_it() {
    let evidence = scenario(quiet_plan(1), twelve, async |world: World| {
        // Written and held back before the backup captures anything.
        world.table.hold_publication();
        world.table.put("k1", "second");
        sleep(Duration::from_secs(20)).await;
        world.table.publish_all();
    });
    assert!(restored_to_the_end(&evidence).contains_key(&key_json("k1")));
}

#[test]
fn case_07_an_eventually_consistent_scan_has_a_hole() {
    let scan = |seed, mutation| {
        let mut plan = quiet_plan(seed);
        plan.nasty.stale_ms = 600_000;
        plan.mutation = mutation;
        let before = |world: &World| {
            world.table.put("k1", "first");
            world.table.put("k1", "second");
        };
        scenario(plan, before, async |_| {})
    };
    // The default reads strongly, and the last write before the stream is there.
    let strong = scan(1, None);
    assert!(strong.snapshots[0].record.consistent);
    i1_parts_cover_what_was_scanned(&strong).unwrap();
    // An old copy does not have it, and no record tells of it.
    until_seen("the hole", |seed| {
        let hole = scan(seed, Some(Mutation::EventualScan));
        i1_parts_cover_what_was_scanned(&hole).is_err()
            && i14_restores_are_the_truth(&hole).is_err()
    });
}

/// The part of it that a restore shows; a replica's loader is another chapter.
#[test]
fn case_08_a_delete_after_the_scan_has_read_the_item() {
    until_seen("a scanned item that is deleted meanwhile", |seed| {
        let evidence = scenario(quiet_plan(seed), twelve, async |world: World| {
            scan_begins(&world).await;
            sleep(Duration::from_millis(400)).await;
            world.table.delete("k3");
        });
        !restored_to_the_end(&evidence).contains_key(&key_json("k3"))
            && scanned(&evidence, "k3").is_some()
    });
}

#[test]
fn case_09_a_delete_before_the_scan_reaches_the_item() {
    until_seen(
        "an item that is deleted before the scan comes to it",
        |seed| {
            let evidence = scenario(quiet_plan(seed), twelve, async |world: World| {
                world.table.delete("k3");
            });
            !restored_to_the_end(&evidence).contains_key(&key_json("k3"))
                && scanned(&evidence, "k3").is_none()
        },
    );
}

#[test]
fn case_10_an_insert_behind_the_cursor() {
    until_seen("an item that is inserted where the scan has been", |seed| {
        let evidence = scenario(quiet_plan(seed), twelve, async |world: World| {
            scan_begins(&world).await;
            for n in 0..30 {
                sleep(Duration::from_millis(25)).await;
                world.table.put(&format!("new{n}"), "behind");
            }
        });
        let restored = restored_to_the_end(&evidence);
        let is_new = |n: &u32| scanned(&evidence, &format!("new{n}")).is_none();
        let missed = (0..30).filter(is_new);
        let some: Vec<u32> = missed.collect();
        assert!(
            some.iter()
                .all(|n| restored.contains_key(&key_json(&format!("new{n}"))))
        );
        // Some were scanned and some were not: the scan was among them.
        !some.is_empty() && some.len() < 30
    });
}

#[test]
fn case_11_deleted_and_inserted_again_around_the_read() {
    let evidence = scenario(quiet_plan(5), twelve, async |world: World| {
        scan_begins(&world).await;
        for round in 0..20 {
            world.table.delete("k3");
            sleep(Duration::from_millis(20)).await;
            world.table.put("k3", &format!("again {round}"));
            sleep(Duration::from_millis(20)).await;
        }
    });
    let restored = restored_to_the_end(&evidence);
    let item = restored.get(&key_json("k3")).unwrap();
    assert!(std::str::from_utf8(item).unwrap().contains("again 19"));
}

#[test]
fn case_18_a_partition_splits_between_two_pages() {
    let evidence = scenario(quiet_plan(7), twelve, async |world: World| {
        scan_begins(&world).await;
        for _ in 0..3 {
            sleep(Duration::from_millis(150)).await;
            let open = world.table.open_shards();
            world.table.split(&open[0]);
            world.table.put("k5", &format!("{} shards", open.len()));
        }
    });
    i1_parts_cover_what_was_scanned(&evidence).unwrap();
    restored_to_the_end(&evidence);
}

/// A write into a parent that is open although its child is listed at the capture.
#[test]
fn case_66_a_write_into_an_open_parent_at_the_capture() {
    let evidence = scenario(quiet_plan(9), twelve, async |world: World| {
        let parent = world.table.open_shards()[0].clone();
        world.table.begin_roll(&parent);
        for n in 0..10 {
            world.table.put("k7", &format!("late {n}"));
            sleep(Duration::from_millis(400)).await;
        }
        world.table.end_roll(&parent);
        world.table.put("k7", "in the child");
    });
    let restored = restored_to_the_end(&evidence);
    let item = restored.get(&key_json("k7")).unwrap();
    assert!(std::str::from_utf8(item).unwrap().contains("in the child"));
}
