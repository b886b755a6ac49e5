//! `DynamoStreams` on the streams of an embedded DynamoDB.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use highwater_aws::DynamoStreams;
use highwater_domain::lineage::{Position, oddities};
use highwater_domain::shard::{StreamListing, StreamStatus};
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{StartAt, StreamError, StreamSource};
use highwater_local::{EmbeddedDynamoDb, StreamShape};
use highwater_testkit::conformance::stream_source::{self as laws, StreamStage};

use crate::loopback::clients;

/// An engine, and what talks to it.
struct Stage {
    engine: EmbeddedDynamoDb,
    dynamodb: Client,
    streams: DynamoStreams,
}

fn shape(roll_after_records: u64) -> StreamShape {
    StreamShape {
        lineages: 3,
        roll_after_records,
        ..StreamShape::default()
    }
}

impl Stage {
    async fn of(engine: EmbeddedDynamoDb) -> Self {
        let clients = clients(engine.endpoint_url()).await;
        Self {
            dynamodb: clients.dynamodb(),
            streams: clients.stream_source(),
            engine,
        }
    }

    async fn start(shape: StreamShape) -> Self {
        Self::of(EmbeddedDynamoDb::start_with(shape).await.unwrap()).await
    }

    /// Enables a stream on the table and gives its ARN.
    async fn enable(&self, table: &str) -> String {
        let update = self.dynamodb.update_table().table_name(table);
        update
            .stream_specification(both_images())
            .send()
            .await
            .unwrap()
            .table_description
            .unwrap()
            .latest_stream_arn
            .unwrap()
    }

    async fn table(&self, name: &str) -> String {
        self.dynamodb
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(
                KeySchemaElement::builder()
                    .attribute_name("id")
                    .key_type(KeyType::Hash)
                    .build()
                    .unwrap(),
            )
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name("id")
                    .attribute_type(ScalarAttributeType::S)
                    .build()
                    .unwrap(),
            )
            .stream_specification(both_images())
            .send()
            .await
            .unwrap()
            .table_description
            .unwrap()
            .latest_stream_arn
            .unwrap()
    }

    /// Every record of a stream, shard by shard.
    async fn everything(&self, arn: &str) -> (StreamListing, Vec<StreamRecord>) {
        let listing = self.streams.listing(arn).await.unwrap();
        let mut all = Vec::new();
        for shard in &listing.shards {
            let from = StartAt::Position(Position::At(shard.start.clone()));
            let read = laws::read_shard(&self.streams, arn, &shard.id, &from, 1000).await;
            all.extend(read.unwrap().0);
        }
        (listing, all)
    }
}

fn both_images() -> StreamSpecification {
    StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build()
        .unwrap()
}

fn table_of(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap()
}

#[async_trait]
impl StreamStage for Stage {
    fn source(&self) -> &dyn StreamSource {
        &self.streams
    }

    async fn stream(&self) -> String {
        self.table(&format!("laws-{:x}", fastrand::u64(..))).await
    }

    async fn put(&self, stream_arn: &str, key: u32, n: u64) {
        let put = self.dynamodb.put_item().table_name(table_of(stream_arn));
        put.item("id", AttributeValue::S(format!("key-{key}")))
            .item("n", AttributeValue::N(n.to_string()))
            .send()
            .await
            .unwrap();
    }

    async fn trim(&self, _: &str) -> bool {
        self.engine.trim_streams();
        true
    }

    async fn disable(&self, stream_arn: &str) -> bool {
        let update = self.dynamodb.update_table();
        let off = StreamSpecification::builder().stream_enabled(false).build();
        update
            .table_name(table_of(stream_arn))
            .stream_specification(off.unwrap())
            .send()
            .await
            .unwrap();
        true
    }
}

#[tokio::test]
async fn embedded_streams_keep_the_laws() {
    laws::every_law(&Stage::start(shape(6)).await).await;
}

#[tokio::test]
async fn a_listing_of_many_shards_is_whole() {
    let stage = Stage::start(shape(1)).await;
    let arn = stage.table("orders").await;
    for n in 0..230 {
        stage.put(&arn, n % 40, u64::from(n)).await;
    }
    let (listing, records) = stage.everything(&arn).await;
    assert!(
        listing.shards.len() > 230,
        "more than two pages of a hundred"
    );
    assert_eq!(records.len(), 230);
    let now = listing.shards.last().unwrap().id.created_at().unwrap();
    assert_eq!(oddities(&listing, now), []);
}

