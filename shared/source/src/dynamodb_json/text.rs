//! Strings of the JSON itself: as they are, or for what they spell.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

/// Reads a string, borrowed where it has no escapes.
pub(super) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The bytes that a text spells in base64.
pub(super) fn bytes<E: Error>(text: &str) -> Result<Vec<u8>, E> {
    BASE64
        .decode(text)
        .map_err(|error| E::custom(format!("a binary is no base64: {error}")))
}

/// Hands a seed over to a visitor that asks for something certain.
pub(super) enum Ask<V> {
    Str(V),
    Bool(V),
    Map(V),
    Seq(V),
}

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Ask<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        match self {
            Self::Str(visitor) => deserializer.deserialize_str(visitor),
            Self::Bool(visitor) => deserializer.deserialize_bool(visitor),
            Self::Map(visitor) => deserializer.deserialize_map(visitor),
            Self::Seq(visitor) => deserializer.deserialize_seq(visitor),
        }
    }
}
