//! An item that carries its own order, taken apart: the item as its source has it, and what keeps its place among changes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fenced_writer::TOMBSTONE;

/// An item of a table whose fences are attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FencedItem {
    /// The item without what is the fence's; `None` for one that stands for a deleted one.
    pub item: Option<Bytes>,
    /// The order of its last change; `None` for an item that was loaded and never changed.
    pub order: Option<String>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: String,
}

impl FencedItem {
    /// Takes apart an item given as DynamoDB JSON. An attribute of the fence's name that is no text is not the fence's.
    ///
    /// # Errors
    /// For bytes that are no JSON object.
    pub fn of(raw: &Bytes, attribute: &str) -> Result<Self, serde_json::Error> {
        let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(raw)?;
        let order = members.get(attribute);
        let order = order.and_then(|order| serde_json::from_str::<Text>(order.get()).ok());
        let Some(Text { text }) = order else {
            return Ok(Self {
                item: Some(raw.clone()),
                order: None,
            });
        };
        members.remove(attribute);
        let is_tombstone = members.remove(TOMBSTONE).is_some();
        let item = (!is_tombstone)
            .then(|| serde_json::to_vec(&members))
            .transpose()?;
        Ok(Self {
            item: item.map(Bytes::from),
            order: Some(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(item: &'static str) -> FencedItem {
        FencedItem::of(&Bytes::from_static(item.as_bytes()), "order").unwrap()
    }

    #[test]
    fn what_is_the_fences_is_taken_out_and_nothing_else() {
        let changed = of(r#"{"id":{"S":"a"},"order":{"S":"07"},"n":{"N":"1.50"}}"#);
        assert_eq!(changed.order.as_deref(), Some("07"));
        assert_eq!(
            changed.item.unwrap(),
            r#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#
        );
        let loaded = of(r#"{ "id":{"S":"a"} }"#);
        assert_eq!(
            (loaded.item.unwrap(), loaded.order),
            (Bytes::from_static(br#"{ "id":{"S":"a"} }"#), None)
        );
    }

    #[test]
    fn a_tombstone_is_no_item_and_has_its_order() {
        let deleted = of(r#"{"id":{"S":"a"},"highwater_deleted":{"BOOL":true},"order":{"S":"9"}}"#);
        assert_eq!((deleted.item, deleted.order.as_deref()), (None, Some("9")));
    }

    #[test]
    fn attributes_of_these_names_that_are_not_ours_stay() {
        for item in [
            r#"{"id":{"S":"a"},"order":{"N":"7"}}"#,
            r#"{"highwater_deleted":{"BOOL":true},"id":{"S":"a"}}"#,
        ] {
            let theirs = of(item);
            assert_eq!(
                (theirs.item.unwrap(), theirs.order),
                (Bytes::from_static(item.as_bytes()), None)
            );
        }
        assert!(FencedItem::of(&Bytes::from_static(b"[]"), "order").is_err());
    }
}
