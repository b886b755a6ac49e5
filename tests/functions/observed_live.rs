//! What the live side's programs tell: their metrics add up to what is in the log, and a loss is told until it is healed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Clock as _;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::ROLL_MARGIN_SECONDS;
use highwater_domain::object_store::ObjectStore;
use highwater_lambda::SystemClock;
use highwater_testkit::runtime_api::Function;
use serde_json::{Value, json};

use super::account::{BUCKET, LONG, PREFIX, TABLE, at_once, event, request};
use super::live_account::{Live, audited};
use super::local_mapping::Mischief;
use super::told_lines::{assert_sums, documents, eventually, lines, sums, watched};

/// How many objects the table's log has, and their bytes.
async fn stored(live: &Live) -> (f64, f64) {
    let store = live.account.clients().await.s3_store(BUCKET);
    let label = live.stream_arn.rsplit('/').next().unwrap();
    let folder = LogPlace::new(PREFIX, TABLE).stream(label);
    let page = store.list(&folder, None).await.unwrap();
    assert!(page.next.is_none());
    let of_log = page.objects.iter();
    let sizes: Vec<f64> = of_log
        .filter(|object| object.key.ends_with(".jsonl.zst"))
        .map(|object| object.bytes as f64)
        .collect();
    (sizes.len() as f64, sizes.iter().sum())
}

fn live_function(live: &Live, name: &str) -> Function {
    let mut environment = live.account.environment();
    let more = [
        ("HIGHWATER_LOG_TO", format!("s3://{BUCKET}/{PREFIX}")),
        ("HIGHWATER_TABLES", TABLE.to_owned()),
        ("HIGHWATER_PUBLICATION_DELAY", "2".to_owned()),
    ];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
    watched(name, environment)
}

/// The gauges of an audit, from the last document that has them and is not one of so many earlier ones.
async fn gauges(audit: &Function, told_before: usize) -> [f64; 3] {
    eventually(|| {
        let marks = marks(audit);
        let last = marks.get(told_before..).and_then(<[Value]>::last);
        last.map(|it| {
            ["MarkLag", "RestorableUntil", "UnhealedGaps"].map(|name| it[name].as_f64().unwrap())
        })
        .ok_or("no audit has told its mark".to_owned())
    })
    .await
}

fn marks(audit: &Function) -> Vec<Value> {
    let documents = documents(audit).into_iter();
    documents
        .filter(|it| it.get("UnhealedGaps").is_some())
        .collect()
}

/// How many audits have told their mark, once all of them have.
async fn marks_told(audit: &Function) -> usize {
    eventually(|| {
        let invoked = lines(audit).into_iter();
        let invoked = invoked.filter(|it| it["message"] == "invoked").count();
        let told = marks(audit).len();
        (told == invoked)
            .then_some(told)
            .ok_or(format!("{told} of {invoked}"))
    })
    .await
}

