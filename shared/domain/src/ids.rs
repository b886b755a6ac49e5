//! Names that are checked once, at the edge, and trusted below it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The milliseconds from `earlier` to this moment; 0 if the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment that an RFC 3339 text names, or `None` if it names none after 1970.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
            .ok()?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000)
            .ok()
            .map(Self)
    }

    /// RFC 3339 in UTC with milliseconds, as AWS's manifests write it: `2026-01-14T10:18:50.622Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let nanos = i128::from(self.0) * 1_000_000;
        let Ok(at) = time::OffsetDateTime::from_unix_timestamp_nanos(nanos) else {
            return format!("{}ms", self.0);
        };
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

/// A snapshot's name: AWS's export id form, 14 digits of epoch milliseconds, `-`, 8 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

/// A name that cannot be what it is given for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Not `01768385930622-efd1a093`.
    #[error(
        "{0:?} is not a snapshot id: 14 digits, a dash and 8 lower-case hex digits, as in 01768385930622-efd1a093"
    )]
    SnapshotId(String),
    /// The same form, asked for as a restore's name.
    #[error(
        "{0:?} is not a restore id: 14 digits, a dash and 8 lower-case hex digits, as in 01768385930622-efd1a093"
    )]
    RestoreId(String),
    /// Not `0f3a8b21c4d5e6f7`.
    #[error("{0:?} is not a replica id: 16 lower-case hex digits, as in 0f3a8b21c4d5e6f7")]
    ReplicaId(String),
    /// Neither a table name nor a table ARN.
    #[error(
        "{0:?} is not a table name: 3 to 255 letters, digits, `_`, `-` or `.`, or a table's ARN (arn:aws:dynamodb:REGION:ACCOUNT:table/NAME)"
    )]
    Table(String),
}

impl SnapshotId {
    /// The id of a snapshot begun at `at`, told from others of that millisecond by `random`.
    #[must_use]
    pub fn new(at: UnixMillis, random: u32) -> Self {
        Self(format!("{:014}-{random:08x}", at.0))
    }

    /// The id of the snapshot that an execution makes when it is not told another one.
    ///
    /// The same execution always names the same snapshot, so that a retried plan finds what it began.
    #[must_use]
    pub fn of_execution(execution_id: &str, started_at: UnixMillis) -> Self {
        let digest: [u8; 32] = Sha256::digest(execution_id.as_bytes()).into();
        let [a, b, c, d, ..] = digest;
        Self::new(started_at, u32::from_be_bytes([a, b, c, d]))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let valid = text.len() == 23
            && text.bytes().enumerate().all(|(i, b)| match i {
                0..14 => b.is_ascii_digit(),
                14 => b == b'-',
                _ => lower_hex(b),
            });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::SnapshotId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table as the user names it: by name, or by ARN for another account's or region's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableRef(String);

impl TableRef {
    /// What `TableName` takes in a request: the name or the ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bare name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for TableRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = match text.strip_prefix("arn:") {
            Some(arn) if arn.contains(":dynamodb:") => {
                arn.split_once(":table/").map(|(_, name)| name)
            }
            Some(_) => None,
            None => Some(text),
        };
        let valid = |name: &str| {
            (3..=255).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        match name {
            Some(name) if valid(name) => Ok(Self(text.to_owned())),
            _ => Err(NameError::Table(text.to_owned())),
        }
    }
}

impl TryFrom<String> for TableRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<TableRef> for String {
    fn from(table: TableRef) -> Self {
        table.0
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_id_has_the_form_of_an_export_id() {
        let id = SnapshotId::new(UnixMillis(1_768_385_930_622), 0xefd1_a093);
        assert_eq!(id.as_str(), "01768385930622-efd1a093");
        assert_eq!("01768385930622-efd1a093".parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_no_snapshot_ids() {
        for text in [
            "",
            "01768385930622",
            "01768385930622-EFD1A093",
            "0176838593062é-efd1a09",
            "../../../../../../../../..",
        ] {
            assert_eq!(
                text.parse::<SnapshotId>(),
                Err(NameError::SnapshotId(text.into())),
                "{text}"
            );
        }
        assert!(serde_json::from_str::<SnapshotId>("\"x\"").is_err());
    }

    #[test]
    fn a_table_is_named_by_name_or_arn() {
        let arn = "arn:aws:dynamodb:eu-north-1:123456789123:table/orders";
        assert_eq!(arn.parse::<TableRef>().unwrap().name(), "orders");
        assert_eq!(
            "my.orders-2_x".parse::<TableRef>().unwrap().name(),
            "my.orders-2_x"
        );
        for text in [
            "",
            "ab",
            "a b c",
            "arn:aws:s3:::bucket",
            "arn:aws:dynamodb:x:1:table/t/index/i",
            "tåble",
        ] {
            assert!(text.parse::<TableRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_execution_always_names_the_same_snapshot() {
        let id = |execution| SnapshotId::of_execution(execution, UnixMillis(1_768_385_930_622));
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
        assert_eq!(id("a").as_str().parse::<SnapshotId>(), Ok(id("a")));
    }

    #[test]
    fn times_are_written_as_aws_writes_them() {
        let at = UnixMillis::from_rfc3339("2026-01-14T10:18:50.622Z");
        assert_eq!(at, Some(UnixMillis(1_768_385_930_622)));
        assert_eq!(UnixMillis::from_rfc3339("yesterday"), None);
        assert_eq!(
            UnixMillis(1_768_385_930_622).to_rfc3339(),
            "2026-01-14T10:18:50.622Z"
        );
    }
}
