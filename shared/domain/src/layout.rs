//! Where a snapshot's objects are: the only file that spells an object's key.
//!
//! ```text
//! <prefix>/<table>/AWSDynamoDB/<snapshot id>/data/s00003-p000000.json.gz
//! <prefix>/<table>/AWSDynamoDB/<snapshot id>/manifest-files.json   manifest-files.md5
//! <prefix>/<table>/AWSDynamoDB/<snapshot id>/manifest-summary.json manifest-summary.md5
//! <prefix>/<table>/AWSDynamoDB/<snapshot id>/table.json
//! <prefix>/<table>/AWSDynamoDB/<snapshot id>/backup.json
//! ```

use crate::ids::SnapshotId;
use crate::snapshot::{Compression, PartId};

/// The folder that AWS's exports are made in; their readers look for it.
const EXPORT_FOLDER: &str = "AWSDynamoDB/";

/// The keys of one snapshot's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: String,
}

impl Layout {
    /// The layout of snapshot `id` of the table called `table`, below `prefix` (which may be empty).
    #[must_use]
    pub fn new(prefix: &str, table: &str, id: &SnapshotId) -> Self {
        Self {
            root: format!("{}{id}/", Self::snapshots_of(prefix, table)),
        }
    }

    /// The folder that holds every snapshot of a table.
    #[must_use]
    pub fn snapshots_of(prefix: &str, table: &str) -> String {
        format!("{}{table}/{EXPORT_FOLDER}", Self::folder(prefix))
    }

    /// A prefix as a folder: empty, or ending in one `/`.
    #[must_use]
    pub fn folder(prefix: &str) -> String {
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        }
    }

    /// The folder of this snapshot, ending in `/`.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The folder that holds parts and nothing else: what ImportTable is pointed at.
    #[must_use]
    pub fn data(&self) -> String {
        format!("{}data/", self.root)
    }

    /// A part. The name is a function of its place alone, because creating it is the claim to that place.
    #[must_use]
    pub fn part(&self, part: PartId, compression: Compression) -> String {
        format!(
            "{}data/s{:05}-p{:06}.{}",
            self.root,
            part.segment,
            part.number,
            compression.suffix()
        )
    }

    /// Which part an object of this key is: one whose key is exactly what [`part`](Self::part) spells. `None` for any other.
    #[must_use]
    pub fn part_of(&self, key: &str, compression: Compression) -> Option<PartId> {
        let name = key.strip_prefix(&self.data())?;
        let stem = name.strip_suffix(compression.suffix())?.strip_suffix('.')?;
        let (segment, number) = stem.strip_prefix('s')?.split_once("-p")?;
        let part = PartId {
            segment: segment.parse().ok()?,
            number: number.parse().ok()?,
        };
        // A number has many spellings (`3`, `+3`, `000003`), and a key has one.
        (self.part(part, compression) == key).then_some(part)
    }

    /// The list of parts, JSON lines.
    #[must_use]
    pub fn manifest_files(&self) -> String {
        format!("{}manifest-files.json", self.root)
    }

    /// The MD5 of the list of parts.
    #[must_use]
    pub fn manifest_files_md5(&self) -> String {
        format!("{}manifest-files.md5", self.root)
    }

    /// The summary.
    #[must_use]
    pub fn manifest_summary(&self) -> String {
        format!("{}manifest-summary.json", self.root)
    }

    /// The MD5 of the summary.
    #[must_use]
    pub fn manifest_summary_md5(&self) -> String {
        format!("{}manifest-summary.md5", self.root)
    }

    /// The table's settings.
    #[must_use]
    pub fn table_settings(&self) -> String {
        format!("{}table.json", self.root)
    }

    /// The metadata: the snapshot exists when this says `completed`.
    #[must_use]
    pub fn metadata(&self) -> String {
        format!("{}backup.json", self.root)
    }

    /// The marker with which the store's create-if-absent is tried out.
    #[must_use]
    pub fn probe(&self) -> String {
        format!("{}_started", self.root)
    }
}

/// A destination as the user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Everything after it, without a slash at either end; may be empty.
        prefix: String,
    },
    /// `file:///path`.
    Directory {
        /// The path.
        path: String,
    },
}

/// A destination that is neither form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a destination: {reason}; write s3://BUCKET/PREFIX or file:///ABSOLUTE/PATH"
)]
pub struct DestinationError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl std::str::FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let wrong = |reason| DestinationError {
            text: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let valid = (3..=63).contains(&bucket.len())
                && bucket
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            if !valid {
                return Err(wrong(
                    "the bucket's name must have 3 to 63 letters, digits, `.` or `-`",
                ));
            }
            let prefix = prefix.trim_end_matches('/');
            if prefix.starts_with('/') || prefix.contains("//") {
                return Err(wrong("the prefix has an empty component"));
            }
            // Keys are limited to 1024 bytes; the rest of the longest key of ours needs about 330.
            if prefix.len() > 690 {
                return Err(wrong("the prefix is longer than 690 bytes"));
            }
            if prefix.split('/').any(|part| part == "." || part == "..") {
                return Err(wrong("the prefix has a `.` or `..` component"));
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            });
        }
        match text.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => Ok(Self::Directory {
                path: path.to_owned(),
            }),
            Some(_) => Err(wrong("a file destination needs an absolute path")),
            None => Err(wrong("it starts with neither s3:// nor file://")),
        }
    }
}

