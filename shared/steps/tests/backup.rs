//! The backup workflow on the fakes: what it leaves behind, what it refuses, how it is read back.

mod stage;

use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::ObjectStore as _;
use highwater_domain::snapshot::{Compression, Status};
use highwater_steps::finalize_backup::{FailureInput, FinalizeInput};
use highwater_steps::request::BackupRequest;
use highwater_steps::{ErrorName, delete_snapshot, finalize_backup, list_snapshots, snapshot_info};
use highwater_testkit::counting::Counting;
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::{FakeStore, object};
use highwater_testkit::fake_table::FakeTable;
use highwater_testkit::intercepted::Intercepted;
use serde_json::{Value, json};
use stage::*;

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
    let rival = highwater_steps::plan_backup::PlanInput {
        execution_id: "execution-2".into(),
        ..plan_input(request(1))
    };
    let refused = highwater_steps::plan_backup::run(&stage.deps, &rival).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::SnapshotExists);
    assert_eq!(stage.store.objects(), before, "nothing was written");

    // The same place under another control table, which has never heard of it.
    let stranger = Stage::of_items(20);
    for object in before.values() {
        stranger.store.plant(object.clone());
    }
    let refused = highwater_steps::plan_backup::run(&stranger.deps, &rival).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::SnapshotExists);
    assert_eq!(stranger.store.objects(), before);
    assert_eq!(stranger.status().await, None, "and nothing was recorded");
}

#[tokio::test]
async fn a_store_without_conditional_create_is_refused_before_anything_is_claimed() {
    let stage = Stage::with_store(
        FakeTable::with_numbered_items("orders", 5, 1),
        FakeStore::ignoring_conditions(),
    );
    let refused = stage.plan(request(1)).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::StoreUnsuitable);
    assert!(stage.store.keys().is_empty(), "{:?}", stage.store.keys());
    assert_eq!(stage.status().await, None);
}

#[tokio::test]
async fn dd_14_a_failing_store_fails_the_scan_and_the_backup_says_failed() {
    let stage = Stage::of_items(1000);
    stage.plan(request(1)).await.unwrap();
    let failing =
        Arc::new(Failing::once(3, Moment::Before, FailureKind::NotWritable).only("create"));
    let deps = stage.through(
        Arc::new(Intercepted::new(&stage.store, &failing)),
        stage.control.clone(),
    );
    let error = scan_lane(&deps, 0, Budget::UNLIMITED).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::StoreNotWritable);
    let failure = FailureInput {
        error: error.name().as_str().into(),
        cause: json!({"errorType": "StoreNotWritable", "errorMessage": error.to_string()})
            .to_string(),
    };
    let input = FinalizeInput {
        failure: Some(failure),
        ..finalize_input()
    };
    let output = finalize_backup::run(&stage.deps, &input, Budget::UNLIMITED).await;
    assert_eq!(output.unwrap().status, Some(Status::Failed));
    let shown = snapshot_info::metadata(stage.store.as_ref(), &layout(), &id())
        .await
        .unwrap();
    assert_eq!((shown.status, shown.part_count), (Status::Failed, 2));
    assert!(shown.error.unwrap().starts_with("StoreNotWritable: "));
    assert!(
        stage.read().await.is_err(),
        "a failed backup is not read as if it were whole"
    );
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
async fn the_finalizer_notices_a_lost_a_changed_and_a_foreign_object() {
    let damaged = async |damage: &dyn Fn(&FakeStore, &str)| {
        let stage = Stage::of_items(300);
        stage.plan(request(1)).await.unwrap();
        stage.scan_all(1).await.unwrap();
        damage(&stage.store, &stage.control.all_parts(&id())[1].object);
        let name = stage.finalize().await.unwrap_err().name();
        assert_eq!(stage.status().await, Some(Status::Running));
        name
    };
    assert_eq!(
        damaged(&|store, part| assert!(store.lose(part))).await,
        ErrorName::PartMissing
    );
    let flip = |store: &FakeStore, part: &str| assert!(store.tamper(part, |bytes| bytes[40] ^= 1));
    assert_eq!(damaged(&flip).await, ErrorName::PartCorrupt);
    let cut =
        |store: &FakeStore, part: &str| assert!(store.tamper(part, |bytes| bytes.truncate(40)));
    assert_eq!(damaged(&cut).await, ErrorName::PartCorrupt);
    let stray = |store: &FakeStore, _: &str| {
        store.plant(object(&format!("{}stray.json.gz", layout().data()), "x"))
    };
    assert_eq!(damaged(&stray).await, ErrorName::PartCorrupt);
}

#[tokio::test]
async fn dd_15_what_is_damaged_after_sealing_is_noticed_by_the_reader() {
    for damage in 0..5 {
        let stage = Stage::of_items(300);
        stage.back_up(request(1)).await.unwrap();
        let part = stage.control.all_parts(&id())[1].object.clone();
        let keys = layout();
        let changed = match damage {
            0 => stage.store.lose(&part),
            1 => stage.store.tamper(&part, |bytes| bytes[30] ^= 0x40),
            2 => stage
                .store
                .tamper(&keys.manifest_files(), |bytes| bytes[15] ^= 1),
            3 => stage
                .store
                .tamper(&keys.manifest_summary(), |bytes| bytes[15] ^= 1),
            _ => stage.store.lose(&keys.manifest_files_md5()),
        };
        assert!(changed);
        let name = stage.read().await.unwrap_err().name();
        assert!(
            matches!(name, ErrorName::PartCorrupt | ErrorName::PartMissing),
            "{damage}: {name:?}"
        );
    }
    let stage = Stage::of_items(300);
    stage.back_up(request(1)).await.unwrap();
    let failing = Arc::new(Failing::once(6, Moment::Before, FailureKind::Denied).only("read"));
    let store = Arc::new(Intercepted::new(&stage.store, &failing));
    let sealed = highwater_steps::read_snapshot::SealedSnapshot::open(store, &layout(), &id())
        .await
        .unwrap();
    let error = sealed.read(|_| ()).await.unwrap_err();
    assert_eq!(
        error.name(),
        ErrorName::AccessDenied,
        "a failed read surfaces as it is"
    );
}

