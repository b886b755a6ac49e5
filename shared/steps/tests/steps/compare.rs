//! Comparing tables and backups: what is equal, what differs and is named, and what must not be hidden.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_domain::backup_source::{
    Catalog, FileClaims, LineShape, Packing, SourceFile, SourceKind,
};
use highwater_domain::difference::{DifferenceCounts, DifferenceKind, Side};
use highwater_domain::failure::FailureKind;
use highwater_domain::key::KeySchema;
use highwater_domain::scan::TableScanner;
use highwater_steps::backup_items::BackupItems;
use highwater_steps::compare::{
    Changed, CompareObserver, CompareOptions, Comparison, SpillLimits, Totals, compare,
};
use highwater_steps::deps::Unobserved;
use highwater_steps::item_source::ItemSource;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::segment_pages::ScanPorts;
use highwater_steps::table_items::{TableItems, TableReading};
use highwater_steps::{StepError, StopFlag};
use highwater_testkit::attribute::Item;
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::{FakeStore, object};
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::intercepted::Intercepted;
use highwater_testkit::respell::respelled;

use crate::stage::TokioClock;

#[derive(Debug, Default)]
struct Heard {
    items: [AtomicU64; 2],
    second_passes: AtomicU64,
}

impl CompareObserver for Heard {
    fn items(&self, side: Side, items: u64, _bytes: u64) {
        self.items[usize::from(side == Side::B)].fetch_add(items, Ordering::Relaxed);
    }

    fn second_pass(&self, _suspects: u64) {
        self.second_passes.fetch_add(1, Ordering::Relaxed);
    }
}

fn options() -> CompareOptions {
    CompareOptions {
        limit: 100,
        spill: SpillLimits::in_folder(std::env::temp_dir()),
        key: None,
        salt: 7,
    }
}

async fn compared(
    a: &Arc<dyn ItemSource>,
    b: &Arc<dyn ItemSource>,
) -> Result<Comparison, StepError> {
    compare_with(a, b, &options()).await
}

async fn compare_with(
    a: &Arc<dyn ItemSource>,
    b: &Arc<dyn ItemSource>,
    options: &CompareOptions,
) -> Result<Comparison, StepError> {
    let observer: Arc<dyn CompareObserver> = Arc::new(Heard::default());
    compare(a, b, options, &observer).await
}

async fn table_through(
    table: &Arc<FakeTable>,
    scanner: Arc<dyn TableScanner>,
    segments: u32,
) -> Arc<dyn ItemSource> {
    let clock = TokioClock::start();
    let ports = ScanPorts {
        scanner,
        pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
        clock,
        observer: Arc::new(Unobserved),
        stop: StopFlag::default(),
    };
    let reading = TableReading {
        segments: Some(segments),
        concurrency: Some(3),
        ..TableReading::default()
    };
    let name = "orders".parse().unwrap();
    let source = TableItems::open(&**table, ports, &name, &reading).await;
    Arc::new(source.unwrap())
}

async fn table(table: &Arc<FakeTable>, segments: u32) -> Arc<dyn ItemSource> {
    table_through(table, table.clone(), segments).await
}

fn filled(schema: KeySchema, items: &[Vec<u8>], seed: u64) -> Arc<FakeTable> {
    let table = FakeTable::new("orders", schema, seed);
    for item in items {
        table.put(item);
    }
    Arc::new(table)
}

/// Files of lines with these items, and the catalog that a look at them gives.
fn backup(schema: Option<&KeySchema>, files: &[&[Vec<u8>]]) -> (Arc<FakeStore>, Catalog) {
    let store = Arc::new(FakeStore::new());
    let mut catalog = Catalog {
        url: "s3://fake-bucket/lines".to_owned(),
        kind: SourceKind::Lines,
        table_name: None,
        status: None,
        items: None,
        plain_bytes: None,
        key_schema: schema.cloned(),
        settings: None,
        files: Vec::new(),
        unchecked: Vec::new(),
    };
    for (n, items) in files.iter().enumerate() {
        let mut body = items.join(&b'\n');
        body.push(b'\n');
        let key = format!("lines/{n}.json");
        catalog.files.push(SourceFile {
            object: key.clone(),
            stored_bytes: body.len() as u64,
            packing: Packing::None,
            shape: LineShape::Bare,
            claims: FileClaims::default(),
        });
        store.plant(object(&key, &String::from_utf8(body).unwrap()));
    }
    (store, catalog)
}

fn source_of((store, catalog): (Arc<FakeStore>, Catalog)) -> Arc<dyn ItemSource> {
    Arc::new(BackupItems::new(store, catalog, 2, false).unwrap())
}

