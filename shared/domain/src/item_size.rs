//! How many bytes DynamoDB counts for an item.
//!
//! Pages end at 1 MB of this size, and capacity is charged by it; it is neither the length of the
//! item's JSON nor bounded by it in a useful way. The rules are AWS's, with its own "approximately"
//! for numbers: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// What a list or a map costs by itself.
const DOCUMENT_OVERHEAD: u64 = 3;
/// What each element of a list or a map costs besides its contents.
const ELEMENT_OVERHEAD: u64 = 1;

/// Bytes that are not an item.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not an item in DynamoDB JSON: {0}")]
pub struct ItemSizeError(String);

/// The size in bytes that DynamoDB counts for `item`, given as DynamoDB JSON (`{"id":{"S":"a"},…}`).
///
/// Attribute names and strings count their UTF-8 bytes, numbers about one byte for two significant
/// digits and one more, binaries their decoded bytes, `BOOL` and `NULL` one byte; lists and maps three
/// bytes and one for each element, beside their contents; sets the sum of their elements.
/// No value is built.
pub fn item_size(item: &[u8]) -> Result<u64, ItemSizeError> {
    serde_json::from_slice::<Attributes>(item)
        .map(|attributes| attributes.bytes)
        .map_err(|error| ItemSizeError(error.to_string()))
}

/// Names and values of an item, or of a map inside it.
struct Attributes {
    bytes: u64,
    count: u64,
}

/// One attribute value: an object with one member, named for its type.
struct AttributeSize(u64);

/// The elements of an `L`.
struct ListSize(u64);

/// A string's UTF-8 bytes.
struct TextSize(u64);

/// A number's text, measured.
struct NumberSize(u64);

/// A base64 text, measured as the bytes it stands for.
struct BinarySize(u64);

/// The elements of a set, each measured as `T`.
struct SetSize<T>(u64, std::marker::PhantomData<T>);

/// Gives a type whose JSON is a string its measure.
macro_rules! measured_text {
    ($name:ident, $measure:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E>(self, text: &str) -> Result<$name, E> {
                        Ok($name($measure(text)))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl From<$name> for u64 {
            fn from(size: $name) -> Self {
                size.0
            }
        }
    };
}

measured_text!(TextSize, |text: &str| text.len() as u64);
measured_text!(NumberSize, number_size);
measured_text!(BinarySize, |text: &str| {
    text.trim_end_matches('=').len() as u64 * 3 / 4
});

/// One byte for two significant digits, and one byte. Zeros at either end are not significant.
fn number_size(text: &str) -> u64 {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = || mantissa.bytes().filter(u8::is_ascii_digit);
    let leading = digits().take_while(|digit| *digit == b'0').count();
    let all = digits().count();
    let trailing = digits()
        .enumerate()
        .filter(|(_, digit)| *digit != b'0')
        .map(|(index, _)| all - 1 - index)
        .last()
        .unwrap_or(0);
    let significant = (all - leading).saturating_sub(trailing) as u64;
    significant.div_ceil(2) + 1
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of attribute values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Attributes, A::Error> {
                let mut sum = Attributes { bytes: 0, count: 0 };
                while let Some((name, value)) = members.next_entry::<TextSize, AttributeSize>()? {
                    sum.bytes += name.0 + value.0;
                    sum.count += 1;
                }
                Ok(sum)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for AttributeSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Typed;
        impl<'de> Visitor<'de> for Typed {
            type Value = AttributeSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that names one attribute type")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut member: A,
            ) -> Result<AttributeSize, A::Error> {
                let Some(kind) = member.next_key::<TypeName>()? else {
                    return Err(A::Error::custom("an attribute value without its type"));
                };
                let size = kind.value_size(&mut member)?;
                if member.next_key::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom("an attribute value of two types"));
                }
                Ok(AttributeSize(size))
            }
        }
        deserializer.deserialize_map(Typed)
    }
}

