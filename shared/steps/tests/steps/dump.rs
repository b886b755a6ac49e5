//! Dumps on the fakes: what every sink gets, what dyndump's layout holds, and what a failure leaves.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::digest::sha256_hex;
use highwater_domain::dyndump::{DyndumpKeys, DyndumpMetadata};
use highwater_domain::dyndump_writer::CLAIM;
use highwater_domain::encoding::{Encoding, decode_typed};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::line_sink::LineSink;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::Status;
use highwater_steps::delete_dyndump::{self, DeleteOptions};
use highwater_steps::dump::{self, DumpPlan, DumpReport, DumpRequest};
use highwater_steps::dump_parts::{DumpParts, DumpPlace};
use highwater_steps::{Deps, ErrorName, StepError, StopFlag, dyndump_info};
use highwater_testkit::canonical::canonical;
use highwater_testkit::counting::Counting;
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::{FakeStore, object};
use highwater_testkit::fake_table::FakeTable;
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::intercepted::{Call, Intercepted, Interceptor, Ticket};

use crate::stage::*;

const PREFIX: &str = "dumps/orders";

fn keys() -> DyndumpKeys {
    DyndumpKeys::new(PREFIX)
}

fn request() -> DumpRequest {
    DumpRequest {
        table: "orders".parse().unwrap(),
        parallel: 4,
        segments: None,
        read_capacity: Some(0.0),
        consistent: false,
        selection: Selection::default(),
        max_items: 0,
        max_retries: 3,
        encoding: Encoding::Wire,
    }
}

fn place(store: Arc<dyn ObjectStore>, part_bytes: u64) -> DumpPlace {
    DumpPlace {
        store,
        keys: keys(),
        part_bytes,
    }
}

/// A sink in memory that says what became of it.
#[derive(Debug, Default)]
struct Memory {
    state: Mutex<(Vec<u8>, &'static str)>,
    fails_at: Option<&'static str>,
}

impl Memory {
    fn failing_at(operation: &'static str) -> Arc<Self> {
        Arc::new(Self {
            fails_at: Some(operation),
            ..Self::default()
        })
    }

    fn reach(&self, operation: &'static str) -> Result<(), Failure> {
        if self.fails_at == Some(operation) {
            return Err(Failure::new(
                FailureKind::NotWritable,
                operation,
                "memory",
                "full",
            ));
        }
        self.state.lock().unwrap().1 = operation;
        Ok(())
    }

    fn last(&self) -> &'static str {
        self.state.lock().unwrap().1
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        lines_of(&self.state.lock().unwrap().0)
    }
}

#[async_trait]
impl LineSink for Memory {
    fn url(&self) -> String {
        "memory".into()
    }

    async fn write(&self, lines: Bytes) -> Result<(), Failure> {
        self.reach("write")?;
        self.state.lock().unwrap().0.extend_from_slice(&lines);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.reach("flush")
    }

    async fn commit(&self) -> Result<(), Failure> {
        self.reach("commit")
    }

    async fn abandon(&self) -> Result<(), Failure> {
        self.reach("abandon")
    }
}

/// A sink that takes nothing and never answers, as a pipe that nobody reads.
#[derive(Debug)]
struct Stuck;

#[async_trait]
impl LineSink for Stuck {
    fn url(&self) -> String {
        "stuck".into()
    }

