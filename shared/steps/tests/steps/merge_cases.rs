//! Cases of the crash and race matrix that are about order and time: which record is the last of its key at a second.

use highwater_domain::mark::UnixSeconds;
use highwater_domain::restore_point::Side;
use highwater_domain::shard::StreamView;
use highwater_steps::StepError;

use crate::merge_world::{BEGIN, Items, World, second};

fn items(of: &[(u32, &str)]) -> Items {
    of.iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect()
}

async fn restored(world: &World, at: u64) -> Items {
    let restored = world.restore(second(at)).await.unwrap();
    assert_eq!(restored.items, world.model(at), "at {at}");
    restored.items
}

/// An empty table is scanned at 10, so that everything is the log's.
async fn after_an_empty_scan(seed: u64) -> (World, usize) {
    let mut world = World::new(seed);
    let root = world.root(0);
    world.capture(10);
    world.seal(11).await;
    (world, root)
}

/// Numbers grow longer inside a shard and from parent to child, up to 40 digits.
#[tokio::test]
async fn case_45_numbers_that_grow_longer_are_in_order() {
    for seed in 0..4 {
        let (mut world, root) = after_an_empty_scan(seed).await;
        let nines = world.roll(root, 20, &["99999999999999999999999"])[0];
        for write in 0..10 {
            world.write(nines, 1, 20 + write, Some(&format!("inside {write}")));
        }
        let longest = "9999999999999999999999999999999999999900";
        let last = world.roll(nines, 40, &[longest])[0];
        for write in 0..10 {
            world.write(last, 1, 40 + write, Some(&format!("longest {write}")));
        }
        world.publish().await;
        assert_eq!(restored(&world, 29).await, items(&[(1, "inside 9")]));
        assert_eq!(restored(&world, 60).await, items(&[(1, "longest 9")]));
        for at in 18..50 {
            restored(&world, at).await;
        }
    }
}

#[tokio::test]
async fn case_46_a_child_may_begin_below_its_parents_numbers() {
    let (mut world, root) = after_an_empty_scan(1).await;
    world.write(root, 1, 20, Some("parent"));
    let child = world.roll(root, 30, &["7"])[0];
    world.write(child, 1, 30, Some("child"));
    world.publish().await;
    assert_eq!(restored(&world, 29).await, items(&[(1, "parent")]));
    assert_eq!(restored(&world, 30).await, items(&[(1, "child")]));
}

/// A merge, as AWS does not have it: the records of a key go on in a shard that names another parent, less deep than
/// the first.
#[tokio::test]
async fn case_46_after_a_merge_with_a_hidden_parent_the_ordinals_decide() {
    let mut world = World::new(1);
    let (deep, shallow) = (world.root(0), world.root(0));
    world.capture(10);
    world.seal(11).await;
    let mut path = deep;
    for roll in 0..5 {
        path = world.roll(path, 20 + roll, &["9999999999999999"])[0];
    }
    world.write(path, 1, 26, Some("deep"));
    let merged = world.roll(shallow, 60, &["5"])[0];
    world.write(merged, 1, 61, Some("merged"));
    world.publish().await;
    assert_eq!(restored(&world, 60).await, items(&[(1, "deep")]));
    assert_eq!(restored(&world, 61).await, items(&[(1, "merged")]));
}

