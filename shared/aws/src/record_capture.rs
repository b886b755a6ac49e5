//! The records of a `GetRecords` response, as they came, and when it was given.

use std::borrow::Cow;

use bytes::Bytes;
use highwater_domain::ids::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer_capture::Captured;
use crate::checked_body::{AnswerError, CheckedBytes};

/// The records of one response, and when it was given.
#[derive(Debug)]
pub(crate) struct CapturedRecords {
    pub(crate) records: Vec<Bytes>,
    pub(crate) answered_at: UnixMillis,
}

impl Captured for CapturedRecords {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        let answered_at = answer.answered_at()?;
        let (records, rest) = take_records(&answer.body).map_err(AnswerError::Records)?;
        let captured = Self {
            records,
            answered_at,
        };
        Ok((captured, rest))
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
    #[serde(rename = "NextShardIterator", borrow, default)]
    next: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Rest<'a> {
    #[serde(rename = "Records")]
    records: [(); 0],
    #[serde(rename = "NextShardIterator", skip_serializing_if = "Option::is_none")]
    next: Option<Cow<'a, str>>,
}

/// The records of an answer as slices of it, and the answer without them.
fn take_records(body: &Bytes) -> Result<(Vec<Bytes>, Bytes), serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let slice = |raw: &&RawValue| body.slice_ref(raw.get().as_bytes());
    let records = answer.records.iter().map(slice).collect();
    let rest = serde_json::to_vec(&Rest {
        records: [],
        next: answer.next,
    })?;
    Ok((records, rest.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_slices_of_the_answer_and_the_rest_is_kept() {
        let text = r#"{"NextShardIterator" : "arn|\u00e9\"x", "Records": [ {"a": {"Records":[1.50]}} ,{"b":"]}"}], "More": 1}"#;
        let body = Bytes::from_static(text.as_bytes());
        let (records, rest) = take_records(&body).unwrap();
        assert_eq!(
            records,
            [r#"{"a": {"Records":[1.50]}}"#, r#"{"b":"]}"}"#],
            "not a byte is changed"
        );
        assert_eq!(
            rest,
            "{\"Records\":[],\"NextShardIterator\":\"arn|é\\\"x\"}"
        );
        let (records, rest) = take_records(&Bytes::from_static(
            b"{\"Records\":[],\"NextShardIterator\":null}",
        ))
        .unwrap();
        assert!(records.is_empty());
        assert_eq!(rest, "{\"Records\":[]}");
    }

    /// An answer without `Records` would pass for an empty one.
    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "{}",
            "null",
            "{\"NextShardIterator\":\"x\"}",
            "{\"Records\":null}",
            "{\"Records\":[{}]",
            "{\"Records\":[{]}",
            "{\"Records\":[],\"Records\":[]}",
            "{\"Records\":[]} x",
        ] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            assert!(take_records(&body).is_err(), "{text}");
        }
    }
}
