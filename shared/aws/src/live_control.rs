//! The published mark of a log in the control table.
//!
//! Each log is one partition, named by its [`LogId`]. Its one record is `mark`; its shards' leases are a partition
//! of their own, [`LogId::lease_group`].

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::live_control::{LiveControl, LogId, PublishedMark};

use crate::control_table::KvControlTable;

const MARK: &str = "mark";

#[async_trait]
impl LiveControl for KvControlTable {
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        self.value(log.as_str(), MARK).await
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure> {
        let partition = self.partition(log.as_str());
        let write = self.write(mark)?;
        let (operation, written) = match seen {
            Some(version) => ("UpdateItem", partition.update(MARK, version, write).await),
            None => ("PutItem", partition.create(MARK, write).await),
        };
        self.cas(operation, written.map(|record| record.version()))
    }
}
