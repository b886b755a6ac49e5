//! The live side as it is deployed: batches of a table's stream, doubled, cut anew and failed at random, through the
//! programs into the bucket, and the audit behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_domain::log_place::UNPLACED;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::audit_tables::AuditTablesReport;
use serde_json::{Value, json};

use super::account::{Account, BUCKET, LONG, PREFIX, event};
use super::live_account::{Live, Log, NASTY, audited, trouble};
use super::local_mapping::Mischief;

/// What a record says, however it is dressed.
fn said(record: &StreamRecord) -> Value {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    json!({
        "event": record.event_id(), "number": record.sequence_number, "change": format!("{:?}", record.change),
        "at": record.created_at, "keys": json(&record.keys),
        "new": record.new_image.as_deref().map(json), "old": record.old_image.as_deref().map(json),
    })
}

#[track_caller]
fn assert_same(log: &Log, truth: &Log) {
    let said_by = |log: &Log| -> BTreeMap<String, Vec<Value>> {
        let shards = log.iter().filter(|(shard, _)| shard.as_str() != UNPLACED);
        shards
            .map(|(shard, records)| (shard.to_string(), records.iter().map(said).collect()))
            .collect()
    };
    let (log, truth) = (said_by(log), said_by(truth));
    let counts = |log: &BTreeMap<String, Vec<Value>>| -> Vec<(String, usize)> {
        log.iter()
            .map(|(shard, records)| (shard.clone(), records.len()))
            .collect()
    };
    assert_eq!(counts(&log), counts(&truth));
    assert!(log == truth, "the log's records are not the stream's");
}

