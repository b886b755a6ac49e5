//! Reads single items, untouched.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::item_reader::{ItemReader, ReadItem};

use crate::answer_capture::{Capture, Slot};
use crate::failure;
use crate::fenced_writer::key_of;
use crate::item_capture::CapturedItem;

const GET: &str = "GetItem";

/// Reads items by `GetItem`, strongly consistent. Needs `dynamodb:GetItem` on the table.
///
/// An item is a slice of the response as it came over the wire. It retries as often as its client does.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html>
#[derive(Clone, Debug)]
pub struct DynamoItemReader {
    client: Client,
}

impl DynamoItemReader {
    /// A reader over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl ItemReader for DynamoItemReader {
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure> {
        let wrong = |kind, why: String| Failure::new(kind, GET, table, why);
        let key = key_of(key).map_err(|why| wrong(FailureKind::Invalid, why))?;
        let slot = Slot::<CapturedItem>::default();
        let output = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(key))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .customize()
            .interceptor(Capture::into(&slot))
            .send()
            .await
            .map_err(|error| failure::from_sdk(GET, table, error))?;
        let captured = slot.take().ok_or_else(|| {
            let why = "the answer came without a body".to_owned();
            wrong(FailureKind::Corrupt, why)
        })?;
        Ok(ReadItem {
            item: captured.item,
            answered_at: captured.answered_at,
            consumed_capacity: output
                .consumed_capacity()
                .and_then(ConsumedCapacity::capacity_units)
                .unwrap_or(0.0),
        })
    }
}
