//! Streams that are a few answers of `GetRecords`, replayed for every shard until they have the size that was asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use crate::answer::Pieces;
use crate::changes::{Changes, sequence_number};

/// How many different answers a stream is made of.
const KINDS: u64 = 4;
/// An answer has at most so many records, and about so many bytes:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>.
const PAGE_RECORDS: u64 = 1000;
const PAGE_BYTES: usize = 1 << 20;
/// Where the number of the answer stands in a sequence number: behind its first digit, before the record's own digits.
const NUMBER_AT: usize = 1;
const NUMBER_DIGITS: usize = 10;
/// What Lambda's events tell of a record beyond what `GetRecords` does begins so.
const ARN_MEMBER: &[u8] = br#","eventSourceARN":"#;
const SEQUENCE_MEMBER: &[u8] = br#""SequenceNumber":""#;

/// A replayed stream: shards that are closed, each with as many answers as the others.
///
/// Answer `n` of a shard is the made answer `n % 4` with the number `n` in its sequence numbers.
#[derive(Debug)]
pub struct ReplayStream {
    arn: String,
    shards: u64,
    /// Of each shard.
    pages: u64,
    kinds: Vec<RecordsPage>,
    served: AtomicU64,
}

/// The records of one answer, in which only its number is missing.
#[derive(Clone, Debug)]
struct RecordsPage {
    /// With commas between them.
    records: Vec<u8>,
    /// Where each record's number is to be filled in.
    numbers: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfStream {
    stream_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetShardIterator {
    stream_arn: String,
    shard_id: String,
    shard_iterator_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetRecords {
    shard_iterator: String,
    #[serde(rename = "Limit")]
    _limit: Option<u64>,
}

impl RecordsPage {
    fn make(changes: &Changes, kind: u64) -> Self {
        let mut page = Self {
            records: Vec::new(),
            numbers: Vec::new(),
        };
        let mut record = Vec::new();
        for index in 0..PAGE_RECORDS {
            record.clear();
            changes.record_numbered(
                kind * PAGE_RECORDS + index,
                &sequence_number(index),
                &mut record,
            );
            let end = last(&record, ARN_MEMBER).unwrap_or(record.len());
            record.truncate(end);
            record.push(b'}');
            if index > 0 && page.records.len() + record.len() > PAGE_BYTES {
                break;
            }
            if index > 0 {
                page.records.push(b',');
            }
            let start = page.records.len();
            let number = last(&record, SEQUENCE_MEMBER).unwrap_or(0) + SEQUENCE_MEMBER.len();
            page.numbers.push(start + number + NUMBER_AT);
            page.records.extend_from_slice(&record);
        }
        page
    }

    fn filled(&self, number: u64) -> Vec<u8> {
        let digits = format!("{number:0NUMBER_DIGITS$}");
        let mut records = Vec::with_capacity(self.records.len() + 200);
        records.extend_from_slice(b"{\"Records\":[");
        let start = records.len();
        records.extend_from_slice(&self.records);
        for at in &self.numbers {
            let at = start + at;
            records[at..at + NUMBER_DIGITS].copy_from_slice(&digits.as_bytes()[..NUMBER_DIGITS]);
        }
        records
    }

    /// The records' own bytes, without commas.
    fn bytes(&self) -> u64 {
        let commas = self.numbers.len().saturating_sub(1);
        (self.records.len() - commas) as u64
    }
}

fn last(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).rposition(|found| found == part)
}

fn shard_id(shard: u64) -> String {
    format!("shardId-{:020}-{:08x}", 1_768_385_930_622 + shard, shard)
}

/// The answer's number in a shard, for every shard the same, begins here.
fn first_number() -> String {
    sequence_number(0)
}

impl ReplayStream {
    /// A stream of so many shards whose records have at least so many bytes together.
    #[must_use]
    pub fn new(changes: &Changes, arn: &str, shards: u64, bytes: u64) -> Self {
        let kinds: Vec<RecordsPage> = (0..KINDS)
            .map(|kind| RecordsPage::make(changes, kind))
            .collect();
        let mut stream = Self {
            arn: arn.to_owned(),
            shards: shards.max(1),
            pages: 0,
            kinds,
            served: AtomicU64::new(0),
        };
        while stream.bytes() < bytes {
            stream.pages += 1;
        }
        stream
    }

    /// Its ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.sum(|page| page.numbers.len() as u64)
    }

    /// The bytes of all records' JSON.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sum(RecordsPage::bytes)
    }

