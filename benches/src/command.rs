//! Runs the real `highwater` against a replay server, and measures it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::{fs, io};

use serde_json::Value;
use tempfile::TempDir;
use thiserror::Error;
use tokio::process::Command;

use crate::item_sum::ItemSum;
use crate::process::{ProcessError, Usage, measure};
use crate::server::ReplayServer;

/// The program, and where it finds its services.
#[derive(Debug)]
pub struct Highwater {
    program: PathBuf,
    endpoint_url: String,
    /// Its working folder: control table, temporary files, what it says.
    folder: TempDir,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What the process used.
    pub usage: Usage,
    /// What it printed.
    pub result: Value,
}

/// A run failed, or did not do what it says.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A temporary file could not be made or read.
    #[error("a temporary file: {0}")]
    Temporary(#[from] io::Error),
    /// It ended otherwise than it should have.
    #[error("`highwater {command}` ended with {status}: {stderr}")]
    Failed {
        /// The subcommand.
        command: String,
        /// How.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Its result is not what the bench understands.
    #[error("the result has no {0}")]
    Result(String),
    /// Two sums that must be equal are not.
    #[error("{what}: the program says {said}, and there are {counted}")]
    Sums {
        /// Of what.
        what: &'static str,
        /// What the program says.
        said: u64,
        /// What was counted here.
        counted: u64,
    },
    /// The items in the table are not those that were to be.
    #[error("other items were written than were to be: {written:?} instead of {expected:?}")]
    Written {
        /// What the table took.
        written: ItemSum,
        /// What it should have taken.
        expected: ItemSum,
    },
}

impl Highwater {
    /// The program at this path, run against this server.
    pub fn new(program: &Path, server: &ReplayServer) -> Result<Self, RunError> {
        Ok(Self {
            // It does not run in this folder.
            program: std::path::absolute(program)?,
            endpoint_url: server.endpoint_url().to_owned(),
            folder: tempfile::tempdir()?,
        })
    }

    /// A folder that goes with this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command to its end, which must be this exit code. No flag and no credentials come from outside.
    pub async fn run(
        &self,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        code: i32,
    ) -> Result<Ended, RunError> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let folder = self.folder();
        let [result, talk] = ["result.json", "talk.txt"].map(|name| folder.join(name));
        let mut control = OsString::from("local:");
        control.push(folder.join("control.db"));
        let url = &self.endpoint_url;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("TMPDIR", folder)
            .current_dir(folder)
            .args(&arguments)
            .args(["--endpoint-url", url, "--s3-endpoint-url", url])
            .args(["--region", "us-east-1", "--json", "--quiet"])
            .arg("--control")
            .arg(control)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&result)?)
            .stderr(fs::File::create(&talk)?);
        let usage = measure(command).await?;
        if usage.status.code() != Some(code) {
            let command = arguments
                .first()
                .map(|it| it.to_string_lossy().into_owned());
            return Err(RunError::Failed {
                command: command.unwrap_or_default(),
                status: usage.status,
                stderr: fs::read_to_string(&talk)?,
            });
        }
        let result = serde_json::from_slice(&fs::read(&result)?);
        let result = result.map_err(|_| RunError::Result("JSON".into()))?;
        Ok(Ended { usage, result })
    }
}

impl Ended {
    /// A number of the result, by its JSON pointer.
    pub fn number(&self, pointer: &str) -> Result<u64, RunError> {
        let number = self.result.pointer(pointer).and_then(Value::as_u64);
        number.ok_or_else(|| RunError::Result(pointer.to_owned()))
    }

    /// Compares numbers of the result with what was counted here.
    pub(crate) fn require(&self, sums: &[(&'static str, &str, u64)]) -> Result<(), RunError> {
        for &(what, pointer, counted) in sums {
            let said = self.number(pointer)?;
            if said != counted {
                return Err(RunError::Sums {
                    what,
                    said,
                    counted,
                });
            }
        }
        Ok(())
    }

    /// Requires that the result says yes, or no.
    pub(crate) fn require_answer(&self, pointer: &str, answer: bool) -> Result<(), RunError> {
        if self.result.pointer(pointer) == Some(&Value::Bool(answer)) {
            return Ok(());
        }
        Err(RunError::Result(format!("{pointer}: {answer}")))
    }
}
