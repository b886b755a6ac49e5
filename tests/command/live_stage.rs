//! A table with a stream that rolls over, and its change log, read by the product's own readers and held against what
//! the stream itself says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::change_log::{LogName, once_in_order, read_log_object};
use highwater_domain::live_control::PublishedMark;
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::NewObject;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{StartAt, StreamSource};
use highwater_local::{EmbeddedDynamoDb, StreamShape};
use highwater_testkit::generate::KeyShape;
use highwater_testkit::tables::NewTable;
use serde_json::Value;

use super::stage::{Stage, TABLE, TO, keys_below, until};
pub use highwater_testkit::write_history::{History, Writer};

/// Shards that end after a hundred records, so that a small test has a lineage.
pub const ROLLING: StreamShape = StreamShape {
    lineages: 3,
    roll_after_records: 100,
    roll_after: Duration::from_hours(4),
    retention: Duration::from_hours(24),
    made_before: Duration::from_mins(1),
};

/// `follow` at a pace for tests.
const FOLLOW: [&str; 11] = [
    "follow",
    TABLE,
    "--to",
    TO,
    "--local-engine",
    "--flush",
    "200ms",
    "--publish-every",
    "300ms",
    "--survey-every",
    "500ms",
];

/// `follow` with further flags; its leases are short unless they say otherwise.
pub fn follow<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut line = FOLLOW.to_vec();
    if !more.contains(&"--lease") {
        line.extend(["--lease", "1500ms"]);
    }
    line.extend(more);
    line
}

/// Records by shard and sequence number.
pub type Records = BTreeMap<(ShardId, SequenceNumber), StreamRecord>;

/// The stage with a table that has a stream.
pub struct LiveStage {
    pub stage: Stage,
    streams: Arc<dyn StreamSource>,
}

impl LiveStage {
    /// An empty table [`TABLE`] with a stream of both images.
    pub async fn start(shape: StreamShape) -> Self {
        Self::seeded(shape, 1).await
    }

    /// The same with a seed for the proxies' faults.
    pub async fn seeded(shape: StreamShape, seed: u64) -> Self {
        let live = Self::bare(shape, seed).await;
        let table = NewTable::new(TABLE, KeyShape::STRING).with_stream();
        table.create(&live.stage.direct).await.unwrap();
        live
    }

    /// Without a table.
    pub async fn bare(shape: StreamShape, seed: u64) -> Self {
        let engine = EmbeddedDynamoDb::start_with(shape).await.unwrap();
        let settings = ConnectionSettings {
            region: Some("eu-north-1".into()),
            endpoint_url: Some(engine.endpoint_url().to_owned()),
            ..ConnectionSettings::default()
        };
        let streams = Arc::new(Clients::connect(&settings).await.unwrap().stream_source());
        Self {
            stage: Stage::over(engine, seed).await,
            streams,
        }
    }

    /// Makes a table whose stream has this view; without one, a table without a stream.
    pub async fn table_with_view(&self, name: &str, view: Option<StreamViewType>) {
        let table = NewTable::new(name, KeyShape::STRING);
        table.create(&self.stage.direct).await.unwrap();
        if let Some(view) = view {
            let stream = StreamSpecification::builder()
                .stream_enabled(true)
                .stream_view_type(view);
            let update = self.stage.direct.update_table().table_name(name);
            let update = update.stream_specification(stream.build().unwrap());
            update.send().await.unwrap();
        }
    }

    /// The ARN of the table's stream.
    pub async fn stream_arn(&self) -> String {
        let described = self.stage.direct.describe_table().table_name(TABLE);
        let described = described.send().await.unwrap();
        described.table.unwrap().latest_stream_arn.unwrap()
    }

    /// The label of the table's stream.
    pub async fn label(&self) -> String {
        let arn = self.stream_arn().await;
        arn.rsplit('/').next().unwrap().to_owned()
    }

    /// Everything that the stream still has, read from the oldest record of each shard.
    pub async fn stream_records(&self) -> Records {
        let arn = self.stream_arn().await;
        let mut records = Records::new();
        for shard in self.streams.listing(&arn).await.unwrap().shards {
            let from = StartAt::WhatIsLeft;
            let mut next = Some(self.streams.iterator(&arn, &shard.id, &from).await.unwrap());
            let mut empty = 0;
            while let Some(iterator) = next.take().filter(|_| empty < 3) {
                let page = self.streams.records(&iterator, 1000).await.unwrap();
                empty = if page.records.is_empty() {
                    empty + 1
                } else {
                    0
                };
                for raw in &page.records {
                    let record = StreamRecord::read(raw).unwrap();
                    let place = (shard.id.clone(), record.sequence_number.clone());
                    records.insert(place, record);
                }
                next = page.next;
            }
        }
        records
    }

    /// The keys of the table's log.
    pub fn place() -> LogPlace {
        LogPlace::new("daily", TABLE)
    }

