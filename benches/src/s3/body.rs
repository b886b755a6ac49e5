//! Bodies of objects: in memory, in files, or gone.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

/// Bodies up to this length are kept in memory in any case.
const SMALL_BYTES: usize = 4 << 10;

/// A temporary folder for bodies.
#[derive(Debug)]
pub(super) struct BodyFolder {
    folder: TempDir,
    files: AtomicU64,
}

impl BodyFolder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            files: AtomicU64::new(0),
        })
    }

    fn next(&self) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }
}

/// One body.
#[derive(Debug)]
pub(super) enum Body {
    Held(Bytes),
    /// Removed when this is dropped.
    File {
        path: PathBuf,
        length: usize,
    },
    Dropped,
}

impl Body {
    /// Keeps a body: in `folder` if it is not small, else in memory. `None` is one that was dropped.
    pub(super) fn keep(body: Option<Bytes>, folder: Option<&BodyFolder>) -> io::Result<Self> {
        Ok(match (body, folder) {
            (None, _) => Self::Dropped,
            (Some(body), Some(folder)) if body.len() > SMALL_BYTES => {
                let path = folder.next();
                fs::write(&path, &body)?;
                Self::File {
                    path,
                    length: body.len(),
                }
            }
            (Some(body), _) => Self::Held(body),
        })
    }

    /// Its length; `None` if it was dropped.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Held(body) => Some(body.len()),
            Self::File { length, .. } => Some(*length),
            Self::Dropped => None,
        }
    }

    /// The bytes of a range that lies in it.
    pub(super) fn read(&self, range: Range<usize>) -> io::Result<Bytes> {
        match self {
            Self::Held(body) => Ok(body.slice(range)),
            Self::File { path, .. } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(range.start as u64))?;
                let mut bytes = vec![0; range.len()];
                file.read_exact(&mut bytes)?;
                Ok(bytes.into())
            }
            Self::Dropped => Ok(Bytes::new()),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Self::File { path, .. } = self {
            // What stays goes with the folder.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_back_from_wherever_it_is_and_its_file_goes_with_it() {
        let folder = BodyFolder::new().unwrap();
        let files = || fs::read_dir(folder.folder.path()).unwrap().count();
        for (length, in_folder) in [(0, 0), (SMALL_BYTES, 0), (SMALL_BYTES + 1, 1), (100_000, 1)] {
            let bytes: Bytes = (0..=250_u8).cycle().take(length).collect();
            for folder in [None, Some(&folder)] {
                let body = Body::keep(Some(bytes.clone()), folder).unwrap();
                assert_eq!(body.len(), Some(length));
                assert_eq!(body.read(0..length).unwrap(), bytes);
                assert_eq!(
                    body.read(length / 3..length / 2).unwrap(),
                    bytes[length / 3..length / 2]
                );
                assert_eq!(files(), if folder.is_some() { in_folder } else { 0 });
            }
            assert_eq!(files(), 0);
        }
        assert_eq!(Body::keep(None, Some(&folder)).unwrap().len(), None);
    }
}
