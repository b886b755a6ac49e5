//! Which snapshot and which log a restore to a second takes, and why it is refused.

use std::sync::Arc;

use highwater_domain::backup_source::SourceLocation;
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::IncidentKind;
use highwater_domain::mark::{Grade, Mark, UnixSeconds};
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore_point::{At, Rules, Side};
use highwater_domain::snapshot::Status;
use highwater_steps::log_index::LogIndex;
use highwater_steps::{ErrorName, StepError, restore_point};
use highwater_testkit::fake_store::object;

use crate::merge_world::{BEGIN, LABEL, SNAPSHOT, TABLE, World, is_log_object, second};

fn at(second: u64) -> UnixSeconds {
    UnixSeconds(BEGIN + second)
}

/// A write at 20 and every 100 s, a scan from 250 to 260.
async fn simple() -> World {
    let mut world = World::new(1);
    let root = world.root(0);
    world.write(root, 1, 20, Some("a"));
    world.write(root, 1, 120, Some("b"));
    world.capture(250);
    world.scan_all();
    world.seal(260).await;
    world.write(root, 1, 320, Some("c"));
    world.write(root, 1, 420, Some("d"));
    world.publish().await;
    world
}

async fn index(world: &World) -> LogIndex {
    let store: Arc<dyn ObjectStore> = world.store.clone();
    LogIndex::read(&store, &World::place(), LABEL)
        .await
        .unwrap()
}

