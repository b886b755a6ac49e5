use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::offset;
use super::*;

#[derive(Deserialize)]
struct Parsed<'a> {
    #[serde(borrow, rename = "Records")]
    records: Vec<&'a RawValue>,
}

/// Where the parser finds the elements; `None` if it says that this is no such document.
fn parsed(document: &[u8]) -> Option<Vec<(u32, u32)>> {
    let text = std::str::from_utf8(document).ok()?;
    let records = serde_json::from_str::<Parsed<'_>>(text).ok()?.records;
    let place = |record: &&RawValue| {
        let start = record.get().as_ptr() as usize - text.as_ptr() as usize;
        (offset(start), offset(start + record.get().len()))
    };
    Some(records.iter().map(place).collect())
}

fn found(document: &[u8]) -> Option<Vec<(u32, u32)>> {
    let found = find_checked_elements(document, "Records")?;
    Some(found.spans)
}

/// What is found is what the parser finds.
fn is_right(document: &[u8]) -> bool {
    let found = found(document);
    found.is_none() || found == parsed(document)
}

/// Every short row of tokens within an element, within a list of it, and among elements, wherever blocks end.
#[test]
fn every_short_row_of_tokens_is_judged_as_the_parser_does() {
    let tokens = ["{", "}", "[", "]", ",", ":", r#""a""#, "-1.5e+3", r#""\"""#];
    let (mut accepted, mut row) = (0, [0_usize; 5]);
    for number in 0..tokens.len().pow(5) {
        let mut left = number;
        for place in &mut row {
            (*place, left) = (left % tokens.len(), left / tokens.len());
        }
        let row: String = row.iter().map(|place| tokens[*place]).collect();
        let fill = "x".repeat(number % 64);
        for (around, is_among) in [
            (r#"{"f":"#, false),
            (r#"{"f":[]"#, false),
            (r#"{"f":{}},"#, true),
        ] {
            let close = if is_among { "" } else { "}" };
            let document = format!(r#"{{"{fill}":1,"Records":[{around}{row}{close}]}}"#);
            let (found, parsed) = (found(document.as_bytes()), parsed(document.as_bytes()));
            let objects = |spans: &Vec<(u32, u32)>| {
                let mut spans = spans.iter();
                spans.all(|(start, _)| document.as_bytes()[*start as usize] == b'{')
            };
            assert_eq!(found, parsed.filter(objects), "{document}");
            accepted += usize::from(found.is_some());
        }
    }
    assert!(accepted > 40, "{accepted}");
}

#[test]
fn numbers_and_words_are_judged_as_the_parser_does() {
    for value in [
        "0",
        "-0",
        "00",
        "01",
        "-",
        "+1",
        "1.",
        ".1",
        "1.0",
        "1e5",
        "1E-05",
        "1e",
        "1e+",
        "-1.20e+03",
        "1.2.3",
        "0x1",
        "true",
        "True",
        "truex",
        "false",
        "fals",
        "null",
        "nul",
        "nulll",
        "NaN",
        "Infinity",
        "12345678901234567890123",
        "1 ",
        " 1",
        "\"\u{7f}\"",
        "\"\u{1f}\"",
        "\"\n\"",
        "\"\\u00e9\"",
        "\"\\u00g9\"",
        "\"\\u00\"",
        "\"\\x\"",
        "\"\\/\\b\\f\\n\\r\\t\"",
        "\"\\ud800\"",
        "\"é漢\"",
        "\"\\\\\\\"\"",
        "\"\\\\\"\"",
        "'a'",
        "\u{e9}",
        "\\\"a\"",
    ] {
        for fill in 0..70 {
            let document = format!(
                r#"{{"Records":[{{"{}":{value},"b":[{value}]}}]}}"#,
                "f".repeat(fill)
            );
            let found = found(document.as_bytes());
            let parsed = parsed(document.as_bytes()).filter(|_| value.trim() == value);
            assert_eq!(found, parsed, "{document}");
        }
    }
}

#[test]
fn only_the_one_list_at_the_top_is_found_and_only_where_all_of_it_is_objects() {
    for (document, is_found) in [
        (r#"{"Records":[]}"#, true),
        (
            r#"{"a":{"b":[[1],{}]},"Records":[{},{"x":[[[]]]}],"z":null}"#,
            true,
        ),
        (r#"{"Records":[{}],"Other":[]}"#, false),
        (r#"{"Records":[{}],"Records":[{}]}"#, false),
        (r#"{"Others":[{}]}"#, false),
        (r#"{"More\"Records":[{}]}"#, false),
        (r#"{"MoreRecords":[{}]}"#, false),
        (r#"{"\u0052ecords":[{}]}"#, false),
        (r#"{"Records":[1]}"#, false),
        (r#"{"Records":[{},1]}"#, false),
        (r#"{"Records":[[]]}"#, false),
        (r#"{"Records":[[{}],{}]}"#, false),
        (r#"{"Records":[[{}]]}"#, false),
        (r#"{"Records":null}"#, false),
        (r#"{"x":{"Records":[{}]}}"#, false),
        (r#"[{"Records":[{}]}]"#, false),
        (r#"{"Records":[{}]} "#, false),
        (r#"{"Records":[{}]}}"#, false),
        (r#"{"Records":[{}]},"#, false),
        (r#"{"Records":[{}]}{}"#, false),
        (r#"{"Records":[{}]"#, false),
        (r#"{"Records":[{}"#, false),
        (r#"{"Records":[{"a":"#, false),
        (r#"{"Records":[{"a"#, false),
        ("", false),
        ("{", false),
        ("{}", false),
        ("[]", false),
        (r#""Records""#, false),
    ] {
        assert_eq!(found(document.as_bytes()).is_some(), is_found, "{document}");
        assert!(is_right(document.as_bytes()), "{document}");
    }
}

/// Whole blocks may lie in a string; what stands behind them counts all the same.
#[test]
fn a_long_string_ends_where_the_parser_says() {
    for length in 0..330 {
        let fill = "x".repeat(length);
        for (text, is_json) in [
            ("", true),
            ("é", true),
            ("\\\"", true),
            ("\\\\", true),
            ("\\\\\\\"", true),
            ("\\x", false),
            ("\"", false),
            ("\n", false),
            ("\u{1f}", false),
        ] {
            let long = format!("{fill}{text}{fill}");
            let document = format!(r#"{{"Records":[{{"a":"{long}"}},{{"{long}":["]}}"]}}]}}"#);
            let found = found(document.as_bytes());
            assert_eq!(found, parsed(document.as_bytes()), "{document}");
            assert_eq!(found.is_some(), is_json, "{document}");
        }
    }
}

#[test]
fn what_is_no_utf_8_is_not_found() {
    let document = "{\"Records\":[{\"a\":\"ü\"}]}".as_bytes().to_vec();
    assert!(found(&document).is_some());
    let cut: Vec<u8> = document
        .iter()
        .copied()
        .filter(|byte| *byte != 0xbc)
        .collect();
    assert_eq!(found(&cut), None);
}

fn json() -> impl Strategy<Value = Value> {
    let string = r#"[\\"{}\[\]a-cü漢,:\n \t]{0,90}"#;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(|number| serde_json::json!(number)),
        string.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 80, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(string, inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A document as Lambda writes events, with members before and behind the array.
fn document() -> impl Strategy<Value = String> {
    let element = prop::collection::btree_map("[a-z\"]{0,9}", json(), 0..5);
    let elements = prop::collection::vec(element, 0..6);
    (elements, "[a-z\\\\]{0,70}", json()).prop_map(|(elements, before, behind)| {
        let elements = serde_json::to_string(&elements).unwrap();
        let before = Value::from(before);
        let behind = serde_json::json!({ "b": behind });
        format!(r#"{{{before}:{before},"Records":{elements},"state":{behind}}}"#)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_document_is_found_to_be_json_and_its_elements_where_the_parser_finds_them(document in document()) {
        prop_assert_eq!(found(document.as_bytes()), parsed(document.as_bytes()));
        prop_assert!(found(document.as_bytes()).is_some());
    }

    #[test]
    fn nothing_is_found_that_the_parser_does_not_find(
        document in document(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop_oneof![
            prop::sample::select(br#"{}[],:"\1 -.eu"#.to_vec()),
            any::<u8>(),
        ]), 1..4),
    ) {
        let mut document = document.into_bytes();
        for (place, kind, byte) in changes {
            let place = place.index(document.len());
            match kind {
                0 => document[place] = byte,
                1 => document.insert(place, byte),
                _ => drop(document.remove(place)),
            }
        }
        prop_assert!(is_right(&document), "{}", String::from_utf8_lossy(&document));
    }
}
