//! What can be measured, each at a size of the table that one chooses.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use clap::ValueEnum;
use highwater_domain::item_size::ItemSizeError;
use thiserror::Error;

use crate::backup::{self, BackupRun, SEGMENTS};
use crate::command::{Highwater, RunError};
use crate::compare;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::item_sum::ItemSum;
use crate::process::Usage;
use crate::restore::{self, Source};
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// One command on one kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Job {
    /// `backup` of a table to S3. Always done: the other jobs need its result.
    Backup,
    /// `restore` of that backup into a new table.
    Restore,
    /// `restore` of it into a table that exists: a conditional put per item.
    Puts,
    /// `verify` of it.
    Verify,
    /// `diff` of it with itself.
    DiffBackups,
    /// `diff` of the table with it.
    DiffTable,
    /// `diff` of it with the backup of a table of as many other items: every key differs.
    DiffOther,
    /// `restore` of one file of lines, uncompressed, into a new table.
    Lines,
}

impl Job {
    /// All but the conditional puts, of which there are too many for everyday.
    pub const USUAL: [Self; 7] = [
        Self::Backup,
        Self::Restore,
        Self::Verify,
        Self::DiffBackups,
        Self::DiffTable,
        Self::DiffOther,
        Self::Lines,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What is measured, of which size.
#[derive(Clone, Debug)]
pub struct Bench<'a> {
    /// The `highwater` to measure.
    pub program: &'a Path,
    /// What the table holds.
    pub set: DataSet,
    /// Bytes of the table on the wire.
    pub wire_bytes: u64,
    /// Percent of the writes in batches that come back unprocessed.
    pub unprocessed: u8,
    /// Further flags for `highwater backup`.
    pub backup_flags: &'a [OsString],
}

/// What a job cost.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Which.
    pub job: Job,
    /// What the process used.
    pub usage: Usage,
    /// The items that it was about, of both sides of a comparison.
    pub items: ItemSum,
    /// The backup's bytes, where one was made.
    pub stored_bytes: Option<u64>,
}

/// A bench came to nothing.
#[derive(Debug, Error)]
pub enum BenchError {
    /// A job failed.
    #[error("{job}: {source}")]
    Job {
        /// Which.
        job: String,
        /// Why.
        source: RunError,
    },
    /// The program's surroundings could not be made.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server did not start.
    #[error("the replay server cannot be started: {0}")]
    Server(#[from] std::io::Error),
    /// The table could not be made.
    #[error(transparent)]
    Table(#[from] ItemSizeError),
}

/// What the jobs of one size share.
struct Stage<'a> {
    bench: &'a Bench<'a>,
    server: ReplayServer,
    highwater: Highwater,
    table: ReplayTable,
    other: ReplayTable,
    sum: ItemSum,
    backup: BackupRun,
}

impl Bench<'_> {
    /// Runs these jobs in their order, the backup first. `each` hears of them as they end.
    pub async fn run(
        &self,
        jobs: &[Job],
        mut each: impl FnMut(&Measured),
    ) -> Result<(), BenchError> {
        let mut jobs = jobs.to_vec();
        jobs.sort_unstable();
        jobs.dedup();
        let stage = self.prepare().await?;
        each(&stage.measured_backup());
        for job in jobs.into_iter().filter(|job| *job != Job::Backup) {
            let measured = stage.run(job).await;
            each(&measured.map_err(|source| BenchError::Job {
                job: job.name(),
                source,
            })?);
        }
        Ok(())
    }

    async fn prepare(&self) -> Result<Stage<'_>, BenchError> {
        let replayed = || ReplayTable::new(self.set, self.wire_bytes);
        let other = || ReplayTable::other(self.set, self.wire_bytes);
        let tables = Tables::new([replayed()?, other()?]).with_unprocessed(self.unprocessed);
        let server = ReplayServer::over(0, tables, Sink::keeping()).await?;
        let highwater = Highwater::new(self.program, &server)?;
        let table = replayed()?;
        let backup = backup::run(
            &highwater,
            &server,
            table.name(),
            SEGMENTS,
            self.backup_flags,
        )
        .await;
        let backup = backup.map_err(|source| BenchError::Job {
            job: Job::Backup.name(),
            source,
        })?;
        Ok(Stage {
            bench: self,
            server,
            highwater,
            sum: table.item_sum(),
            table,
            other: other()?,
            backup,
        })
    }
}

impl Stage<'_> {
    fn measured_backup(&self) -> Measured {
        Measured {
            job: Job::Backup,
            usage: self.backup.usage,
            items: self.sum,
            stored_bytes: Some(self.backup.stored_bytes),
        }
    }

    async fn run(&self, job: Job) -> Result<Measured, RunError> {
        let (highwater, server, sum) = (&self.highwater, &self.server, self.sum);
        let backup = self.backup.url.as_str();
        let target = format!("{}-{}", self.table.name(), job.name());
        let mut items = sum;
        let usage = match job {
            Job::Backup => return Ok(self.measured_backup()),
            Job::Restore => {
                let source = Source { backup, key: None };
                restore::run(highwater, server, source, &target, sum).await?
            }
            Job::Puts => restore::run_put_by_put(highwater, server, backup, &target, sum).await?,
            Job::Verify => compare::verify(highwater, backup, sum).await?,
            Job::DiffBackups | Job::DiffTable => {
                items.merge(&sum);
                let a = match job {
                    Job::DiffTable => self.table.name(),
                    _ => backup,
                };
                compare::equal(highwater, (a, backup), sum).await?
            }
            Job::DiffOther => {
                let (usage, other) = self.diff_other(backup).await?;
                items.merge(&other);
                usage
            }
            Job::Lines => self.lines(&target).await?,
        };
        Ok(Measured {
            job,
            usage,
            items,
            stored_bytes: None,
        })
    }

    /// Backs up the other table, which is not measured, and compares.
    async fn diff_other(&self, backup: &str) -> Result<(Usage, ItemSum), RunError> {
        let (highwater, server, name) = (&self.highwater, &self.server, self.other.name());
        let other = backup::run(highwater, server, name, SEGMENTS, self.bench.backup_flags).await?;
        let in_b = self.other.item_sum();
        let sides = [(backup, self.sum), (&other.url, in_b)];
        Ok((compare::different(highwater, sides).await?, in_b))
    }

    /// Writes the table as one file, and restores that.
    async fn lines(&self, target: &str) -> Result<Usage, RunError> {
        let path = self.highwater.folder().join("lines.json");
        let mut file = BufWriter::new(File::create(&path)?);
        self.table.write_lines(&mut file)?;
        file.flush()?;
        drop(file);
        let source = format!("file://{}", path.display());
        let source = Source {
            backup: &source,
            key: Some("pk:S"),
        };
        let restored = restore::run(&self.highwater, &self.server, source, target, self.sum).await;
        std::fs::remove_file(&path)?;
        restored
    }
}
