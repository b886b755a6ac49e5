//! Replicas' records in the control table.
//!
//! The replicas of one table are one partition, `replicas <table ARN>`; each is a record `replica/<id>`.

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::replica::{ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_kv::Record;

use crate::control_table::KvControlTable;

/// Replicas that are read at a time.
const PAGE: u32 = 100;

const REPLICAS: &str = "replica/";

fn partition_name(source_arn: &str) -> String {
    format!("replicas {source_arn}")
}

fn record_name(id: &ReplicaId) -> String {
    format!("{REPLICAS}{id}")
}

#[async_trait]
impl ReplicaControl for KvControlTable {
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure> {
        let write = self.write(record)?;
        let partition = self.partition(&partition_name(&record.source_arn));
        let created = partition.create(&record_name(&record.id), write).await;
        self.cas("PutItem", created.map(|record| record.version()))
    }

    async fn replica(
        &self,
        source_arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure> {
        self.value(&partition_name(source_arn), &record_name(id))
            .await
    }

    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure> {
        let write = self.write(record)?;
        let partition = self.partition(&partition_name(&record.source_arn));
        let name = record_name(&record.id);
        let updated = partition.update(&name, seen, write).await;
        self.cas("UpdateItem", updated.map(|record| record.version()))
    }

    async fn replicas(&self, source_arn: &str) -> Result<Vec<ReplicaRecord>, Failure> {
        let partition = partition_name(source_arn);
        let read = |record: &Record| {
            let value = record.value::<ReplicaRecord>();
            value.map_err(|error| self.failure("Query", error))
        };
        let mut found: Vec<ReplicaRecord> = Vec::new();
        loop {
            let after = found.last().map(|last| record_name(&last.id));
            let page = self.list(&partition, REPLICAS, after, PAGE, read).await?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    async fn forget_replica(&self, source_arn: &str, id: &ReplicaId) -> Result<(), Failure> {
        let partition = self.partition(&partition_name(source_arn));
        let deleted = partition.delete(&record_name(id)).await;
        deleted.map_err(|error| self.failure("DeleteItem", error))?;
        Ok(())
    }
}
