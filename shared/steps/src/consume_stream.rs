//! `ConsumeStream`: one batch of a DynamoDB stream, as Lambda's event source mapping delivers it, into the change log.
//!
//! What is reported as done is durable. What is not is delivered again, and what is delivered again finds its object
//! there or makes one that overlaps with it. So batches may be doubled, cut anew, late and out of order. The function
//! keeps nothing of a batch between invocations, and starts nothing that could outlive one: a sandbox that is thawed days
//! later would go on with it.
//!
//! What is durable goes to the table's live replicas at once, if that can be done at once.

use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::layout::Destination;
use highwater_domain::log_place::{LogPlace, UNPLACED};
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{ShardId, ShardIdError};
use highwater_domain::stream_arn::StreamArn;

use crate::apply_directly::{Batch, DirectApply};
use crate::error::StepError;
use crate::keep_unread::keep_unread;
use crate::live_deps::LiveDeps;
use crate::write_log::{LogWriter, Written};

pub use crate::stream_event::{
    BatchItemFailure, ConsumeInput, ConsumeOutput, StreamBatch, Window, WindowState,
};

/// Where a deployment keeps its logs: `<destination>/<table>/log/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDestination(pub Destination);

impl LogDestination {
    /// The place of the log of the table called `table`.
    #[must_use]
    pub fn place(&self, table: &str) -> LogPlace {
        LogPlace::new(self.0.prefix(), table)
    }
}

/// The ports of the live side, and the short cut to replicas where a deployment has some.
#[derive(Clone, Debug)]
pub struct ConsumeDeps {
    /// The ports of the live side.
    pub live: LiveDeps,
    /// Gives batches to replicas.
    pub replicas: Option<DirectApply>,
}

impl From<&Self> for ConsumeDeps {
    fn from(deps: &Self) -> Self {
        deps.clone()
    }
}

impl From<&LiveDeps> for ConsumeDeps {
    /// A deployment without replicas.
    fn from(live: &LiveDeps) -> Self {
        Self {
            live: live.clone(),
            replicas: None,
        }
    }
}

/// Where durability ended.
struct Undone {
    /// The least sequence number that is not known to be durable; `None` where no number can say it.
    from: Option<SequenceNumber>,
    error: StepError,
}

/// Makes a batch durable, or tells from which record on it is to come again.
///
/// An error means the whole batch: an event that is none, a destination that cannot be opened, a record without a
/// number that cannot be stored, or a batch of several streams, whose numbers cannot be compared.
pub async fn run(
    deps: impl Into<ConsumeDeps>,
    destination: &LogDestination,
    input: ConsumeInput,
    budget: Budget,
) -> Result<ConsumeOutput, StepError> {
    let deps = deps.into();
    let answer = deliver(&deps, destination, input, budget).await;
    let is_whole = |output: &ConsumeOutput| output.batch_item_failures.is_empty();
    deps.live
        .observer
        .delivered(!answer.as_ref().is_ok_and(is_whole));
    answer
}

async fn deliver(
    all: &ConsumeDeps,
    destination: &LogDestination,
    mut input: ConsumeInput,
    budget: Budget,
) -> Result<ConsumeOutput, StepError> {
    let deps = &all.live;
    let shard = shard_of(input.shard_id.as_deref())?;
    if input.is_window_terminated_early {
        tracing::warn!(%shard, "Lambda has ended the window early");
    }
    let told = input.event_source_arn.as_deref();
    if let Some(Ok(stream)) = told.map(str::parse::<StreamArn>) {
        deps.observer.about(stream.table());
    }
    let batches = input.by_stream()?;
    let before = WindowState::read(input.state.as_deref());
    let mut output = ConsumeOutput::default();
    let mut after = before.clone();
    for (stream, batch) in &batches {
        deps.observer.about(stream.table());
        let log = BatchLog::open(deps, destination, stream, &shard, budget)?;
        let undone = match log.write(batch).await {
            Ok(written) => {
                tell(stream, &shard, batch, &written, &before);
                after = after.after(batch);
                if let Some(replicas) = &all.replicas {
                    let batch = Batch {
                        destination,
                        stream,
                        shard: &shard,
                        records: &batch.records,
                    };
                    replicas.apply(deps, batch, budget).await;
                }
                continue;
            }
            Err(undone) => undone,
        };
        let Some(from) = undone.from.filter(|_| batches.len() == 1) else {
            return Err(undone.error);
        };
        tracing::error!(%stream, %shard, %from, error = %undone.error, "records are to come again");
        let item_identifier = from;
        output.batch_item_failures = vec![BatchItemFailure { item_identifier }];
    }
    // What the last invocation of a window says, nobody is told.
    let goes_on = !input.is_final_invoke_for_window;
    let state = || Some(after).filter(|_| goes_on).unwrap_or_default();
    output.state = input.window.is_some().then(state);
    Ok(output)
}

