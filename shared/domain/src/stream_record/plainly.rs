//! Reads a record where it is spelled as AWS spells it, without parsing what it carries.
//!
//! The parser has been over its bytes before; here only the way to the few members that are needed is walked, in a
//! fourth of the parser's time. Whatever is spelled in another way (an escaped name, a member that stands there twice,
//! a value of another kind) is left to the parser, whose word on it counts.

use bytes::Bytes;

use super::{Change, StreamRecord, UserIdentity, whole_seconds};
use crate::json_walk::Walk;

/// A record, and the stream that it says it is of.
pub(super) fn read(raw: &Bytes) -> Option<(StreamRecord, Option<&str>)> {
    let mut walk = Walk::new(raw);
    if !walk.enter() {
        return None;
    }
    let [mut id, mut change, mut arn] = [const { None::<&[u8]> }; 3];
    let (mut body, mut identity) = (None, None);
    while let Some(name) = walk.name() {
        match walk.slice(&name) {
            br#""eventID""# => set(&mut id, walk.plain_string()?)?,
            br#""eventName""# => set(&mut change, walk.plain_string()?)?,
            br#""eventSourceARN""# => set(&mut arn, walk.plain_string()?)?,
            br#""dynamodb""# => set(&mut body, Body::read(&mut walk)?)?,
            br#""userIdentity""# => set(&mut identity, walk.any())?,
            name if name.contains(&b'\\') => return None,
            _ => walk.value(),
        }
    }
    let body = body?;
    let image = |image: Option<&[u8]>| {
        let image = image.filter(|image| *image != b"null");
        image.map(|image| raw.slice_ref(image))
    };
    let record = StreamRecord {
        raw: raw.clone(),
        event_id: raw.slice_ref(id.filter(|id| id.is_ascii())?),
        sequence_number: text(body.number?)?.parse().ok()?,
        change: match change? {
            b"INSERT" => Change::Insert,
            b"MODIFY" => Change::Modify,
            b"REMOVE" => Change::Remove,
            _ => return None,
        },
        created_at: whole_seconds(text(body.stamp?)?.parse().ok()?)?,
        keys: raw.slice_ref(body.keys?),
        new_image: image(body.new),
        old_image: image(body.old),
        is_expiry: match identity {
            None => false,
            Some(identity) => serde_json::from_slice::<Option<UserIdentity<'_>>>(identity)
                .ok()?
                .is_some_and(|identity| identity.is_expiry()),
        },
    };
    let arn = match arn {
        Some(arn) => Some(text(arn)?),
        None => None,
    };
    Some((record, arn))
}

/// The member `dynamodb`.
#[derive(Default)]
struct Body<'a> {
    stamp: Option<&'a [u8]>,
    keys: Option<&'a [u8]>,
    new: Option<&'a [u8]>,
    old: Option<&'a [u8]>,
    number: Option<&'a [u8]>,
}

impl<'a> Body<'a> {
    fn read(walk: &mut Walk<'a>) -> Option<Self> {
        if !walk.enter() {
            return None;
        }
        let mut body = Self::default();
        while let Some(name) = walk.name() {
            match walk.slice(&name) {
                // A string is no number, and `parse` will say so.
                br#""ApproximateCreationDateTime""# => set(&mut body.stamp, walk.any())?,
                br#""Keys""# => set(&mut body.keys, walk.any())?,
                br#""NewImage""# => set(&mut body.new, walk.any())?,
                br#""OldImage""# => set(&mut body.old, walk.any())?,
                br#""SequenceNumber""# => set(&mut body.number, walk.plain_string()?)?,
                name if name.contains(&b'\\') => return None,
                _ => walk.value(),
            }
        }
        Some(body)
    }
}

/// `None` if it is there already.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