impl Destination {
    /// The prefix below which tables are laid out; a directory is its own root.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::S3 { prefix, .. } => prefix,
            Self::Directory { .. } => "",
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Directory { path } => write!(f, "file://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: PartId = PartId {
        segment: 3,
        number: 1,
    };

    fn layout(prefix: &str) -> Layout {
        Layout::new(
            prefix,
            "orders",
            &"01768385930622-efd1a093".parse().unwrap(),
        )
    }

    /// dyndump: `aprefix-part-000000001.json.gz`, numbered by one process's counter. Ours are numbered
    /// per segment, so that writers in different machines need no counter, and the name is the claim.
    #[test]
    fn dd_01_part_names_are_dense_per_segment_and_sort_in_order() {
        let name =
            |segment, number| layout("aprefix").part(PartId { segment, number }, Compression::Gzip);
        assert_eq!(
            name(0, 0),
            "aprefix/orders/AWSDynamoDB/01768385930622-efd1a093/data/s00000-p000000.json.gz"
        );
        assert_eq!(
            name(3, 1),
            "aprefix/orders/AWSDynamoDB/01768385930622-efd1a093/data/s00003-p000001.json.gz"
        );
        assert!(name(0, 9) < name(0, 10) && name(0, 10) < name(1, 0));
    }

    #[test]
    fn a_part_is_known_by_its_key() {
        let layout = layout("a+b/c");
        for compression in [Compression::Gzip, Compression::Zstd] {
            for (segment, number) in [
                (0, 0),
                (3, 999_999),
                (99_999, 1_000_000),
                (100_000, 7),
                (u32::MAX, u32::MAX),
            ] {
                let part = PartId { segment, number };
                let key = layout.part(part, compression);
                assert_eq!(layout.part_of(&key, compression), Some(part), "{key}");
            }
        }
        let gzip = layout.part(PLACE, Compression::Gzip);
        assert_eq!(layout.part_of(&gzip, Compression::Zstd), None);
    }

    #[test]
    fn no_other_key_is_a_part() {
        let ours = layout("p");
        let of = |key: &str| {
            [Compression::Gzip, Compression::Zstd].map(|compression| ours.part_of(key, compression))
        };
        for name in [
            "",
            "notes.txt",
            "s00003-p000001",
            "s00003-p000001.json",
            "s00003-p000001.gz",
            "s00003-p000001json.gz",
            "s00003-p000001.json.gz.bak",
            "s00003-p000001.json.gz/",
            "S00003-p000001.json.gz",
            "s00003p000001.json.gz",
            "s00003-p000001-p000002.json.gz",
            "x/s00003-p000001.json.gz",
            "../data/s00003-p000001.json.gz",
            "s3-p1.json.gz",
            "s000003-p000001.json.gz",
            "s00003-p0000001.json.gz",
            "s+0003-p000001.json.gz",
            "s00003-p-00001.json.gz",
            "s0000a-p000001.json.gz",
            "s-p.json.gz",
            "s00003-p4294967296.json.gz",
            "s4294967296-p000001.json.gz",
        ] {
            let key = format!("{}{name}", ours.data());
            assert_eq!(of(&key), [None, None], "{name}");
        }
        let [id, other] = ["01768385930622-efd1a093", "01768385930622-efd1a094"];
        for elsewhere in [
            layout("q"),
            layout(""),
            Layout::new("p", "orders-2", &id.parse().unwrap()),
            Layout::new("p", "orders", &other.parse().unwrap()),
        ] {
            let key = elsewhere.part(PLACE, Compression::Gzip);
            assert_eq!(of(&key), [None, None], "{key}");
        }
        assert_eq!(of("s00000-p000000.json.gz"), [None, None]);
    }

    #[test]
    fn prefixes_become_folders_once() {
        assert!(layout("").root().starts_with("orders/AWSDynamoDB/"));
        assert_eq!(layout("a/b/"), layout("a/b"));
        assert_eq!(
            layout("a+b c/ü").metadata(),
            "a+b c/ü/orders/AWSDynamoDB/01768385930622-efd1a093/backup.json"
        );
    }

    #[test]
    fn destinations() {
        let s3 = |bucket: &str, prefix: &str| Destination::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        assert_eq!("s3://my-bucket".parse(), Ok(s3("my-bucket", "")));
        assert_eq!("s3://my-bucket/a/b/".parse(), Ok(s3("my-bucket", "a/b")));
        assert_eq!(
            "file:///tmp/x".parse(),
            Ok(Destination::Directory {
                path: "/tmp/x".into()
            })
        );
        for text in [
            "",
            "orders",
            "s3://",
            "s3://b!d/x",
            "file://relative",
            "s3://bucket//x",
            "s3://bucket/../x",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
        assert_eq!(s3("my-bucket", "a/b").to_string(), "s3://my-bucket/a/b");
    }
}
