//! Lambda's stream events into lines and into objects of the log: by the product's own steps, and by types.
//!
//! Both make one line per record. *Lines* end there, in a buffer that is used again: what a program can do better or
//! worse. The *log* goes on as the product does: zstd at level 1 over the lines, and one object in S3 per event.

use std::path::PathBuf;
use std::{fs, io};

use aws_lambda_events::event::dynamodb::Event;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_steps::StepError;
use highwater_steps::consume_stream::ConsumeInput;
use thiserror::Error;

use super::Sums;

/// The level of the product's log.
const LEVEL: i32 = 1;

/// Events could not be made into lines.
#[derive(Debug, Error)]
pub enum EventError {
    /// A file.
    #[error("an event's file: {0}")]
    File(#[from] io::Error),
    /// An event is none.
    #[error("an event: {0}")]
    Event(#[from] serde_json::Error),
    /// The product does not take it.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The product cannot read records of it.
    #[error("{0} records of an event cannot be read")]
    Unread(usize),
    /// The store.
    #[error(transparent)]
    Store(#[from] Failure),
}

/// So many bytes of events are gone round. They are read at the start and lie in memory, as those of a function do:
/// reading files is neither side's work.
pub const KEPT_BYTES: u64 = 8_000_000;

/// The first events, as many as are gone round.
pub fn kept(events: &[PathBuf]) -> io::Result<Vec<Bytes>> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for event in events {
        if bytes >= KEPT_BYTES {
            break;
        }
        let event = Bytes::from(fs::read(event)?);
        bytes += event.len() as u64;
        kept.push(event);
    }
    Ok(kept)
}

/// Lines of so many events by the product's reading of them. `lines` hears of every event's.
pub fn own_lines(
    events: &[Bytes],
    count: usize,
    mut lines: impl FnMut(&[u8]),
) -> Result<Sums, EventError> {
    let (mut sums, mut buffer) = (Sums::default(), Vec::new());
    for event in events.iter().cycle().take(count) {
        sums.bytes += event.len() as u64;
        let mut input = ConsumeInput::read(event)?;
        buffer.clear();
        for batch in input.by_stream()?.values() {
            if !batch.unread.is_empty() {
                return Err(EventError::Unread(batch.unread.len()));
            }
            for record in &batch.records {
                buffer.extend_from_slice(&record.raw);
                buffer.push(b'\n');
            }
            sums.items += batch.records.len() as u64;
        }
        sums.stored_bytes += buffer.len() as u64;
        lines(&buffer);
    }
    Ok(sums)
}

/// Lines of so many events by types.
pub fn typed_lines(
    events: &[Bytes],
    count: usize,
    mut lines: impl FnMut(&[u8]),
) -> Result<Sums, EventError> {
    let (mut sums, mut buffer) = (Sums::default(), Vec::new());
    for event in events.iter().cycle().take(count) {
        sums.bytes += event.len() as u64;
        sums.items += typed_event(event, &mut buffer)?;
        sums.stored_bytes += buffer.len() as u64;
        lines(&buffer);
    }
    Ok(sums)
}

/// The lines of one event in the place of what the buffer holds, and how many.
fn typed_event(event: &[u8], buffer: &mut Vec<u8>) -> Result<u64, EventError> {
    let event: Event = serde_json::from_slice(event)?;
    buffer.clear();
    for record in &event.records {
        serde_json::to_writer(&mut *buffer, record)?;
        buffer.push(b'\n');
    }
    Ok(event.records.len() as u64)
}

/// Objects of the log by typed events: one per event.
pub async fn typed_log(
    events: &[PathBuf],
    store: &impl ObjectStore,
    folder: &str,
) -> Result<Sums, EventError> {
    let (mut sums, mut buffer) = (Sums::default(), Vec::new());
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    packer.include_checksum(true)?;
    for (number, event) in events.iter().enumerate() {
        let event = fs::read(event)?;
        sums.bytes += event.len() as u64;
        let records = typed_event(&event, &mut buffer)?;
        let body = packer.compress(&buffer)?;
        sums.items += records;
        sums.stored_bytes += body.len() as u64;
        let object = NewObject {
            key: format!("{folder}{number:08}.jsonl.zst"),
            body: body.into(),
            content_type: "application/zstd",
            item_count: Some(records),
            ..NewObject::default()
        };
        store.create(object).await?;
    }
    Ok(sums)
}
