//! The table item by item.

use async_trait::async_trait;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::item_reader::{ItemReader, ReadItem};
use highwater_domain::key::KeyValue;

use super::sim_ports::Wired;
use super::sim_scan::key_schema;
use super::sim_table::SimTable;
use crate::item_rules::whole_key;

const GET: &str = "GetItem";

#[async_trait]
impl ItemReader for SimTable {
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure> {
        let invalid = |reason: String| Failure::new(FailureKind::Invalid, GET, table, reason);
        let key = whole_key(&key_schema(), key).map_err(invalid)?;
        let Some(KeyValue::S(id)) = key.0.get("id") else {
            return Err(invalid("no key of this table".to_owned()));
        };
        let item = self.history(id).pop().and_then(|version| version.item);
        self.trace
            .note(|| format!("GetItem {id}: {}", item.is_some()));
        Ok(ReadItem {
            item,
            // The clock of an answer tells whole seconds.
            answered_at: UnixMillis(self.time.now().0 / 1000 * 1000),
            consumed_capacity: 1.0,
        })
    }
}

#[async_trait]
impl<P: ItemReader + ?Sized> ItemReader for Wired<P> {
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure> {
        let service = self.service();
        let call = service.read_item(table, key);
        self.wire().read(GET, table, call).await?
    }
}
