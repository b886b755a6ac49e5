//! The port to the table: rows are read, and written by compare-and-set only.

use std::fmt;

use async_trait::async_trait;
use highwater_kv as kv;

use crate::lease::{Lease, LeaseId, Row};

/// Where the rows of one group of leases are.
///
/// [`KvRows`] is a partition of a kv table; a simulator may be another. What every one must keep: reads are strongly
/// consistent, a version names one state of a row and is never used twice, and a write happens whole or not at all.
#[async_trait]
pub trait Rows: fmt::Debug + Send + Sync {
    /// One row, or `None` if it is not registered.
    async fn get(&self, id: &LeaseId) -> Result<Option<Row>, kv::Error>;

    /// Rows in the order of their names, from the first one behind `after`. An empty page is the end.
    async fn page(&self, after: Option<&LeaseId>) -> Result<Vec<Row>, kv::Error>;

    /// Does all changes or none. After an error that says nothing about them they may have happened.
    async fn write(&self, changes: Vec<Change>) -> Result<Outcome, kv::Error>;
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row that must not be there yet.
    Create(LeaseId, Lease),
    /// A row that must still have the version that was seen.
    Update(LeaseId, i64, Lease),
    /// The same, to be gone afterwards.
    Delete(LeaseId, i64),
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All changes are made. The new versions, in order; `None` for a row that is gone.
    Written(Vec<Option<i64>>),
    /// A row was not as it was seen. Nothing is changed, unless an earlier try of the same write did it.
    Conflict,
}

/// The rows in a partition of a kv table. The partition belongs to the group: other records in it are an error.
#[derive(Clone, Debug)]
pub struct KvRows(kv::Partition);

/// Rows per page: a row has a few hundred bytes, DynamoDB's page 1 MB.
const PAGE: u32 = 1_000;

impl KvRows {
    /// The rows of the group `group` in `table`. Reads are strongly consistent.
    #[must_use]
    pub fn new(table: &kv::Table, group: &str) -> Self {
        Self(table.partition(group))
    }

    async fn write_one(&self, change: Change) -> Result<Option<i64>, kv::Error> {
        let record = match change {
            Change::Create(id, lease) => {
                let write = kv::Write::value(&lease)?;
                self.0.create(id.as_str(), write).await?
            }
            Change::Update(id, seen, lease) => {
                let write = kv::Write::value(&lease)?;
                self.0.update(id.as_str(), seen, write).await?
            }
            Change::Delete(id, seen) => {
                self.0.delete_if(id.as_str(), seen).await?;
                return Ok(None);
            }
        };
        Ok(Some(record.version()))
    }

    async fn write_all(&self, changes: Vec<Change>) -> Result<Vec<Option<i64>>, kv::Error> {
        let group = self.0.id();
        let mut transaction = kv::Transaction::new();
        for change in changes {
            transaction = match change {
                Change::Create(id, lease) => {
                    transaction.create(group, id.as_str(), kv::Write::value(&lease)?)
                }
                Change::Update(id, seen, lease) => {
                    transaction.update(group, id.as_str(), seen, kv::Write::value(&lease)?)
                }
                Change::Delete(id, seen) => transaction.delete(group, id.as_str(), seen),
            };
        }
        self.0.table().transact(transaction).await
    }
}

#[async_trait]
impl Rows for KvRows {
    async fn get(&self, id: &LeaseId) -> Result<Option<Row>, kv::Error> {
        let record = self.0.get(id.as_str()).await?;
        record.map(|record| row(id.clone(), &record)).transpose()
    }

    async fn page(&self, after: Option<&LeaseId>) -> Result<Vec<Row>, kv::Error> {
        let mut list = kv::List::new().limit(PAGE);
        if let Some(after) = after {
            list = list.after(after.as_str());
        }
        // kv fills a page up to its limit or the partition's end, over the borders of DynamoDB's own pages.
        let page = self.0.list(&list).await?;
        page.records
            .iter()
            .map(|record| row(LeaseId::stored(record.name()), record))
            .collect()
    }

    async fn write(&self, mut changes: Vec<Change>) -> Result<Outcome, kv::Error> {
        let written = if changes.len() == 1 {
            match changes.pop() {
                Some(change) => self.write_one(change).await.map(|version| vec![version]),
                None => Ok(Vec::new()),
            }
        } else {
            self.write_all(changes).await
        };
        match written {
            Ok(versions) => Ok(Outcome::Written(versions)),
            Err(error) if error.is_conflict() => Ok(Outcome::Conflict),
            Err(error) => Err(error),
        }
    }
}

fn row(id: LeaseId, record: &kv::Record) -> Result<Row, kv::Error> {
    Ok(Row {
        id,
        lease: record.value()?,
        version: record.version(),
    })
}
