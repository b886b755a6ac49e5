//! The restore's deployed definition, walked over its deployed programs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, StreamSpecification, StreamViewType};
use highwater_asl::{Event, Options};
use highwater_domain::budget::Clock as _;
use highwater_domain::mark::UnixSeconds;
use highwater_lambda::SystemClock;
use highwater_local::StreamShape;
use highwater_testkit::canonical::canonical;
use highwater_testkit::clients;
use serde_json::{Value, json};

use super::account::{Account, BUCKET, LONG, PREFIX, TABLE, at_once, event, request};
use super::restore_stack::RestoreStack;

const TARGET: &str = "orders-restored";

/// An account with a backup of `items` items in small parts; gives the backup's URL, too.
async fn backed_up(items: u64) -> (Account, String) {
    let account = Account::with_items(items).await;
    let stack = account.deploy();
    let request =
        request(json!({"segments": 4, "concurrency": 4, "part_bytes": 8000, "read_capacity": 0}));
    let output = stack.execute(request, at_once()).await.unwrap();
    let id = output["snapshot_id"].as_str().unwrap();
    let url = format!("s3://{BUCKET}/{PREFIX}/{TABLE}/AWSDynamoDB/{id}");
    (account, url)
}

fn restore(backup: &str, more: Value) -> Value {
    let mut request =
        json!({"backup": backup, "to": TARGET, "rejects": format!("s3://{BUCKET}/rejects")});
    let Value::Object(more) = more else {
        panic!("members")
    };
    request.as_object_mut().unwrap().extend(more);
    request
}