#[tokio::test]
async fn case_47_a_stamp_that_goes_back_does_not_reorder_and_is_told() {
    let (mut world, root) = after_an_empty_scan(1).await;
    world.write(root, 1, 20, Some("a"));
    world.write(root, 1, 22, Some("b"));
    world.write(root, 1, 20, Some("c"));
    world.write(root, 2, 21, Some("d"));
    world.write(root, 1, 23, None);
    world.publish().await;
    assert_eq!(
        restored(&world, 21).await,
        items(&[(1, "a")]),
        "the cut is a prefix"
    );
    assert_eq!(restored(&world, 22).await, items(&[(1, "c"), (2, "d")]));
    assert_eq!(restored(&world, 23).await, items(&[(2, "d")]));
    let deps = world.deps();
    let point = world.choose(second(23)).await.unwrap();
    let point = highwater_steps::restore_point::prepare(&deps, point)
        .await
        .unwrap();
    world.merge(&deps, &point).await.unwrap();
    let scattered = world
        .store
        .objects()
        .into_iter()
        .find(|it| it.0.contains("/scattered/"));
    let told = String::from_utf8(scattered.unwrap().1.body.to_vec()).unwrap();
    assert!(told.contains(r#""disorder_s": 2"#), "{told}");
    assert!(told.contains(r#""records": 5"#), "each once: {told}");
}

/// The last event time of a parent is the first that its children have.
#[tokio::test]
async fn case_47_a_child_goes_on_with_its_parents_time() {
    let (mut world, root) = after_an_empty_scan(1).await;
    world.write(root, 1, 22, Some("a"));
    let child = world.roll(root, 22, &["3"])[0];
    world.write(child, 1, 20, Some("b"));
    world.publish().await;
    assert_eq!(restored(&world, 21).await, items(&[]));
    assert_eq!(restored(&world, 22).await, items(&[(1, "b")]));
}

/// The same where changes are undone: what the child's stamp alone would count among the earlier ones is later.
#[tokio::test]
async fn case_47_a_child_goes_on_with_its_parents_time_in_undoing_too() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.write(root, 1, 10, Some("a"));
    world.write(root, 2, 22, Some("b"));
    let child = world.roll(root, 22, &["3"])[0];
    world.write(child, 1, 20, Some("c"));
    world.capture(23);
    world.scan_all();
    world.seal(24).await;
    world.publish().await;
    assert_eq!(restored(&world, 21).await, items(&[(1, "a")]));
    assert_eq!(restored(&world, 22).await, items(&[(1, "c"), (2, "b")]));
}

#[tokio::test]
async fn case_48_three_writes_in_one_second() {
    for scanned_after in [false, true] {
        let mut world = World::new(1);
        let root = world.root(0);
        if !scanned_after {
            world.capture(10);
            world.seal(11).await;
        }
        world.write(root, 1, 20, Some("a"));
        world.write(root, 1, 20, Some("b"));
        world.write(root, 1, 20, Some("c"));
        if scanned_after {
            world.capture(50);
            world.scan_all();
            world.seal(51).await;
        }
        world.publish().await;
        assert_eq!(restored(&world, 20).await, items(&[(1, "c")]));
        assert_eq!(restored(&world, 19).await, items(&[]));
        assert_eq!(restored(&world, 25).await, items(&[(1, "c")]));
    }
}

/// Items of every fate around a scan from 50 to 60.
async fn around_a_scan(view: StreamView) -> World {
    let mut world = World::new(1);
    world.view = view;
    let root = world.root(0);
    world.write(root, 1, 20, Some("before"));
    world.write(root, 2, 21, Some("deleted inside"));
    world.write(root, 3, 22, Some("old"));
    world.write(root, 4, 23, Some("made again"));
    world.write(root, 5, 24, Some("never touched"));
    world.write(root, 1, 30, Some("before, too"));
    let child = world.roll(root, 40, &["1"])[0];
    world.capture(50);
    world.scan(3);
    world.write(child, 3, 52, Some("new"));
    world.scan(2);
    world.write(child, 2, 53, None);
    world.write(child, 4, 54, None);
    world.scan(4);
    world.write(child, 4, 56, Some("again"));
    world.write(child, 6, 57, Some("born inside"));
    world.scan(1);
    world.scan(5);
    world.scan(6);
    world.seal(60).await;
    world.write(child, 1, 70, Some("after"));
    world.write(child, 6, 71, None);
    world.write(child, 3, 90, Some("newest"));
    world.publish().await;
    world
}

#[tokio::test]
async fn case_49_seconds_before_inside_and_after_the_scan() {
    let world = around_a_scan(StreamView::NewAndOldImages).await;
    for at in 0..100 {
        let restored = world.restore(second(at)).await.unwrap();
        assert_eq!(restored.items, world.model(at), "at {at}");
        let side = if at < 63 { Side::Undo } else { Side::Forward };
        assert_eq!(restored.point.side, side, "at {at}");
    }
    assert_eq!(world.model(25).len(), 5, "something is undone");
}

#[tokio::test]
async fn case_49_without_old_images_only_seconds_behind_the_scan() {
    let world = around_a_scan(StreamView::NewImage).await;
    for at in 63..100 {
        restored(&world, at).await;
    }
    for at in [10, 50, 55, 60, 62] {
        let error = world.restore(second(at)).await.unwrap_err();
        let StepError::NotRestorable { reason, .. } = error else {
            panic!("{error}");
        };
        let first = UnixSeconds(BEGIN + 63).to_rfc3339();
        assert!(reason.contains("NEW_IMAGE"), "{reason}");
        assert!(
            reason.contains(&format!("restore to {first} or later")),
            "{reason}"
        );
    }
}

/// Of a transaction whose records have different seconds a part may be there, and the bound says so.
#[tokio::test]
async fn case_50_a_transaction_may_be_cut_and_that_is_told() {
    let (mut world, root) = after_an_empty_scan(1).await;
    let other = world.root(0);
    world.write(root, 1, 20, Some("half"));
    world.write(other, 2, 21, Some("other half"));
    world.capture(30);
    world.scan_all();
    world.seal(31).await;
    world.publish().await;
    let restored = world.restore(second(20)).await.unwrap();
    assert_eq!(restored.items, items(&[(1, "half")]));
    let bound = restored.point.bound.join("\n");
    assert!(
        bound.contains("a transaction over several items may be there in part"),
        "{bound}"
    );
    assert!(
        bound.contains(&UnixSeconds(BEGIN + 20).to_rfc3339()),
        "{bound}"
    );
    assert!(bound.contains("proven"), "{bound}");
}

/// A record that comes after a mark was published that should have had it: the next restore has it, and can be told from
/// the one before.
#[tokio::test]
async fn case_59_a_restore_after_a_late_record_has_it() {
    let (mut world, root) = after_an_empty_scan(1).await;
    world.write(root, 1, 20, Some("in time"));
    world.publish().await;
    let before = world.restore(second(40)).await.unwrap();
    assert_eq!(before.items, items(&[(1, "in time")]));
    world.write(root, 1, 30, Some("late"));
    world.publish().await;
    let after = world.restore(second(40)).await.unwrap();
    assert_eq!(after.items, items(&[(1, "late")]));
    assert_ne!(after.point.fingerprint, before.point.fingerprint);
    assert_ne!(after.fingerprint, before.fingerprint);
}

/// What the log gets after the plan does not mix with what was planned.
#[tokio::test]
async fn case_59_a_late_record_does_not_get_into_a_restore_that_is_under_way() {
    let (mut world, root) = after_an_empty_scan(1).await;
    world.write(root, 1, 20, Some("in time"));
    world.publish().await;
    let deps = world.deps();
    let point = world.choose(second(40)).await.unwrap();
    let point = highwater_steps::restore_point::prepare(&deps, point)
        .await
        .unwrap();
    world.write(root, 1, 30, Some("late"));
    world.publish().await;
    world.merge(&deps, &point).await.unwrap();
    let restored = world.read(&deps, point).await.unwrap();
    assert_eq!(restored.items, items(&[(1, "in time")]));
}

/// Stamps that are off by two seconds where the scan begins and ends.
#[tokio::test]
async fn case_64_skewed_stamps_at_the_edges_of_the_scan() {
    for skew in 0..=4_u64 {
        let mut world = World::new(skew);
        let root = world.root(0);
        for key in 0..8 {
            world.write(root, key, 10, Some("old"));
        }
        // Done at 48 to 52, stamped up to 2 s off.
        world.write(root, 0, 46 + skew, Some("just before the capture"));
        world.capture(50);
        world.scan(0);
        world.scan(1);
        world.write(
            root,
            1,
            48 + skew,
            Some("after the capture, after its read"),
        );
        world.write(
            root,
            2,
            49 + skew,
            Some("after the capture, before its read"),
        );
        world.scan(2);
        world.scan(3);
        world.write(root, 3, 57 + skew, Some("before the end, after its read"));
        world.write(root, 4, 58 + skew, Some("before the end, before its read"));
        for key in 4..8 {
            world.scan(key);
        }
        world.seal(60).await;
        world.write(root, 5, 58 + skew, Some("after the end"));
        world.write(root, 6, 59 + skew, None);
        world.publish().await;
        for at in 40..70 {
            restored(&world, at).await;
        }
    }
}
