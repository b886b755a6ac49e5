//! From the typed form back to DynamoDB's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::EncodingError;
use super::attribute_type::AttributeType;
use super::members::{DEEPEST, Member, elements, members, text};
use crate::number::CanonicalNumber;

/// The item, in DynamoDB's JSON, of one line of a typed dump.
///
/// It takes what [`Encoding::Typed`](super::Encoding::Typed) writes, with numbers bare or in quotes, and what
/// dyndump 1.0 wrote; bytes and digits that dyndump had lost stay lost.
pub fn decode_typed(line: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let line = std::str::from_utf8(line)
        .map_err(|error| EncodingError::new(format!("it is not UTF-8: {error}")))?;
    let mut item = Vec::with_capacity(line.len());
    map(line, DEEPEST, &mut item)?;
    Ok(item)
}

fn map(json: &str, levels: u32, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    out.push(b'{');
    for (index, Member { name, token, value }) in members(json)?.iter().enumerate() {
        comma(index, out);
        out.extend_from_slice(token.as_bytes());
        out.push(b':');
        attribute(value, levels, out).map_err(|error| error.inside(name))?;
    }
    out.push(b'}');
    Ok(())
}

/// The members of `{"type":…,"value":…}`, in any order.
struct Typed<'a> {
    kind: AttributeType,
    value: &'a str,
    is_base64: bool,
}

impl<'a> Typed<'a> {
    fn parse(json: &'a str) -> Result<Self, EncodingError> {
        let (mut kind, mut value, mut is_base64) = (None, None, false);
        for member in members(json)? {
            match member.name.as_ref() {
                "type" => kind = Some(text(member.value)?),
                "value" => value = Some(member.value),
                "encoding" if member.value == r#""base64""# => is_base64 = true,
                "encoding" => {
                    let reason = format!("{} is no encoding of binary values", member.value);
                    return Err(EncodingError::new(reason));
                }
                other => {
                    let reason = format!(
                        "{other:?} is neither \"type\" nor \"value\": the line is not of a typed dump"
                    );
                    return Err(EncodingError::new(reason));
                }
            }
        }
        let (Some(kind), Some(value)) = (kind, value) else {
            return Err(EncodingError::new(
                "a typed value needs \"type\" and \"value\"",
            ));
        };
        let kind = AttributeType::of_name(&kind)
            .ok_or_else(|| EncodingError::new(format!("{kind:?} is no type of a typed dump")))?;
        let binary = matches!(kind, AttributeType::Binary | AttributeType::BinarySet);
        if is_base64 && !binary {
            return Err(EncodingError::new("only binary values are in base64"));
        }
        Ok(Self {
            kind,
            value,
            is_base64,
        })
    }
}