    /// The names of all log objects.
    pub async fn log_objects(&self) -> Vec<LogName> {
        let folder = Self::place().stream(&self.label().await);
        let keys = keys_below(self.stage.bucket().as_ref(), &folder).await;
        let names = keys.iter().filter_map(|key| LogName::parse(&folder, key));
        names.collect()
    }

    /// The log as a restore reads it: each record once. Copies of a record must not differ.
    pub async fn log_records(&self) -> Records {
        let folder = Self::place().stream(&self.label().await);
        let bucket = self.stage.bucket();
        let mut shards: BTreeMap<ShardId, Vec<StreamRecord>> = BTreeMap::new();
        for name in self.log_objects().await {
            let key = name.key(&folder);
            let body = bucket.read(&key).await.unwrap().unwrap();
            let records = read_log_object(&key, &name, &body).unwrap();
            shards.entry(name.shard).or_default().extend(records);
        }
        let mut all = Records::new();
        for (shard, records) in shards {
            let mut copies: BTreeMap<SequenceNumber, Value> = BTreeMap::new();
            for record in &records {
                let value: Value = serde_json::from_slice(&record.raw).unwrap();
                let number = record.sequence_number.clone();
                let first = copies.entry(number).or_insert_with(|| value.clone());
                assert_eq!(*first, value, "two copies of a record differ");
            }
            for record in once_in_order(records) {
                all.insert((shard.clone(), record.sequence_number.clone()), record);
            }
        }
        all
    }

    /// The log holds what the stream holds, record by record, in the same shards.
    pub async fn assert_log_is_the_stream(&self) -> Records {
        let (stream, log) = (self.stream_records().await, self.log_records().await);
        let missing = stream.keys().find(|place| !log.contains_key(place));
        let counts = (log.len(), stream.len());
        assert_eq!(missing, None, "missing; {counts:?} records");
        let invented = log.keys().find(|place| !stream.contains_key(place));
        assert_eq!(
            invented, None,
            "in no shard of the stream; {counts:?} records"
        );
        let value =
            |record: &StreamRecord| -> Value { serde_json::from_slice(&record.raw).unwrap() };
        for (place, record) in &stream {
            assert_eq!(value(&log[place]), value(record), "{place:?}");
        }
        stream
    }

    /// The mark as the bucket tells it.
    pub async fn mark(&self) -> Option<PublishedMark> {
        let key = Self::place().mark(&self.label().await);
        let bucket = self.stage.bucket();
        let body = until("the mark can be read", async || {
            // It is replaced all the time, and the engine's checksum of it is for a moment that of the one before.
            bucket.read(&key).await.ok()
        });
        Some(serde_json::from_slice(&body.await?).unwrap())
    }

    /// The mark of this moment, and what the log holds at this moment or a little later.
    pub async fn look(&self) -> Option<Look> {
        let mark = self.mark().await?.mark;
        let at = mark.assumed.max(mark.rolled).max(mark.proven)?;
        let objects = self.log_objects().await;
        Some(Look { at, objects })
    }

    /// No grade of the published mark is above a record that the log lacks.
    pub async fn assert_mark_is_true(&self) -> Option<UnixSeconds> {
        let look = self.look().await?;
        look.assert_true(&self.stream_records().await);
        Some(look.at)
    }

    /// Deletes one log object.
    pub async fn delete_object(&self, name: &LogName) {
        let folder = Self::place().stream(&self.label().await);
        let keys = [name.key(&folder)];
        self.stage.bucket().delete(&keys).await.unwrap();
    }

    /// Replaces an object.
    pub async fn put(&self, key: &str, body: Vec<u8>) {
        let bucket = self.stage.bucket();
        bucket.delete(&[key.to_owned()]).await.unwrap();
        let object = NewObject {
            key: key.to_owned(),
            body: body.into(),
            content_type: "application/json",
            ..NewObject::default()
        };
        bucket.create(object).await.unwrap();
    }

    /// A writer of its own keys, `name` first in each.
    pub fn writer(&self, name: &str, seed: u64) -> Writer {
        Writer::new(self.stage.direct.clone(), TABLE, name, seed)
    }
}

/// The furthest grade of the mark as it was seen, and the log objects that there were right after.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: UnixSeconds,
    objects: Vec<LogName>,
}

impl Look {
    /// Every record of the stream that the mark promises lies in one of the objects, and each of these holds all records
    /// of its range.
    pub fn assert_true(&self, stream: &Records) {
        for name in &self.objects {
            let range =
                (name.shard.clone(), name.first.clone())..=(name.shard.clone(), name.last.clone());
            assert_eq!(
                stream.range(range).count() as u64,
                name.count,
                "{name} has a hole"
            );
        }
        for ((shard, number), record) in stream {
            let holds = |name: &&LogName| {
                name.shard == *shard && name.first <= *number && *number <= name.last
            };
            assert!(
                record.created_at > self.at.0 || self.objects.iter().any(|name| holds(&name)),
                "the mark {} is above {number} of {shard}, stamped {}, which was not in the log",
                self.at,
                record.created_at
            );
        }
    }
}