#[tokio::test]
async fn a_table_that_was_dropped_and_re_created_stops_the_backup() {
    let stage = Stage::of_items(50);
    stage.plan(request(2)).await.unwrap();
    scan_lane(&stage.deps, 0, Budget::UNLIMITED).await.unwrap();
    let mut table =
        highwater_domain::table::TableDescriber::describe(stage.table.as_ref(), "orders")
            .await
            .unwrap()
            .table;
    table["TableId"] = Value::from("another-id");
    stage.table.set_description(table);
    let refused = scan_lane(&stage.deps, 1, Budget::UNLIMITED).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::TableChanged);
    let again = BackupRequest {
        snapshot_id: Some(id()),
        resume: true,
        ..BackupRequest::default()
    };
    let input = highwater_steps::plan_backup::PlanInput {
        execution_id: "execution-2".into(),
        ..plan_input(again)
    };
    let refused = highwater_steps::plan_backup::run(&stage.deps, &input).await;
    assert_eq!(refused.unwrap_err().name(), ErrorName::TableChanged);
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

#[tokio::test]
async fn dd_17_deletion_takes_exact_keys_parts_first_and_metadata_last() {
    let stage = Stage::of_items(300);
    stage.back_up(request(2)).await.unwrap();
    let stray = format!("{}ignore-this.json.gz", layout().data());
    stage.store.plant(object(&stray, "x"));
    stage
        .store
        .plant(object("backups/orders-2/AWSDynamoDB/x", "of another table"));
    let counting = Arc::new(Counting::new());
    let store = Intercepted::new(&stage.store, &counting);
    let deletion = delete_snapshot::plan(&store, &layout(), &id(), false)
        .await
        .unwrap();
    assert_eq!(deletion.left_alone, [stray.clone()]);
    let now = stage.deps.clock.now();
    delete_snapshot::run(
        &store,
        &layout(),
        Some(stage.control.as_ref()),
        &deletion,
        now,
        |_| (),
    )
    .await
    .unwrap();
    assert_eq!(
        stage.store.keys(),
        ["backups/orders-2/AWSDynamoDB/x".to_owned(), stray]
    );
    assert!(stage.control.is_empty());
    let calls = counting.calls();
    let deletes: Vec<&str> = calls
        .iter()
        .filter(|call| call.operation == "delete")
        .map(|call| call.resource.as_str())
        .collect();
    assert!(
        deletes.first().unwrap().contains("data/s00000-p000000"),
        "{deletes:?}"
    );
    assert!(
        deletes.last().unwrap().ends_with("backup.json"),
        "{deletes:?}"
    );
}

#[tokio::test]
async fn dd_17_a_deletion_that_breaks_off_anywhere_can_be_repeated() {
    for nth in 1.. {
        let stage = Stage::of_items(300);
        stage.back_up(request(2)).await.unwrap();
        let failing = Arc::new(Failing::crash(nth, Moment::After));
        let store = Intercepted::new(&stage.store, &failing);
        let broke_off = match delete_snapshot::plan(&store, &layout(), &id(), false).await {
            Err(_) => true,
            Ok(deletion) => {
                let now = stage.deps.clock.now();
                delete_snapshot::run(
                    &store,
                    &layout(),
                    Some(stage.control.as_ref()),
                    &deletion,
                    now,
                    |_| (),
                )
                .await
                .is_err()
            }
        };
        if !broke_off {
            assert!(nth > 5, "the deletion was broken off at {nth} places");
            return;
        }
        if stage
            .store
            .facts(&layout().metadata())
            .await
            .unwrap()
            .is_some()
        {
            let whole = stage.read().await;
            assert!(
                whole.is_err() || stage.store.keys().len() > 6,
                "half a backup is not read: {}",
                story(&whole)
            );
            let deletion = delete_snapshot::plan(stage.store.as_ref(), &layout(), &id(), false)
                .await
                .unwrap();
            let now = stage.deps.clock.now();
            delete_snapshot::run(
                stage.store.as_ref(),
                &layout(),
                Some(stage.control.as_ref()),
                &deletion,
                now,
                |_| (),
            )
            .await
            .unwrap();
        }
        assert!(
            stage.store.keys().is_empty(),
            "{nth}: {:?}",
            stage.store.keys()
        );
    }
}

#[tokio::test]
async fn a_running_backup_is_not_deleted_unless_forced() {
    let stage = Stage::of_items(30);
    stage.plan(request(1)).await.unwrap();
    let refused = delete_snapshot::plan(stage.store.as_ref(), &layout(), &id(), false).await;
    assert!(matches!(
        refused,
        Err(highwater_steps::StepError::SnapshotRunning(_))
    ));
    assert!(
        delete_snapshot::plan(stage.store.as_ref(), &layout(), &id(), true)
            .await
            .is_ok()
    );
}
