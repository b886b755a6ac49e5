//! A restore's records in the control table.
//!
//! Each restore is one partition, `restore#<id>`. Its records are `restore` and `file/<number>`, of seven digits.

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::restore::{FileCheckpoint, RestoreId, RestoreRecord};
use highwater_domain::restore_control::RestoreControl;

use crate::control_table::KvControlTable;

/// The record of the restore itself.
const RESTORE: &str = "restore";
const FILES: &str = "file/";

fn partition_name(id: &RestoreId) -> String {
    format!("restore#{id}")
}

fn file_name(file: u32) -> String {
    format!("{FILES}{file:07}")
}

#[async_trait]
impl RestoreControl for KvControlTable {
    async fn create_restore(&self, record: &RestoreRecord) -> Result<Cas, Failure> {
        let write = self.write(record)?;
        let partition = self.partition(&partition_name(&record.id));
        let created = partition.create(RESTORE, write).await;
        self.cas("PutItem", created.map(|record| record.version()))
    }

    async fn restore(&self, id: &RestoreId) -> Result<Option<Versioned<RestoreRecord>>, Failure> {
        self.value(&partition_name(id), RESTORE).await
    }

    async fn update_restore(&self, seen: i64, record: &RestoreRecord) -> Result<Cas, Failure> {
        let write = self.write(record)?;
        let partition = self.partition(&partition_name(&record.id));
        let updated = partition.update(RESTORE, seen, write).await;
        self.cas("UpdateItem", updated.map(|record| record.version()))
    }

    async fn file(
        &self,
        id: &RestoreId,
        file: u32,
    ) -> Result<Option<Versioned<FileCheckpoint>>, Failure> {
        self.value(&partition_name(id), &file_name(file)).await
    }

    async fn commit_file(
        &self,
        id: &RestoreId,
        file: u32,
        seen: Option<i64>,
        next: &FileCheckpoint,
    ) -> Result<Cas, Failure> {
        let name = file_name(self.checked(file)?);
        let partition = self.partition(&partition_name(id));
        let write = self.write(next)?;
        let (operation, written) = match seen {
            Some(version) => ("UpdateItem", partition.update(&name, version, write).await),
            None => ("PutItem", partition.create(&name, write).await),
        };
        self.cas(operation, written.map(|record| record.version()))
    }

    async fn files(
        &self,
        id: &RestoreId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, FileCheckpoint)>, Failure> {
        let after = after.map(file_name);
        self.list_numbered(&partition_name(id), FILES, after, limit)
            .await
    }

    async fn forget_restore(&self, id: &RestoreId) -> Result<(), Failure> {
        let partition = self.partition(&partition_name(id));
        let failed = |error| self.failure("DeleteItem", error);
        partition.delete_prefix(FILES).await.map_err(failed)?;
        partition.delete(RESTORE).await.map_err(failed)?;
        Ok(())
    }
}
