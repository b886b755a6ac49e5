//! The DynamoDB side: the calls that backups, restores and comparisons make.
//!
//! Replayed tables are read, tables that a client creates are written; no table is both.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use self::stream::ReplayStream;
use self::written::{BatchWrite, CreateTable, PutItem, UntagResource, Writes, WrittenTable};
use crate::answer::{Pieces, answer};
use crate::item_sum::ItemSum;
use crate::table::{ReplayTable, ScanRange, Served, StartKeyError};

pub mod stream;
mod written;

/// All tables, by their names.
#[derive(Debug, Default)]
pub struct Tables {
    replayed: BTreeMap<String, ReplayTable>,
    streams: Vec<ReplayStream>,
    written: Mutex<BTreeMap<String, WrittenTable>>,
    /// Percent of the writes in batches that come back unprocessed.
    unprocessed: u8,
}

/// A request that DynamoDB would refuse too, or that a replay cannot answer truthfully.
#[derive(Debug, Error)]
enum Refusal {
    #[error("the replay server does not know the operation {0:?}")]
    Operation(String),
    #[error("Requested resource not found: Table: {0} not found")]
    NoTable(String),
    /// Unknown members among it: a filter that was ignored would be served wrongly.
    #[error("the replay server cannot serve this: {0}")]
    Request(#[from] serde_json::Error),
    #[error("Segment must be less than TotalSegments, and both must be given or neither")]
    Segment,
    #[error("{0}")]
    StartKey(#[from] StartKeyError),
    #[error("Table already exists: {0}")]
    TableExists(String),
    #[error("a batch must have {0}")]
    Batch(String),
    #[error("the replay server cannot tell whether this holds: {0}")]
    Condition(String),
}

/// A `Scan` without expressions and indexes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Scan {
    table_name: String,
    segment: Option<u64>,
    total_segments: Option<u64>,
    exclusive_start_key: Option<StartKey>,
    limit: Option<usize>,
    #[serde(default)]
    consistent_read: bool,
    #[serde(default)]
    return_consumed_capacity: ReturnConsumedCapacity,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartKey {
    pk: StringValue,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StringValue {
    #[serde(rename = "S")]
    text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ReturnConsumedCapacity {
    #[default]
    None,
    Total,
    Indexes,
}

impl ReturnConsumedCapacity {
    fn is_wanted(self) -> bool {
        self != Self::None
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfTable {
    #[serde(alias = "ResourceArn")]
    table_name: String,
}

impl Tables {
    /// These tables to read. Of two with one name the later counts.
    #[must_use]
    pub fn new(tables: impl IntoIterator<Item = ReplayTable>) -> Self {
        let named = |table: ReplayTable| (table.name().to_owned(), table);
        Self {
            replayed: tables.into_iter().map(named).collect(),
            ..Self::default()
        }
    }

    /// The same, which leave so many percent of the writes in batches unprocessed.
    #[must_use]
    pub fn with_unprocessed(self, percent: u8) -> Self {
        Self {
            unprocessed: percent,
            ..self
        }
    }

    /// The same, with these streams, which need not be of these tables.
    #[must_use]
    pub fn with_streams(self, streams: impl IntoIterator<Item = ReplayStream>) -> Self {
        Self {
            streams: streams.into_iter().collect(),
            ..self
        }
    }

    /// How many records were served of all streams so far.
    #[must_use]
    pub fn served_records(&self) -> u64 {
        self.streams.iter().map(ReplayStream::served).sum()
    }

    /// What was served of all tables so far.
    #[must_use]
    pub fn served(&self) -> Served {
        let mut sum = Served::default();
        for served in self.replayed.values().map(ReplayTable::served) {
            sum.pages += served.pages;
            sum.items += served.items;
            sum.wire_bytes += served.wire_bytes;
        }
        sum
    }

    /// What was written into a table that a client made; `None` if there is no such table.
    #[must_use]
    pub fn written(&self, table: &str) -> Option<ItemSum> {
        self.made().get(table).map(|table| table.written)
    }

    /// Makes an empty table to write into, unless there is one of that name.
    pub fn make(&self, name: &str) {
        let mut made = self.made();
        let number = made.len();
        made.entry(name.to_owned())
            .or_insert_with(|| CreateTable::of_strings(name).make(number));
    }

    /// Poisoned or not, the map is whole: nothing panics between two of its changes.
    fn made(&self) -> MutexGuard<'_, BTreeMap<String, WrittenTable>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the request whose header `x-amz-target` is `target`.
    pub(crate) fn answer(&self, target: &str, body: &[u8]) -> Response<Pieces> {
        let operation = target.rsplit('.').next().unwrap_or_default();
        let answered = if let Some(answered) = stream::answer(&self.streams, operation, body) {
            answered
        } else {
            self.table_answer(operation, body)
        };
        let (status, (pieces, crc32)) = match answered {
            Ok(answered) => (StatusCode::OK, answered),
            Err(refusal) => (StatusCode::BAD_REQUEST, whole(&refusal.json())),
        };
        let mut response = answer(status, pieces);
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static("application/x-amz-json-1.0");
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert("x-amz-crc32", crc32.into());
        response
    }

    fn table_answer(&self, operation: &str, body: &[u8]) -> Result<(Pieces, u32), Refusal> {
        match operation {
            "Scan" => self.scan(body),
            "BatchWriteItem" => parse::<BatchWrite<'_>>(body)
                .and_then(|batch| batch.take(self.unprocessed))
                .and_then(|writes| self.account(writes)),
            "PutItem" => parse::<PutItem<'_>>(body)
                .and_then(|put| put.take())
                .and_then(|writes| self.account(writes)),
            "CreateTable" => self.create(body).map(|value| whole(&value)),
            "UntagResource" => self.untag(body).map(|value| whole(&value)),
            _ => self.describe(operation, body).map(|value| whole(&value)),
        }
    }

    fn scan(&self, body: &[u8]) -> Result<(Pieces, u32), Refusal> {
        let scan: Scan = parse(body)?;
        let (segment, total_segments) = match (scan.segment, scan.total_segments) {
            (None, None) => (0, 1),
            (Some(segment), Some(total)) if segment < total && total <= 1_000_000 => {
                (segment, total)
            }
            _ => return Err(Refusal::Segment),
        };
        let unit = if scan.consistent_read { 1.0 } else { 0.5 };
        let told = scan.return_consumed_capacity.is_wanted();
        let asked = ScanRange {
            segment,
            total_segments,
            start_key: scan.exclusive_start_key.as_ref().map(|key| &*key.pk.text),
            limit: scan.limit,
            table: &scan.table_name,
            unit: told.then_some(unit),
        };
        let table = self.replayed.get(last_name(&scan.table_name));
        let table = table.ok_or_else(|| Refusal::NoTable(scan.table_name.clone()))?;
        Ok(table.scan(&asked)?)
    }

    fn account(&self, writes: Writes) -> Result<(Pieces, u32), Refusal> {
        let mut made = self.made();
        let table = made.get_mut(last_name(&writes.table));
        let table = table.ok_or(Refusal::NoTable(writes.table))?;
        table.written.merge(&writes.sum);
        Ok(with_crc32(writes.answer))
    }

    fn create(&self, body: &[u8]) -> Result<Value, Refusal> {
        let request: CreateTable = parse(body)?;
        let name = request.table_name.clone();
        let mut made = self.made();
        if self.replayed.contains_key(&name) || made.contains_key(&name) {
            return Err(Refusal::TableExists(name));
        }
        let table = request.make(made.len());
        let description = table.description.clone();
        made.insert(name, table);
        Ok(json!({"TableDescription": description}))
    }

    fn untag(&self, body: &[u8]) -> Result<Value, Refusal> {
        let request: UntagResource = parse(body)?;
        let mut made = self.made();
        let table = made.get_mut(last_name(&request.resource_arn));
        let table = table.ok_or_else(|| Refusal::NoTable(request.resource_arn.clone()))?;
        let goes = |tag: &Value| request.tag_keys.iter().any(|key| tag["Key"] == **key);
        table.tags.retain(|tag| !goes(tag));
        Ok(json!({}))
    }

    fn describe(&self, operation: &str, body: &[u8]) -> Result<Value, Refusal> {
        let answer = match operation {
            "DescribeTable" | "ListTagsOfResource" => None,
            "DescribeTimeToLive" => {
                Some(json!({"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}))
            }
            "DescribeContinuousBackups" => Some(json!({"ContinuousBackupsDescription": {
                "ContinuousBackupsStatus": "ENABLED",
                "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
            }})),
            other => return Err(Refusal::Operation(other.to_owned())),
        };
        let asked: OfTable = parse(body)?;
        let (description, tags) = self.table(&asked.table_name)?;
        Ok(match (answer, operation) {
            (Some(answer), _) => answer,
            (None, "DescribeTable") => json!({"Table": description}),
            (None, _) => json!({"Tags": tags}),
        })
    }

    /// The description and the tags of the table of this name or ARN.
    fn table(&self, name: &str) -> Result<(Value, Vec<Value>), Refusal> {
        let last = last_name(name);
        if let Some(table) = self.replayed.get(last) {
            let tag = json!({"Key": "data-set", "Value": table.data_set().name()});
            return Ok((table.description(), vec![tag]));
        }
        let made = self.made();
        let table = made.get(last);
        let table = table.ok_or_else(|| Refusal::NoTable(name.to_owned()))?;
        Ok((table.description.clone(), table.tags.clone()))
    }
}

/// The name in a name or an ARN.
fn last_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    Ok(serde_json::from_slice(body)?)
}

fn whole(value: &Value) -> (Pieces, u32) {
    with_crc32(value.to_string())
}

fn with_crc32(body: String) -> (Pieces, u32) {
    let crc32 = crc32fast::hash(body.as_bytes());
    (body.into(), crc32)
}

impl Refusal {
    fn json(&self) -> Value {
        let code = match self {
            Self::Operation(_) => "com.amazon.coral.service#UnknownOperationException",
            Self::TableExists(_) => "com.amazonaws.dynamodb.v20120810#ResourceInUseException",
            Self::NoTable(_) => "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
            _ => "com.amazon.coral.validate#ValidationException",
        };
        json!({"__type": code, "message": self.to_string()})
    }
}
