//! Where local engines lie or fall short of Lambda, and what becomes of our work there: nothing is lost, nothing turns in a
//! circle, and no fault of ours is hidden.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_domain::lineage::Position;
use highwater_domain::stream_source::{StartAt, StreamSource};
use highwater_lambda::{Ids, InvocationObserver, Observed, Subject, serve, serve_stream};
use highwater_steps::consume_stream::ConsumeOutput;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::runtime_api::{Function, FunctionSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, LONG, event, request};
use super::live_account::{Live, audited};

// ---- A mapping that takes a partial failure for success (ministack 1.5.33) ----

/// Delivers every record of the stream once, in batches, and never looks at an answer. Gives the batches that were answered
/// with a failure, and the sequence numbers of all records.
async fn deliver_deafly(live: &Live, function: &Function) -> (usize, BTreeSet<String>) {
    let source: Arc<dyn StreamSource> = Arc::new(live.account.clients().await.stream_source());
    let listing = source.listing(&live.stream_arn).await.unwrap();
    let (mut failed, mut numbers) = (0, BTreeSet::new());
    for shard in listing.shards {
        let start = StartAt::Position(Position::At(shard.start));
        let iterator = source
            .iterator(&live.stream_arn, &shard.id, &start)
            .await
            .unwrap();
        let page = source.records(&iterator, 1000).await.unwrap();
        let records: Vec<Value> = page
            .records
            .iter()
            .map(|raw| {
                let mut record: Value = serde_json::from_slice(raw).unwrap();
                record["eventSourceARN"] = json!(live.stream_arn);
                record
            })
            .collect();
        for batch in records.chunks(20) {
            let told = batch
                .iter()
                .map(|it| it["dynamodb"]["SequenceNumber"].as_str().unwrap());
            numbers.extend(told.map(str::to_owned));
            let event = json!({
                "Records": batch, "state": {}, "shardId": shard.id, "eventSourceARN": live.stream_arn,
                "window": {"start": "2026-01-14T10:19:00Z", "end": "2026-01-14T10:20:00Z"},
                "isFinalInvokeForWindow": false, "isWindowTerminatedEarly": false,
            });
            let answer = function.invoke(event, Duration::from_secs(2)).await;
            let done = answer.is_ok_and(|answer| answer["batchItemFailures"] == json!([]));
            failed += usize::from(!done);
        }
    }
    (failed, numbers)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deaf_mapping_passes_over_the_audit_puts_into_the_log() {
    let live = Live::start().await;
    let audit = live.function("audit-stream");
    // The audit meets the log before anything is written to it.
    audited(&audit).await;
    live.write(200, 41).await;
    let consume = live.function("consume-stream");
    live.account
        .s3
        .inject(Rule::rate(Fault::ServerError, 0.75).on("PutObject"));
    let (failed, numbers) = deliver_deafly(&live, &consume).await;
    live.account.s3.clear();
    assert_eq!(numbers.len(), 200, "every change has its record");
    assert!(
        failed > 0,
        "no batch has failed, and this test shows nothing"
    );
    let logged = async || -> BTreeSet<String> {
        let records = live.log().await.into_values().flatten();
        records
            .map(|record| record.sequence_number.to_string())
            .collect()
    };
    let before = logged().await;
    assert!(
        before.len() < numbers.len(),
        "all is there, and this test shows nothing"
    );
    let mut filled = 0;
    while filled < 100 {
        let report = audited(&audit).await;
        filled += 1;
        if report.done {
            break;
        }
    }
    let after = logged().await;
    assert!(
        after == numbers,
        "{} of {} records",
        after.len(),
        numbers.len()
    );
}

// ---- A deadline that is a constant (cargo lambda watch 1.9.2) ----

/// Ten minutes into 1970.
const LONG_OVER: u64 = 600_000;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_deadline_in_1970_a_backup_comes_to_its_end() {
    let account = Account::with_items(600).await;
    let mut stack = account.deploy();
    let lied_to = |name: &str| account.function(name).telling_deadline(LONG_OVER);
    stack.plan = lied_to("plan-backup");
    stack.scan = lied_to("scan-segment");
    stack.finalize = lied_to("finalize-backup");
    let plan = request(json!({"segments": 2, "read_capacity": 0, "part_bytes": 1000}));
    let plan = stack.plan(plan).await;
    let id = &plan["snapshot_id"];
    for segment in 0..2 {
        let event = json!({"snapshot_id": id, "segment": segment});
        let answer = stack.scan.invoke(event, LONG).await.unwrap();
        assert_eq!(answer["done"], true, "handed on for ever: {answer}");
    }
    assert_eq!(stack.finalize(id).await.unwrap()["status"], "completed");
    account.assert_backed_up(id.as_str().unwrap()).await;
    stack.scan.wrote("a minute is assumed").await;
    assert!(
        stack.scan.output().contains("1970-01-01T00:10:00"),
        "{}",
        stack.scan.output()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_deadline_in_1970_a_batch_is_logged_and_an_audit_comes_forward() {
    let live = Live::start().await;
    let audit = live.function("audit-stream").telling_deadline(LONG_OVER);
    audited(&audit).await;
    live.write(60, 42).await;
    let consume = live.function("consume-stream").telling_deadline(LONG_OVER);
    let (failed, numbers) = deliver_deafly(&live, &consume).await;
    assert_eq!(
        (failed, numbers.len()),
        (0, 60),
        "a batch is written at once"
    );
    let report = audited(&audit).await;
    assert_eq!(report.tables[0].report.records, 60, "{report:?}");
}

// ---- A panic (cargo lambda build --release aborts on it, unless the profile says otherwise) ----

/// What the test program does as a function.
#[derive(Deserialize)]
struct Told {
    panic: Option<String>,
}

impl Subject for Told {
    fn ids(&self) -> Ids {
        Ids::default()
    }
}

#[derive(Clone)]
struct NoPorts;

impl Observed for NoPorts {
    fn observed_by(self, _: &Arc<InvocationObserver>) -> Self {
        self
    }
}

fn unless_told<T>(panic: Option<String>, answer: T) -> T {
    match panic {
        Some(text) => panic!("{text}"),
        None => answer,
    }
}

#[test]
#[ignore = "no test by itself: the one below runs it as its function, with --ignored --exact"]
fn bootstrap() {
    if std::env::var("AWS_LAMBDA_RUNTIME_API").is_err() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = match std::env::var("SERVES").as_deref() {
        Ok("batches") => runtime.block_on(serve_stream(NoPorts, |_, batch, _| async {
            Ok(unless_told(batch.shard_id, ConsumeOutput::default()))
        })),
        _ => runtime.block_on(serve(NoPorts, |_, told: Told, _| async {
            Ok(unless_told(told.panic, json!({"done": true})))
        })),
    };
    ended.unwrap();
}

/// The edge that all functions share, over a step that panics.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_with_its_text_and_the_next_event_is_served() {
    for (serves, member, answer) in [
        ("events", "panic", json!({"done": true})),
        ("batches", "shardId", json!({"batchItemFailures": []})),
    ] {
        let function = Function::new(FunctionSpec {
            name: "panicking".into(),
            bootstrap: std::env::current_exe().unwrap(),
            arguments: "functions::traps::bootstrap --exact --ignored --nocapture"
                .split(' ')
                .map(OsString::from)
                .collect(),
            memory_mb: 128,
            environment: vec![
                ("HIGHWATER_CONTROL_TABLE".into(), "control".into()),
                ("SERVES".into(), serves.into()),
            ],
        });
        let told = json!({member: "the sixth page of five"});
        let error = function.invoke(told, LONG).await.unwrap_err();
        assert_eq!(error.error_type, "Internal", "{serves}: {error}");
        assert!(
            error.message.contains("the sixth page of five"),
            "{serves}: {error}"
        );
        let next = function.invoke(json!({member: null}), LONG).await;
        assert_eq!(next, Ok(answer), "{serves}");
        assert_eq!(function.starts(), 1, "{serves}: the process lives on");
    }
}

/// An invocation with a true deadline is still ended before it: what is assumed is for those without.
#[tokio::test(flavor = "multi_thread")]
async fn a_true_deadline_is_kept() {
    let account = Account::with_items(1200).await;
    let stack = account.deploy();
    let plan = request(json!({"segments": 1, "read_capacity": 4, "part_bytes": 10_000}));
    let plan = stack.plan(plan).await;
    let began = Instant::now();
    let mut scan = event("scan-segment/first");
    scan["snapshot_id"] = plan["snapshot_id"].clone();
    let answer = stack
        .scan
        .invoke(scan, Duration::from_secs(4))
        .await
        .unwrap();
    assert_eq!(answer["done"], false);
    assert!(began.elapsed() < Duration::from_secs(4));
}
