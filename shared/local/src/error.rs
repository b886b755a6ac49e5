//! Why an engine does not start.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An engine on this machine could not be started or prepared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// No port on the loopback interface.
    #[error("the embedded {engine} cannot listen on 127.0.0.1")]
    Listen {
        /// `DynamoDB` or `S3`.
        engine: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened: it is no database, or it is locked, or it may not be read.
    #[error("the database {path:?} cannot be opened: {reason}")]
    Database {
        /// The file, or `:memory:`.
        path: PathBuf,
        /// The engine's words.
        reason: String,
    },
    /// A folder cannot be made or used.
    #[error("the folder {path:?} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process serves this folder as an S3; two at once would mix up their uploads.
    #[error("the folder {path:?} is already served by another embedded S3")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Items could not be loaded; none was.
    #[error("items cannot be imported into the table {table:?}: {reason}")]
    Import {
        /// The table.
        table: String,
        /// The engine's words, or what is wrong with an item.
        reason: String,
    },
    /// S3 allows no bucket of this name.
    #[error(
        "{0:?} is not a bucket name: 3 to 63 lower-case letters, digits, `-` or `.`, beginning and ending with a letter or digit"
    )]
    BucketName(String),
    /// The engine refused what it was to be filled with.
    #[error("the embedded DynamoDB refused the data: {reason}")]
    Seed {
        /// The engine's words.
        reason: String,
    },
}
