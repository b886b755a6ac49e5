//! Random histories: whatever happened, and however it was logged and cut, snapshot and log make every second (I14), and
//! make it the same way each time (I19).

use std::sync::Arc;

use highwater_domain::key::ScalarType;
use highwater_domain::restore_point::Side;
use highwater_domain::shard::StreamView;
use highwater_steps::StepError;
use highwater_steps::merge_work::MergeLimits;

use crate::merge_world::{Items, ShardIx, World, schema, second};

/// Where children's numbers begin: about to grow longer, already as long as they get, and below every parent's.
const STARTS: [&str; 4] = [
    "9999999999999999999990",
    "1000000000000000000000000000000000000000",
    "500",
    "820400000000000001192334",
];

/// A world in which anything has happened, and the seconds between which its scan lies.
struct Happened {
    world: World,
    captured: u64,
    ended: u64,
    end: u64,
}

async fn happen(seed: u64) -> Happened {
    let mut world = World::new(seed);
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    if random.bool() {
        world.schema = schema(ScalarType::S);
    }
    if random.u8(..5) == 0 {
        world.view = StreamView::NewImage;
    }
    let keys = random.u32(1..12);
    let mut paths: Vec<ShardIx> = (0..random.usize(1..4)).map(|_| world.root(0)).collect();
    let mut owner: Vec<usize> = (0..keys).map(|_| random.usize(0..paths.len())).collect();
    let (mut now, mut number) = (10, 0_u64);
    let (mut captured, mut ended) = (0, 0);
    let mut unscanned: Vec<u32> = Vec::new();
    let steps = random.u32(20..160);
    let (capture, seal) = (random.u32(0..steps), random.u32(0..steps));
    let (capture, seal) = (capture.min(seal), capture.max(seal));
    for step in 0..steps {
        now += random.choice([0, 0, 0, 1, 1, 2, 7]).unwrap();
        if step == capture {
            world.capture(now);
            captured = now;
            unscanned = (0..keys).collect();
            random.shuffle(&mut unscanned);
        }
        if step == seal {
            unscanned.drain(..).for_each(|key| world.scan(key));
            world.seal(now).await;
            ended = now;
        }
        if random.u8(..3) == 0
            && let Some(key) = unscanned.pop()
        {
            world.scan(key);
        }
        if random.u8(..15) == 0 {
            roll(&mut world, &mut paths, &mut owner, now, &mut random);
        }
        let key = random.u32(0..keys);
        let jitter = random.u64(0..5);
        let stamp = (now + jitter).saturating_sub(2);
        number += 1;
        let value = format!("w{number}");
        let after = (random.u8(..4) > 0).then_some(value.as_str());
        world.write(paths[owner[key as usize]], key, stamp, after);
    }
    world.publish().await;
    Happened {
        world,
        captured,
        ended,
        end: now + 5,
    }
}

/// A path's shard ends; one or two go on, and its keys are dealt out to them.
fn roll(
    world: &mut World,
    paths: &mut Vec<ShardIx>,
    owner: &mut [usize],
    now: u64,
    random: &mut fastrand::Rng,
) {
    let path = random.usize(0..paths.len());
    let mut start = || *random.choice(&STARTS).unwrap();
    let starts = [start(), start()];
    let count = random.usize(1..=2);
    let children = world.roll(paths[path], now, &starts[..count]);
    paths[path] = children[0];
    if let Some(other) = children.get(1) {
        paths.push(*other);
        for owner in owner.iter_mut().filter(|it| **it == path) {
            if random.bool() {
                *owner = paths.len() - 1;
            }
        }
    }
}

fn limits(random: &mut fastrand::Rng) -> MergeLimits {
    let bytes = |random: &mut fastrand::Rng| 1 << random.usize(8..24);
    MergeLimits {
        gather_bytes: bytes(random),
        fold_bytes: bytes(random),
    }
}

async fn check(seed: u64) -> (u32, u32) {
    let mut it = happen(seed).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut forward, mut undone) = (0, 0);
    for _ in 0..4 {
        let at = match random.u8(..4) {
            0 => it.captured.saturating_sub(random.u64(0..20)),
            1 => random.u64(it.captured..=it.ended),
            2 => it.ended + random.u64(0..8),
            _ => random.u64(0..it.end),
        };
        it.world.limits = limits(&mut random);
        it.world.buckets = 1 << random.u32(0..5);
        let restored = match it.world.restore(second(at)).await {
            Ok(restored) => restored,
            Err(StepError::NotRestorable { reason, .. }) => {
                let is_early = at < it.ended + it.world.rules.stamp_margin_s;
                let is_new_only = it.world.view == StreamView::NewImage;
                assert!(is_new_only && is_early, "seed {seed} at {at}: {reason}");
                continue;
            }
            Err(error) => panic!("seed {seed} at {at}: {error}"),
        };
        let truth: Items = it.world.model(at);
        assert_eq!(
            restored.items, truth,
            "seed {seed} at {at}: {:?}",
            restored.point
        );
        match restored.point.side {
            Side::Forward => forward += 1,
            Side::Undo => undone += 1,
        }
        let again = it.world.restore(second(at)).await.unwrap();
        assert_eq!(again, restored, "seed {seed} at {at}: I19");
        it.world.limits = limits(&mut random);
        it.world.buckets = 1 << random.u32(0..5);
        let otherwise = it.world.restore(second(at)).await.unwrap();
        assert_eq!(otherwise.items, truth, "seed {seed} at {at}");
        assert_eq!(otherwise.point.fingerprint, restored.point.fingerprint);
    }
    (forward, undone)
}

#[tokio::test(start_paused = true)]
async fn i14_i19_any_history_is_restored_to_any_second() {
    let seeds = std::env::var("HIGHWATER_MERGE_SEEDS");
    let seeds: u64 = seeds.map_or(30, |seeds| seeds.parse().unwrap());
    let (mut forward, mut undone) = (0, 0);
    for seed in 0..seeds {
        let (more, less) = check(seed).await;
        (forward, undone) = (forward + more, undone + less);
    }
    assert!(
        u64::from(forward) > seeds / 2,
        "{forward} restores went forward"
    );
    assert!(u64::from(undone) > seeds / 2, "{undone} restores went back");
}

/// The log's objects may be cut in any way: the restore is that of their records.
#[tokio::test(start_paused = true)]
async fn i19_the_cut_of_the_log_does_not_show_in_the_overlay() {
    for seed in 1000..1040 {
        let (a, mut b) = (happen(seed).await, happen(seed).await);
        b.world.store = Arc::clone(&a.world.store);
        let at = second(a.end);
        let one = a.world.restore(at).await.unwrap();
        // The same records once more, in other batches.
        b.world.random = fastrand::Rng::with_seed(seed + 1);
        b.world.publish().await;
        let other = b.world.restore(at).await.unwrap();
        assert_eq!(other.fingerprint, one.fingerprint, "seed {seed}");
        assert_eq!(other.items, one.items, "seed {seed}");
    }
}
