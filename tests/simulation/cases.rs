//! Cases of the race matrix as named scenarios, and where the others are shown.

use std::time::Duration;

use bytes::Bytes;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::snapshot::Status;
use highwater_testkit::simulation::{Nastiness, Trouble};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::backups::Execution;
use super::evidence::{Evidence, key_json};
use super::mutations::Mutation;
use super::plan::{Plan, Readers};
use super::quiet::Quiet;
use super::readers;
use super::snapshot_invariants::{
    bases, i1_parts_cover_what_was_scanned, i14_restores_are_the_truth,
};
use super::world::World;

/// A follower, no trouble, and a connection slow enough that things happen between two pages.
fn quiet_plan(seed: u64) -> Plan {
    Plan {
        nasty: Nastiness {
            wild: true,
            page: 40,
            ..Nastiness::CALM
        },
        trouble: Trouble {
            delay_ms: 60,
            per_mille: 0,
            late_ms: 0,
        },
        readers: Readers {
            followers: 1,
            mapping: None,
            auditors: 0,
        },
        life_ms: u64::MAX / 4,
        disaster: None,
        mutation: None,
        ..Plan::of(seed)
    }
}

/// Runs `before` without a stream, then a backup with `during` beside it, then waits until the mark has passed everything.
fn scenario<B, D, F>(plan: Plan, before: B, during: D) -> Evidence
where
    B: FnOnce(&World),
    D: FnOnce(World) -> F,
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    fastrand::seed(plan.seed);
    runtime.block_on(async {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let world = World::new(&plan, false);
        before(&world);
        world.table.enable_stream(plan.view);
        let quiet = Quiet::default();
        let mut services = JoinSet::new();
        readers::start(&mut services, &world, plan, &quiet, &mut random);
        sleep(Duration::from_secs(90)).await;
        let execution = Execution {
            world: world.clone(),
            plan,
            quiet,
            number: 1,
            random: random.fork(),
        };
        let (outcome, ()) = tokio::join!(execution.run(), during(world.clone()));
        assert_eq!(
            outcome.status,
            Some(Status::Completed),
            "{:?}",
            outcome.error
        );
        sleep(Duration::from_secs(400)).await;
        services.shutdown().await;
        let evidence = Evidence::of(world, plan, vec![outcome], Ok(())).await;
        evidence.unwrap()
    })
}

/// The table as it is restored to the end of a scenario.
fn restored_to_the_end(evidence: &Evidence) -> std::collections::BTreeMap<Bytes, Bytes> {
    let compared = i14_restores_are_the_truth(evidence).unwrap();
    assert!(compared > 0, "nothing was promised");
    let (sealed, log) = bases(evidence).pop().unwrap();
    let last = evidence.records_of(log).map(|it| it.event_time).max();
    let end = UnixSeconds(last.unwrap_or_default().0.max(sealed.ended_at.0 + 60));
    let restored = sealed.restored(end, &log.changes(None)).unwrap();
    let now: std::collections::BTreeMap<Bytes, Bytes> = evidence
        .world
        .table
        .items()
        .into_iter()
        .map(|(key, item)| (key_json(&key), item))
        .collect();
    assert_eq!(restored, now, "the last second is the table as it is");
    restored
}

/// Items that the scan found.
fn scanned(evidence: &Evidence, key: &str) -> Option<Bytes> {
    let items = &evidence.snapshots[0].items;
    let found = items.iter().find(|(of, _)| *of == key_json(key));
    found.map(|(_, item)| item.clone())
}

/// Twelve items from before the stream.
fn twelve(world: &World) {
    for n in 0..12 {
        world.table.put(&format!("k{n}"), "first");
    }
}

/// Waits until the backup has captured its handoff and is about to scan.
async fn scan_begins(world: &World) {
    let planned = |key: &String| key.ends_with("/table.json");
    while !world.bucket.objects().keys().any(planned) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Runs seeds until one of them shows the situation that the case is about.
fn until_seen(what: &str, run: impl Fn(u64) -> bool) {
    assert!((0..200).any(run), "no seed shows {what}");
}

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