/// How many records: more where somebody has the time.
fn records() -> u64 {
    let set = std::env::var("HIGHWATER_TEST_RECORDS").ok();
    set.map_or(1500, |set| set.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_doubled_cut_anew_and_failed_at_random_are_one_log() {
    let live = Live::start().await;
    let function = Arc::new(live.function("consume-stream"));
    let mut mapping = live.mapping(&function, NASTY, 11).await;
    trouble(&live);
    let over = AtomicBool::new(false);
    let writing = async {
        live.write(records(), 12).await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(writing, mapping.run(|| over.load(Ordering::SeqCst)));
    live.account.s3.clear();
    let did = mapping.deliveries;
    assert!(
        did.doubled > 0 && did.killed > 0 && did.failed > 0,
        "{did:?}"
    );
    let truth = mapping.truth();
    let count: usize = truth.values().map(Vec::len).sum();
    assert_eq!(count as u64, records(), "every change has its record");
    assert_same(&live.log().await, &truth);
    assert!(
        !function.output().contains("key-"),
        "no item is in the function's own log"
    );
}

/// Lambda drops what has failed for a day, and batches without a window do not say where they belong: the audit finds what
/// the log lacks, fills it in, and says up to when the log is whole.
#[tokio::test(flavor = "multi_thread")]
async fn case_29_what_the_mapping_dropped_or_could_not_place_the_audit_fills_in() {
    let live = Live::start().await;
    let mischief = Mischief {
        discarded: 20,
        unplaced: 20,
        ..NASTY
    };
    let function = Arc::new(live.function("consume-stream"));
    let audit = live.function("audit-stream");
    let mut mapping = live.mapping(&function, mischief, 21).await;
    // The audit meets the log before anything is written to it.
    audited(&audit).await;
    live.write(records() / 2, 22).await;
    mapping.run(|| true).await;
    let did = mapping.deliveries;
    assert!(did.discarded > 0 && did.unplaced > 0, "{did:?}");
    let truth = mapping.truth();
    let before = live.log().await;
    let held = |log: &Log| -> usize {
        let shards = log.iter().filter(|(shard, _)| shard.as_str() != UNPLACED);
        shards.map(|(_, records)| records.len()).sum()
    };
    assert!(
        held(&before) < held(&truth),
        "the mapping has lost nothing, and this test shows nothing"
    );
    let mut filled = 0;
    loop {
        let report = audited(&audit).await;
        filled += report.tables[0].report.back_filled;
        assert_marked(&live, &report, &truth).await;
        if report.done {
            let mark = report.tables[0].report.mark.as_ref();
            let best = mark.and_then(|mark| mark.mark.best());
            let last = truth
                .values()
                .flatten()
                .map(|record| record.created_at)
                .max();
            assert!(
                best.map(|best| best.0) >= last,
                "{best:?} is not past {last:?}"
            );
            break;
        }
    }
    assert_eq!(filled, (held(&truth) - held(&before)) as u64);
    assert_same(&live.log().await, &truth);
}

/// Every record up to the mark is in the log. The log is read after the mark was published, the truth before.
async fn assert_marked(live: &Live, report: &AuditTablesReport, truth: &Log) {
    let Some(mark) = &report.tables[0].report.mark else {
        return;
    };
    let Some(best) = mark.mark.best() else { return };
    let log = live.log().await;
    for (shard, records) in truth {
        let held = log.get(shard).map_or(&[][..], Vec::as_slice);
        let missing = records
            .iter()
            .filter(|record| record.created_at <= best.0)
            .find(|record| {
                !held
                    .iter()
                    .any(|held| held.sequence_number == record.sequence_number)
            });
        assert!(
            missing.is_none(),
            "{mark:?} is past {:?}",
            missing.map(|record| &record.sequence_number)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_events_are_logged_as_they_say() {
    let live = Live::start().await;
    let function = live.function("consume-stream");
    for (file, state) in [
        ("first", json!(null)),
        (
            "window",
            json!({"last_seq": "2574600000000000000942120", "n": 2}),
        ),
        (
            "expired",
            json!({"last_seq": "2574600000000000000943493", "n": 3}),
        ),
        (
            "unreadable",
            json!({"last_seq": "2574600000000000000947612", "n": 6}),
        ),
        ("final", json!({"n": 0})),
    ] {
        let sample = event(&format!("consume-stream/{file}"));
        let answer = function.invoke(sample, LONG).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]), "{file}");
        assert_eq!(answer["state"], state, "{file}");
    }
    function.wrote("cannot be understood").await;
    let said = function.output();
    assert!(!said.contains("order-0"), "{said}");
    let store = live.account.clients().await.s3_store(BUCKET);
    let page = store
        .list(&format!("{PREFIX}/orders/log/"), None)
        .await
        .unwrap();
    assert_eq!(
        page.objects.len(),
        6,
        "four batches, a raw record, an incident: {page:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_and_what_cannot_be_written_is_told_by_name() {
    let live = Live::start().await;
    let function = live.function("consume-stream");
    for (event, error_type, says) in [
        (json!({}), "InvalidInput", "Records"),
        (json!({"Records": "secret"}), "InvalidInput", "no batch"),
        (
            json!({"Records": [{"body": "secret"}]}),
            "InvalidInput",
            "record 1",
        ),
    ] {
        let error = function.invoke(event, LONG).await.unwrap_err();
        assert_eq!(error.error_type, error_type, "{error}");
        assert!(
            error.message.contains(says) && !error.message.contains("secret"),
            "{error}"
        );
    }
    let mut environment = live.account.environment();
    environment.push(("HIGHWATER_LOG_TO".into(), "s3://no-such-bucket/live".into()));
    let lost = Account::function_with("consume-stream", environment);
    let answer = lost
        .invoke(event("consume-stream/first"), Duration::from_secs(8))
        .await
        .unwrap();
    assert_eq!(
        answer,
        json!({"batchItemFailures": [{"itemIdentifier": "2574600000000000000936628"}]}),
        "the first record of three"
    );
    // The log comes over a pipe of its own.
    let told = tokio::time::timeout(LONG, lost.wrote("no-such-bucket")).await;
    assert!(told.is_ok(), "{}", lost.output());
}
