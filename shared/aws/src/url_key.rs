//! Keys as S3 lists them with `encoding-type=url`.
//!
//! Without it a key with a control character would make the listing's XML unreadable. S3 encodes as
//! HTML forms do: `+` for a space, `%2B` for a plus.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

/// The key behind its encoding; `None` if it is not one.
pub(crate) fn decode(encoded: &str) -> Option<String> {
    let mut key = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        key.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            _ => byte,
        });
    }
    String::from_utf8(key).ok()
}

/// Whether encoding could have left this text so: no spaces, no controls, only ASCII, `%` with its digits.
pub(crate) fn may_be_encoded(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic()) && decode(text).is_some()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_as_forms_are() {
        for (encoded, key) in [
            ("data/s00000-p000000.json.gz", "data/s00000-p000000.json.gz"),
            ("a+b%2Bc%20d", "a b+c d"),
            ("%C3%BC%f0%9f%98%80/%25", "ü😀/%"),
            ("ü", "ü"),
            ("", ""),
        ] {
            assert_eq!(decode(encoded).as_deref(), Some(key));
        }
        for raw in ["a b", "ü", "a\u{1}", "100%", "%zz"] {
            assert!(!may_be_encoded(raw), "{raw}");
        }
        assert!(may_be_encoded("a+b%2B/c"));
        for torn in ["%", "%2", "%zz", "%FF", "%+1"] {
            assert_eq!(decode(torn), None, "{torn}");
        }
    }
}
