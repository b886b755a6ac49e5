//! Why a source stopped, and the way out.

use std::error::Error as StdError;

use highwater_domain::failure::Failure;
use highwater_steps::StepError;
use thiserror::Error;

/// A source that cannot go on. Each variant is something else to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A setting cannot be used, or is missing.
    #[error("source {name}: {setting}: {reason}")]
    Invalid {
        /// The source.
        name: String,
        /// The builder's method.
        setting: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The table could not be described or scanned.
    #[error("table {table}: {failure}")]
    Table {
        /// The table.
        table: String,
        /// The call.
        #[source]
        failure: Box<Failure>,
    },
    /// The table's stream cannot be followed from.
    #[error("table {table} has no stream to go on with: {reason}")]
    NoStream {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// The table is not the one that the source began with.
    #[error(
        "table {table} was dropped and created again since source {name} began; begin another source, under another name"
    )]
    TableChanged {
        /// The source.
        name: String,
        /// The table.
        table: String,
    },
    /// A checkpoint could not be read or saved.
    #[error("checkpoint {record} of source {name}: {failure}")]
    Checkpoint {
        /// The source.
        name: String,
        /// The record's name.
        record: String,
        /// The call.
        #[source]
        failure: Box<Failure>,
    },
    /// A checkpoint holds something that this version did not write.
    #[error("checkpoint {record} of source {name} cannot be read: {reason}")]
    CheckpointUnreadable {
        /// The source.
        name: String,
        /// The record's name.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else moved the same checkpoint meanwhile: two processes scan one segment.
    #[error(
        "segment {segment} of source {name} is scanned by somebody else, too; what was acknowledged here since the last checkpoint comes again there"
    )]
    Raced {
        /// The source.
        name: String,
        /// The segment.
        segment: u32,
    },
    /// A snapshot was to begin that has begun already.
    #[error("source {name} has begun its snapshot; resume it, or take another name")]
    AlreadyBegun {
        /// The source.
        name: String,
    },
    /// A snapshot was to be resumed that never began.
    #[error("source {name} has no snapshot to resume; scan first")]
    NotBegun {
        /// The source.
        name: String,
    },
    /// A resumed snapshot has other settings than it began with: its positions mean nothing under them.
    #[error(
        "source {name} began with {setting} {then} and is resumed with {now}; a snapshot goes on as it began"
    )]
    OtherSettings {
        /// The source.
        name: String,
        /// Which setting.
        setting: &'static str,
        /// Its value then.
        then: String,
        /// Its value now.
        now: String,
    },
    /// An item or an image is not what the decoder takes.
    #[error(
        "{place} of table {table}: the item of key {key} cannot be decoded: {reason}; fix the type, or give a dead-letter sink"
    )]
    Decode {
        /// The table.
        table: String,
        /// The segment or the shard.
        place: String,
        /// Its key, DynamoDB JSON.
        key: String,
        /// Why.
        reason: String,
    },
    /// Changes since the handoff are gone from the stream: the snapshot took longer than DynamoDB keeps them, or nobody
    /// followed it in time.
    #[error(
        "the handoff of source {name} has expired: {detail}; DynamoDB keeps changes for 24 hours. Begin another source, under another name and into an empty target, with more segments or a higher read capacity"
    )]
    HandoffExpired {
        /// The source.
        name: String,
        /// What is gone, with positions.
        detail: String,
    },
    /// Changes were lost after the source had followed some: it was down for too long, its stream was disabled, or a record
    /// could not be understood.
    #[error(
        "changes of table {table} were lost to source {name}: {detail}; begin another source, under another name and into an empty target"
    )]
    RecordsLost {
        /// The source.
        name: String,
        /// The table.
        table: String,
        /// What was lost, with its interval.
        detail: String,
    },
    /// The sink refused a record, or kept failing until the retries were used up.
    #[error("record {event_id} of key {key} was not applied after {attempts} attempts: {source}")]
    Sink {
        /// The record.
        event_id: String,
        /// Its key, DynamoDB JSON.
        key: String,
        /// How often it was tried.
        attempts: u32,
        /// What the sink said last.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// What the sink had taken could not be made durable.
    #[error("the sink could not be flushed after {attempts} attempts: {source}")]
    Flush {
        /// How often it was tried.
        attempts: u32,
        /// What the sink said last.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A dead letter could not be kept. It is not passed over: the record comes again.
    #[error("the dead letter of record {event_id} could not be kept: {source}")]
    DeadLetter {
        /// The record.
        event_id: String,
        /// What the dead-letter sink said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A stop was asked for, or the time was up. What was acknowledged is kept.
    #[error("source {name} was stopped before it was done; resume it")]
    Stopped {
        /// The source.
        name: String,
    },
    /// An event that is no batch of this table's stream, or that does not say enough.
    #[error("the event is no batch that can be handled: {reason}")]
    Event {
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Reading failed in another way.
    #[error(transparent)]
    Step(Box<StepError>),
}

impl From<StepError> for SourceError {
    fn from(error: StepError) -> Self {
        Self::Step(Box::new(error))
    }
}
