//! More workers than an inline Map has: the deployed definitions' other way, branches in executions of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use highwater_asl::{Event, Execution, Options, StateMachine, TaskError, Tasks, walk};
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::account::{Account, BUCKET, PREFIX, Stack, TABLE, at_once, request};
use super::restore_stack::RestoreStack;

/// One more than the iterations of an inline Map that Step Functions runs at once.
const WIDE: u64 = 41;

fn wide() -> Value {
    request(json!({"segments": WIDE, "concurrency": WIDE, "read_capacity": 0}))
}

/// The states that were entered.
fn noting() -> (Options, Arc<Mutex<BTreeSet<String>>>) {
    let entered: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let seen = Arc::clone(&entered);
    let options = Options {
        observer: Some(Arc::new(move |event| {
            if let Event::Entered { state, .. } = event {
                seen.lock().unwrap().insert((*state).to_owned());
            }
        })),
        ..at_once()
    };
    (options, entered)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_backup_and_a_wide_restore_go_through_child_executions() {
    let account = Account::with_items(1500).await;
    let (options, entered) = noting();
    let output = account.deploy().execute(wide(), options).await.unwrap();
    assert_eq!(output["status"], "completed");
    let id = output["snapshot_id"].as_str().unwrap();
    assert!(account.assert_backed_up(id).await >= WIDE);
    let states = entered.lock().unwrap().clone();
    assert!(states.contains("ScanSegmentInChild"), "{states:?}");
    assert!(!states.contains("ScanSegments"), "{states:?}");

    let restore = json!({
        "backup": format!("s3://{BUCKET}/{PREFIX}/{TABLE}/AWSDynamoDB/{id}"), "to": "orders-restored",
        "rejects": format!("s3://{BUCKET}/rejects"), "concurrency": WIDE
    });
    let (options, entered) = noting();
    let stack = RestoreStack::of(&account);
    let output = stack.execute(restore, options).await.unwrap();
    assert_eq!(output["totals"]["written"], 1500, "{output}");
    let states = entered.lock().unwrap().clone();
    assert!(states.contains("LoadPartInChild"), "{states:?}");
    assert!(!states.contains("LoadFiles"), "{states:?}");
}

/// The deployed functions, but for one segment, which may not be scanned.
struct Denied<'a>(&'a Stack);

const DENIED: &str = "Scan on orders failed: not authorized to perform dynamodb:Scan";

#[async_trait]
impl Tasks for Denied<'_> {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        if function == "scan-segment" && payload["segment"] == 7 {
            return Err(TaskError::new("AccessDenied", DENIED));
        }
        self.0.invoke(function, payload).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_a_child_is_in_the_metadata_although_the_map_does_not_tell() {
    let account = Account::with_items(300).await;
    let stack = account.deploy();
    let text = checkout::text("statemachine/backup.asl.json").unwrap();
    let arns = ["plan-backup", "scan-segment", "finalize-backup"];
    let names =
        ["PlanBackup", "ScanSegment", "FinalizeBackup"].map(|name| format!("{name}FunctionArn"));
    let arns: BTreeMap<String, String> = names.into_iter().zip(arns.map(str::to_owned)).collect();
    let machine = StateMachine::parse(&text, &arns).unwrap();
    let execution = Execution {
        id: "execution".into(),
        start_time: "2026-01-14T10:18:50.622Z".into(),
    };
    let ended = walk(&machine, wide(), &execution, &Denied(&stack), &at_once()).await;
    assert_eq!(
        ended.unwrap_err().error,
        "States.ExceedToleratedFailureThreshold"
    );

    let id = only_snapshot(&account).await;
    let metadata = account.metadata(&id).await;
    assert_eq!(metadata["status"], "failed");
    assert_eq!(metadata["error"], format!("AccessDenied: {DENIED}"));

    // What the other children have done is done.
    let resume = json!({"resume": true, "snapshot_id": id});
    let output = stack.execute(resume, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
    account.assert_backed_up(&id).await;
}

/// The id of the only snapshot.
async fn only_snapshot(account: &Account) -> String {
    let client = highwater_testkit::clients::s3(account.s3.endpoint_url());
    let prefix = format!("{PREFIX}/{TABLE}/AWSDynamoDB/");
    let listing = client
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix(&prefix)
        .send()
        .await
        .unwrap();
    let keys = listing.contents().iter().filter_map(|object| object.key());
    let ids: BTreeSet<&str> = keys
        .filter_map(|key| key.strip_prefix(&prefix)?.split('/').next())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.first().copied().unwrap().to_owned()
}
