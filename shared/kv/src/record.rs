//! One record as it was read.

use std::collections::HashMap;
use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use crate::clock::Now;
use crate::error::Error;
use crate::field::{EXPIRES, Field, ID, NAME, PAYLOAD, VERSION};

/// A DynamoDB item, as the SDK gives it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Which record: its table, its partition (`id`) and its name in the partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// The table's name.
    pub table: String,
    /// The partition, attribute `id`.
    pub partition: String,
    /// The name in the partition, attribute `name`.
    pub name: String,
}

impl RecordKey {
    pub(crate) fn new(table: &str, partition: &str, name: &str) -> Self {
        Self {
            table: table.to_owned(),
            partition: partition.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "record {:?} of partition {:?} in table {}",
            self.name, self.partition, self.table
        )
    }
}

/// One live record, as it was at the moment of the read or right after the write.
///
/// Its [`version`](Self::version) is what an update or a delete must name to be sure that nobody was in
/// between. Versions are opaque: they grow with every write and are never used twice for one key, but
/// a record's first version is not 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    key: RecordKey,
    version: i64,
    expires: Option<i64>,
    payload: Option<AttributeValue>,
    fields: Item,
}

impl Record {
    /// Reads an item of `table`. The key attributes, version and expiry must be of kv's types.
    pub(crate) fn from_item(table: &str, mut item: Item) -> Result<Self, Error> {
        let mut key = RecordKey::new(table, "", "");
        key.partition = take_text(&mut item, ID, &key)?;
        key.name = take_text(&mut item, NAME, &key)?;
        let version = number(&item, VERSION, &key)?
            .ok_or_else(|| malformed(&key, VERSION, "is not there"))?;
        let expires = number(&item, EXPIRES, &key)?;
        item.remove(VERSION);
        item.remove(EXPIRES);
        Ok(Self {
            version,
            expires,
            payload: item.remove(PAYLOAD),
            fields: item,
            key,
        })
    }

    /// The record's key with its table.
    #[must_use]
    pub fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The partition that the record is in.
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.key.partition
    }

    /// The record's name in its partition.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// The version to name in an update or delete of this state of the record.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The second since 1970 from which the record is gone; `None`: it stays for ever.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// The payload as a typed value.
    ///
    /// # Errors
    /// [`Error::Decode`] if the payload is absent or of another shape.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let payload = self.present_payload()?;
        if is_of_unknown_type(payload) {
            return Err(
                self.decode_error("a type of attribute value that is newer than this".into())
            );
        }
        serde_dynamo::from_attribute_value(payload.clone())
            .map_err(|source| self.decode_error(source.into()))
    }

    /// The payload as text. NULL, which dynastore writes for the empty text, reads as such.
    ///
    /// # Errors
    /// [`Error::Decode`] if the payload is absent or neither S nor NULL.
    pub fn text(&self) -> Result<String, Error> {
        match self.present_payload()? {
            AttributeValue::S(text) => Ok(text.clone()),
            AttributeValue::Null(true) => Ok(String::new()),
            _ => Err(self.decode_error("not a string".into())),
        }
    }

    /// The payload as bytes: B, or base64 in S as dynastore writes it.
    ///
    /// # Errors
    /// [`Error::Decode`] if the payload is absent, of another type, or S that is not base64.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        match self.present_payload()? {
            AttributeValue::B(bytes) => Ok(bytes.as_ref().to_vec()),
            AttributeValue::S(text) => STANDARD
                .decode(text)
                .map_err(|source| self.decode_error(source.into())),
            AttributeValue::Null(true) => Ok(Vec::new()),
            _ => Err(self.decode_error("neither bytes nor base64 text".into())),
        }
    }

    /// The payload as DynamoDB holds it, whatever its type; `None` if the record has none.
    #[must_use]
    pub fn payload(&self) -> Option<&AttributeValue> {
        self.payload.as_ref()
    }

    /// One scalar field; `None` if it is absent or not a scalar.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Field> {
        self.fields.get(name).and_then(Field::from_attribute)
    }

    /// All fields as DynamoDB holds them: every attribute that is not one of the record's own.
    #[must_use]
    pub fn fields(&self) -> &HashMap<String, AttributeValue> {
        &self.fields
    }

    /// All fields together as one typed value, for example a struct with a member per field.
    ///
    /// # Errors
    /// [`Error::Decode`] if they do not have that shape.
    pub fn decode_fields<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let refuse = |source| Error::Decode {
            key: self.key.clone(),
            attribute: "fields",
            source,
        };
        if self.fields.values().any(is_of_unknown_type) {
            return Err(refuse(
                "a type of attribute value that is newer than this".into(),
            ));
        }
        serde_dynamo::from_item(self.fields.clone()).map_err(|source| refuse(source.into()))
    }

    pub(crate) fn is_expired(&self, now: Now) -> bool {
        now.is_past(self.expires)
    }

    fn present_payload(&self) -> Result<&AttributeValue, Error> {
        self.payload
            .as_ref()
            .ok_or_else(|| self.decode_error("the record has no payload".into()))
    }

    fn decode_error(&self, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Decode {
            key: self.key.clone(),
            attribute: PAYLOAD,
            source,
        }
    }
}

