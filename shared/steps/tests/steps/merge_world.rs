//! A table's history, its stream's log and a snapshot, written by hand or at random; and what a restore makes of them.
//!
//! Things happen in the order of the calls. Times are seconds after [`BEGIN`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::budget::Budget;
use highwater_domain::change_log::log_object;
use highwater_domain::failure::Failure;
use highwater_domain::handoff::{Handoff, HandoffOf, KeptHandoff};
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_domain::layout::Destination;
use highwater_domain::live_control::{PUBLISHED_MARK_VERSION, PublishedMark};
use highwater_domain::log_facts::{
    Ending, LOG_FACTS_VERSION, Origin, ShardEnd, ShardFacts, StreamFacts,
};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::{Grade, Mark, UnixSeconds};
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_domain::restore_point::{At, RestorePoint, Rules};
use highwater_domain::sequence_number::{Generation, ShardOrdinal, ordinal};
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};
use highwater_domain::snapshot::Status;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::merge_work::{Merge, MergeLimits};
use highwater_steps::overlay::Overlay;
use highwater_steps::restore_point::{self, Options, clear_work};
use highwater_steps::source_file::open_file;
use highwater_steps::{RestoreDeps, StepError, fold_log, scatter_log};
use highwater_testkit::fake_store::{FakeStore, object};

use crate::restore_stage::RestoreStage;

/// The second from which a world's seconds are counted, well before the stage's clock.
pub const BEGIN: u64 = 1_768_300_000;
pub const LABEL: &str = "2026-01-13T10:26:40.000";
pub const SNAPSHOT: &str = "01768300000000-0000000a";
pub const TABLE: &str = "s3://fake-bucket/daily/orders";
const STREAM: &str = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/x";

/// What a table holds: values by the number of their key.
pub type Items = BTreeMap<u32, String>;

pub type ShardIx = usize;

struct WorldShard {
    shard: Shard,
    parent: Option<ShardIx>,
    ordinal: ShardOrdinal,
    /// The last sequence number that was used.
    number: String,
    records: Vec<StreamRecord>,
    seed: Option<u64>,
    event_time: Option<u64>,
    children: Vec<ShardIx>,
    ended: bool,
}

/// A change and its event time.
struct Written {
    key: u32,
    event_time: u64,
    after: Option<String>,
}

pub struct World {
    pub store: Arc<FakeStore>,
    pub schema: KeySchema,
    pub view: StreamView,
    pub rules: Rules,
    pub limits: MergeLimits,
    pub buckets: u32,
    pub random: fastrand::Rng,
    pub mark: Mark,
    pub log_from: u64,
    pub consistent: bool,
    shards: Vec<WorldShard>,
    now: Items,
    history: Vec<Written>,
    pub scanned: Items,
    handoff: Option<Handoff>,
    ended: u64,
}

#[derive(Debug)]
pub struct OneStore(pub Arc<dyn ObjectStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

/// What a restore came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    pub point: RestorePoint,
    pub items: Items,
    /// Of the overlay.
    pub fingerprint: String,
}

pub fn schema(scalar_type: ScalarType) -> KeySchema {
    KeySchema {
        partition: KeyAttribute {
            name: "id".into(),
            scalar_type,
        },
        sort: None,
    }
}

pub fn second(after_begin: u64) -> At {
    At::Second(UnixSeconds(BEGIN + after_begin))
}

fn ms(after_begin: u64) -> UnixMillis {
    UnixMillis((BEGIN + after_begin) * 1000)
}

impl World {
    pub fn new(seed: u64) -> Self {
        let all = |second: u64| Some(UnixSeconds(BEGIN + second));
        Self {
            store: Arc::new(FakeStore::new().with_page(7)),
            schema: schema(ScalarType::N),
            view: StreamView::NewAndOldImages,
            rules: Rules {
                stamp_margin_s: 3,
                grade: Grade::Assumed,
            },
            limits: MergeLimits::default(),
            buckets: 1,
            random: fastrand::Rng::with_seed(seed),
            mark: Mark {
                proven: all(10_000),
                rolled: all(10_000),
                assumed: all(10_000),
            },
            log_from: 0,
            consistent: true,
            shards: Vec::new(),
            now: Items::new(),
            history: Vec::new(),
            scanned: Items::new(),
            handoff: None,
            ended: 0,
        }
    }

