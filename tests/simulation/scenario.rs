//! Scenarios: a table without trouble, a backup with something special beside it, and what is restored in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::shard::StreamView;
use highwater_domain::snapshot::Status;
use highwater_testkit::simulation::{Nastiness, Trouble};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::backups::Execution;
use super::evidence::{Evidence, key_json};
use super::plan::{Plan, Readers};
use super::quiet::Quiet;
use super::readers;
use super::snapshot_invariants::{bases, i14_restores_are_the_truth};
use super::world::World;

/// A follower, no trouble, and a connection slow enough that things happen between two pages.
pub fn quiet_plan(seed: u64) -> Plan {
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
        view: StreamView::NewAndOldImages,
        ..Plan::of(seed)
    }
}

/// Runs `before` without a stream, then a backup with `during` beside it, then waits until the mark has passed everything.
pub fn scenario<B, D, F>(plan: Plan, before: B, during: D) -> Evidence
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
            quiet: quiet.clone(),
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
        quiet.begin();
        sleep(Duration::from_secs(400)).await;
        services.shutdown().await;
        let evidence = Evidence::of(world, plan, vec![outcome], Ok(())).await;
        evidence.unwrap()
    })
}

/// The table as it is restored to the end of a scenario.
pub fn restored_to_the_end(evidence: &Evidence) -> BTreeMap<Bytes, Bytes> {
    let compared = i14_restores_are_the_truth(evidence).unwrap();
    assert!(compared > 0, "nothing was promised");
    let (sealed, log) = bases(evidence).pop().unwrap();
    let last = evidence.records_of(log).map(|it| it.event_time).max();
    let end = UnixSeconds(last.unwrap_or_default().0.max(sealed.ended_at.0 + 60));
    let restored = sealed.restored(end, &log.changes(None)).unwrap();
    let now: BTreeMap<Bytes, Bytes> = evidence
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
pub fn scanned(evidence: &Evidence, key: &str) -> Option<Bytes> {
    let items = &evidence.snapshots[0].items;
    let found = items.iter().find(|(of, _)| *of == key_json(key));
    found.map(|(_, item)| item.clone())
}

/// Twelve items from before the stream.
pub fn twelve(world: &World) {
    for n in 0..12 {
        world.table.put(&format!("k{n}"), "first");
    }
}

/// Waits until the backup has captured its handoff and is about to scan.
pub async fn scan_begins(world: &World) {
    let planned = |key: &String| key.ends_with("/table.json");
    while !world.bucket.objects().keys().any(planned) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Runs seeds until one of them shows the situation that the case is about.
pub fn until_seen(what: &str, run: impl Fn(u64) -> bool) {
    assert!((0..200).any(run), "no seed shows {what}");
}