async fn reason(world: &World, at: u64) -> String {
    match world.choose(second(at)).await {
        Err(error @ StepError::NotRestorable { .. }) => {
            assert_eq!(error.name(), ErrorName::NotRestorable);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_choice_is_told() {
    let world = simple().await;
    let point = world.choose(second(330)).await.unwrap();
    assert_eq!(point.snapshot, format!("{TABLE}/AWSDynamoDB/{SNAPSHOT}"));
    assert_eq!(point.log, format!("{TABLE}/log/{LABEL}"));
    assert_eq!((point.side, point.grade), (Side::Forward, Grade::Proven));
    assert_eq!((point.needs.from, point.needs.until), (at(247), at(330)));
    assert_eq!((point.shards, point.buckets), (1, 1));
    assert!(point.objects > 0 && point.stored_bytes > 0);
    let json = serde_json::to_string(&point).unwrap();
    assert_eq!(
        serde_json::from_str::<highwater_domain::restore_point::RestorePoint>(&json).unwrap(),
        point
    );
    let before = world.choose(second(100)).await.unwrap();
    assert_eq!(before.side, Side::Undo);
    assert_eq!((before.needs.from, before.needs.until), (at(101), at(263)));
}

/// The table's folder, its folder of snapshots, a snapshot.
#[tokio::test]
async fn a_place_is_named_in_three_ways() {
    let world = simple().await;
    let deps = world.deps();
    for place in [
        TABLE.to_owned(),
        format!("{TABLE}/AWSDynamoDB/"),
        format!("{TABLE}/AWSDynamoDB/{SNAPSHOT}"),
    ] {
        let location: SourceLocation = place.parse().unwrap();
        let options = world.options("a");
        let point = restore_point::choose(&deps, &location, second(330), &options).await;
        assert_eq!(point.unwrap().snapshot_id.as_str(), SNAPSHOT, "{place}");
    }
    let location: SourceLocation = "s3://fake-bucket".parse().unwrap();
    let refused = restore_point::choose(&deps, &location, second(330), &world.options("a")).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::InvalidInput);
}

#[tokio::test]
async fn the_mark_forbids_what_is_above_it() {
    let mut world = simple().await;
    world.mark = Mark {
        proven: Some(at(300)),
        rolled: Some(at(310)),
        assumed: Some(at(400)),
    };
    world.publish_mark().await;
    for (second_of, grade) in [
        (300, Grade::Proven),
        (301, Grade::Rolled),
        (310, Grade::Rolled),
        (311, Grade::Assumed),
        (400, Grade::Assumed),
    ] {
        let point = world.choose(second(second_of)).await.unwrap();
        assert_eq!(point.grade, grade, "{second_of}");
    }
    let refused = reason(&world, 401).await;
    let mark = at(400).to_rfc3339();
    assert!(
        refused.contains(&format!("complete up to {mark} (assumed)")),
        "{refused}"
    );
    assert!(refused.contains("highwater audit"), "{refused}");
    world.rules.grade = Grade::Proven;
    let refused = reason(&world, 301).await;
    assert!(refused.contains("(proven)"), "{refused}");
    assert!(refused.contains("a lesser grade"), "{refused}");
    let latest = world.choose(At::Latest).await.unwrap();
    assert_eq!((latest.at, latest.grade), (at(300), Grade::Proven));
    // A second before the scan needs the log up to behind it.
    world.mark.proven = Some(at(262));
    world.publish_mark().await;
    assert!(
        reason(&world, 100).await.contains("up to"),
        "undo needs the scan's end"
    );
    world.mark = Mark::default();
    world.publish_mark().await;
    assert!(reason(&world, 300).await.contains("nothing is known yet"));
}

#[tokio::test]
async fn nothing_is_restored_from_a_lost_interval() {
    let world = simple().await;
    world
        .incident(IncidentKind::LateRecord, None, 0, 9_000)
        .await;
    world.choose(second(330)).await.unwrap();
    world.incident(IncidentKind::Gap, Some(0), 300, 310).await;
    world.choose(second(299)).await.unwrap();
    let refused = reason(&world, 300).await;
    assert!(refused.contains(&at(300).to_rfc3339()), "{refused}");
    assert!(refused.contains(&at(310).to_rfc3339()), "{refused}");
    assert!(refused.contains("gap"), "{refused}");
    assert!(reason(&world, 9_000).await.contains("gap"));
    // A second long before is reached by undoing, which does not need what came after the scan.
    world.choose(second(100)).await.unwrap();
}

/// A loss that is found between the choice and the first task.
#[tokio::test]
async fn a_loss_that_is_found_meanwhile_refuses_the_restore_too() {
    let world = simple().await;
    let point = world.choose(second(330)).await.unwrap();
    world
        .incident(IncidentKind::ChainBreak, None, 300, 301)
        .await;
    let refused = restore_point::prepare(&world.deps(), point).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::NotRestorable);
}

/// What was lost before the handoff is healed by the scan; but records that are older than the loss must not be used.
#[tokio::test]
async fn a_loss_before_the_handoff_does_not_let_old_records_through() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.write(root, 1, 20, Some("before the loss"));
    // Nobody logged this one.
    let other = world.root(0);
    world.write(other, 1, 100, Some("lost"));
    world.capture(250);
    world.scan_all();
    world.seal(260).await;
    world.publish().await;
    let folder = World::place().shard(LABEL, &world.shard_id(other));
    for key in world.store.keys() {
        if key.starts_with(&folder) && is_log_object(&key) {
            world.store.lose(&key);
        }
    }
    world
        .incident(IncidentKind::Gap, Some(other), 90, 200)
        .await;
    for second_of in [240, 250, 263, 500] {
        let restored = world.restore(second(second_of)).await.unwrap();
        assert_eq!(restored.items, world.model(second_of), "at {second_of}");
    }
    let refused = reason(&world, 150).await;
    assert!(refused.contains("may be missing"), "{refused}");
}

/// Stamps may be off by the margin on either side of a loss, too.
#[tokio::test]
async fn a_handoff_right_behind_a_loss_is_refused() {
    for (until, refused) in [(243, false), (244, true), (249, true)] {
        let world = simple().await;
        world.incident(IncidentKind::Gap, Some(0), 200, until).await;
        let choice = world.choose(second(330)).await;
        assert_eq!(choice.is_err(), refused, "{until}");
    }
}

#[tokio::test]
async fn a_log_with_a_hole_between_shards_is_refused() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.write(root, 1, 20, Some("a"));
    world.capture(250);
    world.scan_all();
    world.seal(260).await;
    world.write(root, 1, 300, Some("b"));
    let children = world.roll(root, 310, &["5", "9"]);
    world.write(children[0], 1, 320, Some("c"));
    world.publish().await;
    world.choose(second(330)).await.unwrap();
    let place = World::place();
    world
        .store
        .lose(&place.shard_facts(LABEL, &world.shard_id(children[1])));
    let refused = reason(&world, 330).await;
    assert!(
        refused.contains(world.shard_id(children[1]).as_str()),
        "{refused}"
    );
    assert!(refused.contains("highwater audit"), "{refused}");
    let index = index(&world).await;
    assert_eq!(index.unregistered, [], "the shard had no objects at all");
    assert_eq!(index.facts.shards.len(), 2);
    world
        .store
        .lose(&place.shard_facts(LABEL, &world.shard_id(root)));
    let refused = reason(&world, 330).await;
    assert!(refused.contains("does not reach back"), "{refused}");
}

