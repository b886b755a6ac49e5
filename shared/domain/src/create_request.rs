//! The `CreateTable` request that makes a table like one that was described.
//!
//! `DescribeTable` answers in other words than `CreateTable` takes: summaries instead of members, and dates and
//! counters between the settings. What cannot be taken over is noted, never dropped:
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html>.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::described_table::{
    attribute_names, is_on_demand, on_demand_limits, provisioned_units, says_something,
};
use crate::key::{KeyAttribute, KeySchema};
use crate::left_out;
use crate::table::{SettingsError, TableSettings};
use crate::table_plan::{Billing, NotRestored, TargetPlace};

/// Members of an index's description that say how it is.
const INDEX_READ_ONLY: &[&str] = &[
    "IndexStatus",
    "Backfilling",
    "IndexSizeBytes",
    "IndexArn",
    "ItemCount",
];

/// The kinds of index, by their member's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexKind {
    Global,
    Local,
    Vector,
}

impl IndexKind {
    pub(crate) const ALL: [Self; 3] = [Self::Global, Self::Local, Self::Vector];

    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Global => "GlobalSecondaryIndexes",
            Self::Local => "LocalSecondaryIndexes",
            Self::Vector => "VectorIndexes",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Global => "global index",
            Self::Local => "local index",
            Self::Vector => "vector index",
        }
    }

    /// What a request may say of such an index, besides its throughput.
    fn request_members(self) -> &'static [&'static str] {
        match self {
            Self::Global | Self::Local => &["IndexName", "KeySchema", "Projection"],
            Self::Vector => &[
                "IndexName",
                "VectorAttribute",
                "SearchSchema",
                "Projection",
                "Dimensions",
                "DistanceFunction",
            ],
        }
    }
}

/// The request for a table named `name`. Tags, stream and deletion protection are not in it.
pub(crate) fn of(
    settings: &TableSettings,
    name: &str,
    place: &TargetPlace,
    billing: Billing,
    notes: &mut Vec<NotRestored>,
) -> Result<Value, SettingsError> {
    let schema = settings.key_schema()?;
    let table = &settings.table;
    let mut create = Map::new();
    create.insert("TableName".into(), json!(name));
    create.insert("KeySchema".into(), key_rows(&schema));
    let was_on_demand = is_on_demand(table)?;
    let on_demand = was_on_demand || billing == Billing::OnDemand;
    if on_demand {
        create.insert("BillingMode".into(), json!("PAY_PER_REQUEST"));
    } else {
        create.insert("BillingMode".into(), json!("PROVISIONED"));
    }
    create.extend(capacity(table, on_demand, "ProvisionedThroughput")?);
    if !was_on_demand {
        left_out::provisioned(table, on_demand, notes);
    }
    let left_out = indexes(table, on_demand, &mut create, notes)?;
    create.insert(
        "AttributeDefinitions".into(),
        definitions(table, &create, left_out)?,
    );
    if let Some(class) = table.pointer("/TableClassSummary/TableClass") {
        create.insert("TableClass".into(), class.clone());
    }
    if let Some(encryption) = encryption(&table["SSEDescription"], place, notes) {
        create.insert("SSESpecification".into(), encryption);
    }
    left_out::warm_throughput("table", table, notes);
    left_out::the_rest(table, notes);
    Ok(Value::Object(create))
}

/// The request for an on-demand table of which nothing but the key is known.
pub(crate) fn minimal(schema: &KeySchema, name: &str) -> Value {
    let definitions: Vec<Value> = schema
        .attributes()
        .map(|key| json!({"AttributeName": key.name, "AttributeType": key.scalar_type}))
        .collect();
    json!({
        "TableName": name,
        "KeySchema": key_rows(schema),
        "AttributeDefinitions": definitions,
        "BillingMode": "PAY_PER_REQUEST",
    })
}

fn key_rows(schema: &KeySchema) -> Value {
    let row = |key: &KeyAttribute, role| json!({"AttributeName": key.name, "KeyType": role});
    let mut rows = vec![row(&schema.partition, "HASH")];
    rows.extend(schema.sort.as_ref().map(|sort| row(sort, "RANGE")));
    Value::Array(rows)
}

/// The throughput of a table or an index, as a request's members.
fn capacity(
    described: &Value,
    on_demand: bool,
    field: &'static str,
) -> Result<Map<String, Value>, SettingsError> {
    let mut members = Map::new();
    if on_demand {
        if let Some(limits) = on_demand_limits(described) {
            members.insert("OnDemandThroughput".into(), limits);
        }
    } else {
        let units = provisioned_units(described).ok_or(SettingsError { field })?;
        members.insert("ProvisionedThroughput".into(), units);
    }
    Ok(members)
}

