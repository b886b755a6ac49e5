//! Deadlines, capacity, throttles and stops, on a clock that the tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stage::*;
use async_trait::async_trait;
use highwater_domain::budget::Budget;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::snapshot::Status;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::request::BackupRequest;
use highwater_steps::{Deps, ErrorName, finalize_backup, scan_segment, snapshot_info};
use highwater_testkit::fake_table::FakeTable;

/// A table whose every page takes so long, costs so much, and is throttled so often before it comes.
#[derive(Debug)]
struct Slow {
    table: Arc<FakeTable>,
    page_ms: u64,
    units: f64,
    throttles: u64,
    calls: AtomicU64,
}

#[async_trait]
impl TableScanner for Slow {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        tokio::time::sleep(std::time::Duration::from_millis(self.page_ms)).await;
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if !call.is_multiple_of(self.throttles + 1) {
            return Err(Failure::new(
                FailureKind::Throttled,
                "Scan",
                "orders",
                "slow down",
            ));
        }
        let page = self.table.scan_page(request).await?;
        Ok(Page {
            consumed_capacity: self.units,
            ..page
        })
    }
}

fn slow(stage: &Stage, page_ms: u64, units: f64, throttles: u64) -> Deps {
    let calls = AtomicU64::new(0);
    stage.through_scanner(Arc::new(Slow {
        table: stage.table.clone(),
        page_ms,
        units,
        throttles,
        calls,
    }))
}

/// An invocation of `seconds` that begins now.
fn invocation(deps: &Deps, seconds: u64) -> Budget {
    let now = deps.clock.now();
    Budget::until(UnixMillis(now.0 + seconds * 1000), now)
}

