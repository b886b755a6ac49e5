//! Items between the SDK's types and `serde_json`'s, as programs do it that hold items in memory.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use thiserror::Error;

/// An item of the SDK.
pub type Item = HashMap<String, AttributeValue>;

/// A value that is no attribute's.
#[derive(Debug, Error)]
pub enum TypedItemError {
    /// The SDK knows a kind of value that this does not, or JSON has one.
    #[error("a value of an unknown type: {0}")]
    Unknown(String),
    /// A binary is no base64.
    #[error("a binary: {0}")]
    Base64(#[from] base64::DecodeError),
}

/// The item as DynamoDB's JSON.
pub fn to_json(item: &Item) -> Result<Value, TypedItemError> {
    let members = item
        .iter()
        .map(|(name, value)| Ok((name.clone(), value_to_json(value)?)));
    members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn value_to_json(value: &AttributeValue) -> Result<Value, TypedItemError> {
    let binary = |blob: &Blob| BASE64.encode(blob);
    Ok(match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::B(blob) => json!({"B": binary(blob)}),
        AttributeValue::Bool(truth) => json!({"BOOL": truth}),
        AttributeValue::Null(is_null) => json!({"NULL": is_null}),
        AttributeValue::Ss(texts) => json!({"SS": texts}),
        AttributeValue::Ns(numbers) => json!({"NS": numbers}),
        AttributeValue::Bs(blobs) => {
            json!({"BS": blobs.iter().map(binary).collect::<Vec<_>>()})
        }
        AttributeValue::L(values) => {
            let values = values.iter().map(value_to_json);
            json!({"L": values.collect::<Result<Vec<_>, _>>()?})
        }
        AttributeValue::M(members) => json!({"M": to_json(members)?}),
        other => return Err(TypedItemError::Unknown(format!("{other:?}"))),
    })
}

/// The item of DynamoDB's JSON.
pub fn from_json(item: Value) -> Result<Item, TypedItemError> {
    let Value::Object(members) = item else {
        return Err(TypedItemError::Unknown(item.to_string()));
    };
    members
        .into_iter()
        .map(|(name, value)| Ok((name, value_from_json(value)?)))
        .collect()
}

fn value_from_json(value: Value) -> Result<AttributeValue, TypedItemError> {
    let Value::Object(members) = value else {
        return Err(TypedItemError::Unknown(value.to_string()));
    };
    let binary = |text: String| Ok::<_, TypedItemError>(Blob::new(BASE64.decode(text)?));
    let mut members = members.into_iter();
    let (Some((kind, value)), None) = (members.next(), members.next()) else {
        return Err(TypedItemError::Unknown("not one member".into()));
    };
    Ok(match (kind.as_str(), value) {
        ("S", Value::String(text)) => AttributeValue::S(text),
        ("N", Value::String(number)) => AttributeValue::N(number),
        ("B", Value::String(text)) => AttributeValue::B(binary(text)?),
        ("BOOL", Value::Bool(truth)) => AttributeValue::Bool(truth),
        ("NULL", Value::Bool(null)) => AttributeValue::Null(null),
        ("SS", Value::Array(texts)) => AttributeValue::Ss(strings(texts)?),
        ("NS", Value::Array(numbers)) => AttributeValue::Ns(strings(numbers)?),
        ("BS", Value::Array(texts)) => {
            let blobs = strings(texts)?.into_iter().map(binary);
            AttributeValue::Bs(blobs.collect::<Result<_, _>>()?)
        }
        ("L", Value::Array(values)) => {
            let values = values.into_iter().map(value_from_json);
            AttributeValue::L(values.collect::<Result<_, _>>()?)
        }
        ("M", value) => AttributeValue::M(from_json(value)?),
        (kind, _) => return Err(TypedItemError::Unknown(kind.to_owned())),
    })
}

fn strings(values: Vec<Value>) -> Result<Vec<String>, TypedItemError> {
    let string = |value| match value {
        Value::String(text) => Ok(text),
        other => Err(TypedItemError::Unknown(other.to_string())),
    };
    values.into_iter().map(string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_goes_there_and_back() {
        let item = json!({
            "s": {"S": "a\"\u{e9}"}, "n": {"N": "1E+2"}, "b": {"B": "/wA="}, "t": {"BOOL": false},
            "0": {"NULL": true}, "ss": {"SS": ["a", "b"]}, "ns": {"NS": ["1", ".5"]}, "bs": {"BS": ["YQ=="]},
            "l": {"L": [{"L": []}, {"M": {"x": {"S": ""}}}]}, "m": {"M": {}},
        });
        assert_eq!(to_json(&from_json(item.clone()).unwrap()).unwrap(), item);
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for item in [
            json!([]),
            json!({"a": "b"}),
            json!({"a": {}}),
            json!({"a": {"S": "x", "N": "1"}}),
            json!({"a": {"Q": "x"}}),
            json!({"a": {"SS": [1]}}),
            json!({"a": {"B": "%"}}),
        ] {
            assert!(from_json(item.clone()).is_err(), "{item}");
        }
    }
}