fn lines(schema: &KeySchema, items: &[Vec<u8>]) -> Arc<dyn ItemSource> {
    let third = items.len().div_ceil(3).max(1);
    let files: Vec<&[Vec<u8>]> = items.chunks(third).collect();
    source_of(backup(Some(schema), &files))
}

fn numbered(n: usize, value: usize) -> Vec<u8> {
    format!(r#"{{"id":{{"S":"{n}"}},"n":{{"N":"{value}"}}}}"#).into_bytes()
}

/// What is listed, by the keys' texts.
fn listed(comparison: &Comparison) -> BTreeMap<String, (DifferenceKind, u64, u64)> {
    let all = comparison.differences.iter();
    let by_key: BTreeMap<_, _> = all
        .map(|it| {
            let key: serde_json::Value = serde_json::from_str(&it.key).unwrap();
            let id = key["id"]["S"].as_str().unwrap().to_owned();
            (id, (it.kind, it.in_a, it.in_b))
        })
        .collect();
    assert_eq!(by_key.len(), comparison.differences.len(), "a key once");
    by_key
}

#[tokio::test]
async fn other_order_and_other_spelling_are_equal() {
    for shape in KeyShape::all() {
        let generator = Generator::small(3, shape);
        let items: Vec<_> = (0..120).map(|n| generator.attributes(n)).collect();
        let plain: Vec<Vec<u8>> = items.iter().map(Item::json).collect();
        let mut other: Vec<Vec<u8>> = (0..)
            .zip(&items)
            .map(|(n, item)| respelled(item, n))
            .collect();
        other.reverse();
        let sides = [
            table(&filled(shape.schema(), &plain, 1), 5).await,
            table(&filled(shape.schema(), &other, 2), 1).await,
            lines(&shape.schema(), &plain),
            lines(&shape.schema(), &other),
        ];
        for a in &sides {
            for b in &sides {
                let heard = Arc::new(Heard::default());
                let observer: Arc<dyn CompareObserver> = heard.clone();
                let comparison = compare(a, b, &options(), &observer).await.unwrap();
                assert!(comparison.equal, "{comparison:?}");
                assert_eq!((comparison.a.items, comparison.b.items), (120, 120));
                assert_eq!(comparison.counts.keys(), 0);
                assert!(comparison.differences.is_empty() && comparison.changed.is_empty());
                assert_eq!(heard.items[0].load(Ordering::Relaxed), 120, "read once");
                assert_eq!(heard.second_passes.load(Ordering::Relaxed), 0);
            }
        }
        let bytes = plain.iter().map(|item| item.len() as u64).sum();
        let comparison = compared(&sides[0], &sides[1]).await.unwrap();
        assert_eq!(comparison.a, Totals { items: 120, bytes });
    }
}

#[tokio::test]
async fn nothing_equals_nothing() {
    let schema = string_key("id");
    let (empty, none) = (lines(&schema, &[]), filled(schema.clone(), &[], 1));
    let none = table(&none, 4).await;
    assert!(compared(&empty, &none).await.unwrap().equal);
    let one = lines(&schema, &[numbered(1, 1)]);
    let comparison = compared(&none, &one).await.unwrap();
    assert!(!comparison.equal);
    assert_eq!(listed(&comparison)["1"], (DifferenceKind::OnlyInB, 0, 1));
}

#[tokio::test]
async fn every_kind_of_difference_is_named_with_its_key() {
    use DifferenceKind::{Differs, Duplicated, OnlyInA, OnlyInB};
    let schema = string_key("id");
    let items: Vec<Vec<u8>> = (0..200).map(|n| numbered(n, n)).collect();
    let mut other = items.clone();
    other[20] = numbered(20, 21);
    other[30] = numbered(30, 30);
    other.remove(77);
    other.push(numbered(500, 500));
    // Twice the same, twice another, and one that is there twice on both sides.
    other.push(numbered(100, 100));
    other.push(numbered(101, 9));
    let (mut items, mut other) = (items, other);
    items.push(numbered(300, 1));
    items.push(numbered(300, 1));
    other.push(numbered(300, 1));
    other.push(numbered(300, 1));
    let (a, b) = (lines(&schema, &items), lines(&schema, &other));
    let comparison = compared(&a, &b).await.unwrap();
    assert!(!comparison.equal && comparison.changed.is_empty());
    let expected = [
        ("100", (Duplicated, 1, 2)),
        ("101", (Duplicated, 1, 2)),
        ("20", (Differs, 1, 1)),
        ("500", (OnlyInB, 0, 1)),
        ("77", (OnlyInA, 1, 0)),
    ];
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(key, found)| (key.to_owned(), found))
        .collect();
    assert_eq!(listed(&comparison), expected);
    let counts = DifferenceCounts {
        only_in_a: 1,
        only_in_b: 1,
        differs: 1,
        duplicated: 2,
    };
    assert_eq!(comparison.counts, counts);
    assert_eq!((comparison.a.items, comparison.b.items), (202, 204));
    let turned = compared(&b, &a).await.unwrap();
    assert_eq!(listed(&turned)["77"], (OnlyInB, 0, 1));
    assert_eq!(listed(&turned)["500"], (OnlyInA, 1, 0));
    assert_eq!(listed(&turned)["100"], (Duplicated, 2, 1));
}

