//! What the deployed programs tell: every line of their logs is one JSON object with its ids, and their metrics add up to
//! what the reports say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_testkit::clients;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::faults::{Fault, Rule};
use serde_json::{Value, json};

use super::account::{Account, BUCKET, LONG, PREFIX, Stack, TABLE, at_once, event, request};
use super::restore_stack::RestoreStack;
use super::told_lines::{assert_ids, assert_sums, documents, eventually, lines, sums, watched};

fn stack_of(environment: &[(String, String)]) -> Stack {
    let function = |name| watched(name, environment.to_vec());
    Stack {
        plan: function("plan-backup"),
        scan: function("scan-segment"),
        finalize: function("finalize-backup"),
        limit: LONG,
    }
}

/// The sums of a backup as its `backup.json` has them; what a scan has done is told by `scan`.
fn of_backup(metadata: &Value) -> Vec<(&'static str, f64)> {
    let number = |value: &Value| value.as_f64().unwrap();
    let scan = &metadata["scan"];
    vec![
        ("ItemsRead", number(&scan["scanned"])),
        (
            "ItemsSkipped",
            number(&scan["scanned"]) - number(&scan["items"]),
        ),
        ("ReadCapacity", number(&scan["consumed_capacity"])),
        ("Throttles", number(&scan["throttles"])),
        ("ItemsWritten", number(&metadata["item_count"])),
        ("BytesWritten", number(&metadata["compressed_bytes"])),
        ("PartsWritten", number(&metadata["part_count"])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_of_a_backup_are_its_report() {
    let account = Account::with_items(1500).await;
    let trouble = FaultProxy::start(account.dynamodb.endpoint_url(), 7)
        .await
        .unwrap();
    trouble.inject(Rule::rate(Fault::Throttle, 0.3).on("Scan"));
    let mut environment = account.environment();
    let endpoint = trouble.endpoint_url().to_owned();
    environment.push(("AWS_ENDPOINT_URL_DYNAMODB".into(), endpoint));
    let stack = stack_of(&environment);
    let more = json!({
        "segments": 9, "concurrency": 1, "read_capacity": 0,
        "filter": "#s = :open", "names": {"#s": "status"}, "values": {":open": {"S": "open"}},
    });
    let output = stack.execute(request(more), at_once()).await.unwrap();
    let id = output["snapshot_id"].as_str().unwrap();
    let metadata = account.metadata(id).await;
    let expected = of_backup(&metadata);
    for (name, value) in &expected {
        assert!(*value > 0.0, "{name}: the run shows nothing of it");
    }
    assert_sums(&[&stack.scan], &expected).await;
    assert_sums(&[&stack.plan], &[]).await;
    assert_sums(&[&stack.finalize], &[("BackupsCompleted", 1.0)]).await;
    for function in [&stack.plan, &stack.scan, &stack.finalize] {
        assert_ids(function, &[("snapshot", json!(id))]);
    }
    for document in documents(&stack.scan) {
        assert_eq!(document["Table"], TABLE);
        assert!(document["segment"].is_u64(), "{document}");
    }
    let of_pages = lines(&stack.scan).into_iter();
    let retries: Vec<Value> = of_pages
        .filter(|line| line["message"] == "request failed, trying again")
        .collect();
    assert!(!retries.is_empty());
    for line in retries {
        // Pages are fetched by tasks of their own, and are the invocation's all the same.
        assert_eq!(
            (&line["table"], &line["level"]),
            (&json!(TABLE), &json!("WARN"))
        );
    }
}

/// Numbers are counted where work is done: what one invocation leaves to the next is counted by the next.
#[tokio::test(flavor = "multi_thread")]
async fn invocations_that_hand_over_to_each_other_add_up() {
    let account = Account::with_items(1200).await;
    let stack = stack_of(&account.environment());
    let plan = json!({"segments": 1, "concurrency": 1, "read_capacity": 6, "part_bytes": 10_000});
    let plan = stack.plan(request(plan)).await;
    let id = plan["snapshot_id"].as_str().unwrap();
    let mut event = json!({"snapshot_id": id, "segment": 0});
    let mut invocations = 1;
    loop {
        let limit = Duration::from_secs(4);
        let answer = stack.scan.invoke(event, limit).await.unwrap();
        if answer["done"] == true {
            break;
        }
        invocations += 1;
        event = json!({"snapshot_id": id, "segment": 0});
    }
    assert!(invocations >= 3, "{invocations}");
    stack.finalize(&plan["snapshot_id"]).await.unwrap();
    let expected: BTreeMap<&str, f64> =
        of_backup(&account.metadata(id).await).into_iter().collect();
    eventually(|| {
        let sums = sums(&[&stack.scan]);
        for name in ["ItemsWritten", "BytesWritten", "PartsWritten"] {
            if sums.get(name) != Some(&expected[name]) {
                return Err(format!("{name}: {sums:?} {expected:?}"));
            }
        }
        // A page that nobody waited for any more was read all the same.
        let more = sums["ItemsRead"] >= expected["ItemsRead"];
        more.then_some(()).ok_or(format!("{sums:?} {expected:?}"))
    })
    .await;
    let requests: BTreeSet<String> = documents(&stack.scan)
        .iter()
        .map(|it| it["request_id"].to_string())
        .collect();
    assert_eq!(requests.len(), invocations, "each has told its own");
}

fn restore_stack(account: &Account) -> RestoreStack {
    let function = |name| watched(name, account.environment());
    RestoreStack {
        plan: function("plan-restore"),
        scatter: function("scatter-log"),
        fold: function("fold-log"),
        load: function("load-part"),
        finalize: function("finalize-restore"),
        limit: LONG,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_of_restores_are_their_reports() {
    let account = Account::with_items(700).await;
    let more = json!({"segments": 3, "concurrency": 1, "part_bytes": 8000, "read_capacity": 0});
    let backup = account.deploy().execute(request(more), at_once()).await;
    let id = backup.unwrap()["snapshot_id"].as_str().unwrap().to_owned();
    let stack = restore_stack(&account);
    let mut sums = BTreeMap::new();
    // The second finds every item there.
    for more in [
        json!({}),
        json!({"into_existing": true, "on_existing": "skip"}),
    ] {
        let mut request = json!({
            "backup": format!("s3://{BUCKET}/{PREFIX}/{TABLE}/AWSDynamoDB/{id}"),
            "to": "orders-restored", "concurrency": 1, "write_capacity": 0,
        });
        let more = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(more);
        let output = stack.execute(request, at_once()).await.unwrap();
        let totals = &output["totals"];
        for (metric, members) in [
            ("RestoreItemsWritten", &["written"][..]),
            (
                "RestoreItemsSkipped",
                &["existing", "filtered", "superseded"],
            ),
            ("RestoreItemsRejected", &["rejected"]),
            ("WriteCapacity", &["consumed_capacity"]),
            ("Throttles", &["throttles"]),
        ] {
            let values = members.iter().map(|name| totals[*name].as_f64().unwrap());
            *sums.entry(metric).or_insert(0.0) += values.sum::<f64>();
        }
    }
    assert_eq!(
        (sums["RestoreItemsWritten"], sums["RestoreItemsSkipped"]),
        (700.0, 700.0)
    );
    assert!(sums["WriteCapacity"] > 0.0);
    let expected: Vec<(&str, f64)> = sums.into_iter().collect();
    assert_sums(&[&stack.load], &expected).await;
    assert_sums(&[&stack.finalize], &[("RestoresCompleted", 2.0)]).await;
    for document in documents(&stack.load) {
        assert_eq!(document["Table"], "orders-restored");
        assert!(document["file"].is_u64() && document["restore"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_executions_and_rejected_items_are_counted() {
    let account = Account::with_items(0).await;
    let text = "{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n{\"Item\":{\"pk\":{\"N\":\"1\"}}}\n";
    let s3 = clients::s3(account.s3.endpoint_url());
    let body = text.as_bytes().to_vec().into();
    let put = s3.put_object().bucket(BUCKET).key("lines.json").body(body);
    put.send().await.unwrap();
    let stack = restore_stack(&account);
    let request = json!({
        "backup": format!("s3://{BUCKET}/lines.json"), "to": "orders-restored", "key": "pk:S",
        "rejects": format!("s3://{BUCKET}/rejects"), "write_capacity": 0,
    });
    let failed = stack.execute(request, at_once()).await.unwrap_err();
    assert_eq!(failed.error, "ItemRejected", "{failed:?}");
    assert_sums(&[&stack.finalize], &[("RestoresFailed", 1.0)]).await;
    eventually(|| {
        let sums = sums(&[&stack.load]);
        let counts = ["RestoreItemsWritten", "RestoreItemsRejected"].map(|name| sums.get(name));
        (counts == [Some(&1.0); 2])
            .then_some(())
            .ok_or(format!("{sums:?}"))
    })
    .await;

    let finalize = watched("finalize-backup", account.environment());
    let abandoned = event("finalize-backup/abandoned");
    finalize.invoke(abandoned, LONG).await.unwrap();
    assert_sums(&[&finalize], &[("BackupsFailed", 1.0)]).await;
    assert_eq!(documents(&finalize)[0]["Table"], TABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_log_keeps_its_ids_and_its_metrics() {
    let account = Account::with_items(50).await;
    let mut environment = account.environment();
    environment.push(("HIGHWATER_LOG".into(), "warn".into()));
    let mut stack = stack_of(&environment);
    environment.push(("AWS_LAMBDA_LOG_LEVEL".into(), "ERROR".into()));
    stack.finalize = watched("finalize-backup", environment);
    account
        .s3
        .inject(Rule::rate(Fault::ServerError, 0.2).on("PutObject"));
    let more = json!({"segments": 1, "concurrency": 1, "read_capacity": 0});
    stack.execute(request(more), at_once()).await.unwrap();
    eventually(|| {
        let read = sums(&[&stack.scan]).get("ItemsRead").copied();
        (read == Some(50.0))
            .then_some(())
            .ok_or(format!("{read:?}"))
    })
    .await;
    for line in lines(&stack.scan) {
        assert!(
            line["_aws"].is_object() || line["level"] == "WARN",
            "{line}"
        );
    }
    let warned = stack.finalize.output();
    assert!(
        warned.contains("Lambda drops this function's metrics"),
        "{warned}"
    );
}
