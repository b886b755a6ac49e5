//! What a write changes in a record: payload, fields, expiry.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use crate::clock::Now;
use crate::error::Error;
use crate::expression::Expression;
use crate::field::{EXPIRES, Field, ID, NAME, PAYLOAD, RESERVED_FIELDS, VERSION};

/// The content of a write. What it does not mention stays as it is in the record.
///
/// On a record that does not exist yet, or has expired, nothing is left to stay: whatever the write
/// does not mention is absent afterwards.
///
/// ```
/// use std::time::Duration;
/// use highwater_kv::Write;
///
/// #[derive(serde::Serialize)]
/// struct Job { state: &'static str }
///
/// let write = Write::value(&Job { state: "open" })?
///     .field("created", "2020-01-03T11:00Z")
///     .field("priority", 7)
///     .ttl(Duration::from_secs(3600));
/// # Ok::<(), highwater_kv::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a write does nothing until it is given to a partition or a transaction"]
pub struct Write {
    payload: Option<AttributeValue>,
    /// `None` removes the field.
    fields: BTreeMap<String, Option<Field>>,
    expiry: Expiry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expiry {
    #[default]
    Kept,
    After(Duration),
    At(i64),
    Never,
}

impl Write {
    /// A write that leaves the payload alone: to change fields or the expiry only.
    pub fn new() -> Self {
        Self::default()
    }

    /// A typed payload, stored as DynamoDB's own value: a struct becomes a map, and so on.
    ///
    /// # Errors
    /// [`Error::Encode`] if `payload` has no such form, for example a map with non-string keys.
    pub fn value<T: Serialize + ?Sized>(payload: &T) -> Result<Self, Error> {
        let refuse = |source| Error::Encode {
            attribute: PAYLOAD,
            source,
        };
        // serde_dynamo panics on maps whose keys are lists, maps or bytes; serde_json refuses them.
        serde_json::to_writer(std::io::sink(), payload).map_err(|source| refuse(source.into()))?;
        let payload =
            serde_dynamo::to_attribute_value(payload).map_err(|source| refuse(source.into()))?;
        Ok(Self {
            payload: Some(payload),
            ..Self::default()
        })
    }

    /// A text payload, stored as S. The empty text is stored as such.
    pub fn text(payload: impl Into<String>) -> Self {
        Self {
            payload: Some(AttributeValue::S(payload.into())),
            ..Self::default()
        }
    }

    /// A payload of bytes, stored as B.
    pub fn bytes(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(AttributeValue::B(Blob::new(payload))),
            ..Self::default()
        }
    }

    /// Sets a top-level field. The last call for a name wins.
    ///
    /// The names in [`RESERVED_FIELDS`] are refused when the write is sent.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Field>) -> Self {
        self.fields.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a top-level field, if the record has it. The last call for a name wins.
    pub fn remove_field(mut self, name: impl Into<String>) -> Self {
        self.fields.insert(name.into(), None);
        self
    }

    /// Lets the record expire after this time from now: rounded up to a whole second.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Lets the record expire at this second since 1970: it is gone from that very second on.
    pub fn expires_at(mut self, unix_seconds: i64) -> Self {
        self.expiry = Expiry::At(unix_seconds);
        self
    }

    /// Lets the record live for ever: removes an expiry that it had.
    pub fn no_expiry(mut self) -> Self {
        self.expiry = Expiry::Never;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self
            .fields
            .keys()
            .find(|name| RESERVED_FIELDS.contains(&name.as_str()))
        {
            Some(name) => Err(Error::ReservedField { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn expires(&self, now: Now) -> Option<i64> {
        match self.expiry {
            Expiry::Kept | Expiry::Never => None,
            Expiry::After(ttl) => Some(now.expiry_after(ttl)),
            Expiry::At(second) => Some(second),
        }
    }

    /// The whole item of a new record.
    pub(crate) fn new_item(
        &self,
        partition: &str,
        name: &str,
        version: i64,
        now: Now,
    ) -> HashMap<String, AttributeValue> {
        let mut item = HashMap::from([
            (ID.to_owned(), AttributeValue::S(partition.to_owned())),
            (NAME.to_owned(), AttributeValue::S(name.to_owned())),
            (VERSION.to_owned(), AttributeValue::N(version.to_string())),
        ]);
        if let Some(expires) = self.expires(now) {
            item.insert(EXPIRES.to_owned(), AttributeValue::N(expires.to_string()));
        }
        if let Some(payload) = &self.payload {
            item.insert(PAYLOAD.to_owned(), payload.clone());
        }
        for (name, value) in &self.fields {
            if let Some(value) = value {
                item.insert(name.clone(), value.clone().into_attribute());
            }
        }
        item
    }

    /// The update expression that merges this write into a record; `version` is the term after `version =`.
    pub(crate) fn update(&self, expression: &mut Expression, version: &str, now: Now) -> String {
        let mut set = vec![format!("{} = {version}", expression.name(VERSION))];
        let mut remove = Vec::new();
        if let Some(payload) = &self.payload {
            set.push(expression.assign(PAYLOAD, payload.clone()));
        }
        for (name, value) in &self.fields {
            match value {
                Some(value) => set.push(expression.assign(name, value.clone().into_attribute())),
                None => remove.push(expression.name(name)),
            }
        }
        if let Some(expires) = self.expires(now) {
            set.push(expression.assign(EXPIRES, AttributeValue::N(expires.to_string())));
        } else if self.expiry == Expiry::Never {
            remove.push(expression.name(EXPIRES));
        }
        let mut text = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            text.push_str(" REMOVE ");
            text.push_str(&remove.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn every_reserved_name_is_refused_to_set_and_to_remove() {
        for reserved in RESERVED_FIELDS {
            for write in [
                Write::new().field(reserved, "x"),
                Write::new().remove_field(reserved),
            ] {
                assert!(
                    matches!(write.check(), Err(Error::ReservedField { name }) if name == reserved)
                );
            }
        }
        assert!(Write::new().field("Name", "x").check().is_ok());
    }

    #[test]
    fn later_options_win() {
        let now = Now::read(&|| UNIX_EPOCH + Duration::from_secs(100));
        let write = Write::text("a")
            .ttl(Duration::from_secs(5))
            .expires_at(7)
            .field("f", 1)
            .remove_field("f")
            .field("g", 1)
            .field("g", "two");
        let item = write.new_item("p", "n", 9, now);
        assert_eq!(item[EXPIRES], AttributeValue::N("7".into()));
        assert_eq!(item["g"], AttributeValue::S("two".into()));
        assert!(!item.contains_key("f"));
    }
}
