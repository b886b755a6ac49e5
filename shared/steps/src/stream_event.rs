//! What Lambda's event source mapping hands over and gets back: a batch of a DynamoDB stream.
//!
//! The event holds people's items. It is read as far as records need to be, and never logged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::item_finder::find_checked_elements;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::stream_arn::{StreamArn, StreamArnError};
use highwater_domain::stream_record::{StreamRecord, Unread};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::StepError;

/// Lambda's event: records as they came, and with a tumbling window the shard that they come from.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-windows.html>
#[derive(Debug, Default)]
pub struct ConsumeInput {
    /// The records, each as it came; the last invocation of a window may have none.
    pub records: Option<Vec<Bytes>>,
    /// The window, if the mapping has one.
    pub window: Option<Window>,
    /// What the window's invocation before this one answered. A hint: nothing depends on it.
    pub state: Option<Box<RawValue>>,
    /// The shard, which only windows tell.
    pub shard_id: Option<String>,
    /// The stream, which only windows tell here; each record tells it too.
    pub event_source_arn: Option<String>,
    /// Whether the window ends with this invocation.
    pub is_final_invoke_for_window: bool,
    /// Whether it ends because its state became too large.
    pub is_window_terminated_early: bool,
}

/// The event as it is spelled, its records where they lie.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spelled<'a> {
    #[serde(rename = "Records", borrow)]
    records: Option<Vec<&'a RawValue>>,
    window: Option<Window>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    shard_id: Option<String>,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: Option<String>,
    #[serde(default)]
    is_final_invoke_for_window: bool,
    #[serde(default)]
    is_window_terminated_early: bool,
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

    fn push(&mut self, record: Result<StreamRecord, Box<Unread>>) {
        match record {
            Ok(record) => self.records.push(record),
            Err(unread) => self.unread.push(*unread),
        }
    }
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(rename = "eventSourceARN", borrow)]
    arn: Cow<'a, str>,
}

impl ConsumeInput {
    /// Reads an event. Its records are slices of it and not copied.
    pub fn read(event: &Bytes) -> Result<Self, serde_json::Error> {
        if let Some(read) = Self::read_dense(event) {
            return Ok(read);
        }
        let told: Spelled<'_> = serde_json::from_slice(event)?;
        let slice = |record: &RawValue| event.slice_ref(record.get().as_bytes());
        let records = told.records.as_deref();
        let records = records.map(|records| records.iter().copied().map(slice).collect());
        Ok(Self::of(records, told))
    }

    /// Reads an event as Lambda spells it, without white space, in half the parser's time. `None` if it takes the parser to read it, or to
    /// say why it cannot be read.
    fn read_dense(event: &Bytes) -> Option<Self> {
        let found = find_checked_elements(event, "Records")?;
        let rest = found.document_without_items(event);
        let told: Spelled<'_> = serde_json::from_slice(&rest).ok()?;
        let records = found.into_raw_items(event.clone());
        let records = (0..records.len()).map_while(|index| records.slice(index));
        Some(Self::of(Some(records.collect()), told))
    }

    fn of(records: Option<Vec<Bytes>>, told: Spelled<'_>) -> Self {
        Self {
            records,
            window: told.window,
            state: told.state.map(ToOwned::to_owned),
            shard_id: told.shard_id,
            event_source_arn: told.event_source_arn,
            is_final_invoke_for_window: told.is_final_invoke_for_window,
            is_window_terminated_early: told.is_window_terminated_early,
        }
    }

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
        let mut sorted = Sorted::of(records.len());
        for (index, record) in records.iter().enumerate() {
            sorted.take(index + 1, record);
        }
        let home = self.home(&sorted.batches)?;
        for Homeless {
            place,
            reason,
            record,
        } in std::mem::take(&mut sorted.homeless)
        {
            let Some(home) = home.clone() else {
                return Err(StepError::InvalidInput(format!(
                    "record {place} of the event does not tell its stream: {reason}"
                )));
            };
            sorted.batch_of(home).push(record);
        }
        Ok(sorted.batches.into_iter().collect())
    }

    /// The stream of records that do not tell theirs.
    fn home(&self, told: &[(StreamArn, StreamBatch)]) -> Result<Option<StreamArn>, StepError> {
        if let Some(arn) = &self.event_source_arn {
            let wrong =
                |error| StepError::InvalidInput(format!("eventSourceARN of the event: {error}"));
            return arn.parse().map(Some).map_err(wrong);
        }
        Ok(match told {
            [(only, _)] => Some(only.clone()),
            _ => None,
        })
    }
}

/// The records of an event on their way to their streams' batches.
struct Sorted {
    /// Each stream once; the last one is that of the record before.
    batches: Vec<(StreamArn, StreamBatch)>,
    homeless: Vec<Homeless>,
    most: usize,
}

