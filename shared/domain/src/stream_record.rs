//! One record of a stream: what must be known of it, and its bytes.
//!
//! A record comes in two dresses: in the event that Lambda gives, and in the answer of `GetRecords`. Both have the
//! same members, and both are kept as they came. Only what order, time and key need is read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::sequence_number::SequenceNumber;

mod plainly;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Change {
    /// It was not there before.
    Insert,
    /// It was there, and is there.
    Modify,
    /// It is gone.
    Remove,
}

/// A record, read as far as it needs to be. The images are slices of the record's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// The record as it came, one JSON object.
    pub raw: Bytes,
    event_id: Bytes,
    /// Its place in its shard.
    pub sequence_number: SequenceNumber,
    /// What became of the item.
    pub change: Change,
    /// `ApproximateCreationDateTime`, rounded down to the second, in seconds since 1970.
    pub created_at: u64,
    /// The item's key, DynamoDB JSON.
    pub keys: Bytes,
    /// The item after the change, if the stream carries it and there is one.
    pub new_image: Option<Bytes>,
    /// The item before the change, if the stream carries it and there was one.
    pub old_image: Option<Bytes>,
    /// Whether DynamoDB itself removed the item because its time to live was over.
    pub is_expiry: bool,
}

/// Bytes that are no stream record. They are kept raw and told of, never passed over.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not a stream record: {0}")]
pub struct RecordError(pub String);

/// A record that cannot be understood, with as much of it as can be had. It is stored as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The record as it came.
    pub raw: Bytes,
    /// Its place in its shard, if it says so.
    pub sequence_number: Option<SequenceNumber>,
    /// Its stamp in seconds since 1970, if it has one.
    pub created_at: Option<u64>,
    /// What is wrong with it.
    pub reason: RecordError,
}

/// The members of a record that may be there even if others are not.
#[derive(Default, Deserialize)]
struct Remains {
    #[serde(default)]
    dynamodb: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Unread {
    fn new(raw: Bytes, reason: RecordError) -> Self {
        let remains: Remains = serde_json::from_slice(&raw).unwrap_or_default();
        let body = remains.dynamodb.unwrap_or_default();
        let number = body.get("SequenceNumber").and_then(|value| value.as_str());
        let stamp = body.get("ApproximateCreationDateTime");
        Self {
            sequence_number: number.and_then(|number| number.parse().ok()),
            created_at: stamp
                .and_then(serde_json::Value::as_f64)
                .and_then(whole_seconds),
            raw,
            reason,
        }
    }
}

/// A stamp in whole seconds; a fraction is cut, as DynamoDB does. `None` if it cannot be a time.
fn whole_seconds(stamp: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a time within three thousand years"
    )]
    let seconds = stamp as u64;
    (0.0..1e11).contains(&stamp).then_some(seconds)
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "eventID", borrow)]
    event_id: Cow<'a, str>,
    #[serde(rename = "eventName")]
    event_name: Change,
    #[serde(borrow)]
    dynamodb: Body<'a>,
    #[serde(rename = "userIdentity", borrow, default)]
    user_identity: Option<UserIdentity<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    /// A whole number in documents, sometimes `1.7E9` in answers.
    approximate_creation_date_time: f64,
    #[serde(borrow)]
    keys: &'a RawValue,
    #[serde(borrow, default)]
    new_image: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_image: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence_number: Cow<'a, str>,
}

/// `GetRecords` and Lambda spell these names differently.
#[derive(Deserialize)]
struct UserIdentity<'a> {
    #[serde(rename = "type", alias = "Type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(rename = "principalId", alias = "PrincipalId", borrow)]
    principal_id: Option<Cow<'a, str>>,
}

impl UserIdentity<'_> {
    /// What DynamoDB's time to live signs with:
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>.
    fn is_expiry(&self) -> bool {
        self.kind.as_deref() == Some("Service")
            && self.principal_id.as_deref() == Some("dynamodb.amazonaws.com")
    }
}

