//! M1 to M14: the bugs of the system whose job this crate does, each with the reason why it is not ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use highwater_domain::handoff::Handoff;
use highwater_domain::lineage::Position;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_source::{Applied, Change, FnSink, Ports, Record, Retry, SinkError, SourceError};

use super::stage::{Book, Sale, Stage};

async fn handoff(stage: &Stage) -> Handoff {
    let captured = stage.source().snapshot().unwrap().capture_handoff().await;
    captured.unwrap().unwrap()
}

/// M1: AWS starts no stream at a time. Positions are sequence numbers.
#[tokio::test(start_paused = true)]
async fn m_01_a_handoff_is_positions_and_no_time() {
    let handoff = handoff(&Stage::new()).await;
    assert!(handoff.beginnings().count() > 0);
    for begins in handoff.beginnings() {
        assert!(
            matches!(&begins.resume, Some(Position::At(number)) if *number == begins.shard.start)
        );
    }
}

/// M2: a token of one page, with closed shards, without parents, that nothing reads.
#[tokio::test(start_paused = true)]
async fn m_02_a_handoff_has_every_shard_with_its_parent_and_can_be_read() {
    let stage = Stage::new();
    for _ in 0..7 {
        for shard in stage.table.open_shards() {
            stage.table.split(&shard);
        }
    }
    let handoff = handoff(&stage).await;
    assert!(handoff.shards.len() > 200);
    assert!(
        handoff
            .shards
            .iter()
            .filter(|shard| shard.shard.parent.is_some())
            .count()
            > 200
    );
    let json = serde_json::to_string(&handoff).unwrap();
    assert_eq!(serde_json::from_str::<Handoff>(&json).unwrap(), handoff);
}

/// M3: an iterator lives fifteen minutes, and one that has expired is made anew.
#[tokio::test(start_paused = true)]
async fn m_03_a_slow_consumer_outlives_its_iterator() {
    let stage = Stage::new();
    handoff(&stage).await;
    for n in 0..3 {
        stage.put(&format!("s{n}"), 0, 1);
    }
    let slow = highwater_source::AsyncFnSink::new(|_: &Record<Change<Sale>>| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_mins(20)).await;
            Ok(Applied::Done)
        })
    });
    let live = stage.source().live().unwrap();
    let report = live.run(Arc::new(slow)).await.unwrap();
    assert_eq!(report.counts.applied, 3);
}

/// M4: see `mu_07_…`: a failure is its record's sequence number.
/// M5: a claim is made after the effect: what fails is not claimed.
#[tokio::test(start_paused = true)]
async fn m_05_what_was_not_applied_is_not_claimed() {
    use highwater_source::{Claims, Deduplicated, MemoryCheckpoints, NoMetrics};
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let claims = Claims::new(Arc::new(MemoryCheckpoints::new()));
    let failing =
        FnSink::new(|_: &Record<Change<Sale>>| Err::<Applied, _>(SinkError::passing("down")));
    let sink = Deduplicated::new(failing, claims.clone(), Arc::new(NoMetrics));
    assert!(stage.source().bootstrap(sink).unwrap().run().await.is_err());
    let book = Book::default();
    let sink = Deduplicated::new(book.sink(), claims, Arc::new(NoMetrics));
    stage.source().bootstrap(sink).unwrap().run().await.unwrap();
    assert_eq!(book.table().len(), 1);
}

/// M6: an item that is written between the capture and its scan comes as both; the order says that the change is the later word,
/// and its old and new images let a sum be kept per key.
#[tokio::test(start_paused = true)]
async fn m_06_the_same_item_from_both_sides_counts_once_per_key() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    handoff(&stage).await;
    stage.put("a", 0, 5);
    let book = Book::default();
    stage
        .source()
        .bootstrap(book.sink())
        .unwrap()
        .run()
        .await
        .unwrap();
    let all = book.all();
    assert!(
        all[0].1.starts_with("00000") && all[0].2.as_ref().unwrap().amount == 5,
        "{all:?}"
    );
    assert!(all[1..].iter().all(|(_, order, _)| *order > all[0].1));
    assert_eq!(book.sums().into_values().sum::<u64>(), 5, "not 10");
}

