//! What Lambda's event source mapping hands over and gets back: a batch of a DynamoDB stream.
//!
//! The event holds people's items. It is read as far as records need to be, and never logged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::stream_arn::{StreamArn, StreamArnError};
use highwater_domain::stream_record::{StreamRecord, Unread};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::StepError;

/// Lambda's event: records as they came, and with a tumbling window the shard that they come from.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-windows.html>
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeInput {
    /// The records, each as it came; the last invocation of a window may have none.
    #[serde(rename = "Records", default, deserialize_with = "as_bytes")]
    pub records: Option<Vec<Bytes>>,
    /// The window, if the mapping has one.
    #[serde(default)]
    pub window: Option<Window>,
    /// What the window's invocation before this one answered. A hint: nothing depends on it.
    #[serde(default)]
    pub state: Option<Box<RawValue>>,
    /// The shard, which only windows tell.
    #[serde(default)]
    pub shard_id: Option<String>,
    /// The stream, which only windows tell here; each record tells it too.
    #[serde(rename = "eventSourceARN", default)]
    pub event_source_arn: Option<String>,
    /// Whether the window ends with this invocation.
    #[serde(default)]
    pub is_final_invoke_for_window: bool,
    /// Whether it ends because its state became too large.
    #[serde(default)]
    pub is_window_terminated_early: bool,
}

/// Each record is a small buffer of its own: one for all of them would come from the system, page by page, each time.
fn as_bytes<'de, D: Deserializer<'de>>(records: D) -> Result<Option<Vec<Bytes>>, D::Error> {
    let records = Option::<Vec<Box<RawValue>>>::deserialize(records)?;
    let bytes = |record| Bytes::from(Box::<str>::from(record).into_string());
    Ok(records.map(|records| records.into_iter().map(bytes).collect()))
}

/// A tumbling window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Window {
    /// Its first moment, RFC 3339.
    pub start: String,
    /// Its end, RFC 3339.
    pub end: String,
}

/// Lambda's answer.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeOutput {
    /// Empty, or the first record that is not durable: that one and all behind it are to come again.
    pub batch_item_failures: Vec<BatchItemFailure>,
    /// What the window's next invocation is to be told. Only windows have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<WindowState>,
}

/// A record that is to come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// Its sequence number. Lambda knows no other name here: an event's id would fail the whole batch.
    pub item_identifier: SequenceNumber,
}

/// What one invocation of a window tells the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowState {
    /// The greatest sequence number that the window has made durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<SequenceNumber>,
    /// How many records it has made durable, those that came again counted again.
    #[serde(default)]
    pub n: u64,
}

impl WindowState {
    /// Reads what an event says; what this function did not write is as good as nothing.
    pub(crate) fn read(told: Option<&RawValue>) -> Self {
        let told = told.map_or("null", RawValue::get);
        if told == "null" {
            return Self::default();
        }
        serde_json::from_str(told).unwrap_or_else(|error| {
            tracing::warn!(%error, "the window's state is not ours, and is ignored");
            Self::default()
        })
    }

    /// The state after `batch`.
    pub(crate) fn after(&self, batch: &StreamBatch) -> Self {
        Self {
            last_seq: self.last_seq.clone().max(batch.numbers().max().cloned()),
            n: self.n.saturating_add(batch.len()),
        }
    }
}

/// The records of one stream in a batch, in no particular order.
#[derive(Debug, Default)]
pub struct StreamBatch {
    /// Those that can be read.
    pub records: Vec<StreamRecord>,
    /// Those that cannot.
    pub unread: Vec<Unread>,
}

impl StreamBatch {
    /// The sequence numbers that are known.
    pub fn numbers(&self) -> impl Iterator<Item = &SequenceNumber> {
        let unread = self.unread.iter();
        let unread = unread.filter_map(|unread| unread.sequence_number.as_ref());
        let records = self.records.iter().map(|record| &record.sequence_number);
        records.chain(unread)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.records.len() + self.unread.len()) as u64
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A record before it is known which stream it belongs to.
struct Arrived {
    stream: Result<StreamArn, String>,
    record: Result<StreamRecord, Box<Unread>>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(rename = "eventSourceARN", borrow)]
    arn: Cow<'a, str>,
}

impl ConsumeInput {
    /// Reads the records and gives each to its stream.
    ///
    /// A record that does not say where it comes from belongs to the event's stream, or to the one stream of all
    /// others. Fails where nothing tells: then nothing of the batch may be taken for done.
    pub fn by_stream(&mut self) -> Result<BTreeMap<StreamArn, StreamBatch>, StepError> {
        let records = match self.records.take() {
            Some(records) => records,
            None if self.window.is_some() => Vec::new(),
            None => {
                return Err(StepError::InvalidInput(
                    "the event has no Records: it is no batch of a DynamoDB stream".into(),
                ));
            }
        };
        let mut arrived: Vec<Arrived> = Vec::with_capacity(records.len());
        for record in &records {
            let before = arrived
                .last()
                .and_then(|before| before.stream.as_ref().ok());
            let next = Arrived::read(record, before);
            arrived.push(next);
        }
        let home = self.home(&arrived)?;
        let mut batches: BTreeMap<StreamArn, StreamBatch> = BTreeMap::new();
        for (index, Arrived { stream, record }) in arrived.into_iter().enumerate() {
            let stream = stream.or_else(|reason| {
                let place = index + 1;
                home.clone().ok_or_else(|| {
                    StepError::InvalidInput(format!(
                        "record {place} of the event does not tell its stream: {reason}"
                    ))
                })
            })?;
            let batch = batches.entry(stream).or_default();
            match record {
                Ok(record) => batch.records.push(record),
                Err(unread) => batch.unread.push(*unread),
            }
        }
        Ok(batches)
    }

    /// The stream of records that do not tell theirs.
    fn home(&self, arrived: &[Arrived]) -> Result<Option<StreamArn>, StepError> {
        if let Some(arn) = &self.event_source_arn {
            let wrong =
                |error| StepError::InvalidInput(format!("eventSourceARN of the event: {error}"));
            return arn.parse().map(Some).map_err(wrong);
        }
        let mut told = arrived
            .iter()
            .filter_map(|arrived| arrived.stream.as_ref().ok());
        let first = told.next();
        Ok(first
            .filter(|first| told.all(|other| other == *first))
            .cloned())
    }
}

impl Arrived {
    /// Reads one record; most come from the stream of the one before it.
    fn read(raw: &Bytes, before: Option<&StreamArn>) -> Self {
        let stream = |arn: &str| match before {
            Some(before) if before.as_str() == arn => Ok(before.clone()),
            _ => arn
                .parse()
                .map_err(|error: StreamArnError| error.to_string()),
        };
        if let Some((record, arn)) = StreamRecord::read_plainly(raw) {
            return Self {
                stream: stream(arn),
                record: Ok(record),
            };
        }
        let source: Result<Source<'_>, _> = serde_json::from_slice(raw);
        Self {
            stream: match source {
                Ok(source) => stream(&source.arn),
                Err(error) => Err(error.to_string()),
            },
            record: StreamRecord::read_or_keep(raw),
        }
    }
}
