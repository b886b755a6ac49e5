//! Tables that are written, restores and replicas, as a worker reaches them over its connection.

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::fence_tables::FenceTables;
use highwater_domain::fenced_writer::{
    Fence, FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted,
};
use highwater_domain::replica::{ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::restore::{FileCheckpoint, RestoreId, RestoreRecord};
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};

use super::sim_ports::{Wired, at_once};

#[async_trait]
impl<P: TableWriter + ?Sized + 'static> TableWriter for Wired<P> {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        let (service, table, ops) = (self.service(), table.to_owned(), ops.to_vec());
        let about = named(ops.iter().map(WriteOp::body));
        let effect = move || at_once(service.write_batch(&table, &ops));
        self.wire()
            .write_once("BatchWriteItem", about, effect)
            .await?
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let (service, table, item) = (self.service(), table.to_owned(), item.clone());
        let key = partition_key.to_owned();
        let about = named([item.as_ref()]);
        let effect = move || at_once(service.put_if_absent(&table, &key, &item, want_existing));
        self.wire().write_once("PutItem", about, effect).await?
    }
}

/// What is written, for traces.
fn named<'a>(bodies: impl IntoIterator<Item = impl AsRef<[u8]> + 'a>) -> String {
    let texts = bodies
        .into_iter()
        .map(|body| String::from_utf8_lossy(body.as_ref()).into_owned());
    texts.collect::<Vec<_>>().join("; ")
}

/// A fenced write that may arrive later.
#[derive(Clone, Debug)]
struct Owned {
    op: WriteOp,
    key: Vec<u8>,
    fence_id: String,
    order: String,
}

impl Owned {
    fn all(writes: &[FencedWrite<'_>]) -> Vec<Self> {
        let owned = |write: &FencedWrite<'_>| Self {
            op: write.op.clone(),
            key: write.key.to_vec(),
            fence_id: write.fence_id.to_owned(),
            order: write.order.to_owned(),
        };
        writes.iter().map(owned).collect()
    }

    fn fenced(all: &[Self]) -> Vec<FencedWrite<'_>> {
        all.iter().map(Self::borrowed).collect()
    }

    fn borrowed(&self) -> FencedWrite<'_> {
        FencedWrite {
            op: &self.op,
            key: &self.key,
            fence_id: &self.fence_id,
            order: &self.order,
        }
    }
}

/// A table and its fence that outlive their sender.
#[derive(Clone, Debug)]
struct OwnedTable {
    target: String,
    fence: String,
    in_table: bool,
}

impl OwnedTable {
    fn of(table: FencedTable<'_>) -> Self {
        let (fence, in_table) = match table.fence {
            Fence::Table(name) => (name, true),
            Fence::Attribute(name) => (name, false),
        };
        Self {
            target: table.target.to_owned(),
            fence: fence.to_owned(),
            in_table,
        }
    }

    fn fenced(&self) -> FencedTable<'_> {
        FencedTable {
            target: &self.target,
            fence: if self.in_table {
                Fence::Table(&self.fence)
            } else {
                Fence::Attribute(&self.fence)
            },
        }
    }
}

#[async_trait]
impl<P: FencedWriter + ?Sized + 'static> FencedWriter for Wired<P> {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        let (service, table, writes) = (self.service(), OwnedTable::of(table), Owned::all(writes));
        let tell = |write: &Owned| {
            let body = String::from_utf8_lossy(write.op.body());
            format!("{} {body}", write.order)
        };
        let about = writes.iter().map(tell).collect::<Vec<_>>().join("; ");
        let effect = move || at_once(service.transact(table.fenced(), &Owned::fenced(&writes)));
        self.wire()
            .write("TransactWriteItems", about, effect)
            .await?
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        let service = self.service();
        let (owned, writes) = (OwnedTable::of(table), Owned::all(writes));
        let call = async move { at_once(service.orders(owned.fenced(), &Owned::fenced(&writes))) };
        self.wire().read("BatchGetItem", table.target, call).await?
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        let (service, table) = (self.service(), OwnedTable::of(table));
        let (op, key) = (repair.op.clone(), repair.key.to_vec());
        let fence_id = repair.fence_id.to_owned();
        let expected = repair.expected.map(str::to_owned);
        let about = format!("repair at {expected:?}");
        let effect = move || {
            let repair = Repair {
                op: &op,
                key: &key,
                fence_id: &fence_id,
                expected: expected.as_deref(),
            };
            at_once(service.repair(table.fenced(), repair))
        };
        self.wire()
            .write("TransactWriteItems", about, effect)
            .await?
    }
}

