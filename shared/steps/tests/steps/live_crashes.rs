//! Workers that die at any call, stand still at any call, or share the work: the log is whole and the mark is true.

use std::time::Duration;

use highwater_testkit::failing::Moment;

use crate::live_mortal::Life;
use crate::live_world::{SECOND, World, follow_for};

/// Writes, a roll, a split, more writes: what happens to the table while workers come and go.
async fn events(world: &World) {
    for round in 0..3 {
        tokio::time::sleep(5 * SECOND).await;
        world.put_many(&format!("{round}-"), 4);
        let open = world.table.open_shards();
        match round {
            0 => {
                world.table.roll(&open[0]);
            }
            1 => {
                world.table.split(&open[0]);
            }
            _ => {}
        }
        world.put_many(&format!("{round}+"), 4);
    }
}

/// I8, at all times: as long as it is polled, the mark in the bucket says nothing that is not so.
async fn watch(world: &World) {
    let key = World::place().mark(&world.label());
    loop {
        tokio::time::sleep(5 * SECOND).await;
        if let Some(mark) = world.object(&key) {
            world.assert_mark_is_true(&mark);
        }
    }
}

fn assert_sound(world: &World, what: &str) {
    let missing = world.missing();
    assert!(missing.is_empty(), "{what}: not in the log: {missing:?}");
    assert_eq!(world.incidents(), [], "{what}");
    world.assert_rows_are_sound();
    let mark = world.mark();
    world.assert_mark_is_true(&mark);
    let lag = world.now().0 - mark.mark.assumed.unwrap().0;
    assert!(lag < 150, "{what}: the mark is {lag} s behind");
    for row in world.shard_rows().values().filter(|row| row.ended) {
        let end = world.shard_end(&row.shard).unwrap();
        assert_eq!(end.children, row.children, "{what}");
    }
    assert_monotone(world, what);
}

/// I9: without an incident no grade of the mark ever goes back.
fn assert_monotone(world: &World, what: &str) {
    let history = world.live.history();
    for pair in history.windows(2) {
        let (before, after) = (pair[0].2.mark, pair[1].2.mark);
        assert!(
            before.proven <= after.proven
                && before.rolled <= after.rolled
                && before.assumed <= after.assumed,
            "{what}: {before:?} {after:?}"
        );
    }
}

/// Cases 39 and 40, and every other place: each call of a follower is, once, its last, before it took effect and after.
/// Whoever follows next finds everything.
#[tokio::test(start_paused = true)]
async fn case_39_a_crash_at_any_call_loses_nothing() {
    for moment in [Moment::Before, Moment::After] {
        let mut deaths = 0;
        for nth in 1.. {
            let world = World::new().await;
            world.put_many("a", 3);
            let life = Life::until(nth, moment);
            let deps = world.mortal(&life, 1);
            let request = World::request("a");
            let (ended, ()) = tokio::join!(
                async {
                    tokio::select! {
                        biased;
                        () = life.death() => None,
                        report = follow_for(&deps, &request, 60 * SECOND) => Some(report),
                    }
                },
                events(&world)
            );
            if let Some(report) = ended {
                report.unwrap();
                break;
            }
            deaths += 1;
            let what = format!("{moment:?} call {nth}");
            tokio::select! {
                biased;
                () = watch(&world) => {}
                report = world.follow(200 * SECOND) => assert!(report.shards_ended <= 2, "{what}"),
            }
            assert_sound(&world, &what);
        }
        assert!(deaths > 100, "only {deaths} places to die at");
    }
}

