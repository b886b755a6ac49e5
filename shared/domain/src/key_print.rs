//! Tells items apart by their keys, fast: a print of the key, and whether DynamoDB would take it.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::json_walk::{Walk, unquoted};
use crate::key::{KeyAttribute, KeySchema, ScalarType};
use crate::number::CanonicalNumber;

/// The print of a key: equal keys have equal prints, however they are spelled, and different ones do not.
///
/// 128 bits of SHA-256, so that nobody meets two keys of one print by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrint(pub [u8; 16]);

/// The longest partition key, in bytes.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>
const MAX_PARTITION_KEY: usize = 2048;

/// The longest sort key, in bytes.
const MAX_SORT_KEY: usize = 1024;

/// Why DynamoDB would not take an item for its key.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnusableKey {
    /// The item is not a JSON object of attribute values.
    #[error("the item is not DynamoDB JSON: {0}")]
    NotAnItem(String),
    /// A key attribute is absent.
    #[error("the item lacks its key attribute {0:?}")]
    Missing(String),
    /// A key attribute has another type than the table's, or no value of its type.
    #[error("key attribute {name:?} is not of type {expected:?}")]
    WrongType {
        /// The attribute.
        name: String,
        /// What the table's definition says.
        expected: ScalarType,
    },
    /// A key attribute is an empty string or binary.
    #[error("key attribute {0:?} is empty")]
    Empty(String),
    /// A key attribute is longer than a key can be.
    #[error("key attribute {name:?} has {bytes} bytes; at most {most} are allowed")]
    TooLong {
        /// The attribute.
        name: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
}

impl KeySchema {
    /// The print of an item's key, if DynamoDB would take it. The item is given as DynamoDB JSON; nothing of it
    /// but the key is built.
    pub fn print_of(&self, item: &[u8]) -> Result<KeyPrint, UnusableKey> {
        let mut reader = serde_json::Deserializer::from_slice(item);
        let values = KeyValues(self)
            .deserialize(&mut reader)
            .and_then(|values| reader.end().map(|()| values))
            .map_err(|error| UnusableKey::NotAnItem(error.to_string()))?;
        self.print(values)
    }

    /// The same of an item that was found to be JSON before, as those of [`ItemLines`](crate::item_lines::ItemLines)
    /// were. Of anything else the print means nothing.
    pub fn print_of_checked(&self, item: &[u8]) -> Result<KeyPrint, UnusableKey> {
        match self.spelled_plainly(item) {
            Some(values) => self.print(values),
            None => self.print_of(item),
        }
    }

    /// The key's values where they stand in the item, if neither they nor any name is escaped.
    fn spelled_plainly<'a>(&self, item: &'a [u8]) -> Option<Found<'a>> {
        let mut found = Found::default();
        let mut walk = Walk::into(item);
        while let Some(name) = walk.name() {
            let name = unquoted(walk.slice(&name))?;
            if name == self.partition.name.as_bytes() {
                found.partition = Some(plain_scalar(&mut walk)?);
            } else if self
                .sort
                .as_ref()
                .is_some_and(|it| name == it.name.as_bytes())
            {
                found.sort = Some(plain_scalar(&mut walk)?);
            } else {
                walk.value();
            }
        }
        Some(found)
    }

    fn print(&self, values: Found<'_>) -> Result<KeyPrint, UnusableKey> {
        let mut hash = Sha256::new();
        absorb(
            &mut hash,
            &self.partition,
            values.partition,
            MAX_PARTITION_KEY,
        )?;
        if let Some(sort) = &self.sort {
            absorb(&mut hash, sort, values.sort, MAX_SORT_KEY)?;
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut print = [0; 16];
        print.copy_from_slice(&digest[..16]);
        Ok(KeyPrint(print))
    }
}

