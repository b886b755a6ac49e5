//! What DynamoDB Streams answers, over the records that the embedded engine keeps.
//!
//! Three operations are answered here; `ListStreams` is the engine's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dynoxide::Database;
use dynoxide::actions::get_records::{GetRecordsRequest, Record};
use dynoxide::actions::get_shard_iterator::encode_shard_iterator;
use dynoxide::actions::list_streams::ListStreamsRequest;
use dynoxide::storage::TableMetadata;
use dynoxide::streams::shard_id;
use serde_json::{Value, json};

use crate::stream_wire::{
    DescribeStream, GetRecords, GetShardIterator, Refusal, encoded, failed, invalid, key_bytes,
    not_found, now_micros, opened, public, read_iterator, refusal, request, stored, trimmed,
};
use crate::virtual_shards::{StreamShape, VirtualShard, VirtualShards};

/// The bounds of <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB_Streams.html>.
const MOST_SHARDS: usize = 100;
const MOST_RECORDS: usize = 1000;
const MOST_BYTES: usize = 1024 * 1024;
const LISTED_FOR: Duration = Duration::from_hours(24);

/// One stream at one moment.
struct Seen<'a> {
    arn: &'a str,
    label: &'a str,
    table: TableMetadata,
    shards: &'a VirtualShards,
    /// Records before this one are gone.
    horizon: u64,
    /// Shards that were closed before are not listed. Those without a record left still are, as DynamoDB's.
    listed_since: u64,
}

/// Answers the calls of DynamoDB Streams.
pub(crate) struct StreamAnswers {
    database: Database,
    shape: StreamShape,
    /// The streams that were seen, by table and label. A database file tells the newest of each table only.
    streams: Mutex<HashMap<String, BTreeMap<String, VirtualShards>>>,
    trimmed: AtomicU64,
}

impl StreamAnswers {
    pub(crate) fn new(database: Database, shape: StreamShape) -> Self {
        Self {
            database,
            shape,
            streams: Mutex::default(),
            trimmed: AtomicU64::new(0),
        }
    }

    /// Whether an operation is answered here.
    pub(crate) fn knows(operation: &str) -> bool {
        matches!(
            operation,
            "DescribeStream" | "GetShardIterator" | "GetRecords"
        )
    }

    pub(crate) fn answer(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        match operation {
            "DescribeStream" => self.describe(&request(body)?),
            "GetShardIterator" => self.iterator(&request(body)?),
            "GetRecords" => self.records(&request(body)?),
            other => Err(refusal("UnknownOperationException", other)),
        }
    }

    /// Lets everything written so far be trimmed.
    pub(crate) fn trim(&self) {
        self.trimmed.store(now_micros() + 1, Ordering::Relaxed);
    }

    /// Takes note of the streams that there are, before a change that may end one: the engine forgets it then.
    pub(crate) fn take_note(&self) -> Result<(), Refusal> {
        let listed = self.database.list_streams(ListStreamsRequest::default());
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in listed.map_err(failed)?.streams {
            let of_table = streams.entry(stream.table_name).or_default();
            self.known(of_table, &stream.stream_label);
        }
        Ok(())
    }