    async fn write(&self, _lines: Bytes) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn flush(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn commit(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn abandon(&self) -> Result<(), Failure> {
        Ok(())
    }
}

fn lines_of(text: &[u8]) -> Vec<Vec<u8>> {
    assert!(text.is_empty() || text.ends_with(b"\n"), "whole lines");
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut lines: Vec<_> = lines.collect();
    lines.pop();
    lines
}

async fn dumped(
    deps: &Deps,
    request: &DumpRequest,
    sinks: &[Arc<dyn LineSink>],
) -> Result<DumpReport, StepError> {
    let plan: DumpPlan = dump::plan(deps, request).await?;
    dump::run(deps, &plan, sinks).await
}

async fn begin(stage: &Stage, store: Arc<dyn ObjectStore>, part_bytes: u64) -> Arc<DumpParts> {
    let plan = dump::plan(&stage.deps, &request()).await.unwrap();
    let place = place(store, part_bytes);
    let begun = place.begin(plan.metadata(), "claim".into(), stage.deps.clock.clone());
    Arc::new(begun.await.unwrap())
}

async fn metadata(store: &FakeStore) -> DyndumpMetadata {
    dyndump_info::run(store, &keys()).await.unwrap()
}

/// The memory as the only sink.
fn only(memory: &Arc<Memory>) -> [Arc<dyn LineSink>; 1] {
    [memory.clone()]
}

/// Reads the layout by its description: parts 1, 2, … and the metadata's account of them.
fn read_layout(store: &FakeStore) -> (Vec<Vec<u8>>, DyndumpMetadata) {
    let objects = store.objects();
    let meta = &objects[&format!("{PREFIX}-meta.json")];
    let metadata: DyndumpMetadata = serde_json::from_slice(&meta.body).unwrap();
    let (mut lines, mut chain, mut plain, mut stored) = (Vec::new(), String::new(), 0, 0);
    for number in 1..=metadata.part_count {
        let part = &objects[&format!("{PREFIX}-part-{number:09}.json.gz")];
        assert_eq!(part.content_encoding, Some("gzip"));
        assert_eq!(part.content_type, "application/json");
        let mut text = Vec::new();
        let mut gunzip = flate2::read::GzDecoder::new(&part.body[..]);
        gunzip.read_to_end(&mut text).unwrap();
        let hash = sha256_hex(&text);
        let items = lines_of(&text);
        assert_eq!(part.user_metadata["dyndump-sha256"], hash);
        assert_eq!(part.user_metadata["dyndump-part"], number.to_string());
        assert_eq!(
            part.user_metadata["dyndump-itemcount"],
            items.len().to_string()
        );
        chain.push_str(&hash);
        chain.push('\n');
        plain += text.len() as u64;
        stored += part.body.len() as u64;
        lines.extend(items);
    }
    assert_eq!(
        objects.len() as u64,
        metadata.part_count + 1,
        "{:?}",
        store.keys()
    );
    assert_eq!(metadata.item_count, lines.len() as u64);
    assert_eq!(
        (metadata.uncompressed_bytes, metadata.compressed_bytes),
        (plain, stored)
    );
    assert_eq!(metadata.last_hashed, Some(metadata.part_count));
    let master = sha256_hex(chain.as_bytes());
    assert_eq!(metadata.hash_sha256, Some(master));
    (lines, metadata)
}

fn sorted(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    lines.sort();
    lines
}

fn table_lines(table: &FakeTable) -> Vec<Vec<u8>> {
    sorted(table.items().values().map(|item| item.to_vec()).collect())
}

#[tokio::test]
async fn every_sink_gets_every_item_once_in_one_pass() {
    let stage = Stage::of_items(500);
    let counting = Arc::new(Counting::new());
    let scanner = Arc::new(Intercepted::new(&stage.table, &counting));
    let deps = stage.through_scanner(scanner);
    let parts = begin(&stage, stage.store.clone(), 2000).await;
    let memory = Arc::new(Memory::default());
    let request = DumpRequest {
        segments: Some(9),
        ..request()
    };
    let report = dumped(&deps, &request, &[parts, memory.clone()])
        .await
        .unwrap();
    assert_eq!((report.items, report.stopped), (500, false));
    assert_eq!(report.scan.items, 500);
    assert_eq!(sorted(memory.lines()), table_lines(&stage.table));
    assert_eq!(memory.last(), "commit");
    let (lines, metadata) = read_layout(&stage.store);
    assert_eq!(sorted(lines), table_lines(&stage.table));
    assert_eq!(report.bytes, metadata.uncompressed_bytes);
    assert_eq!(metadata.status, Status::Completed);
    assert!(metadata.part_count > 5, "{metadata:?}");
    assert_eq!(
        (metadata.table_name.as_str(), metadata.backup_type.as_str()),
        ("orders", "full")
    );
    assert!(metadata.backup_end_time.is_some());
    let scans = counting.calls();
    let scans = scans
        .iter()
        .filter(|call| call.operation == "scan_page")
        .count() as u64;
    assert_eq!(scans, report.scan.pages, "the table was read once");
}

/// DD-20's other half: what is seen while it runs.
#[tokio::test]
async fn the_metadata_is_created_running_and_renewed_after_every_part() {
    let stage = Stage::of_items(0);
    let parts = begin(&stage, stage.store.clone(), 1000).await;
    let before = metadata(&stage.store).await;
    assert_eq!((before.status, before.part_count), (Status::Running, 0));
    assert_eq!(before.backup_end_time, None);
    for seed in 0_u32..40 {
        let noise = sha256_hex(&seed.to_be_bytes());
        parts
            .write(format!("{{\"id\":{{\"S\":\"{noise}\"}}}}\n").into())
            .await
            .unwrap();
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let within = metadata(&stage.store).await;
    assert_eq!(within.status, Status::Running);
    assert!(
        within.part_count > 0 && within.last_hashed.unwrap() > 0,
        "{within:?}"
    );
    parts.flush().await.unwrap();
    assert_eq!(metadata(&stage.store).await.status, Status::Running);
    parts.commit().await.unwrap();
    assert_eq!(read_layout(&stage.store).0.len(), 40);
}

#[tokio::test]
async fn dd_12_blocks_come_back_whole_and_once() {
    let stage = Stage::of_items(0);
    let parts = begin(&stage, stage.store.clone(), 16_000).await;
    let block = |n: u32| {
        let mut text = String::new();
        let mut seed = n;
        while text.len() < 1000 {
            text.push_str(&sha256_hex(&seed.to_be_bytes()));
            seed += 1000;
        }
        text.truncate(1000);
        text.push('\n');
        text.into_bytes()
    };
    for n in 0..256 {
        parts.write(block(n).into()).await.unwrap();
    }
    parts.flush().await.unwrap();
    parts.commit().await.unwrap();
    let (lines, metadata) = read_layout(&stage.store);
    assert!(metadata.part_count > 3, "{metadata:?}");
    let expected: Vec<Vec<u8>> = (0..256).map(|n| block(n)[..1000].to_vec()).collect();
    assert_eq!(sorted(lines), sorted(expected));
    assert_eq!(metadata.uncompressed_bytes, 256 * 1001);
}

#[tokio::test]
async fn dd_14_the_first_failure_is_every_later_answer() {
    for moment in [Moment::Before, Moment::After] {
        let stage = Stage::of_items(0);
        // The metadata is the first creation, the first part the second.
        let failing = Arc::new(Failing::once(2, moment, FailureKind::Denied).only("create"));
        let store = Arc::new(Intercepted::new(&stage.store, &failing));
        let parts = begin(&stage, store, 1000).await;
        let mut failures = Vec::new();
        for _ in 0..2000 {
            let noise = noise_line();
            if let Err(failure) = parts.write(noise.into()).await {
                failures.push(failure.to_string());
            }
        }
        failures.push(parts.flush().await.unwrap_err().to_string());
        failures.push(parts.commit().await.unwrap_err().to_string());
        parts.abandon().await.unwrap();
        failures.dedup();
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(
            failures[0].contains("injected") && failures[0].contains("-part-00000000"),
            "{failures:?}"
        );
        assert_eq!(metadata(&stage.store).await.status, Status::Failed);
    }
}

/// A line that does not compress, another one each time.
fn noise_line() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!(
        "{{\"id\":{{\"S\":\"{}\"}}}}\n",
        sha256_hex(&n.to_be_bytes())
    )
}

/// dyndump blocked for ever when its first metadata could not be written.
#[tokio::test]
async fn b9_a_store_that_refuses_everything_ends_the_dump() {
    let stage = Stage::of_items(50);
    let failing = Arc::new(Failing::crash(1, Moment::Before).only("create"));
    let store: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&stage.store, &failing));
    let plan = dump::plan(&stage.deps, &request()).await.unwrap();
    let begun = place(store, 1000).begin(plan.metadata(), "claim".into(), stage.deps.clock.clone());
    assert!(begun.await.is_err());
    assert_eq!(stage.store.keys(), [""; 0]);