/// Random tables with random edits, against a comparison of two maps.
#[tokio::test]
async fn what_is_found_is_what_a_comparison_in_memory_finds() {
    let schema = string_key("id");
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(1..400);
        let side = |random: &mut fastrand::Rng| -> BTreeMap<usize, usize> {
            let kept = (0..count).filter(|_| random.u32(0..10) > 0);
            let kept: Vec<usize> = kept.collect();
            kept.into_iter()
                .map(|n| (n, usize::from(random.u32(0..8) == 0)))
                .collect()
        };
        let (one, other) = (side(&mut random), side(&mut random));
        let items = |side: &BTreeMap<usize, usize>| -> Vec<Vec<u8>> {
            side.iter().map(|(n, value)| numbered(*n, *value)).collect()
        };
        let keys: BTreeSet<usize> = one.keys().chain(other.keys()).copied().collect();
        let kind = |n: &usize| match (one.get(n), other.get(n)) {
            (Some(_), None) => Some((DifferenceKind::OnlyInA, 1, 0)),
            (None, Some(_)) => Some((DifferenceKind::OnlyInB, 0, 1)),
            (a, b) => (a != b).then_some((DifferenceKind::Differs, 1, 1)),
        };
        let expected: BTreeMap<_, _> = keys
            .iter()
            .filter_map(|n| Some((n.to_string(), kind(n)?)))
            .collect();
        let options = CompareOptions {
            limit: usize::MAX,
            spill: SpillLimits {
                run_bytes: random.usize(1..8000),
                fan_in: random.usize(2..5),
                ..options().spill
            },
            key: None,
            salt: random.u128(..),
        };
        let a = table(
            &filled(schema.clone(), &items(&one), seed),
            random.u32(1..7),
        )
        .await;
        let b = lines(&schema, &items(&other));
        let comparison = compare_with(&a, &b, &options).await.unwrap();
        assert_eq!(comparison.equal, expected.is_empty());
        assert_eq!(listed(&comparison), expected, "seed {seed}");
        assert_eq!(comparison.counts.keys(), expected.len() as u64);
    }
}

/// Counts are exact where the list is cut off and the sort is many times what fits in memory.
#[tokio::test]
async fn more_differences_than_are_listed_or_fit_in_memory_are_counted() {
    let schema = string_key("id");
    let side =
        |first: usize| -> Vec<Vec<u8>> { (first..first + 4000).map(|n| numbered(n, n)).collect() };
    let (a, b) = (lines(&schema, &side(0)), lines(&schema, &side(3000)));
    let options = CompareOptions {
        limit: 5,
        spill: SpillLimits {
            run_bytes: 4000,
            fan_in: 3,
            ..options().spill
        },
        ..options()
    };
    let comparison = compare_with(&a, &b, &options).await.unwrap();
    let counts = DifferenceCounts {
        only_in_a: 3000,
        only_in_b: 3000,
        ..DifferenceCounts::default()
    };
    assert_eq!(comparison.counts, counts);
    assert_eq!(comparison.differences.len(), 5);
    assert!(comparison.differences.is_sorted());
    let none = CompareOptions {
        limit: 0,
        ..options
    };
    let comparison = compare_with(&a, &b, &none).await.unwrap();
    assert_eq!(comparison.counts, counts);
    assert!(comparison.differences.is_empty());
}

/// A table of 30 items that gets one more when its first pass is over: by then all its pages were asked for.
fn changing(
    schema: &KeySchema,
    change: impl Fn(&FakeTable) + Send + Sync + 'static,
) -> Arc<FakeTable> {
    let still = filled(
        schema.clone(),
        &(0..30).map(|n| numbered(n, n)).collect::<Vec<_>>(),
        1,
    );
    let table = FakeTable::new("orders", schema.clone(), 1)
        .with_page(1000)
        .with_empty_pages(0)
        .before_page(move |page, table| {
            if page == 1 {
                change(table);
            }
        });
    still.items().values().for_each(|item| table.put(item));
    Arc::new(table)
}

