//! A place in a shard: decimal text that is compared, never calculated with.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A stream record's sequence number: up to 40 decimal digits, kept as the text that came.
///
/// It is larger than every number type, so it stays text. Two of them are compared by length and then by bytes,
/// both without leading zeros. Only numbers of one shard have an order that means anything
/// ([`Record`](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html)).
///
/// ```
/// use highwater_lease::SequenceNumber;
///
/// let nine: SequenceNumber = "999999999999999999999".parse()?;
/// let ten: SequenceNumber = "1000000000000000000000".parse()?;
/// assert!(nine < ten);
/// assert_eq!("007".parse::<SequenceNumber>()?, "7".parse()?);
/// # Ok::<(), highwater_lease::InvalidSequenceNumber>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SequenceNumber(String);

/// The longest sequence number.
const MOST_DIGITS: usize = 40;

impl SequenceNumber {
    /// Takes decimal text.
    ///
    /// # Errors
    /// [`InvalidSequenceNumber`] unless the text is 1 to 40 ASCII digits.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidSequenceNumber> {
        let text = text.into();
        let fits = (1..=MOST_DIGITS).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text))
        } else {
            Err(InvalidSequenceNumber { text })
        }
    }

    /// The text as it came: what DynamoDB wants to see again.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Padded with zeros to 40 digits: such texts sort as the numbers do.
    #[must_use]
    pub fn padded(&self) -> String {
        format!("{:0>MOST_DIGITS$}", self.0)
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

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SequenceNumber {}

impl Hash for SequenceNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, InvalidSequenceNumber> {
        Self::new(text)
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = InvalidSequenceNumber;

    fn try_from(text: String) -> Result<Self, InvalidSequenceNumber> {
        Self::new(text)
    }
}

impl From<SequenceNumber> for String {
    fn from(number: SequenceNumber) -> Self {
        number.0
    }
}

/// Text that is no sequence number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a sequence number: 1 to 40 decimal digits")]
pub struct InvalidSequenceNumber {
    /// The text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> SequenceNumber {
        text.parse().unwrap()
    }

    #[test]
    fn longer_is_larger_and_leading_zeros_are_nothing() {
        let forty = "9".repeat(40);
        let ascending = ["0", "1", "9", "10", "099", "100", "49999", "50000", &forty];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        assert_eq!(number("000"), number("0"));
        assert_eq!(number("0012").as_str(), "0012");
        let distinct: std::collections::HashSet<_> = ["12", "0012", "13"].map(number).into();
        assert_eq!(distinct.len(), 2);
    }

    #[test]
    fn what_is_not_1_to_40_digits_is_refused_and_named() {
        for text in [
            "",
            "-1",
            "+1",
            "1.0",
            "1e3",
            "٣",
            " 1",
            "0x1",
            &"1".repeat(41),
        ] {
            let error = text.parse::<SequenceNumber>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_numbers(a: u128, b: u128, zeros in 0..2_usize) {
            let (x, y) = (number(&format!("{}{a}", "0".repeat(zeros))), number(&b.to_string()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.padded().cmp(&y.padded()), a.cmp(&b));
        }
    }
}
