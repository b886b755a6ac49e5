//! A crash at every moment of a capture, and two captures at once: one log comes out, begun once.

use std::time::Duration;

use highwater_domain::shard::StreamView;
use highwater_steps::request::BackupRequest;
use highwater_testkit::simulation::{SimTrace, Trouble, Wire};

use crate::handoff_world::{World, begins, plan, with_stream};
use crate::stage::request;

/// Requests take up to this long, each way.
const DELAY_MS: u64 = 3;

fn slow_wire(world: &World, name: &str, seed: u64) -> Wire {
    let trouble = Trouble {
        delay_ms: DELAY_MS,
        ..Trouble::NONE
    };
    Wire::new(name, seed, trouble, SimTrace::off(world.time))
}

fn local(with: bool) -> BackupRequest {
    BackupRequest {
        settle_seconds: Some(0),
        with_stream: with,
        ..request(2)
    }
}

/// Nothing of a log is there twice, and the handoff is the stream's.
async fn assert_begun_once(world: &World, context: &str) {
    let generations = world.generations();
    assert_eq!(generations.len(), 1, "{context}: {generations:?}");
    assert_eq!(
        Some(generations[0].stream_arn.clone()),
        world.table.stream_arn(),
        "{context}"
    );
    assert_eq!(world.rows.groups().len(), 1, "{context}");
    assert_eq!(world.shard_facts().len(), world.leases().len(), "{context}");
    assert!(
        world.incidents().is_empty(),
        "{context}: {:?}",
        world.incidents()
    );
    let handoff = world.record().await.handoff.expect(context);
    assert_eq!(handoff.generation.0, 1, "{context}");
    assert_eq!(begins(&handoff), world.table.open_shards(), "{context}");
}

/// Cases 1 and 2: the worker dies at any millisecond of a plan, what it had sent arrives all the same, and another goes on.
#[tokio::test(start_paused = true)]
async fn case_01_case_02_a_crash_at_any_moment_is_gone_on_from() {
    for view in [None, Some(StreamView::NewAndOldImages)] {
        let mut survived = 0;
        for at in 1.. {
            let world = World::with(view).await;
            let deps = world.deps_over(&slow_wire(&world, "first", 5));
            let crash = Duration::from_millis(at);
            let first = tokio::time::timeout(crash, plan(&deps, local(true))).await;
            if let Ok(planned) = first {
                planned.unwrap();
                break;
            }
            survived += 1;
            let context = format!("{view:?} crash after {at} ms");
            if let Err(error) = plan(&world.deps(), local(true)).await {
                panic!("{context}: {error}");
            }
            assert_begun_once(&world, &context).await;
            world.scan().await.unwrap();
            world.finalize().await.unwrap();
            assert!(world.metadata().handoff().unwrap().is_some(), "{context}");
        }
        assert!(survived > 40, "{view:?}: only {survived} moments to die at");
    }
}

/// Two attempts of one plan at once, in many orders: the same snapshot, one log.
#[tokio::test(start_paused = true)]
async fn two_captures_at_once_begin_one_log() {
    for seed in 0..60 {
        let view = (seed % 2 == 0).then_some(StreamView::NewAndOldImages);
        let world = World::with(view).await;
        let [one, two] = [1, 2].map(|n| world.deps_over(&slow_wire(&world, "w", 100 * seed + n)));
        let pause = Duration::from_millis(seed % 40);
        let second = async {
            tokio::time::sleep(pause).await;
            plan(&two, local(true)).await
        };
        let (first, second) = tokio::join!(plan(&one, local(true)), second);
        let context = format!("seed {seed}");
        first.expect(&context);
        second.expect(&context);
        assert_begun_once(&world, &context).await;
    }
}

/// Lost, late and doubled requests: an attempt may fail, and the next one finds everything as it should be.
#[tokio::test(start_paused = true)]
async fn lost_and_late_requests_begin_one_log() {
    for seed in 0..60 {
        let view = (seed % 2 == 0).then_some(StreamView::NewAndOldImages);
        let world = World::with(view).await;
        let wire = slow_wire(&world, "bad", seed);
        wire.set_trouble(Trouble {
            delay_ms: DELAY_MS,
            per_mille: 200,
            late_ms: 60_000,
        });
        let deps = world.deps_over(&wire);
        let mut tries = 0;
        while let Err(error) = plan(&deps, with_stream()).await {
            tries += 1;
            assert!(
                error.name().as_str() != "Internal" && tries < 200,
                "seed {seed}: {error}"
            );
        }
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_begun_once(&world, &format!("seed {seed}")).await;
    }
}
