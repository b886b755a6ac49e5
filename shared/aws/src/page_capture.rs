//! The items of a `Scan` response, as they came.

use bytes::Bytes;
use highwater_domain::item_finder::find_items;
use highwater_domain::scan::RawItems;

use crate::answer_capture::Captured;
use crate::checked_body::{AnswerError, CheckedBytes};

/// The items of one response.
#[derive(Debug)]
pub(crate) struct CapturedPage {
    pub(crate) items: RawItems,
    pub(crate) wire_bytes: u64,
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
            wire_bytes: body.len() as u64,
            items: items.into_raw_items(body),
        };
        Ok((page, rest.into()))
    }
}
