//! From an item's bytes to the user's type.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::dynamodb_json::from_item;

/// What a decoder makes of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A value.
    Value(T),
    /// Nothing that this pipeline cares for: counted, acknowledged, and passed over.
    Skip,
}

/// Why an item is no `T`.
pub type DecodeError = Box<dyn Error + Send + Sync>;

/// A decoder: given the item as DynamoDB JSON.
pub(crate) type DecodeFn<T> = Arc<dyn Fn(&[u8]) -> Result<Decoded<T>, DecodeError> + Send + Sync>;

/// How items become values. Cheap to clone.
pub struct Decoder<T>(DecodeFn<T>);

impl<T> Clone for Decoder<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Decoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// By serde, straight from the bytes: [`from_item`].
    #[must_use]
    pub fn serde() -> Self {
        Self::with(|item| Ok(Decoded::Value(from_item(item)?)))
    }
}

impl<T> Decoder<T> {
    /// By a function of the item's bytes, DynamoDB JSON. It may answer [`Decoded::Skip`].
    pub fn with(
        decode: impl Fn(&[u8]) -> Result<Decoded<T>, DecodeError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(decode))
    }

    pub(crate) fn decode(&self, item: &[u8]) -> Result<Decoded<T>, DecodeError> {
        (self.0)(item)
    }
}
