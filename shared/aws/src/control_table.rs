//! The control table, as versioned records of `highwater-kv`.
//!
//! Each snapshot is one partition, `snapshot#<id>`. Its records are `snapshot`, `segment/<segment>` and
//! `part/<segment>/<number>`; numbers have seven digits, so that names sort as numbers do.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::SnapshotId;
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};
use highwater_kv::{
    Error, FailureClass, List, Partition, Record, Store, Table, TableSpec, Transaction, Write,
};
use serde::de::DeserializeOwned;

/// The record of the snapshot itself.
const SNAPSHOT: &str = "snapshot";
const SEGMENTS: &str = "segment/";
const PARTS: &str = "part/";
/// The greatest number that seven digits spell.
const MAX_NUMBER: u32 = 9_999_999;

/// The control table on DynamoDB.
#[derive(Clone, Debug)]
pub struct KvControlTable {
    name: String,
    table: Table,
}

impl KvControlTable {
    /// The control table called `table`, which need not exist yet.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        let name = table.into();
        Self {
            table: Store::new(client).table(&name),
            name,
        }
    }

    /// Creates the table if it is not there, and waits until it can be used.
    ///
    /// Tells whether this call created it.
    pub async fn ensure(&self) -> Result<bool, Failure> {
        self.table
            .create(&TableSpec::new())
            .await
            .map_err(|error| self.failure("CreateTable", error))
    }

    /// The table itself, for what keeps records of its own in it: leases.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn partition(&self, name: &str) -> Partition {
        self.table.partition(name)
    }

    /// The value of one record, with its version.
    pub(crate) async fn value<T: DeserializeOwned>(
        &self,
        partition: &str,
        name: &str,
    ) -> Result<Option<Versioned<T>>, Failure> {
        let failed = |error| self.failure("GetItem", error);
        let Some(record) = self.partition(partition).get(name).await.map_err(failed)? else {
            return Ok(None);
        };
        Ok(Some(Versioned {
            value: record.value().map_err(failed)?,
            version: record.version(),
        }))
    }

    /// Records below `prefix` and behind `after`, at most `limit`, each read as `read` says.
    pub(crate) async fn list<T>(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<String>,
        limit: u32,
        read: impl Fn(&Record) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut list = List::new().prefix(prefix).limit(limit);
        if let Some(after) = after {
            list = list.after(after);
        }
        let page = self
            .partition(partition)
            .list(&list)
            .await
            .map_err(|error| self.failure("Query", error))?;
        page.records.iter().map(read).collect()
    }

    /// As [`list`](Self::list), of records whose names end in their numbers.
    pub(crate) async fn list_numbered<T: DeserializeOwned>(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<(u32, T)>, Failure> {
        let read = |record: &Record| {
            let number = record.name().strip_prefix(prefix);
            let number = number
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| self.misnamed(record, prefix))?;
            let value = record
                .value()
                .map_err(|error| self.failure("Query", error))?;
            Ok((number, value))
        };
        self.list(partition, prefix, after, limit, read).await
    }

    fn misnamed(&self, record: &Record, prefix: &str) -> Failure {
        let message = format!("{:?} is no {prefix}NUMBER", record.name());
        Failure::new(FailureKind::Corrupt, "Query", &self.name, message)
    }

    /// What became of a write: a lost race is an answer, not a failure.
    pub(crate) fn cas(
        &self,
        operation: &'static str,
        result: Result<i64, Error>,
    ) -> Result<Cas, Failure> {
        match result {
            Ok(version) => Ok(Cas::Applied(version)),
            Err(error) if error.is_conflict() => Ok(Cas::Lost),
            Err(error) => Err(self.failure(operation, error)),
        }
    }

    pub(crate) fn failure(&self, operation: &'static str, error: Error) -> Failure {
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
        match error {
            Error::Aws(aws) => {
                let message = match &aws.code {
                    Some(code) => format!("{code}: {}", aws.message),
                    None => aws.message.clone(),
                };
                Failure::new(kind, aws.operation, &aws.table, message).with_source(aws)
            }
            error => {
                Failure::new(kind, operation, &self.name, error.to_string()).with_source(error)
            }
        }
    }

    /// A number that the names can hold in order.
    pub(crate) fn checked(&self, number: u32) -> Result<u32, Failure> {
        if number <= MAX_NUMBER {
            return Ok(number);
        }
        Err(Failure::new(
            FailureKind::Invalid,
            "PutItem",
            &self.name,
            format!("segment, part or file {number} is beyond {MAX_NUMBER}"),
        ))
    }

    pub(crate) fn write<T: serde::Serialize>(&self, value: &T) -> Result<Write, Failure> {
        Write::value(value).map_err(|error| self.failure("PutItem", error))
    }
}