/// A record that does not tell its stream.
struct Homeless {
    place: usize,
    reason: String,
    record: Result<StreamRecord, Box<Unread>>,
}

impl Sorted {
    /// Nothing yet, of an event with so many records.
    fn of(most: usize) -> Self {
        Self {
            batches: Vec::new(),
            homeless: Vec::new(),
            most,
        }
    }

    /// Reads the record at a place of the event, from 1.
    fn take(&mut self, place: usize, raw: &Bytes) {
        if let Some((record, arn)) = StreamRecord::read_plainly(raw) {
            return self.put(place, arn, Ok(record));
        }
        let record = StreamRecord::read_or_keep(raw);
        match serde_json::from_slice::<Source<'_>>(raw) {
            Ok(source) => self.put(place, &source.arn, record),
            Err(error) => self.homeless.push(Homeless {
                place,
                reason: error.to_string(),
                record,
            }),
        }
    }

    fn put(&mut self, place: usize, arn: &str, record: Result<StreamRecord, Box<Unread>>) {
        // Most records come from the stream of the one before.
        if let Some((before, batch)) = self.batches.last_mut()
            && before.as_str() == arn
        {
            return batch.push(record);
        }
        match arn.parse() {
            Ok(stream) => self.batch_of(stream).push(record),
            Err(error) => self.homeless.push(Homeless {
                place,
                reason: StreamArnError::to_string(&error),
                record,
            }),
        }
    }

    /// The batch of a stream, which is the last one from now on.
    fn batch_of(&mut self, stream: StreamArn) -> &mut StreamBatch {
        let known = self.batches.iter().position(|(known, _)| *known == stream);
        let batch = known.map_or_else(
            || {
                let records = Vec::with_capacity(self.most);
                let unread = Vec::new();
                (stream, StreamBatch { records, unread })
            },
            |known| self.batches.remove(known),
        );
        &mut self.batches.push_mut(batch).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_lie_where_the_event_does() {
        let text = r#" {"shardId": "s", "Records": [ {"a" : "\u00e9"}, {} ], "state": {"n": 1}}"#;
        let event = Bytes::from_static(text.as_bytes());
        let input = ConsumeInput::read(&event).unwrap();
        assert_eq!(input.shard_id.as_deref(), Some("s"));
        assert_eq!(input.state.unwrap().get(), r#"{"n": 1}"#);
        let records = input.records.unwrap();
        assert_eq!(records, [r#"{"a" : "\u00e9"}"#.as_bytes(), b"{}"]);
        for record in &records {
            assert!(event.as_ptr_range().contains(&record.as_ptr()), "a slice");
        }
    }

    #[test]
    fn an_event_without_white_space_is_read_as_the_parser_reads_it() {
        let whole = r#"{"Records":[{"a":{"S":"é\n"}},{"b":[1,null]}],"window":{"start":"2026-01-14T10:15:00Z","end":"2026-01-14T10:20:00Z"},"state":{"n":1,"l":[{}]},"shardId":"s","eventSourceARN":"arn","isFinalInvokeForWindow":true,"isWindowTerminatedEarly":true}"#;
        let strange = r#"{"Records":[{}],"Records":[]}"#;
        for (text, is_dense) in [
            (whole, true),
            (r#"{"Records":[]}"#, true),
            (r#"{"Records":[{"eventID":"1"}],"more":1}"#, true),
            (r#"{"Records":["x"]}"#, false),
            (r#"{"state":{"n":1}}"#, false),
            (strange, false),
            (r#"{"Records":[{}],"window":1}"#, false),
            (r#"{"Records":[{}]"#, false),
        ] {
            let dense = ConsumeInput::read_dense(&Bytes::from(text));
            assert_eq!(dense.is_some(), is_dense, "{text}");
            let said = |input| format!("{input:?}");
            let read = ConsumeInput::read(&Bytes::from(text)).ok().map(said);
            let parsed = ConsumeInput::read(&Bytes::from(format!(" {text}")));
            assert_eq!(read, parsed.ok().map(said), "{text}");
        }
    }

    #[test]
    fn an_event_may_leave_out_everything_or_say_null() {
        for text in [
            "{}",
            r#"{"Records":null,"window":null,"state":null,"shardId":null,"eventSourceARN":null}"#,
        ] {
            let input = ConsumeInput::read(&text.into()).unwrap();
            assert_eq!(input.records, None);
            assert!(
                input.window.is_none()
                    && input.shard_id.is_none()
                    && input.event_source_arn.is_none()
            );
            assert!(!input.is_final_invoke_for_window && !input.is_window_terminated_early);
            assert_eq!(
                WindowState::read(input.state.as_deref()),
                WindowState::default()
            );
        }
    }
}
