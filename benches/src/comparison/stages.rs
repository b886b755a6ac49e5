//! Where contenders run: a replay server with what a path needs, made once for a data set and used in every round.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::{fs, io};

use highwater_domain::item_size::ItemSizeError;
use tempfile::TempDir;
use thiserror::Error;
use tokio::process::Command;

use super::contenders::{Contender, Path};
use super::figures::Cost;
use super::peers::Peers;
use crate::command::RunError;
use crate::contender::Sums;
use crate::data_set::DataSet;
use crate::process::{ProcessError, Usage, measure, own_cpu_seconds};

pub mod backups;
pub mod events;
pub mod export;
pub mod merge;
pub mod records;

use backups::BackupStage;
use events::EventStage;
use export::ExportStage;
use merge::MergeStage;
use records::RecordStage;

/// Sizes are never less than these, or there would be no slope between them: a page has more than a megabyte.
const LEAST_BYTES: [u64; 2] = [2_000_000, 6_000_000];

/// What all stages share.
#[derive(Debug)]
pub struct Setup {
    /// The `highwater` to measure.
    pub highwater: PathBuf,
    /// The program `contender` of this bench.
    pub contender: PathBuf,
    /// The tools of others.
    pub peers: Peers,
    /// The two sizes, before a contender's own part of them.
    pub sizes: [u64; 2],
}

impl Setup {
    /// The bytes that a contender is given, in the smaller and in the larger run.
    #[must_use]
    pub fn sizes_of(&self, contender: Contender) -> [u64; 2] {
        let part = contender.part_of_size();
        let size = |at: usize| (self.sizes[at] / part).max(LEAST_BYTES[at]);
        [size(0), size(1)]
    }
}

/// A stage could not be set.
#[derive(Debug, Error)]
pub enum StageError {
    /// The server, or a temporary folder.
    #[error("the stage cannot be set: {0}")]
    Io(#[from] io::Error),
    /// The table could not be made.
    #[error(transparent)]
    Table(#[from] ItemSizeError),
    /// A backup and its log could not be made.
    #[error(transparent)]
    Log(#[from] crate::second::StageError),
    /// The program's surroundings could not be made.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A contender did not do what it should.
#[derive(Debug, Error)]
pub enum Trouble {
    /// It is not on this machine.
    #[error("not installed")]
    NotInstalled,
    /// The product failed, or says other sums than were counted.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It could not be measured.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A temporary file.
    #[error("a temporary file: {0}")]
    Temporary(#[from] io::Error),
    /// It ended badly.
    #[error("it ended with {status}: {stderr}")]
    Failed {
        /// How.
        status: ExitStatus,
        /// What it said, or the end of that.
        stderr: String,
    },
    /// It did something else than the same work.
    #[error("{what}: {counted} instead of {expected}")]
    Sums {
        /// Of what.
        what: &'static str,
        /// What was counted.
        counted: u64,
        /// What it should have been.
        expected: u64,
    },
}

/// A stage for one path and one data set.
#[derive(Debug)]
pub enum Stage {
    /// Tables to export.
    Export(ExportStage),
    /// Backups to restore, or to read again.
    Backups(BackupStage),
    /// Lambda's events.
    Events(EventStage),
    /// Streams.
    Records(RecordStage),
    /// Backups and logs.
    Merge(MergeStage),
}

impl Stage {
    /// Sets it, with all the sizes that these contenders are given.
    pub async fn set(
        setup: &Setup,
        path: Path,
        set: DataSet,
        contenders: &[Contender],
    ) -> Result<Self, StageError> {
        Ok(match path {
            Path::Export => Self::Export(ExportStage::set(setup, set, contenders).await?),
            Path::Restore | Path::Verify => {
                Self::Backups(BackupStage::set(setup, set, contenders).await?)
            }
            Path::EventLog => Self::Events(EventStage::set(setup, set).await?),
            Path::RecordLog => Self::Records(RecordStage::set(setup, set, contenders).await?),
            Path::Merge => Self::Merge(MergeStage::set(setup, set).await?),
        })
    }

    /// Runs a contender on its smaller (0) or larger (1) size.
    pub async fn run(
        &mut self,
        setup: &Setup,
        contender: Contender,
        at: usize,
    ) -> Result<Cost, Trouble> {
        match self {
            Self::Export(stage) => stage.run(setup, contender, at).await,
            Self::Backups(stage) => stage.run(setup, contender, at).await,
            Self::Events(stage) => stage.run(setup, contender, at).await,
            Self::Records(stage) => stage.run(setup, contender, at).await,
            Self::Merge(stage) => stage.run(contender, at).await,
        }
    }
}

/// Requires that what was counted is what should be.
pub(crate) fn require(what: &'static str, counted: u64, expected: u64) -> Result<(), Trouble> {
    if counted == expected {
        return Ok(());
    }
    Err(Trouble::Sums {
        what,
        counted,
        expected,
    })
}

/// The server's CPU while something runs. It is this process.
pub(crate) struct ServerClock(f64);

impl ServerClock {
    pub(crate) fn start() -> Result<Self, ProcessError> {
        own_cpu_seconds().map(Self)
    }

    /// What a run took, and the server beside it.
    pub(crate) fn cost(
        &self,
        usage: &Usage,
        bytes: u64,
        stored_bytes: u64,
    ) -> Result<Cost, ProcessError> {
        Ok(Cost {
            bytes,
            cpu_seconds: usage.cpu_seconds,
            wall_seconds: usage.wall_seconds,
            peak_rss_bytes: usage.peak_rss_bytes,
            stored_bytes,
            server_cpu_seconds: own_cpu_seconds()? - self.0,
        })
    }
}

/// Runs a command to its good end. The sums are what its last line says, if that says any.
pub(crate) async fn run_to_end(mut command: Command) -> Result<(Usage, Option<Sums>), Trouble> {
    let folder: TempDir = tempfile::tempdir()?;
    let [out, talk] = ["out", "talk"].map(|name| folder.path().join(name));
    command
        .stdin(std::process::Stdio::null())
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&talk)?);
    let usage = measure(command).await?;
    if !usage.status.success() {
        let stderr = fs::read_to_string(&talk)?;
        let from = stderr.len().saturating_sub(2000);
        return Err(Trouble::Failed {
            status: usage.status,
            stderr: stderr.get(from..).unwrap_or(&stderr).trim().to_owned(),
        });
    }
    let said = fs::read(&out)?;
    let said = String::from_utf8_lossy(&said);
    let sums = said.lines().last().map(serde_json::from_str);
    Ok((usage, sums.and_then(Result::ok)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(line: &str) -> Result<(Usage, Option<Sums>), Trouble> {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        run_to_end(command).await
    }

    #[tokio::test]
    async fn sums_are_the_last_line_and_a_failure_says_why() {
        let (_, sums) = shell("echo noise; echo '{\"items\":3,\"bytes\":40}'")
            .await
            .unwrap();
        let expected = Sums {
            items: 3,
            bytes: 40,
            stored_bytes: 0,
        };
        assert_eq!(sums, Some(expected));
        assert_eq!(shell("echo 12 items").await.unwrap().1, None);
        let error = shell("echo no such table >&2; exit 7").await.unwrap_err();
        assert!(error.to_string().contains("no such table"), "{error}");
        assert!(require("items", 3, 4).is_err());
    }
}
