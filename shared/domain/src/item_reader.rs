//! The port to single items of a table, as the bytes that DynamoDB sent.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::failure::Failure;
use crate::ids::UnixMillis;

/// What was found under a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadItem {
    /// The item, DynamoDB JSON; `None` if there is none.
    pub item: Option<Bytes>,
    /// When the service answered, by its own clock, which tells whole seconds.
    pub answered_at: UnixMillis,
    /// Read capacity units; 0.0 if the service did not say.
    pub consumed_capacity: f64,
}

/// Reads items by their keys.
///
/// # Laws
/// - The read is strongly consistent: it shows every write that was answered before it was asked for.
/// - An item is given as the service spells it.
/// - A key under which there is nothing is no failure; a table that is not there is.
///
/// # Idempotence
/// Reads only; a call may be repeated at any time.
#[async_trait]
pub trait ItemReader: Debug + Send + Sync {
    /// The item of the key `key`, which is DynamoDB JSON: `{"id":{"S":"a"}}`.
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure>;
}