    pub fn shard_id(&self, shard: ShardIx) -> ShardId {
        self.shards[shard].shard.id.clone()
    }

    /// A shard without a parent.
    pub fn root(&mut self, at: u64) -> ShardIx {
        self.add(at, None, "100000000000000000000")
    }

    fn add(&mut self, at: u64, parent: Option<ShardIx>, start: &str) -> ShardIx {
        let index = self.shards.len();
        let id: ShardId = format!("shardId-{:020}-{index:08x}", ms(at).0)
            .parse()
            .unwrap();
        let above = parent.map(|parent| self.shards[parent].ordinal);
        let seed = parent.and_then(|parent| self.shards[parent].event_time);
        self.shards.push(WorldShard {
            ordinal: ordinal(&id, above, 0),
            shard: Shard {
                id,
                parent: parent.map(|parent| self.shard_id(parent)),
                start: start.parse().unwrap(),
                end: None,
            },
            parent,
            number: start.to_owned(),
            records: Vec::new(),
            seed,
            event_time: seed,
            children: Vec::new(),
            ended: false,
        });
        index
    }

    /// A shard ends, and these go on from it; their numbers begin at `starts`.
    pub fn roll(&mut self, parent: ShardIx, at: u64, starts: &[&str]) -> Vec<ShardIx> {
        let children: Vec<ShardIx> = starts
            .iter()
            .map(|start| self.add(at, Some(parent), start))
            .collect();
        let shard = &mut self.shards[parent];
        shard.ended = true;
        shard.shard.end = Some(shard.number.parse().unwrap());
        shard.children.clone_from(&children);
        children
    }

    /// Writes an item, or deletes it. Nothing happens if that changes nothing: DynamoDB then has no record.
    pub fn write(&mut self, shard: ShardIx, key: u32, stamp: u64, after: Option<&str>) {
        let before = self.now.get(&key).cloned();
        if before.as_deref() == after {
            return;
        }
        match after {
            Some(value) => drop(self.now.insert(key, value.to_owned())),
            None => drop(self.now.remove(&key)),
        }
        let gap = self.random.u32(1..5);
        let number = plus(&self.shards[shard].number, gap);
        let record = self.record(shard, &number, key, stamp, before.as_deref(), after);
        let path = &mut self.shards[shard];
        path.number = number;
        path.records.push(record);
        let event_time = path.event_time.unwrap_or(0).max(BEGIN + stamp);
        path.event_time = Some(event_time);
        self.history.push(Written {
            key,
            event_time,
            after: after.map(str::to_owned),
        });
    }

