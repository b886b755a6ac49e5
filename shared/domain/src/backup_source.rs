//! A backup as a list of files with items in them, whoever wrote it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::key::KeySchema;
use crate::layout::Destination;
use crate::snapshot::Status;
use crate::table::TableSettings;

/// Who wrote a backup, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A Highwater snapshot.
    Highwater,
    /// dyndump's parts and metadata, of either generation.
    Dyndump,
    /// DynamoDB's own full export.
    FullExport,
    /// DynamoDB's own incremental export: changes, not items.
    IncrementalExport,
    /// DynamoDB-JSON lines, in one file or several.
    Lines,
}

impl SourceKind {
    /// In people's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Highwater => "Highwater snapshot",
            Self::Dyndump => "dyndump backup",
            Self::FullExport => "AWS full export",
            Self::IncrementalExport => "AWS incremental export",
            Self::Lines => "DynamoDB-JSON lines",
        }
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// gzip, of any number of members.
    Gzip,
    /// zstd, of any number of frames.
    Zstd,
    /// Not at all.
    None,
}

/// What one line of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineShape {
    /// `{"Item":{…}}`: a full export's.
    Item,
    /// `{…}`: an item and nothing around it, dyndump's.
    Bare,
    /// `{"Metadata":…,"Keys":…,"OldImage":…,"NewImage":…}`: an incremental export's.
    Change,
    /// `{"Item":{…}}`, a bare item, or one of a typed dump, line by line.
    Any,
}

/// What a backup says of one of its files, beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClaims {
    /// Items inside.
    pub items: Option<u64>,
    /// MD5 of the file as stored, base64.
    pub md5: Option<String>,
    /// SHA-256 of the file as stored, hex.
    pub sha256: Option<String>,
    /// SHA-256 of the lines before compression, hex: dyndump's.
    pub plain_sha256: Option<String>,
}

impl FileClaims {
    /// Whether nothing but the file itself can vouch for its bytes.
    #[must_use]
    pub fn has_no_hash(&self) -> bool {
        self.md5.is_none() && self.sha256.is_none() && self.plain_sha256.is_none()
    }

    /// Whether this MD5 is all that a file's hashes have to be.
    #[must_use]
    pub fn is_all_in_md5(&self, md5: &[u8; 16]) -> bool {
        let no_other = self.sha256.is_none() && self.plain_sha256.is_none();
        no_other
            && self
                .md5
                .as_ref()
                .is_some_and(|claim| *claim == BASE64.encode(md5))
    }
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its key, from the root of the store.
    pub object: String,
    /// Its size as stored, in bytes: what the store said when the backup was looked at.
    pub stored_bytes: u64,
    /// How it is compressed.
    pub packing: Packing,
    /// What its lines are.
    pub shape: LineShape,
    /// What the backup says of it.
    pub claims: FileClaims,
}

/// A backup, looked at: everything that is known without reading an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// Where it is.
    pub url: String,
    /// Of which kind.
    pub kind: SourceKind,
    /// The table it was made from, where it says.
    pub table_name: Option<String>,
    /// Whether it is whole, where it says.
    pub status: Option<Status>,
    /// Items in all files, where it says.
    pub items: Option<u64>,
    /// Bytes of the lines, where it says.
    pub plain_bytes: Option<u64>,
    /// The primary key, where it says.
    pub key_schema: Option<KeySchema>,
    /// The table's settings, where they were kept.
    pub settings: Option<TableSettings>,
    /// The files, in a fixed order.
    pub files: Vec<SourceFile>,
    /// What cannot be checked because the backup does not say, one line each.
    pub unchecked: Vec<String>,
}

impl Catalog {
    /// Bytes of all files as stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stored_bytes).sum()
    }

    /// SHA-256 over kind and files, hex: equal catalogs and no others have it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.kind.as_str());
        for file in &self.files {
            // A line of JSON each: no two lists spell the same text.
            hash.update(serde_json::to_vec(file).unwrap_or_default());
            hash.update(b"\n");
        }
        hex::encode(hash.finalize())
    }
}

/// Where a backup is: a store, and a key or the beginning of one in it.
///
/// `s3://bucket/any/key`, or `file:///folder/name`, whose store is the folder. What the key names (an object, a
/// folder, dyndump's prefix) is found out by looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLocation {
    /// The bucket, or the folder.
    pub store: Destination,
    /// The key in it, without a `/` at its end.
    pub key: String,
}

/// A location that is neither form.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{text:?} is no place of a backup: {reason}; write s3://BUCKET/KEY or file:///ABSOLUTE/PATH"
)]
pub struct LocationError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for SourceLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let wrong = |reason: &str| LocationError {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let store: Destination = format!("s3://{bucket}")
                .parse()
                .map_err(|error: crate::layout::DestinationError| wrong(error.reason))?;
            // dyndump's prefix "/" really is the key "/-meta.json": a lone slash is kept.
            let key = if key == "/" {
                key
            } else {
                key.trim_end_matches('/')
            };
            if key.len() > 1024 {
                return Err(wrong("a key has at most 1024 bytes"));
            }
            return Ok(Self {
                store,
                key: key.to_owned(),
            });
        }
        let Some(path) = text.strip_prefix("file://") else {
            return Err(wrong("it starts with neither s3:// nor file://"));
        };
        let path = path.trim_end_matches('/');
        match path.rsplit_once('/') {
            Some((folder, name)) if path.starts_with('/') && !matches!(name, "." | "..") => {
                Ok(Self {
                    store: Destination::Directory {
                        path: if folder.is_empty() { "/" } else { folder }.to_owned(),
                    },
                    key: name.to_owned(),
                })
            }
            _ => Err(wrong("a file needs an absolute path")),
        }
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Destination::S3 { bucket, .. } => write!(f, "s3://{bucket}/{}", self.key),
            Destination::Directory { path } => {
                write!(f, "file://{}/{}", path.trim_end_matches('/'), self.key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_store_and_a_key() {
        for text in [
            "s3://bucket/backups/movies",
            "s3://bucket//",
            "file:///var/backups/orders",
            "file:///movies.json",
        ] {
            let location: SourceLocation = text.parse().unwrap();
            assert_eq!(location.to_string(), text, "{location:?}");
        }
        let folder: SourceLocation = "file:///var/backups/".parse().unwrap();
        assert_eq!(
            (folder.key.as_str(), folder.store.to_string().as_str()),
            ("backups", "file:///var")
        );
        for text in [
            "backups",
            "s3://b/x",
            "file://relative/x",
            "file:///",
            "file:///a/..",
        ] {
            assert!(text.parse::<SourceLocation>().is_err(), "{text}");
        }
    }
}