    // The metadata can be written, parts cannot: every writer ends, and nobody waits for them.
    let failing = Arc::new(Failing::crash(2, Moment::Before).only("create"));
    let store: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&stage.store, &failing));
    let parts = begin(&stage, store, 1000).await;
    let deps = stage.deps.clone();
    let run = async move { dumped(&deps, &request(), &[parts]).await };
    let ended = tokio::time::timeout(Duration::from_secs(20), run).await;
    assert!(ended.expect("no deadlock").is_err());
    assert_eq!(metadata(&stage.store).await.status, Status::Failed);
}

/// dyndump kept as many parts on disk as there were workers. Here whoever writes waits.
#[tokio::test(start_paused = true)]
async fn b15_a_slow_store_holds_the_scan_up_and_fills_nothing() {
    #[derive(Debug)]
    struct Slow;
    #[async_trait]
    impl Interceptor for Slow {
        async fn before(&self, call: &Call) -> Result<Ticket, Failure> {
            if call.operation == "create" && call.resource.contains("-part-") {
                tokio::time::sleep(seconds(3600)).await;
            }
            Ok(0)
        }

        async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
            Ok(())
        }
    }
    let stage = Stage::of_items(0);
    let store = Arc::new(Intercepted::new(&stage.store, &Arc::new(Slow)));
    let parts = begin(&stage, store, 1000).await;
    let mut taken = 0;
    loop {
        let write = parts.write(noise_line().into());
        match tokio::time::timeout(seconds(60), write).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        taken += 1;
    }
    // Two parts of some 1000 bytes, of lines that compress to half, and a queue of four writes.
    assert!((10..100).contains(&taken), "{taken}");
}

