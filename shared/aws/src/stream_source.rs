//! Reads a table's stream, records untouched.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::types as sdk;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::lineage::Position;
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use serde::Serialize;

use crate::failure;
use crate::record_capture::CapturedRecords;
use crate::standing_call::{OwnBytes, StandingCall};

const DESCRIBE: &str = "DescribeStream";
const ITERATOR: &str = "GetShardIterator";
const RECORDS: &str = "GetRecords";

/// Stands between the shard and DynamoDB's own iterator in ours. No shard's id has it.
const OF_SHARD: char = '@';

/// Reads streams by DynamoDB's Streams API.
///
/// Records are slices of the response as it came over the wire, after its length and checksum were checked.
/// Throttles (`DescribeStream` may be called ten times a second) and failures in passing are retried as often as the
/// client does. Only the first `GetRecords` is all the SDK's, and those after a failure: the others are made after its
/// pattern.
///
/// An answer of `GetRecords` without a `Date` is an error: the time of an idle shard is taken from it, and the
/// machine's own clock may be ahead, which would claim for the log what it does not have.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB_Streams.html>
#[derive(Clone, Debug)]
pub struct DynamoStreams {
    client: Client,
    pages: StandingCall,
    buffers: ReusedBuffers,
}

/// The request as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RecordsBody<'a> {
    shard_iterator: &'a str,
    limit: u32,
}

impl DynamoStreams {
    /// A source over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            pages: StandingCall::of(client.config().retry_config()),
            client,
            buffers: ReusedBuffers::default(),
        }
    }

    /// All pages of a description, the shards of all of them in the first.
    async fn describe(
        &self,
        stream_arn: &str,
        filter: Option<sdk::ShardFilter>,
    ) -> Result<sdk::StreamDescription, StreamError> {
        let mut whole: Option<sdk::StreamDescription> = None;
        let mut starts = BTreeSet::new();
        let mut start: Option<String> = None;
        loop {
            let output = self
                .client
                .describe_stream()
                .stream_arn(stream_arn)
                .set_exclusive_start_shard_id(start.take())
                .set_shard_filter(filter.clone())
                .send()
                .await
                .map_err(|error| refused(DESCRIBE, stream_arn, error, || None))?;
            let mut page = output
                .stream_description
                .ok_or_else(|| corrupt(stream_arn, "it has no StreamDescription"))?;
            let next = page.last_evaluated_shard_id.take();
            // What the first page says of the stream is kept: while a stream is being ended, that page's shards may
            // still be listed as open.
            let description = match whole.take() {
                Some(mut first) => {
                    let more = page.shards.unwrap_or_default();
                    first.shards.get_or_insert_default().extend(more);
                    first
                }
                None => page,
            };
            let Some(next) = next else {
                return Ok(description);
            };
            if !starts.insert(next.clone()) {
                return Err(corrupt(stream_arn, "its pages lead back to each other").into());
            }
            whole = Some(description);
            start = Some(next);
        }
    }
}

#[async_trait]
impl StreamSource for DynamoStreams {
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError> {
        let description = self.describe(stream_arn, None).await?;
        Ok(listing(stream_arn, &description)?)
    }

    /// Follows all pages. An engine that knows no filters and answers with every shard is understood, too.
    async fn children(&self, stream_arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        let filter = sdk::ShardFilter::builder()
            .r#type(sdk::ShardFilterType::ChildShards)
            .shard_id(shard.as_str())
            .build();
        let description = self.describe(stream_arn, Some(filter)).await?;
        let mut shards = shards(stream_arn, &description)?;
        shards.retain(|child| child.parent.as_ref() == Some(shard));
        Ok(shards)
    }

    async fn iterator(
        &self,
        stream_arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        use sdk::ShardIteratorType::{AfterSequenceNumber, AtSequenceNumber, TrimHorizon};
        let (kind, number) = match from {
            StartAt::Position(Position::At(number)) => (AtSequenceNumber, Some(number)),
            StartAt::Position(Position::After(number)) => (AfterSequenceNumber, Some(number)),
            StartAt::WhatIsLeft => (TrimHorizon, None),
            StartAt::Position(Position::End) => {
                return Err(no_iterator(
                    shard,
                    "behind the last record nothing is left to read",
                ));
            }
        };
        let output = self
            .client
            .get_shard_iterator()
            .stream_arn(stream_arn)
            .shard_id(shard.as_str())
            .shard_iterator_type(kind.clone())
            .set_sequence_number(number.map(ToString::to_string))
            .send()
            .await
            .map_err(|error| {
                refused(ITERATOR, &format!("{shard} of {stream_arn}"), error, || {
                    let number = number.map_or("", SequenceNumber::as_str);
                    Some((shard.to_string(), format!("{} {number}", kind.as_str())))
                })
            })?;
        match output.shard_iterator {
            Some(own) => Ok(ShardIterator(format!("{shard}{OF_SHARD}{own}"))),
            None => Err(no_iterator(shard, "the answer has no ShardIterator")),
        }
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        // DynamoDB's own iterators name no shard that could be read from them; errors should.
        let invalid = |of, message| Failure::new(FailureKind::Invalid, RECORDS, of, message);
        let Some((shard, own)) = iterator.0.split_once(OF_SHARD) else {
            let message = format!("{:?} is no iterator of this source", iterator.0);
            return Err(invalid("a shard", message).into());
        };
        let body = serde_json::to_vec(&RecordsBody {
            shard_iterator: own,
            limit: limit.clamp(1, 1000),
        });
        let body = body
            .map_err(|error| invalid(shard, error.to_string()))?
            .into();
        let by_sdk = |bytes: OwnBytes<CapturedRecords>| {
            let call = self.client.get_records().shard_iterator(own);
            call.customize().interceptor(bytes).send()
        };
        // One endpoint answers for all iterators.
        let answer = self.pages.call(RECORDS, body, &self.buffers, by_sdk).await;
        let captured = answer.map_err(|error| {
            refused(RECORDS, shard, error, || {
                Some((shard.to_owned(), "the iterator's place".to_owned()))
            })
        })?;
        let next = captured.next;
        Ok(RecordPage {
            records: captured.records,
            next: next.map(|next| ShardIterator(format!("{shard}{OF_SHARD}{next}"))),
            answered_at: captured.answered_at,
        })
    }
}

