//! The replicas of the control table in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::replica::{ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;

use crate::fake_control::{FakeControl, next_version};

/// Replicas by their source's ARN and their id.
#[derive(Debug, Default)]
pub(crate) struct ReplicaRows {
    rows: BTreeMap<(String, ReplicaId), Versioned<ReplicaRecord>>,
}

impl ReplicaRows {
    /// Whether no row is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn put(&mut self, record: &ReplicaRecord, seen: Option<i64>) -> Cas {
        let place = (record.source_arn.clone(), record.id.clone());
        let Some(version) = next_version(self.rows.get(&place), seen) else {
            return Cas::Lost;
        };
        let value = record.clone();
        self.rows.insert(place, Versioned { value, version });
        Cas::Applied(version)
    }
}

#[async_trait]
impl ReplicaControl for FakeControl {
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure> {
        Ok(self.replicas.lock().unwrap().put(record, None))
    }

    async fn replica(
        &self,
        source_arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure> {
        let place = (source_arn.to_owned(), id.clone());
        Ok(self.replicas.lock().unwrap().rows.get(&place).cloned())
    }

    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure> {
        Ok(self.replicas.lock().unwrap().put(record, Some(seen)))
    }

    async fn replicas(&self, source_arn: &str) -> Result<Vec<ReplicaRecord>, Failure> {
        let replicas = self.replicas.lock().unwrap();
        let of_source = replicas.rows.iter().filter(|((of, _), _)| of == source_arn);
        Ok(of_source.map(|(_, row)| row.value.clone()).collect())
    }

    async fn forget_replica(&self, source_arn: &str, id: &ReplicaId) -> Result<(), Failure> {
        let place = (source_arn.to_owned(), id.clone());
        self.replicas.lock().unwrap().rows.remove(&place);
        Ok(())
    }
}
