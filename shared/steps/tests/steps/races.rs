//! Two invocations of one segment at once: whatever the order of their calls, one chain, nothing lost.

use std::sync::Arc;

use crate::stage::*;
use futures::FutureExt as _;
use highwater_domain::budget::Budget;
use highwater_domain::digest::sha256_hex;
use highwater_steps::{Deps, StepError, plan_backup, scan_segment, snapshot_info};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::intercepted::Intercepted;
use highwater_testkit::stepped::{Run, Stepped, interleave, random_schedule, schedules};

fn gated(stage: &Stage, gate: &Arc<Stepped>) -> Deps {
    stage.through(
        Arc::new(Intercepted::new(&stage.store, gate)),
        Arc::new(Intercepted::new(&stage.control, gate)),
    )
}

/// Runs two invocations of segment 0 in this order of calls, then finishes whatever is left.
async fn race(stage: &Stage, schedule: &[usize]) {
    let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
    let deps = gates.each_ref().map(|gate| gated(stage, gate));
    let input = scan_input(0);
    let runs = (0..2)
        .map(|run| {
            Run::new(
                &gates[run],
                scan_segment::run(&deps[run], &input, Budget::UNLIMITED),
            )
        })
        .collect();
    let outcomes: Vec<Result<scan_segment::ScanOutput, StepError>> =
        interleave(runs, schedule).await;
    for outcome in &outcomes {
        assert!(
            outcome.as_ref().is_ok_and(|output| output.done),
            "{schedule:?}: {}",
            story(outcome)
        );
    }
    stage.finalize().await.unwrap();
    // A race over a single part would prove little.
    assert!(stage.control.all_parts(&id()).len() >= 3, "{schedule:?}");
}

/// Every order of the first eleven calls: both read the checkpoint, create, commit, adopt.
#[tokio::test]
async fn every_interleaving_of_create_and_commit_makes_one_chain() {
    let mut tried = 0;
    for schedule in schedules(2, 11) {
        let stage = Stage::of_items(120);
        stage.plan(request(1)).await.unwrap();
        race(&stage, &schedule).await;
        stage.assert_equals_table().await;
        tried += 1;
    }
    assert_eq!(tried, 2048);
}

#[tokio::test]
async fn long_races_in_random_order_make_one_chain() {
    for seed in 0..200 {
        let stage = Stage::of_items(150);
        stage.plan(request(1)).await.unwrap();
        race(&stage, &random_schedule(seed, 2, 60)).await;
        stage.assert_equals_table().await;
    }
}