/// Audits until nothing is left: what the audits filled in, the last mark, and how many told one before the last.
async fn audited_to_the_end(audit: &Function) -> (u64, PublishedMark, usize) {
    let mut filled = 0;
    for round in 1..20 {
        let mut report = audited(audit).await;
        let table = report.tables.remove(0).report;
        filled += table.back_filled;
        if report.done {
            return (filled, table.mark.unwrap(), round);
        }
    }
    panic!("the audit does not come to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_of_the_live_side_are_what_is_in_the_log() {
    const RECORDS: u64 = 600;
    let live = Live::start().await;
    let consume = Arc::new(live_function(&live, "consume-stream"));
    let audit = live_function(&live, "audit-stream");
    audited(&audit).await;
    // What the mapping drops the audit has to fill in.
    let mischief = Mischief {
        discarded: 40,
        ..Mischief::default()
    };
    let mut mapping = live.mapping(&consume, mischief, 5).await;
    live.write(RECORDS, 6).await;
    mapping.run(|| true).await;
    assert!(mapping.deliveries.discarded > 0, "{:?}", mapping.deliveries);
    let (filled, mark, told_before) = audited_to_the_end(&audit).await;
    assert!(filled > 0);
    let (objects, bytes) = stored(&live).await;
    let expected: BTreeMap<&str, f64> = [
        ("RecordsLogged", RECORDS as f64),
        ("LogObjects", objects),
        ("LogBytes", bytes),
        ("BatchFailures", 0.0),
        ("RecordsUnread", 0.0),
        ("RecordsBackfilled", filled as f64),
    ]
    .into();
    eventually(|| {
        let sums = sums(&[&consume, &audit]);
        let wrong = expected
            .iter()
            .find(|(name, value)| sums.get(**name) != Some(*value));
        wrong.map_or(Ok(()), |wrong| Err(format!("{wrong:?}: {sums:#?}")))
    })
    .await;
    let [lag, until, unhealed] = gauges(&audit, told_before).await;
    let best = mark.mark.best().unwrap().0;
    assert!((until - best as f64).abs() < f64::EPSILON, "{until} {best}");
    assert!((lag - (mark.computed_at.0 as f64 / 1000.0 - until)).abs() < 1e-3);
    assert!(unhealed.abs() < f64::EPSILON);
    assert_live_ids(&consume, &audit);
}

/// The poison sample as a batch of this stream. What its record may have been about is over in so many seconds.
fn unreadable(live: &Live, over_in: u64) -> Value {
    let stamp = SystemClock.now().0 / 1000 + over_in - ROLL_MARGIN_SECONDS;
    let text = event("consume-stream/unreadable").to_string();
    let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-14T10:02:11.204";
    let text = text.replace(arn, &live.stream_arn);
    let text = text.replace("1768385952", &stamp.to_string());
    serde_json::from_str(&text).unwrap()
}

/// A record that cannot be understood is a loss until the next backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_told_until_a_backup_heals_it() {
    const OVER_IN: u64 = 3;
    let live = Live::start().await;
    let consume = live_function(&live, "consume-stream");
    let audit = live_function(&live, "audit-stream");
    audited(&audit).await;
    live.write(20, 7).await;
    consume
        .invoke(unreadable(&live, OVER_IN), LONG)
        .await
        .unwrap();
    let expected = [("RecordsUnread", 1.0), ("RecordsLogged", 2.0)];
    eventually(|| {
        let sums = sums(&[&consume]);
        let told = expected
            .iter()
            .all(|(name, value)| sums.get(*name) == Some(value));
        told.then_some(()).ok_or(format!("{sums:?}"))
    })
    .await;
    let unhealed = async |before: usize| {
        audited(&audit).await;
        let [_, _, unhealed] = gauges(&audit, before).await;
        unhealed
    };
    let before = marks_told(&audit).await;
    assert!((unhealed(before).await - 1.0).abs() < f64::EPSILON);
    // A handoff heals what was over before it was captured.
    tokio::time::sleep(Duration::from_secs(OVER_IN + 1)).await;
    let more = json!({"segments": 1, "read_capacity": 0, "with_stream": true, "settle_seconds": 0});
    let backup = live.account.deploy();
    backup.execute(request(more), at_once()).await.unwrap();
    let before = marks_told(&audit).await;
    assert!(unhealed(before).await.abs() < f64::EPSILON);
}

/// Lines about a shard name it, whoever reads it.
fn assert_live_ids(consume: &Function, audit: &Function) {
    let lines_of = |function, message: &str| -> Vec<Value> {
        let lines = lines(function).into_iter();
        lines.filter(|line| line["message"] == message).collect()
    };
    for line in documents(consume) {
        assert!(line["shard"].is_string(), "{line}");
        assert_eq!(line["Table"], TABLE);
    }
    let logged = [
        lines_of(consume, "batch logged"),
        lines_of(audit, "records logged"),
    ];
    for line in logged.iter().flatten() {
        assert!(line["shard"].is_string(), "{line}");
        assert_eq!(line["table"], TABLE, "{line}");
    }
    assert!(logged.iter().all(|lines| !lines.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_table_can_be_told_of_is_the_stacks() {
    let live = Live::start().await;
    let consume = live_function(&live, "consume-stream");
    for event in [json!({"Records": "secret"}), json!({"Records": [{}]})] {
        let error = consume.invoke(event, LONG).await.unwrap_err();
        assert_eq!(error.error_type, "InvalidInput");
    }
    let expected = [
        ("BatchFailures", 2.0),
        ("LogBytes", 0.0),
        ("LogObjects", 0.0),
        ("RecordsLogged", 0.0),
        ("RecordsUnread", 0.0),
    ];
    assert_sums(&[&consume], &expected).await;
    for document in documents(&consume) {
        let directive = &document["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([["Stack"]]));
    }
    assert!(!consume.output().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_written_counts_as_a_failure() {
    let live = Live::start().await;
    let mut environment = live.account.environment();
    environment.push(("HIGHWATER_LOG_TO".into(), "s3://no-such-bucket/live".into()));
    let consume = watched("consume-stream", environment);
    let sample = event("consume-stream/window");
    let answer = consume
        .invoke(sample, Duration::from_secs(8))
        .await
        .unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1);
    let expected = [
        ("BatchFailures", 1.0),
        ("LogBytes", 0.0),
        ("LogObjects", 0.0),
        ("RecordsLogged", 0.0),
        ("RecordsUnread", 0.0),
    ];
    assert_sums(&[&consume], &expected).await;
    for document in documents(&consume) {
        assert_eq!(document["Table"], TABLE);
    }
}
