//! The deployed definition, walked over the deployed programs.

use serde_json::json;

use super::account::{Account, at_once, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_every_item_of_the_table() {
    let account = Account::with_items(3000).await;
    let stack = account.deploy();
    let request = request(json!({"segments": 7, "concurrency": 3, "part_bytes": 20_000}));
    let output = stack.execute(request, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
    assert_eq!(output["done"], true);
    let parts = account
        .assert_backed_up(output["snapshot_id"].as_str().unwrap())
        .await;
    assert!(parts >= 7, "{parts} parts");
    assert!(
        (1..=3).contains(&stack.scan.starts()),
        "no more workers than asked for"
    );
    assert_eq!(
        stack.scan.output().matches("part committed").count() as u64,
        parts
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_is_backed_up_too() {
    let account = Account::with_items(0).await;
    let stack = account.deploy();
    let output = stack.execute(request(json!({})), at_once()).await.unwrap();
    assert_eq!(
        account
            .assert_backed_up(output["snapshot_id"].as_str().unwrap())
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_beyond_the_lanes_are_scanned_one_after_the_other() {
    let account = Account::with_items(500).await;
    let stack = account.deploy();
    // One lane walks all segments, because the number of items is limited.
    let request = request(json!({"segments": 5, "max_items": 500}));
    let output = stack.execute(request, at_once()).await.unwrap();
    let parts = account
        .assert_backed_up(output["snapshot_id"].as_str().unwrap())
        .await;
    assert_eq!(parts, 5, "one part of each segment");
    assert_eq!(stack.scan.starts(), 1);
}
