//! Shards of a stream, as `DescribeStream` lists them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::UnixMillis;
use crate::sequence_number::SequenceNumber;

/// A shard's id, `shardId-00000001768385930622-efd1a093`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShardId(String);

/// A text that cannot be a shard's id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no shard id: 1 to 100 letters, digits, `-`, `_` or `.`")]
pub struct ShardIdError(pub String);

impl ShardId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the shard was made: its id's 20 digits are milliseconds since 1970. AWS documents this nowhere, but its
    /// own Flink connector reads ids so; `None` for an id of another form.
    #[must_use]
    pub fn created_at(&self) -> Option<UnixMillis> {
        let (digits, _) = self.0.strip_prefix("shardId-")?.split_once('-')?;
        let is_time = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_time).map(UnixMillis)
    }
}

impl FromStr for ShardId {
    type Err = ShardIdError;

    /// Ids become parts of object keys: what could leave its folder there is refused.
    fn from_str(text: &str) -> Result<Self, ShardIdError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let valid = (1..=100).contains(&text.len())
            && text.bytes().all(plain)
            && text.bytes().any(|byte| byte != b'.');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ShardIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ShardId {
    type Error = ShardIdError;

    fn try_from(text: String) -> Result<Self, ShardIdError> {
        text.parse()
    }
}

impl From<ShardId> for String {
    fn from(id: ShardId) -> Self {
        id.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One shard of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// The shard that it goes on from; a listing may name one that it does not list.
    pub parent: Option<ShardId>,
    /// The first sequence number that it may have.
    pub start: SequenceNumber,
    /// The last that it has; `None` while it is open.
    pub end: Option<SequenceNumber>,
}

/// What a stream's records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamView {
    /// Both images: everything can be done.
    NewAndOldImages,
    /// New images only: no way back before a snapshot.
    NewImage,
    /// Old images only: of no use here.
    OldImage,
    /// Keys only: of no use here.
    KeysOnly,
}

impl StreamView {
    /// DynamoDB's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewAndOldImages => "NEW_AND_OLD_IMAGES",
            Self::NewImage => "NEW_IMAGE",
            Self::OldImage => "OLD_IMAGE",
            Self::KeysOnly => "KEYS_ONLY",
        }
    }
}

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StreamStatus {
    /// Being made; it lists no shards yet.
    Enabling,
    /// Alive.
    Enabled,
    /// Being ended.
    Disabling,
    /// Ended; its records can be read for 24 hours.
    Disabled,
}

/// All pages of one `DescribeStream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamListing {
    /// The stream's ARN.
    pub stream_arn: String,
    /// Its label: when it was enabled.
    pub label: String,
    /// What its records carry.
    pub view: StreamView,
    /// Where it is.
    pub status: StreamStatus,
    /// Its shards, in no particular order.
    pub shards: Vec<Shard>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_its_shard_was_made() {
        let id: ShardId = "shardId-00000001768385930622-efd1a093".parse().unwrap();
        assert_eq!(id.created_at(), Some(UnixMillis(1_768_385_930_622)));
        for other in [
            "shardId-123-a",
            "shardId-0000000176838593062x-a",
            "x",
            "shardId-00000001768385930622",
        ] {
            assert_eq!(
                other.parse::<ShardId>().unwrap().created_at(),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn what_could_leave_its_folder_is_no_id() {
        for text in ["", "a/b", "..", ".", "a b", &"x".repeat(101), "é"] {
            assert!(text.parse::<ShardId>().is_err(), "{text:?}");
        }
    }
}