/// M7: nothing behind a failed record of a key is applied before it.
#[tokio::test(start_paused = true)]
async fn m_07_a_failed_change_holds_back_those_behind_it() {
    let stage = Stage::new();
    handoff(&stage).await;
    for amount in 1..=3 {
        stage.put("a", 0, amount);
    }
    let book = Book::default();
    let inner = book.clone();
    let sink = FnSink::new(move |record: &Record<Change<Sale>>| {
        if record.value.current().is_some_and(|sale| sale.amount == 2) {
            return Err(SinkError::passing("down"));
        }
        inner.note(record);
        Ok(Applied::Done)
    });
    let live = stage
        .source()
        .retry(Retry::default().attempts(2))
        .live()
        .unwrap();
    assert!(matches!(
        live.run(Arc::new(sink)).await,
        Err(SourceError::Sink { attempts: 2, .. })
    ));
    assert_eq!(book.all().len(), 1);
    let live = stage.source().live().unwrap();
    live.run(Arc::new(book.sink())).await.unwrap();
    let amounts: Vec<u64> = book
        .all()
        .iter()
        .filter_map(|it| Some(it.2.as_ref()?.amount))
        .collect();
    assert_eq!(amounts, [1, 1, 2, 3], "in order; the first once more");
}

/// Notes the limits that are asked for.
#[derive(Debug)]
struct Limits(
    Arc<dyn TableScanner>,
    std::sync::Mutex<BTreeSet<Option<u32>>>,
);

#[async_trait::async_trait]
impl TableScanner for Limits {
    async fn scan_page(
        &self,
        request: &ScanRequest,
    ) -> Result<Page, highwater_domain::failure::Failure> {
        self.1.lock().unwrap().insert(request.limit);
        self.0.scan_page(request).await
    }
}

/// M8: a page is as large as DynamoDB makes it, unless somebody wants it smaller; a limit of 0 is never sent.
#[tokio::test(start_paused = true)]
async fn m_08_no_limit_is_sent_unless_it_is_asked_for() {
    for (asked, sent) in [(0, None), (7, Some(7))] {
        let stage = Stage::new();
        stage.put("a", 0, 1);
        let limits = Arc::new(Limits(stage.table.clone(), std::sync::Mutex::default()));
        let ports = Ports {
            scanner: limits.clone(),
            ..stage.ports()
        };
        let source = stage
            .source()
            .ports(ports)
            .page_size(asked)
            .snapshot()
            .unwrap();
        let mut scan = source.scan().await.unwrap();
        while let Some(record) = scan.next().await {
            record.unwrap().ack();
        }
        assert_eq!(*limits.1.lock().unwrap(), BTreeSet::from([sent]));
    }
}

/// M9: see `mu_17_…`: a handoff expires aloud.
/// M10: an error ends the scan, and nobody is left waiting to hand something over.
#[tokio::test(start_paused = true)]
async fn m_10_a_scan_that_is_given_up_leaves_nobody_behind() {
    let stage = Stage::new();
    for n in 0..3000 {
        stage.put(&format!("s{n}"), 0, 1);
    }
    stage.table.put_item("bad", r#"{"id":{"S":"bad"}}"#);
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let bootstrap = stage
        .source()
        .segments(16)
        .page_size(20)
        .bootstrap(Book::default().sink());
    let ended = tokio::time::timeout(Duration::from_mins(10), bootstrap.unwrap().run()).await;
    assert!(matches!(ended.unwrap(), Err(SourceError::Decode { .. })));
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert_eq!(after, before, "a task of the scan lives on");
}

/// M12: as many attempts as the documentation says, three. (M11 is a claim about what a store is charged, which is not made here.)
#[tokio::test(start_paused = true)]
async fn m_12_there_are_as_many_attempts_as_are_promised() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let tries = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let sink = FnSink::new(move |_: &Record<Change<Sale>>| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err::<Applied, _>(SinkError::passing("down"))
    });
    assert!(stage.source().bootstrap(sink).unwrap().run().await.is_err());
    assert_eq!(tries.load(std::sync::atomic::Ordering::Relaxed), 3);
}

/// M13: there is one handoff, whoever asks for it and however often.
/// M14: and all of this runs scans.
#[tokio::test(start_paused = true)]
async fn m_13_there_is_one_handoff() {
    let stage = Stage::new();
    let first = handoff(&stage).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    let shard = stage.table.open_shards().remove(0);
    stage.table.roll(&shard);
    assert_eq!(handoff(&stage).await, first);
    stage
        .source()
        .bootstrap(Book::default().sink())
        .unwrap()
        .run()
        .await
        .unwrap();
    assert_eq!(handoff(&stage).await, first);
}
