//! Finds the items of a `Scan` response in its bytes, without parsing them.
//!
//! A response is one JSON document; the elements of its top-level `Items` array are what a snapshot
//! keeps, byte for byte. The few small members around the array are walked one byte at a time; the
//! array itself, which is nearly all of the document, is read in blocks of 64 bytes, each turned into
//! bit masks of its quotes, backslashes and brackets, so that text inside strings costs next to nothing.
//!
//! What is checked: the top level is well formed, elements are objects with one comma between them,
//! brackets balance, and no control character hides in a string. What is not: the grammar within an
//! item. [`FoundItems::check`] does that for bytes that no checksum vouches for.

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::json_walk::unquoted;
use crate::scan::RawItems;

mod array_scan;
mod dense_check;

use array_scan::ArrayScan;
pub use dense_check::find_checked_elements;

/// Where the items of one response are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundItems {
    /// Offsets of the array: of its `[`, and after its `]`. `None` if the document has no array.
    array: Option<(u32, u32)>,
    /// Offsets of each element: of its `{`, and after its `}`.
    spans: Vec<(u32, u32)>,
    /// Whether white space stands between tokens somewhere in the array.
    spaced: bool,
}

/// Why a document has no items that could be trusted. Offsets count bytes from 0.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ItemFinderError {
    /// The document ends too early.
    #[error("the document ends in the middle, after {bytes} bytes")]
    Truncated {
        /// How many bytes there are.
        bytes: usize,
    },
    /// Something else stands where the grammar wants a certain token.
    #[error("byte {offset} is not {expected}")]
    Unexpected {
        /// Where.
        offset: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// A raw control character, which JSON forbids and which would break a line of a part in two.
    #[error("byte {offset} is a control character")]
    ControlCharacter {
        /// Where.
        offset: usize,
    },
    /// The array stands twice at the top level.
    #[error("a second array of the same name at byte {offset}")]
    Duplicate {
        /// Where the second one begins.
        offset: usize,
    },
    /// More than offsets of 32 bits can address.
    #[error("{bytes} bytes are more than one response can have")]
    TooLarge {
        /// How many bytes there are.
        bytes: usize,
    },
    /// An item is balanced but not JSON.
    #[error("item {index} is not JSON: {reason}")]
    NotJson {
        /// Its place in the array, from 0.
        index: usize,
        /// What the parser says.
        reason: String,
    },
}

/// Finds the elements of the top-level `Items` array of `document`.
///
/// A document without `Items`, or with `null` for it, has no items; that is not an error.
pub fn find_items(document: &[u8]) -> Result<FoundItems, ItemFinderError> {
    find_elements(document, "Items")
}

/// The same for the top-level array called `member`, whose elements are objects: `Records`, say.
pub fn find_elements(document: &[u8], member: &str) -> Result<FoundItems, ItemFinderError> {
    if u32::try_from(document.len()).is_err() {
        return Err(ItemFinderError::TooLarge {
            bytes: document.len(),
        });
    }
    let mut found = FoundItems::default();
    let mut seen = false;
    let mut cursor = Cursor {
        document,
        member,
        at: 0,
    };
    cursor.expect(b'{', "the `{` of the document")?;
    if cursor.peek()? == b'}' {
        cursor.at += 1;
        return cursor.end().map(|()| found);
    }
    loop {
        cursor.skip_space();
        let name_at = cursor.at;
        let is_array = cursor.name_is_the_arrays()?;
        if is_array && std::mem::replace(&mut seen, true) {
            return Err(ItemFinderError::Duplicate { offset: name_at });
        }
        cursor.expect(b':', "`:`")?;
        if is_array {
            cursor.array_value(&mut found)?;
        } else {
            cursor.skip_value()?;
        }
        match cursor.peek()? {
            b',' => cursor.at += 1,
            b'}' => {
                cursor.at += 1;
                return cursor.end().map(|()| found);
            }
            _ => return Err(cursor.unexpected("`,` or `}`")),
        }
    }
}

impl FoundItems {
    /// Whether the document has the array, and no white space stands in it between tokens.
    #[must_use]
    pub fn is_there_and_dense(&self) -> bool {
        self.array.is_some() && !self.spaced
    }

    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The document with an empty `Items` array, everything else untouched.
    ///
    /// `document` is the one that was searched.
    #[must_use]
    pub fn document_without_items(&self, document: &[u8]) -> Vec<u8> {
        let Some((start, end)) = self.array else {
            return document.to_vec();
        };
        let before = document.get(..start as usize).unwrap_or_default();
        let after = document.get(end as usize..).unwrap_or_default();
        [before, b"[]", after].concat()
    }

