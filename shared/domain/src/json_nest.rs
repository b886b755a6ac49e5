//! Finds the end of an object or of a list, 64 bytes at a time.
//!
//! Brackets outside strings are only counted. In a text that is known to be JSON, those of one kind are balanced by
//! themselves.

use wide::u8x16;

use crate::json_blocks::Strings;
use crate::json_string::end_of_string;

const BLOCK: usize = 64;

/// The place behind the `}` or `]` that ends what begins at `start` with `{` or `[`; the text's end if nothing does.
#[must_use]
pub(crate) fn end_of_nest(text: &[u8], start: usize) -> usize {
    let (open, close) = match text.get(start) {
        Some(b'[') => (b'[', b']'),
        _ => (b'{', b'}'),
    };
    let (mut at, mut depth) = (start + 1, 1);
    let mut strings = Strings::default();
    while at < text.len() {
        let block = block(text, at);
        let quotes = marks(&block, b'"');
        let outside = !strings.next(quotes, marks(&block, b'\\'));
        let opens = marks(&block, open) & outside;
        let closes = marks(&block, close) & outside;
        if closes.count_ones() < depth {
            depth = depth - closes.count_ones() + opens.count_ones();
        } else if let Some(end) = closed_in(opens, closes, &mut depth) {
            return (at + end).min(text.len());
        }
        at += BLOCK;
        if quotes == 0
            && let Some(escaped) = strings.open_string()
        {
            // A long string: a search for its end is faster.
            at = end_of_string(text, at + escaped).unwrap_or(text.len());
            strings = Strings::default();
        }
    }
    text.len()
}

/// The bytes from `at` on; behind the text's end, spaces.
fn block(text: &[u8], at: usize) -> [u8; BLOCK] {
    let rest = text.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| {
        let mut block = [b' '; BLOCK];
        for (to, from) in block.iter_mut().zip(rest) {
            *to = *from;
        }
        block
    })
}

/// A bit for each byte that is `byte`, the lowest for the first.
fn marks(block: &[u8; BLOCK], byte: u8) -> u64 {
    let wanted = u8x16::splat(byte);
    let (quarters, _) = block.as_chunks::<16>();
    let mut marks = 0;
    for (index, quarter) in quarters.iter().enumerate() {
        let found = u8x16::new(*quarter).simd_eq(wanted).to_bitmask();
        marks |= u64::from(found) << (16 * index);
    }
    marks
}

/// The place behind the bracket that brings `depth` to zero, if one of these does.
fn closed_in(opens: u64, closes: u64, depth: &mut u32) -> Option<usize> {
    let mut left = opens | closes;
    while left != 0 {
        let bit = left & left.wrapping_neg();
        if closes & bit == 0 {
            *depth += 1;
        } else {
            *depth -= 1;
            if *depth == 0 {
                return Some(bit.trailing_zeros() as usize + 1);
            }
        }
        left ^= bit;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let string = r#"[\\"{}\[\]a-cü,: ]{0,90}"#;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            string.prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(string, inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_object_or_a_list_ends_where_the_parser_says(value in json(), before in 0..70_usize, pretty: bool) {
            let nest = Value::from(vec![value]);
            let nest = if pretty { format!("{nest:#}") } else { nest.to_string() };
            let text = format!("{}{nest},\"]}}\"]]}}", " ".repeat(before));
            prop_assert_eq!(end_of_nest(text.as_bytes(), before), before + nest.len());
            let object = format!("{{\"a\":{nest}}}");
            let text = format!("{}{object}}}}}", "[".repeat(before));
            prop_assert_eq!(end_of_nest(text.as_bytes(), before), before + object.len());
        }

        #[test]
        fn whatever_the_bytes_are_it_ends_within_them(
            text in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), any::<u8>()], 1..300),
            start in 0..300_usize,
        ) {
            prop_assume!(start < text.len());
            let end = end_of_nest(&text, start);
            prop_assert!(start < end && end <= text.len());
        }
    }

    #[test]
    fn what_is_escaped_ends_no_string_wherever_a_block_ends() {
        for length in 0..140 {
            for escapes in ["\\\\", "\\\"", "\\\\\\\"", "\\\\\\\\"] {
                let object = format!("{{\"{}\":\"{escapes}}}{escapes}\"}}", "x".repeat(length));
                let text = format!("{object}\"}}");
                assert_eq!(end_of_nest(text.as_bytes(), 0), object.len(), "{text}");
            }
        }
    }
}
