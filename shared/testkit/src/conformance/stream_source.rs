//! The laws of [`StreamSource`].
//!
//! Whoever has a stream to try them on implements [`StreamStage`]. The stage is to be calm: listings whole, no
//! throttles, every record published when its write returns. What a source may do beyond that, it does elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::lineage::Position;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{StartAt, StreamError, StreamSource};

/// So many empty pages of an open shard in a row, and nothing more is expected of it.
const PATIENCE: u32 = 10;

/// Where streams are made and written to.
#[async_trait]
pub trait StreamStage: Send + Sync {
    /// The source under test.
    fn source(&self) -> &dyn StreamSource;

    /// A new stream of both images with nothing in it: its ARN. Some forty records must be enough to close a shard.
    async fn stream(&self) -> String;

    /// Puts the item `{"id":{"S":"key-<key>"},"n":{"N":"<n>"}}`, and returns once its record can be read.
    async fn put(&self, stream_arn: &str, key: u32, n: u64);

    /// Lets everything written so far be trimmed; `false` where that cannot be brought about.
    async fn trim(&self, _stream_arn: &str) -> bool {
        false
    }

    /// Disables the stream; `false` where that cannot be brought about.
    async fn disable(&self, _stream_arn: &str) -> bool {
        false
    }
}

/// Runs every law.
pub async fn every_law(stage: &dyn StreamStage) {
    every_record_is_given_once_and_in_order(stage).await;
    a_position_is_exact(stage).await;
    only_a_closed_shard_ends(stage).await;
    a_listing_and_the_children_agree(stage).await;
    what_is_not_there_is_gone(stage).await;
    trimmed_records_are_an_error_except_for_what_is_left(stage).await;
    a_disabled_stream_can_be_read_to_its_end(stage).await;
}

/// A stream with `records` changes of seven keys; the `n`s of a key grow.
async fn written(stage: &dyn StreamStage, records: u64) -> String {
    let arn = stage.stream().await;
    for n in 0..records {
        stage.put(&arn, u32::try_from(n % 7).unwrap(), n).await;
    }
    arn
}

/// The records of one shard from a position on, and whether the shard ended.
pub async fn read_shard(
    source: &dyn StreamSource,
    arn: &str,
    shard: &ShardId,
    from: &StartAt,
    limit: u32,
) -> Result<(Vec<StreamRecord>, bool), StreamError> {
    let mut next = Some(source.iterator(arn, shard, from).await?);
    let (mut records, mut empty) = (Vec::new(), 0);
    while let Some(iterator) = &next {
        let page = source.records(iterator, limit).await?;
        assert!(
            page.records.len() <= limit as usize,
            "more than was asked for"
        );
        assert!(page.answered_at.0 > 0, "an answer has a time");
        empty = if page.records.is_empty() {
            empty + 1
        } else {
            0
        };
        for raw in &page.records {
            records.push(StreamRecord::read(raw).unwrap());
        }
        next = page.next;
        if empty == PATIENCE {
            return Ok((records, next.is_none()));
        }
    }
    Ok((records, true))
}

async fn from_start(
    source: &dyn StreamSource,
    arn: &str,
    shard: &Shard,
    limit: u32,
) -> (Vec<StreamRecord>, bool) {
    let from = StartAt::Position(Position::At(shard.start.clone()));
    read_shard(source, arn, &shard.id, &from, limit)
        .await
        .unwrap()
}

/// Shards with their parents before them.
fn parents_first(listing: &StreamListing) -> Vec<&Shard> {
    let mut ordered: Vec<&Shard> = Vec::new();
    let mut left: Vec<&Shard> = listing.shards.iter().collect();
    while !left.is_empty() {
        let known: BTreeSet<_> = left.iter().map(|shard| shard.id.clone()).collect();
        let waits = |shard: &&Shard| shard.parent.as_ref().is_some_and(|it| known.contains(it));
        let (later, now): (Vec<_>, Vec<_>) = left.into_iter().partition(waits);
        assert!(!now.is_empty(), "shards are each other's parents");
        ordered.extend(now);
        left = later;
    }
    ordered
}

/// A shard that is closed and has some records, with them.
async fn closed_shard(stage: &dyn StreamStage, arn: &str) -> (Shard, Vec<StreamRecord>) {
    let listing = stage.source().listing(arn).await.unwrap();
    for shard in listing.shards.iter().filter(|shard| shard.end.is_some()) {
        let (records, _) = from_start(stage.source(), arn, shard, 1000).await;
        if records.len() > 2 {
            return (shard.clone(), records);
        }
    }
    panic!(
        "no shard of {} is closed and has three records",
        listing.shards.len()
    );
}