/// A shard that the event does not tell has a folder that says so. The auditor puts its records into their place.
fn shard_of(told: Option<&str>) -> Result<ShardId, StepError> {
    match told.map(str::parse::<ShardId>) {
        Some(Ok(shard)) => return Ok(shard),
        Some(Err(error)) => tracing::warn!(%error, "the event's shard cannot be a folder's name"),
        None => {}
    }
    let unplaced = UNPLACED.parse();
    unplaced.map_err(|error: ShardIdError| StepError::Internal(error.to_string()))
}

/// One batch of one stream on its way to the log.
struct BatchLog<'a> {
    deps: &'a LiveDeps,
    writer: LogWriter,
    shard: &'a ShardId,
}

impl<'a> BatchLog<'a> {
    fn open(
        deps: &'a LiveDeps,
        destination: &LogDestination,
        stream: &StreamArn,
        shard: &'a ShardId,
        budget: Budget,
    ) -> Result<Self, StepError> {
        let store = deps.stores.open(&destination.0).map_err(StepError::Store)?;
        let place = destination.place(stream.table());
        let writer = LogWriter::new(store, place, stream.label().to_owned())
            .within(budget, Arc::clone(&deps.clock))
            .observed_by(Arc::clone(&deps.observer));
        Ok(Self {
            deps,
            writer,
            shard,
        })
    }

    /// First what cannot be read, because it may have no number to ask for it again; then all the others.
    async fn write(&self, batch: &StreamBatch) -> Result<Written, Undone> {
        let lowest = || batch.numbers().min().cloned();
        for unread in &batch.unread {
            let seen_at = self.deps.clock.now();
            match keep_unread(&self.writer, self.shard, unread, seen_at).await {
                Ok(incident) => self.deps.observer.incident(&incident),
                Err(error) => {
                    let all_have_one = batch
                        .unread
                        .iter()
                        .all(|unread| unread.sequence_number.is_some());
                    let from = lowest().filter(|_| all_have_one);
                    return Err(Undone { from, error });
                }
            }
        }
        let written = self.writer.write_some(self.shard, &batch.records).await;
        match written {
            Ok(Written {
                failed: Some(unwritten),
                ..
            }) => Err(Undone {
                from: Some(unwritten.first),
                error: unwritten.error,
            }),
            Ok(written) => Ok(written),
            Err(error) => Err(Undone {
                from: lowest(),
                error,
            }),
        }
    }
}

/// One line per batch: how much came, and whether it had come before.
fn tell(
    stream: &StreamArn,
    shard: &ShardId,
    batch: &StreamBatch,
    written: &Written,
    before: &WindowState,
) {
    let (first, last) = (batch.numbers().min(), batch.numbers().max());
    let again = before
        .last_seq
        .as_ref()
        .is_some_and(|seen| first.is_some_and(|first| first <= seen));
    tracing::info!(
        %stream,
        %shard,
        records = batch.records.len(),
        unread = batch.unread.len(),
        objects = written.objects.len(),
        first = first.map(SequenceNumber::as_str),
        last = last.map(SequenceNumber::as_str),
        again,
        "batch logged"
    );
}
