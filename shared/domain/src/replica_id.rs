//! The name of a replica, which follows from its tables: whoever asks for the same copy of the same table finds it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::NameError;

/// A replica's name: 16 hex digits, which follow from its source and its target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId(String);

impl ReplicaId {
    /// The replica of the table `source` in the table `target`, both by ARN.
    #[must_use]
    pub fn of(source_arn: &str, target_arn: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(source_arn);
        hash.update([0]);
        hash.update(target_arn);
        Self(hex::encode(&hash.finalize()[..8]))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReplicaId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 16 && text.bytes().all(is_hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::ReplicaId(text.to_owned()))
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_named_by_its_tables() {
        let id = ReplicaId::of("a", "b");
        assert_eq!(id.as_str().len(), 16);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_ne!(id, ReplicaId::of("ab", ""));
        assert_ne!(id, ReplicaId::of("b", "a"));
        assert!("orders".parse::<ReplicaId>().is_err());
    }
}