/// Parents before children, the shards give every record once, and those of one key in the order of their writes.
pub async fn every_record_is_given_once_and_in_order(stage: &dyn StreamStage) {
    let arn = written(stage, 60).await;
    let source = stage.source();
    let listing = source.listing(&arn).await.unwrap();
    assert_eq!(listing.stream_arn, arn);
    assert_eq!(listing.view, StreamView::NewAndOldImages);
    assert_eq!(listing.status, StreamStatus::Enabled);
    assert!(
        arn.ends_with(&listing.label),
        "a stream's label ends its ARN"
    );
    for limit in [1000, 3] {
        let mut of_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for shard in parents_first(&listing) {
            let (records, _) = from_start(source, &arn, shard, limit).await;
            let numbers = || records.iter().map(|record| &record.sequence_number);
            assert!(numbers().is_sorted_by(|a, b| a < b), "{}", shard.id);
            assert!(numbers().all(|number| *number >= shard.start));
            let in_range = |end| numbers().all(|number| number <= end);
            assert!(shard.end.as_ref().is_none_or(in_range), "{}", shard.id);
            for record in &records {
                assert!(
                    ids.insert(record.event_id().into_owned()),
                    "{record:?} came twice"
                );
                let (key, n) = key_and_n(record);
                of_key.entry(key).or_default().push(n);
            }
        }
        let written = |key: u64| (0..60).filter(move |n| n % 7 == key).collect::<Vec<u64>>();
        let expected = (0..7)
            .map(|key| (format!("key-{key}"), written(key)))
            .collect();
        assert_eq!(of_key, expected, "pages of {limit}");
    }
}

fn key_and_n(record: &StreamRecord) -> (String, u64) {
    let image = record.new_image.as_ref().unwrap();
    let image: serde_json::Value = serde_json::from_slice(image).unwrap();
    let keys: serde_json::Value = serde_json::from_slice(&record.keys).unwrap();
    assert_eq!(keys["id"], image["id"]);
    let key = keys["id"]["S"].as_str().unwrap().to_owned();
    (key, image["n"]["N"].as_str().unwrap().parse().unwrap())
}

/// `At` is with the record, `After` behind it; behind the last record of a closed shard nothing is left.
pub async fn a_position_is_exact(stage: &dyn StreamStage) {
    let arn = written(stage, 60).await;
    let (shard, records) = closed_shard(stage, &arn).await;
    let source = stage.source();
    for (n, record) in records.iter().enumerate() {
        let number = &record.sequence_number;
        for (position, expected) in [
            (Position::At(number.clone()), &records[n..]),
            (Position::After(number.clone()), &records[n + 1..]),
        ] {
            let from = StartAt::Position(position);
            let found = read_shard(source, &arn, &shard.id, &from, 2).await.unwrap();
            assert_eq!(found, (expected.to_vec(), true), "{from:?}");
        }
    }
    let whole = read_shard(source, &arn, &shard.id, &StartAt::WhatIsLeft, 1000).await;
    assert_eq!(whole.unwrap(), (records, true));
    let end = StartAt::Position(Position::End);
    assert!(source.iterator(&arn, &shard.id, &end).await.is_err());
}

/// A closed shard gives `None` behind its last record, which is the one that the listing tells; an open one goes on.
pub async fn only_a_closed_shard_ends(stage: &dyn StreamStage) {
    let arn = written(stage, 60).await;
    let source = stage.source();
    let listing = source.listing(&arn).await.unwrap();
    assert!(listing.shards.iter().any(|shard| shard.end.is_some()));
    assert!(listing.shards.iter().any(|shard| shard.end.is_none()));
    for shard in &listing.shards {
        let (records, ended) = from_start(source, &arn, shard, 1000).await;
        assert_eq!(ended, shard.end.is_some(), "{}", shard.id);
        if let (Some(last), Some(end)) = (records.last(), &shard.end) {
            assert_eq!(&last.sequence_number, end, "{}", shard.id);
        }
    }
    // What an open shard gets later is found by an iterator that had come to its tip.
    let mut iterators = Vec::new();
    for shard in listing.shards.iter().filter(|shard| shard.end.is_none()) {
        let mut from = shard.start.clone();
        if let (records, false) = from_start(source, &arn, shard, 1000).await
            && let Some(last) = records.last()
        {
            from = last.sequence_number.clone();
        }
        let from = StartAt::Position(Position::After(from));
        iterators.push(source.iterator(&arn, &shard.id, &from).await.unwrap());
    }
    stage.put(&arn, 3, 1000).await;
    let mut found = Vec::new();
    for iterator in iterators {
        let mut next = Some(iterator);
        for _ in 0..PATIENCE {
            let Some(iterator) = next.take() else { break };
            let page = source.records(&iterator, 1000).await.unwrap();
            found.extend(
                page.records
                    .iter()
                    .map(|raw| StreamRecord::read(raw).unwrap()),
            );
            next = page.next;
        }
    }
    let found: Vec<_> = found.iter().map(key_and_n).collect();
    assert_eq!(found, [("key-3".to_owned(), 1000)]);
}

