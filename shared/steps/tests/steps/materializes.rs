//! Snapshots of what a table was at a second: whole, sealed, and like any other.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_domain::layout::Layout;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::Engine;
use highwater_domain::snapshot::Status;
use highwater_steps::finalize_restore::FinalizeRestoreOutput;
use highwater_steps::read_snapshot::SealedSnapshot;
use highwater_steps::request::BackupRequest;
use highwater_steps::restore_request::{EngineChoice, IntoSnapshot, RestoreRequest};
use highwater_steps::source::{self, LookOptions};
use highwater_steps::verify_backup::verify;
use highwater_steps::{ErrorName, plan_backup};
use highwater_testkit::failing::{Failing, Moment};

use crate::restore_stage::{RESTORE, TARGET, restore_id};
use crate::second_stage::*;
use crate::stage::plan_input;

fn unlimited() -> Budget {
    Budget::UNLIMITED
}

fn request(at: UnixSeconds) -> RestoreRequest {
    RestoreRequest {
        to: None,
        rejects: None,
        materialize: Some(IntoSnapshot {
            to: "s3://fake-bucket/states".into(),
        }),
        ..second_request(at)
    }
}

fn new_layout() -> Layout {
    Layout::new("states", "orders", restore_id().as_snapshot())
}

/// The new snapshot holds exactly what the table was, and whoever reads it finds nothing wrong with it.
async fn assert_whole(stage: &SecondStage, at: UnixSeconds, output: &FinalizeRestoreOutput) {
    assert_eq!(output.status, Some(Status::Completed));
    let id = restore_id();
    let sealed = SealedSnapshot::open(stage.store.clone(), &new_layout(), id.as_snapshot())
        .await
        .unwrap();
    let mut items = BTreeSet::new();
    let totals = sealed
        .read(|item| assert!(items.insert(Bytes::copy_from_slice(item)), "twice"))
        .await
        .unwrap();
    let truth: BTreeSet<Bytes> = stage.truth(at).into_values().collect();
    assert_eq!(items, truth, "at {at:?}");
    assert_eq!(totals.items, output.totals.written);
    assert!(output.totals.is_balanced(), "{}", output.totals);
    let made = sealed.metadata.materialized.as_ref().unwrap();
    assert_eq!(made.at, at.to_rfc3339());
    assert_eq!(made.snapshot, backup_url());
    assert!(sealed.metadata.handoff.is_none());
    assert_eq!(sealed.summary.export_time, at.to_rfc3339());
    stage.assert_tidy();
}

fn url() -> String {
    format!(
        "s3://fake-bucket/{}",
        new_layout().root().trim_end_matches('/')
    )
}

