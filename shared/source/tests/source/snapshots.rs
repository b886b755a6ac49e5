//! Snapshots: MU-01 to MU-04, MU-14, MU-17, MU-18.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use highwater_source::{
    Applied, Change, Checkpoints as _, Claims, Decoded, Deduplicated, FnSink, MemoryCheckpoints,
    MemoryDeadLetters, Metrics, NoMetrics, Place, Record, Retry, SinkError, SourceBuilder,
    SourceError, builder,
};

use super::stage::{Book, Sale, Stage};

#[tokio::test(start_paused = true)]
async fn mu_01_what_is_missing_is_named() {
    let stage = Stage::new();
    let setting = |built: Result<_, SourceError>| match built
        .map(|_: highwater_source::SnapshotSource<Sale>| ())
    {
        Err(SourceError::Invalid { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        setting(builder::<Sale>().ports(stage.ports()).snapshot()),
        "table"
    );
    assert_eq!(
        setting(builder::<Sale>().table("sales").snapshot()),
        "ports"
    );
    let bare = SourceBuilder::<Sale>::without_decoder()
        .table("sales")
        .ports(stage.ports());
    assert_eq!(setting(bare.snapshot()), "decode");
    assert_eq!(setting(stage.source().table("a b").snapshot()), "table");
    assert_eq!(
        setting(stage.source().segments(1_000_001).snapshot()),
        "segments"
    );
    assert_eq!(
        setting(stage.source().name("with space").snapshot()),
        "name"
    );
    assert_eq!(
        setting(stage.source().filter_name("#a", "b").snapshot()),
        "filter"
    );
    // 0 segments are one, a page size of 0 is DynamoDB's own.
    let source = stage.source().segments(0).page_size(0).snapshot().unwrap();
    assert_eq!(source.name(), "snapshot:sales");
    let scan = source.scan().await.unwrap();
    assert!(scan.finish().await.is_ok());
    assert_eq!(source.progress().await.unwrap().len(), 1);
    // Without a stream there is no handoff.
    let without = Stage::new().source().without_stream().snapshot().unwrap();
    assert_eq!(without.capture_handoff().await.unwrap(), None);
    without.close();
}

#[tokio::test(start_paused = true)]
async fn mu_02_every_item_comes_exactly_once() {
    let stage = Stage::new();
    for n in 0..50_u64 {
        stage.put(&format!("s{n}"), u32::try_from(n % 3).unwrap(), 10 + n);
    }
    let source = stage.source().segments(4).page_size(3).snapshot().unwrap();
    let mut scan = source.scan().await.unwrap();
    let (mut ids, mut sums, mut segments) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    while let Some(record) = scan.next().await {
        let record = record.unwrap();
        assert!(
            ids.insert(record.value.id.clone()),
            "{} came twice",
            record.value.id
        );
        *sums.entry(record.value.region).or_insert(0) += record.value.amount;
        assert_eq!(
            record.event_id(),
            format!(r#"sales/{{"id":{{"S":"{}"}}}}"#, record.value.id)
        );
        if let Place::Segment(number) = record.place {
            segments.insert(number);
        }
        record.ack();
    }
    let expected = |region| {
        (0..50)
            .filter(|n| n % 3 == region)
            .map(|n| 10 + n)
            .sum::<u64>()
    };
    assert_eq!(
        sums,
        BTreeMap::from([0, 1, 2].map(|region| (region, expected(u64::from(region)))))
    );
    assert_eq!((ids.len(), segments.len()), (50, 4));
    assert!(scan.finish().await.unwrap().done);
    let progress = source.progress().await.unwrap();
    assert!(progress.iter().all(|segment| segment.done));
    assert_eq!(
        progress
            .iter()
            .map(|segment| segment.totals.items)
            .sum::<u64>(),
        50
    );
    assert!(matches!(
        source.scan().await,
        Err(SourceError::AlreadyBegun { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn mu_03_a_second_bootstrap_with_the_same_claims_changes_nothing() {
    let stage = Stage::new();
    for n in 0..10 {
        stage.put(&format!("s{n}"), 0, 100);
    }
    let sum = Arc::new(AtomicU64::new(0));
    let claims = Claims::new(Arc::new(MemoryCheckpoints::new()));
    for name in ["first", "second"] {
        let sum = Arc::clone(&sum);
        let adding = FnSink::new(move |record: &Record<Change<Sale>>| {
            if let Change::Scanned { new } = &record.value {
                sum.fetch_add(new.amount, Ordering::Relaxed);
            }
            Ok::<_, SinkError>(Applied::Done)
        });
        let sink = Deduplicated::new(adding, claims.clone(), Arc::new(NoMetrics));
        let stage = stage.elsewhere();
        let bootstrap = stage
            .source()
            .name(name)
            .without_stream()
            .bootstrap(sink)
            .unwrap();
        let report = bootstrap.run().await.unwrap();
        let (applied, duplicates) = (report.snapshot.applied, report.snapshot.duplicates);
        assert_eq!(
            (applied, duplicates),
            if name == "first" { (10, 0) } else { (0, 10) }
        );
    }
    assert_eq!(sum.load(Ordering::Relaxed), 1000, "not 2000");
}

#[tokio::test(start_paused = true)]
async fn mu_04_a_bootstrap_lands_everything_and_tells_its_handoff() {
    let stage = Stage::new();
    for n in 1..=6 {
        stage.put(&format!("s{n}"), n % 3, u64::from(n));
    }
    let book = Book::default();
    let bootstrap = stage.source().bootstrap(book.sink()).unwrap();
    let report = bootstrap.run().await.unwrap();
    assert_eq!(report.snapshot.applied, 6);
    assert_eq!(book.sums(), BTreeMap::from([(0, 9), (1, 5), (2, 7)]));
    let handoff = stage
        .source()
        .snapshot()
        .unwrap()
        .capture_handoff()
        .await
        .unwrap();
    assert!(handoff.unwrap().beginnings().count() > 0);
}

/// Fails each record so many times before it takes it.
fn flaky(
    book: &Book,
    failures: u32,
) -> FnSink<impl Fn(&Record<Change<Sale>>) -> Result<Applied, SinkError> + Send + Sync + 'static> {
    let (book, tries) = (book.clone(), std::sync::Mutex::new(BTreeMap::new()));
    FnSink::new(move |record: &Record<Change<Sale>>| {
        let mut tries = tries.lock().unwrap();
        let so_far = tries
            .entry((record.key(), record.order().to_string()))
            .or_insert(0);
        *so_far += 1;
        if *so_far <= failures {
            return Err(SinkError::passing("the store is down"));
        }
        book.note(record);
        Ok(Applied::Done)
    })
}

#[tokio::test(start_paused = true)]
async fn mu_04_a_flaky_sink_is_tried_again() {
    let stage = Stage::new();
    for n in 1..=3 {
        stage.put(&format!("s{n}"), n, 1);
    }
    let book = Book::default();
    let bootstrap = stage.source().bootstrap(flaky(&book, 2)).unwrap();
    assert_eq!(bootstrap.run().await.unwrap().snapshot.applied, 3);
    assert_eq!(book.table().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn mu_04_what_never_succeeds_goes_to_the_dead_letters_or_ends_everything() {
    let stage = Stage::new();
    for n in 1..=3 {
        stage.put(&format!("s{n}"), n, 1);
    }
    let strict = stage.elsewhere();
    let failed = strict
        .source()
        .without_stream()
        .bootstrap(flaky(&Book::default(), 99))
        .unwrap();
    match failed.run().await {
        Err(SourceError::Sink { attempts, key, .. }) => {
            assert_eq!(attempts, 3);
            assert!(key.contains("\"id\""), "{key}");
        }
        other => panic!("{other:?}"),
    }
    let letters = Arc::new(MemoryDeadLetters::default());
    let source = stage
        .source()
        .without_stream()
        .dead_letters(letters.clone());
    let report = source
        .bootstrap(flaky(&Book::default(), 99))
        .unwrap()
        .run()
        .await
        .unwrap();
    assert_eq!(report.snapshot.dead_letters, 3);
    let kept = letters.letters();
    assert_eq!(kept.len(), 3);
    assert!(
        kept.iter()
            .all(|letter| letter.attempts == 3 && letter.new.is_some())
    );
}

#[derive(Debug, Default)]
struct Counted {
    batches: AtomicU64,
    records: AtomicU64,
}

impl Metrics for Counted {
    fn batch(&self, _: &Place, records: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn mu_04_progress_is_told_while_it_runs_and_adds_up() {
    let stage = Stage::new();
    for n in 1..=5 {
        stage.put(&format!("s{n}"), n, 1);
    }
    let counted = Arc::new(Counted::default());
    let slow = highwater_source::AsyncFnSink::new(|_: &Record<Change<Sale>>| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok(Applied::Done)
        })
    });
    let source = stage
        .source()
        .without_stream()
        .page_size(2)
        .metrics(counted.clone());
    source.bootstrap(slow).unwrap().run().await.unwrap();
    assert_eq!(counted.records.load(Ordering::Relaxed), 5);
    assert!(
        counted.batches.load(Ordering::Relaxed) > 1,
        "in the middle, too"
    );
}

#[tokio::test(start_paused = true)]
async fn mu_11_a_stop_ends_a_wait_at_once() {
    let stage = Stage::new();
    stage.put("s", 1, 1);
    let stop = highwater_steps::StopFlag::default();
    let retry = Retry::default()
        .attempts(1000)
        .waits(Duration::from_hours(1), Duration::from_hours(1));
    let source = stage
        .source()
        .without_stream()
        .retry(retry)
        .stop(stop.clone());
    let bootstrap = source.bootstrap(flaky(&Book::default(), 9999)).unwrap();
    let began = tokio::time::Instant::now();
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.set();
    };
    let (ended, ()) = tokio::join!(bootstrap.run(), stopping);
    assert!(
        matches!(ended, Err(SourceError::Stopped { .. })),
        "{ended:?}"
    );
    assert!(
        began.elapsed() < Duration::from_millis(5_500),
        "{:?}",
        began.elapsed()
    );
}

/// What is not acknowledged comes again, what is does not, whatever else was handed out.
#[tokio::test(start_paused = true)]
async fn mu_18_a_segment_goes_on_at_its_last_evaluated_key() {
    let stage = Stage::new();
    for n in 0..40 {
        stage.put(&format!("s{n}"), 0, n);
    }
    let source = stage.source().segments(2).page_size(4).snapshot().unwrap();
    let mut done = BTreeMap::new();
    let mut scan = source.scan().await.unwrap();
    for _ in 0..13 {
        let record = scan.next().await.unwrap().unwrap();
        *done.entry(record.value.id.clone()).or_insert(0) += 1;
        record.ack();
    }
    // A moment for the checkpoints, then the process dies in the middle of a page.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(scan);
    let progress = source.progress().await.unwrap();
    let saved: u64 = progress.iter().map(|segment| segment.totals.items).sum();
    assert!((8..=12).contains(&saved), "whole pages only: {saved}");
    assert!(progress.iter().any(|segment| segment.next.is_some()));
    let mut scan = source.resume().await.unwrap();
    let mut again = 0;
    while let Some(record) = scan.next().await {
        let record = record.unwrap();
        let times = done.entry(record.value.id.clone()).or_insert(0);
        *times += 1;
        again += u32::from(*times > 1);
        record.ack();
    }
    assert!(scan.finish().await.unwrap().done);
    assert_eq!(done.len(), 40, "none is lost");
    assert_eq!(
        u64::from(again),
        13 - saved,
        "only what was not saved comes again"
    );
    let mut after = source.resume().await.unwrap();
    assert!(after.next().await.is_none(), "there is nothing left");
    let totals = source.progress().await.unwrap();
    assert_eq!(
        totals
            .iter()
            .map(|segment| segment.totals.items)
            .sum::<u64>(),
        40,
        "counted once"
    );
}

/// An acknowledgement that is missing holds its segment back and no other.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_does_not_pass_a_record_that_is_not_acknowledged() {
    let stage = Stage::new();
    for n in 0..20 {
        stage.put(&format!("s{n}"), 0, n);
    }
    let source = stage.source().page_size(5).snapshot().unwrap();
    let mut scan = source.scan().await.unwrap();
    let mut held = None;
    let mut count = 0;
    while let Some(record) = scan.next().await {
        let record = record.unwrap();
        count += 1;
        if count == 7 {
            held = Some(record.into_parts().1);
        } else {
            record.ack();
        }
    }
    assert!(!scan.finish().await.unwrap().done);
    drop(held);
    assert_eq!(
        source.progress().await.unwrap()[0].totals.items,
        5,
        "the page before it"
    );
    let left = source.resume().await.unwrap().count().await;
    assert_eq!(left, 15);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_named_or_kept() {
    let stage = Stage::new();
    stage.put("good", 1, 1);
    stage
        .table
        .put_item("bad", r#"{"id":{"S":"bad"},"region":{"S":"north"}}"#);
    let source = stage.elsewhere();
    let strict = source.source().snapshot().unwrap().scan().await.unwrap();
    let all: Vec<_> = strict.collect().await;
    let error = all.into_iter().find_map(Result::err).unwrap();
    assert!(
        matches!(&error, SourceError::Decode { key, .. } if key == r#"{"id":{"S":"bad"}}"#),
        "{error}"
    );
    let letters = Arc::new(MemoryDeadLetters::default());
    let source = stage
        .source()
        .on_decode_error(letters.clone())
        .snapshot()
        .unwrap();
    let mut scan = source.scan().await.unwrap();
    let mut good = 0;
    while let Some(record) = scan.next().await {
        record.unwrap().ack();
        good += 1;
    }
    assert!(scan.finish().await.unwrap().done);
    assert_eq!((good, source.progress().await.unwrap()[0].buried), (1, 1));
    let letter = &letters.letters()[0];
    assert_eq!(
        &letter.new.as_ref().unwrap()[..],
        br#"{"id":{"S":"bad"},"region":{"S":"north"}}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_function_decodes_and_skips() {
    let stage = Stage::new();
    for n in 0..10 {
        stage.put(&format!("s{n}"), n % 2, 1);
    }
    let source = SourceBuilder::without_decoder()
        .table("sales")
        .ports(stage.ports())
        .without_stream()
        .event_id(|raw| format!("{} bytes", raw.new.map_or(0, <[u8]>::len)))
        .decode(|item| {
            let sale: Sale = highwater_source::from_item(item)?;
            Ok(if sale.region == 0 {
                Decoded::Skip
            } else {
                Decoded::Value(sale.id)
            })
        });
    let source = source.snapshot().unwrap();
    let mut scan = source.scan().await.unwrap();
    let mut ids = BTreeSet::new();
    while let Some(record) = scan.next().await {
        let record = record.unwrap();
        assert!(record.event_id().ends_with(" bytes"));
        ids.insert(record.value.clone());
        record.ack();
    }
    assert_eq!(ids.len(), 5);
    assert!(scan.finish().await.unwrap().done);
    assert_eq!(source.progress().await.unwrap()[0].skipped, 5);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_goes_on_as_it_began() {
    let stage = Stage::new();
    let resumed = stage.source().snapshot().unwrap().resume().await;
    assert!(matches!(resumed, Err(SourceError::NotBegun { .. })));
    stage
        .source()
        .segments(2)
        .snapshot()
        .unwrap()
        .capture_handoff()
        .await
        .unwrap();
    for (other, named) in [
        (stage.source().segments(3), "segments"),
        (
            stage.source().segments(2).eventually_consistent(),
            "consistent reads",
        ),
        (
            stage.source().segments(2).filter("attribute_exists(id)"),
            "selection",
        ),
    ] {
        match other.snapshot().unwrap().resume().await {
            Err(SourceError::OtherSettings { setting, .. }) => assert_eq!(setting, named),
            other => panic!("{other:?}"),
        }
    }
    stage.table.drop_and_create();
    let resumed = stage
        .source()
        .segments(2)
        .snapshot()
        .unwrap()
        .resume()
        .await;
    assert!(
        matches!(resumed, Err(SourceError::TableChanged { .. })),
        "{resumed:?}"
    );
}

/// The plan, with the handoff in it, is there before the first page is asked for.
#[tokio::test(start_paused = true)]
async fn the_handoff_is_kept_before_the_first_page() {
    let stage = Stage::new();
    stage.put("s", 1, 1);
    let scan = stage.source().snapshot().unwrap().scan().await.unwrap();
    // Nothing has run yet but the beginning: no reader was polled.
    let plan = stage.place.load("plan").await.unwrap().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.value).unwrap();
    assert!(
        plan["handoff"]["shards"][0]["resume"]["at"].is_string(),
        "{plan}"
    );
    drop(scan);
}

/// Two processes that scan one segment: one of them is told, nothing is lost.
#[tokio::test(start_paused = true)]
async fn two_scanners_of_one_segment_waste_work_and_lose_nothing() {
    let stage = Stage::new();
    for n in 0..20 {
        stage.put(&format!("s{n}"), 0, n);
    }
    let one = stage.source().page_size(2).snapshot().unwrap();
    let mut first = one.scan().await.unwrap();
    let mut second = one.resume().await.unwrap();
    let mut taken = [Vec::new(), Vec::new()];
    let scans = [&mut first, &mut second].into_iter().zip([6, 8]);
    for ((scan, count), taken) in scans.zip(&mut taken) {
        for _ in 0..count {
            taken.push(scan.next().await.unwrap().unwrap());
        }
    }
    for taken in taken {
        taken.into_iter().for_each(Record::ack);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(first.finish().await.is_ok());
    let raced = second.finish().await;
    assert!(
        matches!(raced, Err(SourceError::Raced { segment: 0, .. })),
        "{raced:?}"
    );
    assert_eq!(one.progress().await.unwrap()[0].totals.items, 6);
}