/// A value of one of the types that a key can have, with nothing else in it and nothing escaped.
fn plain_scalar<'a>(walk: &mut Walk<'a>) -> Option<Scalar<'a>> {
    if !walk.enter() {
        return None;
    }
    let kind = walk.name()?;
    let kind = match walk.slice(&kind) {
        br#""S""# => ScalarType::S,
        br#""N""# => ScalarType::N,
        br#""B""# => ScalarType::B,
        _ => return None,
    };
    let text = std::str::from_utf8(walk.plain_string()?).ok()?;
    let is_all = walk.name().is_none();
    is_all.then_some(Scalar::Text(kind, Cow::Borrowed(text)))
}

/// What an item has under the names of the key's attributes.
#[derive(Default)]
struct Found<'de> {
    partition: Option<Scalar<'de>>,
    sort: Option<Scalar<'de>>,
}

/// An attribute value, as far as it can be a key.
enum Scalar<'de> {
    Text(ScalarType, Cow<'de, str>),
    Other,
}

/// Feeds one key attribute to the hash, with its length before it, so that no two keys feed the same bytes.
fn absorb(
    hash: &mut Sha256,
    attribute: &KeyAttribute,
    value: Option<Scalar<'_>>,
    most: usize,
) -> Result<(), UnusableKey> {
    let name = || attribute.name.clone();
    let expected = attribute.scalar_type;
    let wrong = || UnusableKey::WrongType {
        name: name(),
        expected,
    };
    let text = match value {
        None => return Err(UnusableKey::Missing(name())),
        Some(Scalar::Text(found, text)) if found == expected => text,
        Some(_) => return Err(wrong()),
    };
    let bytes = match expected {
        ScalarType::S => Cow::Borrowed(text.as_bytes()),
        ScalarType::B => Cow::Owned(BASE64.decode(text.as_bytes()).map_err(|_| wrong())?),
        ScalarType::N => {
            let number = CanonicalNumber::parse(&text).ok_or_else(wrong)?;
            let sign = if number.negative { '-' } else { '+' };
            Cow::Owned(format!("{sign}{}e{}", number.digits, number.exponent).into_bytes())
        }
    };
    if bytes.is_empty() {
        return Err(UnusableKey::Empty(name()));
    }
    if bytes.len() > most && expected != ScalarType::N {
        return Err(UnusableKey::TooLong {
            name: name(),
            bytes: bytes.len(),
            most,
        });
    }
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(&bytes);
    Ok(())
}

/// Reads the members of an item, and of them only those that the key needs.
struct KeyValues<'a>(&'a KeySchema);

