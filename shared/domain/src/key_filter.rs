//! Which items of a backup a restore takes: those whose key is, or begins with, something.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::{Key, KeySchema, KeyValue, ScalarType};
use crate::number::same_number;

/// A condition on one key attribute: `customer=42`, or `at^=2026-11`.
///
/// Values of binary keys are written in base64; numbers are compared as numbers, and their prefix as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyFilter {
    /// The key attribute.
    pub attribute: String,
    /// How it is compared.
    pub test: KeyTest,
    /// With what.
    pub value: String,
}

/// How a key attribute is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTest {
    /// It is the value.
    Is,
    /// It begins with the value.
    BeginsWith,
}

/// A filter that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// Neither form.
    #[error("{0:?} is no key filter: write ATTRIBUTE=VALUE or ATTRIBUTE^=PREFIX")]
    Form(String),
    /// It names an attribute that is not in the key.
    #[error("{attribute:?} is no key attribute of the table; its key is {key}")]
    NotAKey {
        /// The attribute.
        attribute: String,
        /// The key attributes, with commas.
        key: String,
    },
    /// The value cannot be one of the attribute's type.
    #[error("{value:?} is no {expected:?} value, which key attribute {attribute:?} needs{}", if *expected == ScalarType::B { " (in base64)" } else { "" })]
    Value {
        /// The attribute.
        attribute: String,
        /// The value.
        value: String,
        /// The attribute's type.
        expected: ScalarType,
    },
}

impl FromStr for KeyFilter {
    type Err = FilterError;

    fn from_str(filter: &str) -> Result<Self, FilterError> {
        let (attribute, value) = filter
            .split_once('=')
            .ok_or_else(|| FilterError::Form(filter.to_owned()))?;
        let (attribute, test) = match attribute.strip_suffix('^') {
            Some(attribute) => (attribute, KeyTest::BeginsWith),
            None => (attribute, KeyTest::Is),
        };
        if attribute.is_empty() {
            return Err(FilterError::Form(filter.to_owned()));
        }
        Ok(Self {
            attribute: attribute.to_owned(),
            test,
            value: value.to_owned(),
        })
    }
}

impl TryFrom<String> for KeyFilter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        text.parse()
    }
}

impl From<KeyFilter> for String {
    fn from(filter: KeyFilter) -> Self {
        filter.to_string()
    }
}

impl fmt::Display for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let test = match self.test {
            KeyTest::Is => "=",
            KeyTest::BeginsWith => "^=",
        };
        write!(f, "{}{test}{}", self.attribute, self.value)
    }
}

impl KeyFilter {
    /// Whether the filter can be used on a table with this key.
    pub fn check(&self, schema: &KeySchema) -> Result<(), FilterError> {
        let Some(attribute) = schema.attributes().find(|it| it.name == self.attribute) else {
            let names: Vec<_> = schema.attributes().map(|it| it.name.as_str()).collect();
            return Err(FilterError::NotAKey {
                attribute: self.attribute.clone(),
                key: names.join(", "),
            });
        };
        let usable = match (attribute.scalar_type, self.test) {
            (ScalarType::S, _) | (ScalarType::N, KeyTest::BeginsWith) => true,
            (ScalarType::N, KeyTest::Is) => same_number(&self.value, &self.value),
            (ScalarType::B, _) => BASE64.decode(&self.value).is_ok(),
        };
        if usable {
            return Ok(());
        }
        Err(FilterError::Value {
            attribute: self.attribute.clone(),
            value: self.value.clone(),
            expected: attribute.scalar_type,
        })
    }

    /// Whether an item of this key passes.
    #[must_use]
    pub fn passes(&self, key: &Key) -> bool {
        match (key.0.get(&self.attribute), self.test) {
            (Some(KeyValue::S(text)), KeyTest::Is) => *text == self.value,
            (Some(KeyValue::S(text) | KeyValue::N(text)), KeyTest::BeginsWith) => {
                text.starts_with(&self.value)
            }
            (Some(KeyValue::N(digits)), KeyTest::Is) => same_number(digits, &self.value),
            (Some(KeyValue::B(bytes)), test) => {
                BASE64.decode(&self.value).is_ok_and(|value| match test {
                    KeyTest::Is => *bytes == value,
                    KeyTest::BeginsWith => bytes.starts_with(&value),
                })
            }
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyAttribute;

    fn schema() -> KeySchema {
        let attribute = |name: &str, scalar_type| KeyAttribute {
            name: name.into(),
            scalar_type,
        };
        KeySchema {
            partition: attribute("id", ScalarType::B),
            sort: Some(attribute("at", ScalarType::N)),
        }
    }

    fn passes(filter: &str, value: KeyValue) -> bool {
        let filter: KeyFilter = filter.parse().unwrap();
        filter.passes(&Key([(filter.attribute.clone(), value)].into()))
    }

    #[test]
    fn a_key_is_or_begins_with_the_value() {
        let text = |text: &str| KeyValue::S(text.into());
        assert!(passes("id=a=b", text("a=b")));
        assert!(!passes("id=a", text("ab")));
        assert!(passes("id^=a", text("ab")));
        assert!(!passes("id^=b", text("ab")));
        assert!(passes("at=10", KeyValue::N("1E+1".into())));
        assert!(!passes("at=10", KeyValue::N("100".into())));
        assert!(passes("id^=/w==", KeyValue::B(vec![255, 0])));
        assert!(!passes("id=/w==", KeyValue::B(vec![255, 0])));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let check = |text: &str| text.parse::<KeyFilter>().and_then(|it| it.check(&schema()));
        assert_eq!(check("id=/w=="), Ok(()));
        assert_eq!(check("at=-1.5e3"), Ok(()));
        assert!(matches!(check("name=x"), Err(FilterError::NotAKey { .. })));
        assert!(matches!(check("at=x"), Err(FilterError::Value { .. })));
        assert!(matches!(check("id=%%"), Err(FilterError::Value { .. })));
        assert!(matches!(check("id"), Err(FilterError::Form(_))));
        assert!(matches!(check("=x"), Err(FilterError::Form(_))));
    }
}
