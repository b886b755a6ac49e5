//! `ConsumeStream` on prepared events, in a process of its own that does nothing else; and zstd on the same bytes.
//!
//! The parent makes the events as files. The process reads one, runs the step on it as the function does, and so on.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::Budget;
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::layout::DestinationError;
use highwater_domain::mark::UnixSeconds;
use highwater_lambda::{LoggingObserver, S3Stores, live_deps};
use highwater_steps::StepError;
use highwater_steps::consume_stream::{self, ConsumeInput, LogDestination};
use serde_json::json;
use thiserror::Error;
use tokio::process::Command;

use crate::changes::{Changes, Keys, SPAN_S};
use crate::contender::Sums;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::made_log::{BATCH, LABEL};
use crate::process::{ProcessError, Usage, measure};
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// Where the events' records go.
const TO: &str = "s3://replay";

/// When the events' records begin.
pub const BEGIN: UnixSeconds = UnixSeconds(1_768_385_930);

/// An event is at most about so long: Lambda takes 6 MB at once.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const EVENT_BYTES: usize = 5 << 20;

/// The shard that the events tell.
const SHARD: &str = "shardId-00000001768385930622-efd1a093";

/// Events could not be made or consumed.
#[derive(Debug, Error)]
pub enum ConsumeError {
    /// A file.
    #[error("an event's file: {0}")]
    File(#[from] io::Error),
    /// An event is no JSON.
    #[error("an event: {0}")]
    Event(#[from] serde_json::Error),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] Failure),
    /// The destination is none.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The step wants records to come again.
    #[error("{0} records of an event were not written")]
    NotWritten(usize),
    /// The table could not be made.
    #[error(transparent)]
    Table(#[from] highwater_domain::item_size::ItemSizeError),
    /// The process could not be measured.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process failed.
    #[error("it ended with {0}")]
    Failed(std::process::ExitStatus),
    /// The records in the bucket are not those of the events.
    #[error("{found} objects were written for {events} events")]
    Objects {
        /// Objects in the bucket.
        found: u64,
        /// Events, each of which makes one.
        events: u64,
    },
}

/// What `ConsumeStream` cost.
#[derive(Clone, Copy, Debug)]
pub struct Consumed {
    /// The step.
    pub step: Usage,
    /// Compression alone, of the same events, by zstd at level 1.
    pub zstd: Usage,
    /// Records in all events.
    pub records: u64,
    /// Bytes of all events.
    pub plain_bytes: u64,
    /// Bytes of the log's objects.
    pub stored_bytes: u64,
}

/// Events in a folder, one file each, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct EventFiles {
    /// What all events up to each one come to.
    sums: Vec<Sums>,
}

impl EventFiles {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// How many of the first have so many bytes together, and what they come to; all of them if they have fewer.
    #[must_use]
    pub fn first(&self, bytes: u64) -> (usize, Sums) {
        let short = self.sums.partition_point(|sums| sums.bytes < bytes);
        let count = (short + 1).min(self.len());
        let sums = self.sums.get(count.saturating_sub(1)).copied();
        (count, sums.unwrap_or_default())
    }

    /// The same where the first, of `kept` bytes together, are gone round.
    #[must_use]
    pub fn round(&self, kept: u64, bytes: u64) -> (usize, Sums) {
        let (count, once) = self.first(kept);
        let rounds = bytes / once.bytes.max(1);
        let (more, rest) = match bytes % once.bytes.max(1) {
            0 => (0, Sums::default()),
            left => self.first(left),
        };
        let sum = |of: fn(&Sums) -> u64| of(&once) * rounds + of(&rest);
        let sums = Sums {
            items: sum(|sums| sums.items),
            bytes: sum(|sums| sums.bytes),
            stored_bytes: sum(|sums| sums.stored_bytes),
        };
        let rounds = usize::try_from(rounds).unwrap_or(usize::MAX);
        (count.saturating_mul(rounds).saturating_add(more), sums)
    }

    /// What all of them come to.
    #[must_use]
    pub fn all(&self) -> Sums {
        self.sums.last().copied().unwrap_or_default()
    }
}

/// The stream of a data set's table.
#[must_use]
pub fn stream_arn(set: DataSet) -> String {
    stream_arn_of(set.name())
}

/// The stream of a table.
#[must_use]
pub fn stream_arn_of(table: &str) -> String {
    format!("arn:aws:dynamodb:us-east-1:123456789012:table/{table}/stream/{LABEL}")
}

/// Runs the step on about so many bytes of events.
///
/// `program` is the one that answers to `consume-events FOLDER URL` and `pack-events FOLDER`: this one.
pub async fn run(program: &Path, set: DataSet, plain_bytes: u64) -> Result<Consumed, ConsumeError> {
    let table = Arc::new(ReplayTable::new(set, 1)?);
    let keys = Keys::Few(100_000);
    let changes = Changes::sized(&table, plain_bytes, keys, BEGIN, &stream_arn(set));
    let folder = tempfile::tempdir()?;
    let files = write_events(folder.path(), &changes)?;
    let server = ReplayServer::over(0, Tables::new([]), Sink::on_disk()?).await?;
    let events_in = folder.path().as_os_str();
    let step = child(
        program,
        &[
            "consume-events".into(),
            events_in.into(),
            server.endpoint_url().into(),
        ],
    )
    .await?;
    let stored = server.stored_below("", "");
    if stored.objects != files.len() as u64 {
        return Err(ConsumeError::Objects {
            found: stored.objects,
            events: files.len() as u64,
        });
    }
    Ok(Consumed {
        step,
        zstd: child(program, &["pack-events".into(), events_in.into()]).await?,
        records: changes.records(),
        plain_bytes: files.all().bytes,
        stored_bytes: stored.bytes,
    })
}

async fn child(program: &Path, arguments: &[OsString]) -> Result<Usage, ConsumeError> {
    let mut command = Command::new(program);
    command.env_clear().args(arguments);
    let usage = measure(command).await?;
    if usage.status.success() {
        return Ok(usage);
    }
    Err(ConsumeError::Failed(usage.status))
}

/// Writes events as Lambda sends them, with a tumbling window.
pub fn write_events(folder: &Path, changes: &Changes) -> io::Result<EventFiles> {
    let window = json!({
        "start": UnixMillis(changes.stamp(0).0 * 1000).to_rfc3339(),
        "end": UnixMillis((changes.stamp(0).0 + SPAN_S) * 1000).to_rfc3339(),
    });
    let mut files = EventFiles::default();
    let (mut sums, mut next) = (Sums::default(), 0);
    while next < changes.records() {
        let (mut event, first) = (b"{\"Records\":[".to_vec(), next);
        while next < changes.records() && next - first < BATCH as u64 && event.len() < EVENT_BYTES {
            if next > first {
                event.push(b',');
            }
            changes.record(next, &mut event);
            next += 1;
        }
        write!(
            event,
            "],\"window\":{window},\"shardId\":\"{SHARD}\",\"state\":{{}},\"isFinalInvokeForWindow\":false}}"
        )?;
        sums.items = next;
        sums.bytes += event.len() as u64;
        fs::write(folder.join(format!("{:08}", files.len())), event)?;
        files.sums.push(sums);
    }
    Ok(files)
}

/// The child's work: runs the step on every event, one after the other. What is stored goes to `to`, `s3://BUCKET`.
pub async fn consume_events(
    events: &[PathBuf],
    endpoint_url: &str,
    to: &str,
) -> Result<Sums, ConsumeError> {
    let settings = ConnectionSettings {
        region: Some("us-east-1".into()),
        endpoint_url: Some(endpoint_url.to_owned()),
        ..ConnectionSettings::default()
    };
    let clients = Clients::connect(&settings).await?;
    let stores = Arc::new(S3Stores(clients.clone()));
    let deps = live_deps(&clients, "unused", stores, Arc::new(LoggingObserver));
    let to = LogDestination(to.parse()?);
    let mut sums = Sums::default();
    for event in events {
        let event = fs::read(event)?;
        sums.bytes += event.len() as u64;
        let event = ConsumeInput::read(&event.into())?;
        sums.items += event.records.as_ref().map_or(0, Vec::len) as u64;
        let answer = consume_stream::run(&deps, &to, event, Budget::UNLIMITED).await?;
        if !answer.batch_item_failures.is_empty() {
            return Err(ConsumeError::NotWritten(answer.batch_item_failures.len()));
        }
    }
    Ok(sums)
}

/// The same on every event of a folder, in the order of their names.
pub async fn consume_folder(folder: &Path, endpoint_url: &str) -> Result<(), ConsumeError> {
    let events = events(folder, usize::MAX)?;
    consume_events(&events, endpoint_url, TO).await?;
    Ok(())
}

/// The other child's work: compresses every event of a folder, as fast as can be.
pub fn pack_folder(folder: &Path) -> Result<(), ConsumeError> {
    pack_events(&events(folder, usize::MAX)?)?;
    Ok(())
}

/// Compresses events, and nothing else.
pub fn pack_events(events: &[PathBuf]) -> io::Result<Sums> {
    let mut packer = zstd::bulk::Compressor::new(1)?;
    let mut sums = Sums::default();
    for event in events {
        let event = fs::read(event)?;
        sums.bytes += event.len() as u64;
        sums.stored_bytes += packer.compress(&event)?.len() as u64;
    }
    Ok(sums)
}

/// The first so many events of a folder, in the order of their names.
pub fn events(folder: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?
        .map(|file| Ok(file?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    files.sort_unstable();
    files.truncate(count);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_events_are_as_many_as_the_bytes_need() {
        let sums = [(10, 100), (20, 200), (25, 250)].map(|(items, bytes)| Sums {
            items,
            bytes,
            stored_bytes: 0,
        });
        let files = EventFiles {
            sums: sums.to_vec(),
        };
        assert_eq!(files.first(1), (1, sums[0]));
        assert_eq!(files.first(100), (1, sums[0]));
        assert_eq!(files.first(101), (2, sums[1]));
        let of = |items, bytes| Sums {
            items,
            bytes,
            stored_bytes: 0,
        };
        assert_eq!(files.round(150, 100), (1, of(10, 100)), "not once round");
        assert_eq!(files.round(150, 400), (4, of(40, 400)), "twice");
        assert_eq!(files.round(150, 450), (5, of(50, 500)), "and one more");
        assert_eq!(files.first(9999), (3, sums[2]));
        assert_eq!(files.all(), sums[2]);
        assert_eq!(EventFiles::default().first(1), (0, Sums::default()));
    }
}
