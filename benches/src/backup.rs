//! `highwater backup` of a replayed table, held against what passed the server.

use std::ffi::OsString;

use crate::command::{Highwater, RunError};
use crate::process::Usage;
use crate::server::ReplayServer;
use crate::table::Served;

/// The bucket that backups go to.
const BUCKET: &str = "replay";

/// How many segments a backup has here unless something else is measured.
pub const SEGMENTS: u32 = 4;

/// What a line has beside its item: `{"Item":`, `}` and its end.
const LINE_BYTES: u64 = 10;

/// A backup that was made, and what it cost.
#[derive(Clone, Debug)]
pub struct BackupRun {
    /// What the process used.
    pub usage: Usage,
    /// Where it is.
    pub url: String,
    /// What it was served.
    pub served: Served,
    /// What it stored as parts, in bytes.
    pub stored_bytes: u64,
    /// The bytes of the items' JSON in them, as it says.
    pub item_bytes: u64,
}

/// Backs up one table of the server in so many segments.
///
/// Nothing else may use the server at the same time. `more` are further flags.
pub async fn run(
    highwater: &Highwater,
    server: &ReplayServer,
    table: &str,
    segments: u32,
    more: &[OsString],
) -> Result<BackupRun, RunError> {
    let before = server.served();
    let to = format!("s3://{BUCKET}");
    let fixed = [
        "backup",
        table,
        "--to",
        &to,
        "--segments",
        &segments.to_string(),
        "--read-capacity",
        "0",
    ];
    let arguments = fixed
        .map(OsString::from)
        .into_iter()
        .chain(more.iter().cloned());
    let ended = highwater.run(arguments, 0).await?;
    let counted = since(before, server.served());
    let url = ended.result["url"].as_str();
    let url = url
        .ok_or_else(|| RunError::Result("url".into()))?
        .to_owned();
    let root = url
        .strip_prefix("s3://")
        .and_then(|url| url.split_once('/'))
        .map(|(_, root)| root)
        .ok_or_else(|| RunError::Result("url in S3".into()))?;
    // As the program read it back from `backup.json`.
    let parts = server.stored_below(BUCKET, &format!("{root}data/"));
    ended.require(&[
        ("items", "/backup/item_count", counted.items),
        ("parts", "/backup/part_count", parts.objects),
        ("bytes of parts", "/backup/compressed_bytes", parts.bytes),
    ])?;
    Ok(BackupRun {
        usage: ended.usage,
        url,
        served: counted,
        stored_bytes: parts.bytes,
        item_bytes: ended
            .number("/backup/uncompressed_bytes")?
            .saturating_sub(LINE_BYTES * counted.items),
    })
}

fn since(before: Served, now: Served) -> Served {
    Served {
        pages: now.pages - before.pages,
        items: now.items - before.items,
        wire_bytes: now.wire_bytes - before.wire_bytes,
    }
}
