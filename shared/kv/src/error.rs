//! What can go wrong, by what a caller can do about it.

use std::error::Error as StdError;
use std::fmt;

use crate::aws_error::AwsError;
use crate::record::RecordKey;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record does not exist, or has expired.
    #[error("{key} does not exist")]
    NotFound {
        /// Which record.
        key: RecordKey,
        /// The request was sent more than once, so an earlier try of this very delete may have removed it.
        after_retry: bool,
    },
    /// A record that was to be created is there already, and has not expired.
    #[error("{key} already exists, at version {version}")]
    Exists {
        /// Which record.
        key: RecordKey,
        /// Its version at the moment of the refusal.
        version: i64,
    },
    /// The record has another version than the caller saw.
    #[error("{key} was modified: version {seen} was expected, {current} is there")]
    Modified {
        /// Which record.
        key: RecordKey,
        /// The version that the caller named.
        seen: i64,
        /// The version at the moment of the refusal.
        current: i64,
        /// The request was sent more than once, so the change may be an earlier try of this very update.
        after_retry: bool,
    },
    /// The record kept changing under a write that needs two steps. Nothing was written; try again.
    #[error("{key} kept changing; nothing was written")]
    Contended {
        /// Which record.
        key: RecordKey,
    },
    /// A field has a name that the record uses itself.
    #[error("{name:?} is a reserved field name")]
    ReservedField {
        /// The field's name.
        name: String,
    },
    /// A page token is not one, or belongs to another list.
    #[error("bad page token: {reason}")]
    BadToken {
        /// What is wrong with it.
        reason: String,
    },
    /// An index cannot be read as asked.
    #[error("index {index:?}: {reason}")]
    Index {
        /// The index.
        index: String,
        /// What does not work.
        reason: &'static str,
    },
    /// A payload has no form in DynamoDB.
    #[error("{attribute} cannot be stored")]
    Encode {
        /// The attribute.
        attribute: &'static str,
        /// What the serializer said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A payload or the fields are not of the type asked for.
    #[error("{attribute} of {key} cannot be read as asked")]
    Decode {
        /// Which record.
        key: RecordKey,
        /// The attribute.
        attribute: &'static str,
        /// What the deserializer said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An item of the table is not a record of this crate.
    #[error("{key} is not a valid record: attribute {attribute} {reason}")]
    Malformed {
        /// Which record, as far as it could be read.
        key: RecordKey,
        /// The attribute.
        attribute: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A transaction that DynamoDB would refuse: empty, too large, or with one record twice.
    #[error("impossible transaction: {reason}")]
    Transaction {
        /// What is wrong with it.
        reason: String,
    },
    /// The transaction was canceled: nothing of it was written.
    #[error("transaction on table {table} canceled: {}", Failed(reasons))]
    TransactionCanceled {
        /// The table.
        table: String,
        /// One reason per action, in the order of the transaction.
        reasons: Vec<Reason>,
    },
    /// The table exists but is not what was asked for.
    #[error("table {table} cannot be used: {reason}")]
    Table {
        /// The table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The call to DynamoDB failed.
    #[error(transparent)]
    Aws(Box<AwsError>),
}

impl Error {
    /// Whether the record, or one of a transaction's records, was not as the caller expected:
    /// absent, present or changed. Read again and decide anew.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.class() == FailureClass::Conflict
    }

    /// Whether the same call may succeed later without anyone's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.class(),
            FailureClass::Throttled | FailureClass::Transient
        )
    }

    /// The class of the failure: what a caller can do about it.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::NotFound { .. } | Self::Exists { .. } | Self::Modified { .. } => {
                FailureClass::Conflict
            }
            Self::Contended { .. } => FailureClass::Transient,
            Self::ReservedField { .. }
            | Self::BadToken { .. }
            | Self::Index { .. }
            | Self::Encode { .. }
            | Self::Transaction { .. }
            | Self::Table { .. } => FailureClass::Invalid,
            Self::Decode { .. } | Self::Malformed { .. } => FailureClass::Corrupt,
            Self::TransactionCanceled { reasons, .. } => canceled_class(reasons),
            Self::Aws(error) => error.class,
        }
    }
}

impl From<AwsError> for Error {
    fn from(error: AwsError) -> Self {
        Self::Aws(Box::new(error))
    }
}

