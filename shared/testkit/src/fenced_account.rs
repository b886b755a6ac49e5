//! An account in memory whose tables are written behind fences, by the rules of DynamoDB's transactions.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fence_tables::FenceTables;
use highwater_domain::fenced_writer::{
    Fence, FencedTable, FencedWrite, FencedWriter, MAX_FENCED_WRITES, MAX_ORDERS, Repair, Repaired,
    TOMBSTONE, Transacted, Verdict,
};
use highwater_domain::key::Key;
use highwater_domain::table_writer::WriteOp;
use serde_json::{Value, json};

use crate::fake_admin::FakeAdmin;
use crate::fake_table::FakeTable;

const TRANSACT: &str = "TransactWriteItems";
const GET: &str = "BatchGetItem";

/// One table of fences.
#[derive(Clone, Debug, Default)]
pub(crate) struct FenceRows {
    holder: Option<String>,
    orders: BTreeMap<String, String>,
}

impl FakeAdmin {
    /// An account that writes whatever the fences say: what it would be without conditions.
    #[must_use]
    pub fn ignoring_fences(mut self) -> Self {
        self.ignores_fences = true;
        self
    }

    /// Empties a table of fences behind everybody's back; whose it is stays.
    pub fn delete_fences(&self, table: &str) {
        if let Some(rows) = self.fences.lock().unwrap().get_mut(table) {
            rows.orders.clear();
        }
    }

    /// The fences of a table of them, by their ids; `None` if there is no such table.
    #[must_use]
    pub fn fences(&self, table: &str) -> Option<BTreeMap<String, String>> {
        let fences = self.fences.lock().unwrap();
        fences.get(table).map(|rows| rows.orders.clone())
    }
}

/// Where the fence of a write stands, if it does.
fn stands(
    table: &FakeTable,
    fence: Fence<'_>,
    fences: &BTreeMap<String, FenceRows>,
    fence_id: &str,
    key: &Key,
) -> Option<String> {
    match fence {
        Fence::Table(name) => fences.get(name)?.orders.get(fence_id).cloned(),
        Fence::Attribute(attribute) => {
            let item: Value = serde_json::from_slice(&table.get(key)?).ok()?;
            Some(item[attribute]["S"].as_str()?.to_owned())
        }
    }
}

/// What lies in the table once a write is done.
fn written(fence: Fence<'_>, op: &WriteOp, key: &[u8], order: Option<&str>) -> Option<Bytes> {
    let (Fence::Attribute(attribute), Some(order)) = (fence, order) else {
        return match op {
            WriteOp::Put(item) => Some(item.clone()),
            WriteOp::Delete(_) => None,
        };
    };
    let mut item: Value = match op {
        WriteOp::Put(item) => serde_json::from_slice(item).unwrap(),
        WriteOp::Delete(_) => {
            let mut tombstone: Value = serde_json::from_slice(key).unwrap();
            tombstone[TOMBSTONE] = json!({"BOOL": true});
            tombstone
        }
    };
    item[attribute] = json!({"S": order});
    Some(item.to_string().into())
}

fn missing(operation: &'static str, table: &str) -> Failure {
    let message = "ResourceNotFoundException: Requested resource not found";
    Failure::new(FailureKind::NotFound, operation, table, message)
}

fn invalid(operation: &'static str, table: &str, reason: &str) -> Failure {
    let message = format!("ValidationException: {reason}");
    Failure::new(FailureKind::Invalid, operation, table, message)
}