#[tokio::test]
async fn nothing_is_undone_that_is_older_than_the_log() {
    let mut world = simple().await;
    world.log_from = 50;
    world.publish().await;
    world.choose(second(50)).await.unwrap();
    let refused = reason(&world, 49).await;
    assert!(
        refused.contains(&format!("the log begins at {}", at(50).to_rfc3339())),
        "{refused}"
    );
    // From the handoff on the positions are enough.
    world.log_from = 1_000;
    world.publish().await;
    world.choose(second(253)).await.unwrap();
    assert!(reason(&world, 252).await.contains("the log begins at"));
}

#[tokio::test]
async fn a_snapshot_that_will_not_do_is_passed_over_and_told_of_only_if_there_is_no_other() {
    let world = simple().await;
    let plain = Metadata {
        status: Status::Completed,
        backup_start_time: "2026-01-13T10:31:00.000Z".into(),
        backup_end_time: Some("2026-01-13T10:31:10.000Z".into()),
        ..Metadata::default()
    };
    // Nearer than the one that will do.
    let near = "01768300330000-0000000b";
    for metadata in [
        Metadata {
            status: Status::Running,
            ..plain.clone()
        },
        Metadata {
            max_items: 3,
            ..plain.clone()
        },
        plain.clone(),
    ] {
        world.put_snapshot(near, &metadata).await;
        let point = world.choose(second(330)).await.unwrap();
        assert_eq!(point.snapshot_id.as_str(), SNAPSHOT);
        let refused = reason(&world, 11_000).await;
        assert!(refused.contains(SNAPSHOT), "{refused}");
    }
    let key = format!("daily/orders/AWSDynamoDB/{SNAPSHOT}/backup.json");
    world.store.lose(&key);
    assert!(reason(&world, 330).await.contains("it has no handoff"));
    world.store.plant(object(&key, "{"));
    assert!(
        reason(&world, 330).await.contains("handoff"),
        "the nearest one's reason"
    );
    for key in world.store.keys() {
        world.store.lose(&key);
    }
    assert!(
        reason(&world, 330)
            .await
            .contains("there is no completed snapshot")
    );
}

#[tokio::test]
async fn the_future_cannot_be_restored() {
    let world = simple().await;
    let refused = reason(&world, 1_000_000).await;
    assert!(refused.contains("in the future"), "{refused}");
}

fn an_hour_before(text: &str) -> String {
    let at = UnixMillis::from_rfc3339(text).unwrap();
    UnixMillis(at.0 - 3_600_000).to_rfc3339()
}

/// The clock of whoever made the snapshot was an hour behind: its end is later than it says.
#[tokio::test]
async fn a_slow_clock_does_not_shorten_the_scan() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.write(root, 1, 20, Some("a"));
    world.capture(5_000);
    world.write(root, 1, 5_100, Some("b"));
    world.scan_all();
    world.seal(5_200).await;
    world.publish().await;
    let key = format!("daily/orders/AWSDynamoDB/{SNAPSHOT}/backup.json");
    world.store.tamper(&key, |body| {
        let mut metadata: Metadata = serde_json::from_slice(body).unwrap();
        metadata.backup_start_time = an_hour_before(&metadata.backup_start_time);
        metadata.backup_end_time = metadata.backup_end_time.as_deref().map(an_hour_before);
        *body = serde_json::to_vec(&metadata).unwrap();
    });
    for second_of in [5_000, 5_050, 5_100, 5_150, 5_300] {
        let restored = world.restore(second(second_of)).await.unwrap();
        assert_eq!(restored.items, world.model(second_of), "at {second_of}");
    }
}