#[async_trait]
impl<P: FenceTables + ?Sized + 'static> FenceTables for Wired<P> {
    async fn holder(&self, table: &str) -> Result<Option<String>, Failure> {
        let service = self.service();
        let call = service.holder(table);
        self.wire().read("GetItem", table, call).await?
    }

    async fn claim(&self, table: &str, holder: &str) -> Result<String, Failure> {
        let (service, table, holder) = (self.service(), table.to_owned(), holder.to_owned());
        let about = format!("{table} for {holder}");
        let effect = move || at_once(service.claim(&table, &holder));
        self.wire().write("claim", about, effect).await?
    }

    async fn strip(
        &self,
        target: &str,
        attribute: &str,
        key: &[u8],
        order: &str,
        is_tombstone: bool,
    ) -> Result<(), Failure> {
        let (service, target) = (self.service(), target.to_owned());
        let (attribute, key, order) = (attribute.to_owned(), key.to_vec(), order.to_owned());
        let about = format!("{target} of {order}");
        let effect = move || {
            let call = service.strip(&target, &attribute, &key, &order, is_tombstone);
            at_once(call)
        };
        self.wire().write("UpdateItem", about, effect).await?
    }

    async fn delete(&self, table: &str) -> Result<(), Failure> {
        let (service, table) = (self.service(), table.to_owned());
        let about = table.clone();
        let effect = move || at_once(service.delete(&table));
        self.wire().write("DeleteTable", about, effect).await?
    }
}

#[async_trait]
impl<P: RestoreControl + ?Sized + 'static> RestoreControl for Wired<P> {
    async fn create_restore(&self, record: &RestoreRecord) -> Result<Cas, Failure> {
        let (service, record) = (self.service(), record.clone());
        let about = record.id.to_string();
        let effect = move || at_once(service.create_restore(&record));
        self.wire().write("create restore", about, effect).await?
    }

    async fn restore(&self, id: &RestoreId) -> Result<Option<Versioned<RestoreRecord>>, Failure> {
        let service = self.service();
        let call = service.restore(id);
        self.wire().read("read restore", id.as_str(), call).await?
    }

    async fn update_restore(&self, seen: i64, record: &RestoreRecord) -> Result<Cas, Failure> {
        let (service, record) = (self.service(), record.clone());
        let about = format!("{} {:?}", record.id, record.status);
        let effect = move || at_once(service.update_restore(seen, &record));
        self.wire().write("update restore", about, effect).await?
    }

    async fn file(
        &self,
        id: &RestoreId,
        file: u32,
    ) -> Result<Option<Versioned<FileCheckpoint>>, Failure> {
        let service = self.service();
        let call = service.file(id, file);
        self.wire().read("read file", id.as_str(), call).await?
    }

    async fn commit_file(
        &self,
        id: &RestoreId,
        file: u32,
        seen: Option<i64>,
        next: &FileCheckpoint,
    ) -> Result<Cas, Failure> {
        let (service, id, next) = (self.service(), id.clone(), *next);
        let about = format!("{file} -> line {}", next.lines);
        let effect = move || at_once(service.commit_file(&id, file, seen, &next));
        self.wire().write("commit file", about, effect).await?
    }

    async fn files(
        &self,
        id: &RestoreId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, FileCheckpoint)>, Failure> {
        let service = self.service();
        let call = service.files(id, after, limit);
        self.wire().read("list files", id.as_str(), call).await?
    }

    async fn forget_restore(&self, id: &RestoreId) -> Result<(), Failure> {
        let (service, id) = (self.service(), id.clone());
        let about = id.to_string();
        let effect = move || at_once(service.forget_restore(&id));
        self.wire().write("forget restore", about, effect).await?
    }
}

#[async_trait]
impl<P: ReplicaControl + ?Sized + 'static> ReplicaControl for Wired<P> {
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure> {
        let (service, record) = (self.service(), record.clone());
        let about = record.id.to_string();
        let effect = move || at_once(service.create_replica(&record));
        self.wire().write("create replica", about, effect).await?
    }

    async fn replica(
        &self,
        source_arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure> {
        let service = self.service();
        let call = service.replica(source_arn, id);
        self.wire().read("read replica", id.as_str(), call).await?
    }

    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure> {
        let (service, record) = (self.service(), record.clone());
        let loaders = record.attempts.len();
        let about = format!(
            "{} with {loaders} loaders, applied {:?}",
            record.phase, record.applied
        );
        let effect = move || at_once(service.update_replica(seen, &record));
        self.wire().write("update replica", about, effect).await?
    }

    async fn replicas(&self, source_arn: &str) -> Result<Vec<ReplicaRecord>, Failure> {
        let service = self.service();
        let call = service.replicas(source_arn);
        self.wire().read("list replicas", source_arn, call).await?
    }

    async fn forget_replica(&self, source_arn: &str, id: &ReplicaId) -> Result<(), Failure> {
        let (service, arn, id) = (self.service(), source_arn.to_owned(), id.clone());
        let about = id.to_string();
        let effect = move || at_once(service.forget_replica(&arn, &id));
        self.wire().write("forget replica", about, effect).await?
    }
}