    fn record(
        &mut self,
        shard: ShardIx,
        number: &str,
        key: u32,
        stamp: u64,
        before: Option<&str>,
        after: Option<&str>,
    ) -> StreamRecord {
        let name = match (before, after) {
            (None, _) => "INSERT",
            (_, None) => "REMOVE",
            _ => "MODIFY",
        };
        let has_old = self.view == StreamView::NewAndOldImages;
        let new = after.map_or(String::new(), |value| {
            format!(r#""NewImage":{},"#, self.item(key, value))
        });
        let old = before.filter(|_| has_old).map_or(String::new(), |value| {
            format!(r#""OldImage":{},"#, self.item(key, value))
        });
        let key = self.key(key);
        let raw = format!(
            r#"{{"eventID":"{shard}-{number}","eventName":"{name}","dynamodb":{{"ApproximateCreationDateTime":{},"Keys":{{"id":{key}}},{new}{old}"SequenceNumber":"{number}"}}}}"#,
            BEGIN + stamp,
        );
        StreamRecord::read(&Bytes::from(raw)).unwrap()
    }

    /// A key in one of its spellings.
    fn key(&mut self, key: u32) -> String {
        match self.schema.partition.scalar_type {
            ScalarType::N => {
                let spellings = [
                    format!("{key}"),
                    format!("{key}.0"),
                    format!("0{key}"),
                    format!("{key}00e-2"),
                ];
                let spelling = self.random.choice(&spellings).unwrap();
                format!(r#"{{"N":"{spelling}"}}"#)
            }
            _ => format!(r#"{{"S":"k{key}"}}"#),
        }
    }

    fn item(&mut self, key: u32, value: &str) -> String {
        format!(r#"{{"id":{},"v":{{"S":"{value}"}}}}"#, self.key(key))
    }

    fn listing(&self) -> StreamListing {
        StreamListing {
            stream_arn: STREAM.into(),
            label: LABEL.into(),
            view: self.view,
            status: StreamStatus::Enabled,
            shards: self.shards.iter().map(|it| it.shard.clone()).collect(),
        }
    }

    /// Captures the handoff.
    pub fn capture(&mut self, at: u64) {
        let of = HandoffOf {
            table_arn: "arn:aws:dynamodb:eu-north-1:123456789012:table/orders".into(),
            table_id: Some("uuid".into()),
            generation: Generation(1),
            consistent: self.consistent,
        };
        self.handoff = Some(Handoff::of(of, &self.listing(), Vec::new(), ms(at)));
    }

    /// Reads an item as it is now, as a strongly consistent scan does.
    pub fn scan(&mut self, key: u32) {
        if let Some(value) = self.now.get(&key) {
            self.scanned.insert(key, value.clone());
        }
    }

    pub fn scan_all(&mut self) {
        self.scanned.extend(self.now.clone());
    }

    /// Ends the scan and writes the snapshot's metadata.
    pub async fn seal(&mut self, ended: u64) {
        self.ended = ended;
        let handoff = self.handoff.clone().unwrap();
        let metadata = Metadata {
            table_name: "orders".into(),
            status: Status::Completed,
            backup_start_time: handoff.captured_at.to_rfc3339(),
            backup_end_time: Some(ms(ended).to_rfc3339()),
            consistent: self.consistent,
            key_schema: Some(self.schema.clone()),
            handoff: Some(KeptHandoff::Read(Box::new(handoff))),
            ..Metadata::default()
        };
        self.put_snapshot(SNAPSHOT, &metadata).await;
    }

    pub async fn put_snapshot(&self, id: &str, metadata: &Metadata) {
        let id: SnapshotId = id.parse().unwrap();
        let layout = highwater_domain::layout::Layout::new("daily", "orders", &id);
        self.put(&layout.metadata(), metadata).await;
    }

    pub fn place() -> LogPlace {
        LogPlace::new("daily", "orders")
    }

    pub async fn put<T: serde::Serialize>(&self, key: &str, value: &T) {
        let text = serde_json::to_string(value).unwrap();
        self.store.replace(object(key, &text)).await.unwrap();
    }

    /// Writes the whole log, cut at random: pieces, pieces that overlap, and back-fills of single records.
    pub async fn publish(&mut self) {
        let place = Self::place();
        let facts = StreamFacts {
            version: LOG_FACTS_VERSION,
            generation: Generation(1),
            stream_arn: STREAM.into(),
            stream_label: LABEL.into(),
            view: self.view,
            table_arn: "arn:aws:dynamodb:eu-north-1:123456789012:table/orders".into(),
            table_id: Some("uuid".into()),
            met_at: ms(0),
            log_from: ms(self.log_from),
        };
        self.put(&place.generation(Generation(1)), &facts).await;
        for index in 0..self.shards.len() {
            self.publish_facts(index).await;
            let records = std::mem::take(&mut self.shards[index].records);
            for batch in cut(&records, &mut self.random) {
                self.publish_batch(index, &batch).await;
            }
            self.shards[index].records = records;
        }
        self.publish_mark().await;
    }

    pub async fn publish_batch(&self, shard: ShardIx, records: &[StreamRecord]) {
        let id = self.shard_id(shard);
        let (name, body) = log_object(&id, records).unwrap();
        let mut object = object(&name.key(&Self::place().stream(LABEL)), "");
        object.body = body;
        self.store.replace(object).await.unwrap();
    }

    pub fn records(&self, shard: ShardIx) -> &[StreamRecord] {
        &self.shards[shard].records
    }

    async fn publish_facts(&self, index: ShardIx) {
        let (place, shard) = (Self::place(), &self.shards[index]);
        let facts = ShardFacts {
            version: LOG_FACTS_VERSION,
            shard: Shard {
                end: None,
                ..shard.shard.clone()
            },
            ordinal: shard.ordinal,
            event_time: shard.seed.map(UnixSeconds),
            origin: match shard.parent {
                Some(_) => Origin::Child,
                None => Origin::Listed,
            },
            registered_at: ms(0),
        };
        let id = &shard.shard.id;
        self.put(&place.shard_facts(LABEL, id), &facts).await;
        if shard.ended {
            let children = shard.children.iter().map(|child| self.shard_id(*child));
            let end = ShardEnd {
                version: LOG_FACTS_VERSION,
                shard: id.clone(),
                last: shard.records.last().map(|it| it.sequence_number.clone()),
                event_time: shard.event_time.map(UnixSeconds),
                children: children.collect(),
                ending: Ending::Read,
            };
            self.put(&place.shard_end(LABEL, id), &end).await;
        }
    }

    pub async fn publish_mark(&self) {
        let mark = PublishedMark {
            version: PUBLISHED_MARK_VERSION,
            stream_arn: STREAM.into(),
            stream_label: LABEL.into(),
            generation: Generation(1),
            mark: self.mark,
            publication_ms: 120_000,
            computed_at: ms(10_000),
            bounded_by: None,
            open_shards: 1,
            held_back: false,
        };
        self.put(&Self::place().mark(LABEL), &mark).await;
    }

    pub async fn incident(
        &self,
        kind: IncidentKind,
        shard: Option<ShardIx>,
        from: u64,
        until: u64,
    ) {
        let incident = Incident {
            version: INCIDENT_VERSION,
            id: format!("{kind}-{from}"),
            kind,
            stream_label: LABEL.into(),
            shard: shard.map(|shard| self.shard_id(shard)),
            from: UnixSeconds(BEGIN + from),
            until: UnixSeconds(BEGIN + until),
            seen_at: ms(until),
            detail: "in a test".into(),
        };
        let key = Self::place().incident(LABEL, &incident.id);
        self.put(&key, &incident).await;
    }

    /// What the table was at a second.
    pub fn model(&self, at: u64) -> Items {
        let mut items = Items::new();
        let happened = self.history.iter();
        for written in happened.filter(|it| it.event_time <= BEGIN + at) {
            match &written.after {
                Some(value) => drop(items.insert(written.key, value.clone())),
                None => drop(items.remove(&written.key)),
            }
        }
        items
    }

    pub fn deps(&self) -> RestoreDeps {
        RestoreStage::over(self.store.clone(), BTreeMap::new()).deps
    }

    pub fn options(&self, work: &str) -> Options {
        Options {
            rules: self.rules,
            work: format!("s3://fake-bucket/work/{work}"),
        }
    }

    pub async fn choose(&self, at: At) -> Result<RestorePoint, StepError> {
        let location: SourceLocation = TABLE.parse().unwrap();
        restore_point::choose(&self.deps(), &location, at, &self.options("a")).await
    }

    /// A whole restore; leaves nothing in the work folder.
    pub async fn restore(&self, at: At) -> Result<Restored, StepError> {
        let deps = self.deps();
        let chosen = RestorePoint {
            buckets: self.buckets,
            ..self.choose(at).await?
        };
        let point = restore_point::prepare(&deps, chosen).await?;
        self.merge(&deps, &point).await?;
        let restored = self.read(&deps, point).await?;
        assert!(clear_work(&deps, &restored.point).await? > 0);
        let left = self.store.keys();
        assert!(left.iter().all(|key| !key.starts_with("work/")), "{left:?}");
        Ok(restored)
    }

    pub async fn merge(&self, deps: &RestoreDeps, point: &RestorePoint) -> Result<(), StepError> {
        let merge = Merge {
            point,
            key_schema: &self.schema,
            limits: self.limits,
        };
        for shard in 0..point.shards {
            while !scatter_log::scatter(deps, &merge, shard, Budget::UNLIMITED).await? {}
        }
        for bucket in 0..point.buckets {
            while !fold_log::fold(deps, &merge, bucket, Budget::UNLIMITED).await? {}
        }
        Ok(())
    }

    /// What a load would write: the snapshot's items that the overlay does not cover, and the overlay's. Each key once.
    pub async fn read(&self, deps: &RestoreDeps, of: RestorePoint) -> Result<Restored, StepError> {
        let overlay = Overlay::of(deps, &of).await?;
        assert_eq!(overlay.files().len(), of.buckets as usize);
        let mut random = self.random.clone();
        let mut items = Items::new();
        for (key, value) in &self.scanned {
            let spelled = {
                let mut other = World::new(random.u64(..));
                other.schema = self.schema.clone();
                other.item(*key, value)
            };
            let print = self.schema.print_of(spelled.as_bytes()).unwrap();
            if !overlay.covers(&print)? {
                items.insert(*key, value.clone());
            }
        }
        for file in overlay.files() {
            let mut records = open_file(overlay.store(), file, false).await?;
            while let Some(batch) = records.next().await? {
                for record in batch {
                    let (key, value) = parsed(record.op.body());
                    let print = self.schema.print_of(record.op.body()).unwrap();
                    assert!(overlay.covers(&print)?, "an overlay covers its own items");
                    assert_eq!(items.insert(key, value), None, "key {key} came twice");
                }
            }
        }
        let fingerprint = overlay.fingerprint().to_owned();
        Ok(Restored {
            point: of,
            items,
            fingerprint,
        })
    }
}

/// Whether a key is that of a log object, or of something else that is compressed so.
pub fn is_log_object(key: &str) -> bool {
    key.rsplit('.').next() == Some("zst")
}

fn parsed(item: &[u8]) -> (u32, String) {
    let item: serde_json::Value = serde_json::from_slice(item).unwrap();
    let key = match (&item["id"]["N"], &item["id"]["S"]) {
        (serde_json::Value::String(number), _) => format!("{:.0}", number.parse::<f64>().unwrap())
            .parse()
            .unwrap(),
        (_, text) => text.as_str().unwrap()[1..].parse().unwrap(),
    };
    (key, item["v"]["S"].as_str().unwrap().to_owned())
}

/// A decimal number of any length, and a little more.
pub fn plus(number: &str, more: u32) -> String {
    let mut digits: Vec<u32> = number
        .bytes()
        .rev()
        .map(|it| u32::from(it - b'0'))
        .collect();
    let mut carry = more;
    for digit in &mut digits {
        let sum = *digit + carry;
        (*digit, carry) = (sum % 10, sum / 10);
    }
    while carry > 0 {
        digits.push(carry % 10);
        carry /= 10;
    }
    let digits = digits
        .iter()
        .rev()
        .map(|it| char::from_digit(*it, 10).unwrap());
    digits.collect()
}

/// Batches in which every record is at least once.
fn cut(records: &[StreamRecord], random: &mut fastrand::Rng) -> Vec<Vec<StreamRecord>> {
    let (filled, mut batches): (Vec<_>, Vec<Vec<_>>) = (
        records
            .iter()
            .filter(|_| random.u8(..8) == 0)
            .cloned()
            .collect(),
        Vec::new(),
    );
    let is_filled = |record: &StreamRecord| filled.contains(record);
    let rest: Vec<_> = records
        .iter()
        .filter(|it| !is_filled(it))
        .cloned()
        .collect();
    for some in [rest, filled] {
        let mut some = &some[..];
        while !some.is_empty() {
            let (batch, behind) = some.split_at(random.usize(1..=some.len().min(12)));
            batches.push(batch.to_vec());
            some = behind;
        }
    }
    for _ in 0..random.usize(0..4) {
        if records.len() > 1 {
            let from = random.usize(0..records.len() - 1);
            let until = random.usize(from + 1..=records.len());
            batches.push(records[from..until].to_vec());
        }
    }
    batches
}
