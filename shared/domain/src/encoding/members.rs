//! JSON taken apart one level at a time, each member and element still as it was written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::EncodingError;

/// Lists and maps in each other; DynamoDB itself stops at 32.
pub(super) const DEEPEST: u32 = 64;

/// One member of an object.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    /// The name, decoded.
    pub(super) name: Cow<'a, str>,
    /// The name as it was written, with its quotes.
    pub(super) token: &'a str,
    /// The value as it was written.
    pub(super) value: &'a str,
}

/// The members of an object in their order, none twice.
pub(super) fn members(json: &str) -> Result<Vec<Member<'_>>, EncodingError> {
    let pairs: Pairs<'_> = serde_json::from_str(json)
        .map_err(|error| EncodingError::new(format!("it is not a JSON object: {error}")))?;
    let members = pairs
        .0
        .into_iter()
        .map(|(name, value)| {
            Ok(Member {
                name: text(name.get())?,
                token: name.get(),
                value: value.get(),
            })
        })
        .collect::<Result<Vec<_>, EncodingError>>()?;
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_ref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(members),
        Some(pair) => Err(EncodingError::new(format!(
            "the name {:?} stands twice",
            pair[0]
        ))),
    }
}

/// The elements of an array.
pub(super) fn elements(json: &str) -> Result<Vec<&str>, EncodingError> {
    let elements: Vec<&RawValue> = serde_json::from_str(json)
        .map_err(|error| EncodingError::new(format!("it is not a JSON array: {error}")))?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// The text of a JSON string.
pub(super) fn text(token: &str) -> Result<Cow<'_, str>, EncodingError> {
    let inner = token
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| EncodingError::new(format!("{token} is no string")))?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(token)
        .map(Cow::Owned)
        .map_err(|error| EncodingError::new(format!("{token} is no string: {error}")))
}

struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Collect).map(Pairs)
    }
}
