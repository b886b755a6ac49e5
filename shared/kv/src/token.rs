//! Page tokens: where the next page of a list begins, as text that can travel through other people's hands.
//!
//! The form is dynastore's: base58 (Bitcoin's alphabet) of gzip of the JSON of `LastEvaluatedKey`. Tokens
//! that dynastore made are accepted; its gzip streams are flushed but never closed, and its JSON carries
//! every type of attribute value with all but one null. A token is untrusted input.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::Error;
use crate::field::Field;
use crate::record::Item;

/// Longest token read: base58 takes quadratic time. The longest possible key (2 KiB + 1 KiB, twice with
/// an index) stays below, even if it does not compress at all.
const LONGEST_TOKEN: usize = 16 * 1024;
/// Most JSON unpacked from a token.
const LARGEST_JSON: u64 = 64 * 1024;

/// Where the next page of a list begins.
///
/// Opaque text outside: `to_string()` and `parse()`, or serde. It fits only the list that it came from, with
/// the same partition, prefix and index; elsewhere it is refused with [`Error::BadToken`].
///
/// ```
/// use highwater_kv::{Error, PageToken};
/// assert!(matches!("not a token".parse::<PageToken>(), Err(Error::BadToken { .. })));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PageToken {
    key: BTreeMap<String, Field>,
}

impl PageToken {
    pub(crate) fn key(&self) -> &BTreeMap<String, Field> {
        &self.key
    }

    pub(crate) fn to_start_key(&self) -> Item {
        self.key
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into_attribute()))
            .collect()
    }

    /// The token of a `LastEvaluatedKey`; `None` if that holds anything but scalars.
    pub(crate) fn from_last_key(item: &Item) -> Option<Self> {
        let key = item
            .iter()
            .map(|(name, value)| Some((name.clone(), Field::from_attribute(value)?)))
            .collect::<Option<_>>()?;
        Some(Self { key })
    }

    fn to_json(&self) -> Value {
        let key = self.key.iter().map(|(name, value)| {
            let (kind, value) = match value {
                Field::S(text) => ("S", Value::from(text.as_str())),
                Field::N(number) => ("N", Value::from(number.as_str())),
                Field::B(bytes) => ("B", Value::from(STANDARD.encode(bytes))),
                Field::Bool(flag) => ("BOOL", Value::from(*flag)),
            };
            (name.clone(), serde_json::json!({ kind: value }))
        });
        Value::Object(key.collect())
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = self.to_json().to_string();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(json.as_bytes()).map_err(|_| fmt::Error)?;
        let bytes = gzip.finish().map_err(|_| fmt::Error)?;
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageToken").field(&self.key).finish()
    }
}

impl FromStr for PageToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST_TOKEN {
            return Err(bad("it is too long"));
        }
        let packed = bs58::decode(text)
            .into_vec()
            .map_err(|error| bad(format!("it is not base58: {error}")))?;
        let json = unpack(&packed)?;
        let key = serde_json::Deserializer::from_slice(&json)
            .into_iter::<BTreeMap<String, BTreeMap<String, Value>>>()
            .next()
            .ok_or_else(|| bad("it is empty"))?
            .map_err(|error| bad(format!("it holds no key: {error}")))?;
        let key: BTreeMap<_, _> = key
            .into_iter()
            .map(|(name, value)| Ok((name, scalar(value)?)))
            .collect::<Result<_, Error>>()?;
        if key.is_empty() {
            return Err(bad("it holds no key"));
        }
        Ok(Self { key })
    }
}

impl Serialize for PageToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PageToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

pub(crate) fn bad(reason: impl Into<String>) -> Error {
    Error::BadToken {
        reason: reason.into(),
    }
}

/// Unpacks gzip whose trailer may be missing, because dynastore never wrote one.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut json = Vec::new();
    match GzDecoder::new(packed)
        .take(LARGEST_JSON)
        .read_to_end(&mut json)
    {
        Ok(_) => Ok(json),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && !json.is_empty() => Ok(json),
        Err(error) => Err(bad(format!("it is not gzip: {error}"))),
    }
}

/// The one value that is not null.
fn scalar(types: BTreeMap<String, Value>) -> Result<Field, Error> {
    let mut present = types.into_iter().filter(|(_, value)| !value.is_null());
    let field = match present.next() {
        Some((kind, Value::String(text))) => match kind.as_str() {
            "S" => Field::S(text),
            "N" => Field::N(text),
            "B" => STANDARD
                .decode(text)
                .map(Field::B)
                .map_err(|error| bad(format!("its bytes are not base64: {error}")))?,
            _ => return Err(bad(format!("a key has no type {kind:?}"))),
        },
        _ => return Err(bad("a key value is not S, N or B")),
    };
    match present.next() {
        None => Ok(field),
        Some(_) => Err(bad("a key value has two types")),
    }
}

/// Kept apart from the token's text so that a wrong type is told before DynamoDB is asked.
pub(crate) fn as_text(value: Option<&Field>) -> Option<&str> {
    match value {
        Some(Field::S(text)) => Some(text),
        _ => None,
    }
}
