//! What is refused as a replica, before anything is written; and how one begins.

use std::sync::Arc;

use highwater_domain::fence_tables::FenceTables as _;
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_domain::replica::Phase;
use highwater_domain::replica_control::ReplicaControl as _;
use highwater_domain::table_admin::{ChangeCall, TableAdmin as _, TableChange};
use highwater_steps::StepError;
use highwater_steps::replica::plan::{self, ReplicaRequest};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_table::{FakeTable, string_key};
use serde_json::json;

use crate::replica_stage::{ReplicaStage, TARGET};
use crate::stage::{plan_input, request as backup_request};

/// The plan is refused for this reason, and nothing was written.
async fn assert_refused(stage: &ReplicaStage, request: &ReplicaRequest, reason: &str) {
    let (keys, tables) = (stage.world.store.keys(), stage.account.names());
    let refused = stage.plan(request).await.unwrap_err().to_string();
    assert!(refused.contains(reason), "{refused}");
    assert_eq!(stage.world.store.keys(), keys);
    assert_eq!(stage.account.names(), tables);
    let replicas = stage.control.replicas(&stage.world.table.arn()).await;
    assert_eq!(replicas.unwrap(), []);
}

fn add(stage: &ReplicaStage, schema: KeySchema, items: &[&str]) {
    let table = FakeTable::new(TARGET, schema, 3);
    for item in items {
        table.put(item.as_bytes());
    }
    stage.account.add(&Arc::new(table));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_is_refused() {
    let stage = ReplicaStage::backed_up().await;
    let request = ReplicaStage::request();
    add(&stage, string_key("id"), &[r#"{"id":{"S":"a"}}"#]);
    assert_refused(&stage, &request, "it has items").await;
    let other = KeySchema {
        partition: KeyAttribute {
            name: "id".into(),
            scalar_type: ScalarType::N,
        },
        sort: None,
    };
    add(&stage, other, &[]);
    assert_refused(&stage, &request, "its key is").await;
    add(&stage, string_key("id"), &[]);
    let to_source = ReplicaRequest {
        to: "orders".parse().unwrap(),
        ..request.clone()
    };
    assert_refused(&stage, &to_source, "it is the source itself").await;
}

/// Case 56: a replica that deletes by itself what its source still has is none.
#[tokio::test(start_paused = true)]
async fn case_56_a_target_with_time_to_live_is_refused() {
    let stage = ReplicaStage::backed_up().await;
    add(&stage, string_key("id"), &[]);
    let ttl = TableChange {
        what: "TTL".into(),
        call: ChangeCall::UpdateTimeToLive,
        request: json!({
            "TableName": TARGET,
            "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "expires"},
        }),
    };
    stage.account.change(&ttl).await.unwrap();
    while !stage
        .plan(&ReplicaStage::request())
        .await
        .is_err_and(|error| matches!(error, StepError::ReplicaRefused { .. }))
    {}
    assert_refused(&stage, &ReplicaStage::request(), "time to live is on").await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_is_refused() {
    let stage = ReplicaStage::new().await;
    let request = ReplicaStage::request();
    let nothing = stage.plan(&request).await.unwrap_err();
    assert!(
        matches!(nothing, StepError::SnapshotNotFound { .. }),
        "{nothing}"
    );
    // One that was begun, and never finished.
    let begun = highwater_steps::request::BackupRequest {
        to: Some(crate::live_world::TO.into()),
        with_stream: true,
        ..backup_request(2)
    };
    let deps = stage.backing_up();
    let planned = highwater_steps::plan_backup::run(&deps, &plan_input(begun)).await;
    planned.unwrap();
    assert_refused(&stage, &request, "running").await;
    // One of no stream.
    let stage = ReplicaStage::new().await;
    stage.world.table.disable_stream();
    stage.back_up(false).await;
    assert_refused(&stage, &request, "it has no handoff").await;
    // One of a table that was dropped since.
    let stage = ReplicaStage::backed_up().await;
    stage.world.table.drop_and_create();
    assert_refused(&stage, &request, "it is of an earlier table").await;
    let folder = ReplicaRequest {
        snapshot: format!("{}/orders", crate::live_world::TO),
        ..request.clone()
    };
    assert_refused(&stage, &folder, "one snapshot in it is needed").await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_somebody_else_holds_is_refused() {
    let stage = ReplicaStage::backed_up().await;
    let fences = format!("{TARGET}-highwater-fences");
    stage.account.claim(&fences, "somebody").await.unwrap();
    assert_refused(&stage, &ReplicaStage::request(), "somebody uses it").await;
}

/// Two control tables give one replica one name: only the first to claim the target feeds it.
#[tokio::test(start_paused = true)]
async fn two_control_tables_cannot_feed_one_target() {
    let mut stage = ReplicaStage::backed_up().await;
    let planned = stage.plan(&ReplicaStage::request()).await.unwrap();
    let first = stage.control.clone();
    stage.control = Arc::new(FakeControl::new());
    let other = stage.plan(&ReplicaStage::request()).await.unwrap();
    let (one, two) = (&planned.record, &other.record);
    assert!(one.id == two.id && one.load != two.load);
    plan::begin(&stage.deps(), &other).await.unwrap();
    let second = std::mem::replace(&mut stage.control, first);
    let refused = plan::begin(&stage.deps(), &planned).await.unwrap_err();
    assert!(
        matches!(refused, StepError::ReplicaRefused { .. }),
        "{refused}"
    );
    let arn = stage.world.table.arn();
    assert_eq!(stage.control.replicas(&arn).await.unwrap(), []);
    assert_eq!(second.replicas(&arn).await.unwrap(), [other.record]);
    assert_refused(&stage, &ReplicaStage::request(), "uses it").await;
}

/// A process that dies between its two writes has claimed nothing that stands in the way of the next.
#[tokio::test(start_paused = true)]
async fn one_that_was_half_begun_is_begun_again() {
    let stage = ReplicaStage::backed_up().await;
    let planned = stage.plan(&ReplicaStage::request()).await.unwrap();
    // The record is there, the claim is not.
    stage.control.create_replica(&planned.record).await.unwrap();
    let again = stage.plan(&ReplicaStage::request()).await.unwrap();
    let begun = plan::begin(&stage.deps(), &again).await.unwrap();
    assert_eq!(begun, planned.record, "its own load, not another");
    // And once more, with both there.
    let third = stage.plan(&ReplicaStage::request()).await.unwrap();
    assert_eq!(plan::begin(&stage.deps(), &third).await.unwrap(), begun);
    let loaded = stage.load(&begun).await;
    assert_eq!(loaded.phase, Phase::Load);
    assert_eq!(stage.items().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn an_empty_table_that_is_there_is_filled() {
    let stage = ReplicaStage::backed_up().await;
    add(&stage, string_key("id"), &[]);
    let planned = stage.plan(&ReplicaStage::request()).await.unwrap();
    assert!(!planned.makes_table);
    let live = stage.live().await;
    assert_eq!(live.phase, Phase::Live);
    stage.assert_equal();
    let other: Arc<FakeAdmin> = stage.account.clone();
    assert_eq!(other.names(), [TARGET]);
}
