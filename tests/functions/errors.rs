//! What Retry and Catch get to see: the `errorType` on the wire, and a message that names the thing.

use highwater_testkit::runtime_api::FunctionError;
use serde_json::{Value, json};

use super::account::{Account, LONG, at_once, event, request};

#[track_caller]
fn assert_error(answer: Result<Value, FunctionError>, error_type: &str, names: &str) {
    let error = answer.unwrap_err();
    assert_eq!(error.error_type, error_type, "{}", error.message);
    assert!(error.message.contains(names), "{names}: {}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_made_says_which_thing_is_wrong() {
    let account = Account::with_items(10).await;
    let function = account.function("plan-backup");
    let plan = async |request: Value| {
        let mut event = event("plan-backup/first");
        event["request"] = request;
        function.invoke(event, LONG).await
    };
    for (event, names) in [
        (json!({"nonsense": 1}), "nonsense"),
        (json!("text"), "PlanInput"),
        (json!({"request": {}, "execution_id": "e"}), "started_at"),
        (
            json!({"request": {"tabel": "orders"}, "execution_id": "e", "started_at": "now"}),
            "tabel",
        ),
    ] {
        assert_error(function.invoke(event, LONG).await, "InvalidInput", names);
    }
    assert_error(
        plan(json!({"to": "s3://b/p"})).await,
        "InvalidInput",
        "`table`",
    );
    let to = json!({"table": "orders", "to": "file:///backups"});
    assert_error(plan(to).await, "InvalidInput", "s3://");
    let table = json!({"table": "ordrs", "to": "s3://highwater-snapshots/p"});
    assert_error(plan(table).await, "TableNotFound", "ordrs");
    let bucket = json!({"table": "orders", "to": "s3://no-such-bucket/p"});
    assert_error(plan(bucket).await, "StoreNotFound", "no-such-bucket");
    let unknown = event("plan-backup/resume");
    assert_error(
        function.invoke(unknown, LONG).await,
        "SnapshotNotFound",
        "01768385930622-61b683f7",
    );
    let answer = function.invoke(event("plan-backup/first"), LONG).await;
    assert!(answer.is_ok(), "{answer:?}");
    let mut other = event("plan-backup/first");
    other["execution_id"] = json!("another");
    other["request"]["snapshot_id"] = json!("01768385930622-61b683f7");
    assert_error(
        function.invoke(other, LONG).await,
        "SnapshotExists",
        "01768385930622-61b683f7",
    );
    assert_eq!(function.starts(), 1, "an error does not end the process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_of_what_does_not_exist_says_so() {
    let account = Account::with_items(10).await;
    let stack = account.deploy();
    let first = event("scan-segment/first");
    assert_error(
        stack.scan.invoke(first.clone(), LONG).await,
        "SnapshotNotFound",
        "01768385930622-61b683f7",
    );
    let mut malformed = first.clone();
    malformed["snapshot_id"] = json!("../../etc");
    assert_error(
        stack.scan.invoke(malformed, LONG).await,
        "InvalidInput",
        "../../etc",
    );
    let negative = json!({"snapshot_id": "01768385930622-61b683f7", "segment": -1});
    assert_error(
        stack.scan.invoke(negative, LONG).await,
        "InvalidInput",
        "-1",
    );
    stack
        .plan
        .invoke(event("plan-backup/first"), LONG)
        .await
        .unwrap();
    let mut beyond = first.clone();
    beyond["segment"] = json!(4);
    assert_error(
        stack.scan.invoke(beyond, LONG).await,
        "InvalidInput",
        "segment 4 of 4",
    );
    let early = stack
        .finalize
        .invoke(event("finalize-backup/first"), LONG)
        .await;
    assert_error(early, "Internal", "4 of 4 segments are not done");
    assert_error(
        stack.finalize.invoke(json!({}), LONG).await,
        "InvalidInput",
        "snapshot_id",
    );
    let client = highwater_testkit::clients::dynamodb(account.dynamodb.endpoint_url());
    client
        .delete_table()
        .table_name("orders")
        .send()
        .await
        .unwrap();
    assert_error(
        stack.scan.invoke(first, LONG).await,
        "TableNotFound",
        "orders",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_its_control_table_says_which_one_is_missing() {
    let account = Account::with_items(0).await;
    let with_control_table = |name: &str| {
        let mut environment = account.environment();
        environment.retain(|(variable, _)| variable != "HIGHWATER_CONTROL_TABLE");
        environment.push(("HIGHWATER_CONTROL_TABLE".into(), name.into()));
        environment
    };
    for name in ["plan-backup", "scan-segment", "finalize-backup"] {
        let absent = Account::function_with(name, with_control_table("not-there"));
        let sample = event(&format!("{name}/first"));
        assert_error(
            absent.invoke(sample.clone(), LONG).await,
            "Config",
            "not-there",
        );
        // Which variable it is stands in the log: see the functions' own tests.
        let unnamed = Account::function_with(name, with_control_table(""));
        let error = unnamed.invoke(sample, LONG).await.unwrap_err();
        assert_eq!(error.error_type, "Runtime.ExitError", "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_ends_with_the_error_of_the_state_that_failed_first() {
    let account = Account::with_items(10).await;
    let stack = account.deploy();
    let refused = stack
        .execute(request(json!({"segments": 0})), at_once())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.state.as_str(), refused.error.as_str()),
        ("BackupRefused", "InvalidInput")
    );
    assert!(
        refused.cause.contains("`segments` is 0"),
        "{}",
        refused.cause
    );
    let missing = stack
        .execute(request(json!({"table": "ordrs"})), at_once())
        .await
        .unwrap_err();
    assert_eq!(
        (missing.state.as_str(), missing.error.as_str()),
        ("BackupFailed", "TableNotFound")
    );
    assert!(missing.cause.contains("ordrs"), "{}", missing.cause);
}
