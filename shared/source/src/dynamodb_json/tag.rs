//! The one member of an attribute value: its type's name, and then its value, whoever reads it.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::attribute::Attribute;

/// DynamoDB's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    S,
    N,
    B,
    Bool,
    Null,
    M,
    L,
    Ss,
    Ns,
    Bs,
}

impl Tag {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "S" => Self::S,
            "N" => Self::N,
            "B" => Self::B,
            "BOOL" => Self::Bool,
            "NULL" => Self::Null,
            "M" => Self::M,
            "L" => Self::L,
            "SS" => Self::Ss,
            "NS" => Self::Ns,
            "BS" => Self::Bs,
            _ => return None,
        })
    }

    /// For messages.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::S => "a string (S)",
            Self::N => "a number (N)",
            Self::B => "a binary (B)",
            Self::Bool => "a boolean (BOOL)",
            Self::Null => "a null (NULL)",
            Self::M => "a map (M)",
            Self::L => "a list (L)",
            Self::Ss => "a string set (SS)",
            Self::Ns => "a number set (NS)",
            Self::Bs => "a binary set (BS)",
        }
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Tag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a DynamoDB type")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Tag, E> {
                Tag::of(name).ok_or_else(|| E::custom(format!("{name:?} is not a DynamoDB type")))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// What stands behind a type's name. It is read once, in whatever form is asked for.
pub(super) trait Value<'de> {
    type Error: Error;

    fn read<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Self::Error>;
}

/// The value of the member whose name was just read.
struct Behind<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> Value<'de> for Behind<'_, A> {
    type Error = A::Error;

    fn read<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A whole document: an item is a map that nobody says is one.
pub(super) struct Whole<D>(pub(super) D);

impl<'de, D: Deserializer<'de>> Value<'de> for Whole<D> {
    type Error = D::Error;

    fn read<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, D::Error> {
        seed.deserialize(self.0)
    }
}

/// Reads `{"<type>":<value>}` into what the seed makes of it.
pub(super) struct Typed<S>(pub(super) S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Typed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        deserializer.deserialize_map(Opened(self.0))
    }
}

struct Opened<S>(S);

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Opened<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value, {\"<type>\":…}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<S::Value, A::Error> {
        let tag = members
            .next_key()?
            .ok_or_else(|| A::Error::custom("an attribute value without a type"))?;
        let value = Behind(&mut members);
        let read = self.0.deserialize(Attribute { tag, value })?;
        if members.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("an attribute value of two types"));
        }
        Ok(read)
    }
}
