//! Attribute values as tests make them: in any order, in any spelling, of any type.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// One of DynamoDB's ten types.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A string.
    S(String),
    /// A number, as decimal text.
    N(String),
    /// Bytes.
    B(Vec<u8>),
    /// True or false.
    Bool(bool),
    /// Null.
    Null,
    /// A map, in the order in which it is written.
    M(Vec<(String, Attribute)>),
    /// A list.
    L(Vec<Attribute>),
    /// A set of strings.
    Ss(Vec<String>),
    /// A set of numbers.
    Ns(Vec<String>),
    /// A set of bytes.
    Bs(Vec<Vec<u8>>),
}

/// An item: attribute names and values, in the order in which it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item(pub Vec<(String, Attribute)>);

impl Item {
    /// The item as DynamoDB JSON on one line.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut text = String::new();
        write_members(&mut text, &self.0, &mut Spelling::plain());
        text.into_bytes()
    }

    /// The same item with some characters written as JSON escapes, chosen by a seed.
    #[must_use]
    pub fn json_with_escapes(&self, seed: u64) -> Vec<u8> {
        let mut text = String::new();
        write_members(&mut text, &self.0, &mut Spelling::escaping(seed));
        text.into_bytes()
    }

    /// The item as the SDK takes it.
    #[must_use]
    pub fn sdk(&self) -> HashMap<String, AttributeValue> {
        let members = self.0.iter();
        members
            .map(|(name, value)| (name.clone(), value.sdk()))
            .collect()
    }

    /// Its size in bytes by DynamoDB's rule, which allows 409,600.
    ///
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
    #[must_use]
    pub fn size(&self) -> usize {
        let members = self.0.iter();
        members.map(|(name, value)| name.len() + value.size()).sum()
    }
}

impl Attribute {
    fn sdk(&self) -> AttributeValue {
        match self {
            Self::S(text) => AttributeValue::S(text.clone()),
            Self::N(digits) => AttributeValue::N(digits.clone()),
            Self::B(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
            Self::Bool(value) => AttributeValue::Bool(*value),
            Self::Null => AttributeValue::Null(true),
            Self::M(members) => AttributeValue::M(Item(members.clone()).sdk()),
            Self::L(values) => AttributeValue::L(values.iter().map(Self::sdk).collect()),
            Self::Ss(texts) => AttributeValue::Ss(texts.clone()),
            Self::Ns(numbers) => AttributeValue::Ns(numbers.clone()),
            Self::Bs(all) => AttributeValue::Bs(all.iter().cloned().map(Blob::new).collect()),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::S(text) => text.len(),
            Self::N(digits) => number_size(digits),
            Self::B(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
            Self::M(members) => {
                let sizes = members
                    .iter()
                    .map(|(name, value)| 1 + name.len() + value.size());
                3 + sizes.sum::<usize>()
            }
            Self::L(values) => 3 + values.iter().map(|value| 1 + value.size()).sum::<usize>(),
            Self::Ss(texts) => texts.iter().map(String::len).sum(),
            Self::Ns(numbers) => numbers.iter().map(|digits| number_size(digits)).sum(),
            Self::Bs(all) => all.iter().map(Vec::len).sum(),
        }
    }

    fn write(&self, text: &mut String, spelling: &mut Spelling) {
        match self {
            Self::S(value) => {
                text.push_str("{\"S\":");
                spelling.write(text, value);
            }
            // Digits and base64 need no escapes, and DynamoDB sends none.
            Self::N(digits) => push(text, format_args!("{{\"N\":\"{digits}\"")),
            Self::B(bytes) => push(text, format_args!("{{\"B\":\"{}\"", BASE64.encode(bytes))),
            Self::Bool(value) => push(text, format_args!("{{\"BOOL\":{value}")),
            Self::Null => text.push_str("{\"NULL\":true"),
            Self::M(members) => {
                text.push_str("{\"M\":");
                write_members(text, members, spelling);
            }
            Self::L(values) => write_list(text, "L", values, |text, value| {
                value.write(text, spelling);
            }),
            Self::Ss(texts) => write_list(text, "SS", texts, |text, value| {
                spelling.write(text, value);
            }),
            Self::Ns(numbers) => write_list(text, "NS", numbers, |text, digits| {
                push(text, format_args!("\"{digits}\""));
            }),
            Self::Bs(all) => write_list(text, "BS", all, |text, bytes| {
                push(text, format_args!("\"{}\"", BASE64.encode(bytes)));
            }),
        }
        text.push('}');
    }
}

/// Half a byte for each significant digit, a byte for the exponent, a byte for a sign.
fn number_size(digits: &str) -> usize {
    let mantissa = digits.split(['e', 'E']).next().unwrap_or(digits);
    let significant = mantissa.bytes().filter(u8::is_ascii_digit).count();
    significant.div_ceil(2) + 1 + usize::from(digits.starts_with('-'))
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

fn write_list<T>(
    text: &mut String,
    type_name: &str,
    values: &[T],
    mut write: impl FnMut(&mut String, &T),
) {
    push(text, format_args!("{{\"{type_name}\":["));
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, value);
    }
    text.push(']');
}

fn write_members(text: &mut String, members: &[(String, Attribute)], spelling: &mut Spelling) {
    text.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        spelling.write(text, name);
        text.push(':');
        value.write(text, spelling);
    }
    text.push('}');
}

