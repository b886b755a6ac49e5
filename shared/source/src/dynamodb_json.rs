//! DynamoDB JSON straight into a type: `{"id":{"S":"a"},"n":{"N":"7"}}` to anything that serde can deserialize.
//!
//! The bytes that DynamoDB sent are read once, by `serde_json`; no attribute value is built. What a type means by its
//! fields is the same as with `serde_dynamo`, so that structs written for that work here unchanged:
//!
//! | attribute | becomes |
//! |---|---|
//! | `S` | a string, a `char`, a unit variant of an enum |
//! | `N` | an integer or a float, parsed from its digits; [`Number`] keeps the digits |
//! | `B` | bytes, for types that ask for bytes |
//! | `BOOL` | a `bool` |
//! | `NULL: true` | `None`, `()`, a unit struct |
//! | `M` | a struct, a map; with one member an enum's variant with a value |
//! | `L` | a sequence, a tuple, a tuple struct, a struct by position |
//! | `SS`, `NS`, `BS` | a sequence of strings, numbers, bytes |
//!
//! Three things go further than there: 128-bit integers, strings and bytes that borrow from the item where it has no
//! escapes in them, and attributes that the type does not have, which are skipped unread, whatever they hold.

mod attribute;
mod number;
mod parts;
mod tag;
mod text;

use serde::Deserialize;
use serde_json::Error;

use attribute::Attribute;
use tag::{Tag, Whole};

pub use number::Number;

/// Reads an item, `{"id":{"S":"a"},…}`.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Order { id: String, cents: u64, tags: Vec<String> }
///
/// let item = br#"{"id":{"S":"o-1"},"cents":{"N":"1250"},"tags":{"SS":["new"]}}"#;
/// let order: Order = highwater_source::from_item(item)?;
/// assert_eq!((order.id.as_str(), order.cents, order.tags.len()), ("o-1", 1250, 1));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// What is not DynamoDB JSON, and what is not a `T`, each with the place in the item.
pub fn from_item<'de, T: Deserialize<'de>>(item: &'de [u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_str(text(item)?);
    let value = T::deserialize(Attribute {
        tag: Tag::M,
        value: Whole(&mut reader),
    })?;
    reader.end()?;
    Ok(value)
}

/// Reads one attribute value, `{"N":"7"}`.
///
/// # Errors
/// As [`from_item`].
pub fn from_attribute<'de, T: Deserialize<'de>>(attribute: &'de [u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_str(text(attribute)?);
    let seed = tag::Typed(std::marker::PhantomData::<T>);
    let value = serde::de::DeserializeSeed::deserialize(seed, &mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The bytes as text: checked once and whole, which is cheaper than string by string.
fn text(json: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(json).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
