//! A log that is read as a stream: whatever it is cut into, and whenever it grows, each record comes once, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_domain::change_log::log_object;
use highwater_domain::lineage::Position;
use highwater_domain::live_control::LogId;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{ShardId, StreamListing};
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{ShardIterator, StartAt, StreamError, StreamSource as _};
use highwater_steps::known_facts::KnownFacts;
use highwater_steps::log_stream::LogStream;
use highwater_testkit::counting::Counting;
use highwater_testkit::intercepted::Intercepted;

use crate::live_world::{MINUTE, World};

fn stream(world: &World) -> LogStream {
    stream_over(world, world.store.clone())
}

fn stream_over(world: &World, store: Arc<dyn ObjectStore>) -> LogStream {
    let deps = world.deps();
    let place = World::place();
    let folder = store.url(&place.stream(&world.label()));
    let id = LogId::of(&world.table.stream_arn().unwrap(), &folder);
    let writers = deps.leases.group(&id.lease_group(), "reader").unwrap();
    let at = world.table.time().now();
    LogStream::new(store, place, world.label(), writers, deps.clock.clone(), at)
}

fn numbers(raw: &[bytes::Bytes]) -> Vec<SequenceNumber> {
    let number = |raw: &bytes::Bytes| StreamRecord::read_or_keep(raw).unwrap().sequence_number;
    raw.iter().map(number).collect()
}

fn truth(world: &World, shard: &ShardId) -> Vec<SequenceNumber> {
    let records = world.table.records_of(shard);
    records
        .iter()
        .map(|it| it.sequence_number.clone())
        .collect()
}

async fn begin(stream: &LogStream, world: &World, shard: &ShardId) -> ShardIterator {
    let start = world.table.true_listing().shards.into_iter();
    let start = start.into_iter().find(|it| it.id == *shard).unwrap().start;
    let from = StartAt::Position(Position::At(start));
    stream.iterator("", shard, &from).await.unwrap()
}

/// Reads on until an answer is empty, or the shard has ended.
async fn read_on(
    stream: &LogStream,
    iterator: &mut Option<ShardIterator>,
    limit: u32,
) -> Vec<SequenceNumber> {
    let mut read = Vec::new();
    while let Some(from) = iterator.clone() {
        let page = stream.records(&from, limit).await.unwrap();
        assert!(page.records.len() <= limit as usize);
        *iterator = page.next;
        if page.records.is_empty() {
            break;
        }
        read.extend(numbers(&page.records));
    }
    read
}

