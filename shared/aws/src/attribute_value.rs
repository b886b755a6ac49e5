//! DynamoDB JSON to the SDK's values, where a request needs it or has to be refused.
//!
//! Items never come this way: they stay the bytes that DynamoDB sent.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use thiserror::Error;

/// Why a JSON value is no attribute value.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AttributeValueError {
    /// Not an object with exactly one member.
    #[error("{0} is not DynamoDB JSON: an object that names one type, such as {{\"S\":\"open\"}}")]
    NotTyped(String),
    /// The type is none of DynamoDB's.
    #[error("{0:?} is not a DynamoDB type")]
    UnknownType(String),
    /// What the type holds has another form.
    #[error("{kind} needs {expected}, not {found}")]
    WrongForm {
        /// `S`, `N`, …
        kind: String,
        /// The form it needs.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

/// The SDK's value for one value in DynamoDB JSON. Nothing is lost: numbers stay text.
pub(crate) fn from_json(json: &Value) -> Result<AttributeValue, AttributeValueError> {
    let mut members = json.as_object().into_iter().flatten();
    let (Some((kind, value)), None) = (members.next(), members.next()) else {
        return Err(AttributeValueError::NotTyped(json.to_string()));
    };
    let wrong = |expected| AttributeValueError::WrongForm {
        kind: kind.clone(),
        expected,
        found: value.to_string(),
    };
    let text = || value.as_str().ok_or_else(|| wrong("a string"));
    let flag = || value.as_bool().ok_or_else(|| wrong("true or false"));
    let list = || value.as_array().ok_or_else(|| wrong("an array"));
    let texts = || {
        list()?
            .iter()
            .map(|element| element.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong("an array of strings"))
    };
    let decode = |text: &str| {
        BASE64
            .decode(text)
            .map(Blob::new)
            .map_err(|_| wrong("base64"))
    };
    Ok(match kind.as_str() {
        "S" => AttributeValue::S(text()?.to_owned()),
        "N" => AttributeValue::N(text()?.to_owned()),
        "B" => AttributeValue::B(decode(text()?)?),
        "BOOL" => AttributeValue::Bool(flag()?),
        "NULL" => AttributeValue::Null(flag()?),
        "SS" => AttributeValue::Ss(texts()?),
        "NS" => AttributeValue::Ns(texts()?),
        "BS" => AttributeValue::Bs(
            texts()?
                .iter()
                .map(|text| decode(text))
                .collect::<Result<_, _>>()?,
        ),
        "L" => AttributeValue::L(list()?.iter().map(from_json).collect::<Result<_, _>>()?),
        "M" => {
            let members = value.as_object().ok_or_else(|| wrong("an object"))?;
            let typed = |(name, value): (&String, &Value)| Ok((name.clone(), from_json(value)?));
            AttributeValue::M(members.iter().map(typed).collect::<Result<_, _>>()?)
        }
        _ => return Err(AttributeValueError::UnknownType(kind.clone())),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use serde_json::json;

    #[test]
    fn every_type_becomes_the_sdks_value() {
        let json = json!({"M": {
            "s": {"S": "ü"},
            "n": {"N": "12345678901234567890123456789012345678"},
            "b": {"B": "/wA="},
            "t": {"BOOL": true},
            "z": {"NULL": true},
            "ss": {"SS": ["a", ""]},
            "ns": {"NS": ["1.50"]},
            "bs": {"BS": ["AA=="]},
            "l": {"L": [{"L": []}, {"M": {}}]},
        }});
        let AttributeValue::M(map) = from_json(&json).unwrap() else {
            panic!("a map");
        };
        assert_eq!(map["s"], AttributeValue::S("ü".into()));
        assert_eq!(
            map["n"],
            AttributeValue::N("12345678901234567890123456789012345678".into())
        );
        assert_eq!(map["b"], AttributeValue::B(Blob::new([0xff, 0])));
        assert_eq!(map["t"], AttributeValue::Bool(true));
        assert_eq!(map["z"], AttributeValue::Null(true));
        assert_eq!(
            map["ss"],
            AttributeValue::Ss(vec!["a".into(), String::new()])
        );
        assert_eq!(map["ns"], AttributeValue::Ns(vec!["1.50".into()]));
        assert_eq!(map["bs"], AttributeValue::Bs(vec![Blob::new([0])]));
        assert_eq!(
            map["l"],
            AttributeValue::L(vec![
                AttributeValue::L(vec![]),
                AttributeValue::M(HashMap::new())
            ])
        );
        assert_eq!(map.len(), 9);
    }

    #[test]
    fn other_json_is_refused_with_the_reason() {
        for (json, part) in [
            (json!("x"), "not DynamoDB JSON"),
            (json!({}), "not DynamoDB JSON"),
            (json!({"S": "a", "N": "1"}), "not DynamoDB JSON"),
            (json!({"X": 1}), "\"X\" is not a DynamoDB type"),
            (json!({"N": 1}), "N needs a string, not 1"),
            (json!({"B": "*"}), "B needs base64"),
            (json!({"SS": [1]}), "SS needs an array of strings"),
            (json!({"L": [{"BOOL": "yes"}]}), "BOOL needs true or false"),
        ] {
            let error = from_json(&json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