/// Every shard is listed once, a closed one has children, an open one none, and both ways to ask name the same.
pub async fn a_listing_and_the_children_agree(stage: &dyn StreamStage) {
    let arn = written(stage, 60).await;
    let source = stage.source();
    let listing = source.listing(&arn).await.unwrap();
    let ids: BTreeSet<_> = listing.shards.iter().map(|shard| &shard.id).collect();
    assert_eq!(ids.len(), listing.shards.len(), "a shard is listed twice");
    assert!(listing.shards.iter().any(|shard| shard.parent.is_none()));
    for shard in &listing.shards {
        let of_listing = listing
            .shards
            .iter()
            .filter(|child| child.parent.as_ref() == Some(&shard.id))
            .map(|child| (&child.id, child))
            .collect::<BTreeMap<_, _>>();
        assert_eq!(of_listing.is_empty(), shard.end.is_none(), "{}", shard.id);
        let asked = source.children(&arn, &shard.id).await.unwrap();
        let asked = asked.iter().map(|child| (&child.id, child)).collect();
        assert_eq!(of_listing, asked, "{}", shard.id);
    }
}

/// A stream and a shard that nobody has are `Gone`.
pub async fn what_is_not_there_is_gone(stage: &dyn StreamStage) {
    let arn = stage.stream().await;
    let source = stage.source();
    let gone = |error: StreamError| assert!(matches!(error, StreamError::Gone(_)), "{error:?}");
    let stranger = format!(
        "{}/2001-01-01T00:00:00.000",
        arn.rsplit_once('/').unwrap().0
    );
    gone(source.listing(&stranger).await.unwrap_err());
    let shard: ShardId = "shardId-00000000978307200000-0badcafe".parse().unwrap();
    let position = Position::At("100000000000000000001".parse().unwrap());
    for from in [StartAt::WhatIsLeft, StartAt::Position(position)] {
        gone(source.iterator(&arn, &shard, &from).await.unwrap_err());
    }
}

/// A position whose records were trimmed is an error, by the iterator or by the first page; what is left is none.
pub async fn trimmed_records_are_an_error_except_for_what_is_left(stage: &dyn StreamStage) {
    let arn = written(stage, 10).await;
    let source = stage.source();
    let listing = source.listing(&arn).await.unwrap();
    let mut had_records = Vec::new();
    for shard in &listing.shards {
        let (records, _) = from_start(source, &arn, shard, 1000).await;
        if let Some(record) = records.first() {
            had_records.push((shard, record.sequence_number.clone()));
        }
    }
    assert!(!had_records.is_empty());
    if !stage.trim(&arn).await {
        return;
    }
    for (shard, number) in had_records {
        let from = StartAt::Position(Position::At(number));
        let error = read_shard(source, &arn, &shard.id, &from, 1000)
            .await
            .expect_err("records are gone, and nobody says so");
        let lost = matches!(error, StreamError::Trimmed { .. } | StreamError::Gone(_));
        assert!(lost, "{error:?}");
        match read_shard(source, &arn, &shard.id, &StartAt::WhatIsLeft, 1000).await {
            Ok((records, _)) => assert!(records.is_empty(), "{records:?}"),
            Err(error) => assert!(matches!(error, StreamError::Gone(_)), "{error:?}"),
        }
    }
}

/// All shards of a disabled stream are closed, keep their records and their ends, and the last of them have no children.
pub async fn a_disabled_stream_can_be_read_to_its_end(stage: &dyn StreamStage) {
    let arn = written(stage, 60).await;
    if !stage.disable(&arn).await {
        return;
    }
    let source = stage.source();
    let mut listing = source.listing(&arn).await.unwrap();
    for _ in 0..100 {
        if listing.status == StreamStatus::Disabled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        listing = source.listing(&arn).await.unwrap();
    }
    assert_eq!(listing.status, StreamStatus::Disabled);
    let mut found = 0;
    for shard in &listing.shards {
        assert!(shard.end.is_some(), "{} is open", shard.id);
        let (records, ended) = from_start(source, &arn, shard, 1000).await;
        assert!(ended, "{} does not end", shard.id);
        found += records.len();
    }
    assert_eq!(found, 60);
}
