//! An event-source mapping for tests: reads a stream, cuts it into batches and invokes a function with them, as Lambda does
//! on a bad day. Everything it decides is drawn from a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::lineage::Position;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{ShardIterator, StartAt, StreamSource};
use highwater_steps::consume_stream::ConsumeOutput;
use highwater_testkit::runtime_api::{Function, FunctionError};
use serde_json::{Value, json};

/// How often what goes wrong, of a hundred batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mischief {
    /// Delivered to two invocations at once.
    pub doubled: u8,
    /// Delivered again although it was done: the answer was lost.
    pub forgotten: u8,
    /// With records of long ago in front.
    pub overlapping: u8,
    /// In no order.
    pub disordered: u8,
    /// The function is killed in the middle.
    pub killed: u8,
    /// Dropped without being delivered, as after 24 hours of failures.
    pub discarded: u8,
    /// Delivered without a window, so that nothing tells the shard.
    pub unplaced: u8,
}

/// What the mapping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    pub batches: u64,
    pub doubled: u64,
    pub asked_again: u64,
    pub failed: u64,
    pub killed: u64,
    pub discarded: u64,
    pub unplaced: u64,
}

pub struct LocalMapping {
    source: Arc<dyn StreamSource>,
    stream_arn: String,
    function: Arc<Function>,
    mischief: Mischief,
    random: fastrand::Rng,
    shards: BTreeMap<ShardId, ShardReader>,
    pub deliveries: Deliveries,
}

/// How far one shard was read and delivered.
struct ShardReader {
    parent: Option<ShardId>,
    from: StartAt,
    iterator: Option<ShardIterator>,
    is_drained: bool,
    /// All records so far, dressed for Lambda.
    records: Vec<(SequenceNumber, Value)>,
    /// How many of them are done.
    done: usize,
    /// The most that the next batch may hold: halved by a function error.
    most: usize,
    state: Value,
}

/// An invocation's time, of which the function keeps a quarter in reserve.
const LIMIT: Duration = Duration::from_secs(8);
const BATCH: usize = 120;

impl LocalMapping {
    /// From the oldest record of the stream on.
    pub fn new(
        source: Arc<dyn StreamSource>,
        stream_arn: &str,
        function: Arc<Function>,
        mischief: Mischief,
        seed: u64,
    ) -> Self {
        Self {
            source,
            stream_arn: stream_arn.to_owned(),
            function,
            mischief,
            random: fastrand::Rng::with_seed(seed),
            shards: BTreeMap::new(),
            deliveries: Deliveries::default(),
        }
    }

    /// Delivers until `is_over` says so and everything that was written before is delivered.
    pub async fn run(&mut self, is_over: impl Fn() -> bool) {
        loop {
            let was_over = is_over();
            self.discover().await;
            let mut delivered = false;
            let ids: Vec<ShardId> = self.shards.keys().cloned().collect();
            for id in ids {
                if self.may_read(&id) {
                    self.poll(&id).await;
                    delivered |= self.deliver(&id).await;
                }
            }
            if was_over && !delivered && self.shards.values().all(ShardReader::is_caught_up) {
                return;
            }
        }
    }

    async fn discover(&mut self) {
        let listing = self.source.listing(&self.stream_arn).await.unwrap();
        for shard in listing.shards {
            self.shards.entry(shard.id).or_insert_with(|| ShardReader {
                parent: shard.parent,
                from: StartAt::Position(Position::At(shard.start)),
                iterator: None,
                is_drained: false,
                records: Vec::new(),
                done: 0,
                most: BATCH,
                state: json!({}),
            });
        }
    }

    /// A child waits for its parent.
    fn may_read(&self, id: &ShardId) -> bool {
        let parent = self.shards[id].parent.as_ref();
        let parent = parent.and_then(|parent| self.shards.get(parent));
        parent.is_none_or(|parent| parent.is_drained && parent.is_caught_up())
    }

    async fn poll(&mut self, id: &ShardId) {
        let arn = self.stream_arn.clone();
        let shard = self.shards.get_mut(id).unwrap();
        if shard.is_drained {
            return;
        }
        let iterator = match shard.iterator.take() {
            Some(iterator) => iterator,
            None => self.source.iterator(&arn, id, &shard.from).await.unwrap(),
        };
        let page = self.source.records(&iterator, 1000).await.unwrap();
        for raw in page.records {
            let record = StreamRecord::read(&raw).unwrap();
            shard.from = StartAt::Position(Position::After(record.sequence_number.clone()));
            shard
                .records
                .push((record.sequence_number, dressed(&raw, &arn)));
        }
        shard.is_drained = page.next.is_none();
        shard.iterator = page.next;
    }

    fn happens(&mut self, per_cent: u8) -> bool {
        self.random.u8(..100) < per_cent
    }