    /// How many records were served so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn sum(&self, of: impl Fn(&RecordsPage) -> u64) -> u64 {
        let kinds = self.kinds.iter().zip(0..);
        let of_shard: u64 = kinds
            .map(|(page, kind)| of(page) * ((self.pages + KINDS - 1 - kind) / KINDS))
            .sum();
        of_shard * self.shards
    }

    fn description(&self) -> Value {
        let table = self.arn.split('/').nth(1).unwrap_or_default();
        let label = self.arn.rsplit('/').next().unwrap_or_default();
        let last = format!("1{:0NUMBER_DIGITS$}{:013}", self.pages, 0);
        let range = json!({
            "StartingSequenceNumber": first_number(),
            "EndingSequenceNumber": last,
        });
        let shards = (0..self.shards)
            .map(|shard| json!({"ShardId": shard_id(shard), "SequenceNumberRange": range}));
        json!({
            "StreamArn": self.arn,
            "StreamLabel": label,
            "StreamStatus": "ENABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "TableName": table,
            "CreationRequestDateTime": 1_768_385_930.622,
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "Shards": shards.collect::<Vec<_>>(),
        })
    }

    fn answer(&self, shard: u64, number: u64) -> Vec<u8> {
        let next = (number + 1 < self.pages).then(|| self.iterator(shard, number + 1));
        let mut body = if number < self.pages {
            // Less than the number of kinds.
            let kind = usize::try_from(number % KINDS).unwrap_or(0);
            let page = &self.kinds[kind];
            self.served
                .fetch_add(page.numbers.len() as u64, Ordering::Relaxed);
            page.filled(number)
        } else {
            b"{\"Records\":[".to_vec()
        };
        body.push(b']');
        if let Some(next) = next {
            let next = Value::from(next);
            body.extend_from_slice(format!(",\"NextShardIterator\":{next}").as_bytes());
        }
        body.push(b'}');
        body
    }

    fn iterator(&self, shard: u64, number: u64) -> String {
        format!("{}|{shard}|{number}", self.arn)
    }
}

/// Answers a call of the Streams API; `None` if the operation is none of it.
pub(super) fn answer(
    streams: &[ReplayStream],
    operation: &str,
    body: &[u8],
) -> Option<Result<(Pieces, u32), Refusal>> {
    let answered = match operation {
        "DescribeStream" => describe(streams, body),
        "GetShardIterator" => iterator(streams, body),
        "GetRecords" => records(streams, body),
        _ => return None,
    };
    Some(answered.map(|body| {
        let crc32 = crc32fast::hash(&body);
        (Bytes::from(body).into(), crc32)
    }))
}

fn find<'a>(streams: &'a [ReplayStream], arn: &str) -> Result<&'a ReplayStream, Refusal> {
    let mut streams = streams.iter();
    let found = streams.find(|stream| stream.arn == arn);
    found.ok_or_else(|| Refusal::NoTable(arn.to_owned()))
}

fn describe(streams: &[ReplayStream], body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let asked: OfStream = serde_json::from_slice(body)?;
    let description = find(streams, &asked.stream_arn)?.description();
    Ok(json!({"StreamDescription": description})
        .to_string()
        .into_bytes())
}

fn iterator(streams: &[ReplayStream], body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let asked: GetShardIterator = serde_json::from_slice(body)?;
    let stream = find(streams, &asked.stream_arn)?;
    let shard = (0..stream.shards).find(|shard| shard_id(*shard) == asked.shard_id);
    let shard = shard.ok_or_else(|| Refusal::NoTable(asked.shard_id.clone()))?;
    if asked.shard_iterator_type != "TRIM_HORIZON" {
        return Err(Refusal::Condition(asked.shard_iterator_type));
    }
    let iterator = stream.iterator(shard, 0);
    Ok(json!({"ShardIterator": iterator}).to_string().into_bytes())
}

fn records(streams: &[ReplayStream], body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let asked: GetRecords = serde_json::from_slice(body)?;
    let unknown = || Refusal::Condition(asked.shard_iterator.clone());
    let mut parts = asked.shard_iterator.rsplitn(3, '|');
    let number = parts.next().and_then(|number| number.parse().ok());
    let shard = parts.next().and_then(|shard| shard.parse().ok());
    let (number, shard): (u64, u64) = number.zip(shard).ok_or_else(unknown)?;
    let stream = find(streams, parts.next().unwrap_or_default())?;
    Ok(stream.answer(shard, number))
}
