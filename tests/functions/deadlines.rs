//! Work that outlives an invocation is handed to the next one, before the deadline kills it.

use std::time::Duration;

use highwater_testkit::faults::{Fault, Rule};
use serde_json::json;

use super::account::{Account, LONG, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_outlives_its_invocations_goes_on_where_it_stopped() {
    let account = Account::with_items(2000).await;
    let mut stack = account.deploy();
    // The table is some 100 units large, strongly consistent: ten seconds of them.
    let plan = json!({"segments": 1, "concurrency": 1, "read_capacity": 9, "part_bytes": 10_000});
    let plan = stack.plan(request(plan)).await;
    let id = &plan["snapshot_id"];
    let mut event = json!({"snapshot_id": id, "segment": 0});
    let mut handed_off = 0;
    loop {
        // An error here is a process that was killed at its deadline.
        let answer = stack
            .scan
            .invoke(event, Duration::from_secs(4))
            .await
            .unwrap();
        if answer["done"] == true {
            break;
        }
        handed_off += 1;
        assert!(handed_off < 20, "the scan does not come forward");
        event = json!({"snapshot_id": answer["snapshot_id"], "segment": answer["segment"]});
    }
    assert!(handed_off >= 2, "{handed_off} invocations ran out of time");
    assert_eq!(stack.scan.starts(), 1, "one process served all of them");
    stack.limit = LONG;
    assert_eq!(stack.finalize(id).await.unwrap()["status"], "completed");
    account.assert_backed_up(id.as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_outlives_its_invocations_goes_on_where_it_stopped() {
    let account = Account::with_items(6000).await;
    let mut stack = account.deploy();
    let plan = stack
        .plan(request(
            json!({"segments": 2, "read_capacity": 0, "part_bytes": 1000}),
        ))
        .await;
    let id = &plan["snapshot_id"];
    let scan = async |segment: u32| {
        let event = json!({"snapshot_id": id, "segment": segment});
        let answer = stack.scan.invoke(event, LONG).await.unwrap();
        assert_eq!(answer["done"], true);
    };
    tokio::join!(scan(0), scan(1));
    account
        .s3
        .inject(Rule::rate(Fault::Delay(100), 1.0).on("HeadObject"));
    stack.limit = Duration::from_secs(6);
    let mut handed_off = 0;
    loop {
        let answer = stack.finalize(id).await.unwrap();
        if answer["done"] == true {
            assert_eq!(answer["status"], "completed");
            break;
        }
        assert_eq!(answer["status"], "running");
        handed_off += 1;
        assert!(handed_off < 20, "the check does not come forward");
    }
    assert!(handed_off >= 1, "no invocation ran out of time");
    assert_eq!(stack.finalize.starts(), 1, "one process served all of them");
    let parts = account.assert_backed_up(id.as_str().unwrap()).await;
    let looked_at = account.s3.count(Fault::Delay(100));
    assert!(looked_at >= parts, "{looked_at} of {parts}");
    assert!(
        looked_at < 2 * parts,
        "{looked_at}: no round begins at the first part again"
    );
}
