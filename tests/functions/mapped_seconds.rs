//! Seconds of a table whose log the deployed mapping wrote, on a bad day, restored by the deployed functions.
//!
//! `HIGHWATER_TEST_RECORDS` is the number of writes, `HIGHWATER_TEST_RESTORES` how many seconds are restored.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use highwater_domain::mark::UnixSeconds;
use highwater_local::StreamShape;
use highwater_testkit::clients;
use highwater_testkit::fake_table::{scan_request, scan_segment};
use highwater_testkit::write_history::{History, Writer};
use serde_json::{Value, json};

use super::account::{BUCKET, PREFIX, TABLE, at_once, request};
use super::live_account::{Live, NASTY, audited, trouble};
use super::restore_stack::RestoreStack;

const WRITERS: u64 = 4;

fn number(variable: &str, default: u64) -> u64 {
    let value = env::var(variable).ok();
    value.map_or(default, |text| text.parse().unwrap())
}

/// The base of all restores, once a third is written.
async fn back_up(live: &Live, histories: &[History], writes: u64) {
    let written = || histories.iter().map(History::len).sum::<usize>() as u64;
    while written() < writes / 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let more = json!({
        "segments": 3, "concurrency": 3, "part_bytes": 4000, "read_capacity": 0,
        "with_stream": true, "settle_seconds": 0,
    });
    let stack = live.account.deploy();
    let output = stack.execute(request(more), at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
}

/// Done-when 4 of the live side.
#[tokio::test(flavor = "multi_thread")]
async fn seconds_of_a_log_that_the_mapping_wrote_are_what_the_table_was() {
    let writes = number("HIGHWATER_TEST_RECORDS", 1200);
    let live = Live::shaped(StreamShape {
        lineages: 3,
        roll_after_records: (writes / 30).max(40),
        made_before: Duration::from_mins(1),
        ..StreamShape::default()
    })
    .await;
    let audit = live.function("audit-stream");
    // The log begins before anything is written.
    audited(&audit).await;
    let function = Arc::new(live.function("consume-stream"));
    let mut mapping = live.mapping(&function, NASTY, 31).await;
    trouble(&live);
    let client = clients::dynamodb(live.account.dynamodb.endpoint_url());
    let mut clerks: Vec<Writer> = (0..WRITERS)
        .map(|seed| Writer::new(client.clone(), TABLE, &format!("w{seed}"), 32 + seed))
        .collect();
    let histories: Vec<History> = clerks.iter().map(Writer::history).collect();
    let over = AtomicBool::new(false);
    let writing = async {
        let each = usize::try_from(writes / WRITERS).unwrap();
        // Slowly enough that a few seconds pass, however fast the machine is.
        let pace = Duration::from_millis(25);
        join_all(clerks.iter_mut().map(|it| it.write_at_pace(each, pace))).await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(
        writing,
        back_up(&live, &histories, writes),
        mapping.run(|| over.load(Ordering::SeqCst))
    );
    live.account.s3.clear();
    let did = mapping.deliveries;
    assert!(did.doubled > 0 && did.killed > 0, "{did:?}");
    let stamps: Vec<u64> = mapping
        .truth()
        .into_values()
        .flatten()
        .map(|record| record.created_at)
        .collect();
    let (first, last) = (*stamps.iter().min().unwrap(), *stamps.iter().max().unwrap());
    marked(&audit, last).await;
    restored(&live, &History::merged(&histories), first..=last).await;
    println!("{} records, {did:?}", stamps.len());
}

/// The auditor comes to the end, and finds that the mapping has left nothing out.
async fn marked(audit: &highwater_testkit::runtime_api::Function, last: u64) {
    for _ in 0..60 {
        let report = audited(audit).await;
        let report = &report.tables[0].report;
        assert_eq!(report.back_filled, 0, "nothing was missing");
        let mark = report.mark.as_ref().and_then(|mark| mark.mark.best());
        if mark >= Some(UnixSeconds(last)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the mark does not come to {last}");
}

async fn restored(live: &Live, history: &History, seconds: std::ops::RangeInclusive<u64>) {
    let mut sharp: Vec<(u64, BTreeMap<String, String>)> = seconds
        .filter_map(|second| Some((second, history.at(UnixSeconds(second))?)))
        .collect();
    let wanted = usize::try_from(number("HIGHWATER_TEST_RESTORES", 3)).unwrap();
    assert!(sharp.len() >= wanted, "too few seconds have a sharp end");
    Rng::with_seed(33).shuffle(&mut sharp);
    let stack = RestoreStack::of(&live.account);
    for (second, truth) in sharp.into_iter().take(wanted) {
        let target = format!("orders-at-{second}");
        let request = json!({
            "backup": format!("s3://{BUCKET}/{PREFIX}/{TABLE}"), "to": target, "concurrency": 3,
            "rejects": format!("s3://{BUCKET}/rejects"),
            "at": UnixSeconds(second).to_rfc3339(), "stamp_margin_s": 0,
        });
        let output = stack.execute(request, at_once()).await.unwrap();
        assert_eq!(output["status"], "completed");
        let found = values(live, &target).await;
        let (found_len, truth_len) = (found.len(), truth.len());
        assert!(
            found == truth,
            "at {second}: {found_len} items, not {truth_len}"
        );
    }
}

/// The values of a table's items, by key.
async fn values(live: &Live, table: &str) -> BTreeMap<String, String> {
    let client = clients::dynamodb(live.account.dynamodb.endpoint_url());
    let scanner = highwater_aws::DynamoScanner::new(client);
    let items = scan_segment(&scanner, scan_request(table, 0, 1));
    let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap().to_owned();
    let of = |item: &[u8]| {
        let item: Value = serde_json::from_slice(item).unwrap();
        (text(&item, "pk"), text(&item, "value"))
    };
    items.await.unwrap().iter().map(|item| of(item)).collect()
}
