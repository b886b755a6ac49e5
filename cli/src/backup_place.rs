//! Where a backup is, as people name it: an id with its place, a URL, a path, or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use highwater_domain::backup_source::SourceLocation;
use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::Destination;
use highwater_steps::{StepError, snapshot_info};
use tempfile::TempDir;

use crate::args::Global;
use crate::connect;
use crate::error::CliError;

/// A backup's location, and the folder that stands for standard input, which goes with this value.
#[derive(Debug)]
pub struct BackupPlace {
    /// Where it is.
    pub location: SourceLocation,
    _spool: Option<TempDir>,
}

/// Standard input is kept in files of about so many bytes, so that several can be loaded at once.
const SPOOL_FILE_BYTES: u64 = 64 << 20;

/// Finds out what `backup` names. `from` is where snapshots of an id are looked for.
pub async fn find(
    backup: &str,
    from: Option<&Destination>,
    global: &Global,
) -> Result<BackupPlace, CliError> {
    let spool = match backup {
        "-" => Some(spool_stdin().await?),
        _ => None,
    };
    let location = match &spool {
        Some(folder) => of_path(folder.path())?,
        None => named(backup, from, global).await?,
    };
    Ok(BackupPlace {
        location,
        _spool: spool,
    })
}

async fn named(
    backup: &str,
    from: Option<&Destination>,
    global: &Global,
) -> Result<SourceLocation, CliError> {
    if backup.contains("://") {
        return Ok(backup.parse().map_err(StepError::from)?);
    }
    let Ok(id) = backup.parse::<SnapshotId>() else {
        return of_path(Path::new(backup));
    };
    let Some(from) = from else {
        return Err(CliError::Usage(format!(
            "{id} is a backup's id: say where it is, --from s3://BUCKET/PREFIX"
        )));
    };
    let store = connect::store(global, from).await?;
    let layout = snapshot_info::find(store.as_ref(), from.prefix(), None, &id).await?;
    let root = layout.root().trim_end_matches('/');
    let place = match from {
        Destination::S3 { bucket, .. } => format!("s3://{bucket}/{root}"),
        Destination::Directory { path } => format!("file://{}/{root}", path.trim_end_matches('/')),
    };
    Ok(place.parse().map_err(StepError::from)?)
}

/// A path of this machine, relative or absolute.
fn of_path(path: &Path) -> Result<SourceLocation, CliError> {
    let absolute: PathBuf = std::path::absolute(path)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    let text = absolute
        .to_str()
        .ok_or_else(|| CliError::Usage(format!("{} is not valid UTF-8", absolute.display())))?;
    Ok(format!("file://{text}").parse().map_err(StepError::from)?)
}

/// Copies standard input to files in a temporary folder: what cannot be read twice cannot be checked before it is
/// loaded, and cannot be loaded in parallel.
async fn spool_stdin() -> Result<TempDir, CliError> {
    let folder = tempfile::Builder::new()
        .prefix("highwater-stdin-")
        .tempdir()
        .map_err(CliError::Runtime)?;
    let path = folder.path().to_owned();
    let spooled = tokio::task::spawn_blocking(move || spool(&mut io::stdin().lock(), &path));
    match spooled.await {
        Ok(Ok(())) => Ok(folder),
        Ok(Err(error)) => Err(CliError::Runtime(io::Error::new(
            error.kind(),
            format!(
                "standard input cannot be kept in {}: {error}",
                folder.path().display()
            ),
        ))),
        Err(error) => Err(StepError::Internal(error.to_string()).into()),
    }
}

/// Cuts a stream into numbered files at line breaks; a compressed one stays whole, in a file of its own suffix.
fn spool(input: &mut impl io::Read, folder: &Path) -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let suffix = match input.fill_buf()? {
        [0x1f, 0x8b, ..] => Some("gz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zst"),
        _ => None,
    };
    if let Some(suffix) = suffix {
        let mut file = File::create(folder.join(format!("stdin.json.{suffix}")))?;
        io::copy(&mut input, &mut file)?;
        return file.flush();
    }
    let mut number = 0;
    let mut line = Vec::new();
    loop {
        let name = folder.join(format!("stdin-{number:06}.json"));
        let mut file = io::BufWriter::with_capacity(1 << 16, File::create(name)?);
        let mut written = 0;
        // An object that goes over several lines is indented, or its lines do not begin with a brace.
        while written < SPOOL_FILE_BYTES
            || !line.ends_with(b"\n")
            || input.fill_buf()?.first() != Some(&b'{')
        {
            line.clear();
            let read = io::Read::take(&mut input, SPOOL_FILE_BYTES).read_until(b'\n', &mut line)?;
            if read == 0 {
                return file.flush();
            }
            file.write_all(&line)?;
            written += read as u64;
        }
        file.flush()?;
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_kept_whole_in_files_cut_at_line_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("{{\"id\":{{\"S\":\"{}\"}}}}\n", "x".repeat(1 << 20));
        let lines = SPOOL_FILE_BYTES / line.len() as u64 + 3;
        let input = line.repeat(usize::try_from(lines).unwrap());
        spool(&mut input.as_bytes(), folder.path()).unwrap();
        let mut files: Vec<_> = folder
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert_eq!(files.len(), 2);
        let read: Vec<String> = files
            .iter()
            .map(|it| std::fs::read_to_string(it).unwrap())
            .collect();
        assert!(read.iter().all(|part| part.ends_with('\n')));
        assert!(read.concat() == input);
    }

    #[test]
    fn compressed_input_keeps_its_suffix() {
        let folder = tempfile::tempdir().unwrap();
        spool(&mut &[0x1f, 0x8b, 8, 0, 1, 2, 3][..], folder.path()).unwrap();
        let file = folder.path().join("stdin.json.gz");
        assert_eq!(std::fs::read(file).unwrap(), [0x1f, 0x8b, 8, 0, 1, 2, 3]);
    }
}
