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
use tempfile::TempDir;
use thiserror::Error;
use tokio::process::Command;

use crate::changes::{Changes, Keys, SPAN_S};
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::made_log::{BATCH, LABEL};
use crate::process::{ProcessError, Usage, measure};
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// Where the events' records go.
const TO: &str = "s3://replay";

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

/// Runs the step on about so many bytes of events.
///
/// `program` is the one that answers to `consume-events FOLDER URL` and `pack-events FOLDER`: this one.
pub async fn run(program: &Path, set: DataSet, plain_bytes: u64) -> Result<Consumed, ConsumeError> {
    let table = Arc::new(ReplayTable::new(set, 1)?);
    let stream = format!("arn:aws:dynamodb:us-east-1:123456789012:table/{set}/stream/{LABEL}");
    let begin = UnixSeconds(1_768_385_930);
    let changes = Changes::sized(&table, plain_bytes, Keys::Few(100_000), begin, &stream);
    let folder = tempfile::tempdir()?;
    let (events, plain_bytes) = write_events(&folder, &changes)?;
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
    if stored.objects != events {
        return Err(ConsumeError::Objects {
            found: stored.objects,
            events,
        });
    }
    Ok(Consumed {
        step,
        zstd: child(program, &["pack-events".into(), events_in.into()]).await?,
        records: changes.records(),
        plain_bytes,
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

/// Writes events as Lambda sends them, with a tumbling window. Returns how many, and their bytes.
fn write_events(folder: &TempDir, changes: &Changes) -> Result<(u64, u64), ConsumeError> {
    let window = json!({
        "start": UnixMillis(changes.stamp(0).0 * 1000).to_rfc3339(),
        "end": UnixMillis((changes.stamp(0).0 + SPAN_S) * 1000).to_rfc3339(),
    });
    let (mut events, mut bytes) = (0_u64, 0);
    let mut first = 0;
    while first < changes.records() {
        let end = (first + BATCH as u64).min(changes.records());
        let mut event = b"{\"Records\":[".to_vec();
        for number in first..end {
            if number > first {
                event.push(b',');
            }
            changes.record(number, &mut event);
        }
        write!(
            event,
            "],\"window\":{window},\"shardId\":\"{SHARD}\",\"state\":{{}},\"isFinalInvokeForWindow\":false}}"
        )?;
        bytes += event.len() as u64;
        fs::write(folder.path().join(format!("{events:08}")), event)?;
        (events, first) = (events + 1, end);
    }
    Ok((events, bytes))
}

/// The child's work: runs the step on every event of a folder, one after the other.
pub async fn consume_events(folder: &Path, endpoint_url: &str) -> Result<(), ConsumeError> {
    let settings = ConnectionSettings {
        region: Some("us-east-1".into()),
        endpoint_url: Some(endpoint_url.to_owned()),
        ..ConnectionSettings::default()
    };
    let clients = Clients::connect(&settings).await?;
    let stores = Arc::new(S3Stores(clients.clone()));
    let deps = live_deps(&clients, "unused", stores, Arc::new(LoggingObserver));
    let to = LogDestination(TO.parse()?);
    for event in in_order(folder)? {
        let event: ConsumeInput = serde_json::from_slice(&fs::read(event)?)?;
        let answer = consume_stream::run(&deps, &to, event, Budget::UNLIMITED).await?;
        if !answer.batch_item_failures.is_empty() {
            return Err(ConsumeError::NotWritten(answer.batch_item_failures.len()));
        }
    }
    Ok(())
}

/// The other child's work: compresses every event of a folder, as fast as can be.
pub fn pack_events(folder: &Path) -> Result<(), ConsumeError> {
    let mut packer = zstd::bulk::Compressor::new(1)?;
    for event in in_order(folder)? {
        packer.compress(&fs::read(event)?)?;
    }
    Ok(())
}

fn in_order(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?
        .map(|file| Ok(file?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    files.sort_unstable();
    Ok(files)
}
