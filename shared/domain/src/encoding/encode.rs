//! From DynamoDB's JSON to the typed and plain forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::EncodingError;
use super::attribute_type::AttributeType;
use super::members::{DEEPEST, Member, elements, members, text};
use crate::number::CanonicalNumber;

/// Which of the two forms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) typed: bool,
    pub(super) numbers_as_strings: bool,
}

/// Appends `item` in the form that `style` says.
pub(super) fn item(item: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    let item = std::str::from_utf8(item)
        .map_err(|error| EncodingError::new(format!("it is not UTF-8: {error}")))?;
    style.map(item, DEEPEST, out)
}

impl Style {
    fn map(self, json: &str, levels: u32, out: &mut Vec<u8>) -> Result<(), EncodingError> {
        let mut members = members(json)?;
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        out.push(b'{');
        for (index, Member { name, token, value }) in members.iter().enumerate() {
            comma(index, out);
            out.extend_from_slice(token.as_bytes());
            out.push(b':');
            self.attribute(value, levels, out)
                .map_err(|error| error.inside(name))?;
        }
        out.push(b'}');
        Ok(())
    }

    fn list(self, json: &str, levels: u32, out: &mut Vec<u8>) -> Result<(), EncodingError> {
        out.push(b'[');
        for (index, value) in elements(json)?.into_iter().enumerate() {
            comma(index, out);
            self.attribute(value, levels, out)
                .map_err(|error| error.inside(&format!("[{index}]")))?;
        }
        out.push(b']');
        Ok(())
    }

    /// One attribute value, `{"S":"x"}`.
    fn attribute(self, json: &str, levels: u32, out: &mut Vec<u8>) -> Result<(), EncodingError> {
        let levels = levels.checked_sub(1).ok_or_else(|| {
            EncodingError::new(format!("it is nested deeper than {DEEPEST} levels"))
        })?;
        let members = members(json)?;
        let [member] = members.as_slice() else {
            return Err(EncodingError::new(format!(
                "a value has one type, not {}",
                members.len()
            )));
        };
        let kind = AttributeType::of_descriptor(&member.name).ok_or_else(|| {
            EncodingError::new(format!("{:?} is no type of DynamoDB's", member.name))
        })?;
        if !self.typed {
            return self.value(kind, member.value, levels, out).map(|_| ());
        }
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.name().as_bytes());
        out.extend_from_slice(br#"","value":"#);
        if self.value(kind, member.value, levels, out)? == Bytes::Base64 {
            out.extend_from_slice(br#","encoding":"base64""#);
        }
        out.push(b'}');
        Ok(())
    }

    fn value(
        self,
        kind: AttributeType,
        json: &str,
        levels: u32,
        out: &mut Vec<u8>,
    ) -> Result<Bytes, EncodingError> {
        match kind {
            AttributeType::String => string(json, out)?,
            AttributeType::Number => self.number(json, out)?,
            AttributeType::Binary => return binary(&[json], out),
            AttributeType::Bool => out.extend_from_slice(truth(json)?.as_bytes()),
            AttributeType::Null => {
                let shown = match truth(json)? {
                    "false" if self.typed => "false",
                    _ => "null",
                };
                out.extend_from_slice(shown.as_bytes());
            }
            AttributeType::List => self.list(json, levels, out)?,
            AttributeType::Map => self.map(json, levels, out)?,
            AttributeType::StringSet => set(&elements(json)?, out, string)?,
            AttributeType::NumberSet => {
                set(&elements(json)?, out, |json, out| self.number(json, out))?;
            }
            AttributeType::BinarySet => {
                out.push(b'[');
                let bytes = binary(&elements(json)?, out)?;
                out.push(b']');
                return Ok(bytes);
            }
        }
        Ok(Bytes::Text)
    }

    fn number(self, json: &str, out: &mut Vec<u8>) -> Result<(), EncodingError> {
        let number = text(json)?;
        if CanonicalNumber::parse(&number).is_none() {
            return Err(EncodingError::new(format!("{number:?} is no number")));
        }
        if !self.numbers_as_strings && is_json_number(&number) {
            out.extend_from_slice(number.as_bytes());
        } else {
            out.push(b'"');
            out.extend_from_slice(number.as_bytes());
            out.push(b'"');
        }
        Ok(())
    }
}

/// How binary values were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    Text,
    Base64,
}

/// Values of one attribute with commas between them: as text if all of them are, else all in base64.
fn binary(tokens: &[&str], out: &mut Vec<u8>) -> Result<Bytes, EncodingError> {
    let values = tokens
        .iter()
        .map(|token| {
            BASE64
                .decode(text(token)?.as_bytes())
                .map_err(|error| EncodingError::new(format!("it is not base64: {error}")))
        })
        .collect::<Result<Vec<_>, EncodingError>>()?;
    let texts: Result<Vec<&str>, _> = values
        .iter()
        .map(|value| std::str::from_utf8(value))
        .collect();
    let Ok(texts) = texts else {
        for (index, value) in values.iter().enumerate() {
            comma(index, out);
            // No character of base64 needs an escape.
            out.push(b'"');
            out.extend_from_slice(BASE64.encode(value).as_bytes());
            out.push(b'"');
        }
        return Ok(Bytes::Base64);
    };
    for (index, text) in texts.into_iter().enumerate() {
        comma(index, out);
        serde_json::to_writer(&mut *out, text)
            .map_err(|error| EncodingError::new(error.to_string()))?;
    }
    Ok(Bytes::Text)
}

fn string(json: &str, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    if !json.starts_with('"') {
        return Err(EncodingError::new(format!("{json} is no string")));
    }
    out.extend_from_slice(json.as_bytes());
    Ok(())
}

fn set(
    tokens: &[&str],
    out: &mut Vec<u8>,
    write: impl Fn(&str, &mut Vec<u8>) -> Result<(), EncodingError>,
) -> Result<(), EncodingError> {
    out.push(b'[');
    for (index, token) in tokens.iter().enumerate() {
        comma(index, out);
        write(token, out)?;
    }
    out.push(b']');
    Ok(())
}

fn truth(json: &str) -> Result<&str, EncodingError> {
    match json {
        "true" | "false" => Ok(json),
        _ => Err(EncodingError::new(format!(
            "{json} is neither true nor false"
        ))),
    }
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// Whether JSON would read this text as a number. DynamoDB takes more: `.5`, `+7`, `007`.
fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}
