//! Checkpoints in a DynamoDB table of `highwater-kv`'s form.

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_kv::{Error, FailureClass, List, Partition, Table, Write};

use super::Checkpoints;

/// Names told at once.
const PAGE: u32 = 1_000;

/// Checkpoints of one source in a partition of a control table.
#[derive(Clone, Debug)]
pub struct KvCheckpoints(Partition);

impl KvCheckpoints {
    /// The checkpoints of the source called `source` in `table`. Nothing is sent.
    #[must_use]
    pub fn new(table: &Table, source: &str) -> Self {
        Self(table.partition(format!("source {source}")))
    }

    fn failure(&self, operation: &'static str, error: Error) -> Failure {
        let kind = match error.class() {
            FailureClass::Throttled => FailureKind::Throttled,
            FailureClass::Transient => FailureKind::Transient,
            FailureClass::Unreachable => FailureKind::Unreachable,
            FailureClass::Denied => FailureKind::Denied,
            FailureClass::NotFound => FailureKind::NotFound,
            FailureClass::Invalid => FailureKind::Invalid,
            FailureClass::Corrupt => FailureKind::Corrupt,
            _ => FailureKind::Other,
        };
        let table = self.0.table().name();
        Failure::new(kind, operation, table, error.to_string()).with_source(error)
    }
}

#[async_trait]
impl Checkpoints for KvCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Versioned<Bytes>>, Failure> {
        let found = self.0.get(name).await;
        let Some(record) = found.map_err(|error| self.failure("GetItem", error))? else {
            return Ok(None);
        };
        let value = record
            .bytes()
            .map_err(|error| self.failure("GetItem", error))?;
        Ok(Some(Versioned {
            value: value.into(),
            version: record.version(),
        }))
    }

    async fn save(&self, name: &str, seen: Option<i64>, body: Bytes) -> Result<Cas, Failure> {
        let write = Write::bytes(body.to_vec());
        match self.0.put_if(name, seen, write).await {
            Ok(record) => Ok(Cas::Applied(record.version())),
            Err(error) if error.is_conflict() => Ok(Cas::Lost),
            Err(error) => Err(self.failure("PutItem", error)),
        }
    }

    async fn names(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, Failure> {
        let mut list = List::new().prefix(prefix).limit(PAGE);
        if let Some(after) = after {
            list = list.after(after);
        }
        let page = self.0.list(&list).await;
        let page = page.map_err(|error| self.failure("Query", error))?;
        let names = page.records.iter().map(|record| record.name().to_owned());
        Ok(names.collect())
    }
}
