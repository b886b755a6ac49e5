//! `KvControlTable` on an embedded DynamoDB.

use std::sync::Arc;

use highwater_aws::KvControlTable;
use highwater_domain::control_table::{ControlTable, SegmentCommit};
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::snapshot::PartId;
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::conformance::control_table as laws;

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
}