/// Segment 0 by invocations of eight seconds, six of which are for scanning; gives how many it took.
async fn rounds_of_eight_seconds(deps: &Deps, after_each: impl Fn(usize)) -> usize {
    for round in 1.. {
        let began = deps.clock.now();
        let input = scan_input(0);
        let output = scan_segment::run(deps, &input, invocation(deps, 8))
            .await
            .unwrap();
        let took = deps.clock.now().since(began);
        assert!(
            took < 8_000,
            "an invocation ends before its deadline, not after {took} ms"
        );
        after_each(round);
        if output.done {
            return round;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_outlives_its_invocations_hands_off_and_ends_right() {
    let stage = Stage::of_items(90);
    stage.plan(request(1)).await.unwrap();
    let deps = slow(&stage, 1000, 1.0, 0);
    let rounds = rounds_of_eight_seconds(&deps, |_| ()).await;
    assert!(
        (4..20).contains(&rounds),
        "{rounds} rounds of 6 seconds for pages of a second"
    );
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
}

#[tokio::test(start_paused = true)]
async fn the_finalizer_hands_off_too() {
    let stage = Stage::of_items(4000);
    stage.plan(request(2)).await.unwrap();
    stage.scan_all(2).await.unwrap();
    let spent = Budget::until(stage.deps.clock.now(), stage.deps.clock.now());
    let output = finalize_backup::run(&stage.deps, &finalize_input(), spent)
        .await
        .unwrap();
    assert!(!output.done, "no time at all: nothing is sealed");
    assert_eq!(output.status, Some(Status::Running));
    assert!(stage.finalize().await.unwrap().done);
    stage.assert_equals_table().await;
}

/// dyndump's vector: 5 units a page, 10 a second, pages that take no time.
#[tokio::test(start_paused = true)]
async fn dd_07_the_scan_keeps_to_its_capacity() {
    let stage = Stage::new(
        FakeTable::with_numbered_items("orders", 1000, 7)
            .with_page(100)
            .with_empty_pages(0),
    );
    let request = BackupRequest {
        read_capacity: Some(10.0),
        concurrency: Some(1),
        ..request(1)
    };
    stage.plan(request).await.unwrap();
    let deps = slow(&stage, 0, 5.0, 0);
    let began = deps.clock.now();
    scan_lane(&deps, 0, Budget::UNLIMITED).await.unwrap();
    let pages = snapshot_pages(&stage).await;
    let took = deps.clock.now().since(began) / 1000;
    // Two pages a second, the first two at once. The last may be fetched without being waited for.
    let expected = pages.div_ceil(2) - 1;
    assert!(
        (expected..=expected + 1).contains(&took),
        "{pages} pages took {took} s"
    );
}

async fn snapshot_pages(stage: &Stage) -> u64 {
    highwater_steps::status::progress(stage.control.as_ref(), &id())
        .await
        .unwrap()
        .scan
        .pages
}

/// In Lambda each worker has its share; in a process all draw from one bucket.
#[tokio::test(start_paused = true)]
async fn workers_in_lambda_divide_the_capacity() {
    let took = async |share: Share| {
        let stage = Stage::new(
            FakeTable::with_numbered_items("orders", 400, 7)
                .with_page(100)
                .with_empty_pages(0),
        );
        let request = BackupRequest {
            read_capacity: Some(20.0),
            concurrency: Some(4),
            ..request(4)
        };
        stage.plan(request).await.unwrap();
        let pace = Arc::new(Pace::new(stage.deps.clock.clone(), share));
        let deps = Deps {
            pace,
            ..slow(&stage, 0, 5.0, 0)
        };
        let began = deps.clock.now();
        scan_segment::run(&deps, &scan_input(0), Budget::UNLIMITED)
            .await
            .unwrap();
        deps.clock.now().since(began) / 1000
    };
    // The page limit of 20 makes the pages of one segment of about 100 items: five or more.
    let (alone, shared) = (took(Share::Process).await, took(Share::Invocation).await);
    assert!(
        shared >= 3 * alone.max(1),
        "one worker with all: {alone} s, with a quarter: {shared} s"
    );
}

#[tokio::test(start_paused = true)]
async fn throttles_are_waited_out_and_counted() {
    let stage = Stage::of_items(60);
    stage.plan(request(1)).await.unwrap();
    let deps = slow(&stage, 1, 1.0, 3);
    scan_lane(&deps, 0, Budget::UNLIMITED).await.unwrap();
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
    let shown = snapshot_info::metadata(stage.store.as_ref(), &layout(), &id())
        .await
        .unwrap();
    // The first call of all is let through at once.
    assert_eq!(shown.scan.throttles, (shown.scan.pages - 1) * 3);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_only_throttles_fails_with_that_name_in_the_end() {
    let stage = Stage::of_items(60);
    stage.plan(request(1)).await.unwrap();
    let deps = slow(&stage, 1, 1.0, u64::MAX - 1);
    deps.scanner
        .scan_page(&highwater_testkit::fake_table::scan_request("orders", 0, 1))
        .await
        .unwrap();
    let error = scan_lane(&deps, 0, Budget::UNLIMITED).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::Throttled);
}

#[tokio::test(start_paused = true)]
async fn a_stop_commits_what_was_scanned_and_says_interrupted() {
    let stage = Stage::of_items(90);
    let large_parts = BackupRequest {
        part_bytes: Some(1 << 20),
        ..request(1)
    };
    stage.plan(large_parts).await.unwrap();
    let deps = slow(&stage, 1000, 1.0, 0);
    let stop = deps.stop.clone();
    let scan = scan_lane(&deps, 0, Budget::UNLIMITED);
    let (outcome, ()) = tokio::join!(scan, async {
        tokio::time::sleep(seconds(10)).await;
        stop.set();
    });
    assert_eq!(outcome.unwrap_err().name(), ErrorName::Interrupted);
    let parts = stage.control.all_parts(&id());
    assert_eq!(parts.len(), 1, "the part in the making was committed");
    assert!(parts[0].items > 5);
}

#[tokio::test(start_paused = true)]
async fn a_slow_scan_commits_every_few_minutes() {
    let stage = Stage::of_items(90);
    let large_parts = BackupRequest {
        part_bytes: Some(1 << 20),
        ..request(1)
    };
    stage.plan(large_parts).await.unwrap();
    scan_lane(&slow(&stage, 60_000, 1.0, 0), 0, Budget::UNLIMITED)
        .await
        .unwrap();
    let parts = stage.control.all_parts(&id());
    assert!(parts.len() > 5, "{} parts in an hour", parts.len());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_costs_neither_the_deadline_nor_the_part() {
    let table = FakeTable::with_numbered_items("orders", 90, 7).with_empty_pages(0);
    let stage = Stage::new(table);
    stage
        .plan(BackupRequest {
            part_bytes: Some(1 << 20),
            ..request(1)
        })
        .await
        .unwrap();
    // Pages of five seconds: one in each invocation, and a second one under way when time is up.
    let deps = slow(&stage, 5000, 1.0, 0);
    rounds_of_eight_seconds(&deps, |rounds| {
        let parts = stage.control.all_parts(&id()).len();
        // The last page is empty.
        assert!(parts + 1 >= rounds, "{parts} parts after {rounds} rounds");
    })
    .await;
    stage.finalize().await.unwrap();
    stage.assert_equals_table().await;
}