#[tokio::test(start_paused = true)]
async fn more_records_than_an_answer_takes_come_in_order_and_once() {
    let world = World::new().await;
    let shard = world.only_shard();
    world.put_many("a", 250);
    world.follow(MINUTE).await;
    for limit in [1, 7, 250, 1000] {
        let stream = stream(&world);
        let mut iterator = Some(begin(&stream, &world, &shard).await);
        assert_eq!(
            read_on(&stream, &mut iterator, limit).await,
            truth(&world, &shard),
            "{limit}"
        );
        assert!(iterator.is_some(), "the shard is open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_grows_between_two_answers_is_read_on() {
    let world = World::new().await;
    let shard = world.only_shard();
    let stream = stream(&world);
    world.put_many("a", 30);
    world.follow(MINUTE).await;
    let mut iterator = Some(begin(&stream, &world, &shard).await);
    let mut read = Vec::new();
    // Some of what is there, the rest being kept for the next answer; then more is there.
    let page = stream.records(&iterator.unwrap(), 20).await.unwrap();
    read.extend(numbers(&page.records));
    iterator = page.next;
    world.put_many("b", 30);
    world.follow(MINUTE).await;
    read.extend(read_on(&stream, &mut iterator, 15).await);
    assert_eq!(read, truth(&world, &shard));
    world.put_many("c", 5);
    assert_eq!(
        read_on(&stream, &mut iterator, 15).await,
        [],
        "not logged yet"
    );
    world.follow(MINUTE).await;
    read.extend(read_on(&stream, &mut iterator, 15).await);
    assert_eq!(read, truth(&world, &shard));
    // The same iterator twice is the same answer: whoever crashed asks again.
    let again = begin(&stream, &world, &shard).await;
    let first = stream.records(&again, 10).await.unwrap();
    let second = stream.records(&again, 10).await.unwrap();
    assert_eq!(first.records, second.records);
}

#[tokio::test(start_paused = true)]
async fn a_shard_ends_where_its_log_ends_and_tells_its_children() {
    let world = World::new().await;
    let parent = world.only_shard();
    world.put_many("a", 12);
    let made = world.table.split(&parent);
    // One of the children stays empty, and ends so.
    world.follow(3 * MINUTE).await;
    let empty = world.table.open_shards()[0].clone();
    let grandchild = world.table.roll(&empty);
    world.follow(3 * MINUTE).await;
    let stream = stream(&world);
    let mut iterator = Some(begin(&stream, &world, &parent).await);
    assert_eq!(
        read_on(&stream, &mut iterator, 5).await,
        truth(&world, &parent)
    );
    assert_eq!(iterator, None, "it is over");
    let children = stream.children("", &parent).await.unwrap();
    assert_eq!(children.len(), 2, "{made:?}");
    let mut iterator = Some(begin(&stream, &world, &empty).await);
    assert_eq!(read_on(&stream, &mut iterator, 5).await, []);
    assert_eq!(iterator, None, "an empty shard ends, too");
    let children = stream.children("", &empty).await.unwrap();
    assert_eq!(children.len(), 1, "{grandchild:?}");
    let listing = stream.listing("").await.unwrap();
    assert_eq!(listing.shards.len(), 4);
    let open = listing.shards.iter().filter(|it| it.end.is_none()).count();
    assert_eq!(open, 2);
    // A shard without a record has an end all the same.
    let ended = listing.shards.iter().find(|it| it.id == empty).unwrap();
    assert_eq!(ended.end, Some(ended.start.clone()));
}

async fn put_object(world: &World, shard: &ShardId, records: &[StreamRecord]) {
    let (name, body) = log_object(shard, records).unwrap();
    let object = NewObject {
        key: name.key(&World::place().stream(&world.label())),
        body,
        content_type: "application/zstd",
        ..NewObject::default()
    };
    world.store.create(object).await.unwrap();
}

/// Objects of several writers overlap: what the mapping wrote, what was written again, what an auditor filled.
#[tokio::test(start_paused = true)]
async fn overlapping_objects_are_read_once_from_any_place() {
    let world = World::new().await;
    let shard = world.only_shard();
    world.put_many("a", 40);
    world.follow(MINUTE).await;
    let all = world.table.records_of(&shard);
    // The same once more, cut otherwise: from 5 to 25, and 20 alone.
    for range in [5..25, 20..21, 0..40] {
        let records: Vec<StreamRecord> = all[range]
            .iter()
            .map(|it| StreamRecord::read_or_keep(&it.raw).unwrap())
            .collect();
        put_object(&world, &shard, &records).await;
    }
    let truth = truth(&world, &shard);
    for from in [0, 4, 5, 19, 20, 24, 25, 39] {
        for after in [false, true] {
            let stream = stream(&world);
            let number = truth[from].clone();
            let position = if after {
                Position::After(number)
            } else {
                Position::At(number)
            };
            let start = StartAt::Position(position);
            let mut iterator = Some(stream.iterator("", &shard, &start).await.unwrap());
            let expected = &truth[from + usize::from(after)..];
            assert_eq!(read_on(&stream, &mut iterator, 6).await, expected, "{from}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_writer_has_not_reached_is_not_given_out() {
    let world = World::new().await;
    let shard = world.only_shard();
    world.put_many("a", 10);
    world.follow(MINUTE).await;
    // An object beyond the writer's position: a function wrote it, and nobody has proven what lies before it.
    world.put_many("b", 10);
    let all = world.table.records_of(&shard);
    let beyond: Vec<StreamRecord> = all[15..]
        .iter()
        .map(|it| StreamRecord::read_or_keep(&it.raw).unwrap())
        .collect();
    put_object(&world, &shard, &beyond).await;
    let stream = stream(&world);
    let mut iterator = Some(begin(&stream, &world, &shard).await);
    let read = read_on(&stream, &mut iterator, 100).await;
    assert_eq!(read, truth(&world, &shard)[..10]);
    world.follow(MINUTE).await;
    let rest = read_on(&stream, &mut iterator, 100).await;
    assert_eq!(rest, truth(&world, &shard)[10..]);
}

#[tokio::test(start_paused = true)]
async fn nobody_can_begin_where_a_log_has_no_place() {
    let world = World::new().await;
    let shard = world.only_shard();
    world.put_many("a", 1);
    world.follow(MINUTE).await;
    let stream = stream(&world);
    for from in [StartAt::WhatIsLeft, StartAt::Position(Position::End)] {
        let begun = stream.iterator("", &shard, &from).await;
        assert!(matches!(begun, Err(StreamError::Gone(_))), "{begun:?}");
    }
    let odd = ShardIterator("no place".into());
    let read = stream.records(&odd, 10).await;
    assert!(matches!(read, Err(StreamError::IteratorExpired(_))));
}

/// A log is looked at every few seconds for as long as it has replicas: what cannot change any more is read once.
#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_log_is_not_read_again() {
    let world = World::new().await;
    for n in 0..4 {
        world.put_many(&format!("{n}-"), 5);
        world.table.roll(&world.table.open_shards()[0]);
    }
    world.follow(5 * MINUTE).await;
    let counting = Arc::new(Counting::new());
    let store: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&world.store, &counting));
    let known = KnownFacts::default();
    let looks = async || {
        let before = counting.count("read");
        let stream = stream_over(&world, store.clone()).knowing(known.clone());
        let listing = stream.listing("").await.unwrap();
        let truth = world.table.true_listing();
        let ids = |listing: StreamListing| listing.shards.into_iter().map(|it| it.id).collect();
        let (listed, true_ids): (BTreeSet<_>, BTreeSet<_>) = (ids(listing), ids(truth));
        assert_eq!(listed, true_ids);
        counting.count("read") - before
    };
    let (first, again) = (looks().await, looks().await);
    assert!(first >= 2 * 5, "{first}");
    // The stream's own facts, its mark, and the end of the one that is open.
    assert!(again <= 3, "{again}");
    // One that ends is seen, and so is its child.
    world.table.roll(&world.table.open_shards()[0]);
    world.follow(5 * MINUTE).await;
    let third = looks().await;
    assert!(third <= 6, "{third}");
}