    /// Checks that every item is valid JSON in UTF-8, at several times the cost of finding it.
    ///
    /// For answers that come without a checksum.
    pub fn check(&self, document: &[u8]) -> Result<(), ItemFinderError> {
        for (index, &(start, end)) in self.spans.iter().enumerate() {
            let item = document
                .get(start as usize..end as usize)
                .unwrap_or_default();
            serde_json::from_slice::<&RawValue>(item).map_err(|error| {
                ItemFinderError::NotJson {
                    index,
                    reason: error.to_string(),
                }
            })?;
        }
        Ok(())
    }

    /// The items, each on one line.
    ///
    /// DynamoDB sends no white space between tokens and its bytes are kept as they are, without a copy;
    /// where another engine sends some, the items are rewritten without it. `document` is the one that
    /// was searched.
    #[must_use]
    pub fn into_raw_items(self, document: Bytes) -> RawItems {
        if self.spaced {
            return RawItems::from_items(self.spans.iter().map(|&(start, end)| {
                compacted(
                    document
                        .get(start as usize..end as usize)
                        .unwrap_or_default(),
                )
            }));
        }
        RawItems::new(document, self.spans)
    }
}

/// The same JSON value without white space between its tokens.
pub(crate) fn compacted(json: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for &byte in json {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
        } else if byte == b'"' {
            in_string = true;
        } else if is_space(byte) {
            continue;
        }
        line.push(byte);
    }
    line
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A walk over the top level of the document.
struct Cursor<'a> {
    document: &'a [u8],
    /// The name of the array.
    member: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn truncated(&self) -> ItemFinderError {
        ItemFinderError::Truncated {
            bytes: self.document.len(),
        }
    }

    fn unexpected(&self, expected: &'static str) -> ItemFinderError {
        ItemFinderError::Unexpected {
            offset: self.at,
            expected,
        }
    }

    fn rest(&self) -> &[u8] {
        self.document.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.at += self
            .rest()
            .iter()
            .take_while(|byte| is_space(**byte))
            .count();
    }

    /// The next byte that is not white space; the cursor stops on it.
    fn peek(&mut self) -> Result<u8, ItemFinderError> {
        self.skip_space();
        self.document
            .get(self.at)
            .copied()
            .ok_or_else(|| self.truncated())
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), ItemFinderError> {
        if self.peek()? != byte {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space may follow the document.
    fn end(&mut self) -> Result<(), ItemFinderError> {
        self.skip_space();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the document"))
        }
    }

    /// Moves behind the string that begins here.
    fn skip_string(&mut self) -> Result<(), ItemFinderError> {
        self.expect(b'"', "a member's name")?;
        loop {
            let byte = *self.rest().first().ok_or_else(|| self.truncated())?;
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.at += 2,
                0..=0x1f => return Err(ItemFinderError::ControlCharacter { offset: self.at }),
                _ => self.at += 1,
            }
        }
    }

    /// Moves behind a member's name and tells whether it says the array's, escaped or not.
    fn name_is_the_arrays(&mut self) -> Result<bool, ItemFinderError> {
        let start = self.at;
        self.skip_string()?;
        let name = self.document.get(start..self.at).unwrap_or_default();
        if name.contains(&b'\\') {
            return serde_json::from_slice::<String>(name)
                .map(|name| name == self.member)
                .map_err(|_| ItemFinderError::Unexpected {
                    offset: start,
                    expected: "a member's name",
                });
        }
        Ok(unquoted(name) == Some(self.member.as_bytes()))
    }

    /// Moves behind the value that begins here: a scalar, or anything in brackets.
    fn skip_value(&mut self) -> Result<(), ItemFinderError> {
        let mut depth = 0_u32;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'A'..=b'Z' => {
                    let scalar = |byte: &u8| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
                    };
                    self.at += self.rest().iter().take_while(|byte| scalar(byte)).count();
                }
                _ => return Err(self.unexpected("a value")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Takes the value of the array's member.
    fn array_value(&mut self, found: &mut FoundItems) -> Result<(), ItemFinderError> {
        match self.peek()? {
            b'[' => {
                let start = self.at;
                self.at = ArrayScan::new(self.document, start + 1).run(found)?;
                found.array = Some((offset(start), offset(self.at)));
                Ok(())
            }
            b'n' if self.rest().starts_with(b"null") => {
                self.at += 4;
                Ok(())
            }
            _ => Err(self.unexpected("the `[` of the array")),
        }
    }
}

