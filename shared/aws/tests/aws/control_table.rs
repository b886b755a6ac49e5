//! `KvControlTable` on an embedded DynamoDB.

use std::sync::Arc;

use highwater_aws::KvControlTable;
use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
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

#[tokio::test]
async fn an_embedded_dynamodb_keeps_the_laws() {
    let (_engine, table) = embedded().await;
    let shared: Arc<dyn ControlTable> = Arc::new(table.clone());
    laws::an_id_is_taken_once(&shared).await;
    laws::of_sixteen_updates_of_one_version_one_is_applied(&shared).await;
    laws::of_sixteen_commits_of_one_version_one_is_applied(&shared).await;
    laws::versions_grow(&table).await;
    laws::part_and_checkpoint_appear_together_or_not_at_all(&table).await;
    laws::a_part_row_never_changes(&table).await;
    laws::a_commit_may_have_no_part(&table).await;
    laws::segments_page_in_order(&table).await;
    laws::parts_page_in_order(&table).await;
    laws::forgetting_twice_forgets_one_snapshot(&table).await;
}

#[tokio::test]
async fn records_read_back_whole() {
    // The law of this name wants versions to begin at 1; kv's begin anywhere above 0, so that one is never used twice.
    let (_engine, table) = embedded().await;
    let id = SnapshotId::new(UnixMillis(7), 7);
    let (segment, part) = (
        999_999,
        PartId {
            segment: 999_999,
            number: 0,
        },
    );
    assert_eq!(table.snapshot(&id).await.unwrap(), None);
    assert_eq!(table.segment(&id, segment).await.unwrap(), None);
    assert_eq!(table.part(&id, part).await.unwrap(), None);

    let value = laws::record(&id);
    let Cas::Applied(version) = table.create_snapshot(&value).await.unwrap() else {
        panic!("the id was free");
    };
    assert!(version > 0);
    let stored = table.snapshot(&id).await.unwrap();
    assert_eq!(stored, Some(Versioned { value, version }));

    let (row, value) = (laws::part_row(segment, 0), laws::checkpoint(1));
    let commit = SegmentCommit {
        snapshot: &id,
        segment,
        seen: None,
        next: &value,
        part: Some(&row),
    };
    let Cas::Applied(version) = table.commit_segment(commit).await.unwrap() else {
        panic!("nobody else writes here");
    };
    let stored = table.segment(&id, segment).await.unwrap();
    assert_eq!(stored, Some(Versioned { value, version }));
    assert_eq!(table.part(&id, part).await.unwrap(), Some(row));
    assert_eq!(table.segment(&id, 0).await.unwrap(), None);
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