/// Items change while two workers scan them, so that their parts of the same name hold other bytes: the
/// rows must be those of the objects that are there. Every key is there once, as some read found it.
#[tokio::test]
async fn a_race_over_a_table_that_is_written_to_makes_one_chain() {
    for seed in 0..200 {
        let table = table_of(120).before_page(|page, table| {
            let noise = sha256_hex(&(page + 1_000_000).to_be_bytes());
            let id = page % 120;
            table.put(format!(r#"{{"id":{{"S":"{id}"}},"noise":{{"S":"{noise}"}}}}"#).as_bytes());
        });
        let stage = Stage::new(table);
        stage.plan(request(1)).await.unwrap();
        race(&stage, &random_schedule(seed, 2, 60)).await;
        let (items, _) = stage.read().await.unwrap();
        assert!(items.keys().eq(stage.table.items().keys()), "{seed}");
    }
}

/// A worker that died between create and commit, and then two at once that both find its object.
#[tokio::test]
async fn two_invocations_that_find_an_orphan_adopt_it_once() {
    for schedule in schedules(2, 6) {
        let stage = Stage::of_items(120);
        stage.plan(request(1)).await.unwrap();
        let failing = Arc::new(Failing::crash(1, Moment::Before).only("commit_segment"));
        let dying = stage.through(
            stage.store.clone(),
            Arc::new(Intercepted::new(&stage.control, &failing)),
        );
        scan_segment::run(&dying, &scan_input(0), Budget::UNLIMITED)
            .await
            .unwrap_err();
        assert!(
            stage.control.all_parts(&id()).is_empty(),
            "an object without a row"
        );
        race(&stage, &schedule).await;
        stage.assert_equals_table().await;
    }
}

/// Two executions end one snapshot at the same time: it is sealed once, and says so.
#[tokio::test]
async fn two_finalizers_at_once_seal_one_snapshot() {
    for schedule in schedules(2, 6) {
        let stage = Stage::of_items(40);
        stage.plan(request(1)).await.unwrap();
        stage.scan_all(1).await.unwrap();
        let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
        let deps = gates.each_ref().map(|gate| gated(&stage, gate));
        let input = finalize_input();
        let runs = (0..2)
            .map(|run| {
                let work =
                    highwater_steps::finalize_backup::run(&deps[run], &input, Budget::UNLIMITED);
                Run::new(&gates[run], work)
            })
            .collect();
        let outcomes = interleave(runs, &schedule).await;
        assert!(outcomes.iter().any(Result::is_ok), "{schedule:?}");
        stage.assert_equals_table().await;
    }
}

/// A stop that marks the snapshot failed, against the finalizer that seals it: one of them wins, and
/// `backup.json` says which.
#[tokio::test]
async fn failing_and_sealing_at_once_leave_one_truth() {
    for schedule in schedules(2, 6) {
        let stage = Stage::of_items(40);
        stage.plan(request(1)).await.unwrap();
        stage.scan_all(1).await.unwrap();
        let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
        let [sealing, failing] = gates.each_ref().map(|gate| gated(&stage, gate));
        let input = finalize_input();
        let seal = async {
            highwater_steps::finalize_backup::run(&sealing, &input, Budget::UNLIMITED)
                .await
                .map(|_| ())
        };
        let fail = async {
            let snapshot = id();
            highwater_steps::status::mark_failed(&failing, &snapshot, None, "stop")
                .await
                .map(|_| ())
        };
        let runs = vec![
            Run::new(&gates[0], seal.boxed()),
            Run::new(&gates[1], fail.boxed()),
        ];
        interleave(runs, &schedule).await;
        let record = stage.status().await.unwrap();
        let shown = snapshot_info::metadata(stage.store.as_ref(), &layout(), &id()).await;
        assert_eq!(shown.unwrap().status, record, "{schedule:?}");
    }
}

/// Two control tables, one bucket, one id, at the same time: one of them gets it, whole.
#[tokio::test]
async fn one_id_claimed_through_two_control_tables_is_one_snapshot() {
    for schedule in schedules(2, 7) {
        let stage = Stage::of_items(10);
        let other = FakeControl::new();
        let controls = [stage.control.clone(), Arc::new(other)];
        let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
        let deps = [0, 1].map(|run| {
            let store = Arc::new(Intercepted::new(&stage.store, &gates[run]));
            stage.through(
                store,
                Arc::new(Intercepted::new(&controls[run], &gates[run])),
            )
        });
        let inputs = [0, 1].map(|run| plan_backup::PlanInput {
            execution_id: format!("execution-{run}"),
            ..plan_input(request(1))
        });
        let runs = (0..2)
            .map(|run| Run::new(&gates[run], plan_backup::run(&deps[run], &inputs[run])))
            .collect();
        let outcomes = interleave(runs, &schedule).await;
        let winners: Vec<usize> = (0..2).filter(|run| outcomes[*run].is_ok()).collect();
        let shown = snapshot_info::metadata(stage.store.as_ref(), &layout(), &id())
            .await
            .unwrap();
        assert_eq!(winners.len(), 1, "{schedule:?}");
        assert_eq!(
            shown.request_id,
            format!("execution-{}", winners[0]),
            "{schedule:?}"
        );
        assert!(
            controls[1 - winners[0]].is_empty(),
            "the loser's record is gone: {schedule:?}"
        );
    }
}
