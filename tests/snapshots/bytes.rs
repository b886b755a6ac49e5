//! What DynamoDB sent is what the parts hold, byte for byte, for every shape of key and every type of attribute.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_domain::snapshot::Compression;
use highwater_steps::request::BackupRequest;
use highwater_testkit::generate::{Generator, KeyShape, canonical};
use highwater_testkit::tables::NewTable;

use super::export_rules::{Export, Sums};
use super::multiset::Multiset;
use super::recording::Recording;
use super::stage::Stage;

/// Items of all tables together, unless `HIGHWATER_TEST_ITEMS` says otherwise.
const ITEMS: u64 = 20_000;
const SEED: u64 = 11;
const TABLE: &str = "everything";

/// What a run of the whole test handled, for its last line.
#[derive(Default)]
struct Handled {
    sums: Vec<Sums>,
    loading: Duration,
    backing_up: Duration,
    checking: Duration,
}

fn items_per_shape() -> u64 {
    let asked = std::env::var("HIGHWATER_TEST_ITEMS").ok();
    let items = asked.map_or(ITEMS, |items| {
        items.parse().expect("HIGHWATER_TEST_ITEMS is a number")
    });
    items.div_ceil(KeyShape::all().count() as u64)
}

/// For each of the twelve shapes of a primary key a table of generated items, one in 400 of them nearly as large as an
/// item can be; each backed up with gzip and with zstd, checked by the rules of AWS's exports, and compared with what
/// the scanner returned and with what was loaded.
///
/// The tables hold 20,000 items together. `HIGHWATER_TEST_ITEMS=200000` in the environment makes it that many.
#[tokio::test(flavor = "multi_thread")]
async fn parts_hold_the_bytes_that_dynamodb_sent() {
    let began = Instant::now();
    let mut handled = Handled::default();
    for shape in KeyShape::all() {
        one_shape(shape, items_per_shape(), &mut handled).await;
    }
    let sum = |of: fn(&Sums) -> u64| handled.sums.iter().map(of).sum::<u64>();
    println!(
        "{} items in {} parts, {} bytes, {} stored; loading {:.1?}, backing up {:.1?}, checking {:.1?}, in all {:.1?}",
        sum(|sums| sums.items),
        sum(|sums| sums.parts),
        sum(|sums| sums.plain_bytes),
        sum(|sums| sums.stored_bytes),
        handled.loading,
        handled.backing_up,
        handled.checking,
        began.elapsed(),
    );
}

async fn one_shape(shape: KeyShape, items: u64, handled: &mut Handled) {
    let began = Instant::now();
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
        add_canonical(&mut loaded, item);
    }
    stage.dynamodb.import(TABLE, generated).await.unwrap();
    assert_eq!(loaded.len() as u64, items);
    handled.loading += began.elapsed();

    let recording = Arc::new(Recording::new(stage.clients.table_scanner()));
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let began = Instant::now();
        let request = BackupRequest {
            segments: Some(5),
            compression: Some(compression),
            part_bytes: Some(16 << 10),
            ..Stage::request(TABLE)
        };
        let id = stage.back_up(name, request, recording.clone()).await;
        handled.backing_up += began.elapsed();
        let began = Instant::now();
        let (mut kept, mut values) = (Multiset::default(), Multiset::default());
        let export = Export::new(&stage.s3, TABLE, &id);
        let sums = export
            .check(|item| {
                kept.add(item);
                add_canonical(&mut values, item);
            })
            .await;
        let mut returned = recording.take();
        assert_eq!((sums.items, returned.len() as u64), (items, items));
        let around = "{\"Item\":}\n".len() as u64;
        assert_eq!(sums.plain_bytes, returned.bytes() + items * around);
        kept.assert_equals(&mut returned, &format!("{shape:?} {name}: parts and pages"));
        values.assert_equals(&mut loaded, &format!("{shape:?} {name}: parts and table"));
        assert!(sums.parts > 5, "{sums:?}");
        handled.sums.push(sums);
        handled.checking += began.elapsed();
    }
}

/// The item's value whatever the order of its members and the spelling of its numbers.
fn add_canonical(multiset: &mut Multiset, item: &[u8]) {
    multiset.add(canonical(item).to_string().as_bytes());
}
