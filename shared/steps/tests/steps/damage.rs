//! Stores that fail, lose or change objects, and a table that is swapped: all of it is noticed.

use std::sync::Arc;

use crate::stage::*;
use highwater_domain::budget::Budget;
use highwater_domain::control_table::{ControlTable as _, SegmentCommit};
use highwater_domain::failure::FailureKind;
use highwater_domain::snapshot::{Checkpoint, Compression, PartId, PartRow, Status};
use highwater_steps::failure_input::FailureInput;
use highwater_steps::finalize_backup::FinalizeInput;
use highwater_steps::request::BackupRequest;
use highwater_steps::{ErrorName, finalize_backup, snapshot_info};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::{FakeStore, object};
use highwater_testkit::fake_table::FakeTable;
use highwater_testkit::intercepted::Intercepted;
use highwater_testkit::sample_rows::part_row;
use serde_json::{Value, json};

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

/// A distributed Map says no more than that a child failed; the child itself has said why.
#[tokio::test]
async fn a_childs_reason_stays_when_the_whole_map_fails() {
    let stage = Stage::of_items(10);
    stage.plan(request(1)).await.unwrap();
    let marked = async |error: &str, cause: &str| {
        let failure = FailureInput {
            error: error.into(),
            cause: cause.into(),
        };
        let input = FinalizeInput {
            failure: Some(failure),
            ..finalize_input()
        };
        let output = finalize_backup::run(&stage.deps, &input, Budget::UNLIMITED).await;
        assert_eq!(output.unwrap().status, Some(Status::Failed));
        let (layout, id) = (layout(), id());
        let shown = snapshot_info::metadata(stage.store.as_ref(), &layout, &id);
        shown.await.unwrap().error.unwrap()
    };
    let map = ("States.ExceedToleratedFailureThreshold", "exceeded");
    let nobody = "States.ExceedToleratedFailureThreshold: exceeded";
    assert_eq!(marked(map.0, map.1).await, nobody, "no child could say why");
    stage.plan(resume()).await.unwrap();
    let reason = "PartCorrupt: part 3 is damaged";
    assert_eq!(marked("PartCorrupt", "part 3 is damaged").await, reason);
    assert_eq!(marked(map.0, map.1).await, reason);
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
        store.plant(object(&format!("{}stray.json.gz", layout().data()), "x"));
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

/// A control table that was restored from an older copy, or edited: refused, not read again for ever.
#[tokio::test]
async fn a_row_without_its_checkpoint_stops_the_segment() {
    let stage = Stage::of_items(60);
    stage.plan(request(1)).await.unwrap();
    let place = PartId {
        segment: 0,
        number: 0,
    };
    let name = layout().part(place, Compression::Gzip);
    stage.store.plant(object(&name, "somebody's bytes"));
    let row = PartRow {
        id: place,
        object: name,
        ..part_row(0, 0)
    };
    let commit = SegmentCommit {
        snapshot: &id(),
        segment: 0,
        seen: None,
        next: &Checkpoint::default(),
        part: Some(&row),
    };
    stage.control.commit_segment(commit).await.unwrap();
    let refused = scan_lane(&stage.deps, 0, Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert_eq!(refused.name(), ErrorName::PartCorrupt, "{refused}");
}
