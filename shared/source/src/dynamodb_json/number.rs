//! Numbers: parsed from the digits of an `N`, or kept as them.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

/// The name by which [`Number`] asks for the digits.
pub(super) const NUMBER: &str = "$highwater_source::Number";

/// A number of DynamoDB's, all 38 digits of it, as the text that DynamoDB sent.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Account { balance: highwater_source::Number }
///
/// let item = br#"{"balance":{"N":"12345678901234567890123456789.000000001"}}"#;
/// let account: Account = highwater_source::from_item(item)?;
/// assert_eq!(account.balance.as_str(), "12345678901234567890123456789.000000001");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number(String);

impl Number {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl<'de> Visitor<'de> for Digits {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Number, D::Error> {
                String::deserialize(deserializer).map(Number)
            }
        }
        deserializer.deserialize_newtype_struct(NUMBER, Digits)
    }
}

/// The digits of an `N`, ready to be parsed as whatever is asked for.
pub(super) struct Digits<'a, E> {
    text: &'a str,
    error: std::marker::PhantomData<E>,
}

impl<'a, E: Error> Digits<'a, E> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            error: std::marker::PhantomData,
        }
    }

    fn parse<T: std::str::FromStr>(&self, kind: &str) -> Result<T, E> {
        self.text
            .parse()
            .map_err(|_| E::custom(format!("the number {} is not {kind}", self.text)))
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $kind:literal)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
            visitor.$visit(self.parse($kind)?)
        }
    )*};
}

impl<'de, E: Error> Deserializer<'de> for Digits<'_, E> {
    type Error = E;

    /// Whoever takes anything is given the narrowest that holds it.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        if let Ok(number) = self.text.parse() {
            return visitor.visit_i64(number);
        }
        if let Ok(number) = self.text.parse() {
            return visitor.visit_u64(number);
        }
        visitor.visit_f64(self.parse("a number")?)
    }

    parsed! {
        deserialize_i8 visit_i8 "an i8"
        deserialize_i16 visit_i16 "an i16"
        deserialize_i32 visit_i32 "an i32"
        deserialize_i64 visit_i64 "an i64"
        deserialize_i128 visit_i128 "an i128"
        deserialize_u8 visit_u8 "a u8"
        deserialize_u16 visit_u16 "a u16"
        deserialize_u32 visit_u32 "a u32"
        deserialize_u64 visit_u64 "a u64"
        deserialize_u128 visit_u128 "a u128"
        deserialize_f32 visit_f32 "an f32"
        deserialize_f64 visit_f64 "an f64"
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, E> {
        if name == NUMBER {
            return visitor.visit_newtype_struct(StrDeserializer::new(self.text));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct enum identifier
    }
}
