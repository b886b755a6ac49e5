//! How far a lease's work has come.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use highwater_domain::sequence_number::SequenceNumber;

/// Where reading goes on: at a record, after a record, or nowhere because the shard is finished.
///
/// Positions of one lease are ordered, `At(n) < After(n) < At(m) < End` for `n < m`, and a stored position only moves
/// forward. There is no "latest" and no "trim horizon": both skip records in silence.
///
/// ```
/// use highwater_lease::Position;
///
/// let done: Position = "AFTER:100000000003498069978".parse()?;
/// assert!("AT:7".parse::<Position>()? < "AFTER:7".parse()?);
/// assert!(done < Position::End);
/// # Ok::<(), highwater_lease::InvalidPosition>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Position {
    /// Somewhere in the shard.
    Open(Place),
    /// Everything in the shard is done.
    End,
}

/// A place in a shard: at a record, or after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The record.
    pub sequence_number: SequenceNumber,
    /// The record itself is done.
    pub after: bool,
}

impl Position {
    /// The record itself is the next one: `AT_SEQUENCE_NUMBER`.
    #[must_use]
    pub fn at(sequence_number: SequenceNumber) -> Self {
        Self::Open(Place {
            sequence_number,
            after: false,
        })
    }

    /// The record is done, the one behind it is next: `AFTER_SEQUENCE_NUMBER`.
    #[must_use]
    pub fn after(sequence_number: SequenceNumber) -> Self {
        Self::Open(Place {
            sequence_number,
            after: true,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(place) => {
                let word = if place.after { "AFTER" } else { "AT" };
                write!(f, "{word}:{}", place.sequence_number)
            }
            Self::End => f.write_str("END"),
        }
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let invalid = || InvalidPosition { text: text.into() };
        match text.split_once(':') {
            None if text == "END" => Ok(Self::End),
            Some(("AT", number)) => number.parse().map(Self::at).map_err(|_| invalid()),
            Some(("AFTER", number)) => number.parse().map(Self::after).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Position {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

/// Text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a position: AT:<sequence number>, AFTER:<sequence number> or END")]
pub struct InvalidPosition {
    /// The text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn positions_are_ordered_and_spelled() {
        let ascending = ["AT:9", "AFTER:9", "AT:10", "AFTER:10", "END"];
        for pair in ascending.windows(2) {
            assert!(position(pair[0]) < position(pair[1]), "{pair:?}");
        }
        for text in ascending {
            assert_eq!(position(text).to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "end",
            "AT:",
            "AT",
            "LATEST",
            "TRIM_HORIZON",
            "AFTER:x",
            "END:1",
            "7",
        ] {
            assert_eq!(text.parse::<Position>().unwrap_err().text, text);
        }
    }
}
