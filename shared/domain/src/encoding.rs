//! The line that stands for an item in a dump: DynamoDB's own JSON, or dyndump's two older forms.
//!
//! | encoding | a line | restorable |
//! |---|---|---|
//! | [`Encoding::Wire`] | `{"n":{"N":"1E+2"},"b":{"B":"/wA="}}`: the bytes that DynamoDB sent | yes |
//! | [`Encoding::Typed`] | `{"b":{"type":"binary","value":"/wA=","encoding":"base64"},"n":{"type":"number","value":1E+2}}` | yes |
//! | [`Encoding::Plain`] | `{"b":"/wA=","n":1E+2}` | no: types are lost |
//!
//! Text and numbers are never decoded and encoded again: a string's own JSON token and a number's own digits are
//! copied, so that nothing is rounded and no escape changes. What is decided here beyond dyndump 1.0:
//!
//! - A number is written bare if its text is a JSON number, and else, as always with *numbers as strings*, quoted.
//! - A binary value is written as text if it is UTF-8, as dyndump did; where it is not (dyndump destroyed it),
//!   it is written in base64, which the typed form marks with a third member, `"encoding":"base64"`. A set of
//!   binaries is written in one way for all of its values.
//! - `NULL` is `null`; a `NULL` that is `false`, which DynamoDB itself never sends, is `false` in the typed form.
//! - Members of maps are sorted by the bytes of their names; sets and lists stay as they came.

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod attribute_type;
mod decode;
mod encode;
mod members;

pub use decode::decode_typed;

/// How an item is written on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The item as DynamoDB sent it.
    #[default]
    Wire,
    /// `{"type":…,"value":…}` for each value, at every depth.
    Typed {
        /// Numbers in quotes.
        numbers_as_strings: bool,
    },
    /// Bare values. It cannot be restored, because the types are gone.
    Plain {
        /// Numbers in quotes.
        numbers_as_strings: bool,
    },
}

/// A line or an item that is not what it should be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}{reason}", if path.is_empty() { String::new() } else { format!("attribute {path}: ") })]
pub struct EncodingError {
    /// Where: names and list places from the outside in, `orders[3].price`. Empty for the item itself.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl EncodingError {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            reason: reason.into(),
        }
    }

    /// The same error, seen from the map or list around it.
    fn inside(mut self, outer: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{outer}{dot}{}", self.path);
        self
    }
}

impl Encoding {
    /// Whether a dump in this encoding can be loaded again.
    #[must_use]
    pub fn is_restorable(self) -> bool {
        !matches!(self, Self::Plain { .. })
    }