    /// Delivers one batch, if there is something to deliver.
    async fn deliver(&mut self, id: &ShardId) -> bool {
        let mischief = self.mischief;
        let (overlaps, disordered) = (
            self.happens(mischief.overlapping),
            self.happens(mischief.disordered),
        );
        let (discards, unplaced) = (
            self.happens(mischief.discarded),
            self.happens(mischief.unplaced),
        );
        let shard = self.shards.get_mut(id).unwrap();
        if shard.is_caught_up() {
            return false;
        }
        let most = (shard.records.len() - shard.done).min(shard.most);
        let until = shard.done + self.random.usize(1..=most);
        if discards {
            shard.done = until;
            self.deliveries.discarded += 1;
            return true;
        }
        let first = if overlaps {
            self.random.usize(..=shard.done)
        } else {
            shard.done
        };
        let mut batch: Vec<(SequenceNumber, Value)> = shard.records[first..until].to_vec();
        if disordered {
            self.random.shuffle(&mut batch);
        }
        let records: Vec<Value> = batch.into_iter().map(|(_, record)| record).collect();
        let event = if unplaced {
            json!({"Records": records})
        } else {
            json!({
                "Records": records,
                "window": {"start": "2026-01-14T10:19:00Z", "end": "2026-01-14T10:20:00Z"},
                "state": shard.state,
                "shardId": id,
                "eventSourceARN": self.stream_arn,
                "isFinalInvokeForWindow": false,
                "isWindowTerminatedEarly": false,
            })
        };
        self.deliveries.batches += 1;
        self.deliveries.unplaced += u64::from(unplaced);
        let answer = self.invoke(event).await;
        self.settle(id, until, answer);
        true
    }

    async fn invoke(&mut self, event: Value) -> Result<Value, FunctionError> {
        if self.happens(self.mischief.doubled) {
            self.deliveries.doubled += 1;
            let twice = (
                self.function.invoke(event.clone(), LIMIT),
                self.function.invoke(event, LIMIT),
            );
            let (one, other) = tokio::join!(twice.0, twice.1);
            return if self.random.bool() { one } else { other };
        }
        if self.happens(self.mischief.killed) {
            self.deliveries.killed += 1;
            let function = Arc::clone(&self.function);
            let lives_for = Duration::from_millis(self.random.u64(..10));
            let killing = async {
                tokio::time::sleep(lives_for).await;
                function.kill().await
            };
            return tokio::join!(self.function.invoke(event, LIMIT), killing).0;
        }
        self.function.invoke(event, LIMIT).await
    }

    /// Goes by the answer as Lambda does: on to the end of the batch, or to the record that is asked for again, or back
    /// with half of it.
    fn settle(&mut self, id: &ShardId, until: usize, answer: Result<Value, FunctionError>) {
        let forgets = self.happens(self.mischief.forgotten);
        let shard = self.shards.get_mut(id).unwrap();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let known = [
                    "Runtime.ExitError",
                    "Sandbox.Timedout",
                    "Throttled",
                    "TransientAws",
                ];
                assert!(known.contains(&error.error_type.as_str()), "{error}");
                self.deliveries.failed += 1;
                shard.most = (shard.most / 2).max(1);
                return;
            }
        };
        let output: ConsumeOutput = serde_json::from_value(answer.clone()).unwrap();
        let Some(failure) = output.batch_item_failures.first() else {
            if !forgets {
                shard.done = until;
                shard.most = BATCH;
                shard.state = answer.get("state").cloned().unwrap_or_else(|| json!({}));
            }
            return;
        };
        assert_eq!(
            output.batch_item_failures.len(),
            1,
            "nothing after the first failure"
        );
        self.deliveries.asked_again += 1;
        let asked = shard.records[..until]
            .iter()
            .position(|(number, _)| *number == failure.item_identifier);
        // An identifier that is no record's would fail the whole batch.
        let asked =
            asked.unwrap_or_else(|| panic!("{} was not delivered", failure.item_identifier));
        shard.done = shard.done.max(asked);
    }

    /// Every record that was read from the stream, by shard.
    pub fn truth(&self) -> BTreeMap<ShardId, Vec<StreamRecord>> {
        let records = |shard: &ShardReader| {
            let records = shard.records.iter();
            let read =
                |record: &Value| StreamRecord::read(&Bytes::from(record.to_string())).unwrap();
            records.map(|(_, record)| read(record)).collect::<Vec<_>>()
        };
        let shards = self.shards.iter();
        let shards = shards.map(|(id, shard)| (id.clone(), records(shard)));
        shards.filter(|(_, records)| !records.is_empty()).collect()
    }
}

impl ShardReader {
    fn is_caught_up(&self) -> bool {
        self.done == self.records.len()
    }
}

/// Lambda adds to what `GetRecords` gives where it comes from.
fn dressed(raw: &[u8], stream_arn: &str) -> Value {
    let mut record: Value = serde_json::from_slice(raw).unwrap();
    record["eventSourceARN"] = json!(stream_arn);
    record
}
