//! A dump into a file, which has its name only when it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::line_sink::LineSink;
use tempfile::NamedTempFile;

/// A file in the making.
///
/// It grows under a temporary name in the same folder, is synced, and renamed over whatever had its name. What is
/// no plain file (a pipe, a device) is written to directly and can promise no such thing.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Growing(NamedTempFile),
    Direct(File),
    Shown,
    /// It failed, or was given up.
    Over,
}

impl FileSink {
    /// Begins a file that will be `path`.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| io_failure("create file", path, &error);
        // A link stays a link: what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let state = match fs::metadata(&path) {
            Ok(there) if there.is_dir() => {
                return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
            }
            Ok(there) if !there.is_file() => {
                State::Direct(File::options().write(true).open(&path).map_err(failed)?)
            }
            there => {
                // As a program that creates the file would: what it was, or what the user's mask leaves.
                let mode = there.map_or(0o666, |there| there.permissions().mode());
                let file = tempfile::Builder::new()
                    .prefix(".highwater-dump-")
                    .permissions(fs::Permissions::from_mode(mode))
                    .tempfile_in(folder(&path));
                State::Growing(file.map_err(failed)?)
            }
        };
        Ok(Self {
            path,
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Does `work` where waiting for a disk holds nobody up. After an error nothing works any more, and what has
    /// grown so far is gone.
    async fn on_disk(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut State, &Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Failure> {
        let (state, path) = (self.state.clone(), self.path.clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(&mut state, &path);
            if done.is_err() {
                *state = State::Over;
            }
            done
        });
        let done = done
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| io_failure(operation, &self.path, &error))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn over() -> io::Error {
    io::Error::other("the file was given up after an earlier failure")
}

#[async_trait]
impl LineSink for FileSink {
    fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    async fn write(&self, lines: Bytes) -> Result<(), Failure> {
        self.on_disk("write file", move |state, _| match state {
            State::Growing(file) => file.write_all(&lines),
            State::Direct(file) => file.write_all(&lines),
            State::Shown | State::Over => Err(over()),
        })
        .await
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.on_disk("sync file", |state, _| match state {
            State::Growing(file) => file.as_file().sync_all(),
            // Pipes and most devices cannot be synced.
            State::Direct(_) => Ok(()),
            State::Shown | State::Over => Err(over()),
        })
        .await
    }

    async fn commit(&self) -> Result<(), Failure> {
        self.on_disk("rename file", |state, path| {
            match std::mem::replace(state, State::Shown) {
                State::Growing(file) => {
                    file.persist(path).map_err(|error| error.error)?;
                    // The name, too, must outlive a power cut.
                    File::open(folder(path))?.sync_all()
                }
                State::Direct(_) => Ok(()),
                State::Shown | State::Over => Err(over()),
            }
        })
        .await
    }

    async fn abandon(&self) -> Result<(), Failure> {
        self.on_disk("remove file", |state, _| {
            match std::mem::replace(state, State::Over) {
                State::Growing(file) => file.close(),
                _ => Ok(()),
            }
        })
        .await
    }
}

/// An error of the file system in the words of the ports.
pub fn io_failure(operation: &'static str, path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => FailureKind::NotFound,
        io::ErrorKind::PermissionDenied => FailureKind::Denied,
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::FileTooLarge => FailureKind::NotWritable,
        io::ErrorKind::IsADirectory => FailureKind::Invalid,
        _ => FailureKind::Other,
    };
    Failure::new(
        kind,
        operation,
        path.display().to_string(),
        error.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn b11_a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        fs::write(&path, "an older dump\n").unwrap();
        let sink = FileSink::create(&path).unwrap();
        sink.write(lines("one\n")).await.unwrap();
        sink.write(lines("two\n")).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "an older dump\n");
        sink.commit().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(names(folder.path()), ["dump.json"]);
        assert!(sink.write(lines("three\n")).await.is_err());
    }

    #[tokio::test]
    async fn b11_what_was_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        let sink = FileSink::create(&path).unwrap();
        sink.write(lines("one\n")).await.unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        sink.abandon().await.unwrap();
        assert_eq!(names(folder.path()), [""; 0]);
        assert!(sink.commit().await.is_err());
        drop(FileSink::create(&path).unwrap());
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[tokio::test]
    async fn a_link_stays_a_link_and_a_device_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [&link, Path::new("/dev/null")] {
            let sink = FileSink::create(path).unwrap();
            sink.write(lines("new\n")).await.unwrap();
            sink.flush().await.unwrap();
            sink.commit().await.unwrap();
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new\n");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn what_cannot_be_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |path: &Path| FileSink::create(path).unwrap_err().kind;
        assert_eq!(kind(folder.path()), FailureKind::Invalid);
        assert_eq!(kind(&folder.path().join("no/dump")), FailureKind::NotFound);
    }
}
