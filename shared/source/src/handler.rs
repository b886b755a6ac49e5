//! The live side as a Lambda function behind an event source mapping: one batch of the stream into the sink.
//!
//! What is reported as done is done. The first record that is not dealt with ends the batch: its sequence number goes back in
//! `batchItemFailures`, nothing behind it was applied, and Lambda delivers it and everything behind it again. So a key's changes stay
//! in order, and duplicates are few.

use std::fmt;
use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::sequence_number::{SequenceNumber, ShardOrdinal, ordinal};
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::{StreamRecord, Unread};
use highwater_steps::StopFlag;
use highwater_steps::consume_stream::WindowState;
use tokio::sync::OnceCell;

pub use highwater_steps::consume_stream::{
    BatchItemFailure, ConsumeInput as StreamEvent, ConsumeOutput as StreamResponse,
};

use crate::applier::{Applier, Counts};
use crate::builder::SourceBuilder;
use crate::changes::{ChangeRead, ChangeReader};
use crate::core::Core;
use crate::dead_letters::DeadLetter;
use crate::error::SourceError;
use crate::plan;
use crate::record::{About, Place};
use crate::sink::Sink;

/// Handles batches of a table's stream. Make one when the sandbox starts, and call it for each event.
///
/// The mapping needs `ReportBatchItemFailures`, `TRIM_HORIZON`, and a tumbling window: without a window the event does not say which
/// shard it is of, and then a record's [`order`](crate::Record::order) cannot be told across shards.
pub struct Handler<T, S> {
    core: Arc<Core<T>>,
    sink: Arc<S>,
    about: OnceCell<Arc<About>>,
    by_sequence_number: bool,
}

impl<T, S> fmt::Debug for Handler<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

/// What handling a batch came to.
#[derive(Debug)]
pub struct Handled {
    /// What to answer.
    pub response: StreamResponse,
    /// What became of the records.
    pub counts: Counts,
    /// Records that the decoder passed over.
    pub skipped: u64,
    /// Why the first failed record failed.
    pub failed: Option<SourceError>,
}

impl<T: Send + Sync + 'static> SourceBuilder<T> {
    /// A handler of Lambda events.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub fn handler<S: Sink<T> + 'static>(self, sink: S) -> Result<Handler<T, S>, SourceError> {
        Ok(Handler {
            core: self.core()?,
            sink: Arc::new(sink),
            about: OnceCell::new(),
            by_sequence_number: false,
        })
    }
}

/// A record of a batch, in the order of sequence numbers.
enum Arrived {
    Record(StreamRecord),
    Unread(SequenceNumber, Unread),
}

impl Arrived {
    fn number(&self) -> &SequenceNumber {
        match self {
            Self::Record(record) => &record.sequence_number,
            Self::Unread(number, _) => number,
        }
    }
}

impl<T: Send + Sync + 'static, S: Sink<T> + 'static> Handler<T, S> {
    /// Takes batches of a mapping without a tumbling window, too, and orders a key's records by their sequence numbers alone. In
    /// practice those grow from a shard to its children; no document says so.
    #[must_use]
    pub fn ordered_by_sequence_number(mut self) -> Self {
        self.by_sequence_number = true;
        self
    }

    /// The sink.
    #[must_use]
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Handles one batch. `budget` is the invocation's: [`Budget::of_invocation`].
    ///
    /// # Errors
    /// For an event that is no batch of this table's stream; then nothing of it counts as done.
    pub async fn handle(
        &self,
        mut event: StreamEvent,
        budget: Budget,
    ) -> Result<Handled, SourceError> {
        let (place, ordinal) = self.place(event.shard_id.as_deref())?;
        let has_window = event.window.is_some();
        let arrived = self.records(&mut event)?;
        let mut handled = Handled {
            response: StreamResponse {
                state: has_window.then(WindowState::default),
                ..StreamResponse::default()
            },
            counts: Counts::default(),
            skipped: 0,
            failed: None,
        };
        let reader = ChangeReader {
            core: Arc::clone(&self.core),
            about: Arc::clone(self.about().await?),
        };
        let applier = Applier {
            core: Arc::clone(&self.core),
            sink: Arc::clone(&self.sink),
            budget,
        };
        let mut from = None;
        for record in &arrived {
            let done = self.apply(&reader, &applier, record, &place, ordinal, &mut handled);
            if let Err(error) = done.await {
                (from, handled.failed) = (Some(record.number()), Some(error));
                break;
            }
        }
        let nobody = StopFlag::default();
        let durable = applier.flush(&place, handled.counts.applied, &nobody).await;
        if let Err(error) = durable {
            // Nothing of it is known to be durable.
            (from, handled.failed) = (arrived.first().map(Arrived::number), Some(error));
        }
        if let (Some(from), Some(error)) = (from, &handled.failed) {
            tracing::error!(%place, %from, %error, "records are to come again");
            let item_identifier = from.clone();
            handled.response.batch_item_failures = vec![BatchItemFailure { item_identifier }];
        }
        Ok(handled)
    }