#[tokio::test]
async fn a_restart_on_the_database_file_finds_the_same_shards() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("engine.db");
    let mut seen = Vec::new();
    let mut arn = String::new();
    for start in 0..3_u64 {
        let engine = EmbeddedDynamoDb::open_with(&file, shape(4)).await.unwrap();
        let stage = Stage::of(engine).await;
        if start == 0 {
            arn = stage.table("orders").await;
        }
        for n in 0..20 * (2 - start) {
            stage.put(&arn, u32::try_from(n % 9).unwrap(), n).await;
        }
        seen.push(stage.everything(&arn).await);
        stage.engine.stop().await;
    }
    assert_eq!((seen[0].1.len(), seen[1].1.len()), (40, 60));
    assert_eq!(seen[1], seen[2], "nothing was written in between");
    let ids = |n: usize| -> BTreeSet<_> { seen[n].0.shards.iter().map(|it| &it.id).collect() };
    assert!(ids(0).is_subset(&ids(1)));
}

/// A stream that is enabled anew is another one; the one before is disabled, whole, and shares no record with it.
#[tokio::test]
async fn each_stream_of_a_table_has_its_own_records() {
    let stage = Stage::start(shape(5)).await;
    let first = stage.table("orders").await;
    for n in 0..30 {
        stage.put(&first, n % 4, u64::from(n)).await;
    }
    stage.disable(&first).await;
    stage.put(&first, 1, 1_000).await;
    let second = stage.enable("orders").await;
    assert_ne!(first, second);
    for n in 0..12 {
        stage.put(&second, n % 4, 2_000 + u64::from(n)).await;
    }
    let (old, of_old) = stage.everything(&first).await;
    assert_eq!(old.status, StreamStatus::Disabled);
    assert!(old.shards.iter().all(|shard| shard.end.is_some()));
    assert_eq!(of_old.len(), 30);
    let (new, of_new) = stage.everything(&second).await;
    assert_eq!(new.status, StreamStatus::Enabled);
    assert_eq!(of_new.len(), 12);
}

/// Whoever asks for a trimmed position is told at once; whoever was on the way there, by the next page.
#[tokio::test]
async fn trimmed_records_are_told_of_wherever_they_are_met() {
    let stage = Stage::start(shape(1000)).await;
    let arn = stage.table("orders").await;
    for n in 0..30 {
        stage.put(&arn, n, u64::from(n)).await;
    }
    let trimmed = |error| assert!(matches!(error, StreamError::Trimmed { .. }), "{error:?}");
    let (listing, _) = stage.everything(&arn).await;
    let shard = &listing.shards[0];
    let start = StartAt::Position(Position::At(shard.start.clone()));
    let early = stage.streams.iterator(&arn, &shard.id, &start).await;
    let early = early.unwrap();
    stage.engine.trim_streams();
    trimmed(stage.streams.records(&early, 1000).await.unwrap_err());
    let late = stage.streams.iterator(&arn, &shard.id, &start).await;
    trimmed(late.unwrap_err());

    // What comes later can be read, by what is left.
    for n in 0..30 {
        stage.put(&arn, n, 100 + u64::from(n)).await;
    }
    let left = StartAt::WhatIsLeft;
    let read = laws::read_shard(&stage.streams, &arn, &shard.id, &left, 1000).await;
    let (records, ended) = read.unwrap();
    assert!(!ended && !records.is_empty());
    assert!(records.iter().all(|record| record.old_image.is_some()));
}

/// Age alone rolls shards over: a mark can pass an idle table.
#[tokio::test]
async fn idle_shards_roll_over() {
    let stage = Stage::start(StreamShape {
        roll_after: Duration::from_millis(100),
        ..shape(1000)
    })
    .await;
    let arn = stage.table("orders").await;
    stage.put(&arn, 1, 1).await;
    let before = stage.streams.listing(&arn).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    let (after, records) = stage.everything(&arn).await;
    assert!(after.shards.len() >= before.shards.len() + 3, "{after:?}");
    assert_eq!(records.len(), 1);
    for shard in &before.shards {
        let child = stage.streams.children(&arn, &shard.id).await.unwrap();
        assert!(!child.is_empty(), "{}", shard.id);
    }
}

/// Other calls pass the front untouched, on connections that streams use, too.
#[tokio::test]
async fn other_calls_are_the_engines() {
    let stage = Stage::start(shape(5)).await;
    let arn = stage.table("orders").await;
    stage.put(&arn, 1, 1).await;
    let missing = stage.dynamodb.scan().table_name("nothing").send().await;
    let missing = missing.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception(), "{missing:?}");
    let scan = stage.dynamodb.scan().table_name("orders").send().await;
    assert_eq!(scan.unwrap().count(), 1);
    let stranger = "shardId-00000000000000000001-00000000".parse().unwrap();
    let gone = stage.streams.children(&arn, &stranger).await.unwrap();
    assert_eq!(gone, []);
    let url = stage.engine.endpoint_url().to_owned();
    stage.engine.stop().await;
    let stopped = clients(&url).await.with_retries(0).stream_source();
    let refused = stopped.listing(&arn).await.unwrap_err();
    assert!(matches!(refused, StreamError::Failed(_)), "{refused:?}");
}