#[tokio::test]
async fn a_side_that_changes_between_the_passes_is_told() {
    let schema = string_key("id");
    let grows = changing(&schema, |table| table.put(&numbered(900, 1)));
    let other: Vec<Vec<u8>> = (0..29).map(|n| numbered(n, n)).collect();
    let (a, b) = (lines(&schema, &other), table(&grows, 1).await);
    let comparison = compared(&a, &b).await.unwrap();
    assert!(!comparison.equal);
    let changed = Changed {
        side: Side::B,
        items_before: 30,
        items_after: 31,
    };
    assert_eq!(comparison.changed, [changed]);
    assert_eq!((comparison.a.items, comparison.b.items), (29, 30));
}

/// A change that makes the sides equal is still a change, and no proof of anything.
#[tokio::test]
async fn a_side_that_becomes_equal_meanwhile_is_not_called_equal() {
    let schema = string_key("id");
    let grows = changing(&schema, |table| table.put(&numbered(30, 30)));
    let other: Vec<Vec<u8>> = (0..31).map(|n| numbered(n, n)).collect();
    let (a, b) = (table(&grows, 1).await, lines(&schema, &other));
    let comparison = compared(&a, &b).await.unwrap();
    assert!(!comparison.equal);
    assert_eq!(comparison.counts.keys(), 0, "nothing is left to list");
    assert_eq!(comparison.changed.len(), 1);
    assert_eq!(comparison.changed[0].side, Side::A);
}