#[async_trait]
impl FencedWriter for FakeAdmin {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        let target = self.made(TRANSACT, table.target)?;
        let mut fences = self.fences.lock().unwrap();
        if let Fence::Table(name) = table.fence
            && !fences.contains_key(name)
        {
            return Err(missing(TRANSACT, name));
        }
        let invalid = |reason: &str| invalid(TRANSACT, table.target, reason);
        if !(1..=MAX_FENCED_WRITES).contains(&writes.len()) {
            return Err(invalid("1 to 100 actions are allowed"));
        }
        let mut keys = Vec::new();
        let mut verdicts = Vec::new();
        for write in writes {
            let key = match target.key_of_op(write.op) {
                Ok(key) => key,
                // DynamoDB finds this when it comes to the item, and the others before it starts.
                Err(reason) if reason.contains("Item size") => {
                    verdicts.push(Verdict::Refused(format!("ValidationError: {reason}")));
                    continue;
                }
                Err(reason) => return Err(invalid(&reason)),
            };
            let order = stands(&target, table.fence, &fences, write.fence_id, &key);
            verdicts.push(match order {
                Some(order) if order.as_str() >= write.order && !self.ignores_fences => {
                    Verdict::Stale
                }
                _ => Verdict::Clear,
            });
            keys.push(key);
        }
        if keys.iter().collect::<BTreeSet<_>>().len() < keys.len() {
            return Err(invalid(
                "Transaction request cannot include multiple operations on one item",
            ));
        }
        if verdicts.iter().any(|verdict| *verdict != Verdict::Clear) {
            return Ok(Transacted::Canceled(verdicts));
        }
        for (write, key) in writes.iter().zip(&keys) {
            match written(table.fence, write.op, write.key, Some(write.order)) {
                Some(item) => target.put(&item),
                None => target.delete(key),
            }
            if let Fence::Table(name) = table.fence
                && let Some(rows) = fences.get_mut(name)
            {
                let (id, order) = (write.fence_id.to_owned(), write.order.to_owned());
                rows.orders.insert(id, order);
            }
        }
        Ok(Transacted::Done)
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        let target = self.made(GET, table.target)?;
        if writes.len() > MAX_ORDERS {
            return Err(invalid(GET, table.target, "too many keys"));
        }
        let fences = self.fences.lock().unwrap();
        if let Fence::Table(name) = table.fence
            && !fences.contains_key(name)
        {
            return Err(missing(GET, name));
        }
        let order = |write: &FencedWrite<'_>| {
            let key = target.schema().key_of(write.key).ok()?;
            stands(&target, table.fence, &fences, write.fence_id, &key)
        };
        Ok(writes.iter().map(order).collect())
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        let target = self.made(TRANSACT, table.target)?;
        let fences = self.fences.lock().unwrap();
        if let Fence::Table(name) = table.fence
            && !fences.contains_key(name)
        {
            return Err(missing(TRANSACT, name));
        }
        let key = match target.key_of_op(repair.op) {
            Ok(key) => key,
            Err(reason) if reason.contains("Item size") => return Ok(Repaired::Refused(reason)),
            Err(reason) => return Err(invalid(TRANSACT, table.target, &reason)),
        };
        let stands = stands(&target, table.fence, &fences, repair.fence_id, &key);
        if stands.as_deref() != repair.expected && !self.ignores_fences {
            return Ok(Repaired::Moved);
        }
        match written(table.fence, repair.op, repair.key, repair.expected) {
            Some(item) => target.put(&item),
            None => target.delete(&key),
        }
        Ok(Repaired::Done)
    }
}

#[async_trait]
impl FenceTables for FakeAdmin {
    async fn holder(&self, table: &str) -> Result<Option<String>, Failure> {
        let fences = self.fences.lock().unwrap();
        Ok(fences.get(table).and_then(|rows| rows.holder.clone()))
    }

    async fn claim(&self, table: &str, holder: &str) -> Result<String, Failure> {
        let mut fences = self.fences.lock().unwrap();
        let rows = fences.entry(table.to_owned()).or_default();
        let holds = rows.holder.get_or_insert_with(|| holder.to_owned());
        Ok(holds.clone())
    }

    async fn strip(
        &self,
        target: &str,
        attribute: &str,
        key: &[u8],
        order: &str,
        is_tombstone: bool,
    ) -> Result<(), Failure> {
        let table = self.made("UpdateItem", target)?;
        let key = table.schema().key_of(key);
        let key = key.map_err(|error| invalid("UpdateItem", target, &error.to_string()))?;
        let Some(item) = table.get(&key) else {
            return Ok(());
        };
        let mut item: Value = serde_json::from_slice(&item).unwrap();
        if item[attribute]["S"] != order {
            return Ok(());
        }
        if is_tombstone {
            table.delete(&key);
        } else {
            item.as_object_mut().unwrap().remove(attribute);
            table.put(&Bytes::from(item.to_string()));
        }
        Ok(())
    }

    async fn delete(&self, table: &str) -> Result<(), Failure> {
        self.fences.lock().unwrap().remove(table);
        Ok(())
    }
}
