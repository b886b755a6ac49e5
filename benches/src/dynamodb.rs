//! The DynamoDB side: the calls that a backup makes, over the replayed tables.

use std::collections::BTreeMap;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use crate::answer::{Pieces, answer};
use crate::table::{ReplayTable, ScanRange, Served, StartKeyError};

/// The replayed tables, by their names.
#[derive(Debug, Default)]
pub struct Tables(BTreeMap<&'static str, ReplayTable>);

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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfTable {
    #[serde(alias = "ResourceArn")]
    table_name: String,
}

impl Tables {
    /// These tables. Of two with one data set the later counts.
    #[must_use]
    pub fn new(tables: impl IntoIterator<Item = ReplayTable>) -> Self {
        let named = |table: ReplayTable| (table.data_set().name(), table);
        Self(tables.into_iter().map(named).collect())
    }

    /// What was served of all tables so far.
    #[must_use]
    pub fn served(&self) -> Served {
        let mut sum = Served::default();
        for served in self.0.values().map(ReplayTable::served) {
            sum.pages += served.pages;
            sum.items += served.items;
            sum.wire_bytes += served.wire_bytes;
        }
        sum
    }

    /// Answers the request whose header `x-amz-target` is `target`.
    pub(crate) fn answer(&self, target: &str, body: &[u8]) -> Response<Pieces> {
        let operation = target.rsplit('.').next().unwrap_or_default();
        let answered = match operation {
            "Scan" => self.scan(body),
            _ => self.describe(operation, body).map(|value| whole(&value)),
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
        let told = scan.return_consumed_capacity != ReturnConsumedCapacity::None;
        let asked = ScanRange {
            segment,
            total_segments,
            start_key: scan.exclusive_start_key.as_ref().map(|key| &*key.pk.text),
            limit: scan.limit,
            table: &scan.table_name,
            unit: told.then_some(unit),
        };
        Ok(self.table(&scan.table_name)?.scan(&asked)?)
    }

    fn describe(&self, operation: &str, body: &[u8]) -> Result<Value, Refusal> {
        let table = || self.table(&parse::<OfTable>(body)?.table_name);
        Ok(match operation {
            "DescribeTable" => json!({"Table": table()?.description()}),
            "DescribeTimeToLive" => {
                table()?;
                json!({"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}})
            }
            "ListTagsOfResource" => {
                let set = table()?.data_set().name();
                json!({"Tags": [{"Key": "data-set", "Value": set}]})
            }
            "DescribeContinuousBackups" => {
                table()?;
                json!({"ContinuousBackupsDescription": {
                    "ContinuousBackupsStatus": "ENABLED",
                    "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
                }})
            }
            other => return Err(Refusal::Operation(other.to_owned())),
        })
    }

    /// The table of this name or ARN.
    fn table(&self, name: &str) -> Result<&ReplayTable, Refusal> {
        let last = name.rsplit('/').next().unwrap_or_default();
        self.0
            .get(last)
            .ok_or_else(|| Refusal::NoTable(name.to_owned()))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    Ok(serde_json::from_slice(body)?)
}

fn whole(value: &Value) -> (Pieces, u32) {
    let body = value.to_string();
    let crc32 = crc32fast::hash(body.as_bytes());
    (body.into(), crc32)
}

impl Refusal {
    fn json(&self) -> Value {
        let code = match self {
            Self::Operation(_) => "com.amazon.coral.service#UnknownOperationException",
            Self::NoTable(_) => "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
            _ => "com.amazon.coral.validate#ValidationException",
        };
        json!({"__type": code, "message": self.to_string()})
    }
}
