//! Sequence numbers of stream records, and the order of records that have one key.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::shard::ShardId;

/// The most digits that a sequence number has:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html>.
pub const MAX_DIGITS: usize = 40;

/// A sequence number, as DynamoDB spells it: up to 40 decimal digits.
///
/// Forty digits fit no machine number and no `N` of DynamoDB's, and as text `9` sorts behind `10`. So it stays
/// text, and is compared by its length and then by its digits. The order means something within one shard only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SequenceNumber(ArrayString<MAX_DIGITS>);

/// A text that is no sequence number.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no sequence number: 1 to 40 decimal digits")]
pub struct SequenceNumberError(pub String);

impl SequenceNumber {
    /// As DynamoDB spelled it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with zeros in front, always 40 digits: such texts sort as the numbers do.
    #[must_use]
    pub fn padded(&self) -> String {
        format!("{:0>MAX_DIGITS$}", self.significant())
    }

    fn significant(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for SequenceNumber {}

impl Hash for SequenceNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for SequenceNumber {
    type Err = SequenceNumberError;

    fn from_str(text: &str) -> Result<Self, SequenceNumberError> {
        let is_valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        ArrayString::from(text)
            .ok()
            .filter(|_| is_valid)
            .map(Self)
            .ok_or_else(|| SequenceNumberError(text.to_owned()))
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = SequenceNumberError;

    fn try_from(text: String) -> Result<Self, SequenceNumberError> {
        text.parse()
    }
}

impl From<SequenceNumber> for String {
    fn from(number: SequenceNumber) -> Self {
        number.as_str().to_owned()
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a table's streams: each that is enabled anew is the next generation, from 1. 0 is what no stream has
/// seen: a scanned item.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u16);

/// A shard's place in its stream's lineage: a child's is above its parent's, whatever their sequence numbers say.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ShardOrdinal(pub u64);

/// The place of one record among all records of its key: generation, then shard, then sequence number.
///
/// The records of one key lie on one path from a root shard to a leaf, in the order of this token. Tokens of
/// different keys say nothing about each other. Its text has 62 characters and sorts as the tokens do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderToken {
    /// Which stream.
    pub generation: Generation,
    /// Which shard of it.
    pub shard: ShardOrdinal,
    /// Which record of that.
    pub sequence_number: SequenceNumber,
}

impl OrderToken {
    /// The token of whatever a scan found: any record of the key is behind it.
    #[must_use]
    pub fn of_scan() -> Self {
        Self {
            generation: Generation(0),
            shard: ShardOrdinal(0),
            // One digit fits.
            sequence_number: SequenceNumber(ArrayString::from("0").unwrap_or_default()),
        }
    }
}

impl fmt::Display for OrderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            shard,
            sequence_number,
        } = self;
        write!(
            f,
            "{:05}-{:015}-{}",
            generation.0,
            shard.0,
            sequence_number.padded()
        )
    }
}

/// The ordinal of a shard: when it was made, in milliseconds, but always above its parent.
///
/// Creation times come from the shards' ids, so that every observer finds the same ordinals. A plain count of
/// generations would rank a deep parent above a shallow child if DynamoDB ever merged shards.
#[must_use]
pub fn ordinal(shard: &ShardId, parent: Option<ShardOrdinal>, first_seen_ms: u64) -> ShardOrdinal {
    let created = shard.created_at().map_or(first_seen_ms, |at| at.0);
    let above = parent.map_or(0, |parent| parent.0.saturating_add(1));
    ShardOrdinal(created.max(above))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> SequenceNumber {
        text.parse().unwrap()
    }

    /// AWS's own example of one lineage: right as numbers, wrong as text.
    #[test]
    fn numbers_of_growing_length_are_in_order() {
        let lineage = [
            "20500000000000000910398",
            "820400000000000001192334",
            "1683700000000000001135967",
            "2574600000000000000935255",
        ];
        assert!(lineage.map(number).is_sorted());
        assert!(!lineage.is_sorted(), "as text they are not");
        assert!(number("9") < number("10"));
        assert!(number("0009") < number("10"));
    }

    #[test]
    fn what_is_no_sequence_number_is_refused() {
        for text in ["", "-1", "1.0", "12a", &"1".repeat(41), "١"] {
            assert_eq!(
                text.parse::<SequenceNumber>(),
                Err(SequenceNumberError(text.into()))
            );
        }
        assert_eq!(number(&"9".repeat(40)).padded(), "9".repeat(40));
    }

    #[test]
    fn a_child_is_above_its_parent_whatever_its_id_says() {
        let shard = |ms: u64| format!("shardId-{ms:020}-abcd").parse::<ShardId>().unwrap();
        let parent = ordinal(&shard(1_700_000_000_000), None, 0);
        assert_eq!(parent, ShardOrdinal(1_700_000_000_000));
        assert_eq!(
            ordinal(&shard(1_700_000_014_400), Some(parent), 0).0,
            1_700_000_014_400.max(parent.0 + 1)
        );
        assert_eq!(ordinal(&shard(1), Some(parent), 0).0, parent.0 + 1);
        let odd: ShardId = "shard-of-another-service".parse().unwrap();
        assert_eq!(ordinal(&odd, None, 7), ShardOrdinal(7));
    }

    #[test]
    fn leading_zeros_are_nothing() {
        assert_eq!(number("0012"), number("12"));
        assert_eq!(number("000"), number("0"));
        assert_eq!(
            number("0012").as_str(),
            "0012",
            "it is sent back as it came"
        );
        let distinct: std::collections::HashSet<_> = ["12", "0012", "13"].map(number).into();
        assert_eq!(distinct.len(), 2);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_numbers(a: u128, b: u128, zeros in 0..2_usize) {
            let (x, y) = (number(&format!("{}{a}", "0".repeat(zeros))), number(&b.to_string()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn padded_texts_sort_as_the_numbers_do(a in "[0-9]{1,40}", b in "[0-9]{1,40}") {
            let (a, b) = (number(&a), number(&b));
            let by_text = a.padded().cmp(&b.padded());
            prop_assert_eq!(by_text, a.cmp(&b));
            prop_assert_eq!(a.padded().len(), MAX_DIGITS);
        }

        #[test]
        fn tokens_sort_as_their_texts_do(a in (0_u16..3, 0_u64..1 << 41, "[1-9][0-9]{0,39}"), b in (0_u16..3, 0_u64..1 << 41, "[1-9][0-9]{0,39}")) {
            let token = |(generation, shard, text): (u16, u64, String)| OrderToken {
                generation: Generation(generation),
                shard: ShardOrdinal(shard),
                sequence_number: number(&text),
            };
            let (a, b) = (token(a), token(b));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
            prop_assert!(OrderToken::of_scan() < a);
        }
    }
}