/// An item that is replaced changes no count, and shows all the same.
#[tokio::test]
async fn a_replaced_item_is_a_change() {
    let schema = string_key("id");
    let changes = changing(&schema, |table| table.put(&numbered(3, 4)));
    let (a, b) = (lines(&schema, &[numbered(1, 1)]), table(&changes, 1).await);
    let comparison = compared(&a, &b).await.unwrap();
    let found = &comparison.changed[..];
    assert!(
        matches!(
            found,
            [Changed {
                side: Side::B,
                items_before: 30,
                items_after: 30
            }]
        ),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_backup_without_the_items_it_claims_is_refused() {
    let schema = string_key("id");
    let items: Vec<Vec<u8>> = (0..10).map(|n| numbered(n, n)).collect();
    let same = lines(&schema, &items);
    let (store, catalog) = backup(Some(&schema), &[&items]);
    let claiming = |items, skip_checks| -> Arc<dyn ItemSource> {
        let catalog = Catalog {
            items: Some(items),
            ..catalog.clone()
        };
        Arc::new(BackupItems::new(store.clone(), catalog, 2, skip_checks).unwrap())
    };
    assert!(compared(&claiming(10, false), &same).await.unwrap().equal);
    assert!(compared(&claiming(11, true), &same).await.unwrap().equal);
    for (a, b) in [
        (claiming(11, false), same.clone()),
        (same.clone(), claiming(9, false)),
    ] {
        let error = compared(&a, &b).await.unwrap_err();
        assert!(matches!(error, StepError::PartCorrupt(_)), "{error}");
        assert!(error.to_string().contains("has 10"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_by_name() {
    let items = [numbered(1, 1)];
    let (store, catalog) = backup(Some(&string_key("id")), &[&items]);
    let changes = Catalog {
        kind: SourceKind::IncrementalExport,
        ..catalog
    };
    let error = BackupItems::new(store, changes, 1, false).unwrap_err();
    assert!(error.to_string().contains("incremental export"), "{error}");

    let (known, unknown) = (lines(&string_key("id"), &items), || {
        source_of(backup(None, &[&items]))
    });
    let other = lines(&string_key("pk"), &items);
    assert!(compared(&known, &unknown()).await.unwrap().equal);
    assert!(compared(&unknown(), &known).await.unwrap().equal);
    let keyed = |name| CompareOptions {
        key: Some(string_key(name)),
        ..options()
    };
    let told = compare_with(&unknown(), &unknown(), &keyed("id")).await;
    assert!(told.unwrap().equal);
    let contradicted = compare_with(&unknown(), &known, &keyed("pk")).await;
    let error = contradicted.unwrap_err().to_string();
    assert!(error.contains("--key has the key pk:S"), "{error}");
    for (a, b, named) in [
        (unknown(), unknown(), "neither"),
        (known.clone(), other, "pk:S"),
    ] {
        let error = compared(&a, &b).await.unwrap_err();
        assert!(matches!(error, StepError::InvalidInput(_)), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn an_unreadable_item_is_named_with_its_file_and_line() {
    let schema = string_key("id");
    let good = lines(&schema, &[numbered(1, 1)]);
    for (broken, reason) in [
        (
            r#"{"id":{"S":"2"},"n":{"N":"2x"}}"#,
            "\"2x\" is not a number",
        ),
        (r#"{"n":{"N":"2"}}"#, "lacks its key attribute"),
        (r#"{"id":{"N":"2"}}"#, "not of type S"),
    ] {
        let items = [numbered(1, 1), broken.as_bytes().to_vec()];
        let broken = source_of(backup(Some(&schema), &[&items[..1], &items]));
        let error = compared(&good, &broken).await.unwrap_err();
        assert!(matches!(error, StepError::PartCorrupt(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("lines/1.json line 2"), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

/// A scan that breaks for good at any of its calls, in either pass, breaks the comparison; it never ends equal.
#[tokio::test]
async fn a_read_that_fails_for_good_at_any_call_ends_it() {
    let schema = string_key("id");
    let items: Vec<Vec<u8>> = (0..12).map(|n| numbered(n, n)).collect();
    let whole = filled(schema.clone(), &items, 3);
    let b = lines(&schema, &items[..9]);
    for nth in 1.. {
        let failing = Arc::new(Failing::crash(nth, Moment::Before));
        let scanner = Arc::new(Intercepted::new(&whole, &failing));
        let a = table_through(&whole, scanner, 2).await;
        let outcome = compared(&a, &b).await;
        if !failing.has_struck() {
            assert_eq!(outcome.unwrap().counts.only_in_a, 3);
            assert!(nth > 8, "both passes were broken: {nth}");
            break;
        }
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, StepError::Table(it) if it.kind == FailureKind::Other),
            "{error}"
        );
    }
}

// On the real clock: a paused one stands still while the sorting thread waits.
#[tokio::test]
async fn passing_faults_change_nothing() {
    let schema = string_key("id");
    let items: Vec<Vec<u8>> = (0..12).map(|n| numbered(n, n)).collect();
    let whole = filled(schema.clone(), &items, 3);
    let b = lines(&schema, &items[..9]);
    for (kind, moment) in [
        (FailureKind::Throttled, Moment::Before),
        (FailureKind::Transient, Moment::After),
        (FailureKind::Corrupt, Moment::After),
    ] {
        for nth in [1, 4, 7, 10] {
            let failing = Arc::new(Failing::once(nth, moment, kind));
            let scanner = Arc::new(Intercepted::new(&whole, &failing));
            let a = table_through(&whole, scanner, 2).await;
            let comparison = compared(&a, &b).await.unwrap();
            assert_eq!(comparison.counts.only_in_a, 3);
            assert_eq!(comparison.a.items, 12);
            assert!(comparison.changed.is_empty());
        }
    }
}

#[tokio::test]
async fn a_folder_that_takes_no_files_is_named() {
    let schema = string_key("id");
    let side = |n: usize| -> Vec<Vec<u8>> { (0..3000).map(|id| numbered(id, n)).collect() };
    let (a, b) = (lines(&schema, &side(1)), lines(&schema, &side(2)));
    let nowhere = CompareOptions {
        spill: SpillLimits {
            folder: PathBuf::from("/no/such/folder"),
            run_bytes: 1000,
            fan_in: 4,
        },
        ..options()
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), compare_with(&a, &b, &nowhere)).await;
    let error = ended.expect("it ends").unwrap_err();
    assert!(
        matches!(&error, StepError::Store(it) if it.kind == FailureKind::NotWritable),
        "{error}"
    );
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}

/// Whoever gives up waiting has ended the reading as well.
#[tokio::test]
async fn a_comparison_that_is_dropped_reads_no_further() {
    let schema = string_key("id");
    let items: Vec<Vec<u8>> = (0..3000).map(|n| numbered(n, n)).collect();
    let whole = filled(schema.clone(), &items, 3);
    let (a, b) = (table(&whole, 4).await, table(&whole, 4).await);
    let (observer, options): (Arc<dyn CompareObserver>, _) =
        (Arc::new(Heard::default()), options());
    let mut comparison = Box::pin(compare(&a, &b, &options, &observer));
    for _ in 0..20 {
        let now = futures::poll!(&mut comparison);
        assert!(now.is_pending());
        tokio::task::yield_now().await;
    }
    drop(comparison);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let pages = whole.pages();
    assert!(pages > 0, "it had begun");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(whole.pages(), pages, "nothing is asked for any more");
    assert!(pages < 2000, "it was not through");
}
