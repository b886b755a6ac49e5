//! Runs the real `highwater backup` against a replay server, and checks its sums.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::{fs, io};

use serde_json::Value;
use thiserror::Error;
use tokio::process::Command;

use crate::data_set::DataSet;
use crate::process::{ProcessError, Usage, measure};
use crate::server::ReplayServer;
use crate::table::Served;

/// The bucket that backups go to.
const BUCKET: &str = "replay";

/// A backup that was made, and what it cost.
#[derive(Clone, Copy, Debug)]
pub struct BackupRun {
    /// What the process used.
    pub usage: Usage,
    /// What it was served.
    pub served: Served,
    /// What it stored as parts, in bytes.
    pub stored_bytes: u64,
}

/// A backup failed, or is not of what was served.
#[derive(Debug, Error)]
pub enum BackupError {
    /// It could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A temporary file could not be made or read.
    #[error("a temporary file: {0}")]
    Temporary(#[from] io::Error),
    /// It ended without success.
    #[error("the backup ended with {status}: {stderr}")]
    Failed {
        /// How.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Its result is not what the bench understands.
    #[error("the backup's result has no {0}")]
    Result(&'static str),
    /// Two sums that must be equal are not.
    #[error("{what}: the backup says {said}, the server counted {counted}")]
    Sums {
        /// Of what.
        what: &'static str,
        /// What `backup.json` says.
        said: u64,
        /// What passed the server.
        counted: u64,
    },
}

/// Backs up one table of the server with the program `highwater`, four segments at once.
///
/// Nothing else may use the server at the same time. `more` are further flags.
pub async fn run(
    highwater: &Path,
    server: &ReplayServer,
    table: DataSet,
    more: &[OsString],
) -> Result<BackupRun, BackupError> {
    let before = server.served();
    let folder = tempfile::tempdir()?;
    let [result, talk] = ["result.json", "talk.txt"].map(|name| folder.path().join(name));
    let mut control = OsString::from("local:");
    control.push(folder.path().join("control.db"));
    let url = server.endpoint_url();
    let mut command = Command::new(highwater);
    // No flag and no credentials from outside.
    command
        .env_clear()
        .args(["backup", table.name(), "--to", &format!("s3://{BUCKET}")])
        .args(["--endpoint-url", url, "--s3-endpoint-url", url])
        .args(["--region", "us-east-1", "--segments", "4"])
        .args(["--read-capacity", "0", "--json", "--quiet"])
        .arg("--control")
        .arg(control)
        .args(more)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&result)?)
        .stderr(fs::File::create(&talk)?);
    let usage = measure(command).await?;
    if !usage.status.success() {
        return Err(BackupError::Failed {
            status: usage.status,
            stderr: fs::read_to_string(&talk)?,
        });
    }
    let result = serde_json::from_slice(&fs::read(&result)?);
    let result: Value = result.map_err(|_| BackupError::Result("JSON"))?;
    let counted = since(before, server.served());
    let stored_bytes = check(&result, server, counted)?;
    Ok(BackupRun {
        usage,
        served: counted,
        stored_bytes,
    })
}

fn since(before: Served, now: Served) -> Served {
    Served {
        pages: now.pages - before.pages,
        items: now.items - before.items,
        wire_bytes: now.wire_bytes - before.wire_bytes,
    }
}

/// Holds `backup.json`, as the program read it back, against what passed the server.
fn check(result: &Value, server: &ReplayServer, counted: Served) -> Result<u64, BackupError> {
    let number = |name: &'static str| {
        let number = result["backup"][name].as_u64();
        number.ok_or(BackupError::Result(name))
    };
    let root = result["url"]
        .as_str()
        .and_then(|url| url.strip_prefix("s3://")?.split_once('/'))
        .map(|(_, root)| root)
        .ok_or(BackupError::Result("url"))?;
    let parts = server.stored_below(BUCKET, &format!("{root}data/"));
    for (what, said, passed) in [
        ("items", number("item_count")?, counted.items),
        ("parts", number("part_count")?, parts.objects),
        ("bytes of parts", number("compressed_bytes")?, parts.bytes),
    ] {
        if said != passed {
            return Err(BackupError::Sums {
                what,
                said,
                counted: passed,
            });
        }
    }
    Ok(parts.bytes)
}