/// Adds the indexes to the request. Says whether any was left out.
fn indexes(
    table: &Value,
    on_demand: bool,
    create: &mut Map<String, Value>,
    notes: &mut Vec<NotRestored>,
) -> Result<bool, SettingsError> {
    let mut left_out = false;
    for kind in IndexKind::ALL {
        let mut requests = Vec::new();
        for described in table[kind.member()].as_array().into_iter().flatten() {
            let name = described["IndexName"].as_str().ok_or(SettingsError {
                field: "…Indexes[].IndexName",
            })?;
            if described["IndexStatus"] == "DELETING" {
                left_out = true;
                notes.push(NotRestored::new(
                    format!("{} {name}", kind.word()),
                    "it was being deleted when the backup was made",
                ));
                continue;
            }
            requests.push(index(kind, name, described, on_demand, notes)?);
        }
        if !requests.is_empty() {
            create.insert(kind.member().into(), Value::Array(requests));
        }
    }
    Ok(left_out)
}

fn index(
    kind: IndexKind,
    name: &str,
    described: &Value,
    on_demand: bool,
    notes: &mut Vec<NotRestored>,
) -> Result<Value, SettingsError> {
    let takes = kind.request_members();
    let mut request = Map::new();
    for (member, value) in described.as_object().into_iter().flatten() {
        if takes.contains(&member.as_str()) {
            request.insert(member.clone(), value.clone());
            continue;
        }
        let known = INDEX_READ_ONLY.contains(&member.as_str())
            || [
                "ProvisionedThroughput",
                "OnDemandThroughput",
                "WarmThroughput",
            ]
            .contains(&member.as_str());
        if !known && says_something(value) {
            notes.push(left_out::unknown(format!(
                "{member} of {} {name}",
                kind.word()
            )));
        }
    }
    if kind == IndexKind::Global {
        let field = "GlobalSecondaryIndexes[].ProvisionedThroughput";
        request.extend(capacity(described, on_demand, field)?);
        left_out::warm_throughput(&format!("{} {name}", kind.word()), described, notes);
    }
    Ok(Value::Object(request))
}

/// `CreateTable` refuses a definition that no key uses, so those of indexes that were left out must go.
fn definitions(
    table: &Value,
    create: &Map<String, Value>,
    left_out: bool,
) -> Result<Value, SettingsError> {
    let rows = table["AttributeDefinitions"]
        .as_array()
        .ok_or(SettingsError {
            field: "AttributeDefinitions",
        })?;
    let mut used = BTreeSet::new();
    for member in ["KeySchema"]
        .into_iter()
        .chain(IndexKind::ALL.map(IndexKind::member))
    {
        if let Some(part) = create.get(member) {
            attribute_names(part, &mut used);
        }
    }
    let kept = rows.iter().filter(|row| {
        !left_out
            || row["AttributeName"]
                .as_str()
                .is_some_and(|name| used.contains(name))
    });
    Ok(kept
        .map(|row| {
            json!({"AttributeName": row["AttributeName"], "AttributeType": row["AttributeType"]})
        })
        .collect())
}

/// The key that encrypts the table, if it can be named where the new table is.
fn encryption(
    described: &Value,
    place: &TargetPlace,
    notes: &mut Vec<NotRestored>,
) -> Option<Value> {
    if !matches!(
        described["Status"].as_str(),
        Some("ENABLED" | "ENABLING" | "UPDATING")
    ) {
        return None;
    }
    let kind = described["SSEType"].as_str().unwrap_or("KMS");
    let Some(key) = described["KMSMasterKeyArn"].as_str() else {
        return Some(json!({"Enabled": true, "SSEType": kind}));
    };
    let mut parts = key.splitn(6, ':').skip(3);
    let at_target =
        parts.next() == Some(place.region.as_str()) && parts.next() == place.account.as_deref();
    if !at_target {
        notes.push(NotRestored::new(
            format!("KMS key {key}"),
            format!(
                "it is not known to belong to {place}, where the new table is; that one is encrypted with a key that AWS owns. \
                 For a key of your own: aws dynamodb update-table --table-name TABLE --sse-specification Enabled=true,SSEType=KMS,KMSMasterKeyId=KEY"
            ),
        ));
        return None;
    }
    Some(json!({"Enabled": true, "SSEType": kind, "KMSMasterKeyId": key}))
}
