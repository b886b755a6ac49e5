//! A folder as an object store: the target of `file://`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::large_buffer::large_buffer;
use highwater_domain::object_store::{Creation, ListPage, NewObject, ObjectFacts, ObjectStore};

use crate::directory_listing::{Listing, is_absent};
use crate::whole_file::write_whole;

/// Where objects grow before they are moved to their place in one step. No key can begin with it.
pub(crate) const TEMPORARY: &str = ".highwater-tmp";
/// A temporary file untouched for so long belongs to a process that died.
const ABANDONED: Duration = Duration::from_hours(24);
/// The longest name of one file, on every file system in common use.
const NAME_BYTES: usize = 255;
/// Objects and folders on a page of a listing, as S3's.
const PAGE: usize = 1000;

/// A folder that behaves like a bucket: keys are paths below it, objects are files.
///
/// An object is written beside the tree, synced, and linked into it without replacing anything, so
/// that a crash leaves it whole or not at all, and of two writers one wins. The folder is made by
/// the first write; until then it reads as empty. User metadata is not kept: no item counts.
///
/// Keys that are no plain relative path are refused. On a file system that folds letter case, keys
/// that differ only by case are one.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    name: String,
    cleaned: std::sync::Arc<Once>,
}

impl DirectoryStore {
    /// The store in the folder `root`. Touches nothing yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let name = root.file_name().map_or_else(
            || "/".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        Self {
            root,
            name,
            cleaned: std::sync::Arc::new(Once::new()),
        }
    }

    /// The object's file, if the key can name one.
    fn path(&self, operation: &'static str, key: &str) -> Result<PathBuf, Failure> {
        let refuse = |reason: &str| {
            let resource = format!("{} in {}", key.escape_debug(), self.root.display());
            Err(Failure::new(
                FailureKind::Invalid,
                operation,
                resource,
                reason,
            ))
        };
        for part in key.split('/') {
            match part {
                "" => return refuse("a key in a directory has no empty components"),
                "." | ".." => return refuse("a key in a directory has no `.` or `..` components"),
                _ if part.contains(['\0', std::path::MAIN_SEPARATOR]) => {
                    return refuse("a key in a directory has no NUL and no path separator in it");
                }
                _ if part.len() > NAME_BYTES => {
                    return refuse("a component of the key is longer than 255 bytes");
                }
                _ => {}
            }
        }
        if key.split('/').next() == Some(TEMPORARY) {
            return refuse("this folder is where unfinished objects are kept");
        }
        Ok(self.root.join(key))
    }

    /// A prefix may end in the middle of a name, or in `/`.
    fn check_prefix(&self, operation: &'static str, prefix: &str) -> Result<(), Failure> {
        match prefix.rsplit_once('/') {
            Some((folder, _)) => self.path(operation, folder).map(|_| ()),
            None => Ok(()),
        }
    }

    async fn write(
        &self,
        operation: &'static str,
        object: NewObject,
        replaces: bool,
    ) -> Result<Creation, Failure> {
        let path = self.path(operation, &object.key)?;
        let root = self.root.clone();
        let cleaned = std::sync::Arc::clone(&self.cleaned);
        blocking(operation, path.clone(), move || {
            cleaned.call_once(|| remove_abandoned(&root.join(TEMPORARY)));
            write_whole(&root, &path, &object.body, replaces)
        })
        .await
    }

    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        folders: bool,
    ) -> Result<ListPage, Failure> {
        self.check_prefix("list directory", prefix)?;
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let root = self.root.clone();
        blocking("list directory", root.clone(), move || {
            Listing {
                prefix: &prefix,
                after: after.as_deref(),
                folders,
                limit: PAGE,
                hidden: TEMPORARY,
            }
            .page(&root)
        })
        .await
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    fn url(&self, key: &str) -> String {
        self.root.join(key).display().to_string()
    }

    fn bucket(&self) -> &str {
        &self.name
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        self.write("create file", object, false).await
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.write("replace file", object, true).await.map(|_| ())
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        let path = self.path("read file", key)?;
        blocking("read file", path.clone(), move || {
            match fs::File::open(&path).and_then(|file| read_range(file, 0..u64::MAX)) {
                Ok(body) => Ok(Some(body)),
                Err(error) if is_no_object(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        let path = self.path("read file", key)?;
        blocking("read file", path.clone(), move || {
            match fs::File::open(&path).and_then(|file| read_range(file, range)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if is_no_object(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        let path = self.path("stat file", key)?;
        blocking("stat file", path.clone(), move || {
            match fs::metadata(&path) {
                Ok(facts) => Ok(facts.is_file().then_some(ObjectFacts {
                    bytes: facts.len(),
                    sha256: None,
                    item_count: None,
                    user_metadata: BTreeMap::new(),
                })),
                Err(error) if is_no_object(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.list_page(prefix, after, false).await
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.list_page(prefix, after, true).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        for key in keys {
            let path = self.path("delete file", key)?;
            let root = self.root.clone();
            blocking("delete file", path.clone(), move || delete(&root, &path)).await?;
        }
        Ok(())
    }
}

/// The bytes of the range that the file has.
fn read_range(mut file: fs::File, range: Range<u64>) -> io::Result<Bytes> {
    let facts = file.metadata()?;
    if facts.is_dir() {
        // A folder opens like a file; only reading from it would fail.
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if range.start >= facts.len() {
        return Ok(Bytes::new());
    }
    file.seek(io::SeekFrom::Start(range.start))?;
    let end = range.end.min(facts.len());
    let mut bytes = large_buffer(end.saturating_sub(range.start));
    file.take(range.end.saturating_sub(range.start))
        .read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// Runs file work off the runtime's threads. It goes on to its end even if nobody waits any more.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: PathBuf,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let outcome = match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(io::Error::other(error)),
    };
    outcome.map_err(|error| {
        Failure::new(
            kind_of(&error),
            operation,
            path.display().to_string(),
            error.to_string(),
        )
        .with_source(error)
    })
}

/// What a caller can do about a failed file operation.
fn kind_of(error: &io::Error) -> FailureKind {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::ReadOnlyFilesystem | Kind::FileTooLarge => {
            FailureKind::NotWritable
        }
        Kind::PermissionDenied => FailureKind::Denied,
        Kind::NotFound => FailureKind::NotFound,
        Kind::InvalidFilename
        | Kind::InvalidInput
        | Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::DirectoryNotEmpty => FailureKind::Invalid,
        Kind::Interrupted | Kind::TimedOut | Kind::ResourceBusy | Kind::StaleNetworkFileHandle => {
            FailureKind::Transient
        }
        _ => FailureKind::Other,
    }
}

/// No object has this key: nothing is there, or a folder is.
fn is_no_object(error: &io::Error) -> bool {
    is_absent(error) || error.kind() == io::ErrorKind::IsADirectory
}

/// Removes one object, and the folders that it leaves empty.
fn delete(root: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if is_no_object(&error) || path.is_dir() => return Ok(()),
        Err(error) => return Err(error),
    }
    let folders = path.ancestors().skip(1);
    for folder in folders.take_while(|folder| *folder != root) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// Removes what dead processes left. Best effort: a leftover costs space, not truth.
fn remove_abandoned(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else {
        return;
    };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|facts| facts.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let path = entry.path();
            match fs::remove_file(&path) {
                Ok(()) => tracing::info!(?path, "removed an abandoned temporary file"),
                Err(error) => tracing::warn!(?path, %error, "an abandoned temporary file stays"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_can_be_done() {
        use io::ErrorKind as Kind;
        for (kind, expected) in [
            (Kind::StorageFull, FailureKind::NotWritable),
            (Kind::QuotaExceeded, FailureKind::NotWritable),
            (Kind::ReadOnlyFilesystem, FailureKind::NotWritable),
            (Kind::PermissionDenied, FailureKind::Denied),
            (Kind::NotADirectory, FailureKind::Invalid),
            (Kind::InvalidFilename, FailureKind::Invalid),
            (Kind::Other, FailureKind::Other),
        ] {
            assert_eq!(kind_of(&kind.into()), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_systems_own_numbers_are_understood() {
        // ENOSPC, EDQUOT, EROFS, EACCES, ENAMETOOLONG.
        for (number, expected) in [
            (28, FailureKind::NotWritable),
            (122, FailureKind::NotWritable),
            (30, FailureKind::NotWritable),
            (13, FailureKind::Denied),
            (36, FailureKind::Invalid),
        ] {
            assert_eq!(kind_of(&io::Error::from_raw_os_error(number)), expected);
        }
    }
}
