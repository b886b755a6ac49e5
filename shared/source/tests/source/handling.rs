//! Lambda events: MU-05 to MU-09.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_source::{
    Applied, Change, Claims, Decoded, Deduplicated, FnSink, Handler, MemoryCheckpoints,
    MemoryDeadLetters, NoMetrics, Record, Retry, Sink, SinkError, SourceError, StreamEvent,
};
use highwater_testkit::simulation::SimRecord;

use super::stage::{Book, Sale, Stage};

/// An event with these records of the stage's stream.
fn event(stage: &Stage, records: &[Arc<SimRecord>]) -> StreamEvent {
    let arn = stage.table.stream_arn().unwrap();
    StreamEvent {
        shard_id: records.first().map(|record| record.shard.to_string()),
        records: Some(
            records
                .iter()
                .map(|record| record.for_lambda(&arn))
                .collect(),
        ),
        ..StreamEvent::default()
    }
}

fn all(stage: &Stage) -> StreamEvent {
    event(stage, &stage.table.all_records())
}

async fn handle<S: Sink<Sale> + 'static>(
    handler: &Handler<Sale, S>,
    event: StreamEvent,
) -> highwater_source::Handled {
    handler.handle(event, Budget::UNLIMITED).await.unwrap()
}

fn failures(answer: &highwater_source::Handled) -> Vec<String> {
    let failures = answer.response.batch_item_failures.iter();
    failures
        .map(|failure| failure.item_identifier.to_string())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn mu_05_a_batch_is_applied_in_order() {
    let stage = Stage::new();
    stage.put("a1", 1, 100);
    stage.put("a2", 1, 50);
    stage.put("b", 2, 1);
    stage.put("b", 2, 200);
    let book = Book::default();
    let handler = stage.source().handler(book.sink()).unwrap();
    let answer = handle(&handler, all(&stage)).await;
    assert_eq!(failures(&answer), [""; 0]);
    assert_eq!(answer.counts.applied, 4);
    assert_eq!(book.sums(), BTreeMap::from([(1, 150), (2, 200)]));
    let json = serde_json::to_string(&answer.response).unwrap();
    assert_eq!(json, r#"{"batchItemFailures":[]}"#);
}

#[tokio::test(start_paused = true)]
async fn mu_06_what_is_skipped_is_counted_and_no_failure() {
    let stage = Stage::new();
    stage.put("a", 1, 100);
    stage.put("x", 9, 1);
    stage.put("b", 1, 50);
    let book = Book::default();
    let source = stage.source().decode(|item| {
        let sale: Sale = highwater_source::from_item(item)?;
        Ok(if sale.region == 9 {
            Decoded::Skip
        } else {
            Decoded::Value(sale)
        })
    });
    let answer = handle(&source.handler(book.sink()).unwrap(), all(&stage)).await;
    assert_eq!((answer.skipped, answer.counts.applied), (1, 2));
    assert_eq!(
        (failures(&answer), book.sums()),
        (vec![], BTreeMap::from([(1, 150)]))
    );
}

/// A sink that fails for one id, so many times.
fn failing(book: &Book, id: &'static str, times: u32) -> impl Sink<Sale> + 'static {
    let (book, left) = (book.clone(), std::sync::atomic::AtomicU32::new(times));
    FnSink::new(move |record: &Record<Change<Sale>>| {
        use std::sync::atomic::Ordering::Relaxed;
        let is_it = record.value.current().is_some_and(|sale| sale.id == id);
        if is_it
            && left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
        {
            return Err(SinkError::passing("down"));
        }
        book.note(record);
        Ok(Applied::Done)
    })
}

#[tokio::test(start_paused = true)]
async fn mu_07_a_failure_is_named_by_its_sequence_number_and_nothing_behind_it_is_applied() {
    let stage = Stage::new();
    for id in ["a", "b", "c", "d"] {
        stage.put(id, 1, 1);
    }
    let book = Book::default();
    let passing = stage.source().handler(failing(&book, "b", 2)).unwrap();
    assert_eq!(failures(&handle(&passing, all(&stage)).await), [""; 0]);
    assert_eq!(book.table().len(), 4, "two of three attempts failed");

    let book = Book::default();
    let source = stage.source().retry(Retry::default().attempts(2));
    let handler = source.handler(failing(&book, "b", 3)).unwrap();
    let records = stage.table.all_records();
    let answer = handle(&handler, event(&stage, &records)).await;
    assert_eq!(failures(&answer), [records[1].sequence_number.to_string()]);
    assert!(matches!(
        answer.failed,
        Some(SourceError::Sink { attempts: 2, .. })
    ));
    assert_eq!(book.table().len(), 1, "a alone");
    // Lambda delivers it and everything behind it again.
    let answer = handle(&handler, event(&stage, &records[1..])).await;
    assert_eq!(failures(&answer), [""; 0]);
    assert_eq!(book.table().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn mu_08_a_batch_that_comes_three_times_is_applied_once() {
    let stage = Stage::new();
    stage.put("a", 1, 1);
    let book = Book::default();
    let claims = Claims::new(Arc::new(MemoryCheckpoints::new()));
    let sink = Deduplicated::new(book.sink(), claims, Arc::new(NoMetrics));
    let handler = stage.source().handler(sink).unwrap();
    let mut duplicates = 0;
    for _ in 0..3 {
        duplicates += handle(&handler, all(&stage)).await.counts.duplicates;
    }
    assert_eq!((book.all().len(), duplicates), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn mu_09_what_cannot_be_decoded_is_kept_and_the_next_is_applied() {
    let stage = Stage::new();
    stage.table.put_item("bad", r#"{"id":{"S":"bad"}}"#);
    stage.put("good", 1, 1);
    let (book, letters) = (Book::default(), Arc::new(MemoryDeadLetters::default()));
    let source = stage.source().on_decode_error(letters.clone());
    let answer = handle(&source.handler(book.sink()).unwrap(), all(&stage)).await;
    assert_eq!(failures(&answer), [""; 0]);
    assert_eq!((book.table().len(), letters.letters().len()), (1, 1));
    // Without a place to keep it, it is not passed over.
    let strict = stage.source().handler(Book::default().sink()).unwrap();
    let answer = handle(&strict, all(&stage)).await;
    assert_eq!(
        failures(&answer),
        [stage.table.all_records()[0].sequence_number.to_string()]
    );
    assert!(matches!(answer.failed, Some(SourceError::Decode { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_none_is_kept_or_comes_again() {
    let stage = Stage::new();
    stage.put("a", 1, 1);
    let broken = |stage: &Stage| {
        let mut event = all(stage);
        let record = event.records.as_mut().unwrap();
        let text = String::from_utf8(record[0].to_vec()).unwrap();
        record[0] = text.replace("INSERT", "UPSERT").into();
        event
    };
    let strict = stage.source().handler(Book::default().sink()).unwrap();
    let answer = handle(&strict, broken(&stage)).await;
    assert_eq!(failures(&answer).len(), 1);
    let letters = Arc::new(MemoryDeadLetters::default());
    let source = stage.source().on_decode_error(letters.clone());
    let answer = handle(
        &source.handler(Book::default().sink()).unwrap(),
        broken(&stage),
    )
    .await;
    assert_eq!(failures(&answer), [""; 0]);
    let kept = letters.letters().remove(0).new.unwrap();
    assert!(std::str::from_utf8(&kept).unwrap().contains("UPSERT"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_batch_of_the_table_is_refused() {
    let stage = Stage::new();
    stage.put("a", 1, 1);
    let handler = stage.source().handler(Book::default().sink()).unwrap();
    let without_shard = StreamEvent {
        shard_id: None,
        ..all(&stage)
    };
    let refused = handler.handle(without_shard, Budget::UNLIMITED).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("TumblingWindowInSeconds")
    );
    let without_shard = StreamEvent {
        shard_id: None,
        ..all(&stage)
    };
    let ordered = stage
        .source()
        .handler(Book::default().sink())
        .unwrap()
        .ordered_by_sequence_number();
    assert_eq!(handle(&ordered, without_shard).await.counts.applied, 1);
    let other = StreamEvent {
        records: Some(vec![stage.table.all_records()[0].for_lambda(
            "arn:aws:dynamodb:eu-north-1:123456789012:table/other/stream/2026-01-14T10:18:50.622",
        )]),
        ..all(&stage)
    };
    assert!(matches!(
        handler.handle(other, Budget::UNLIMITED).await,
        Err(SourceError::Event { .. })
    ));
}

/// What there is no time for comes again, and nothing of it was begun.
#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_the_rest_for_the_next_delivery() {
    let stage = Stage::new();
    stage.put("a", 1, 1);
    stage.put("b", 1, 1);
    let book = Book::default();
    let now = stage.table.time().now();
    let spent = Budget::until(now, now);
    let handler = stage.source().handler(book.sink()).unwrap();
    let answer = handler.handle(all(&stage), spent).await.unwrap();
    assert_eq!(failures(&answer).len(), 1);
    assert!(book.all().is_empty());
    // A wait that would last longer than the invocation is not begun.
    let retry = Retry::default().attempts(50).waits(
        std::time::Duration::from_hours(9),
        std::time::Duration::from_hours(9),
    );
    let handler = stage
        .source()
        .retry(retry)
        .handler(failing(&book, "a", 99))
        .unwrap();
    let budget = Budget::until(UnixMillis(now.0 + 10_000), now);
    let answer = handler.handle(all(&stage), budget).await.unwrap();
    assert!(
        matches!(answer.failed, Some(SourceError::Stopped { .. })),
        "{:?}",
        answer.failed
    );
    assert!(stage.table.time().now().since(now) < 10_000);
}