/// Case 41: a worker that stands still at any call while another takes over, and then wakes with its request in hand.
#[tokio::test(start_paused = true)]
async fn case_41_a_worker_that_wakes_late_changes_nothing() {
    for moment in [Moment::Before, Moment::After] {
        for nth in (1..).step_by(3) {
            let world = World::new().await;
            world.put_many("a", 3);
            let life = Life::napping(nth, moment, 70 * SECOND);
            let sleepy = world.mortal(&life, 1);
            let other = world.mortal(&Life::long(), 2);
            let what = format!("{moment:?} call {nth}");
            let both = async {
                let (request, another) = (World::request("a"), World::request("b"));
                let (a, b, ()) = tokio::join!(
                    follow_for(&sleepy, &request, 250 * SECOND),
                    async {
                        tokio::time::sleep(2 * SECOND).await;
                        follow_for(&other, &another, 250 * SECOND).await
                    },
                    events(&world)
                );
                a.unwrap();
                b.unwrap();
            };
            tokio::select! {
                biased;
                () = watch(&world) => {}
                () = both => {}
            }
            assert_sound(&world, &what);
            // By then everything that can happen has happened.
            if !life.has_struck() || nth > 130 {
                break;
            }
        }
    }
}

/// Case 43 and I20: a second worker gets its share, and a hand-over loses and doubles nothing.
#[tokio::test(start_paused = true)]
async fn case_43_leases_are_handed_over_in_order() {
    let world = World::new().await;
    for _ in 0..3 {
        for shard in world.table.open_shards() {
            world.table.split(&shard);
        }
    }
    let (first, second) = (
        world.mortal(&Life::long(), 1),
        world.mortal(&Life::long(), 2),
    );
    let (a, b) = (World::request("a"), World::request("b"));
    let writes = async {
        for n in 0..200 {
            world.table.put(&format!("k{n}"), "x");
            tokio::time::sleep(2 * SECOND).await;
        }
    };
    let (a, b, ()) = tokio::join!(
        follow_for(&first, &a, 500 * SECOND),
        async {
            tokio::time::sleep(100 * SECOND).await;
            follow_for(&second, &b, 420 * SECOND).await
        },
        writes
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.records + b.records, 200);
    assert!(b.records > 40, "{} of 200 by the second", b.records);
    assert_eq!(world.doubled(), 0);
    assert_sound(&world, "hand-over");
}

/// Case 43: the one who asked for a lease dies; the owner keeps it and goes on.
#[tokio::test(start_paused = true)]
async fn case_43_a_claimant_that_dies_gets_nothing() {
    for nth in (5..120).step_by(7) {
        let world = World::new().await;
        for _ in 0..2 {
            for shard in world.table.open_shards() {
                world.table.split(&shard);
            }
        }
        let first = world.mortal(&Life::long(), 1);
        let life = Life::until(nth, Moment::After);
        let second = world.mortal(&life, 2);
        let (a, b) = (World::request("a"), World::request("b"));
        let (a, (), ()) = tokio::join!(
            follow_for(&first, &a, 400 * SECOND),
            async {
                tokio::time::sleep(60 * SECOND).await;
                tokio::select! {
                    biased;
                    () = life.death() => {}
                    _ = follow_for(&second, &b, 100 * SECOND) => {}
                }
            },
            async {
                for n in 0..100 {
                    world.table.put(&format!("k{n}"), "x");
                    tokio::time::sleep(2 * SECOND).await;
                }
            }
        );
        a.unwrap();
        assert_sound(&world, &format!("call {nth}"));
    }
}

/// Dropping the follower stops everything that it had begun.
#[tokio::test(start_paused = true)]
async fn nothing_runs_on_when_the_follower_is_dropped() {
    let world = World::new().await;
    world.put_many("a", 3);
    let deps = world.deps();
    let request = World::request("a");
    let run = follow_for(&deps, &request, 100 * SECOND);
    assert!(
        tokio::time::timeout(Duration::from_secs(20), run)
            .await
            .is_err()
    );
    tokio::task::yield_now().await;
    let (rows, objects) = (world.shard_rows(), world.store.objects());
    world.put_many("b", 3);
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(world.shard_rows(), rows);
    assert_eq!(world.store.objects(), objects);
}