#[tokio::test]
async fn dd_18_what_is_there_is_never_overwritten() {
    for status in [Status::Running, Status::Failed, Status::Completed] {
        let stage = Stage::of_items(5);
        let there = DyndumpMetadata {
            table_name: "other".into(),
            status,
            ..DyndumpMetadata::default()
        };
        let there = String::from_utf8(there.to_json()).unwrap();
        stage.store.plant(object(&keys().metadata(), &there));
        let before = stage.store.objects();
        let place = place(stage.store.clone(), 1000);
        let error = place
            .begin(
                DyndumpMetadata::default(),
                "claim".into(),
                stage.deps.clock.clone(),
            )
            .await
            .unwrap_err();
        assert_eq!(error.name(), ErrorName::SnapshotExists);
        let text = error.to_string();
        assert!(
            text.contains("\"other\"") && text.contains(status.as_str()),
            "{text}"
        );
        assert_eq!(stage.store.objects(), before);
    }
    // Parts that were left behind would become part of the new backup.
    let stage = Stage::of_items(5);
    stage.store.plant(object(&keys().part(7), "x"));
    let error = place(stage.store.clone(), 1000).check().await.unwrap_err();
    assert!(error.to_string().contains("-part-000000007"), "{error}");
    let too_small = place(stage.store.clone(), 999).check().await.unwrap_err();
    assert!(
        too_small.to_string().contains("PartSize too small"),
        "{too_small}"
    );
}

/// A rival that comes between our look and our claim, and one that writes parts without a claim.
#[tokio::test]
async fn a_rival_at_the_same_prefix_is_noticed() {
    #[derive(Debug)]
    struct Rival(Arc<FakeStore>, NewObject);
    #[async_trait]
    impl Interceptor for Rival {
        async fn before(&self, call: &Call) -> Result<Ticket, Failure> {
            if call.operation == "create" && call.resource == self.1.key {
                self.0.plant(self.1.clone());
            }
            Ok(0)
        }

        async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
            Ok(())
        }
    }
    let mut lost_answer = object(&keys().part(1), "x");
    lost_answer.user_metadata = BTreeMap::from([(CLAIM.to_owned(), "claim".to_owned())]);
    for (planted, goes_on) in [
        (object(&keys().metadata(), "{}"), false),
        (object(&keys().part(1), "x"), false),
        // The same answer for an object of ours, whose creation was answered by nobody.
        (lost_answer, true),
    ] {
        let stage = Stage::of_items(30);
        let rival = Arc::new(Rival(stage.store.clone(), planted));
        let store: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&stage.store, &rival));
        let plan = dump::plan(&stage.deps, &request()).await.unwrap();
        let begun =
            place(store, 1000).begin(plan.metadata(), "claim".into(), stage.deps.clock.clone());
        let outcome = match begun.await {
            Ok(parts) => dump::run(&stage.deps, &plan, &[Arc::new(parts)]).await,
            Err(error) => Err(error),
        };
        assert_eq!(outcome.is_ok(), goes_on, "{outcome:?}");
    }
}