    async fn apply(
        &self,
        reader: &ChangeReader<T>,
        applier: &Applier<T, S>,
        arrived: &Arrived,
        place: &Place,
        ordinal: ShardOrdinal,
        handled: &mut Handled,
    ) -> Result<(), SourceError> {
        if applier.should_stop() {
            return Err(self.core.stopped());
        }
        let record = match arrived {
            Arrived::Record(record) => record,
            Arrived::Unread(number, unread) => {
                return self.bury(reader, number, unread, place, handled).await;
            }
        };
        match reader.read(record, place, ordinal).await? {
            ChangeRead::Record(record) => {
                let fate = applier.apply(&record, &StopFlag::default()).await?;
                handled.counts.note(fate);
            }
            ChangeRead::Skipped => handled.skipped += 1,
            ChangeRead::Buried => handled.counts.dead_letters += 1,
        }
        Ok(())
    }

    /// A record that is none: kept as it came, in the place of its new image.
    async fn bury(
        &self,
        reader: &ChangeReader<T>,
        number: &SequenceNumber,
        unread: &Unread,
        place: &Place,
        handled: &mut Handled,
    ) -> Result<(), SourceError> {
        let table = reader.about.table.clone();
        let reason = unread.reason.to_string();
        let Some(kept) = &self.core.decode_errors else {
            let (place, key) = (place.to_string(), format!("unknown (record {number})"));
            return Err(SourceError::Decode {
                table,
                place,
                key,
                reason,
            });
        };
        let letter = DeadLetter {
            event_id: format!("{place}/{number}"),
            table,
            place: place.to_string(),
            key: "unknown".into(),
            order: number.padded(),
            reason,
            attempts: 0,
            new: Some(unread.raw.clone()),
            old: None,
        };
        self.core.bury(kept, &letter, place).await?;
        handled.counts.dead_letters += 1;
        Ok(())
    }

    fn place(&self, shard: Option<&str>) -> Result<(Place, ShardOrdinal), SourceError> {
        let event = |reason: String| SourceError::Event { reason };
        match shard {
            Some(shard) => {
                let parsed = shard.parse::<ShardId>();
                let id = parsed.map_err(|error| event(error.to_string()))?;
                let ordinal = ordinal(&id, None, self.core.ports.clock.now().0);
                Ok((Place::Shard(id), ordinal))
            }
            None if self.by_sequence_number => Ok((Place::Stream, ShardOrdinal(0))),
            None => Err(event(
                "it does not name its shard; give the mapping a TumblingWindowInSeconds, or call ordered_by_sequence_number()"
                    .into(),
            )),
        }
    }

    /// The batch's records, of the one stream that it may be of.
    fn records(&self, event: &mut StreamEvent) -> Result<Vec<Arrived>, SourceError> {
        let refuse = |reason: String| SourceError::Event { reason };
        let batches = event
            .by_stream()
            .map_err(|error| refuse(error.to_string()))?;
        if batches.len() > 1 {
            let all = batches.keys().map(ToString::to_string).collect::<Vec<_>>();
            return Err(refuse(format!("it mixes streams: {}", all.join(", "))));
        }
        let mut arrived = Vec::new();
        for (stream, batch) in batches {
            if stream.table() != self.core.table.name() {
                let table = self.core.table.name();
                return Err(refuse(format!("it is of {stream}, not of table {table}")));
            }
            arrived.extend(batch.records.into_iter().map(Arrived::Record));
            for unread in batch.unread {
                let number = unread.sequence_number.clone();
                let number = number.ok_or_else(|| {
                    refuse(format!(
                        "a record without a sequence number: {}",
                        unread.reason
                    ))
                })?;
                arrived.push(Arrived::Unread(number, unread));
            }
        }
        arrived.sort_by(|a, b| a.number().cmp(b.number()));
        Ok(arrived)
    }

    async fn about(&self) -> Result<&Arc<About>, SourceError> {
        let describe = async || {
            let settings = plan::describe(&self.core).await?;
            let schema = settings.key_schema().map_err(|source| {
                let table = self.core.table.to_string();
                highwater_steps::StepError::Settings { table, source }
            })?;
            Ok(Arc::new(About {
                table: self.core.table.name().to_owned(),
                schema,
                event_id: self.core.event_id.clone(),
            }))
        };
        self.about.get_or_try_init(describe).await
    }
}
