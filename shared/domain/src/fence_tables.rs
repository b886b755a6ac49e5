//! The port to what keeps the order of a replica's writes: a table that stands beside it and says whose it is, and, where the order is
//! in the items themselves, what is to be taken out of them in the end.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::failure::Failure;

/// The row of a fence table that names the replica which it belongs to. No key's print is spelled like this.
pub const CLAIM_ROW: &str = "#replica";

/// Makes and claims fence tables.
///
/// # Laws
/// - Of any number of claims of one table one holder wins, and stays until the table is deleted.
/// - A claim by the holder finds itself the holder again.
/// - What is stripped twice is stripped once.
#[async_trait]
pub trait FenceTables: Debug + Send + Sync {
    /// Who holds the table, if it is there and somebody does.
    async fn holder(&self, table: &str) -> Result<Option<String>, Failure>;

    /// Makes the table if it is not there, waits until it can be written, and claims it. Who holds it now.
    async fn claim(&self, table: &str, holder: &str) -> Result<String, Failure>;

    /// Takes the attribute that holds an order out of the item of this key (DynamoDB JSON), or deletes an item that stands for a
    /// deleted one. Only if it holds `order`: whoever has written the item since has taken it over.
    async fn strip(
        &self,
        target: &str,
        attribute: &str,
        key: &[u8],
        order: &str,
        is_tombstone: bool,
    ) -> Result<(), Failure>;

    /// Deletes the table, and waits until no transaction can find it. Nothing is wrong with one that is not there.
    async fn delete(&self, table: &str) -> Result<(), Failure>;
}