/// What a refusal means. `place` is the shard and the position that were asked for, where that is known.
fn refused<E>(
    operation: &'static str,
    resource: &str,
    error: SdkError<E, HttpResponse>,
    place: impl FnOnce() -> Option<(String, String)>,
) -> StreamError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match (error.code(), place()) {
        (Some("TrimmedDataAccessException"), Some((shard, position))) => {
            StreamError::Trimmed { shard, position }
        }
        (Some("ResourceNotFoundException"), _) => StreamError::Gone(resource.to_owned()),
        (Some("ExpiredIteratorException"), _) => StreamError::IteratorExpired(resource.to_owned()),
        _ => StreamError::Failed(failure::from_sdk(operation, resource, error)),
    }
}

fn listing(
    stream_arn: &str,
    description: &sdk::StreamDescription,
) -> Result<StreamListing, Failure> {
    let label = description
        .stream_label()
        .ok_or_else(|| corrupt(stream_arn, "it has no StreamLabel"))?;
    let view = match description.stream_view_type() {
        Some(sdk::StreamViewType::NewAndOldImages) => StreamView::NewAndOldImages,
        Some(sdk::StreamViewType::NewImage) => StreamView::NewImage,
        Some(sdk::StreamViewType::OldImage) => StreamView::OldImage,
        Some(sdk::StreamViewType::KeysOnly) => StreamView::KeysOnly,
        other => return Err(unknown(stream_arn, "StreamViewType", other)),
    };
    let status = match description.stream_status() {
        Some(sdk::StreamStatus::Enabling) => StreamStatus::Enabling,
        Some(sdk::StreamStatus::Enabled) => StreamStatus::Enabled,
        Some(sdk::StreamStatus::Disabling) => StreamStatus::Disabling,
        Some(sdk::StreamStatus::Disabled) => StreamStatus::Disabled,
        other => return Err(unknown(stream_arn, "StreamStatus", other)),
    };
    Ok(StreamListing {
        stream_arn: stream_arn.to_owned(),
        label: label.to_owned(),
        view,
        status,
        shards: shards(stream_arn, description)?,
    })
}

fn shards(stream_arn: &str, description: &sdk::StreamDescription) -> Result<Vec<Shard>, Failure> {
    let read = |shard: &sdk::Shard| {
        read_shard(shard).map_err(|reason| {
            let id = shard.shard_id().unwrap_or("without an id");
            corrupt(stream_arn, &format!("shard {id}: {reason}"))
        })
    };
    description.shards().iter().map(read).collect()
}

fn read_shard(shard: &sdk::Shard) -> Result<Shard, String> {
    let id = |text: &str| text.parse::<ShardId>().map_err(|error| error.to_string());
    let number = |text: &str| {
        text.parse::<SequenceNumber>()
            .map_err(|error| error.to_string())
    };
    let range = shard.sequence_number_range();
    let start = range.and_then(sdk::SequenceNumberRange::starting_sequence_number);
    let end = range.and_then(sdk::SequenceNumberRange::ending_sequence_number);
    Ok(Shard {
        id: id(shard.shard_id().unwrap_or_default())?,
        parent: shard.parent_shard_id().map(id).transpose()?,
        start: number(start.ok_or("it has no StartingSequenceNumber")?)?,
        end: end.map(number).transpose()?,
    })
}

fn unknown(stream_arn: &str, member: &str, value: Option<impl std::fmt::Debug>) -> Failure {
    let value = value.map_or_else(|| "absent".to_owned(), |value| format!("{value:?}"));
    corrupt(stream_arn, &format!("its {member} is {value}"))
}

fn corrupt(stream_arn: &str, reason: &str) -> Failure {
    let message = format!("the description makes no sense: {reason}");
    Failure::new(FailureKind::Corrupt, DESCRIBE, stream_arn, message)
}

fn no_iterator(shard: &ShardId, reason: &str) -> StreamError {
    Failure::new(FailureKind::Invalid, ITERATOR, shard.as_str(), reason).into()
}
