//! What DynamoDB refuses in an item: the rules that a fake table holds its writers to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_domain::item_size::item_size;
use highwater_domain::key::{Key, KeySchema, KeyValue};
use highwater_domain::number::CanonicalNumber;
use serde_json::{Map, Value};

/// The most bytes of an item as DynamoDB counts them.
const ITEM_BYTES: u64 = 409_600;
/// The most bytes of a partition key's and of a sort key's value.
const KEY_BYTES: [usize; 2] = [2048, 1024];
/// Levels of nesting, the leaf's included.
const LEVELS: usize = 32;

/// The key of an item that may be put, or why it may not.
pub(crate) fn key_of_item(schema: &KeySchema, item: &[u8]) -> Result<Key, String> {
    let attributes = attributes(item)?;
    for (name, value) in &attributes {
        if name.is_empty() || name.len() > 65_535 {
            return Err("an attribute's name has 1 to 65535 bytes".to_owned());
        }
        check_value(value, 1).map_err(|reason| format!("attribute {name:?}: {reason}"))?;
    }
    let bytes = item_size(item).map_err(|error| error.to_string())?;
    if bytes > ITEM_BYTES {
        return Err(format!(
            "Item size has exceeded the maximum allowed size: {bytes} bytes"
        ));
    }
    key_of(schema, item)
}

/// A key that an item may be deleted by, or why it may not: its attributes and no others.
pub(crate) fn whole_key(schema: &KeySchema, key: &[u8]) -> Result<Key, String> {
    let given = attributes(key)?.len();
    let wanted = schema.attributes().count();
    if given != wanted {
        return Err("The provided key element does not match the schema".to_owned());
    }
    key_of(schema, key)
}

fn attributes(item: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(item).map_err(|error| format!("not an item: {error}"))
}

fn key_of(schema: &KeySchema, item: &[u8]) -> Result<Key, String> {
    let key = schema.key_of(item).map_err(|error| error.to_string())?;
    for (attribute, most) in schema.attributes().zip(KEY_BYTES) {
        let bytes = match &key.0[&attribute.name] {
            KeyValue::S(text) => text.len(),
            KeyValue::B(bytes) => bytes.len(),
            KeyValue::N(text) => {
                check_number(text)?;
                1
            }
        };
        if !(1..=most).contains(&bytes) {
            return Err(format!(
                "key attribute {:?} has {bytes} bytes; 1 to {most} are allowed",
                attribute.name
            ));
        }
    }
    Ok(key)
}

fn check_value(value: &Value, level: usize) -> Result<(), String> {
    if level > LEVELS {
        return Err("Nesting Levels have exceeded supported limits".to_owned());
    }
    let (kind, value) = value
        .as_object()
        .filter(|members| members.len() == 1)
        .and_then(|members| members.iter().next())
        .ok_or("Supplied AttributeValue must contain exactly one of the supported datatypes")?;
    match (kind.as_str(), value) {
        ("S", Value::String(_)) | ("BOOL", Value::Bool(_)) | ("NULL", Value::Bool(true)) => Ok(()),
        ("N", Value::String(text)) => check_number(text),
        ("B", Value::String(text)) => check_binary(text),
        ("SS", Value::Array(texts)) => check_set(texts, |text| Ok(text.to_owned())),
        ("NS", Value::Array(texts)) => {
            check_set(texts, |text| check_number(text).map(|()| number(text)))
        }
        ("BS", Value::Array(texts)) => {
            check_set(texts, |text| check_binary(text).map(|()| text.to_owned()))
        }
        ("L", Value::Array(values)) => values
            .iter()
            .try_for_each(|value| check_value(value, level + 1)),
        ("M", Value::Object(members)) => members
            .values()
            .try_for_each(|value| check_value(value, level + 1)),
        _ => Err(format!("{value} is no value of type {kind}")),
    }
}

fn number(text: &str) -> String {
    format!("{:?}", CanonicalNumber::parse(text))
}

fn check_number(text: &str) -> Result<(), String> {
    let number = CanonicalNumber::parse(text)
        .ok_or_else(|| format!("The parameter cannot be converted to a numeric value: {text}"))?;
    if number.digits.len() > 38 {
        return Err("Attempting to store more than 38 significant digits in a Number".to_owned());
    }
    if !number.digits.is_empty() && !(-129..=126).contains(&number.exponent) {
        return Err("Number overflow".to_owned());
    }
    Ok(())
}

fn check_binary(text: &str) -> Result<(), String> {
    let decoded = BASE64.decode(text).map(drop);
    decoded.map_err(|error| format!("Invalid base64: {error}"))
}

fn check_set(
    elements: &[Value],
    form: impl Fn(&str) -> Result<String, String>,
) -> Result<(), String> {
    if elements.is_empty() {
        return Err("An number, string or binary set may not be empty".to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    for element in elements {
        let text = element.as_str().ok_or("a set's elements are strings")?;
        if !seen.insert(form(text)?) {
            return Err("Input collection contains duplicates".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_table::string_key;
    use crate::generate::{Generator, KeyShape};

    #[test]
    fn whatever_is_generated_is_allowed() {
        for shape in KeyShape::all() {
            for item in Generator::new(3, shape).items(60) {
                let json = item.json();
                key_of_item(&shape.schema(), &json).unwrap_or_else(|reason| {
                    panic!("{reason}: {}", String::from_utf8_lossy(&json))
                });
            }
        }
    }

    #[test]
    fn what_dynamodb_refuses_is_refused() {
        let deep = format!(
            r#"{{"id":{{"S":"a"}},"l":{}{{"S":""}}{}}}"#,
            r#"{"L":["#.repeat(32),
            "]}".repeat(32)
        );
        for item in [
            "[]",
            r#"{"a":{"S":"a"}}"#,
            r#"{"id":{"S":""}}"#,
            r#"{"id":{"N":"1"}}"#,
            r#"{"id":{"S":"a"},"n":{"N":"one"}}"#,
            r#"{"id":{"S":"a"},"n":{"N":"1E126"}}"#,
            r#"{"id":{"S":"a"},"n":{"N":"123456789012345678901234567890123456789"}}"#,
            r#"{"id":{"S":"a"},"n":{"N":1}}"#,
            r#"{"id":{"S":"a"},"s":{"SS":[]}}"#,
            r#"{"id":{"S":"a"},"s":{"NS":["1","1.0"]}}"#,
            r#"{"id":{"S":"a"},"b":{"B":"?"}}"#,
            r#"{"id":{"S":"a"},"x":{"X":"?"}}"#,
            r#"{"id":{"S":"a"},"x":{"S":"a","N":"1"}}"#,
            r#"{"id":{"S":"a"},"x":{"NULL":false}}"#,
            r#"{"id":{"S":"a"},"":{"S":""}}"#,
            &deep,
            &format!(r#"{{"id":{{"S":"{}"}}}}"#, "x".repeat(2049)),
            &format!(
                r#"{{"id":{{"S":"a"}},"x":{{"S":"{}"}}}}"#,
                "x".repeat(409_600)
            ),
        ] {
            let key = key_of_item(&string_key("id"), item.as_bytes());
            assert!(key.is_err(), "{}", &item[..item.len().min(80)]);
        }
    }

    #[test]
    fn a_key_has_its_attributes_and_no_others() {
        let schema = string_key("id");
        assert!(whole_key(&schema, br#"{"id":{"S":"a"}}"#).is_ok());
        assert!(whole_key(&schema, br#"{"id":{"S":"a"},"b":{"S":"b"}}"#).is_err());
        assert!(whole_key(&schema, b"{}").is_err());
    }
}
