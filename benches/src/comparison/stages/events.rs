//! Lambda's events as files, and a server that takes the log's objects and drops them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::process::Command;

use super::{ServerClock, Setup, StageError, Trouble, require, run_to_end};
use crate::changes::{Changes, Keys};
use crate::comparison::contenders::Contender;
use crate::comparison::figures::Cost;
use crate::consume::{self, EventFiles};
use crate::contender::event_log;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// How many keys the records are about.
const KEYS: Keys = Keys::Few(100_000);

/// The events, and where their objects go.
#[derive(Debug)]
pub struct EventStage {
    server: ReplayServer,
    folder: TempDir,
    files: EventFiles,
    /// Runs so far: the objects of each go to a bucket of its own.
    runs: usize,
}

impl EventStage {
    /// Makes events of the larger size; the smaller run takes the first of them.
    pub async fn set(setup: &Setup, set: DataSet) -> Result<Self, StageError> {
        let table = Arc::new(ReplayTable::new(set, 1)?);
        let changes = Changes::sized(
            &table,
            setup.sizes_of(Contender::EventLines)[1],
            KEYS,
            consume::BEGIN,
            &consume::stream_arn(set),
        );
        let folder = tempfile::tempdir()?;
        let files = consume::write_events(folder.path(), &changes)?;
        let server = ReplayServer::over(0, Tables::new([]), Sink::dropping()).await?;
        Ok(Self {
            server,
            folder,
            files,
            runs: 0,
        })
    }

    /// Turns events into lines or objects once.
    pub async fn run(
        &mut self,
        setup: &Setup,
        contender: Contender,
        at: usize,
    ) -> Result<Cost, Trouble> {
        let bytes = setup.sizes_of(contender)[at];
        let (events, expected) = if goes_round(contender) {
            self.files.round(event_log::KEPT_BYTES, bytes)
        } else {
            self.files.first(bytes)
        };
        self.runs += 1;
        let bucket = format!("run-{}", self.runs);
        let command = command(
            &setup.contender,
            self.server.endpoint_url(),
            self.folder.path().to_owned(),
            (contender, events, &bucket),
        );
        let clock = ServerClock::start()?;
        let (usage, said) = run_to_end(command).await?;
        let said = said.unwrap_or_default();
        let stored = self.server.stored_below(&bucket, "");
        self.server.forget_objects();
        // A compressor does not see records.
        if contender != Contender::PackEvents {
            require("records", said.items, expected.items)?;
        }
        require("bytes of events", said.bytes, expected.bytes)?;
        let mut stored_bytes = 0;
        if makes_objects(contender) {
            require("objects", stored.objects, events as u64)?;
            stored_bytes = stored.bytes;
        }
        Ok(clock.cost(&usage, expected.bytes, stored_bytes)?)
    }
}

fn makes_objects(contender: Contender) -> bool {
    matches!(contender, Contender::EventLog | Contender::TypedEventLog)
}

/// Whether it reads a few events and goes round them: what is stored must differ from event to event.
fn goes_round(contender: Contender) -> bool {
    matches!(
        contender,
        Contender::EventLines | Contender::TypedEventLines
    )
}

fn command(
    program: &Path,
    endpoint_url: &str,
    folder: PathBuf,
    (contender, events, bucket): (Contender, usize, &str),
) -> Command {
    let kind = match contender {
        Contender::EventLines => "event-lines",
        Contender::TypedEventLines => "typed-event-lines",
        Contender::EventLog => "event-log",
        Contender::TypedEventLog => "typed-event-log",
        _ => "pack-events",
    };
    let mut command = Command::new(program);
    command.env_clear().args([endpoint_url, kind]).arg(folder);
    command.arg(events.to_string());
    if makes_objects(contender) {
        command.arg(bucket);
    }
    command
}
