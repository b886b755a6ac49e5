//! Scalar attribute values: indexed top-level fields, and the parts of index keys.

use std::fmt;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

/// Attribute of the partition key, type S.
pub(crate) const ID: &str = "id";
/// Attribute of the sort key, type S.
pub(crate) const NAME: &str = "name";
/// Attribute of the version, type N.
pub(crate) const VERSION: &str = "version";
/// Attribute of the expiry, type N, Unix seconds; the table's TTL attribute.
pub(crate) const EXPIRES: &str = "expires";
/// Attribute of the payload, any type.
pub(crate) const PAYLOAD: &str = "payload";

/// The attribute names that a record uses itself; no field may have one of them.
pub const RESERVED_FIELDS: [&str; 5] = [ID, NAME, VERSION, EXPIRES, PAYLOAD];

/// The value of a top-level field, stored beside the payload so that an index can be made on it.
///
/// ```
/// use highwater_kv::Field;
/// assert_eq!(Field::from(42_u32), Field::N("42".into()));
/// assert_eq!(Field::from("open"), Field::S("open".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A string.
    S(String),
    /// A number in DynamoDB's own text form: up to 38 significant digits.
    N(String),
    /// Bytes.
    B(Vec<u8>),
    /// True or false. DynamoDB takes no index key of this type.
    Bool(bool),
}

impl Field {
    pub(crate) fn into_attribute(self) -> AttributeValue {
        match self {
            Self::S(text) => AttributeValue::S(text),
            Self::N(number) => AttributeValue::N(number),
            Self::B(bytes) => AttributeValue::B(Blob::new(bytes)),
            Self::Bool(flag) => AttributeValue::Bool(flag),
        }
    }

    /// The scalar in an attribute, or `None` if that holds a list, a map, a set or NULL.
    pub(crate) fn from_attribute(value: &AttributeValue) -> Option<Self> {
        match value {
            AttributeValue::S(text) => Some(Self::S(text.clone())),
            AttributeValue::N(number) => Some(Self::N(number.clone())),
            AttributeValue::B(bytes) => Some(Self::B(bytes.as_ref().to_vec())),
            AttributeValue::Bool(flag) => Some(Self::Bool(*flag)),
            _ => None,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S(text) | Self::N(text) => f.write_str(text),
            Self::B(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Bool(flag) => write!(f, "{flag}"),
        }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::S(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::S(text)
    }
}

impl From<Vec<u8>> for Field {
    fn from(bytes: Vec<u8>) -> Self {
        Self::B(bytes)
    }
}

impl From<bool> for Field {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

macro_rules! field_from_integer {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Field {
            fn from(number: $integer) -> Self {
                Self::N(number.to_string())
            }
        }
    )*};
}
field_from_integer!(i8, i16, i32, i64, u8, u16, u32, u64, usize, isize);
