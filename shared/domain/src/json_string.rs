//! Finds the end of a JSON string: most of an item's bytes are in strings, and most strings are short.

use memchr::memchr2;
use wide::u8x16;

/// So many bytes are looked at before a search is called for, which costs as much as looking at these.
const AT_HAND: usize = 32;

/// The place behind the quote that ends a string; `from` is in the string, behind a whole character or escape.
/// `None` if it does not end.
#[must_use]
pub fn end_of_string(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += quote_or_backslash(text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // What is escaped ends nothing, whatever it is.
        at += 2;
    }
}

fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    let Some(near) = text.first_chunk::<AT_HAND>() else {
        return text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    };
    let (quote, backslash) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
    let (halves, _) = near.as_chunks::<16>();
    for (index, half) in halves.iter().enumerate() {
        let lane = u8x16::new(*half);
        let found = (lane.simd_eq(quote) | lane.simd_eq(backslash)).to_bitmask();
        if found != 0 {
            return Some(16 * index + found.trailing_zeros() as usize);
        }
    }
    let far = text.get(AT_HAND..).unwrap_or_default();
    memchr2(b'"', b'\\', far).map(|found| AT_HAND + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_at_its_first_quote_that_is_not_escaped() {
        for length in 0..100 {
            let plain = "x".repeat(length);
            for (text, end) in [
                (format!("{plain}\" \"\""), Some(length + 1)),
                (format!("{plain}\\\"\""), Some(length + 3)),
                (format!("{plain}\\\\\"\""), Some(length + 3)),
                (format!("{plain}\\\\\\\"ü\"{plain}\""), Some(length + 7)),
                (plain.clone(), None),
                (format!("{plain}\\\""), None),
                (format!("{plain}\\"), None),
            ] {
                assert_eq!(end_of_string(text.as_bytes(), 0), end, "{text}");
                let shifted = format!("\"{text}");
                let shifted = end_of_string(shifted.as_bytes(), 1);
                assert_eq!(shifted, end.map(|end| end + 1));
            }
        }
        assert_eq!(end_of_string(b"\"", 2), None);
    }
}
