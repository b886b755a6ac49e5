//! One stream record of the simulated table: what the stream sends, and what only the oracle knows.

use bytes::Bytes;
use highwater_domain::ids::UnixMillis;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{ShardId, StreamView};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A record, with the truth about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRecord {
    /// Which of the table's streams, from 1.
    pub generation: u16,
    /// The shard that holds it.
    pub shard: ShardId,
    /// Its place there.
    pub sequence_number: SequenceNumber,
    /// The item's `id`.
    pub key: String,
    /// The stamp that it carries, in seconds.
    pub stamp: UnixSeconds,
    /// The greatest stamp on its path up to it.
    pub event_time: UnixSeconds,
    /// When the write was committed.
    pub committed_at: UnixMillis,
    /// When readers see it; `None` while a test holds it back.
    pub published_at: Option<UnixMillis>,
    /// The item before, if there was one.
    pub old_image: Option<Bytes>,
    /// The item after, if there is one.
    pub new_image: Option<Bytes>,
    /// The bytes that `GetRecords` sends.
    pub raw: Bytes,
}

/// What a record is made of.
pub(crate) struct Change<'a> {
    pub(crate) stream_arn: &'a str,
    pub(crate) view: StreamView,
    pub(crate) shard: &'a ShardId,
    pub(crate) sequence_number: &'a str,
    pub(crate) stamp: u64,
    pub(crate) key: &'a str,
    pub(crate) old: Option<&'a Bytes>,
    pub(crate) new: Option<&'a Bytes>,
}

impl Change<'_> {
    /// The bytes of the record, members in AWS's shape.
    pub(crate) fn raw(&self) -> Bytes {
        let name = match (self.old, self.new) {
            (None, _) => "INSERT",
            (_, None) => "REMOVE",
            _ => "MODIFY",
        };
        let image = |member: &str, image: Option<&Bytes>, wanted: bool| {
            let text = image
                .filter(|_| wanted)
                .map(|image| std::str::from_utf8(image).unwrap());
            text.map_or_else(String::new, |text| format!(r#","{member}":{text}"#))
        };
        let with_new = matches!(
            self.view,
            StreamView::NewAndOldImages | StreamView::NewImage
        );
        let with_old = matches!(
            self.view,
            StreamView::NewAndOldImages | StreamView::OldImage
        );
        let mut name_of = Sha256::new();
        for part in [self.stream_arn, self.shard.as_str(), self.sequence_number] {
            name_of.update(part.as_bytes());
            name_of.update([0]);
        }
        let digest: [u8; 32] = name_of.finalize().into();
        let [high, low] =
            [0, 8].map(|at| u64::from_be_bytes(digest[at..at + 8].try_into().unwrap()));
        let event_id = format!("{high:016x}{low:016x}");
        let text = format!(
            r#"{{"eventID":"{event_id}","eventName":"{name}","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"eu-north-1","dynamodb":{{"ApproximateCreationDateTime":{},"Keys":{{"id":{{"S":{}}}}}{}{},"SequenceNumber":"{}","SizeBytes":26,"StreamViewType":{}}}}}"#,
            self.stamp,
            json!(self.key),
            image("NewImage", self.new, with_new),
            image("OldImage", self.old, with_old),
            self.sequence_number,
            json!(self.view),
        );
        text.into()
    }
}

impl SimRecord {
    /// The same record as an event-source mapping hands it over: with the stream's ARN.
    #[must_use]
    pub fn for_lambda(&self, stream_arn: &str) -> Bytes {
        let text = std::str::from_utf8(&self.raw).unwrap();
        let body = text.strip_suffix('}').unwrap();
        format!(r#"{body},"eventSourceARN":{}}}"#, json!(stream_arn)).into()
    }
}

/// The bytes of an item of the simulated table.
pub(crate) fn item(key: &str, value: &str) -> Bytes {
    let members: Value = json!({"id": {"S": key}, "v": {"S": value}});
    members.to_string().into()
}
