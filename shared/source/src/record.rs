//! A record: one item of the snapshot, or one change of the stream.

use std::fmt;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use highwater_domain::ids::UnixMillis;
use highwater_domain::key::KeySchema;
use highwater_domain::key_print::{KeyPrint, UnusableKey};
use highwater_domain::sequence_number::OrderToken;
use highwater_domain::shard::ShardId;

use crate::ack::Ack;

/// One typed record with everything that is known of it.
///
/// From a [`SnapshotSource`](crate::SnapshotSource) `V` is the item's type `T`; from a [`LiveSource`](crate::LiveSource), and in
/// a [`bootstrap`](crate::Bootstrap), it is [`Change<T>`].
#[derive(Debug)]
pub struct Record<V> {
    /// The value.
    pub value: V,
    /// When it happened: `ApproximateCreationDateTime`, to the second; or when the item was scanned.
    pub event_time: UnixMillis,
    /// Where it comes from.
    pub place: Place,
    /// To be told when the record is done.
    pub ack: Ack,
    pub(crate) raw: Raw,
    pub(crate) about: Arc<About>,
}

/// What all records of a source have in common.
pub(crate) struct About {
    pub(crate) table: String,
    pub(crate) schema: KeySchema,
    pub(crate) event_id: Option<EventId>,
}

/// Names a record by its raw bytes.
pub(crate) type EventId = Arc<dyn Fn(&RawRecord<'_>) -> String + Send + Sync>;

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("About")
            .field("table", &self.table)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// The bytes of a record, all DynamoDB JSON.
#[derive(Clone, Debug)]
pub(crate) enum Raw {
    Item(Bytes),
    /// On the heap: most records are items of a snapshot, and pay nothing for what they have not.
    Change(Box<RawChange>),
}

/// The bytes of a change, and its order.
#[derive(Clone, Debug)]
pub(crate) struct RawChange {
    pub(crate) order: OrderToken,
    pub(crate) event_id: String,
    pub(crate) key: Bytes,
    pub(crate) new: Option<Bytes>,
    pub(crate) old: Option<Bytes>,
}

/// The order of every item that a scan found.
static SCANNED: LazyLock<OrderToken> = LazyLock::new(OrderToken::of_scan);

/// A record as it came, for functions that name or route it. All bytes are DynamoDB JSON.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// The table.
    pub table: &'a str,
    /// Where it comes from.
    pub place: &'a Place,
    /// The item, or the item after the change; `None` after a delete.
    pub new: Option<&'a [u8]>,
    /// The item before the change, where the stream carries it.
    pub old: Option<&'a [u8]>,
    /// DynamoDB's id of the change; `None` for an item of the snapshot.
    pub stream_event_id: Option<&'a str>,
}

/// Where a record comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A segment of the snapshot.
    Segment(u32),
    /// A shard of the stream.
    Shard(ShardId),
    /// The stream, by an event that did not name its shard.
    Stream,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "segment {number}"),
            Self::Shard(id) => write!(f, "shard {id}"),
            Self::Stream => f.write_str("the stream"),
        }
    }
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It was there when the snapshot was scanned.
    Scanned {
        /// The item.
        new: T,
    },
    /// It was not there before.
    Insert {
        /// The item.
        new: T,
    },
    /// It was there, and is another now.
    Modify {
        /// The item.
        new: T,
        /// What it was; `None` where the stream carries new images only.
        old: Option<T>,
    },
    /// It is gone.
    Remove {
        /// What it was; `None` where the stream carries new images only.
        old: Option<T>,
        /// DynamoDB itself removed it because its time to live was over. In a global table only the region that expired
        /// the item says so.
        is_ttl_delete: bool,
    },
}

impl<T> Change<T> {
    /// The item as it is from here on; `None` if it is gone.
    pub fn current(&self) -> Option<&T> {
        match self {
            Self::Scanned { new } | Self::Insert { new } | Self::Modify { new, .. } => Some(new),
            Self::Remove { .. } => None,
        }
    }

    /// The item as it was, where that is known.
    pub fn previous(&self) -> Option<&T> {
        match self {
            Self::Scanned { .. } | Self::Insert { .. } => None,
            Self::Modify { old, .. } | Self::Remove { old, .. } => old.as_ref(),
        }
    }

