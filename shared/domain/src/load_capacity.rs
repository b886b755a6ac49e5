//! More write capacity while a table is loaded, and what it was afterwards.

use serde_json::{Map, Value, json};

use crate::table_admin::{ChangeCall, TableChange};

/// Raises the write capacity in a `CreateTable` request to at least `units` for the table and each global index.
///
/// Gives the change that puts back what was raised. An on-demand table is raised only where it has a maximum.
pub(crate) fn raise(create: &mut Value, units: Option<u64>) -> Option<TableChange> {
    let units = units?;
    let mut put_back = Map::new();
    if let Some((member, before)) = raise_one(create, units) {
        put_back.insert(member.to_owned(), before);
    }
    let mut indexes = Vec::new();
    for index in create["GlobalSecondaryIndexes"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        if let Some((member, before)) = raise_one(index, units) {
            indexes.push(json!({"Update": {"IndexName": index["IndexName"], member: before}}));
        }
    }
    if !indexes.is_empty() {
        put_back.insert("GlobalSecondaryIndexUpdates".into(), Value::Array(indexes));
    }
    if put_back.is_empty() {
        return None;
    }
    put_back.insert("TableName".into(), create["TableName"].clone());
    Some(TableChange {
        what: format!("write capacity back from {units} units to what the backup says"),
        call: ChangeCall::UpdateTable,
        request: Value::Object(put_back),
    })
}

/// Raises one table's or index's capacity. Gives the member that was changed, as it was.
fn raise_one(request: &mut Value, units: u64) -> Option<(&'static str, Value)> {
    for (member, field) in [
        ("ProvisionedThroughput", "WriteCapacityUnits"),
        ("OnDemandThroughput", "MaxWriteRequestUnits"),
    ] {
        let lower = request.get(member).filter(|capacity| {
            capacity[field]
                .as_u64()
                .is_some_and(|before| before < units)
        });
        if let Some(before) = lower.cloned() {
            request[member][field] = json!(units);
            return Some((member, before));
        }
    }
    None
}