/// How strings are written: JSON knows several spellings of one string.
struct Spelling(Option<fastrand::Rng>);

impl Spelling {
    fn plain() -> Self {
        Self(None)
    }

    fn escaping(seed: u64) -> Self {
        Self(Some(fastrand::Rng::with_seed(seed)))
    }

    fn write(&mut self, text: &mut String, value: &str) {
        text.push('"');
        for character in value.chars() {
            let chosen = self.0.as_mut().is_some_and(|random| random.u8(..10) == 0);
            match character {
                '"' if !chosen => text.push_str("\\\""),
                '\\' if !chosen => text.push_str("\\\\"),
                '\n' if !chosen => text.push_str("\\n"),
                '/' if chosen => text.push_str("\\/"),
                _ if chosen || u32::from(character) < 0x20 => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        push(text, format_args!("\\u{unit:04x}"));
                    }
                }
                _ => text.push(character),
            }
        }
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Item {
        let texts = ["", "}},{\"", "\\", "\u{0}\u{1f}\n", "/é\u{1f600}"];
        Item(vec![
            ("s".into(), Attribute::S(texts.concat())),
            ("n".into(), Attribute::N("-1.50".into())),
            ("b".into(), Attribute::B(vec![0xff, 0])),
            ("t".into(), Attribute::Bool(true)),
            ("0".into(), Attribute::Null),
            (
                "m".into(),
                Attribute::M(vec![("\"".into(), Attribute::M(vec![]))]),
            ),
            (
                "l".into(),
                Attribute::L(vec![Attribute::L(vec![]), Attribute::Null]),
            ),
            (
                "ss".into(),
                Attribute::Ss(vec!["a".into(), texts[1].into()]),
            ),
            ("ns".into(), Attribute::Ns(vec!["1".into(), "2".into()])),
            ("bs".into(), Attribute::Bs(vec![vec![], vec![1]])),
        ])
    }

    #[test]
    fn all_types_are_written_as_dynamodb_writes_them() {
        let parsed: Value = serde_json::from_slice(&sample().json()).unwrap();
        let expected = json!({
            "s": {"S": "}},{\"\\\u{0}\u{1f}\n/é\u{1f600}"}, "n": {"N": "-1.50"}, "b": {"B": "/wA="},
            "t": {"BOOL": true}, "0": {"NULL": true}, "m": {"M": {"\"": {"M": {}}}},
            "l": {"L": [{"L": []}, {"NULL": true}]}, "ss": {"SS": ["a", "}},{\""]},
            "ns": {"NS": ["1", "2"]}, "bs": {"BS": ["", "AQ=="]},
        });
        assert_eq!(parsed, expected);
        for seed in 0..50 {
            let escaped = sample().json_with_escapes(seed);
            assert_eq!(serde_json::from_slice::<Value>(&escaped).unwrap(), expected);
        }
    }

    #[test]
    fn sizes_follow_the_published_rule() {
        let of = |name: &str, value| Item(vec![(name.to_owned(), value)]).size();
        assert_eq!(of("ab", Attribute::S("é".into())), 4);
        assert_eq!(of("n", Attribute::N("-123".into())), 5);
        assert_eq!(
            of(
                "l",
                Attribute::L(vec![Attribute::Null, Attribute::Bool(true)])
            ),
            8
        );
        assert_eq!(
            of(
                "m",
                Attribute::M(vec![("k".into(), Attribute::B(vec![0; 5]))])
            ),
            11
        );
    }
}