/// The document's length was checked to fit.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// The slow, sure reading of the same document.
    #[derive(Deserialize)]
    struct Oracle<'a> {
        #[serde(borrow, default, rename = "Items")]
        items: Option<Vec<&'a RawValue>>,
    }

    fn oracle(document: &[u8]) -> Option<Vec<(u32, u32)>> {
        // `&str` first: the oracle shall refuse what is not UTF-8 anywhere.
        let text = std::str::from_utf8(document).ok()?;
        let items = serde_json::from_str::<Oracle<'_>>(text).ok()?.items;
        let place = |item: &&RawValue| {
            let start = item.get().as_ptr() as usize - text.as_ptr() as usize;
            (offset(start), offset(start + item.get().len()))
        };
        Some(items.unwrap_or_default().iter().map(place).collect())
    }

    fn found(document: &str) -> FoundItems {
        let found = find_items(document.as_bytes()).unwrap_or_else(|error| {
            panic!("{error}: {document}");
        });
        assert_eq!(
            Some(&found.spans),
            oracle(document.as_bytes()).as_ref(),
            "{document}"
        );
        found
    }

    fn lines(document: &str) -> Vec<String> {
        found(document)
            .into_raw_items(Bytes::copy_from_slice(document.as_bytes()))
            .iter()
            .map(|item| String::from_utf8(item.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn items_are_cut_out_byte_for_byte() {
        let document =
            r#"{"Count":2,"Items":[{"id":{"S":"a"}},{"id":{"N":"1.50"}}],"ScannedCount":2}"#;
        assert_eq!(
            lines(document),
            [r#"{"id":{"S":"a"}}"#, r#"{"id":{"N":"1.50"}}"#]
        );
        let rest = found(document).document_without_items(document.as_bytes());
        assert_eq!(rest, br#"{"Count":2,"Items":[],"ScannedCount":2}"#);
    }

    #[test]
    fn strings_hide_brackets_quotes_and_backslashes() {
        let item = r#"{"a":{"S":"}},{\"Items\":[\\"},"b\"]":{"S":"\\\\\\\"]}"},"c":{"S":"ü😀"}}"#;
        for padding in 0..130 {
            let document = format!(
                r#"{{"Items":[{{"p":{{"S":"{}"}}}},{item}]}}"#,
                "x".repeat(padding)
            );
            assert_eq!(lines(&document)[1], item);
        }
    }

    #[test]
    fn long_strings_hide_nothing_that_ends_or_spoils_them() {
        for length in 0..330 {
            let fill = "x".repeat(length);
            let document = |text: &str| {
                format!(r#"{{"Items":[{{"a":{{"S":"{fill}{text}{fill}"}}}},{{"b":[]}}]}}"#)
            };
            for text in ["", "é", "}]", "\\\"}]", "\\\\", "\\\\\\\"]"] {
                assert_eq!(found(&document(text)).len(), 2, "{text:?}");
            }
            let ended = find_items(document("\"}}]}").as_bytes());
            assert!(
                matches!(ended, Err(ItemFinderError::Unexpected { .. })),
                "{ended:?}"
            );
            let offset = 21 + length;
            assert_eq!(
                find_items(document("\n").as_bytes()),
                Err(ItemFinderError::ControlCharacter { offset })
            );
        }
    }

    #[test]
    fn backslash_runs_are_told_apart_across_blocks() {
        for padding in 0..70 {
            for run in 0..70 {
                let document = format!(
                    r#"{{"Items":[{{"{}":{{"S":"{}"}}}},{{}}]}}"#,
                    "x".repeat(padding),
                    "\\".repeat(run * 2) + "\\\"}}]"
                );
                assert_eq!(found(&document).len(), 2);
            }
        }
    }

    #[test]
    fn only_the_top_level_member_counts() {
        let document = r#"{"LastEvaluatedKey":{"Items":{"S":"Items\":[{"}},"X":[{"Items":[{}]}],"Items":[{"Items":{"L":[{"M":{}}]},"LastEvaluatedKey":{"S":"x"}}]}"#;
        assert_eq!(found(document).len(), 1);
        assert_eq!(
            lines(r#"{"\u0049tems":[{"a":{"NULL":true}}]}"#),
            [r#"{"a":{"NULL":true}}"#]
        );
    }

    #[test]
    fn white_space_is_tolerated_and_removed() {
        let document = "\n{ \"Items\" :\t[ { \"a b\" : { \"S\" : \" x \\\" \\n\" } } ,\r\n {\n} , { \"b\" :{\"L\": [ ]}} ] , \"Count\" : 3 }\n";
        assert_eq!(
            lines(document),
            [r#"{"a b":{"S":" x \" \n"}}"#, "{}", r#"{"b":{"L":[]}}"#]
        );
        assert_eq!(
            found(document).document_without_items(document.as_bytes()),
            b"\n{ \"Items\" :\t[] , \"Count\" : 3 }\n"
        );
    }

    #[test]
    fn items_without_spaces_keep_their_buffer() {
        let document = r#"{ "Items":[{"a":{"S":"spaces in strings do not count"}}] }"#;
        assert!(!found(document).spaced);
        assert!(found(r#"{"Items":[{"a": {"S":"x"}}]}"#).spaced);
    }

    #[test]
    fn no_array_means_no_items() {
        for document in [
            "{}",
            " { } ",
            r#"{"Count":7}"#,
            r#"{"Items":null,"Count":0}"#,
            r#"{"Items":[]}"#,
            r#"{"Items":[ ]}"#,
        ] {
            assert!(found(document).is_empty(), "{document}");
        }
        let counted = found(r#"{"Count":7}"#);
        assert_eq!(
            counted.document_without_items(br#"{"Count":7}"#),
            br#"{"Count":7}"#
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let document = format!(
            r#"{{"Count":2,"Items":[{{"a":{{"S":"{}\\"}}}}, {{"b":{{"L":[{{"N":"1"}}]}}}}],"LastEvaluatedKey":{{"a":{{"S":"\""}}}}}}"#,
            "}},{".repeat(40)
        );
        found(&document);
        for end in 0..document.len() {
            let error = find_items(&document.as_bytes()[..end]).unwrap_err();
            assert_eq!(error, ItemFinderError::Truncated { bytes: end });
        }
    }

    #[test]
    fn malformed_documents_are_refused_with_the_place() {
        let unexpected = |offset, expected| ItemFinderError::Unexpected { offset, expected };
        let gap = "one `,` between two items, or `]`";
        for (document, error) in [
            ("[]", unexpected(0, "the `{` of the document")),
            (r#"{"Items":{}}"#, unexpected(9, "the `[` of the array")),
            (r#"{"Items":[{}{}]}"#, unexpected(12, gap)),
            (r#"{"Items":[{},,{}]}"#, unexpected(12, gap)),
            (r#"{"Items":[{},]}"#, unexpected(12, gap)),
            (r#"{"Items":[,{}]}"#, unexpected(10, gap)),
            (r#"{"Items":["a"]}"#, unexpected(10, gap)),
            (r#"{"Items":[[]]}"#, unexpected(10, "the `{` of an item")),
            (r#"{"Items":[{]]}"#, unexpected(11, "the `}` of an item")),
            (r#"{"Items":[}}"#, unexpected(10, "the `]` of the array")),
            (
                r#"{"Items":[]}x"#,
                unexpected(12, "the end of the document"),
            ),
            (
                r#"{"Items":[],"Items":[]}"#,
                ItemFinderError::Duplicate { offset: 12 },
            ),
            (
                "{\"Items\":[{\"a\":{\"S\":\"\n\"}}]}",
                ItemFinderError::ControlCharacter { offset: 21 },
            ),
            (
                "{\"Items\":[{\"a\":\u{1}{}}]}",
                ItemFinderError::ControlCharacter { offset: 15 },
            ),
        ] {
            assert_eq!(find_items(document.as_bytes()), Err(error), "{document:?}");
        }
    }

    #[test]
    fn a_balanced_item_that_is_no_json_is_found_by_the_check() {
        let document = br#"{"Items":[{"a":{"S":"x"}},{"a":{"BOOL":tru}}]}"#;
        let found = find_items(document).unwrap();
        assert!(matches!(
            found.check(document),
            Err(ItemFinderError::NotJson { index: 1, .. })
        ));
    }

    /// Text that needs escapes, hides brackets, or crosses blocks.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("Items".to_owned()),
            Just("}},{\"".to_owned()),
            "[\\\\\"\\[\\]{}, :a\u{fc}\u{1F600}\n\u{1}]{0,40}",
            "[a-z]{0,90}",
        ]
    }

    /// One JSON string, escaped more than it needs to be now and then.
    fn string() -> impl Strategy<Value = String> {
        (text(), any::<bool>()).prop_map(|(text, wild)| {
            let plain = serde_json::to_string(&text).unwrap();
            if wild {
                plain.replace('a', "\\u0061").replace('}', "\\u007D")
            } else {
                plain
            }
        })
    }

    fn space() -> impl Strategy<Value = &'static str> {
        prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")]
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            string(),
            Just("true".to_owned()),
            Just("-1.5e3".to_owned()),
            Just("null".to_owned())
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec((space(), inner.clone()), 0..4).prop_map(|list| {
                    let list: Vec<_> = list.iter().map(|(s, v)| format!("{s}{v}{s}")).collect();
                    format!("[{}]", list.join(","))
                }),
                object(inner),
            ]
        })
    }

    fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        prop::collection::vec((space(), string(), space(), value), 0..4).prop_map(|members| {
            let members: Vec<_> = members
                .iter()
                .map(|(s, name, t, value)| format!("{s}{name}{t}:{s}{value}{t}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    fn document() -> impl Strategy<Value = String> {
        let items = prop::collection::vec((space(), object(value())), 0..6);
        let others = prop::collection::vec((space(), "[A-Z]{1,9}", value()), 0..3);
        (items, others, space(), 0..4_usize).prop_map(|(items, others, space, place)| {
            let items: Vec<_> = items
                .iter()
                .map(|(s, item)| format!("{s}{item}{s}"))
                .collect();
            let mut members: Vec<_> = others
                .iter()
                .map(|(s, name, value)| format!("{s}\"{name}\":{value}{s}"))
                .collect();
            let items = format!("\"Items\"{space}:{space}[{}]{space}", items.join(","));
            members.insert(place.min(members.len()), items);
            format!("{{{}}}{space}", members.join(","))
        })
    }

    /// Whatever the finder, the check and the parser of the rest accept, `serde_json` accepts as a whole and sees alike.
    fn agrees(document: &[u8]) -> Result<(), TestCaseError> {
        let expected = oracle(document);
        let accepted = find_items(document).ok().filter(|found| {
            let rest = found.document_without_items(document);
            found.check(document).is_ok() && oracle(&rest).is_some()
        });
        // Array elements that are not objects, and control characters, are refused on purpose.
        let objects = |spans: &Vec<(u32, u32)>| {
            spans
                .iter()
                .all(|&(start, _)| document[start as usize] == b'{')
        };
        prop_assert_eq!(accepted.map(|found| found.spans), expected.filter(objects));
        Ok(())
    }

    proptest! {
        #[test]
        fn valid_documents_are_read_as_serde_reads_them(document in document()) {
            prop_assert_eq!(Some(find_items(document.as_bytes()).unwrap().spans), oracle(document.as_bytes()));
        }

        #[test]
        fn compaction_changes_nothing_but_spaces(document in document()) {
            let found = find_items(document.as_bytes()).unwrap();
            let spans = found.spans.clone();
            let items = found.into_raw_items(Bytes::copy_from_slice(document.as_bytes()));
            prop_assert_eq!(items.len(), spans.len());
            for (line, (start, end)) in items.iter().zip(spans) {
                let original = &document.as_bytes()[start as usize..end as usize];
                prop_assert!(!line.contains(&b'\n'));
                prop_assert_eq!(
                    serde_json::from_slice::<serde_json::Value>(line).unwrap(),
                    serde_json::from_slice::<serde_json::Value>(original).unwrap()
                );
            }
        }

        #[test]
        fn damaged_documents_are_never_misread(
            document in document(),
            at in any::<prop::sample::Index>(),
            byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],: \n\x1f".to_vec())],
            cut in any::<bool>(),
        ) {
            let mut bytes = document.into_bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            agrees(&bytes)?;
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = find_items(&bytes);
            let _ = find_items(&[b"{\"Items\":[{\"", bytes.as_slice()].concat());
        }
    }

    #[test]
    fn borrowed_names_are_enough_for_the_oracle() {
        // Guards the oracle itself: an escaped name must reach serde as `Items`.
        let name: Cow<'_, str> = serde_json::from_str(r#""\u0049tems""#).unwrap();
        assert_eq!(name, "Items");
    }
}
