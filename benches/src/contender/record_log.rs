//! Answers of `GetRecords` into lines and into bodies of the log's objects: by the product's capture, and by types.
//!
//! The *lines* are made in a buffer that is used again. The *bodies* go on to zstd at level 1, one per answer, and are
//! thrown away: nothing of this path is uploaded.

use std::collections::HashMap;

use aws_credential_types::Credentials;
use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Region};
use aws_sdk_dynamodbstreams::types::{
    AttributeValue, Record, ShardIteratorType, StreamRecord as Change,
};
use aws_sdk_dynamodbstreams::{Client, Config};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_aws::Clients;
use highwater_domain::change_log::{LogError, LogPacker};
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::{RecordError, StreamRecord};
use highwater_domain::stream_source::{StartAt, StreamError, StreamSource};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::Sums;
use super::typed_item::TypedItemError;

/// The most records of one answer.
const PAGE: u16 = 1000;
/// The level of the product's log.
const LEVEL: i32 = 1;

/// Records could not be read or written.
#[derive(Debug, Error)]
pub enum RecordLogError {
    /// The stream, as the product sees it.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A record that is none.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An object that cannot be made.
    #[error(transparent)]
    Object(#[from] LogError),
    /// The stream, as the SDK sees it.
    #[error("the stream: {0}")]
    Sdk(Box<dyn std::error::Error + Send + Sync>),
    /// A record has a value that is not known.
    #[error(transparent)]
    Item(#[from] TypedItemError),
    /// A line.
    #[error("a line: {0}")]
    Line(#[from] serde_json::Error),
    /// The compressor.
    #[error("the compressor: {0}")]
    Compress(#[from] std::io::Error),
}

/// What is made of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Lines.
    Lines,
    /// Bodies of objects.
    Bodies,
}

/// A client of the Streams API for this server, over the same kind of connection that the product's clients have.
#[must_use]
pub fn typed_client(clients: &Clients, endpoint_url: &str) -> Client {
    let dynamodb = clients.dynamodb();
    let of = dynamodb.config();
    let mut builder = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(clients.region().to_owned()))
        .endpoint_url(endpoint_url)
        .credentials_provider(Credentials::new("local", "local", None, None, "bench"));
    builder.set_http_client(of.http_client());
    builder.set_sleep_impl(of.sleep_impl());
    Client::from_conf(builder.build())
}

/// All records of a stream by the product's capture. `lines` hears of every answer's lines, if lines are made.
pub async fn own(
    source: &impl StreamSource,
    stream_arn: &str,
    made: Made,
    mut lines: impl FnMut(&[u8]),
) -> Result<Sums, RecordLogError> {
    let (mut sums, mut buffer) = (Sums::default(), Vec::new());
    let mut packer = LogPacker::new()?;
    for shard in source.listing(stream_arn).await?.shards {
        let mut next = Some(
            source
                .iterator(stream_arn, &shard.id, &StartAt::WhatIsLeft)
                .await?,
        );
        while let Some(iterator) = next {
            let page = source.records(&iterator, PAGE.into()).await?;
            let read = |raw| StreamRecord::read_or_keep_checked(raw).map_err(|it| it.reason);
            let records = page.records.iter().map(read);
            let records: Vec<StreamRecord> = records.collect::<Result<_, _>>()?;
            sums.items += records.len() as u64;
            let bytes = records.iter().map(|record| record.raw.len() as u64);
            sums.bytes += bytes.sum::<u64>();
            sums.stored_bytes += match made {
                Made::Lines => {
                    own_lines(&records, &mut buffer);
                    lines(&buffer);
                    buffer.len() as u64
                }
                Made::Bodies => own_body(&mut packer, &shard.id, &records)?,
            };
            next = page.next;
        }
    }
    Ok(sums)
}

fn own_lines(records: &[StreamRecord], buffer: &mut Vec<u8>) {
    buffer.clear();
    for record in records {
        buffer.extend_from_slice(&record.raw);
        buffer.push(b'\n');
    }
}

fn own_body(
    packer: &mut LogPacker,
    shard: &ShardId,
    records: &[StreamRecord],
) -> Result<u64, RecordLogError> {
    if records.is_empty() {
        return Ok(0);
    }
    let (_, body) = packer.object(shard, records)?;
    Ok(body.len() as u64)
}

/// All records of a stream by the SDK's types. The bytes of their JSON are not known here.
pub async fn typed(
    client: &Client,
    stream_arn: &str,
    made: Made,
    mut lines: impl FnMut(&[u8]),
) -> Result<Sums, RecordLogError> {
    let (mut sums, mut buffer) = (Sums::default(), Vec::new());
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    packer.include_checksum(true)?;
    let described = client.describe_stream().stream_arn(stream_arn).send().await;
    let described = described.map_err(|error| RecordLogError::Sdk(error.into()))?;
    let shards = described.stream_description.and_then(|it| it.shards);
    for shard in shards.unwrap_or_default() {
        let mut next = iterator(client, stream_arn, shard.shard_id).await?;
        while let Some(iterator) = next {
            let page = client.get_records().shard_iterator(iterator);
            let page = page.limit(PAGE.into()).send().await;
            let page = page.map_err(|error| RecordLogError::Sdk(error.into()))?;
            buffer.clear();
            for record in page.records() {
                serde_json::to_writer(&mut buffer, &record_json(record)?)?;
                buffer.push(b'\n');
            }
            sums.items += page.records().len() as u64;
            sums.stored_bytes += match made {
                Made::Lines => {
                    lines(&buffer);
                    buffer.len() as u64
                }
                Made::Bodies => packer.compress(&buffer)?.len() as u64,
            };
            next = page.next_shard_iterator;
        }
    }
    Ok(sums)
}

async fn iterator(
    client: &Client,
    stream_arn: &str,
    shard: Option<String>,
) -> Result<Option<String>, RecordLogError> {
    let asked = client
        .get_shard_iterator()
        .stream_arn(stream_arn)
        .set_shard_id(shard)
        .shard_iterator_type(ShardIteratorType::TrimHorizon);
    let answer = asked.send().await;
    let answer = answer.map_err(|error| RecordLogError::Sdk(error.into()))?;
    Ok(answer.shard_iterator)
}

/// The record as `GetRecords` tells it.
fn record_json(record: &Record) -> Result<Value, RecordLogError> {
    let mut members = Map::new();
    put(&mut members, "eventID", record.event_id());
    put(
        &mut members,
        "eventName",
        record.event_name().map(AsRef::as_ref),
    );
    put(&mut members, "eventVersion", record.event_version());
    put(&mut members, "eventSource", record.event_source());
    put(&mut members, "awsRegion", record.aws_region());
    if let Some(change) = record.dynamodb() {
        members.insert("dynamodb".into(), change_json(change)?);
    }
    Ok(Value::Object(members))
}

fn change_json(change: &Change) -> Result<Value, TypedItemError> {
    let mut members = Map::new();
    if let Some(at) = change.approximate_creation_date_time() {
        members.insert("ApproximateCreationDateTime".into(), at.secs().into());
    }
    for (name, item) in [
        ("Keys", change.keys()),
        ("NewImage", change.new_image()),
        ("OldImage", change.old_image()),
    ] {
        if let Some(item) = item {
            members.insert(name.into(), item_json(item)?);
        }
    }
    put(&mut members, "SequenceNumber", change.sequence_number());
    if let Some(size) = change.size_bytes() {
        members.insert("SizeBytes".into(), size.into());
    }
    let view = change.stream_view_type().map(AsRef::as_ref);
    put(&mut members, "StreamViewType", view);
    Ok(Value::Object(members))
}

fn put(members: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    members.extend(value.map(|value| (name.to_owned(), value.into())));
}

/// The streams' crate has attribute values of its own, though they are the same.
fn item_json(item: &HashMap<String, AttributeValue>) -> Result<Value, TypedItemError> {
    let members = item
        .iter()
        .map(|(name, value)| Ok((name.clone(), value_json(value)?)));
    members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn value_json(value: &AttributeValue) -> Result<Value, TypedItemError> {
    Ok(match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::B(blob) => json!({"B": BASE64.encode(blob)}),
        AttributeValue::Bool(truth) => json!({"BOOL": truth}),
        AttributeValue::Null(is_null) => json!({"NULL": is_null}),
        AttributeValue::Ss(texts) => json!({"SS": texts}),
        AttributeValue::Ns(numbers) => json!({"NS": numbers}),
        AttributeValue::Bs(blobs) => {
            json!({"BS": blobs.iter().map(|blob| BASE64.encode(blob)).collect::<Vec<_>>()})
        }
        AttributeValue::L(values) => {
            let values = values.iter().map(value_json);
            json!({"L": values.collect::<Result<Vec<_>, _>>()?})
        }
        AttributeValue::M(members) => json!({"M": item_json(members)?}),
        other => return Err(TypedItemError::Unknown(format!("{other:?}"))),
    })
}
