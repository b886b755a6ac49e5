//! The backup workflow on the fakes: what it leaves behind, what it refuses, how it is read back.

use std::sync::Arc;

use crate::stage::*;
use highwater_domain::budget::Budget;
use highwater_domain::snapshot::{Compression, Status};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::request::BackupRequest;
use highwater_steps::{Deps, ErrorName, list_snapshots, plan_backup, snapshot_info};
use highwater_testkit::fake_store::object;
use highwater_testkit::fake_table::FakeTable;
use serde_json::{Value, json};

#[tokio::test]
async fn a_backup_holds_exactly_the_table() {
    for segments in [1, 3, 8] {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let stage = Stage::of_items(200);
            let request = BackupRequest {
                compression: Some(compression),
                ..request(segments)
            };
            let output = stage.back_up(request).await.unwrap();
            assert_eq!(
                (output.done, output.status),
                (true, Some(Status::Completed))
            );
            stage.assert_equals_table().await;
        }
    }
}

#[tokio::test]
async fn parts_stay_near_their_size_and_hold_whole_items() {
    let stage = Stage::of_items(3000);
    stage.back_up(request(2)).await.unwrap();
    let parts = stage.control.all_parts(&id());
    assert!(parts.len() > 4, "{} parts", parts.len());
    assert!(
        parts.iter().all(|part| part.stored_bytes < 2500),
        "{parts:?}"
    );
    stage.assert_equals_table().await;
}

#[tokio::test]
async fn more_segments_than_lanes_are_walked_one_after_the_other() {
    let stage = Stage::of_items(50);
    let planned = stage.plan(request(2500)).await.unwrap();
    assert_eq!(
        planned.segments.len(),
        1000,
        "the state machine starts no more branches"
    );
    stage.scan_all(1000).await.unwrap();
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
}

#[tokio::test]
async fn dd_06_segments_together_give_every_item_once() {
    let stage = Stage::of_items(97);
    stage.back_up(request(4)).await.unwrap();
    let (items, totals) = stage.read().await.unwrap();
    assert_eq!((items.len(), totals.items), (97, 97));
}

#[tokio::test]
async fn dd_19_an_empty_table_makes_a_completed_backup_of_no_parts() {
    let stage = Stage::of_items(0);
    stage.back_up(request(3)).await.unwrap();
    let (items, totals) = stage.read().await.unwrap();
    assert!(items.is_empty());
    assert_eq!((totals.parts, totals.items), (0, 0));
}

#[tokio::test]
async fn dd_18_an_existing_backup_is_never_overwritten() {
    let stage = Stage::of_items(20);
    stage.back_up(request(1)).await.unwrap();
    let before = stage.store.objects();
    let rival = plan_backup::PlanInput {
        execution_id: "execution-2".into(),
        ..plan_input(request(1))
    };
    let refused = plan_backup::run(&stage.deps, &rival).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::SnapshotExists);
    assert_eq!(stage.store.objects(), before, "nothing was written");

    // The same place under another control table, which has never heard of it.
    let stranger = Stage::of_items(20);
    for object in before.values() {
        stranger.store.plant(object.clone());
    }
    let refused = plan_backup::run(&stranger.deps, &rival).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::SnapshotExists);
    assert_eq!(stranger.store.objects(), before);
    assert_eq!(stranger.status().await, None, "and nothing was recorded");
}

#[tokio::test]
async fn a_failed_backup_is_resumed_and_completes() {
    let stage = Stage::of_items(200);
    stage.plan(request(2)).await.unwrap();
    scan_lane(&stage.deps, 0, Budget::UNLIMITED).await.unwrap();
    highwater_steps::status::mark_failed(&stage.deps, &id(), None, "stopped")
        .await
        .unwrap();
    let refused = scan_lane(&stage.deps, 1, Budget::UNLIMITED).await;
    assert_eq!(
        refused.unwrap_err().name(),
        ErrorName::Interrupted,
        "nobody works on a failed snapshot"
    );
    stage.plan(resume()).await.unwrap();
    stage.scan_all(2).await.unwrap();
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
}

/// The command line runs in one process, whose walk of the state machine has no history that could be full.
#[tokio::test]
async fn only_invocations_need_child_executions() {
    for (share, segments, distributed) in [
        (Share::Process, 910, false),
        (Share::Invocation, 910, true),
        (Share::Invocation, 8, false),
    ] {
        let stage = Stage::of_items(10);
        let pace = Arc::new(Pace::new(stage.deps.clock.clone(), share));
        let deps = Deps {
            pace,
            ..stage.deps.clone()
        };
        let input = plan_input(request(segments));
        let plan = plan_backup::run(&deps, &input).await.unwrap();
        assert_eq!(plan.distributed, distributed, "{share:?}, {segments}");
    }
}

