//! A table whose stream is delivered to `ConsumeStream` by hand, and the log that comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_domain::change_log::{LogName, once_in_order, read_log_object};
use highwater_domain::failure::Failure;
use highwater_domain::incident::Incident;
use highwater_domain::layout::Destination;
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::consume_stream::{self, ConsumeInput, ConsumeOutput, LogDestination, Window};
use highwater_steps::{LiveDeps, StepError};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::simulation::{SimRecord, SimTable};

use crate::live_ports;

pub const PREFIX: &str = "live";

/// One store, whatever destination is asked for.
#[derive(Debug)]
pub struct OneStore(pub Arc<dyn ObjectStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

pub fn destination() -> LogDestination {
    LogDestination("s3://fake-bucket/live".parse().unwrap())
}

pub struct ConsumeStage {
    pub table: Arc<SimTable>,
    pub store: Arc<FakeStore>,
}

impl ConsumeStage {
    /// A table with one shard and so many records in it.
    pub fn of(records: usize) -> Self {
        let stage = Self {
            table: SimTable::calm("orders"),
            store: Arc::new(FakeStore::new()),
        };
        for n in 0..records {
            let key = format!("item-{}", n % 5);
            // Every seventh change is a removal, if there is something to remove.
            let removed = n % 7 == 6 && stage.table.delete(&key).is_some();
            if !removed {
                stage.table.put(&key, &format!("value {n}"));
            }
        }
        assert_eq!(stage.records().len(), records);
        stage
    }

    pub fn shard(&self) -> ShardId {
        let shards = self.table.open_shards();
        let [shard] = &shards[..] else {
            panic!("one shard")
        };
        shard.clone()
    }

    pub fn records(&self) -> Vec<Arc<SimRecord>> {
        self.table.all_records()
    }

    pub fn arn(&self) -> String {
        self.table.stream_arn().unwrap()
    }

    pub fn folder(&self) -> String {
        LogPlace::new(PREFIX, "orders").stream(&self.table.stream_label().unwrap())
    }

    /// Records as Lambda hands them over.
    pub fn dressed<'a>(&self, records: impl IntoIterator<Item = &'a Arc<SimRecord>>) -> Vec<Bytes> {
        let arn = self.arn();
        let records = records.into_iter();
        records.map(|record| record.for_lambda(&arn)).collect()
    }

    /// The event of a tumbling window.
    pub fn window<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Arc<SimRecord>>,
    ) -> ConsumeInput {
        ConsumeInput {
            records: Some(self.dressed(records)),
            window: Some(Window {
                start: "2026-01-14T10:19:00Z".into(),
                end: "2026-01-14T10:20:00Z".into(),
            }),
            shard_id: Some(self.shard().to_string()),
            event_source_arn: Some(self.arn()),
            ..ConsumeInput::default()
        }
    }

    /// The function's ports over this store.
    pub fn deps_over(&self, store: Arc<dyn ObjectStore>) -> LiveDeps {
        let describer = Arc::new(FakeAdmin::new());
        let clock = self.table.time().clock();
        live_ports::without_stream(describer, Arc::new(OneStore(store)), clock)
    }

    pub async fn consume_over(
        &self,
        store: Arc<dyn ObjectStore>,
        input: ConsumeInput,
    ) -> Result<ConsumeOutput, StepError> {
        consume_stream::run(&self.deps_over(store), &destination(), input, self.budget()).await
    }

    /// One invocation of two minutes.
    pub fn budget(&self) -> Budget {
        let now = self.table.time().now();
        Budget::until(highwater_domain::ids::UnixMillis(now.0 + 120_000), now)
    }

    pub async fn consume(&self, input: ConsumeInput) -> ConsumeOutput {
        let store = self.store.clone();
        self.consume_over(store, input).await.unwrap()
    }

    /// The log as a reader sees it: each record of a shard once. Every object must be what its name says.
    pub fn log(&self) -> BTreeMap<ShardId, Vec<StreamRecord>> {
        let folder = self.folder();
        let mut shards: BTreeMap<ShardId, Vec<StreamRecord>> = BTreeMap::new();
        for (key, object) in self.store.objects() {
            if let Some(name) = LogName::parse(&folder, &key) {
                assert_eq!(object.item_count, Some(name.count));
                let records = read_log_object(&key, &name, &object.body).unwrap();
                shards.entry(name.shard).or_default().extend(records);
            }
        }
        shards
            .into_iter()
            .map(|(shard, records)| (shard, once_in_order(records)))
            .collect()
    }

    /// How many log objects there are.
    pub fn objects(&self) -> usize {
        let folder = self.folder();
        let keys = self.store.keys();
        let names = keys.iter().filter_map(|key| LogName::parse(&folder, key));
        names.count()
    }

    /// That the log is the shard's records, byte for byte as Lambda gave them, and nothing else.
    #[track_caller]
    pub fn assert_whole(&self) {
        let log = self.log();
        assert_eq!(log.keys().collect::<Vec<_>>(), [&self.shard()]);
        let found: Vec<&[u8]> = log[&self.shard()]
            .iter()
            .map(|record| &record.raw[..])
            .collect();
        let truth = self.dressed(&self.records());
        let truth: Vec<&[u8]> = truth.iter().map(|record| &record[..]).collect();
        assert!(found == truth, "{} records of {}", found.len(), truth.len());
    }

    /// The sequence numbers that are durable.
    pub fn durable(&self) -> BTreeSet<String> {
        let log = self.log();
        let records = log.values().flatten();
        records
            .map(|record| record.sequence_number.to_string())
            .collect()
    }

    pub fn incidents(&self) -> Vec<Incident> {
        let folder = format!("{}incidents/", self.folder());
        let objects = self.store.objects();
        let incidents = objects.iter().filter(|(key, _)| key.starts_with(&folder));
        incidents
            .map(|(_, object)| serde_json::from_slice(&object.body).unwrap())
            .collect()
    }
}