    fn known<'a>(
        &self,
        of_table: &'a mut BTreeMap<String, VirtualShards>,
        label: &str,
    ) -> &'a mut VirtualShards {
        let new = || VirtualShards::new(self.shape, label, opened(label));
        of_table.entry(label.to_owned()).or_insert_with(new)
    }

    /// Shows a stream as it is now, every record in its shard.
    fn with_stream<T>(
        &self,
        arn: &str,
        show: impl FnOnce(&Seen<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let gone = || not_found(&format!("Stream: {arn} not found"));
        let (name, label) = arn
            .split_once(":table/")
            .and_then(|(_, rest)| rest.split_once("/stream/"))
            .ok_or_else(gone)?;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let of_table = streams.entry(name.to_owned()).or_default();
        let table = self.catch_up(name, of_table)?.ok_or_else(gone)?;
        let shards = of_table.get(label).ok_or_else(gone)?;
        let before = |age: Duration| {
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            now_micros().saturating_sub(age)
        };
        let trimmed = self.trimmed.load(Ordering::Relaxed);
        show(&Seen {
            arn,
            label,
            table,
            shards,
            horizon: before(self.shape.retention).max(trimmed),
            listed_since: before(LISTED_FOR),
        })
    }

    /// Puts the records that are new into the shards of the table's streams.
    fn catch_up(
        &self,
        name: &str,
        of_table: &mut BTreeMap<String, VirtualShards>,
    ) -> Result<Option<TableMetadata>, Refusal> {
        let stream_of = |table: &TableMetadata| (table.stream_label.clone(), table.stream_enabled);
        loop {
            let Some(before) = self.table(name)? else {
                return Ok(None);
            };
            if let Some(label) = &before.stream_label {
                self.known(of_table, label);
            }
            // The time first: no record that is not read now can be older.
            let now = now_micros();
            let alive = of_table.values().filter(|shards| !shards.has_ended());
            let records = match alive.map(VirtualShards::through).min() {
                Some(through) => self.records_after(name, through)?,
                None => Vec::new(),
            };
            // Else somebody ended the stream meanwhile, and there may be more.
            if let Some(table) = self.table(name)?
                && stream_of(&table) == stream_of(&before)
            {
                let enabled = table.stream_label.as_ref().filter(|_| table.stream_enabled);
                distribute(&records, of_table, enabled, now);
                return Ok(Some(table));
            }
        }
    }

    fn table(&self, name: &str) -> Result<Option<TableMetadata>, Refusal> {
        self.database.get_table_metadata(name).map_err(failed)
    }

    /// All records of a table behind one: sequence numbers and keys.
    fn records_after(&self, table: &str, after: u64) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
        let (mut found, mut after) = (Vec::new(), after);
        loop {
            let page = self.page(table, after, MOST_RECORDS)?;
            let full = page.len() == MOST_RECORDS;
            for (sequence, record) in page {
                after = sequence;
                found.push((sequence, key_bytes(&record)?));
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// One page of the engine's own.
    fn page(&self, table: &str, after: u64, limit: usize) -> Result<Vec<(u64, Record)>, Refusal> {
        let position = i64::try_from(after).map_err(failed)?;
        let request = GetRecordsRequest {
            shard_iterator: encode_shard_iterator(table, &shard_id(table), position),
            limit: Some(limit),
        };
        let answer = self.database.get_records(request).map_err(failed)?;
        let numbered = |record: Record| {
            let public = &record.dynamodb.sequence_number;
            let stored = stored(public).ok_or_else(|| failed(format!("record {public}")))?;
            Ok((stored, record))
        };
        answer.records.into_iter().map(numbered).collect()
    }

    fn describe(&self, request: &DescribeStream) -> Result<Vec<u8>, Refusal> {
        let limit = request.limit.unwrap_or(MOST_SHARDS);
        if !(1..=MOST_SHARDS).contains(&limit) {
            return Err(invalid("Limit must be between 1 and 100"));
        }
        let parent = match &request.shard_filter {
            Some(filter) if filter.r#type == "CHILD_SHARDS" => Some(&filter.shard_id),
            Some(filter) => return Err(invalid(format!("no filter {}", filter.r#type))),
            None => None,
        };
        self.with_stream(&request.stream_arn, |stream| {
            let is_left = |shard: &&VirtualShard| {
                let is_child = parent.is_none_or(|it| shard.parent.as_ref() == Some(it));
                is_child && stream.lists(shard)
            };
            let behind: Vec<_> = match &request.exclusive_start_shard_id {
                Some(id) => {
                    let known = stream.shards.get(id);
                    known.ok_or_else(|| not_found(&format!("Shard: {id}")))?;
                    let after = stream.shards.iter().skip_while(|shard| shard.id != *id);
                    after.skip(1).filter(is_left).collect()
                }
                None => stream.shards.iter().filter(is_left).collect(),
            };
            let page = behind.get(..limit).unwrap_or(&behind);
            let last = page.last().filter(|_| page.len() < behind.len());
            stream.description(page, last.map(|shard| shard.id.as_str()))
        })
    }

    fn iterator(&self, request: &GetShardIterator) -> Result<Vec<u8>, Refusal> {
        self.with_stream(&request.stream_arn, |stream| {
            let shard = stream.shard(&request.shard_id)?;
            let exact = || stream.position(shard, request.sequence_number.as_deref());
            let next = match request.shard_iterator_type.as_str() {
                "TRIM_HORIZON" => stream.horizon.max(shard.start),
                "LATEST" => stream.shards.through() + 1,
                "AT_SEQUENCE_NUMBER" => exact()?,
                "AFTER_SEQUENCE_NUMBER" => exact()? + 1,
                other => return Err(invalid(format!("Invalid ShardIteratorType: {other}"))),
            };
            encoded(&json!({"ShardIterator": stream.iterator(shard, next)}))
        })
    }

    fn records(&self, request: &GetRecords) -> Result<Vec<u8>, Refusal> {
        let limit = request.limit.unwrap_or(MOST_RECORDS);
        if !(1..=MOST_RECORDS).contains(&limit) {
            return Err(invalid("Limit must be between 1 and 1000"));
        }
        let (arn, id, next) = read_iterator(&request.shard_iterator)?;
        self.with_stream(arn, |stream| {
            let shard = stream.shard(id)?;
            let left = shard.from(next);
            if left.first().is_some_and(|first| *first < stream.horizon) {
                return Err(trimmed());
            }
            let wanted = left.get(..limit).unwrap_or(left);
            let found = self.fetch(&stream.table.table_name, wanted)?;
            let next = wanted
                .get(found.len().wrapping_sub(1))
                .map_or(next, |last| last + 1);
            let is_over = shard.end.is_some() && shard.from(next).is_empty();
            let next = (!is_over).then(|| stream.iterator(shard, next));
            let mut body = b"{\"Records\":[".to_vec();
            body.extend(found.join(&b','));
            body.extend(b"],\"NextShardIterator\":");
            body.extend(encoded(&next)?);
            body.push(b'}');
            Ok(body)
        })
    }

    /// The records of these numbers, or as many of them as an answer may hold.
    fn fetch(&self, table: &str, wanted: &[u64]) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        // The shards beside this one have records in between.
        let page = (wanted.len() * 2 * self.shape.lineages.max(1) as usize).min(MOST_RECORDS);
        while let Some(first) = wanted.get(found.len()) {
            let had = found.len();
            for (sequence, record) in self.page(table, first - 1, page)? {
                if wanted.get(found.len()) == Some(&sequence) {
                    // The engine's items have no order of their own; the same record is the same bytes.
                    let record = encoded(&serde_json::to_value(&record).map_err(failed)?)?;
                    bytes += record.len();
                    if bytes > MOST_BYTES && !found.is_empty() {
                        return Ok(found);
                    }
                    found.push(record);
                }
            }
            if found.len() == had {
                return Err(failed(format!("record {first} of {table} has vanished")));
            }
        }
        Ok(found)
    }
}

/// Gives each stream of a table its records, those from when it was enabled until the next one was.
fn distribute(
    records: &[(u64, Vec<u8>)],
    streams: &mut BTreeMap<String, VirtualShards>,
    enabled: Option<&String>,
    now: u64,
) {
    let mut newest_first: Vec<_> = streams.iter_mut().collect();
    newest_first.sort_by_key(|(label, _)| std::cmp::Reverse(opened(label)));
    let mut until = u64::MAX;
    for (label, shards) in newest_first {
        let new = shards.through() + 1..until;
        until = opened(label);
        if shards.has_ended() {
            continue;
        }
        for (sequence, key) in records.iter().filter(|(it, _)| new.contains(it)) {
            shards.record(*sequence, key);
        }
        if enabled == Some(label) {
            shards.advance(now);
        } else {
            shards.end();
        }
    }
}

impl Seen<'_> {
    fn lists(&self, shard: &VirtualShard) -> bool {
        let since = self.listed_since;
        shard.closed_at.is_none_or(|closed| closed > since)
    }

    fn shard(&self, id: &str) -> Result<&VirtualShard, Refusal> {
        let shard = self.shards.get(id).filter(|shard| self.lists(shard));
        shard.ok_or_else(|| not_found(&format!("Shard: {id} in stream: {} not found", self.arn)))
    }

    /// The stored number of a position, if nothing from there on is gone.
    fn position(&self, shard: &VirtualShard, public: Option<&str>) -> Result<u64, Refusal> {
        let public = public.ok_or_else(|| invalid("SequenceNumber cannot be null"))?;
        let within =
            |stored: &u64| *stored >= shard.start && shard.end.is_none_or(|end| *stored <= end);
        let position = stored(public)
            .filter(within)
            .ok_or_else(|| invalid("Invalid SequenceNumber for the shard"))?;
        match shard.from(position).first() {
            Some(first) if *first < self.horizon => Err(trimmed()),
            _ => Ok(position),
        }
    }

    fn iterator(&self, shard: &VirtualShard, next: u64) -> String {
        format!("{}|{}|{next}|{}", self.arn, shard.id, now_micros())
    }

    fn description(
        &self,
        shards: &[&VirtualShard],
        last: Option<&str>,
    ) -> Result<Vec<u8>, Refusal> {
        let listed = |shard: &&VirtualShard| {
            let mut range = json!({"StartingSequenceNumber": public(shard.start)});
            if let Some(end) = shard.end {
                range["EndingSequenceNumber"] = public(end).into();
            }
            let mut listed = json!({"ShardId": shard.id, "SequenceNumberRange": range});
            if let Some(parent) = &shard.parent {
                listed["ParentShardId"] = parent.as_str().into();
            }
            listed
        };
        let keys: Value = serde_json::from_str(&self.table.key_schema).map_err(failed)?;
        let ended = self.shards.has_ended();
        let mut description = json!({
            "StreamArn": self.arn,
            "StreamLabel": self.label,
            "StreamStatus": if ended { "DISABLED" } else { "ENABLED" },
            "StreamViewType": self.table.stream_view_type,
            "CreationRequestDateTime": opened(self.label) / 1_000_000,
            "TableName": self.table.table_name,
            "KeySchema": keys,
            "Shards": shards.iter().map(listed).collect::<Vec<_>>(),
        });
        if let Some(last) = last {
            description["LastEvaluatedShardId"] = last.into();
        }
        encoded(&json!({"StreamDescription": description}))
    }
}
