//! Keys that are too long for `s3s-fs`, which keeps what it knows of an object in files named by the whole key.
//!
//! An object of such a key is one file with two names: its own, by which listings find it, and the key's hash in a
//! folder beside the buckets, by which `s3s-fs` reads and writes it. It is there once it has its own name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The longest name of one file, on every file system in common use.
const FILE_NAME_BYTES: usize = 255;

/// The longest key: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>.
const KEY_BYTES: usize = 1024;

/// An upload id is a UUID; a file of an upload is named by both.
const UPLOAD_SUFFIX_BYTES: usize = ".upload-".len() + 36;

/// The folder of the hashes. No bucket can have its name.
const FOLDER: &str = ".highwater-long-keys";

/// Whether a key and all of its components fit.
pub(crate) fn fits(key: &str) -> bool {
    key.len() <= KEY_BYTES && key.split('/').all(|part| part.len() <= FILE_NAME_BYTES)
}

/// What `s3s-fs` is told instead of bucket and key; mostly just these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FiledAs {
    pub(crate) bucket: String,
    pub(crate) key: String,
    by_hash: bool,
}

impl FiledAs {
    pub(crate) fn of(bucket: &str, key: &str) -> Self {
        let own = Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            by_hash: false,
        };
        if own.metadata_file().len() + UPLOAD_SUFFIX_BYTES <= FILE_NAME_BYTES {
            return own;
        }
        // No bucket has a slash in its name.
        let hash = Sha256::digest(format!("{bucket}/{key}"));
        Self {
            bucket: FOLDER.to_owned(),
            key: hex::encode(hash),
            by_hash: true,
        }
    }

    /// Whether the key itself is too long.
    pub(crate) fn is_by_hash(&self) -> bool {
        self.by_hash
    }

    /// Where `s3s-fs` keeps user metadata.
    pub(crate) fn metadata_file(&self) -> String {
        self.beside("metadata")
    }

    /// Where `s3s-fs` keeps checksums and the `ETag`.
    pub(crate) fn info_file(&self) -> String {
        self.beside("internal")
    }

    fn beside(&self, what: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (bucket, key) = (encode(&self.bucket), encode(&self.key));
        format!(".bucket-{bucket}.object-{key}.{what}.json")
    }

    /// The file that `s3s-fs` writes.
    pub(crate) fn file(&self, root: &Path) -> PathBuf {
        root.join(&self.bucket).join(&self.key)
    }

    /// Before a write: what a crash left of an object that never got its own name is cleared away.
    pub(crate) fn prepare(&self, root: &Path, own: &Path) -> io::Result<()> {
        if !self.by_hash {
            return Ok(());
        }
        fs::create_dir_all(root.join(FOLDER))?;
        if !own.is_file() {
            self.remove(root)?;
        }
        Ok(())
    }

    /// After a write: gives the object its own name.
    pub(crate) fn reveal(&self, root: &Path, own: &Path) -> io::Result<()> {
        if !self.by_hash {
            return Ok(());
        }
        if let Some(folder) = own.parent() {
            fs::create_dir_all(folder)?;
        }
        self.link(root, &self.file(root), own)
    }

    /// After a write that failed: the object is what it was before, or not there.
    pub(crate) fn take_back(&self, root: &Path, own: &Path) -> io::Result<()> {
        match own.is_file() {
            true if self.by_hash => self.link(root, own, &self.file(root)),
            true => Ok(()),
            false => self.remove(root),
        }
    }

    /// Removes the file that `s3s-fs` wrote and what it keeps beside it.
    pub(crate) fn remove(&self, root: &Path) -> io::Result<()> {
        remove_if_there(&self.file(root))?;
        remove_if_there(&root.join(self.metadata_file()))?;
        remove_if_there(&root.join(self.info_file()))
    }

    /// Makes `new` another name of `file`, at once even if it was the name of another.
    fn link(&self, root: &Path, file: &Path, new: &Path) -> io::Result<()> {
        let step = root.join(FOLDER).join(format!("{}.link", self.key));
        remove_if_there(&step)?;
        fs::hard_link(file, &step)?;
        fs::rename(&step, new)?;
        // Where both were names of one file already, the system has done nothing.
        remove_if_there(&step)
    }
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_are_left_alone_and_others_are_distinct() {
        let short = FiledAs::of("bucket", "a/b");
        assert_eq!(
            (short.bucket.as_str(), short.key.as_str()),
            ("bucket", "a/b")
        );
        let long = "k".repeat(200);
        let filed = FiledAs::of("bucket", &long);
        assert!(filed.by_hash);
        assert!(filed.metadata_file().len() + UPLOAD_SUFFIX_BYTES <= FILE_NAME_BYTES);
        assert_ne!(filed, FiledAs::of("other", &long));
        assert_ne!(filed, FiledAs::of("bucket", &format!("{long}x")));
    }

    /// A crash after the write and before the name: the object is not there, and can be made.
    #[test]
    fn what_has_no_name_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let filed = FiledAs::of("bucket", &"k".repeat(200));
        let own = root.join("bucket/folder/object");
        filed.prepare(root, &own).unwrap();
        fs::write(filed.file(root), "torn").unwrap();
        filed.prepare(root, &own).unwrap();
        assert!(!filed.file(root).exists());

        fs::write(filed.file(root), "whole").unwrap();
        for _ in 0..2 {
            filed.reveal(root, &own).unwrap();
            assert_eq!(fs::read_to_string(&own).unwrap(), "whole");
        }
        let names = fs::read_dir(own.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "no step is left");

        // A replacement that fails leaves the object as it was.
        fs::remove_file(filed.file(root)).unwrap();
        fs::write(filed.file(root), "wrong").unwrap();
        filed.take_back(root, &own).unwrap();
        assert_eq!(fs::read_to_string(filed.file(root)).unwrap(), "whole");
    }
}
