//! Tables in memory, item by item.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::item_reader::{ItemReader, ReadItem};

use crate::fake_admin::FakeAdmin;
use crate::fake_table::FakeTable;
use crate::item_rules::whole_key;

const GET: &str = "GetItem";

#[async_trait]
impl ItemReader for FakeTable {
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure> {
        self.know(GET, table)?;
        let key = whole_key(self.schema(), key).map_err(|reason| {
            let message = format!("ValidationException: {reason}");
            Failure::new(FailureKind::Invalid, GET, table, message)
        })?;
        let item = self.get(&key);
        let bytes = item.as_ref().map_or(0, bytes::Bytes::len);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Ok(ReadItem {
            item,
            answered_at: UnixMillis(since.as_secs() * 1000),
            consumed_capacity: bytes.div_ceil(4096).max(1) as f64,
        })
    }
}

#[async_trait]
impl ItemReader for FakeAdmin {
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure> {
        self.made(GET, table)?.read_item(table, key).await
    }
}
