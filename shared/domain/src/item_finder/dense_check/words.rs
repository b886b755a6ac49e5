//! The tokens that are read byte by byte: numbers, `true`, `false`, `null`, and what a backslash escapes.

/// Whether `rest` begins with what may stand behind a backslash.
pub(super) fn is_escape(rest: &[u8]) -> Option<()> {
    let is_right = match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => true,
        b'u' => rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    };
    is_right.then_some(())
}

/// The end of the number or word that `rest` begins with.
pub(super) fn scalar_end(rest: &[u8]) -> Option<usize> {
    for word in [&b"true"[..], b"false", b"null"] {
        if rest.starts_with(word) {
            return Some(word.len());
        }
    }
    number_end(rest)
}

/// RFC 8259, §6.
fn number_end(rest: &[u8]) -> Option<usize> {
    let mut at = usize::from(rest.first() == Some(&b'-'));
    at += match rest.get(at)? {
        b'0' => 1,
        _ => digits(rest, at)?,
    };
    if rest.get(at) == Some(&b'.') {
        at += 1 + digits(rest, at + 1)?;
    }
    if let Some(b'e' | b'E') = rest.get(at) {
        at += 1;
        at += usize::from(matches!(rest.get(at), Some(b'+' | b'-')));
        at += digits(rest, at)?;
    }
    Some(at)
}

/// How many digits stand at `at`; `None` if there is none.
fn digits(rest: &[u8], at: usize) -> Option<usize> {
    let digits = rest.get(at..)?.iter();
    let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(count)
}
