//! The item of a `GetItem` response, as it came, and when it was given.

use bytes::Bytes;
use highwater_domain::ids::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer_capture::Captured;
use crate::checked_body::{AnswerError, CheckedBytes};

/// The item of one response, if it has one, and when it was given.
#[derive(Debug)]
pub(crate) struct CapturedItem {
    pub(crate) item: Option<Bytes>,
    pub(crate) answered_at: UnixMillis,
}

impl Captured for CapturedItem {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        let answered_at = answer.answered_at()?;
        let (item, rest) = take_item(&answer.body).map_err(AnswerError::Item)?;
        let captured = Self { item, answered_at };
        Ok((captured, rest))
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Item", borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(rename = "ConsumedCapacity", borrow, default)]
    consumed: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Rest<'a> {
    #[serde(rename = "ConsumedCapacity", skip_serializing_if = "Option::is_none")]
    consumed: Option<&'a RawValue>,
}

/// The item of an answer as a slice of it, and the answer without it.
fn take_item(body: &Bytes) -> Result<(Option<Bytes>, Bytes), serde_json::Error> {
    // An array would pass for an object without members.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(serde::de::Error::custom("an array"));
    }
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let item = answer.item.map(|raw| body.slice_ref(raw.get().as_bytes()));
    let rest = serde_json::to_vec(&Rest {
        consumed: answer.consumed,
    })?;
    Ok((item, rest.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_a_slice_of_the_answer_and_the_rest_is_kept() {
        let text = r#"{"ConsumedCapacity":{"CapacityUnits":0.5},"Item":{"id":{"S":"}\""},"n":{"N":"1.50"}}}"#;
        let (item, rest) = take_item(&Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(item.unwrap(), r#"{"id":{"S":"}\""},"n":{"N":"1.50"}}"#);
        assert_eq!(rest, r#"{"ConsumedCapacity":{"CapacityUnits":0.5}}"#);
        let (item, rest) = take_item(&Bytes::from_static(b"{}")).unwrap();
        assert_eq!((item, rest), (None, Bytes::from_static(b"{}")));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "[]",
            "{\"Item\":{}",
            "{\"Item\":{},\"Item\":{}}",
            "{} x",
        ] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            assert!(take_item(&body).is_err(), "{text}");
        }
    }
}
