//! Writes files that are there whole or not at all, also after a power cut.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use highwater_domain::object_store::Creation;
use tempfile::NamedTempFile;

use crate::directory_store::TEMPORARY;

/// How often a write begins anew because a delete took away the folder it was about to use.
const ATTEMPTS: u32 = 100;

/// Writes the bytes beside the tree and moves them into it in one step.
pub(crate) fn write_whole(
    root: &Path,
    path: &Path,
    body: &[u8],
    replaces: bool,
) -> io::Result<Creation> {
    let temporary = root.join(TEMPORARY);
    fs::create_dir_all(&temporary)?;
    let mut file = new_file(&temporary)?;
    file.write_all(body)?;
    file.as_file().sync_all()?;
    let folder = path.parent().unwrap_or(root);
    let mut attempts = 0;
    loop {
        if let Err(error) = fs::create_dir_all(folder) {
            // A rival's delete took a folder away while the next one was made in it, or just before it was
            // looked at. What is wrong for good is still wrong the hundredth time.
            let passing = matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
            );
            if passing && attempts < ATTEMPTS {
                attempts += 1;
                continue;
            }
            return Err(in_the_way(error, folder));
        }
        let moved = if replaces {
            file.persist(path)
        } else {
            file.persist_noclobber(path)
        };
        let Err(refused) = moved else {
            break;
        };
        match refused.error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory if path.is_dir() => {
                return Err(io::Error::new(
                    io::ErrorKind::IsADirectory,
                    "in a directory no key can be the folder of others",
                ));
            }
            io::ErrorKind::AlreadyExists if !replaces => return Ok(Creation::Exists),
            // A rival's delete took the empty folder away in between.
            io::ErrorKind::NotFound if attempts < ATTEMPTS => attempts += 1,
            _ => return Err(refused.error),
        }
        file = refused.file;
    }
    sync_folders(root, folder)?;
    Ok(Creation::Created)
}

/// Says what a folder on an object's way means; other errors stay as they are.
fn in_the_way(error: io::Error, folder: &Path) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => io::Error::new(
            io::ErrorKind::NotADirectory,
            format!(
                "no folder {} can be made: a file is on the way",
                folder.display()
            ),
        ),
        _ => error,
    }
}

/// A temporary file that will have the rights of any other new file.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes the names on the way to a new object survive a power cut, as its bytes already do.
fn sync_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        // Elsewhere folders cannot be opened as files, and the system orders such writes itself.
        return Ok(());
    }
    let within = folder.ancestors().take_while(|path| path.starts_with(root));
    for path in within.chain(root.parent()) {
        match fs::File::open(path).and_then(|folder| folder.sync_all()) {
            // Not every folder above the store may be read, and not every file system syncs folders.
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::Unsupported
                        | io::ErrorKind::NotFound
                ) =>
            {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}