/// The classes of failure that a caller acts on differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureClass {
    /// DynamoDB asked us to slow down. Retry after a pause.
    Throttled,
    /// A 5xx, a time-out, a dropped connection, a torn answer. Retry after a pause; a write may have
    /// happened.
    Transient,
    /// The endpoint could not be reached at all. No write happened in the last try.
    Unreachable,
    /// Credentials are absent, expired or refused, or a policy forbids the action.
    Denied,
    /// The table or index does not exist.
    NotFound,
    /// The request itself is wrong.
    Invalid,
    /// What is stored, or what was answered, is not what it should be.
    Corrupt,
    /// A record was not as the caller expected: absent, present or changed.
    Conflict,
    /// Anything else; the source says what.
    Other,
}

/// Why one action of a canceled transaction did or did not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The action's record.
    pub key: RecordKey,
    /// What became of the action.
    pub cause: Cause,
}

/// What became of one action of a canceled transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing was wrong with this one.
    Fine,
    /// The record does not exist, or has expired.
    NotFound,
    /// The record exists, at this version.
    Exists {
        /// Its version.
        version: i64,
    },
    /// The record has another version than the caller saw.
    Modified {
        /// Its version.
        current: i64,
    },
    /// An expired record was in the way, with a version that had to be exceeded; trying again helps.
    Expired,
    /// Another transaction had the record in hand at the same moment; trying again helps.
    Busy,
    /// Too many requests for the table's or the partition's capacity; trying again later helps.
    Throttled,
    /// DynamoDB refused the action.
    Refused {
        /// DynamoDB's code, for example `ValidationError`.
        code: String,
        /// DynamoDB's message.
        message: String,
    },
}

impl Cause {
    /// Whether the same action may succeed in a moment without anyone's help.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Expired | Self::Busy | Self::Throttled)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fine => f.write_str("is fine"),
            Self::NotFound => f.write_str("does not exist"),
            Self::Exists { version } => write!(f, "already exists, at version {version}"),
            Self::Modified { current } => write!(f, "was modified, version {current} is there"),
            Self::Expired => f.write_str("has just expired"),
            Self::Busy => f.write_str("is part of another transaction"),
            Self::Throttled => f.write_str("was throttled"),
            Self::Refused { code, message } => write!(f, "was refused: {code}: {message}"),
        }
    }
}

/// A refused action outweighs a lost race, and a lost race outweighs one that may still be won.
fn canceled_class(reasons: &[Reason]) -> FailureClass {
    let any = |test: fn(&Cause) -> bool| reasons.iter().any(|reason| test(&reason.cause));
    if any(|cause| matches!(cause, Cause::Refused { .. })) {
        FailureClass::Invalid
    } else if any(|cause| {
        matches!(
            cause,
            Cause::NotFound | Cause::Exists { .. } | Cause::Modified { .. }
        )
    }) {
        FailureClass::Conflict
    } else if any(|cause| *cause == Cause::Throttled) {
        FailureClass::Throttled
    } else {
        FailureClass::Transient
    }
}

struct Failed<'a>(&'a [Reason]);

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for reason in self.0.iter().filter(|reason| reason.cause != Cause::Fine) {
            write!(f, "{separator}{} {}", reason.key, reason.cause)?;
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canceled(causes: &[Cause]) -> Error {
        Error::TransactionCanceled {
            table: "t".into(),
            reasons: causes
                .iter()
                .map(|cause| Reason {
                    key: RecordKey::new("t", "p", "n"),
                    cause: cause.clone(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_canceled_transaction_has_the_class_of_its_worst_reason() {
        let refused = Cause::Refused {
            code: "ValidationError".into(),
            message: "too large".into(),
        };
        let lost = Cause::Modified { current: 2 };
        for (causes, class) in [
            (
                vec![Cause::Busy, lost.clone(), refused],
                FailureClass::Invalid,
            ),
            (vec![Cause::Throttled, lost], FailureClass::Conflict),
            (vec![Cause::Busy, Cause::Throttled], FailureClass::Throttled),
            (vec![Cause::Fine, Cause::Busy], FailureClass::Transient),
        ] {
            assert_eq!(canceled(&causes).class(), class, "{causes:?}");
        }
    }

    #[test]
    fn the_message_of_a_canceled_transaction_names_the_failed_records_only() {
        let error = canceled(&[Cause::Fine, Cause::NotFound]);
        assert_eq!(
            error.to_string(),
            "transaction on table t canceled: record \"n\" of partition \"p\" in table t does not exist"
        );
    }
}