/// Reads that may be a quarter of an hour old need the log from before.
#[tokio::test]
async fn an_eventual_scan_needs_a_quarter_of_an_hour_more() {
    let mut world = World::new(1);
    world.consistent = false;
    let root = world.root(0);
    world.write(root, 1, 20, Some("a"));
    world.scan_all();
    world.write(root, 1, 1_500, Some("the scan did not see this"));
    world.capture(2_000);
    world.seal(2_100).await;
    world.publish().await;
    let restored = world.restore(second(2_200)).await.unwrap();
    assert_eq!(restored.items, world.model(2_200));
    assert_eq!(restored.point.needs.from, at(2_000 - 900 - 3));
    assert!(
        restored
            .point
            .bound
            .join("\n")
            .contains("eventually consistent")
    );
}

#[tokio::test]
async fn a_bad_object_of_the_log_is_named() {
    let world = simple().await;
    let place = World::place();
    let shard = world.shard_id(0);
    for key in [
        place.shard_facts(LABEL, &shard),
        place.mark(LABEL),
        format!("{}00001.json", place.generations()),
    ] {
        let sound = world.store.objects().remove(&key).unwrap();
        for damage in [
            "{",
            "{}",
            "[]",
            &String::from_utf8(sound.body.to_vec())
                .unwrap()
                .replace("\"version\":1", "\"version\":9"),
        ] {
            world.store.plant(object(&key, damage));
            let error = world.choose(second(330)).await.unwrap_err();
            assert!(
                matches!(&error, StepError::LogCorrupt(text) if text.contains(&key)),
                "{damage}: {error}"
            );
        }
        world.store.plant(sound);
    }
    // What a log does not have is left alone.
    world.store.plant(object(
        &format!("{}notes.txt", place.shard(LABEL, &shard)),
        "x",
    ));
    world
        .store
        .plant(object(&format!("{}README", place.stream(LABEL)), "x"));
    world.store.plant(object(
        &format!("{}unplaced/1-2-3.jsonl.zst", place.stream(LABEL)),
        "x",
    ));
    world.store.plant(object(
        &format!("{}stray%20folder/x", place.stream(LABEL)),
        "x",
    ));
    world.choose(second(330)).await.unwrap();
    assert_eq!(index(&world).await.ignored, 2);
    let objects: Vec<String> = world
        .store
        .keys()
        .into_iter()
        .filter(|key| is_log_object(key) && key.contains("/shardId-"))
        .collect();
    world
        .store
        .tamper(&objects[0], |body| body.truncate(body.len() - 1));
    let error = world.restore(second(330)).await.unwrap_err();
    assert!(
        matches!(&error, StepError::LogCorrupt(text) if text.contains(&objects[0])),
        "{error}"
    );
}

/// Of two snapshots the nearer one is taken, on either side.
#[tokio::test]
async fn the_nearest_snapshot_is_laid_under_the_log() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.write(root, 1, 20, Some("a"));
    world.capture(100);
    world.scan_all();
    world.seal(110).await;
    let first = world
        .store
        .objects()
        .remove(&format!("daily/orders/AWSDynamoDB/{SNAPSHOT}/backup.json"))
        .unwrap();
    let first: Metadata = serde_json::from_slice(&first.body).unwrap();
    world.write(root, 1, 500, Some("b"));
    world.capture(1_000);
    world.seal(1_010).await;
    world.publish().await;
    let second_one: Metadata = serde_json::from_slice(
        &world.store.objects()[&format!("daily/orders/AWSDynamoDB/{SNAPSHOT}/backup.json")].body,
    )
    .unwrap();
    let ids = ["01768300100000-00000001", "01768301000000-00000002"];
    world.put_snapshot(ids[0], &first).await;
    world.put_snapshot(ids[1], &second_one).await;
    world
        .store
        .lose(&format!("daily/orders/AWSDynamoDB/{SNAPSHOT}/backup.json"));
    for (at, id) in [
        (50, 0),
        (200, 0),
        (500, 0),
        (560, 1),
        (900, 1),
        (1_005, 1),
        (2_000, 1),
    ] {
        let point = world.choose(second(at)).await.unwrap();
        assert_eq!(point.snapshot_id.as_str(), ids[id], "{at}");
    }
    world.rules = Rules {
        stamp_margin_s: 3,
        grade: Grade::Proven,
    };
    world
        .incident(IncidentKind::Gap, Some(root), 700, 800)
        .await;
    let point = world.choose(second(650)).await.unwrap();
    assert_eq!(
        point.snapshot_id.as_str(),
        ids[0],
        "the nearer one is behind the loss"
    );
}