    /// Appends the line of `item`, with its line feed.
    ///
    /// `item` is one JSON object without line breaks, as pages hold it. After an error `out` ends as it did before.
    pub fn write_line(self, item: &[u8], out: &mut Vec<u8>) -> Result<(), EncodingError> {
        let before = out.len();
        let written = match self {
            Self::Wire => {
                out.extend_from_slice(item);
                Ok(())
            }
            Self::Typed { numbers_as_strings } => encode::item(
                item,
                encode::Style {
                    typed: true,
                    numbers_as_strings,
                },
                out,
            ),
            Self::Plain { numbers_as_strings } => encode::item(
                item,
                encode::Style {
                    typed: false,
                    numbers_as_strings,
                },
                out,
            ),
        };
        match written {
            Ok(()) => out.push(b'\n'),
            Err(_) => out.truncate(before),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

    fn encoded(item: &str, (typed, numbers_as_strings): (bool, bool)) -> String {
        let encoding = if typed {
            Encoding::Typed { numbers_as_strings }
        } else {
            Encoding::Plain { numbers_as_strings }
        };
        let mut line = Vec::new();
        encoding.write_line(item.as_bytes(), &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        line.strip_suffix('\n').expect("a line").to_owned()
    }

    /// `value` is the attribute `key`'s; the lines are those without and with types, numbers bare.
    #[track_caller]
    fn case(value: &str, plain: &str, typed: &str) {
        let item = format!(r#"{{"key":{value}}}"#);
        assert_eq!(
            encoded(&item, (false, false)),
            format!(r#"{{"key":{plain}}}"#)
        );
        assert_eq!(
            encoded(&item, (true, false)),
            format!(r#"{{"key":{typed}}}"#)
        );
        restores(&item);
    }

    /// Both typed forms lead back to the very same bytes.
    #[track_caller]
    fn restores(item: &str) {
        for numbers_as_strings in [false, true] {
            let line = encoded(item, (true, numbers_as_strings));
            let decoded = decode_typed(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(decoded).unwrap(), item, "{line}");
        }
    }

    #[test]
    fn de_01_and_de_02_binary() {
        case(
            r#"{"B":"YmluYXJ5IHZhbHVl"}"#,
            r#""binary value""#,
            r#"{"type":"binary","value":"binary value"}"#,
        );
    }

    #[test]
    fn de_03_bool() {
        case(
            r#"{"BOOL":true}"#,
            "true",
            r#"{"type":"bool","value":true}"#,
        );
        case(
            r#"{"BOOL":false}"#,
            "false",
            r#"{"type":"bool","value":false}"#,
        );
    }

    #[test]
    fn de_04_binary_set() {
        case(
            r#"{"BS":["YmluIHZhbDE=","YmluIHZhbDI="]}"#,
            r#"["bin val1","bin val2"]"#,
            r#"{"type":"binary-set","value":["bin val1","bin val2"]}"#,
        );
    }

    #[test]
    fn de_05_string() {
        case(
            r#"{"S":"string value"}"#,
            r#""string value""#,
            r#"{"type":"string","value":"string value"}"#,
        );
    }

    #[test]
    fn de_06_number() {
        let item = r#"{"key":{"N":"123.456"}}"#;
        let expected = [
            r#"{"key":123.456}"#,
            r#"{"key":{"type":"number","value":123.456}}"#,
            r#"{"key":"123.456"}"#,
            r#"{"key":{"type":"number","value":"123.456"}}"#,
        ];
        assert_eq!(MODES.map(|mode| encoded(item, mode)), expected);
        restores(item);
    }

    #[test]
    fn de_07_number_set() {
        let item = r#"{"key":{"NS":["100","200"]}}"#;
        let expected = [
            r#"{"key":[100,200]}"#,
            r#"{"key":{"type":"number-set","value":[100,200]}}"#,
            r#"{"key":["100","200"]}"#,
            r#"{"key":{"type":"number-set","value":["100","200"]}}"#,
        ];
        assert_eq!(MODES.map(|mode| encoded(item, mode)), expected);
        restores(item);
    }

    #[test]
    fn de_08_null() {
        case(
            r#"{"NULL":true}"#,
            "null",
            r#"{"type":"null","value":null}"#,
        );
        case(
            r#"{"NULL":false}"#,
            "null",
            r#"{"type":"null","value":false}"#,
        );
    }

    #[test]
    fn de_09_string_set() {
        case(
            r#"{"SS":["str val1","str val2"]}"#,
            r#"["str val1","str val2"]"#,
            r#"{"type":"string-set","value":["str val1","str val2"]}"#,
        );
    }

    #[test]
    fn de_10_list() {
        let item = r#"{"key":{"L":[{"S":"string value"},{"N":"123.456"}]}}"#;
        assert_eq!(
            encoded(item, (false, false)),
            r#"{"key":["string value",123.456]}"#
        );
        assert_eq!(
            encoded(item, (true, false)),
            r#"{"key":{"type":"list","value":[{"type":"string","value":"string value"},{"type":"number","value":123.456}]}}"#
        );
        assert_eq!(
            encoded(item, (true, true)),
            r#"{"key":{"type":"list","value":[{"type":"string","value":"string value"},{"type":"number","value":"123.456"}]}}"#
        );
        restores(item);
    }

    #[test]
    fn de_11_map() {
        let item = r#"{"key":{"M":{"key1":{"S":"string value"},"key2":{"N":"123.456"}}}}"#;
        assert_eq!(
            encoded(item, (false, false)),
            r#"{"key":{"key1":"string value","key2":123.456}}"#
        );
        assert_eq!(
            encoded(item, (true, false)),
            r#"{"key":{"type":"map","value":{"key1":{"type":"string","value":"string value"},"key2":{"type":"number","value":123.456}}}}"#
        );
        restores(item);
    }

    /// dyndump 1.0 turned every byte that is not UTF-8 into U+FFFD.
    #[test]
    fn binary_that_is_no_text_survives() {
        case(
            r#"{"B":"/wA="}"#,
            r#""/wA=""#,
            r#"{"type":"binary","value":"/wA=","encoding":"base64"}"#,
        );
        case(
            r#"{"BS":["YQ==","/wA="]}"#,
            r#"["YQ==","/wA="]"#,
            r#"{"type":"binary-set","value":["YQ==","/wA="],"encoding":"base64"}"#,
        );
        // Text that reads like base64 is still text, and says so by saying nothing.
        case(
            r#"{"B":"L3dBPQ=="}"#,
            r#""/wA=""#,
            r#"{"type":"binary","value":"/wA="}"#,
        );
        case(
            r#"{"B":"AApcIn8="}"#,
            "\"\\u0000\\n\\\\\\\"\u{7f}\"",
            "{\"type\":\"binary\",\"value\":\"\\u0000\\n\\\\\\\"\u{7f}\"}",
        );
    }

    /// dyndump went through a 64-bit float.
    #[test]
    fn numbers_are_never_rounded() {
        for number in [
            "12345678901234567890123456789012345678",
            "-0.00000000000000000000000000000000000001",
            "9007199254740993",
            "1E+2",
            "9.9999999999999999999999999999999999999E+125",
            "1E-130",
            "0",
        ] {
            case(
                &format!(r#"{{"N":"{number}"}}"#),
                number,
                &format!(r#"{{"type":"number","value":{number}}}"#),
            );
        }
        // No JSON numbers, but numbers all the same.
        for number in [".5", "5.", "+7", "007"] {
            case(
                &format!(r#"{{"N":"{number}"}}"#),
                &format!(r#""{number}""#),
                &format!(r#"{{"type":"number","value":"{number}"}}"#),
            );
        }
    }

    /// dyndump's issue 3: they came out as `{}` and could not be loaded.
    #[test]
    fn b2_empty_values_stay() {
        case(r#"{"L":[]}"#, "[]", r#"{"type":"list","value":[]}"#);
        case(r#"{"M":{}}"#, "{}", r#"{"type":"map","value":{}}"#);
        case(r#"{"B":""}"#, r#""""#, r#"{"type":"binary","value":""}"#);
        case(r#"{"S":""}"#, r#""""#, r#"{"type":"string","value":""}"#);
        assert_eq!(MODES.map(|mode| encoded("{}", mode)), ["{}"; 4]);
    }

    #[test]
    fn names_are_sorted_by_their_bytes_and_texts_copied_as_they_are() {
        let item = r#"{"é":{"S":"<&>\u2028\ud83d\ude00"},"b":{"BOOL":true},"\u0061":{"M":{"z":{"NULL":true},"Z":{"S":"\\"}}}}"#;
        assert_eq!(
            encoded(item, (false, false)),
            r#"{"\u0061":{"Z":"\\","z":null},"b":true,"é":"<&>\u2028\ud83d\ude00"}"#
        );
    }

    #[test]
    fn the_wire_form_is_the_item_itself() {
        let item = br#"{"z":{"S":"1"},"a":{"N":"1E+2"}}"#;
        let mut line = Vec::new();
        Encoding::Wire.write_line(item, &mut line).unwrap();
        assert_eq!(line, [item.as_slice(), b"\n"].concat());
    }

    #[test]
    fn what_is_no_item_is_refused_with_its_place_and_leaves_no_half_line() {
        let typed = Encoding::Typed {
            numbers_as_strings: false,
        };
        for (item, message) in [
            (
                r#"{"a":{"S":"x"},"a":{"S":"y"}}"#,
                r#"name "a" stands twice"#,
            ),
            (
                r#"{"a":{"L":[{"S":"x"},{"X":"y"}]}}"#,
                r#"attribute a[1]: "X" is no type of DynamoDB's"#,
            ),
            (
                r#"{"a":{"M":{"b":{"S":"x","N":"1"}}}}"#,
                "attribute a.b: a value has one type, not 2",
            ),
            (r#"{"a":{"S":1}}"#, "attribute a: 1 is no string"),
            (r#"{"a":{"B":"%"}}"#, "attribute a: it is not base64"),
            (
                r#"{"a":{"BOOL":null}}"#,
                "attribute a: null is neither true nor false",
            ),
            (r#"{"a":{"N":"x"}}"#, r#"attribute a: "x" is no number"#),
            ("[]", "not a JSON object"),
        ] {
            let mut line = b"before".to_vec();
            let error = typed.write_line(item.as_bytes(), &mut line).unwrap_err();
            assert!(error.to_string().contains(message), "{item}: {error}");
            assert_eq!(line, b"before");
        }
        let deep = |levels: usize| {
            format!(
                r#"{{"a":{}{{"S":"x"}}{}}}"#,
                r#"{"L":["#.repeat(levels),
                "]}".repeat(levels)
            )
        };
        restores(&deep(32));
        let error = typed
            .write_line(deep(5000).as_bytes(), &mut Vec::new())
            .unwrap_err();
        assert!(error.reason.contains("deeper than"), "{error}");
    }
}
