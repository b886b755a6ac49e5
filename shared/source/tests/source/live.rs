//! The live side: MU-14 to MU-17, acknowledgements, TTL deletes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use highwater_source::{
    Applied, Change, Claims, Deduplicated, FnSink, MemoryCheckpoints, NoMetrics, Place, Record,
    SinkError, SourceError,
};

use super::stage::{Book, Sale, Stage};

fn ids(book: &Book) -> BTreeSet<String> {
    book.table().into_values().map(|sale| sale.id).collect()
}

#[tokio::test(start_paused = true)]
async fn mu_14_a_write_during_the_scan_is_in_the_final_state() {
    let stage = Stage::new();
    for n in 0..30 {
        stage.put(&format!("s{n}"), 0, 1);
    }
    let (book, during) = (Book::default(), stage.clone());
    let writing = std::sync::atomic::AtomicU32::new(0);
    let inner = book.clone();
    let sink = FnSink::new(move |record: &Record<Change<Sale>>| {
        inner.note(record);
        // The table changes while it is scanned: behind the cursor, before it, and right at it.
        if matches!(record.value, Change::Scanned { .. }) {
            let n = writing.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            during.put(&format!("s{}", n % 30), 1, u64::from(n) + 100);
            during.put(&format!("new{n}"), 2, 7);
            during.table.delete(&format!("s{}", (n * 7) % 30));
        }
        Ok::<_, SinkError>(Applied::Done)
    });
    let bootstrap = stage
        .source()
        .segments(3)
        .page_size(2)
        .bootstrap(sink)
        .unwrap();
    bootstrap.run().await.unwrap();
    let truth: BTreeSet<String> = stage.table.items().into_keys().collect();
    assert_eq!(ids(&book), truth);
    let all = book.all();
    let distinct: BTreeSet<_> = all.iter().map(|(key, order, _)| (key, order)).collect();
    assert_eq!(distinct.len(), all.len(), "each record once");
}