#[tokio::test(start_paused = true)]
async fn a_materialized_second_is_a_snapshot_like_any_other() {
    let stage = SecondStage::with_history().await;
    let at = UnixSeconds(stage.scanned.0.0 + 2);
    let output = life(&stage.deps, request(at), unlimited).await.unwrap();
    assert_whole(&stage, at, &output).await;
    assert!(stage.account.names().is_empty(), "no table is touched");

    let store: Arc<dyn ObjectStore> = stage.store.clone();
    let location = url().parse().unwrap();
    let catalog = source::look(&store, &location, LookOptions::default())
        .await
        .unwrap();
    let report = verify(&store, &catalog, 2, |_| ()).await.unwrap();
    assert!(
        report.is_good() && report.unchecked.is_empty(),
        "{report:?}"
    );

    for (n, engine) in [EngineChoice::Write, EngineChoice::ImportTable]
        .into_iter()
        .enumerate()
    {
        let restore = RestoreRequest {
            backup: Some(url()),
            restore_id: Some(format!("0176838600000{n}-1b2c3d4e").parse().unwrap()),
            to: Some(format!("{TARGET}-{n}").parse().unwrap()),
            engine,
            at: None,
            stamp_margin_s: None,
            ..second_request(at)
        };
        life(&stage.deps, restore, unlimited).await.unwrap();
        let truth = stage.truth(at).into_values().collect();
        assert_eq!(
            stage.restored(&format!("{TARGET}-{n}")),
            truth,
            "{engine:?}"
        );
    }
    assert_eq!(stage.record().await.engine, Engine::Write);
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_a_materialization_costs_nothing_but_time() {
    for moment in [Moment::Before, Moment::After] {
        let mut struck = 0;
        for nth in 1.. {
            let stage = SecondStage::with_history().await;
            let at = UnixSeconds(stage.last.0 - 4);
            let failing = Arc::new(Failing::crash(nth, moment));
            let first = life(&stage.through(&failing), request(at), unlimited).await;
            if !failing.has_struck() {
                first.unwrap();
                break;
            }
            struck += 1;
            match life(&stage.deps, request(at), unlimited).await {
                Ok(output) => assert_whole(&stage, at, &output).await,
                Err(error) => panic!("{moment:?} call {nth}: {error}"),
            }
        }
        assert!(struck > 80, "only {struck} places to crash at");
    }
}

#[tokio::test(start_paused = true)]
async fn two_copies_of_one_materialization_make_one_snapshot() {
    for seed in 0..30 {
        let stage = SecondStage::with_history().await;
        let at = UnixSeconds(stage.scanned.1.0 + 4);
        let slow = [seed, seed + 1000].map(|seed| Arc::new(Dawdling::seeded(seed)));
        let deps = slow.each_ref().map(|slow| stage.through(slow));
        plan_second(&stage.deps, request(at)).await.unwrap();
        let copies = deps.iter().map(|deps| life(deps, request(at), unlimited));
        let outcomes = futures::future::join_all(copies).await;
        assert!(outcomes.iter().any(Result::is_ok), "{seed}: {outcomes:?}");
        let output = life(&stage.deps, request(at), unlimited).await.unwrap();
        assert_whole(&stage, at, &output).await;
    }
}

#[tokio::test(start_paused = true)]
async fn short_invocations_hand_a_materialization_over() {
    let stage = SecondStage::with_history().await;
    let at = stage.last;
    let request = RestoreRequest {
        concurrency: Some(1),
        ..request(at)
    };
    let mut budgets = 0;
    // Spent from the beginning for every other invocation.
    let budget = || {
        budgets += 1;
        budget_of(&stage.deps, if budgets % 2 == 0 { 60_000 } else { 0 })
    };
    let budget = std::cell::RefCell::new(budget);
    let output = life(&stage.deps, request, || (budget.borrow_mut())())
        .await
        .unwrap();
    assert_whole(&stage, at, &output).await;
}

#[tokio::test(start_paused = true)]
async fn an_existing_snapshot_is_not_overwritten_and_a_backup_does_not_go_on_with_a_materialized_one()
 {
    let stage = SecondStage::with_history().await;
    let at = stage.last;
    plan_second(&stage.deps, request(at)).await.unwrap();
    let resume = BackupRequest {
        snapshot_id: Some(RESTORE.parse().unwrap()),
        resume: true,
        ..BackupRequest::default()
    };
    let error = plan_backup::run(&stage.backing_up, &plan_input(resume))
        .await
        .unwrap_err();
    assert_eq!(error.name(), ErrorName::InvalidInput, "{error}");
    assert!(error.to_string().contains("restore"), "{error}");
    let output = life(&stage.deps, request(at), unlimited).await.unwrap();
    assert_whole(&stage, at, &output).await;

    // Another control table knows nothing of it; the bucket does.
    let other = SecondStage {
        control: Arc::default(),
        ..stage
    };
    let deps = other.with_own_control();
    let rival = RestoreRequest { ..request(at) };
    let input = second_input(rival, "execution-2");
    let error = highwater_steps::plan_restore::run(&deps, &input, Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert_eq!(error.name(), ErrorName::SnapshotExists, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_about_a_table_is_refused_beside_a_snapshot() {
    let stage = SecondStage::with_history().await;
    for wrong in [
        RestoreRequest {
            to: Some(TARGET.parse().unwrap()),
            ..request(stage.last)
        },
        RestoreRequest {
            at: None,
            ..request(stage.last)
        },
        RestoreRequest {
            max_items: Some(3),
            ..request(stage.last)
        },
        RestoreRequest {
            rejects: Some("s3://b-b/x".into()),
            ..request(stage.last)
        },
    ] {
        let error = plan_second(&stage.deps, wrong).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidInput);
    }
}
