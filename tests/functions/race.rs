//! Two invocations of one segment at once.

use serde_json::{Value, json};

use super::account::{Account, LONG, request};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_segment_make_one_chain() {
    let account = Account::with_items(800).await;
    let stack = account.deploy();
    let plan = stack
        .plan(request(
            json!({"segments": 1, "read_capacity": 0, "part_bytes": 1000}),
        ))
        .await;
    let id = &plan["snapshot_id"];
    let event = json!({"snapshot_id": id, "segment": 0});
    let (one, other) = tokio::join!(
        stack.scan.invoke(event.clone(), LONG),
        stack.scan.invoke(event.clone(), LONG)
    );
    let done: Value = json!({"snapshot_id": id, "segment": 0, "done": true});
    assert_eq!((one.unwrap(), other.unwrap()), (done.clone(), done));
    assert_eq!(stack.scan.starts(), 2);
    assert_eq!(stack.finalize(id).await.unwrap()["status"], "completed");
    let parts = account.assert_backed_up(id.as_str().unwrap()).await;
    // Every part was committed once, by whoever created it or found it.
    let log = stack.scan.output();
    let told = log.matches("part committed").count() + log.matches("attempt adopted").count();
    assert_eq!(told as u64, parts);
}
