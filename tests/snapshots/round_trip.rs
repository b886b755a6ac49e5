//! From a table to a backup to a new table: every item is what it was, for every shape of key and every type.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_domain::scan::{ScanRequest, TableScanner};
use highwater_steps::request::BackupRequest;
use highwater_testkit::fake_table::scan_request;
use highwater_testkit::generate::{Generator, KeyShape, canonical};
use highwater_testkit::tables::NewTable;
use serde_json::Value;
use tokio::process::Command;

use super::multiset::Multiset;
use super::stage::{BUCKET, PREFIX, Stage};

/// Items of all tables together, unless `HIGHWATER_TEST_ITEMS` says otherwise.
const ITEMS: u64 = 4800;
const SEED: u64 = 23;
const TABLE: &str = "everything";
const TARGET: &str = "everything-restored";

fn items_per_shape() -> u64 {
    let asked = std::env::var("HIGHWATER_TEST_ITEMS").ok();
    let items = asked.map_or(ITEMS, |items| {
        items.parse().expect("HIGHWATER_TEST_ITEMS is a number")
    });
    items.div_ceil(KeyShape::all().count() as u64)
}

/// For each of the twelve shapes of a primary key a table of generated items, one in 400 of them nearly as large as an
/// item can be; each backed up and restored by the command into a new table.
///
/// The tables hold 4,800 items together. `HIGHWATER_TEST_ITEMS=200000` in the environment makes it that many.
#[tokio::test(flavor = "multi_thread")]
async fn restored_items_are_what_was_backed_up() {
    let began = Instant::now();
    let mut restoring = Duration::ZERO;
    let mut items = 0;
    for shape in KeyShape::all() {
        restoring += one_shape(shape, items_per_shape()).await;
        items += items_per_shape();
    }
    println!(
        "{items} items; restoring {restoring:.1?}, in all {:.1?}",
        began.elapsed()
    );
}

async fn one_shape(shape: KeyShape, items: u64) -> Duration {
    let stage = Stage::start().await;
    NewTable::new(TABLE, shape)
        .create(&stage.direct)
        .await
        .unwrap();
    let generated: Vec<Vec<u8>> = Generator::new(SEED, shape)
        .items(items)
        .map(|item| item.json())
        .collect();
    let mut loaded = Multiset::default();
    for item in &generated {
        loaded.add(canonical(item).to_string().as_bytes());
    }
    stage.dynamodb.import(TABLE, generated).await.unwrap();
    let request = BackupRequest {
        segments: Some(5),
        part_bytes: Some(64 << 10),
        ..Stage::request(TABLE)
    };
    let scanner = Arc::new(stage.clients.table_scanner());
    let id = stage.back_up("round trip", request, scanner).await;

    let backup = format!("s3://{BUCKET}/{PREFIX}/{TABLE}/AWSDynamoDB/{id}");
    let began = Instant::now();
    let result = restore(&stage, &backup).await;
    let restoring = began.elapsed();
    let totals = &result["totals"];
    assert_eq!(
        (&totals["read"], &totals["written"]),
        (&items.into(), &items.into()),
        "{result}"
    );
    assert_eq!(result["balanced"], true, "{result}");
    let mut restored = scanned(&stage, TARGET).await;
    restored.assert_equals(&mut loaded, &format!("{shape:?}"));
    restoring
}

/// The command, restoring into a new table. Gives its result.
async fn restore(stage: &Stage, backup: &str) -> Value {
    let output = Command::new(highwater_tests::binaries::path("highwater"))
        .args(["restore", backup, "--to", TARGET, "--json", "--quiet"])
        .args(["--endpoint-url", stage.dynamodb.endpoint_url()])
        .args(["--s3-endpoint-url", stage.s3_url()])
        .args(["--region", "eu-north-1"])
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"", "quiet");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every item of a table in one spelling, page by page.
async fn scanned(stage: &Stage, table: &str) -> Multiset {
    let scanner = stage.clients.table_scanner();
    let mut items = Multiset::default();
    let mut request: ScanRequest = scan_request(table, 0, 1);
    loop {
        let page = scanner.scan_page(&request).await.unwrap();
        for item in page.items.iter() {
            items.add(canonical(item).to_string().as_bytes());
        }
        let Some(last) = page.last_evaluated_key else {
            return items;
        };
        request.exclusive_start_key = Some(last);
    }
}