/// The version and expiry of an item that may have nothing else of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) version: Option<i64>,
    pub(crate) expires: Option<i64>,
}

impl Standing {
    pub(crate) fn of(item: &Item, key: &RecordKey) -> Result<Self, Error> {
        Ok(Self {
            version: number(item, VERSION, key)?,
            expires: number(item, EXPIRES, key)?,
        })
    }

    /// The version of a live record; refuses an item that nobody could have written through kv.
    pub(crate) fn live_version(self, key: &RecordKey) -> Result<i64, Error> {
        self.version
            .ok_or_else(|| malformed(key, VERSION, "is not there"))
    }
}

/// Whether DynamoDB sent something that the SDK does not know; `serde_dynamo` would panic on it.
fn is_of_unknown_type(value: &AttributeValue) -> bool {
    match value {
        AttributeValue::L(values) => values.iter().any(is_of_unknown_type),
        AttributeValue::M(values) => values.values().any(is_of_unknown_type),
        other => other.is_unknown(),
    }
}

fn take_text(item: &mut Item, attribute: &'static str, key: &RecordKey) -> Result<String, Error> {
    match item.remove(attribute) {
        Some(AttributeValue::S(text)) => Ok(text),
        Some(_) => Err(malformed(key, attribute, "is not a string")),
        None => Err(malformed(key, attribute, "is not there")),
    }
}

fn number(item: &Item, attribute: &'static str, key: &RecordKey) -> Result<Option<i64>, Error> {
    match item.get(attribute) {
        None => Ok(None),
        Some(AttributeValue::N(number)) => number
            .parse()
            .map(Some)
            .map_err(|_| malformed(key, attribute, "is not a whole number of 64 bits")),
        Some(_) => Err(malformed(key, attribute, "is not a number")),
    }
}

fn malformed(key: &RecordKey, attribute: &'static str, reason: &'static str) -> Error {
    Error::Malformed {
        key: key.clone(),
        attribute,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;

    use super::*;

    fn record(payload: AttributeValue) -> Record {
        let item = HashMap::from([
            (ID.to_owned(), AttributeValue::S("p".into())),
            (NAME.to_owned(), AttributeValue::S("n".into())),
            (VERSION.to_owned(), AttributeValue::N("3".into())),
            (PAYLOAD.to_owned(), payload),
        ]);
        Record::from_item("t", item).unwrap()
    }

    #[test]
    fn payloads_that_dynastore_wrote_are_readable() {
        let bytes = record(AttributeValue::S("d29ybGQ=".into()));
        assert_eq!(bytes.bytes().unwrap(), b"world");
        assert_eq!(record(AttributeValue::Null(true)).text().unwrap(), "");
    }

    #[test]
    fn a_payload_of_the_wrong_type_is_named() {
        let error = record(AttributeValue::N("1".into())).bytes().unwrap_err();
        assert_eq!(
            error.to_string(),
            "payload of record \"n\" of partition \"p\" in table t cannot be read as asked"
        );
        assert!(
            record(AttributeValue::S("not base64".into()))
                .bytes()
                .is_err()
        );
        let bytes = record(AttributeValue::B(Blob::new(b"x")));
        assert!(bytes.text().is_err());
        assert!(bytes.value::<u32>().is_err());
    }

    #[test]
    fn items_that_are_no_records_are_refused_by_attribute() {
        let whole = HashMap::from([
            (ID.to_owned(), AttributeValue::S("p".into())),
            (NAME.to_owned(), AttributeValue::S("n".into())),
            (VERSION.to_owned(), AttributeValue::N("3".into())),
        ]);
        for (attribute, bad) in [
            (ID, None),
            (NAME, Some(AttributeValue::N("1".into()))),
            (VERSION, None),
            (VERSION, Some(AttributeValue::N("1.5".into()))),
            (EXPIRES, Some(AttributeValue::S("soon".into()))),
        ] {
            let mut item = whole.clone();
            item.remove(attribute);
            if let Some(bad) = bad {
                item.insert(attribute.to_owned(), bad);
            }
            match Record::from_item("t", item) {
                Err(Error::Malformed {
                    attribute: named, ..
                }) => assert_eq!(named, attribute),
                other => panic!("{attribute}: {other:?}"),
            }
        }
    }
}
