//! The items of a `Scan` response, as they came, and what stands around them.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::item_finder::find_items;
use highwater_domain::scan::RawItems;
use serde::Deserialize;
use serde_json::Value;

use crate::answer_capture::Captured;
use crate::batch_write::Capacity;
use crate::checked_body::{AnswerError, CheckedBytes};

/// The items of one response.
#[derive(Debug)]
pub(crate) struct CapturedPage {
    pub(crate) items: RawItems,
    pub(crate) wire_bytes: u64,
    pub(crate) around: Around,
}

/// What stands around the items.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Around {
    pub(crate) count: Option<u64>,
    pub(crate) scanned_count: Option<u64>,
    pub(crate) last_evaluated_key: Option<BTreeMap<String, Value>>,
    pub(crate) consumed_capacity: Option<Capacity>,
}

impl Captured for CapturedPage {
    fn part(answer: CheckedBytes) -> Result<(Self, Bytes), AnswerError> {
        let CheckedBytes {
            body, had_checksum, ..
        } = answer;
        let items = find_items(&body)?;
        if !had_checksum {
            // What comes from elsewhere than DynamoDB is looked at item by item.
            items.check(&body)?;
        }
        let rest = items.document_without_items(&body);
        let page = Self {
            around: serde_json::from_slice(&rest).map_err(AnswerError::Around)?,
            wire_bytes: body.len() as u64,
            items: items.into_raw_items(body),
        };
        Ok((page, Bytes::from_static(b"{}")))
    }
}