fn attribute(json: &str, levels: u32, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    let levels = levels
        .checked_sub(1)
        .ok_or_else(|| EncodingError::new(format!("it is nested deeper than {DEEPEST} levels")))?;
    let typed = Typed::parse(json)?;
    let value = typed.value;
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(typed.kind.descriptor().as_bytes());
    out.extend_from_slice(b"\":");
    match typed.kind {
        AttributeType::String => string(value, out)?,
        AttributeType::Number => number(value, out)?,
        AttributeType::Binary => binary(value, typed.is_base64, out)?,
        AttributeType::Bool => match value {
            "true" | "false" => out.extend_from_slice(value.as_bytes()),
            _ => {
                return Err(EncodingError::new(format!(
                    "{value} is neither true nor false"
                )));
            }
        },
        AttributeType::Null => match value {
            "null" | "true" => out.extend_from_slice(b"true"),
            "false" => out.extend_from_slice(b"false"),
            _ => return Err(EncodingError::new(format!("{value} is not null"))),
        },
        AttributeType::List => array(value, out, |json, out| attribute(json, levels, out))?,
        AttributeType::Map => map(value, levels, out)?,
        AttributeType::StringSet => array(value, out, string)?,
        AttributeType::NumberSet => array(value, out, number)?,
        AttributeType::BinarySet => {
            array(value, out, |json, out| binary(json, typed.is_base64, out))?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn array(
    json: &str,
    out: &mut Vec<u8>,
    write: impl Fn(&str, &mut Vec<u8>) -> Result<(), EncodingError>,
) -> Result<(), EncodingError> {
    out.push(b'[');
    for (index, element) in elements(json)?.into_iter().enumerate() {
        comma(index, out);
        write(element, out).map_err(|error| error.inside(&format!("[{index}]")))?;
    }
    out.push(b']');
    Ok(())
}

fn string(json: &str, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    // Looked at only for being text: the token itself goes on.
    text(json)?;
    out.extend_from_slice(json.as_bytes());
    Ok(())
}

fn number(json: &str, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    let number = if json.starts_with('"') {
        text(json)?
    } else {
        json.into()
    };
    if CanonicalNumber::parse(&number).is_none() {
        return Err(EncodingError::new(format!("{json} is no number")));
    }
    quoted(&number, out);
    Ok(())
}

fn binary(json: &str, is_base64: bool, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    let value = text(json)?;
    if is_base64 {
        BASE64
            .decode(value.as_bytes())
            .map_err(|error| EncodingError::new(format!("it is not base64: {error}")))?;
        quoted(&value, out);
    } else {
        quoted(&BASE64.encode(value.as_bytes()), out);
    }
    Ok(())
}

/// Text in which nothing needs an escape.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_dyndump_1_0_are_read() {
        let line = br#"{"a":{"type":"number","value":1e+21},"b":{"type":"null","value":null},"c":{"type":"binary","value":"binary value"}} "#;
        assert_eq!(
            String::from_utf8(decode_typed(line).unwrap()).unwrap(),
            r#"{"a":{"N":"1e+21"},"b":{"NULL":true},"c":{"B":"YmluYXJ5IHZhbHVl"}}"#
        );
    }

    #[test]
    fn what_is_not_typed_is_refused_with_its_place() {
        for (line, message) in [
            (
                r#"{"a":{"S":"x"}}"#,
                r#"attribute a: "S" is neither "type" nor "value""#,
            ),
            (r#"{"a":"x"}"#, "attribute a: it is not a JSON object"),
            (r#"{"a":{"type":"string"}}"#, "needs \"type\" and \"value\""),
            (
                r#"{"a":{"type":"text","value":"x"}}"#,
                r#""text" is no type"#,
            ),
            (r#"{"a":{"type":"string","value":1}}"#, "1 is no string"),
            (
                r#"{"a":{"type":"string","value":"\ud800"}}"#,
                "is no string",
            ),
            (r#"{"a":{"type":"number","value":"0x1"}}"#, "is no number"),
            (
                r#"{"a":{"type":"number","value":true}}"#,
                "true is no number",
            ),
            (
                r#"{"a":{"type":"bool","value":"true"}}"#,
                "neither true nor false",
            ),
            (r#"{"a":{"type":"null","value":0}}"#, "0 is not null"),
            (
                r#"{"a":{"type":"binary","value":"%","encoding":"base64"}}"#,
                "not base64",
            ),
            (
                r#"{"a":{"type":"binary","value":"x","encoding":"hex"}}"#,
                "no encoding",
            ),
            (
                r#"{"a":{"type":"string","value":"x","encoding":"base64"}}"#,
                "only binary",
            ),
            (
                r#"{"a":{"type":"list","value":[{"type":"map","value":{"b":{"type":"bool"}}}]}}"#,
                "attribute a[0].b: ",
            ),
            (
                r#"{"a":{"type":"string-set","value":["x",1]}}"#,
                "attribute a[1]: ",
            ),
            (
                r#"{"a":{"type":"string","value":"x"},"a":{"type":"string","value":"y"}}"#,
                "stands twice",
            ),
            (
                r#"{"a":{"type":"string","type":"number","value":"1"}}"#,
                "stands twice",
            ),
            (r#"{"a":{"type":"string","value":"x"}"#, "not a JSON object"),
        ] {
            let error = decode_typed(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn what_is_no_text_and_what_is_bottomless_is_refused() {
        assert!(decode_typed(b"{\"a\xff\":1}").is_err());
        let deep = format!("{{\"a\":{}", r#"{"type":"list","value":["#.repeat(100));
        assert!(decode_typed(deep.as_bytes()).is_err());
    }
}
