//! The records of a `GetRecords` response, as they came, what comes after them, and when it was given.

use std::borrow::Cow;

use bytes::Bytes;
use highwater_domain::ids::UnixMillis;
use highwater_domain::item_finder::find_elements;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer_capture::Captured;
use crate::checked_body::{AnswerError, CheckedBytes};

/// What one response says.
#[derive(Debug)]
pub(crate) struct CapturedRecords {
    pub(crate) records: Vec<Bytes>,
    /// The iterator of what comes after them; none at the end of the shard.
    pub(crate) next: Option<String>,
    pub(crate) answered_at: UnixMillis,
}

impl Captured for CapturedRecords {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        let answered_at = answer.answered_at()?;
        let found = answer.had_checksum.then(|| find_records(&answer.body));
        let (records, next) = match found.flatten() {
            Some((records, rest)) => {
                let (_, next) = take_records(&rest).map_err(AnswerError::Records)?;
                (records, next)
            }
            None => take_records(&answer.body).map_err(AnswerError::Records)?,
        };
        let captured = Self {
            records,
            next,
            answered_at,
        };
        Ok((captured, Bytes::from_static(b"{}")))
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
    #[serde(rename = "NextShardIterator", borrow, default)]
    next: Option<Cow<'a, str>>,
}

/// The records by their brackets alone, and the answer without them, where its checksum says that it is what the
/// service wrote. `None` where only the parser can tell: white space, anything that is not as it should be.
fn find_records(body: &Bytes) -> Option<(Vec<Bytes>, Bytes)> {
    let found = find_elements(body, "Records").ok()?;
    if !found.is_there_and_dense() {
        return None;
    }
    let rest = found.document_without_items(body).into();
    let records = found.into_raw_items(body.clone());
    let records = (0..records.len()).map_while(|index| records.slice(index));
    Some((records.collect(), rest))
}

/// The records of an answer as slices of it, and the next iterator.
fn take_records(body: &Bytes) -> Result<(Vec<Bytes>, Option<String>), serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let slice = |raw: &&RawValue| body.slice_ref(raw.get().as_bytes());
    let records = answer.records.iter().map(slice).collect();
    Ok((records, answer.next.map(Cow::into_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_slices_of_the_answer_and_the_next_iterator_is_kept() {
        let text = r#"{"NextShardIterator" : "arn|\u00e9\"x", "Records": [ {"a": {"Records":[1.50]}} ,{"b":"]}"}], "More": 1}"#;
        let body = Bytes::from_static(text.as_bytes());
        let (records, next) = take_records(&body).unwrap();
        assert_eq!(
            records,
            [r#"{"a": {"Records":[1.50]}}"#, r#"{"b":"]}"}"#],
            "not a byte is changed"
        );
        assert_eq!(next.as_deref(), Some("arn|é\"x"));
        let (records, next) = take_records(&Bytes::from_static(
            b"{\"Records\":[],\"NextShardIterator\":null}",
        ))
        .unwrap();
        assert_eq!((records.len(), next), (0, None));
    }

    #[test]
    fn records_are_found_as_the_parser_finds_them_or_left_to_it() {
        for (text, is_found) in [
            (
                r#"{"NextShardIterator":"a|b","Records":[{"a":{"Records":[1.50]}},{"b":"]}\"},{"}],"More":1}"#,
                true,
            ),
            (r#"{"Records":[]}"#, true),
            (r#"{"\u0052ecords":[{}],"NextShardIterator":null}"#, true),
            (r#"{"Records":[{},{} ]}"#, false),
            (r#"{"Records":[[],"x",null]}"#, false),
        ] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            let found = find_records(&body);
            assert_eq!(found.is_some(), is_found, "{text}");
            let (parsed, next) = take_records(&body).unwrap();
            if let Some((records, around)) = found {
                assert_eq!(records, parsed, "{text}");
                assert_eq!(take_records(&around).unwrap(), (Vec::new(), next), "{text}");
                assert!(
                    records
                        .iter()
                        .all(|it| body.as_ptr_range().contains(&it.as_ptr()))
                );
            }
        }
        for text in [
            "",
            "{}",
            r#"{"Records":null}"#,
            r#"{"Records":[{]}"#,
            r#"{"Records":[],"Records":[]}"#,
        ] {
            assert_eq!(find_records(&Bytes::copy_from_slice(text.as_bytes())), None);
        }
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