impl<'de> DeserializeSeed<'de> for KeyValues<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeyValues<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of attribute values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found::default();
        while let Some(Name(name)) = members.next_key()? {
            if *name == *self.0.partition.name {
                found.partition = Some(members.next_value_seed(ScalarValue)?);
            } else if self.0.sort.as_ref().is_some_and(|sort| *name == *sort.name) {
                found.sort = Some(members.next_value_seed(ScalarValue)?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A member's name, borrowed where no escape has to be decoded.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads one attribute value: an object with one member, named for its type.
struct ScalarValue;

impl<'de> DeserializeSeed<'de> for ScalarValue {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ScalarValue {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Scalar<'de>, A::Error> {
        let mut value = Scalar::Other;
        let mut count = 0;
        while let Some(Name(kind)) = members.next_key()? {
            count += 1;
            let scalar_type = match &*kind {
                "S" => ScalarType::S,
                "N" => ScalarType::N,
                "B" => ScalarType::B,
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let Name(text) = members.next_value()?;
            value = Scalar::Text(scalar_type, text);
        }
        Ok(if count == 1 { value } else { Scalar::Other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(partition: ScalarType, sort: Option<ScalarType>) -> KeySchema {
        let attribute = |name: &str, scalar_type| KeyAttribute {
            name: name.into(),
            scalar_type,
        };
        KeySchema {
            partition: attribute("id", partition),
            sort: sort.map(|sort| attribute("at", sort)),
        }
    }

    fn print(partition: ScalarType, item: &str) -> Result<KeyPrint, UnusableKey> {
        let schema = schema(partition, None);
        let print = schema.print_of(item.as_bytes());
        if serde_json::from_str::<serde_json::Value>(item).is_ok_and(|item| item.is_object()) {
            let checked = schema.print_of_checked(item.as_bytes());
            assert_eq!(checked, print, "{item}");
        }
        print
    }

    #[test]
    fn equal_keys_have_equal_prints_however_they_are_spelled() {
        let number = |item| print(ScalarType::N, item).unwrap();
        assert_eq!(
            number(r#"{"id":{"N":"10"}}"#),
            number(r#"{"x":{"S":"y"},"id":{"N":"1E+1"}}"#)
        );
        assert_ne!(
            number(r#"{"id":{"N":"10"}}"#),
            number(r#"{"id":{"N":"-10"}}"#)
        );
        let text = |item| print(ScalarType::S, item).unwrap();
        assert_eq!(
            text(r#"{"id":{"S":"a"}}"#),
            text(r#"{"\u0069d":{"S":"\u0061"}}"#)
        );
        for spelled in [
            r#"{"x":{"M":{"id":{"S":"b"}}},"id" : { "S" : "a" } ,"\u0079":{"L":[{"S":"]}"}]}}"#,
            r#"{"id":{"S":"b"},"id":{"S":"a"}}"#,
            r#"{"id":{"S":"b"},"i\u0064":{"S":"a"}}"#,
            r#"{"i\u0064":{"S":"b"},"id":{"\u0053":"a"}}"#,
            r#"{"\\":{"S":"\\\""},"id":{"S":"a"}}"#,
        ] {
            assert_eq!(text(spelled), text(r#"{"id":{"S":"a"}}"#), "{spelled}");
        }
    }

    #[test]
    fn the_parts_of_a_key_do_not_run_into_each_other() {
        let both = schema(ScalarType::S, Some(ScalarType::S));
        let print = |id: &str, at: &str| {
            both.print_of(format!(r#"{{"id":{{"S":"{id}"}},"at":{{"S":"{at}"}}}}"#).as_bytes())
                .unwrap()
        };
        assert_ne!(print("ab", "c"), print("a", "bc"));
        assert_eq!(print("ab", "c"), print("ab", "c"));
    }

    #[test]
    fn what_dynamodb_would_not_take_is_told() {
        let of = |item: &str| print(ScalarType::S, item).unwrap_err();
        assert_eq!(of("{}"), UnusableKey::Missing("id".into()));
        assert_eq!(of(r#"{"id":{"S":""}}"#), UnusableKey::Empty("id".into()));
        for wrong in [
            r#"{"id":{"N":"1"}}"#,
            r#"{"id":{}}"#,
            r#"{"id":{"S":"a","N":"1"}}"#,
            r#"{"id":{"L":[]}}"#,
        ] {
            assert!(
                matches!(of(wrong), UnusableKey::WrongType { .. }),
                "{wrong}"
            );
        }
        for torn in [
            "",
            "[]",
            r#"{"id":"a"}"#,
            r#"{"id":{"S":"a"}} x"#,
            r#"{"id":{"S":7}}"#,
        ] {
            assert!(matches!(of(torn), UnusableKey::NotAnItem(_)), "{torn}");
        }
        let long = format!(r#"{{"id":{{"S":"{}"}}}}"#, "x".repeat(2049));
        assert!(matches!(
            of(&long),
            UnusableKey::TooLong {
                bytes: 2049,
                most: 2048,
                ..
            }
        ));
        let binary = |item| print(ScalarType::B, item).unwrap_err();
        assert!(matches!(
            binary(r#"{"id":{"B":"%"}}"#),
            UnusableKey::WrongType { .. }
        ));
        assert!(matches!(
            binary(r#"{"id":{"B":""}}"#),
            UnusableKey::Empty(_)
        ));
        let number = print(ScalarType::N, r#"{"id":{"N":"x"}}"#).unwrap_err();
        assert!(matches!(number, UnusableKey::WrongType { .. }));
    }
}
