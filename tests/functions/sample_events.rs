//! The files under `events/`, as they stand, given to the functions that they are samples for.

use highwater_domain::object_store::ObjectStore;
use highwater_local::StreamShape;
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::account::{Account, BUCKET, LONG, PREFIX, Stack, event};
use super::live_account::Live;

const ID: &str = "01768385930622-61b683f7";

/// Scans what the plan named, beginning with the sample event of segment 0.
async fn scan(stack: &Stack, plan: &Value) {
    for segment in plan["segments"].as_array().unwrap() {
        let mut event = event("scan-segment/first");
        event["segment"] = segment.clone();
        let answer = stack.scan.invoke(event, LONG).await.unwrap();
        assert_eq!(
            answer,
            json!({"snapshot_id": ID, "segment": segment, "done": true})
        );
    }
}

fn ended(status: &str) -> Value {
    json!({"snapshot_id": ID, "done": true, "status": status})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_events_make_a_backup_and_the_failures_leave_it_whole() {
    let account = Account::with_items(800).await;
    let stack = account.deploy();
    let plan = stack
        .plan
        .invoke(event("plan-backup/first"), LONG)
        .await
        .unwrap();
    assert_eq!(
        plan,
        json!({"snapshot_id": ID, "segments": [0, 1, 2, 3], "concurrency": 4, "distributed": false})
    );
    let again = stack
        .plan
        .invoke(event("plan-backup/first"), LONG)
        .await
        .unwrap();
    assert_eq!(again, plan, "a second attempt finds the plan of the first");
    assert_eq!(account.metadata(ID).await["status"], "running");
    scan(&stack, &plan).await;
    for file in ["first", "failed", "abandoned", "first"] {
        let sample = event(&format!("finalize-backup/{file}"));
        let answer = stack.finalize.invoke(sample, LONG).await.unwrap();
        assert_eq!(
            answer,
            ended("completed"),
            "{file}: what is sealed stays sealed"
        );
    }
    account.assert_backed_up(ID).await;
}

/// Plans a backup and has it marked failed, twice over: the second reason stays.
async fn fail(account: &Account, stack: &Stack) {
    let abandoned = event("finalize-backup/abandoned");
    let nothing = stack.finalize.invoke(abandoned, LONG).await.unwrap();
    let nobody = json!({"snapshot_id": ID, "done": true, "status": null});
    assert_eq!(nothing, nobody, "nothing was begun");
    let plan = event("plan-backup/first");
    stack.plan.invoke(plan, LONG).await.unwrap();
    for (file, reason) in [
        (
            "abandoned",
            "Interrupted: the plan was stopped before it was whole",
        ),
        (
            "failed",
            "AccessDenied: Scan on orders failed: not authorized to perform dynamodb:Scan",
        ),
    ] {
        let sample = event(&format!("finalize-backup/{file}"));
        let answer = stack.finalize.invoke(sample, LONG).await.unwrap();
        assert_eq!(answer, ended("failed"), "{file}");
        let metadata = account.metadata(ID).await;
        assert_eq!(metadata["status"], "failed");
        assert_eq!(metadata["error"], reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_backup_is_resumed_and_the_failed_execution_has_no_say_any_more() {
    let account = Account::with_items(800).await;
    let stack = account.deploy();
    fail(&account, &stack).await;
    let first = event("scan-segment/first");
    let error = stack.scan.invoke(first, LONG).await.unwrap_err();
    assert_eq!(error.error_type, "Interrupted");
    assert!(error.message.contains("not authorized"), "{error}");

    let resume = event("plan-backup/resume");
    let plan = stack.plan.invoke(resume.clone(), LONG).await.unwrap();
    assert_eq!(
        plan,
        json!({"snapshot_id": ID, "segments": [0, 1, 2, 3], "concurrency": 4, "distributed": false})
    );
    let late = event("finalize-backup/failed");
    let late = stack.finalize.invoke(late, LONG).await.unwrap();
    assert_eq!(
        late,
        ended("running"),
        "the snapshot is another execution's by now"
    );
    scan(&stack, &plan).await;
    let mut finalize = event("finalize-backup/first");
    let error = stack.finalize.invoke(finalize.clone(), LONG).await;
    assert_eq!(error.unwrap_err().error_type, "Interrupted");
    finalize["execution_id"] = resume["execution_id"].clone();
    let answer = stack.finalize.invoke(finalize, LONG).await.unwrap();
    assert_eq!(answer, ended("completed"));
    account.assert_backed_up(ID).await;
}

/// A base for restores to any second: the table had no stream, and has one now.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_a_stream_has_its_handoff() {
    let account = Account::with_streams(StreamShape::default()).await;
    let stack = account.deploy();
    let mut plan = event("plan-backup/with-stream");
    // A local engine's streams see every change at once.
    plan["request"]["settle_seconds"] = json!(0);
    let plan = stack.plan.invoke(plan, LONG).await.unwrap();
    scan(&stack, &plan).await;
    let finalize = event("finalize-backup/first");
    let answer = stack.finalize.invoke(finalize, LONG).await.unwrap();
    assert_eq!(answer, ended("completed"));
    let metadata = account.metadata(ID).await;
    assert!(metadata["handoff"].is_object(), "{metadata}");
}

/// What a function is to do again is the event that it had: what is done stays done.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_scanned_again_is_scanned_once() {
    let account = Account::with_items(300).await;
    let stack = account.deploy();
    let plan = event("plan-backup/first");
    let plan = stack.plan.invoke(plan, LONG).await.unwrap();
    scan(&stack, &plan).await;
    scan(&stack, &plan).await;
    let finalize = event("finalize-backup/first");
    stack.finalize.invoke(finalize, LONG).await.unwrap();
    assert_eq!(account.assert_backed_up(ID).await, 4, "a part per segment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_comes_again_from_a_record_on_is_logged_from_there() {
    let live = Live::start().await;
    let function = live.function("consume-stream");
    for (file, n) in [("window", 2), ("again", 1), ("again", 1)] {
        let sample = event(&format!("consume-stream/{file}"));
        let answer = function.invoke(sample, LONG).await.unwrap();
        let state = json!({"last_seq": "2574600000000000000942120", "n": n});
        assert_eq!(answer, json!({"batchItemFailures": [], "state": state}));
    }
    let store = live.account.clients().await.s3_store(BUCKET);
    let folder = format!("{PREFIX}/orders/log/");
    let page = store.list(&folder, None).await.unwrap();
    assert_eq!(
        page.objects.len(),
        2,
        "an object of two records, and one of one"
    );
}

/// Nothing is read or written for an event that is none: these functions have no control table and no bucket.
#[tokio::test(flavor = "multi_thread")]
async fn every_function_refuses_what_is_not_its_input() {
    let environment: Vec<(String, String)> = [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("HIGHWATER_CONTROL_TABLE", "nowhere"),
        ("HIGHWATER_LOG_TO", "s3://nowhere/live"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let mut refused = 0;
    for name in checkout::entries("functions").unwrap() {
        let function = Account::function_with(&name, environment.clone());
        let files = checkout::entries(&format!("events/{name}")).unwrap();
        for file in files.iter().filter(|file| file.starts_with("refused-")) {
            let sample = checkout::json(&format!("events/{name}/{file}")).unwrap();
            let error = function.invoke(sample, LONG).await.unwrap_err();
            assert_eq!(error.error_type, "InvalidInput", "{name}/{file}: {error}");
            refused += 1;
        }
        assert!(function.starts() <= 1, "a refusal does not end the process");
    }
    assert!(refused >= 10, "{refused}");
}
