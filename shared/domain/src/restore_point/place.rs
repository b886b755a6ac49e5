//! A table's folder at a destination: its snapshots and its log side by side.

use thiserror::Error;

use crate::backup_source::SourceLocation;
use crate::ids::SnapshotId;
use crate::layout::{Destination, Layout};
use crate::log_place::LogPlace;

/// The folder of snapshots in a table's folder.
const SNAPSHOTS: &str = "AWSDynamoDB";

/// Where a table's snapshots and its log are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlace {
    /// The bucket, or the folder that holds the table's.
    pub store: Destination,
    /// What precedes the table's folder in keys; may be empty.
    pub prefix: String,
    /// The table's name, which is its folder's.
    pub table: String,
    /// The snapshot that was named, if one was.
    pub snapshot: Option<SnapshotId>,
}

/// A place that is neither a table's folder nor a snapshot in one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0} is not a table's folder: a restore to a second takes s3://BUCKET/PREFIX/TABLE (or file:///FOLDER/TABLE), or one \
     snapshot in it (…/TABLE/AWSDynamoDB/SNAPSHOT)"
)]
pub struct NoTableFolder(pub String);

impl TablePlace {
    /// The table's folder that a location names: itself, its folder of snapshots, or one of these.
    pub fn of(location: &SourceLocation) -> Result<Self, NoTableFolder> {
        let wrong = || NoTableFolder(location.to_string());
        let path = match &location.store {
            Destination::S3 { .. } => location.key.clone(),
            Destination::Directory { path } => {
                format!("{}/{}", path.trim_end_matches('/'), location.key)
            }
        };
        let (folder, snapshot) = split(&path).ok_or_else(wrong)?;
        let (above, table) = folder.rsplit_once('/').unwrap_or(("", folder));
        if table.is_empty() || matches!(table, "." | "..") {
            return Err(wrong());
        }
        let (store, prefix) = match &location.store {
            Destination::Directory { .. } => {
                let path = if above.is_empty() { "/" } else { above };
                (Destination::Directory { path: path.into() }, "")
            }
            bucket @ Destination::S3 { .. } => (bucket.clone(), above),
        };
        Ok(Self {
            store,
            prefix: prefix.to_owned(),
            table: table.to_owned(),
            snapshot,
        })
    }

    /// The keys of the table's log.
    #[must_use]
    pub fn log(&self) -> LogPlace {
        LogPlace::new(&self.prefix, &self.table)
    }

    /// The keys of one of the table's snapshots.
    #[must_use]
    pub fn layout(&self, snapshot: &SnapshotId) -> Layout {
        Layout::new(&self.prefix, &self.table, snapshot)
    }

    /// The table's folder, ending in `/`.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{}{}/", Layout::folder(&self.prefix), self.table)
    }

    /// What lies at this key of the store, as a location that can be given to somebody else.
    #[must_use]
    pub fn location(&self, key: &str) -> SourceLocation {
        let key = key.trim_end_matches('/');
        match &self.store {
            Destination::S3 { .. } => SourceLocation {
                store: self.store.clone(),
                key: key.to_owned(),
            },
            // The store of a location is the folder that holds the object.
            Destination::Directory { path } => {
                let (above, name) = key.rsplit_once('/').unwrap_or(("", key));
                let path = path.trim_end_matches('/');
                let path = if above.is_empty() {
                    path.to_owned()
                } else {
                    format!("{path}/{above}")
                };
                SourceLocation {
                    store: Destination::Directory {
                        path: if path.is_empty() { "/".into() } else { path },
                    },
                    key: name.to_owned(),
                }
            }
        }
    }
}

/// The table's folder and the snapshot in it that `path` names.
fn split(path: &str) -> Option<(&str, Option<SnapshotId>)> {
    let path = path.trim_end_matches('/');
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name == SNAPSHOTS {
        return Some((above, None));
    }
    let Some(folder) = above.strip_suffix(SNAPSHOTS) else {
        return Some((path, None));
    };
    let folder = folder.strip_suffix('/')?;
    Some((folder, Some(name.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<TablePlace, NoTableFolder> {
        TablePlace::of(&text.parse().unwrap())
    }

    #[test]
    fn a_table_is_named_by_its_folder_or_by_what_is_in_it() {
        let id = "01768385930622-efd1a093";
        for (text, prefix, snapshot) in [
            ("s3://backups/orders", "", false),
            ("s3://backups/daily/eu/orders/", "daily/eu", false),
            ("s3://backups/daily/orders/AWSDynamoDB/", "daily", false),
            (
                "s3://backups/orders/AWSDynamoDB/01768385930622-efd1a093",
                "",
                true,
            ),
            ("file:///var/backups/orders", "", false),
            ("file:///var/backups/orders/AWSDynamoDB", "", false),
            (
                "file:///var/backups/orders/AWSDynamoDB/01768385930622-efd1a093",
                "",
                true,
            ),
        ] {
            let found = place(text).unwrap();
            assert_eq!(
                (found.prefix.as_str(), found.table.as_str()),
                (prefix, "orders")
            );
            assert_eq!(found.snapshot, snapshot.then(|| id.parse().unwrap()));
            let store = if text.starts_with("s3") {
                "s3://backups"
            } else {
                "file:///var/backups"
            };
            assert_eq!(found.store.to_string(), store);
            let again = found.location(found.layout(&id.parse().unwrap()).root());
            let again = TablePlace::of(&again).unwrap();
            assert_eq!(again.store, found.store, "{text}");
            assert_eq!(again.snapshot.unwrap().as_str(), id);
        }
    }

    #[test]
    fn other_places_are_refused() {
        for text in [
            "s3://backups",
            "s3://backups/AWSDynamoDB",
            "s3://backups/orders/AWSDynamoDB/export-1",
            "s3://backups/AWSDynamoDB/01768385930622-efd1a093",
        ] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
