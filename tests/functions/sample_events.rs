//! The files under `events/`, as they stand, given to the functions that they are samples for.

use serde_json::{Value, json};

use super::account::{Account, LONG, Stack, event};

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
        json!({"snapshot_id": ID, "segments": [0, 1, 2, 3], "concurrency": 4})
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
        json!({"snapshot_id": ID, "segments": [0, 1, 2, 3], "concurrency": 4})
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
