//! `KvControlTable` on an embedded DynamoDB.

use std::sync::Arc;

use highwater_aws::KvControlTable;
use highwater_domain::control_table::{ControlTable, SegmentCommit};
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::live_control::LiveControl;
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::restore::RestoreId;
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::snapshot::PartId;
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::{
    control_table as laws, live_control, replica_control, restore_control,
};

use crate::loopback::clients;

async fn embedded() -> (EmbeddedDynamoDb, KvControlTable) {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let table = clients(engine.endpoint_url())
        .await
        .control_table("control");
    assert!(table.ensure().await.unwrap());
    (engine, table)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_dynamodb_keeps_the_laws() {
    let (_engine, table) = embedded().await;
    let shared: Arc<dyn ControlTable> = Arc::new(table);
    laws::every_law(&shared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_dynamodb_keeps_the_laws_of_restores() {
    let (_engine, table) = embedded().await;
    let shared: Arc<dyn RestoreControl> = Arc::new(table);
    restore_control::every_law(&shared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_dynamodb_keeps_the_laws_of_marks() {
    let (_engine, table) = embedded().await;
    let shared: Arc<dyn LiveControl> = Arc::new(table);
    live_control::every_law(&shared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_dynamodb_keeps_the_laws_of_replicas() {
    let (_engine, table) = embedded().await;
    let shared: Arc<dyn ReplicaControl> = Arc::new(table);
    replica_control::every_law(&shared).await;
}

/// Ids of both have one form, and one control table keeps both.
#[tokio::test]
async fn a_restore_and_a_snapshot_of_one_id_are_strangers() {
    let (_engine, table) = embedded().await;
    let snapshot = SnapshotId::new(UnixMillis(7), 7);
    let restore: RestoreId = snapshot.as_str().parse().unwrap();
    table
        .create_snapshot(&laws::record(&snapshot))
        .await
        .unwrap();
    assert_eq!(table.restore(&restore).await.unwrap(), None);
    let record = restore_control::restore_record(&restore);
    table.create_restore(&record).await.unwrap();
    table.forget_snapshot(&snapshot).await.unwrap();
    assert_eq!(
        table.restore(&restore).await.unwrap().unwrap().value,
        record
    );
    assert_eq!(table.snapshot(&snapshot).await.unwrap(), None);
}

#[tokio::test]
async fn the_table_is_made_once() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let table = clients(engine.endpoint_url())
        .await
        .control_table("control");
    let id = SnapshotId::new(UnixMillis(7), 7);
    let failure = table.snapshot(&id).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    assert_eq!(failure.resource, "control");
    assert!(table.ensure().await.unwrap());
    assert!(!table.ensure().await.unwrap());
    assert_eq!(table.snapshot(&id).await.unwrap(), None);
}

#[tokio::test]
async fn numbers_that_would_sort_wrongly_are_refused() {
    let (_engine, table) = embedded().await;
    let id = SnapshotId::new(UnixMillis(7), 7);
    table.create_snapshot(&laws::record(&id)).await.unwrap();
    let row = laws::part_row(0, 10_000_000);
    let next = laws::checkpoint(1);
    let commit = SegmentCommit {
        snapshot: &id,
        segment: 0,
        seen: None,
        next: &next,
        part: Some(&row),
    };
    let failure = table.commit_segment(commit).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    let part = PartId {
        segment: 0,
        number: 10_000_000,
    };
    assert_eq!(table.part(&id, part).await.unwrap(), None);
    assert_eq!(table.segment(&id, 0).await.unwrap(), None);
    let restore: RestoreId = id.as_str().parse().unwrap();
    let next = restore_control::file_checkpoint(1);
    let commit = table.commit_file(&restore, 10_000_000, None, &next).await;
    assert_eq!(commit.unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(table.file(&restore, 10_000_000).await.unwrap(), None);
}