/// A process that dies after the effect and before the claim applies the record again; one that claimed first would have lost
/// it.
#[tokio::test(start_paused = true)]
async fn mu_15_a_crash_between_effect_and_claim_repeats_and_loses_nothing() {
    let stage = Stage::new();
    stage.put("s", 1, 1);
    let claims = Claims::new(Arc::new(MemoryCheckpoints::new()));
    let book = Book::default();
    let inner = book.clone();
    // The effect is there, and then the process is gone.
    let dying = FnSink::new(move |record: &Record<Change<Sale>>| {
        inner.note(record);
        Err::<Applied, _>(SinkError::refused("gone"))
    });
    let sink = Deduplicated::new(dying, claims.clone(), Arc::new(NoMetrics));
    assert!(stage.source().bootstrap(sink).unwrap().run().await.is_err());
    let again = Deduplicated::new(book.sink(), claims, Arc::new(NoMetrics));
    stage
        .source()
        .bootstrap(again)
        .unwrap()
        .run()
        .await
        .unwrap();
    // Twice by the snapshot, and once as the change that put it there.
    assert_eq!(
        book.all()
            .iter()
            .filter(|(_, order, _)| order.starts_with("00000"))
            .count(),
        2
    );
    assert_eq!(book.table().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn mu_16_more_than_a_hundred_shards_and_splits_on_the_way() {
    let stage = Stage::new();
    for round in 0..7 {
        for shard in stage.table.open_shards() {
            stage.table.split(&shard);
        }
        for n in 0..60 {
            stage.put(&format!("s{n}"), round, n);
        }
    }
    assert!(stage.table.open_shards().len() > 100);
    let (book, during) = (Book::default(), stage.clone());
    let inner = book.clone();
    let sink = FnSink::new(move |record: &Record<Change<Sale>>| {
        inner.note(record);
        if let Change::Scanned { new } = &record.value
            && new.amount % 10 == 0
            && let Some(shard) = during.table.shard_of(&new.id)
        {
            during.table.split(&shard);
            during.put(&new.id, 99, new.amount);
        }
        Ok::<_, SinkError>(Applied::Done)
    });
    let bootstrap = stage.source().page_size(5).bootstrap(sink).unwrap();
    bootstrap.run().await.unwrap();
    assert_eq!(ids(&book).len(), 60);
    let moved = book
        .table()
        .into_values()
        .filter(|sale| sale.region == 99)
        .count();
    assert_eq!(moved, 6, "what was written behind the splits came");
}

#[tokio::test(start_paused = true)]
async fn mu_17_a_scan_that_outlasts_the_stream_says_so() {
    let stage = Stage::new();
    for n in 0..10 {
        stage.put(&format!("s{n}"), 0, n);
    }
    let source = stage.source().page_size(2).snapshot().unwrap();
    let mut scan = source.scan().await.unwrap();
    scan.next().await.unwrap().unwrap().ack();
    drop(scan);
    tokio::time::sleep(Duration::from_hours(25)).await;
    let resumed = source.resume().await;
    assert!(
        matches!(resumed, Err(SourceError::HandoffExpired { .. })),
        "{resumed:?}"
    );
    let book = Book::default();
    let ended = stage
        .source()
        .page_size(2)
        .bootstrap(book.sink())
        .unwrap()
        .run()
        .await;
    let Err(error @ SourceError::HandoffExpired { .. }) = ended else {
        panic!("{ended:?}")
    };
    assert!(error.to_string().contains("another name"), "{error}");
}

/// The records are gone although the clock says that they could be there.
#[tokio::test(start_paused = true)]
async fn mu_17_records_that_are_trimmed_before_they_are_read_are_told_of_for_ever() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let book = Book::default();
    let source = || stage.source().bootstrap(book.sink()).unwrap();
    source().run_snapshot().await.unwrap();
    stage.put("b", 0, 1);
    stage.put("c", 0, 1);
    let shard = stage.table.open_shards().remove(0);
    stage.table.trim(&shard, 2);
    for _ in 0..2 {
        let ended = source().run().await;
        assert!(
            matches!(ended, Err(SourceError::HandoffExpired { .. })),
            "{ended:?}"
        );
    }
    assert!(
        book.all()
            .iter()
            .all(|(_, order, _)| order.starts_with("00000")),
        "nothing behind the gap"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_later_is_told_as_lost() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let book = Book::default();
    let source = || stage.source().bootstrap(book.sink()).unwrap();
    source().run().await.unwrap();
    for n in 0..5 {
        stage.put(&format!("b{n}"), 0, 1);
    }
    let shard = stage.table.open_shards().remove(0);
    stage.table.trim(&shard, 4);
    let ended = source().run().await;
    assert!(
        matches!(ended, Err(SourceError::RecordsLost { .. })),
        "{ended:?}"
    );
}

/// What is left of a stream that was disabled is read, and then its end is told.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_read_to_its_end_and_told_of() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let book = Book::default();
    stage
        .source()
        .bootstrap(book.sink())
        .unwrap()
        .run()
        .await
        .unwrap();
    stage.put("b", 0, 2);
    stage.table.disable_stream();
    let ended = stage.source().bootstrap(book.sink()).unwrap().run().await;
    assert_eq!(ids(&book).len(), 2, "what it still had");
    assert!(
        matches!(ended, Err(SourceError::RecordsLost { .. })),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_have_both_images_and_their_kind() {
    let stage = Stage::new();
    stage
        .source()
        .snapshot()
        .unwrap()
        .capture_handoff()
        .await
        .unwrap();
    stage.put("a", 1, 1);
    stage.put("a", 2, 2);
    stage.table.delete("a");
    let mut records = stage.source().live().unwrap().records().await.unwrap();
    let mut kinds = Vec::new();
    while let Some(record) = records.next().await {
        let record = record.unwrap();
        assert!(matches!(record.place, Place::Shard(_)));
        let amounts = (
            record.value.previous().map(|it| it.amount),
            record.value.current().map(|it| it.amount),
        );
        let (kind, ack) = record.into_parts();
        kinds.push((
            amounts,
            matches!(
                kind,
                Change::Remove {
                    is_ttl_delete: false,
                    ..
                }
            ),
        ));
        ack.ack();
    }
    assert_eq!(
        kinds,
        [
            ((None, Some(1)), false),
            ((Some(1), Some(2)), false),
            ((Some(2), None), true)
        ]
    );
}

/// A record that is not acknowledged comes again, with all behind it in its shard.
#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_comes_again() {
    let stage = Stage::new();
    let live = || stage.source().live().unwrap();
    stage
        .source()
        .snapshot()
        .unwrap()
        .capture_handoff()
        .await
        .unwrap();
    for n in 0..3 {
        stage.put(&format!("s{n}"), 0, n);
    }
    let mut first = live().records().await.unwrap();
    for n in 0..3 {
        let record = first.next().await.unwrap().unwrap();
        if n != 1 {
            record.ack();
        }
    }
    // A minute passes, and nothing more comes of the shard.
    stage.put("s3", 0, 3);
    let more = tokio::time::timeout(Duration::from_mins(1), first.next()).await;
    assert!(more.is_err(), "the shard waits");
    drop(first);
    let mut second = live().records().await.unwrap();
    let mut came = BTreeSet::new();
    while let Some(record) = second.next().await {
        let record = record.unwrap();
        came.insert(record.value.current().unwrap().id.clone());
        record.ack();
    }
    assert_eq!(came.len(), 4, "{came:?}");
    let mut third = live().records().await.unwrap();
    assert!(third.next().await.is_none(), "all of it is done");
}

/// After more than a day two generations of shards are gone, and a grandchild is all that is listed. It is not read as if it were the
/// beginning.
#[tokio::test(start_paused = true)]
async fn what_goes_on_from_a_shard_that_was_never_read_is_not_applied() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let book = Book::default();
    stage
        .source()
        .bootstrap(book.sink())
        .unwrap()
        .run()
        .await
        .unwrap();
    let read = stage.table.open_shards().remove(0);
    stage.put("a", 0, 2);
    let missed = stage.table.roll(&read);
    stage.put("a", 0, 3);
    stage.table.roll(&missed);
    stage.put("a", 0, 4);
    tokio::time::sleep(Duration::from_hours(7)).await;
    for gone in [&read, &missed] {
        stage.table.forget(gone);
        stage.table.unlist(gone);
    }
    for _ in 0..2 {
        let ended = stage.source().bootstrap(book.sink()).unwrap().run().await;
        assert!(
            matches!(ended, Err(SourceError::RecordsLost { .. })),
            "{ended:?}"
        );
    }
    let amounts: BTreeSet<u64> = book
        .all()
        .iter()
        .filter_map(|it| Some(it.2.as_ref()?.amount))
        .collect();
    assert_eq!(amounts, BTreeSet::from([1]), "nothing behind what is lost");
}

/// Two processes share the shards; when one comes upon a loss, the other does not go on behind it.
#[tokio::test(start_paused = true)]
async fn a_loss_that_another_process_has_seen_counts_for_all() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let book = Book::default();
    stage
        .source()
        .bootstrap(book.sink())
        .unwrap()
        .run()
        .await
        .unwrap();
    let stop = highwater_steps::StopFlag::default();
    let follow = |worker: &str| {
        let source = stage.source().worker(worker).stop(stop.clone());
        // For ever: `until_idle` would end the one that has nothing to read.
        source.following().bootstrap(book.sink()).unwrap()
    };
    let (one, two) = (follow("one"), follow("two"));
    let happening = async {
        tokio::time::sleep(Duration::from_mins(2)).await;
        let shard = stage.table.open_shards().remove(0);
        stage.table.hold_publication();
        for n in 0..5 {
            stage.put(&format!("lost{n}"), 0, n);
        }
        stage.table.publish_all();
        stage
            .table
            .trim(&shard, stage.table.records_of(&shard).len() - 1);
        tokio::time::sleep(Duration::from_mins(10)).await;
        stop.set();
    };
    let (one, two, ()) = tokio::join!(one.run(), two.run(), happening);
    let lost =
        |ended: &Result<_, SourceError>| matches!(ended, Err(SourceError::RecordsLost { .. }));
    assert!(lost(&one) || lost(&two), "{one:?} {two:?}");
    assert!(
        !ids(&book).iter().any(|id| id.starts_with("lost")),
        "{:?}",
        ids(&book)
    );
}
