//! Requests, numbers and errors of DynamoDB Streams as they are spelled on the wire.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynoxide::actions::get_records::Record;
use serde::{Deserialize, Serialize};

/// What the engine adds to its stored sequence numbers, so that they have 21 digits.
const PUBLIC: u128 = 100_000_000_000_000_000_000;

/// How long an iterator can be used.
const ITERATOR_LIFE: Duration = Duration::from_mins(15);

/// An error as the service words it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

pub(crate) fn refusal(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    refusal("ValidationException", message)
}

pub(crate) fn not_found(what: &str) -> Refusal {
    let message = format!("Requested resource not found: {what}");
    refusal("ResourceNotFoundException", message)
}

pub(crate) fn trimmed() -> Refusal {
    let message = "The operation attempted to read past the oldest stream record in a shard.";
    refusal("TrimmedDataAccessException", message)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
pub(crate) fn failed(error: impl ToString) -> Refusal {
    refusal("InternalServerError", error.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DescribeStream {
    pub(crate) stream_arn: String,
    pub(crate) limit: Option<usize>,
    pub(crate) exclusive_start_shard_id: Option<String>,
    pub(crate) shard_filter: Option<ShardFilter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShardFilter {
    pub(crate) r#type: String,
    pub(crate) shard_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetShardIterator {
    pub(crate) stream_arn: String,
    pub(crate) shard_id: String,
    pub(crate) shard_iterator_type: String,
    pub(crate) sequence_number: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetRecords {
    pub(crate) shard_iterator: String,
    pub(crate) limit: Option<usize>,
}

pub(crate) fn request<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

pub(crate) fn encoded(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(failed)
}

/// Stream, shard and the next number of an iterator that has not expired.
pub(crate) fn read_iterator(text: &str) -> Result<(&str, &str, u64), Refusal> {
    let read = || {
        let mut parts = text.split('|');
        let (arn, shard) = (parts.next()?, parts.next()?);
        let (next, issued) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((arn, shard, next, Duration::from_micros(issued)))
    };
    let (arn, shard, next, issued) = read().ok_or_else(|| invalid("Invalid ShardIterator"))?;
    if Duration::from_micros(now_micros()) > issued + ITERATOR_LIFE {
        let message = "The shard iterator has expired and can no longer be used";
        return Err(refusal("ExpiredIteratorException", message));
    }
    Ok((arn, shard, next))
}

/// A key, the same bytes whatever order its attributes come in.
pub(crate) fn key_bytes(record: &Record) -> Result<Vec<u8>, Refusal> {
    let sorted: BTreeMap<_, _> = record.dynamodb.keys.iter().collect();
    encoded(&sorted)
}

pub(crate) fn public(stored: u64) -> String {
    (PUBLIC + u128::from(stored)).to_string()
}

pub(crate) fn stored(public: &str) -> Option<u64> {
    let number: u128 = public.parse().ok()?;
    u64::try_from(number.checked_sub(PUBLIC)?).ok()
}

/// When a stream was enabled, in microseconds: its label is seconds and nanoseconds. The engine computes both this
/// and its sequence numbers by way of floating point, hence two microseconds to spare.
pub(crate) fn opened(label: &str) -> u64 {
    let (seconds, nanos) = label.split_once('.').unwrap_or((label, "0"));
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    (number(seconds) * 1_000_000 + number(nanos) / 1000).saturating_sub(2)
}

pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