    /// Whether DynamoDB's time to live removed the item.
    #[must_use]
    pub fn is_ttl_delete(&self) -> bool {
        matches!(
            self,
            Self::Remove {
                is_ttl_delete: true,
                ..
            }
        )
    }
}

impl<V> Record<V> {
    /// The record's name: the same however often it comes.
    ///
    /// By default an item of the snapshot has its natural key, `<table>/{"id":{"S":"a"}}`, and a change DynamoDB's own event
    /// id, because a key's changes would all have the same natural key.
    #[must_use]
    pub fn event_id(&self) -> String {
        if let Some(name) = &self.about.event_id {
            return name(&self.raw());
        }
        match &self.raw {
            Raw::Item(_) => format!("{}/{}", self.about.table, self.key()),
            Raw::Change(change) => change.event_id.clone(),
        }
    }

    /// Its order among all records of its key: whatever a scan found comes before every change. Tokens of different keys say
    /// nothing about each other. As text they sort as they do by themselves.
    #[must_use]
    pub fn order(&self) -> &OrderToken {
        match &self.raw {
            Raw::Item(_) => &SCANNED,
            Raw::Change(change) => &change.order,
        }
    }

    /// The record's bytes as DynamoDB sent them.
    #[must_use]
    pub fn raw(&self) -> RawRecord<'_> {
        let (new, old, stream_event_id) = match &self.raw {
            Raw::Item(item) => (Some(item), None, None),
            Raw::Change(change) => (
                change.new.as_ref(),
                change.old.as_ref(),
                Some(change.event_id.as_str()),
            ),
        };
        RawRecord {
            table: &self.about.table,
            place: &self.place,
            new: new.map(|bytes| &bytes[..]),
            old: old.map(|bytes| &bytes[..]),
            stream_event_id,
        }
    }

    /// The key as DynamoDB JSON, names in byte order: `{"id":{"S":"a"}}`.
    #[must_use]
    pub fn key(&self) -> String {
        self.about.key_json(self.key_bytes())
    }

    /// The print of the key: equal keys have equal prints, in the snapshot and in the stream, however they are spelled.
    ///
    /// # Errors
    /// For bytes without a usable key, which DynamoDB does not send.
    pub fn key_print(&self) -> Result<KeyPrint, UnusableKey> {
        self.about.schema.print_of(self.key_bytes())
    }

    /// Bytes that have the key's attributes in them.
    fn key_bytes(&self) -> &[u8] {
        match &self.raw {
            Raw::Item(item) => item,
            Raw::Change(change) => &change.key,
        }
    }

    /// The key as DynamoDB JSON bytes that hold nothing but the key.
    pub(crate) fn key_only(&self) -> Bytes {
        match &self.raw {
            Raw::Item(_) => Bytes::from(self.key()),
            Raw::Change(change) => change.key.clone(),
        }
    }

    /// The item as it is from here on, raw.
    pub(crate) fn new_item(&self) -> Option<&Bytes> {
        match &self.raw {
            Raw::Item(item) => Some(item),
            Raw::Change(change) => change.new.as_ref(),
        }
    }

    /// The same record with another value.
    pub fn map<W>(self, value: impl FnOnce(V) -> W) -> Record<W> {
        Record {
            value: value(self.value),
            event_time: self.event_time,
            place: self.place,
            ack: self.ack,
            raw: self.raw,
            about: self.about,
        }
    }

    /// The value, and the right to acknowledge it later.
    pub fn into_parts(self) -> (V, Ack) {
        (self.value, self.ack)
    }

    /// The record is done.
    pub fn ack(self) {
        self.ack.ack();
    }
}

impl About {
    /// The key of an item, for people: of one that has none, what is wrong.
    pub(crate) fn key_json(&self, item: &[u8]) -> String {
        let key = self.schema.key_of(item).map_err(|error| error.to_string());
        let text =
            key.and_then(|key| serde_json::to_string(&key).map_err(|error| error.to_string()));
        text.unwrap_or_else(|reason| format!("unknown ({reason})"))
    }
}