#[tokio::test]
async fn a_sealed_backup_is_never_marked_failed() {
    let stage = Stage::of_items(10);
    stage.back_up(request(1)).await.unwrap();
    let status = highwater_steps::status::mark_failed(&stage.deps, &id(), None, "late")
        .await
        .unwrap();
    assert_eq!(status, Status::Completed);
    assert!(
        stage.plan(resume()).await.unwrap().segments.is_empty(),
        "a resume finds nothing left to do"
    );
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
}

#[tokio::test]
async fn only_the_finalizer_says_completed_and_only_when_every_segment_is_done() {
    let stage = Stage::of_items(50);
    stage.plan(request(2)).await.unwrap();
    scan_lane(&stage.deps, 0, Budget::UNLIMITED).await.unwrap();
    let refused = stage.finalize().await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::Internal);
    assert_eq!(stage.status().await, Some(Status::Running));
}

#[tokio::test]
async fn max_items_is_exact_whatever_the_segments() {
    for (segments, max_items) in [(1, 1), (4, 57), (4, 150), (7, 1000)] {
        let stage = Stage::of_items(150);
        let request = BackupRequest {
            max_items: Some(max_items),
            ..request(segments)
        };
        let planned = stage.plan(request).await.unwrap();
        assert_eq!(
            planned.segments,
            [0],
            "one branch takes the segments in order"
        );
        stage.scan_all(1).await.unwrap();
        stage.finalize().await.unwrap();
        let (items, _) = stage.read().await.unwrap();
        assert_eq!(items.len() as u64, max_items.min(150));
        let shown = snapshot_info::metadata(stage.store.as_ref(), &layout(), &id())
            .await
            .unwrap();
        assert_eq!(shown.backup_type, "query");
    }
}

#[tokio::test]
async fn a_filter_is_recorded_and_what_it_skipped_is_counted() {
    let even = |item: &[u8]| {
        let value: Value = serde_json::from_slice(item).unwrap();
        let number: u64 = value["n"]["N"].as_str().unwrap().parse().unwrap();
        number.is_multiple_of(2).then(|| item.to_vec())
    };
    let stage = Stage::new(FakeTable::with_numbered_items("orders", 100, 3).selecting(even));
    let request = BackupRequest {
        filter: Some("even(n, :zero)".into()),
        values: [(":zero".to_owned(), json!({"N": "0"}))].into(),
        ..request(3)
    };
    stage.back_up(request).await.unwrap();
    let shown = snapshot_info::metadata(stage.store.as_ref(), &layout(), &id())
        .await
        .unwrap();
    assert_eq!(
        (shown.item_count, shown.scan.items, shown.scan.scanned),
        (50, 50, 100)
    );
    assert_eq!(shown.backup_type, "query");
    assert_eq!(shown.selection.filter.as_deref(), Some("even(n, :zero)"));
    assert_eq!(stage.read().await.unwrap().0.len(), 50);
}

#[tokio::test]
async fn info_counts_while_the_backup_runs() {
    let stage = Stage::of_items(200);
    stage.plan(request(2)).await.unwrap();
    scan_lane(&stage.deps, 0, Budget::UNLIMITED).await.unwrap();
    let without = snapshot_info::run(stage.store.as_ref(), &layout(), &id(), None)
        .await
        .unwrap();
    let with = snapshot_info::run(
        stage.store.as_ref(),
        &layout(),
        &id(),
        Some(stage.control.as_ref()),
    )
    .await
    .unwrap();
    assert_eq!((without.status, without.item_count), (Status::Running, 0));
    let first_segment = stage.table.keys_of_segment(0, 2).len() as u64;
    assert_eq!(
        (with.status, with.item_count),
        (Status::Running, first_segment)
    );
}

#[tokio::test]
async fn backups_are_listed_by_what_the_bucket_says() {
    let stage = Stage::of_items(10);
    stage.back_up(request(1)).await.unwrap();
    stage.store.plant(object(
        "backups/orders/AWSDynamoDB/not-one-of-ours/data/x",
        "x",
    ));
    stage.store.plant(object(
        "backups/orders/AWSDynamoDB/01768385930623-efd1a093/data/s00000-p000000.json.gz",
        "x",
    ));
    let listed = list_snapshots::run(stage.store.as_ref(), "backups", None)
        .await
        .unwrap();
    let ids: Vec<&str> = listed.iter().map(|one| one.snapshot_id.as_str()).collect();
    assert_eq!(ids, [ID, "01768385930623-efd1a093"]);
    assert_eq!(listed[0].metadata.as_ref().unwrap().item_count, 10);
    assert_eq!(
        listed[1].metadata, None,
        "parts without metadata are no backup, and are shown as such"
    );
    let none = list_snapshots::run(stage.store.as_ref(), "backups", Some("customers"))
        .await
        .unwrap();
    assert!(none.is_empty());
}