impl<'de> Deserialize<'de> for ListSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = ListSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of attribute values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<ListSize, A::Error> {
                let mut bytes = DOCUMENT_OVERHEAD;
                while let Some(element) = elements.next_element::<AttributeSize>()? {
                    bytes += element.0 + ELEMENT_OVERHEAD;
                }
                Ok(ListSize(bytes))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

impl<'de, T: Deserialize<'de> + Into<u64>> Deserialize<'de> for SetSize<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Into<u64>> Visitor<'de> for Elements<T> {
            type Value = SetSize<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<SetSize<T>, A::Error> {
                let mut bytes = 0;
                while let Some(element) = elements.next_element::<T>()? {
                    bytes += element.into();
                }
                Ok(SetSize(bytes, self.0))
            }
        }
        deserializer.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

/// The attribute types, as DynamoDB JSON names them.
#[derive(serde::Deserialize)]
pub(crate) enum TypeName {
    S,
    N,
    B,
    #[serde(rename = "BOOL")]
    Bool,
    #[serde(rename = "NULL")]
    Null,
    M,
    L,
    #[serde(rename = "SS")]
    StringSet,
    #[serde(rename = "NS")]
    NumberSet,
    #[serde(rename = "BS")]
    BinarySet,
}

impl TypeName {
    fn value_size<'de, A: MapAccess<'de>>(self, member: &mut A) -> Result<u64, A::Error> {
        Ok(match self {
            Self::S => member.next_value::<TextSize>()?.0,
            Self::N => member.next_value::<NumberSize>()?.0,
            Self::B => member.next_value::<BinarySize>()?.0,
            Self::Bool | Self::Null => {
                member.next_value::<bool>()?;
                1
            }
            Self::M => {
                let map: Attributes = member.next_value()?;
                DOCUMENT_OVERHEAD + map.bytes + map.count * ELEMENT_OVERHEAD
            }
            Self::L => member.next_value::<ListSize>()?.0,
            Self::StringSet => member.next_value::<SetSize<TextSize>>()?.0,
            Self::NumberSet => member.next_value::<SetSize<NumberSize>>()?.0,
            Self::BinarySet => member.next_value::<SetSize<BinarySize>>()?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(item: &str) -> u64 {
        item_size(item.as_bytes()).unwrap_or_else(|error| panic!("{error}: {item}"))
    }

    #[test]
    fn scalars_count_as_aws_documents_them() {
        assert_eq!(size("{}"), 0);
        assert_eq!(size(r#"{"id":{"S":"abc"}}"#), 2 + 3);
        assert_eq!(size(r#"{"é":{"S":"\u00fc\uD83D\uDE00\n"}}"#), 2 + 2 + 4 + 1);
        assert_eq!(size(r#"{"b":{"B":"/wA="}}"#), 1 + 2);
        assert_eq!(size(r#"{"b":{"B":""}}"#), 1);
        assert_eq!(size(r#"{"t":{"BOOL":false},"n":{"NULL":true}}"#), 2 + 2);
    }

    #[test]
    fn numbers_count_pairs_of_significant_digits() {
        for (text, bytes) in [
            ("0", 1),
            ("7", 2),
            ("-7", 2),
            ("42", 2),
            ("123", 3),
            ("1000000", 2),
            ("0.0001", 2),
            ("10.01", 3),
            ("1.50", 2),
            ("1E-130", 2),
            ("12345678901234567890123456789012345678", 20),
        ] {
            assert_eq!(number_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn documents_and_sets_count_their_contents_and_overhead() {
        assert_eq!(size(r#"{"l":{"L":[]}}"#), 1 + 3);
        assert_eq!(
            size(r#"{"l":{"L":[{"S":"ab"},{"NULL":true}]}}"#),
            1 + 3 + (1 + 2) + (1 + 1)
        );
        assert_eq!(size(r#"{"m":{"M":{"k":{"S":"ab"}}}}"#), 1 + 3 + (1 + 1 + 2));
        assert_eq!(size(r#"{"s":{"SS":["a","bcd"]}}"#), 1 + 4);
        assert_eq!(size(r#"{"s":{"NS":["1","123"]}}"#), 1 + 2 + 3);
        assert_eq!(size(r#"{"s":{"BS":["/wA=","AA=="]}}"#), 1 + 3);
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for item in [
            "",
            "[]",
            r#"{"a":"b"}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"S":"x","N":"1"}}"#,
            r#"{"a":{"X":"x"}}"#,
            r#"{"a":{"N":1}}"#,
            r#"{"a":{"S":"x"}} x"#,
        ] {
            assert!(item_size(item.as_bytes()).is_err(), "{item}");
        }
        let deep = format!("{{\"a\":{}{}}}", "{\"L\":[".repeat(5000), "]}".repeat(5000));
        assert!(item_size(deep.as_bytes()).is_err(), "bounded depth");
    }
}
