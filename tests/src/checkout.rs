//! The files of this repository, for tests that hold them together.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;
use thiserror::Error;

/// A file of the repository that a test cannot do without.
#[derive(Debug, Error)]
pub enum CheckoutError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// A path in the repository, given relative to its root.
#[must_use]
pub fn path(relative: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join(relative)
}

/// The text of a file.
pub fn text(relative: &str) -> Result<String, CheckoutError> {
    let path = path(relative);
    fs::read_to_string(&path).map_err(|source| CheckoutError::Io { path, source })
}

/// A JSON file.
pub fn json(relative: &str) -> Result<Value, CheckoutError> {
    let text = text(relative)?;
    let path = path(relative);
    serde_json::from_str(&text).map_err(|source| CheckoutError::Json { path, source })
}

/// The names of a folder's entries, in order, without hidden ones: these are tools' settings.
pub fn entries(relative: &str) -> Result<Vec<String>, CheckoutError> {
    let path = path(relative);
    let name_of = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let names = fs::read_dir(&path).and_then(|entries| entries.map(name_of).collect());
    let mut names: Vec<String> = names.map_err(|source| CheckoutError::Io { path, source })?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

/// The paths of every Rust file of the workspace, in order.
pub fn rust_files() -> Result<Vec<PathBuf>, CheckoutError> {
    let mut folders: Vec<PathBuf> = ["benches", "cli", "functions", "shared", "tests"]
        .map(path)
        .into();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let failed = |source| CheckoutError::Io {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
