//! How S3 writes keys: percent-encoded in paths and queries, escaped in XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The text with `%XX` undone; `None` if a sequence is incomplete or the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let code = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// The key as `encoding-type=url` has it: everything but unreserved characters and `/`.
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The members of a query; one without `=` has an empty value.
pub(super) fn query(query: &str) -> Option<BTreeMap<String, String>> {
    let members = query.split('&').filter(|member| !member.is_empty());
    members
        .map(|member| {
            let (name, value) = member.split_once('=').unwrap_or((member, ""));
            let decode = |text: &str| percent_decode(&text.replace('+', " "));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The text as XML has it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            char if char.is_control() => {
                let _ = write!(escaped, "&#{};", u32::from(char));
            }
            char => escaped.push(char),
        }
    }
    escaped
}

/// The inverse of [`escape`]; `None` if an entity is unknown.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split('&');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (entity, rest) = piece.split_once(';')?;
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => {
                let number = number.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
        plain += rest;
    }
    Some(plain)
}

/// The contents of the elements called `name`, which must have no attributes and no children.
pub(super) fn elements<'a>(document: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = document;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (content, after) = after.split_once(&close)?;
        rest = after;
        Some(content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWKWARD: &str = "a+b c/ü%2F<&>\"'\n~_-.";

    #[test]
    fn awkward_keys_survive() {
        assert_eq!(
            percent_decode(&percent_encode(AWKWARD)).as_deref(),
            Some(AWKWARD)
        );
        assert_eq!(unescape(&escape(AWKWARD)).as_deref(), Some(AWKWARD));
        let members = query(&format!("prefix={}&delete", percent_encode(AWKWARD))).unwrap();
        assert_eq!(members["prefix"], AWKWARD);
        assert_eq!(members["delete"], "");
        assert_eq!(unescape("&#xD;&#10;").as_deref(), Some("\r\n"));
    }

    #[test]
    fn broken_text_is_refused() {
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
        for text in ["&", "&amp", "&what;", "&#x110000;"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn elements_are_found() {
        let document = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object>";
        let keys: Vec<_> = elements(document, "Key").collect();
        assert_eq!(keys, ["a", "b"]);
    }
}