/// Every item of a table, canonical and sorted.
async fn items(account: &Account, table: &str) -> Vec<String> {
    let client = clients::dynamodb(account.dynamodb.endpoint_url());
    let scanner = highwater_aws::DynamoScanner::new(client);
    let request = highwater_testkit::fake_table::scan_request(table, 0, 1);
    let items = highwater_testkit::fake_table::scan_segment(&scanner, request);
    let mut items: Vec<String> = items
        .await
        .unwrap()
        .iter()
        .map(|item| canonical(item).to_string())
        .collect();
    items.sort_unstable();
    items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_table_holds_every_item_of_the_backup() {
    let (account, backup) = backed_up(2000).await;
    let stack = RestoreStack::of(&account);
    let output = stack
        .execute(restore(&backup, json!({"concurrency": 3})), at_once())
        .await
        .unwrap();
    assert_eq!(output["status"], "completed");
    assert_eq!(output["totals"]["read"], 2000);
    assert_eq!(output["totals"]["written"], 2000);
    assert!(items(&account, TARGET).await == items(&account, TABLE).await);
    assert!(
        (1..=3).contains(&stack.load.starts()),
        "no more workers than asked for"
    );

    let again = stack
        .execute(restore(&backup, json!({})), at_once())
        .await
        .unwrap_err();
    assert_eq!(again.error, "TableExists", "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_loads_are_retried_and_lose_nothing() {
    let (account, backup) = backed_up(2000).await;
    let stack = RestoreStack::of(&account);
    let retried: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&retried);
    let options = Options {
        observer: Some(Arc::new(move |event| {
            if let Event::Retrying { state, failure, .. } = event {
                seen.lock()
                    .unwrap()
                    .push(format!("{state}: {}", failure.error));
            }
        })),
        ..at_once()
    };
    let killing = async {
        stack.load.wrote("file loaded").await;
        stack.load.kill().await
    };
    let request = restore(&backup, json!({"concurrency": 2}));
    let mut execution = Box::pin(stack.execute(request, options));
    let killed = tokio::select! {
        ended = &mut execution => panic!("it ended before it could be killed: {ended:?}"),
        killed = killing => killed,
    };
    let output = execution.await.unwrap();
    assert_eq!(output["totals"]["written"], 2000, "{output}");
    assert!(killed >= 1);
    let retried = retried.lock().unwrap().clone();
    assert!(
        !retried.is_empty()
            && retried
                .iter()
                .all(|line| line == "LoadPart: Runtime.ExitError"),
        "{retried:?}"
    );
    assert!(items(&account, TARGET).await == items(&account, TABLE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_invocations_hand_over_to_each_other() {
    let (account, backup) = backed_up(1500).await;
    let mut stack = RestoreStack::of(&account);
    stack.limit = Duration::from_secs(4);
    let request = restore(&backup, json!({"concurrency": 1, "write_capacity": 200}));
    let rounds: Arc<Mutex<u32>> = Arc::default();
    let seen = Arc::clone(&rounds);
    let options = Options {
        observer: Some(Arc::new(move |event| {
            if let Event::Entered {
                state: "LoadPart", ..
            } = event
            {
                *seen.lock().unwrap() += 1;
            }
        })),
        ..at_once()
    };
    let output = stack.execute(request, options).await.unwrap();
    assert_eq!(output["totals"]["written"], 1500);
    assert!(*rounds.lock().unwrap() > 1, "it was done in one invocation");
    assert!(items(&account, TARGET).await == items(&account, TABLE).await);
}

/// The sample events, as they stand, over a backup of the id that they name.
#[tokio::test(flavor = "multi_thread")]
async fn the_sample_events_make_a_restore() {
    let account = Account::with_items(300).await;
    let backup = account.deploy();
    let plan = backup
        .plan
        .invoke(event("plan-backup/first"), LONG)
        .await
        .unwrap();
    for segment in plan["segments"].as_array().unwrap() {
        let mut scan = event("scan-segment/first");
        scan["segment"] = segment.clone();
        backup.scan.invoke(scan, LONG).await.unwrap();
    }
    backup
        .finalize
        .invoke(event("finalize-backup/first"), LONG)
        .await
        .unwrap();

    let stack = RestoreStack::of(&account);
    let plan = stack
        .plan
        .invoke(event("plan-restore/first"), LONG)
        .await
        .unwrap();
    assert_eq!(plan["files"], json!([0, 1, 2, 3]));
    let again = stack
        .plan
        .invoke(event("plan-restore/first"), LONG)
        .await
        .unwrap();
    assert_eq!(again, plan, "a second attempt finds the plan of the first");
    for file in plan["files"].as_array().unwrap() {
        let mut load = event("load-part/first");
        load["file"] = file.clone();
        let answer = stack.load.invoke(load, LONG).await.unwrap();
        assert_eq!(answer["done"], true);
    }
    for file in ["first", "failed", "abandoned", "first"] {
        let sample = event(&format!("finalize-restore/{file}"));
        let answer = stack.finalize.invoke(sample, LONG).await.unwrap();
        assert_eq!(
            (&answer["done"], &answer["status"]),
            (&json!(true), &json!("completed")),
            "{file}"
        );
        assert_eq!(answer["totals"]["written"], 300);
    }
    assert!(items(&account, TARGET).await == items(&account, TABLE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_items_end_the_execution_as_failed_and_are_kept() {
    let account = Account::with_items(0).await;
    let lines = "{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n{\"Item\":{\"pk\":{\"N\":\"1\"}}}\n";
    let s3 = clients::s3(account.s3.endpoint_url());
    s3.put_object()
        .bucket(BUCKET)
        .key("lines.json")
        .body(lines.as_bytes().to_vec().into())
        .send()
        .await
        .unwrap();
    let stack = RestoreStack::of(&account);
    let request = restore(&format!("s3://{BUCKET}/lines.json"), json!({"key": "pk:S"}));
    let failed = stack.execute(request, at_once()).await.unwrap_err();
    assert_eq!(failed.error, "ItemRejected", "{failed:?}");
    assert_eq!(items(&account, TARGET).await.len(), 1);
    let kept = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("rejects/")
        .send()
        .await
        .unwrap();
    assert_eq!(kept.contents().len(), 1);
}

/// The account with a stream on its table, as its owner enabled it.
async fn streaming() -> Account {
    let account = Account::with_streams(StreamShape::default()).await;
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages);
    let client = clients::dynamodb(account.dynamodb.endpoint_url());
    let update = client.update_table().table_name(TABLE);
    let update = update.stream_specification(stream.build().unwrap());
    update.send().await.unwrap();
    account
}

/// Inserts, changes and removes, all within one second; gives the second, and what the table was then.
async fn burst(account: &Account, round: u64) -> (UnixSeconds, Vec<String>) {
    let client = clients::dynamodb(account.dynamodb.endpoint_url());
    let now = || SystemClock.now().0;
    loop {
        tokio::time::sleep(Duration::from_millis(1050 - now() % 1000)).await;
        let second = now() / 1000;
        for n in 0..24 {
            let key = AttributeValue::S(format!("key-{}", (n * 5 + round) % 30));
            if (n + round) % 5 == 4 {
                let delete = client.delete_item().table_name(TABLE).key("pk", key);
                delete.send().await.unwrap();
                continue;
            }
            let put = client.put_item().table_name(TABLE).item("pk", key);
            let round = AttributeValue::N(format!("{round}{n:02}"));
            put.item("n", round).send().await.unwrap();
        }
        if now() / 1000 == second {
            return (UnixSeconds(second), items(account, TABLE).await);
        }
        // A slow machine: the next second's attempt writes the same again.
    }
}

/// Has the auditor write the log, until it says that all of it is complete up to `until`.
async fn logged(account: &Account, until: UnixSeconds) {
    let mut environment = account.environment();
    let more = [
        ("HIGHWATER_LOG_TO", format!("s3://{BUCKET}/{PREFIX}")),
        ("HIGHWATER_TABLES", TABLE.to_owned()),
        ("HIGHWATER_PUBLICATION_DELAY", "1".to_owned()),
    ];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let audit = Account::function_with("audit-stream", environment);
    let mut last = Value::Null;
    for _ in 0..20 {
        let answer = audit
            .invoke(event("audit-stream/first"), LONG)
            .await
            .unwrap();
        let mark = answer["tables"][0]["mark"]["assumed"].as_u64();
        if mark.is_some_and(|mark| mark >= until.0) {
            return;
        }
        last = answer;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the mark never came to {until:?}: {last}");
}

/// The second as a new snapshot, which is restored then like any other.
async fn assert_materialized(
    account: &Account,
    stack: &RestoreStack,
    folder: &str,
    second: &(UnixSeconds, Vec<String>),
) {
    let (at, truth) = second;
    let states = format!("s3://{BUCKET}/states");
    let made = json!({
        "backup": folder, "at": at.to_rfc3339(), "stamp_margin_s": 0, "materialize": {"to": states},
    });
    let made = stack.execute(made, at_once()).await.unwrap();
    let id = made["restore_id"].as_str().unwrap();
    let made = format!("{states}/{TABLE}/AWSDynamoDB/{id}");
    let again = json!({"to": format!("{TARGET}-again")});
    stack
        .execute(restore(&made, again), at_once())
        .await
        .unwrap();
    assert!(items(account, &format!("{TARGET}-again")).await == *truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_is_restored_by_the_deployed_functions() {
    let account = streaming().await;
    burst(&account, 0).await;
    let more = json!({
        "segments": 2, "concurrency": 2, "part_bytes": 1000, "read_capacity": 0,
        "with_stream": true, "settle_seconds": 0,
    });
    account
        .deploy()
        .execute(request(more), at_once())
        .await
        .unwrap();
    let mut truths = Vec::new();
    for round in 1..4 {
        truths.push(burst(&account, round).await);
    }
    logged(&account, UnixSeconds(truths[2].0.0 + 1)).await;

    let stack = RestoreStack::of(&account);
    let folder = format!("s3://{BUCKET}/{PREFIX}/{TABLE}");
    for (n, (at, truth)) in truths.iter().enumerate() {
        let target = format!("{TARGET}-{n}");
        let more =
            json!({"at": at.to_rfc3339(), "stamp_margin_s": 0, "to": target, "concurrency": 3});
        let output = stack
            .execute(restore(&folder, more), at_once())
            .await
            .unwrap();
        assert_eq!(output["status"], "completed");
        assert!(
            output["totals"]["superseded"].as_u64().unwrap() > 0,
            "{output}"
        );
        assert!(items(&account, &target).await == *truth, "at {at:?}");
    }
    assert!(stack.scatter.starts() > 0 && stack.fold.starts() > 0);

    assert_materialized(&account, &stack, &folder, &truths[1]).await;

    let left = clients::s3(account.s3.endpoint_url()).list_objects_v2();
    let left = left
        .bucket(BUCKET)
        .prefix(format!("{PREFIX}/{TABLE}/restores/"));
    assert_eq!(
        left.send().await.unwrap().contents(),
        [],
        "what lay between is gone"
    );

    let late = json!({"at": "2126-01-14T10:18:50Z", "to": "never"});
    let refused = stack
        .execute(restore(&folder, late), at_once())
        .await
        .unwrap_err();
    assert_eq!(refused.error, "NotRestorable", "{refused:?}");
}
