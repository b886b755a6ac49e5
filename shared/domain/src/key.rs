//! Primary keys: the positions of a scan.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The value of a key attribute: the three scalar types that DynamoDB allows in a key.
///
/// Numbers stay the text that DynamoDB sent; nothing here does arithmetic on them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// A string.
    S(String),
    /// A number, as DynamoDB's own decimal text.
    N(String),
    /// Bytes.
    B(Vec<u8>),
}

impl KeyValue {
    /// The scalar type of this value.
    #[must_use]
    pub fn scalar_type(&self) -> ScalarType {
        match self {
            Self::S(_) => ScalarType::S,
            Self::N(_) => ScalarType::N,
            Self::B(_) => ScalarType::B,
        }
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S(text) => write!(f, "S({text:?})"),
            Self::N(digits) => write!(f, "N({digits})"),
            Self::B(bytes) => write!(f, "B({})", BASE64.encode(bytes)),
        }
    }
}

/// The wire form of a key value, DynamoDB JSON: exactly one of the three members.
#[derive(Serialize, Deserialize)]
enum WireKeyValue {
    S(String),
    N(String),
    B(String),
}

impl Serialize for KeyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::S(text) => WireKeyValue::S(text.clone()),
            Self::N(digits) => WireKeyValue::N(digits.clone()),
            Self::B(bytes) => WireKeyValue::B(BASE64.encode(bytes)),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WireKeyValue::deserialize(deserializer)? {
            WireKeyValue::S(text) => Self::S(text),
            WireKeyValue::N(digits) => Self::N(digits),
            WireKeyValue::B(text) => {
                Self::B(BASE64.decode(text).map_err(serde::de::Error::custom)?)
            }
        })
    }
}

/// A primary key, or the position of a scan: attribute name to value.
///
/// Serialises as DynamoDB JSON, `{"id":{"S":"a"},"at":{"N":"7"}}`, names in byte order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub BTreeMap<String, KeyValue>);

/// The scalar types, as `AttributeDefinitions` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScalarType {
    /// String.
    S,
    /// Number.
    N,
    /// Binary.
    B,
}

/// One attribute of a table's primary key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyAttribute {
    /// The attribute's name.
    pub name: String,
    /// Its type.
    pub scalar_type: ScalarType,
}

/// A table's primary key: the partition key, and the sort key where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeySchema {
    /// `HASH`.
    pub partition: KeyAttribute,
    /// `RANGE`.
    pub sort: Option<KeyAttribute>,
}

/// Why an item has no usable key.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// The item is not a JSON object of attribute values.
    #[error("the item is not DynamoDB JSON: {0}")]
    NotAnItem(String),
    /// A key attribute is absent.
    #[error("the item lacks its key attribute {0:?}")]
    Missing(String),
    /// A key attribute has another type than the table's.
    #[error("key attribute {name:?} is not of type {expected:?}")]
    WrongType {
        /// The attribute.
        name: String,
        /// What the table's definition says.
        expected: ScalarType,
    },
}

impl fmt::Display for KeySchema {
    /// `id:S` or `id:S,at:N`: the form in which a key is given, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attribute) in self.attributes().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}:{:?}", attribute.name, attribute.scalar_type)?;
        }
        Ok(())
    }
}

impl KeySchema {
    /// The key attributes, partition key first.
    pub fn attributes(&self) -> impl Iterator<Item = &KeyAttribute> {
        std::iter::once(&self.partition).chain(self.sort.as_ref())
    }

    /// The primary key of one item given as DynamoDB JSON (`{"id":{"S":"a"},…}`).
    ///
    /// Other attributes are skipped without being built.
    pub fn key_of(&self, item: &[u8]) -> Result<Key, KeyError> {
        let members: BTreeMap<String, &serde_json::value::RawValue> =
            serde_json::from_slice(item).map_err(|error| KeyError::NotAnItem(error.to_string()))?;
        let mut key = BTreeMap::new();
        for attribute in self.attributes() {
            let raw = members
                .get(&attribute.name)
                .ok_or_else(|| KeyError::Missing(attribute.name.clone()))?;
            let value: KeyValue = serde_json::from_str(raw.get())
                .ok()
                .filter(|value: &KeyValue| value.scalar_type() == attribute.scalar_type)
                .ok_or_else(|| KeyError::WrongType {
                    name: attribute.name.clone(),
                    expected: attribute.scalar_type,
                })?;
            key.insert(attribute.name.clone(), value);
        }
        Ok(Key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> KeySchema {
        KeySchema {
            partition: KeyAttribute {
                name: "id".into(),
                scalar_type: ScalarType::B,
            },
            sort: Some(KeyAttribute {
                name: "at".into(),
                scalar_type: ScalarType::N,
            }),
        }
    }

    #[test]
    fn a_key_survives_the_trip_through_json() {
        let key = Key(BTreeMap::from([
            ("id".into(), KeyValue::B(vec![0xff, 0x00])),
            (
                "at".into(),
                KeyValue::N("12345678901234567890123456789012345678".into()),
            ),
        ]));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(
            json,
            r#"{"at":{"N":"12345678901234567890123456789012345678"},"id":{"B":"/wA="}}"#
        );
        assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key);
    }

    #[test]
    fn the_key_of_an_item_ignores_everything_else() {
        let item = br#"{"x":{"M":{"id":{"B":"AA=="}}},"at":{"N":"7"},"id":{"B":"/wA="}}"#;
        let key = schema().key_of(item).unwrap();
        assert_eq!(key.0["id"], KeyValue::B(vec![0xff, 0x00]));
        assert_eq!(key.0["at"], KeyValue::N("7".into()));
    }

    #[test]
    fn an_item_without_its_key_is_refused_by_name() {
        assert_eq!(
            schema().key_of(br#"{"id":{"B":"AA=="}}"#),
            Err(KeyError::Missing("at".into()))
        );
        assert_eq!(
            schema().key_of(br#"{"id":{"S":"a"},"at":{"N":"1"}}"#),
            Err(KeyError::WrongType {
                name: "id".into(),
                expected: ScalarType::B
            })
        );
        assert!(matches!(
            schema().key_of(b"[]"),
            Err(KeyError::NotAnItem(_))
        ));
    }
}