fn partition_name(id: &SnapshotId) -> String {
    format!("snapshot#{id}")
}

fn segment_name(segment: u32) -> String {
    format!("{SEGMENTS}{segment:07}")
}

fn part_name(part: PartId) -> String {
    format!("{PARTS}{:07}/{:07}", part.segment, part.number)
}

#[async_trait]
impl ControlTable for KvControlTable {
    async fn create_snapshot(&self, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let write = self.write(record)?;
        let partition = self.partition(&partition_name(&record.id));
        let created = partition.create(SNAPSHOT, write).await;
        self.cas("PutItem", created.map(|record| record.version()))
    }

    async fn snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Versioned<SnapshotRecord>>, Failure> {
        self.value(&partition_name(id), SNAPSHOT).await
    }

    async fn update_snapshot(&self, seen: i64, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let write = self.write(record)?;
        let partition = self.partition(&partition_name(&record.id));
        let updated = partition.update(SNAPSHOT, seen, write).await;
        self.cas("UpdateItem", updated.map(|record| record.version()))
    }

    async fn segment(
        &self,
        id: &SnapshotId,
        segment: u32,
    ) -> Result<Option<Versioned<Checkpoint>>, Failure> {
        self.value(&partition_name(id), &segment_name(segment))
            .await
    }

    async fn commit_segment(&self, commit: SegmentCommit<'_>) -> Result<Cas, Failure> {
        let partition = partition_name(commit.snapshot);
        let segment = segment_name(self.checked(commit.segment)?);
        let mut transaction =
            Transaction::new().put_if(&partition, segment, commit.seen, self.write(commit.next)?);
        if let Some(row) = commit.part {
            self.checked(row.id.segment.max(row.id.number))?;
            transaction = transaction.create(&partition, part_name(row.id), self.write(row)?);
        }
        let versions = self.table.transact(transaction).await;
        self.cas(
            "TransactWriteItems",
            // The checkpoint is the first action, and a put always has a version.
            versions.map(|versions| versions.into_iter().next().flatten().unwrap_or_default()),
        )
    }

    async fn part(&self, id: &SnapshotId, part: PartId) -> Result<Option<PartRow>, Failure> {
        let row = self.value(&partition_name(id), &part_name(part)).await?;
        Ok(row.map(|row| row.value))
    }

    async fn segments(
        &self,
        id: &SnapshotId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, Checkpoint)>, Failure> {
        let after = after.map(segment_name);
        self.list_numbered(&partition_name(id), SEGMENTS, after, limit)
            .await
    }

    async fn parts(
        &self,
        id: &SnapshotId,
        after: Option<PartId>,
        limit: u32,
    ) -> Result<Vec<PartRow>, Failure> {
        let read = |record: &Record| record.value().map_err(|error| self.failure("Query", error));
        let after = after.map(part_name);
        self.list(&partition_name(id), PARTS, after, limit, read)
            .await
    }

    async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), Failure> {
        let partition = self.partition(&partition_name(id));
        let failed = |error| self.failure("DeleteItem", error);
        for rows in [PARTS, SEGMENTS] {
            partition.delete_prefix(rows).await.map_err(failed)?;
        }
        partition.delete(SNAPSHOT).await.map_err(failed)?;
        Ok(())
    }
}
