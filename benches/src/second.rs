//! `highwater materialize` and `highwater restore --at` over a change log of any size, held against what the table was.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::failure::Failure;
use highwater_domain::item_size::ItemSizeError;
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::ObjectStore;
use thiserror::Error;

use crate::backup::{self, SEGMENTS};
use crate::changes::{Changes, Keys};
use crate::command::{Ended, Highwater, RunError};
use crate::consume::stream_arn_of;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::item_sum::ItemSum;
use crate::made_log::{LABEL, LogOf, LogSize, MakeError};
use crate::process::Usage;
use crate::s3::{Sink, Stored};
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// The bucket of backup and log.
const BUCKET: &str = "replay";

/// The backup is put back by so much: the log takes two hours and lies in the past.
const BACK_MS: u64 = 3 * 60 * 60 * 1000;

/// The first change comes so long after the scan that no stamp can be doubtful.
const PAUSE_S: u64 = 120;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct LogBench<'a> {
    /// The `highwater` to measure.
    pub program: &'a Path,
    /// What the table holds.
    pub set: DataSet,
    /// Bytes of the table on the wire.
    pub table_bytes: u64,
    /// Bytes of the log's records before compression, about.
    pub log_bytes: u64,
    /// How many keys the records are about.
    pub keys: Keys,
}

/// A table, its backup and its log, ready to be restored from.
#[derive(Debug)]
pub struct Stage {
    server: ReplayServer,
    highwater: Highwater,
    table: Arc<ReplayTable>,
    /// The second that is restored: some records are later.
    at: UnixSeconds,
    /// Restores so far: each has a table of its own.
    restores: AtomicUsize,
    /// The log's records.
    pub log: LogSize,
    /// The same, as they lie in the bucket.
    pub stored: Stored,
    /// How many keys they are about.
    pub keys: u64,
    /// What the table was at the second.
    pub expected: ItemSum,
}

/// The stage could not be set.
#[derive(Debug, Error)]
pub enum StageError {
    /// The program's surroundings could not be made, or the backup failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server did not start.
    #[error("the replay server cannot be started: {0}")]
    Server(#[from] std::io::Error),
    /// The table could not be made.
    #[error(transparent)]
    Table(#[from] ItemSizeError),
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] Failure),
    /// The log could not be made.
    #[error("the change log cannot be made: {0}")]
    Log(#[from] MakeError),
}

impl LogBench<'_> {
    /// Backs the table up, and makes its log.
    pub async fn prepare(&self) -> Result<Stage, StageError> {
        let table = Arc::new(ReplayTable::new(self.set, self.table_bytes)?);
        let tables = Tables::new([ReplayTable::new(self.set, self.table_bytes)?]);
        let server = ReplayServer::over(0, tables, Sink::on_disk()?).await?;
        let highwater = Highwater::new(self.program, &server)?;
        let flags = ["--part-size".into(), "8MB".into()];
        let backup = backup::run(&highwater, &server, table.name(), SEGMENTS, &flags).await?;
        let name = table.name();
        let stream_arn = stream_arn_of(name);
        let root = format!("s3://{BUCKET}/");
        let root = backup.url.strip_prefix(&root).unwrap_or_default();
        let log_of = LogOf {
            store: store(&server).await?,
            place: LogPlace::new("", name),
            backup_json: format!("{}/backup.json", root.trim_end_matches('/')),
            stream_arn,
        };
        let backup = log_of.put_back(BACK_MS).await?;
        let begin = UnixSeconds(UnixSeconds::of(backup.scan_ended).0 + PAUSE_S);
        let changes = Changes::sized(&table, self.log_bytes, self.keys, begin, &log_of.stream_arn);
        let log = log_of.make(backup, &changes).await?;
        let at = changes.stamp(changes.records() / 32 * 31);
        let stored = server.stored_below(BUCKET, &log_of.place.stream(LABEL));
        Ok(Stage {
            expected: changes.expected(at, table.item_sum()),
            keys: changes.keys(),
            server,
            highwater,
            table,
            at,
            restores: AtomicUsize::new(0),
            log,
            stored,
        })
    }
}

async fn store(server: &ReplayServer) -> Result<Arc<dyn ObjectStore>, Failure> {
    let settings = ConnectionSettings {
        region: Some("us-east-1".into()),
        endpoint_url: Some(server.endpoint_url().to_owned()),
        ..ConnectionSettings::default()
    };
    Ok(Arc::new(
        Clients::connect(&settings).await?.s3_store(BUCKET),
    ))
}

impl Stage {
    /// Makes a snapshot of what the table was. Its items are counted; [`restore`](Self::restore) compares their bytes.
    pub async fn materialize(&self) -> Result<Usage, RunError> {
        let ended = self.to_second("materialize", "s3://made").await?;
        let made = self.server.stored_below("made", self.table.name());
        if made.objects == 0 {
            return Err(RunError::Result("object in the new snapshot".into()));
        }
        Ok(ended.usage)
    }

    /// Restores what the table was into a new table, which must then hold exactly that.
    pub async fn restore(&self) -> Result<Usage, RunError> {
        let number = self.restores.fetch_add(1, Ordering::Relaxed);
        let target = format!("restored-{number}");
        let ended = self.to_second("restore", &target).await?;
        let written = self.server.written(&target).unwrap_or_default();
        if written != self.expected {
            return Err(RunError::Written {
                written,
                expected: self.expected,
            });
        }
        Ok(ended.usage)
    }

    async fn to_second(&self, command: &str, to: &str) -> Result<Ended, RunError> {
        let source = format!("s3://{BUCKET}/{}", self.table.name());
        let at = self.at.to_rfc3339();
        let mut arguments: Vec<OsString> = [command, &source, "--at", &at, "--to", to]
            .map(OsString::from)
            .into();
        if command == "restore" {
            arguments.extend(["--engine", "write"].map(OsString::from));
        }
        let ended = self.highwater.run(arguments, 0).await?;
        ended.require(&[("items written", "/totals/written", self.expected.items)])?;
        ended.require_answer("/balanced", true)?;
        Ok(ended)
    }
}
