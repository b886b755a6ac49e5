//! The merge under crashes, rivals and little memory: what is left behind is gone on with, and the overlay is the same.

use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore_point::RestorePoint;
use highwater_steps::merge_work::{Merge, MergeLimits};
use highwater_steps::restore_point::prepare;
use highwater_steps::{ErrorName, RestoreDeps, StepError, fold_log, scatter_log};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::intercepted::Intercepted;
use highwater_testkit::stepped::{Run, Stepped, interleave, random_schedule};

use crate::merge_world::{OneStore, World, is_log_object, second};

/// Two paths with some hundred writes, a scan in the middle.
async fn busy(seed: u64, writes: u64) -> World {
    let mut world = World::new(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut paths = [world.root(0), world.root(0)];
    for write in 0..writes {
        let now = 10 + write;
        if write == writes / 3 {
            world.capture(now);
        }
        if write == writes / 2 {
            world.scan_all();
            world.seal(now).await;
        }
        if write == writes / 4 {
            paths[0] = world.roll(paths[0], now, &["99999999999999"])[0];
        }
        let key = random.u32(0..30);
        let value = format!("w{write}");
        let after = (random.u8(..5) > 0).then_some(value.as_str());
        world.write(paths[key as usize % 2], key, now, after);
    }
    world.publish().await;
    world
}

fn with_store(world: &World, store: Arc<dyn ObjectStore>) -> RestoreDeps {
    RestoreDeps {
        stores: Arc::new(OneStore(store)),
        ..world.deps()
    }
}

fn clear(world: &World) {
    for key in world.store.keys() {
        if key.starts_with("work/") {
            world.store.lose(&key);
        }
    }
}

async fn whole(world: &World, deps: &RestoreDeps, at: u64) -> Result<RestorePoint, StepError> {
    let location = crate::merge_world::TABLE.parse().unwrap();
    let options = world.options("crash");
    let point = highwater_steps::restore_point::choose(deps, &location, second(at), &options);
    let point = prepare(deps, point.await?).await?;
    world.merge(deps, &point).await?;
    Ok(point)
}

/// A crash at every call, before and after it took effect; then the same again, to the end.
#[tokio::test]
async fn a_merge_that_crashes_anywhere_is_done_by_the_next_one() {
    let mut world = busy(5, 90).await;
    world.limits = MergeLimits {
        gather_bytes: 4_000,
        fold_bytes: 5_000,
    };
    for at in [60, 100] {
        clear(&world);
        let sound = whole(&world, &world.deps(), at).await.unwrap();
        let sound = world.read(&world.deps(), sound).await.unwrap();
        assert_eq!(sound.items, world.model(at));
        let left = world.store.keys();
        assert!(
            left.iter().any(|key| key.contains("/pieces/")),
            "the bucket was cut"
        );
        assert!(left.iter().filter(|key| key.contains("/runs/")).count() > 3);
        for moment in [Moment::Before, Moment::After] {
            for nth in (1..).step_by(3) {
                clear(&world);
                let failing = Arc::new(Failing::crash(nth, moment));
                let broken: Arc<dyn ObjectStore> =
                    Arc::new(Intercepted::new(&world.store, &failing));
                let crashed = whole(&world, &with_store(&world, broken), at).await;
                assert_eq!(crashed.is_err(), failing.has_struck(), "call {nth}");
                if !failing.has_struck() {
                    break;
                }
                let point = whole(&world, &world.deps(), at).await.unwrap();
                let again = world.read(&world.deps(), point).await.unwrap();
                assert_eq!(again, sound, "a crash at call {nth}, {moment:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_told_and_the_next_call_goes_on() {
    let mut world = busy(6, 60).await;
    world.limits.gather_bytes = 3_000;
    let truth = world.model(60);
    for nth in 1.. {
        clear(&world);
        let failing =
            Arc::new(Failing::once(nth, Moment::After, FailureKind::Throttled).only("create"));
        let broken: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&world.store, &failing));
        let deps = with_store(&world, broken);
        let first = whole(&world, &deps, 60).await;
        if !failing.has_struck() {
            assert!(nth > 6);
            return;
        }
        assert_eq!(
            first.unwrap_err().name(),
            ErrorName::Throttled,
            "call {nth}"
        );
        let point = whole(&world, &deps, 60).await.unwrap();
        assert_eq!(world.read(&deps, point).await.unwrap().items, truth);
    }
}

/// Two copies of the same task with different limits write runs that end elsewhere: whoever comes second goes on behind
/// what is there.
#[tokio::test]
async fn rivals_do_not_mix_their_runs() {
    let world = busy(7, 120).await;
    let truth = world.model(110);
    for seed in 0..60 {
        clear(&world);
        let point = whole_plan(&world, 110).await;
        let limits = [1_500_usize, 4_100].map(|bytes| MergeLimits {
            gather_bytes: bytes,
            fold_bytes: 1 << 20,
        });
        let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
        let deps = [0, 1].map(|n: usize| {
            let store: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&world.store, &gates[n]));
            with_store(&world, store)
        });
        let schema = world.schema.clone();
        let task = |n: usize| {
            let (deps, limits) = (&deps[n], limits[n]);
            let (point, schema) = (&point, &schema);
            async move {
                let merge = Merge {
                    point,
                    key_schema: schema,
                    limits,
                };
                for shard in 0..point.shards {
                    assert!(scatter_log::scatter(deps, &merge, shard, Budget::UNLIMITED).await?);
                }
                for bucket in 0..point.buckets {
                    assert!(fold_log::fold(deps, &merge, bucket, Budget::UNLIMITED).await?);
                }
                Ok::<_, StepError>(())
            }
        };
        let runs = vec![Run::new(&gates[0], task(0)), Run::new(&gates[1], task(1))];
        for outcome in interleave(runs, &random_schedule(seed, 2, 60)).await {
            outcome.unwrap();
        }
        let restored = world.read(&world.deps(), point).await.unwrap();
        assert_eq!(restored.items, truth, "schedule {seed}");
    }
}

async fn whole_plan(world: &World, at: u64) -> RestorePoint {
    let point = world.choose(second(at)).await.unwrap();
    prepare(&world.deps(), point).await.unwrap()
}

/// Out of time after every few hundred records: each call goes on where the one before ended, and keeps what it did.
#[tokio::test]
async fn a_scatter_that_runs_out_of_time_goes_on() {
    let world = busy(8, 2_600).await;
    let deps = world.deps();
    let point = whole_plan(&world, 2_500).await;
    let merge = Merge {
        point: &point,
        key_schema: &world.schema,
        limits: world.limits,
    };
    deps.stop.set();
    let mut calls = 0;
    for shard in 0..point.shards {
        while !scatter_log::scatter(&deps, &merge, shard, Budget::UNLIMITED)
            .await
            .unwrap()
        {
            calls += 1;
            assert!(calls < 20, "every call gets somewhere");
        }
    }
    assert!(calls >= 2, "{calls} calls ran out of time");
    let out_of_time = fold_log::fold(&deps, &merge, 0, Budget::UNLIMITED)
        .await
        .unwrap();
    assert!(!out_of_time, "a fold looks at the clock, too");
    let deps = world.deps();
    assert!(
        fold_log::fold(&deps, &merge, 0, Budget::UNLIMITED)
            .await
            .unwrap()
    );
    let restored = world.read(&deps, point.clone()).await.unwrap();
    assert_eq!(restored.items, world.model(2_500));
}

#[tokio::test]
async fn tasks_in_the_wrong_order_and_numbers_that_do_not_exist_are_refused() {
    let world = busy(9, 40).await;
    let deps = world.deps();
    let point = whole_plan(&world, 35).await;
    let merge = Merge {
        point: &point,
        key_schema: &world.schema,
        limits: world.limits,
    };
    let early = fold_log::fold(&deps, &merge, 0, Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert_eq!(early.name(), ErrorName::PartMissing, "{early}");
    let unfolded = highwater_steps::overlay::Overlay::of(&deps, &point)
        .await
        .unwrap_err();
    assert_eq!(unfolded.name(), ErrorName::PartMissing, "{unfolded}");
    let beyond = scatter_log::scatter(&deps, &merge, point.shards, Budget::UNLIMITED).await;
    assert_eq!(beyond.unwrap_err().name(), ErrorName::InvalidInput);
    let beyond = fold_log::fold(&deps, &merge, point.buckets, Budget::UNLIMITED).await;
    assert_eq!(beyond.unwrap_err().name(), ErrorName::InvalidInput);
}

/// Whatever lies between is held against what was written.
#[tokio::test]
async fn damage_in_the_work_folder_is_told() {
    let world = busy(10, 60).await;
    let deps = world.deps();
    let point = whole(&world, &deps, 55).await.unwrap();
    let objects = world.store.objects();
    for (key, sound) in objects.iter().filter(|(key, _)| key.starts_with("work/")) {
        clear(&world);
        let restart_at = ["/shards/", "/runs/", "/scattered/", "/overlay/"]
            .iter()
            .position(|folder| key.contains(folder))
            .unwrap();
        // Everything that was made before this object, and the object itself, damaged.
        for (other, object) in &objects {
            let place = ["/shards/", "/runs/", "/scattered/", "/overlay/"]
                .iter()
                .position(|folder| other.contains(folder));
            if place.is_some_and(|place| place <= restart_at) {
                world.store.plant(object.clone());
            }
        }
        for damage in ["cut", "lost"] {
            if damage == "lost" {
                world.store.lose(key);
            } else if !sound.body.is_empty() {
                world
                    .store
                    .tamper(key, |body| body.truncate(body.len() / 2));
            }
            let outcome = async {
                world.merge(&deps, &point).await?;
                world.read(&deps, point.clone()).await
            };
            match outcome.await {
                Ok(restored) => assert_eq!(restored.items, world.model(55), "{key} {damage}"),
                Err(error) => {
                    let name = error.name();
                    let is_typed = matches!(name, ErrorName::PartCorrupt | ErrorName::PartMissing);
                    assert!(is_typed, "{key} {damage}: {error}");
                }
            }
            world.store.plant(sound.clone());
        }
    }
}

/// A record that lacks the image that would tell is named, and nothing is made up.
#[tokio::test]
async fn a_missing_image_is_not_guessed() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.capture(10);
    world.seal(11).await;
    world.write(root, 1, 20, Some("a"));
    world.publish().await;
    let key = world
        .store
        .keys()
        .into_iter()
        .find(|key| is_log_object(key))
        .unwrap();
    world.store.lose(&key);
    let raw = String::from_utf8(world.records(root)[0].raw.to_vec()).unwrap();
    let without = raw.replace("NewImage", "Other");
    let record = highwater_domain::stream_record::StreamRecord::read(&without.into()).unwrap();
    world
        .publish_batch(root, std::slice::from_ref(&record))
        .await;
    let error = world.restore(second(30)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::NotRestorable);
    assert!(
        error.to_string().contains(record.sequence_number.as_str()),
        "{error}"
    );
    let error = world.restore(second(30)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::NotRestorable, "and again");
}

/// Two records of one number cannot both be of this shard.
#[tokio::test]
async fn one_number_with_two_records_is_told() {
    let mut world = World::new(1);
    let root = world.root(0);
    world.capture(10);
    world.seal(11).await;
    world.write(root, 1, 20, Some("a"));
    world.write(root, 1, 21, Some("b"));
    world.publish().await;
    let raw = String::from_utf8(world.records(root)[0].raw.to_vec()).unwrap();
    let other = raw.replace("\"eventID\":\"", "\"eventID\":\"another-");
    let other = highwater_domain::stream_record::StreamRecord::read(&other.into()).unwrap();
    let both = [other, world.records(root)[1].clone()];
    for key in world
        .store
        .keys()
        .into_iter()
        .filter(|key| is_log_object(key))
    {
        world.store.lose(&key);
    }
    world.publish_batch(root, &world.records(root)[..1]).await;
    world.publish_batch(root, &both).await;
    let error = world.restore(second(30)).await.unwrap_err();
    assert!(
        matches!(&error, StepError::LogCorrupt(text) if text.contains("another-")),
        "{error}"
    );
}