impl StreamRecord {
    /// DynamoDB's id of the event: the same wherever and however often it is delivered.
    #[must_use]
    pub fn event_id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.event_id)
    }

    /// Reads a record, or what remains of it: nothing that a stream sends is passed over.
    pub fn read_or_keep(raw: &Bytes) -> Result<Self, Box<Unread>> {
        Self::read(raw).map_err(|reason| Box::new(Unread::new(raw.clone(), reason)))
    }

    /// The same of bytes that are known to be JSON: they were parsed with their event or answer, or the answer's
    /// checksum vouches for the service that wrote them. Of anything else what is read means nothing.
    pub fn read_or_keep_checked(raw: &Bytes) -> Result<Self, Box<Unread>> {
        match plainly::read(raw) {
            Some((record, _)) => Ok(record),
            None => Self::read_or_keep(raw),
        }
    }

    /// A record of Lambda's, and the ARN of the stream that it says it is of, from bytes that were found to be JSON before;
    /// `None` if it takes a parser to read it, or to say why it cannot be read.
    #[must_use]
    pub fn read_plainly(raw: &Bytes) -> Option<(Self, &str)> {
        let (record, arn) = plainly::read(raw)?;
        Some((record, arn?))
    }

    /// Reads a record from its bytes.
    pub fn read(raw: &Bytes) -> Result<Self, RecordError> {
        let record: Record<'_> =
            serde_json::from_slice(raw).map_err(|error| RecordError(error.to_string()))?;
        let body = record.dynamodb;
        let created_at = whole_seconds(body.approximate_creation_date_time);
        let no_time = || "ApproximateCreationDateTime is no time in seconds".to_owned();
        let created_at = created_at.ok_or_else(|| RecordError(no_time()))?;
        let image = |image: Option<&RawValue>| {
            let image = image.filter(|image| image.get() != "null");
            image.map(|image| raw.slice_ref(image.get().as_bytes()))
        };
        Ok(Self {
            event_id: match record.event_id {
                Cow::Borrowed(id) => raw.slice_ref(id.as_bytes()),
                Cow::Owned(id) => Bytes::from(id),
            },
            sequence_number: body.sequence_number.parse().map_err(
                |error: crate::sequence_number::SequenceNumberError| RecordError(error.to_string()),
            )?,
            change: record.event_name,
            created_at,
            keys: raw.slice_ref(body.keys.get().as_bytes()),
            new_image: image(body.new_image),
            old_image: image(body.old_image),
            is_expiry: record
                .user_identity
                .is_some_and(|identity| identity.is_expiry()),
            raw: raw.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"eventID":"c4ca4238a0b923820dcc509a6f75849b","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{"ApproximateCreationDateTime":1768385930,"Keys":{"Id":{"N":"101"}},"NewImage":{"Message":{"S":"New {item}!"},"Id":{"N":"101"}},"OldImage":{"Id":{"N":"101"}},"SequenceNumber":"111000000000000000000001","SizeBytes":26,"StreamViewType":"NEW_AND_OLD_IMAGES"},"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/2026-01-14T10:18:50.622"}"#;

    fn read(text: &str) -> Result<StreamRecord, RecordError> {
        let raw = Bytes::copy_from_slice(text.as_bytes());
        let read = StreamRecord::read(&raw);
        if serde_json::from_str::<serde_json::Value>(text).is_ok() {
            let checked = StreamRecord::read_or_keep_checked(&raw);
            assert_eq!(checked.map_err(|unread| unread.reason), read, "{text}");
        }
        read
    }

    #[test]
    fn what_is_spelled_in_another_way_is_read_all_the_same() {
        let plain = read(EVENT).unwrap();
        for (from, to) in [
            ("\"eventID\"", "\"\\u0065ventID\""),
            ("\"Keys\"", "\"Key\\u0073\""),
            ("\"MODIFY\"", "\"MOD\\u0049FY\""),
            (":", " : "),
            (
                "\"eventVersion\":\"1.1\"",
                "\"eventVersion\":[[{\"eventID\":1}]]",
            ),
            ("},", "}\n,"),
        ] {
            let record = read(&EVENT.replace(from, to)).unwrap();
            assert_eq!(record.event_id, plain.event_id, "{to}");
            assert_eq!(record.sequence_number, plain.sequence_number);
            assert_eq!(record.change, plain.change);
        }
        for (from, to) in [
            ("{\"eventID\":", "{\"eventID\":\"a\",\"eventID\":"),
            ("\"Keys\":", "\"Keys\":{},\"Keys\":"),
            ("1768385930", "\"1768385930\""),
            ("\"111000000000000000000001\"", "111000000000000000000001"),
        ] {
            assert!(read(&EVENT.replace(from, to)).is_err(), "{to}");
        }
        let null = read(&EVENT.replace(r#""OldImage":{"Id":{"N":"101"}}"#, r#""OldImage":null"#));
        assert_eq!(null.unwrap().old_image, None);
        let raw = Bytes::from_static(EVENT.as_bytes());
        let (record, arn) = StreamRecord::read_plainly(&raw).unwrap();
        assert_eq!(record, plain);
        assert!(arn.ends_with("/stream/2026-01-14T10:18:50.622"), "{arn}");
    }

    #[test]
    fn a_record_keeps_its_bytes_and_its_images() {
        let record = read(EVENT).unwrap();
        assert_eq!(record.raw, EVENT);
        assert_eq!(record.keys, r#"{"Id":{"N":"101"}}"#);
        assert_eq!(
            record.new_image.unwrap(),
            r#"{"Message":{"S":"New {item}!"},"Id":{"N":"101"}}"#
        );
        assert_eq!(record.old_image.unwrap(), r#"{"Id":{"N":"101"}}"#);
        assert_eq!(
            (record.change, record.created_at, record.is_expiry),
            (Change::Modify, 1_768_385_930, false)
        );
        assert_eq!(record.sequence_number.as_str(), "111000000000000000000001");
    }

    #[test]
    fn deletes_by_time_to_live_are_told_apart() {
        for (kind, principal) in [("type", "principalId"), ("Type", "PrincipalId")] {
            let identity = format!(
                r#","userIdentity":{{"{kind}":"Service","{principal}":"dynamodb.amazonaws.com"}}}}"#
            );
            let expired = EVENT.strip_suffix('}').unwrap().to_owned() + &identity;
            assert!(read(&expired).unwrap().is_expiry, "{expired}");
        }
        let other = EVENT.strip_suffix('}').unwrap().to_owned()
            + r#","userIdentity":{"type":"Service","principalId":"somebody.else"}}"#;
        assert!(!read(&other).unwrap().is_expiry);
    }

    #[test]
    fn a_time_may_be_written_as_a_fraction() {
        for time in ["1768385930", "1.76838593E9", "1768385930.0", "1768385930.9"] {
            let text = EVENT.replace("1768385930", time);
            assert_eq!(read(&text).unwrap().created_at, 1_768_385_930, "{time}");
        }
    }

    #[test]
    fn what_remains_of_a_record_is_kept() {
        let remains = |from: &str, to: &str| {
            let text = EVENT.replacen(from, to, 1);
            let raw = Bytes::from(text.clone());
            let unread = StreamRecord::read_or_keep(&raw).unwrap_err();
            assert_eq!(unread.raw, text, "as it came");
            let number = unread.sequence_number.map(|number| number.to_string());
            (number, unread.created_at)
        };
        let number = Some("111000000000000000000001".to_owned());
        let stamp = Some(1_768_385_930);
        assert_eq!(remains("\"MODIFY\"", "\"UPSERT\""), (number.clone(), stamp));
        assert_eq!(remains("1768385930", "\"soon\""), (number, None));
        assert_eq!(remains("111000000000000000000001", "x"), (None, stamp));
        assert_eq!(remains("\"dynamodb\":{", "\"dynamodb\":{{"), (None, None));
        assert_eq!(remains("\"dynamodb\"", "\"kinesis\""), (None, None));
        let raw = Bytes::from_static(EVENT.as_bytes());
        assert_eq!(StreamRecord::read_or_keep(&raw).unwrap().raw, EVENT);
    }

    #[test]
    fn what_is_no_record_is_told() {
        for (from, to) in [
            ("\"MODIFY\"", "\"UPSERT\""),
            ("111000000000000000000001", "x"),
            ("1768385930", "-1"),
            ("\"Keys\"", "\"Key\""),
            ("\"eventID\"", "\"event\""),
        ] {
            let text = EVENT.replacen(from, to, 1);
            assert!(read(&text).is_err(), "{to}");
        }
        assert!(read("").is_err() && read("[]").is_err());
    }
}