#[tokio::test]
async fn dd_19_a_table_without_items() {
    let stage = Stage::of_items(0);
    let parts = begin(&stage, stage.store.clone(), 1000).await;
    let report = dumped(&stage.deps, &request(), &[parts]).await.unwrap();
    assert_eq!(report.items, 0);
    let (lines, metadata) = read_layout(&stage.store);
    assert!(lines.is_empty());
    assert_eq!(
        (metadata.status, metadata.part_count, metadata.item_count),
        (Status::Completed, 0, 0)
    );
}

/// dyndump sent `Limit` 0, which DynamoDB (and the fake) refuses.
#[tokio::test]
async fn b1_a_capacity_of_0_is_unlimited() {
    let stage = Stage::of_items(200);
    let memory = Arc::new(Memory::default());
    let report = dumped(&stage.deps, &request(), &[memory]).await.unwrap();
    assert_eq!(report.items, 200);
}

/// dyndump dereferenced it.
#[tokio::test]
async fn b14_a_capacity_that_is_not_told_is_no_panic() {
    #[derive(Debug)]
    struct Silent(Arc<FakeTable>);
    #[async_trait]
    impl TableScanner for Silent {
        async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
            let page = self.0.scan_page(request).await?;
            Ok(Page {
                consumed_capacity: 0.0,
                ..page
            })
        }
    }
    let stage = Stage::of_items(100);
    let deps = stage.through_scanner(Arc::new(Silent(stage.table.clone())));
    let paced = DumpRequest {
        read_capacity: Some(5.0),
        ..request()
    };
    let report = dumped(&deps, &paced, &[Arc::new(Memory::default())])
        .await
        .unwrap();
    assert_eq!(report.items, 100);
    assert!(report.scan.consumed_capacity.abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_limit_on_items_is_exact_with_any_number_of_workers() {
    for (parallel, segments, max_items) in [
        (1, 1, 7),
        (4, 4, 1),
        (8, 8, 50),
        (3, 20, 99),
        (5, 5, 100),
        (5, 5, 1000),
    ] {
        let stage = Stage::of_items(100);
        let memory = Arc::new(Memory::default());
        let request = DumpRequest {
            parallel,
            segments: Some(segments),
            max_items,
            ..request()
        };
        let report = dumped(&stage.deps, &request, &only(&memory)).await.unwrap();
        let expected = max_items.min(100);
        assert_eq!(report.items, expected, "{parallel} {segments}");
        let mut lines = sorted(memory.lines());
        assert_eq!(lines.len() as u64, expected);
        lines.dedup();
        assert_eq!(lines.len() as u64, expected, "no item twice");
        assert_eq!(memory.last(), "commit");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_sent_again_as_often_as_was_said() {
    for (max_retries, done) in [(0, false), (1, true)] {
        let stage = Stage::of_items(50);
        let failing = Failing::once(3, Moment::Before, FailureKind::Throttled).only("scan_page");
        let scanner = Arc::new(Intercepted::new(&stage.table, &Arc::new(failing)));
        let deps = stage.through_scanner(scanner);
        let memory = Arc::new(Memory::default());
        let request = DumpRequest {
            max_retries,
            ..request()
        };
        let outcome = dumped(&deps, &request, &only(&memory)).await;
        assert_eq!(outcome.is_ok(), done, "{}", story(&outcome));
        if let Ok(report) = outcome {
            assert_eq!((report.items, report.scan.throttles), (50, 1));
        } else {
            assert_eq!(memory.last(), "abandon");
        }
    }
}

#[tokio::test]
async fn one_sink_that_fails_ends_all_of_them() {
    for at in ["write", "flush", "commit"] {
        let stage = Stage::of_items(100);
        let parts = begin(&stage, stage.store.clone(), 1000).await;
        let bad = Memory::failing_at(at);
        let good = Arc::new(Memory::default());
        // The bad one first, so that what comes after it is not shown either.
        let sinks: [Arc<dyn LineSink>; 3] = [bad.clone(), good.clone(), parts];
        let error = dumped(&stage.deps, &request(), &sinks).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::StoreNotWritable, "{at}: {error}");
        assert_eq!((bad.last(), good.last()), ("abandon", "abandon"), "{at}");
        assert_eq!(metadata(&stage.store).await.status, Status::Failed, "{at}");
    }
}

#[tokio::test]
async fn dd_20_a_stop_marks_it_failed_and_shows_nothing() {
    let stop = StopFlag::default();
    let stage = {
        let stop = stop.clone();
        Stage::new(table_of(300).before_page(move |page, _| {
            if page == 20 {
                stop.set();
            }
        }))
    };
    let mut deps = stage.deps.clone();
    deps.snapshots.stop = stop;
    let parts = begin(&stage, stage.store.clone(), 1000).await;
    let memory = Arc::new(Memory::default());
    let report = dumped(&deps, &request(), &[parts, memory.clone()])
        .await
        .unwrap();
    assert!(report.stopped && report.items < 300, "{report:?}");
    assert_eq!(memory.last(), "abandon");
    let (lines, metadata) = read_layout(&stage.store);
    assert_eq!(metadata.status, Status::Failed);
    assert!(
        lines.len() as u64 <= report.items,
        "its account is of what is there"
    );
}

/// B6's other half: dyndump still uploaded what it had of a part.
#[tokio::test]
async fn b6_what_is_given_up_uploads_no_half_part() {
    let stage = Stage::of_items(0);
    let parts = begin(&stage, stage.store.clone(), 1 << 20).await;
    parts.write(noise_line().into()).await.unwrap();
    parts.abandon().await.unwrap();
    assert_eq!(stage.store.keys(), [keys().metadata()]);
    assert_eq!(metadata(&stage.store).await.status, Status::Failed);
    assert!(parts.write(noise_line().into()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_sink_that_never_answers() {
    let stage = Stage::of_items(50);
    let stop = stage.deps.stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(seconds(3)).await;
        stop.set();
    });
    let report = dumped(&stage.deps, &request(), &[Arc::new(Stuck)])
        .await
        .unwrap();
    assert!(report.stopped);
}

/// Generated items of all types, through both restorable encodings and back.
#[tokio::test]
async fn restorable_encodings_lead_back_to_every_item() {
    let generator = Generator::new(11, KeyShape::STRING).with_big_every(200);
    let stage = Stage::new(FakeTable::new("orders", KeyShape::STRING.schema(), 3));
    for index in 0..400 {
        stage.table.put(&generator.item(index));
    }
    let items = stage.table.items();
    let expected: BTreeMap<String, serde_json::Value> = items
        .values()
        .map(|item| (canonical(item)["pk"].to_string(), canonical(item)))
        .collect();
    for numbers_as_strings in [false, true] {
        let memory = Arc::new(Memory::default());
        let request = DumpRequest {
            encoding: Encoding::Typed { numbers_as_strings },
            ..request()
        };
        dumped(&stage.deps, &request, &only(&memory)).await.unwrap();
        let read: BTreeMap<String, serde_json::Value> = memory
            .lines()
            .iter()
            .map(|line| canonical(&decode_typed(line).unwrap()))
            .map(|item| (item["pk"].to_string(), item))
            .collect();
        assert_eq!(read, expected);
    }
}

async fn deleted(
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
    options: DeleteOptions,
) -> Result<bool, StepError> {
    delete_dyndump::plan(store, keys, options).await?;
    delete_dyndump::run(store, keys, &StopFlag::default(), |_| ()).await
}

fn plant_backup(store: &FakeStore, prefix: &str, parts: u32, status: Status) -> DyndumpKeys {
    let keys = DyndumpKeys::new(prefix);
    for number in 1..=parts {
        store.plant(object(&keys.part(number), "x"));
    }
    let metadata = DyndumpMetadata {
        table_name: "orders".into(),
        status,
        ..DyndumpMetadata::default()
    };
    let metadata = String::from_utf8(metadata.to_json()).unwrap();
    store.plant(object(&keys.metadata(), &metadata));
    keys
}

#[tokio::test]
async fn dd_17_parts_go_first_the_metadata_last_and_strays_stay() {
    let store = Arc::new(FakeStore::new().with_page(3));
    let keys = plant_backup(&store, "test-prefix", 4, Status::Completed);
    let strays = [
        "test-prefix-part-ignore-this.json.gz",
        "test-prefix-2-meta.json",
    ];
    let _ = strays.map(|stray| store.plant(object(stray, "x")));
    let counting = Arc::new(Counting::new());
    let counted = Intercepted::new(&store, &counting);
    assert!(
        deleted(&counted, &keys, DeleteOptions::default())
            .await
            .unwrap()
    );
    assert_eq!(
        store.keys(),
        [
            "test-prefix-2-meta.json",
            "test-prefix-part-ignore-this.json.gz"
        ]
    );
    let calls = counting.calls();
    let deletes = calls.iter().filter(|call| call.operation == "delete");
    let deletes: Vec<&str> = deletes.map(|call| call.resource.as_str()).collect();
    assert_eq!(
        deletes.last(),
        Some(&"test-prefix-meta.json"),
        "{deletes:?}"
    );
    assert_eq!(deletes.len(), 3, "{deletes:?}");
}

#[tokio::test]
async fn dd_17_and_b16_the_metadata_outlives_every_failure() {
    for operation in ["list", "delete"] {
        for nth in 1..=3 {
            let store = Arc::new(FakeStore::new().with_page(3));
            let keys = plant_backup(&store, "p", 5, Status::Completed);
            let failing = Failing::once(nth, Moment::Before, FailureKind::Denied).only(operation);
            let failing = Arc::new(failing);
            let broken = Intercepted::new(&store, &failing);
            let outcome = deleted(&broken, &keys, DeleteOptions::default()).await;
            if !failing.has_struck() {
                continue;
            }
            assert!(outcome.is_err(), "{operation} {nth}");
            assert!(store.keys().contains(&keys.metadata()), "{operation} {nth}");
            // And it can be done again.
            assert!(
                deleted(store.as_ref(), &keys, DeleteOptions::default())
                    .await
                    .unwrap()
            );
            assert_eq!(store.keys(), [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_stopped_deletion_keeps_the_metadata() {
    let store = Arc::new(FakeStore::new().with_page(2));
    let keys = plant_backup(&store, "p", 6, Status::Completed);
    let stop = StopFlag::default();
    let whole = delete_dyndump::run(store.as_ref(), &keys, &stop, |gone| {
        if gone == 4 {
            stop.set();
        }
    });
    assert!(!whole.await.unwrap());
    assert_eq!(store.keys(), [keys.metadata(), keys.part(5), keys.part(6)]);
}

#[tokio::test]
async fn b10_prefixes_are_text() {
    for prefix in ["a.b", "a(b", "a+b", "a*b", "a\\b"] {
        let store = FakeStore::new();
        let keys = plant_backup(&store, prefix, 3, Status::Completed);
        let neighbour = plant_backup(&store, "aXb", 2, Status::Completed);
        let before = store.keys().len();
        assert!(
            deleted(&store, &keys, DeleteOptions::default())
                .await
                .unwrap()
        );
        assert_eq!(store.keys().len(), before - 4, "{prefix}");
        assert!(store.keys().contains(&neighbour.part(2)));
    }
}

#[tokio::test]
async fn orphans_and_running_backups_need_to_be_asked_for() {
    let store = FakeStore::new();
    let keys = plant_backup(&store, "p", 3, Status::Running);
    let running = deleted(&store, &keys, DeleteOptions::default())
        .await
        .unwrap_err();
    assert!(running.to_string().contains("--force"), "{running}");
    store.lose(&keys.metadata());
    let orphans = deleted(
        &store,
        &keys,
        DeleteOptions {
            force: true,
            ..DeleteOptions::default()
        },
    );
    let orphans = orphans.await.unwrap_err();
    assert!(
        orphans.to_string().contains("3 parts") && orphans.to_string().contains("--force-orphans"),
        "{orphans}"
    );
    assert_eq!(store.keys().len(), 3);
    let forced = DeleteOptions {
        force_orphans: true,
        ..DeleteOptions::default()
    };
    assert!(deleted(&store, &keys, forced).await.unwrap());
    assert_eq!(store.keys(), [""; 0]);
    let nothing = deleted(&store, &keys, forced).await.unwrap_err();
    assert_eq!(nothing.name(), ErrorName::SnapshotNotFound);
    // Metadata that nobody can read counts as none.
    plant_backup(&store, "p", 2, Status::Completed);
    store.tamper(&keys.metadata(), |body| body.truncate(5));
    assert!(matches!(
        deleted(&store, &keys, DeleteOptions::default()).await,
        Err(StepError::PartCorrupt(_))
    ));
    assert!(deleted(&store, &keys, forced).await.unwrap());
    assert_eq!(store.keys(), [""; 0]);
}
