//! What DynamoDB refuses in a table's making and changing, and what it then says of the table.

use std::collections::{BTreeMap, BTreeSet};

use highwater_domain::key::KeySchema;
use highwater_domain::table::{TABLE_JSON_VERSION, TableSettings};
use highwater_domain::table_admin::ChangeCall;
use serde_json::{Map, Value, json};

use crate::fake_describer::key_members;

/// The members of `CreateTable` that the fake knows.
const CREATE_TAKES: &[&str] = &[
    "TableName",
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "ProvisionedThroughput",
    "OnDemandThroughput",
    "WarmThroughput",
    "SSESpecification",
    "StreamSpecification",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "VectorIndexes",
    "TableClass",
    "DeletionProtectionEnabled",
    "Tags",
];

const INDEXES: [&str; 2] = ["GlobalSecondaryIndexes", "LocalSecondaryIndexes"];

/// What a table is busy with, and for how many more looks; `None` is until further notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating(Option<u64>),
    Updating(u64),
    Active,
}

/// The table's key, if a table can be made by this request.
pub(crate) fn check_create(request: &Value) -> Result<KeySchema, String> {
    let members = request.as_object().ok_or("the request is no object")?;
    if let Some(unknown) = members
        .keys()
        .find(|name| !CREATE_TAKES.contains(&name.as_str()))
    {
        return Err(format!("{unknown} is no member of the request"));
    }
    let name = request["TableName"].as_str().unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !(3..=255).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(format!("{name:?} is no table name"));
    }
    let schema = settings_of(request.clone())
        .key_schema()
        .map_err(|error| error.to_string())?;
    check_definitions(request)?;
    check_throughput(request, request)?;
    for index in rows(&request["GlobalSecondaryIndexes"]) {
        check_throughput(request, index)?;
    }
    let reserved = |tag: &Value| {
        tag["Key"]
            .as_str()
            .is_none_or(|key| key.starts_with("aws:"))
    };
    if rows(&request["Tags"]).any(reserved) {
        return Err("tags that begin with aws: are AWS's own".to_owned());
    }
    Ok(schema)
}

/// Defined are the attributes of the keys and no others.
fn check_definitions(request: &Value) -> Result<(), String> {
    let names = |list: &Value| -> BTreeSet<String> {
        rows(list)
            .map(|row| row["AttributeName"].to_string())
            .collect()
    };
    let mut used = names(&request["KeySchema"]);
    for index in INDEXES.iter().flat_map(|kind| rows(&request[*kind])) {
        if index["IndexName"]
            .as_str()
            .is_none_or(|name| name.len() < 3)
        {
            return Err("an index needs a name of 3 characters".to_owned());
        }
        if !index["Projection"]["ProjectionType"].is_string() {
            return Err("an index needs a projection".to_owned());
        }
        used.extend(names(&index["KeySchema"]));
    }
    if used != names(&request["AttributeDefinitions"]) {
        return Err(
            "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions"
                .to_owned(),
        );
    }
    Ok(())
}

/// Provisioned tables and their indexes name their throughput; on-demand ones must not.
fn check_throughput(request: &Value, what: &Value) -> Result<(), String> {
    let on_demand = request["BillingMode"] == "PAY_PER_REQUEST";
    let units = &what["ProvisionedThroughput"];
    let at_least_one = |name: &str| units[name].as_u64().is_some_and(|units| units > 0);
    if on_demand && !units.is_null() {
        return Err(
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST"
                .to_owned(),
        );
    }
    let provisioned = at_least_one("ReadCapacityUnits") && at_least_one("WriteCapacityUnits");
    if !on_demand && !provisioned {
        return Err(
            "No provisioned throughput specified for a table or index of BillingMode PROVISIONED"
                .to_owned(),
        );
    }
    if !on_demand && !what["OnDemandThroughput"].is_null() {
        return Err("OnDemandThroughput needs BillingMode PAY_PER_REQUEST".to_owned());
    }
    Ok(())
}

fn settings_of(table: Value) -> TableSettings {
    TableSettings {
        version: TABLE_JSON_VERSION,
        table,
        time_to_live: None,
        tags: None,
        continuous_backups: None,
        unavailable: Vec::new(),
    }
}

/// A fake table's settings, as they stand.
#[derive(Clone, Debug)]
pub(crate) struct FakeSettings {
    pub(crate) status: Status,
    /// `DescribeTable`'s members that do not depend on the items.
    table: Value,
    pub(crate) time_to_live: Value,
    tags: BTreeMap<String, Value>,
    pub(crate) recovery: Value,
}

impl FakeSettings {
    /// An active on-demand table with this key and nothing else.
    pub(crate) fn of_key(schema: &KeySchema) -> Self {
        let (definitions, keys) = key_members(schema);
        Self::created(&json!({
            "AttributeDefinitions": definitions,
            "KeySchema": keys,
            "BillingMode": "PAY_PER_REQUEST",
        }))
    }

    /// An active table as this request asks for.
    pub(crate) fn created(request: &Value) -> Self {
        let mut settings = Self {
            status: Status::Active,
            table: json!({"DeletionProtectionEnabled": false}),
            time_to_live: json!({"TimeToLiveStatus": "DISABLED"}),
            tags: BTreeMap::new(),
            recovery: json!({"PointInTimeRecoveryStatus": "DISABLED"}),
        };
        settings.add_tags(&request["Tags"]);
        let members = request.as_object().into_iter().flatten();
        for (name, asked) in members.filter(|(name, _)| *name != "Tags") {
            settings.set(name, asked);
        }
        settings
    }

    /// Takes over one member of `CreateTable` or `UpdateTable`, as `DescribeTable` will say it.
    fn set(&mut self, name: &str, asked: &Value) {
        let table = &mut self.table;
        match name {
            "BillingMode" => table["BillingModeSummary"] = json!({"BillingMode": asked}),
            "TableClass" => table["TableClassSummary"] = json!({"TableClass": asked}),
            "SSESpecification" if asked["Enabled"] == true => {
                let key = asked["KMSMasterKeyId"].as_str().unwrap_or("aws-managed");
                let arn = if key.starts_with("arn:") {
                    key.to_owned()
                } else {
                    format!("arn:aws:kms:eu-north-1:123456789012:key/{key}")
                };
                table["SSEDescription"] =
                    json!({"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": arn});
            }
            "SSESpecification" => drop(members_of(table).remove("SSEDescription")),
            "StreamSpecification" if asked["StreamEnabled"] != true => {
                members_of(table).remove("StreamSpecification");
            }
            "GlobalSecondaryIndexUpdates" => {
                for update in rows(asked) {
                    update_index(table, &update["Update"]);
                }
            }
            _ => table[name] = asked.clone(),
        }
    }

    /// `DescribeTable`'s members, without those that the items and the name make.
    pub(crate) fn description(&self) -> Value {
        let mut table = self.table.clone();
        let status = match self.status {
            Status::Creating(_) => "CREATING",
            Status::Updating(_) => "UPDATING",
            Status::Active => "ACTIVE",
        };
        table["TableStatus"] = json!(status);
        if table["ProvisionedThroughput"].is_null() {
            table["ProvisionedThroughput"] =
                json!({"ReadCapacityUnits": 0, "WriteCapacityUnits": 0});
        }
        table["ProvisionedThroughput"]["NumberOfDecreasesToday"] = json!(0);
        if table["StreamSpecification"]["StreamEnabled"] == true {
            table["LatestStreamLabel"] = json!("2026-01-14T10:18:50.622");
        }
        for index in rows_of(&mut table, "GlobalSecondaryIndexes") {
            let creating = matches!(self.status, Status::Creating(_));
            index["IndexStatus"] = json!(if creating { "CREATING" } else { "ACTIVE" });
        }
        table
    }

    pub(crate) fn tags(&self) -> Value {
        let tags = self.tags.iter();
        tags.map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect()
    }

    fn add_tags(&mut self, tags: &Value) {
        for tag in rows(tags) {
            let key = tag["Key"].as_str().unwrap_or_default();
            self.tags.insert(key.to_owned(), tag["Value"].clone());
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.status != Status::Active
    }

    /// Somebody looked: what the table is busy with comes nearer to its end.
    pub(crate) fn pass_time(&mut self) {
        self.status = match self.status {
            Status::Creating(None) => Status::Creating(None),
            Status::Creating(Some(looks)) if looks > 1 => Status::Creating(Some(looks - 1)),
            Status::Updating(looks) if looks > 1 => Status::Updating(looks - 1),
            _ => Status::Active,
        };
    }

    /// Makes a change, or says why not. True if the table is busy with it for a while.
    pub(crate) fn change(&mut self, call: ChangeCall, request: &Value) -> Result<bool, String> {
        match call {
            ChangeCall::TagResource => {
                if rows(&request["Tags"]).count() == 0 {
                    return Err("no tags".to_owned());
                }
                self.add_tags(&request["Tags"]);
                if self.tags.len() > 50 {
                    return Err("Too many tags".to_owned());
                }
                Ok(false)
            }
            ChangeCall::UntagResource => {
                for key in rows(&request["TagKeys"]).filter_map(Value::as_str) {
                    self.tags.remove(key);
                }
                Ok(false)
            }
            ChangeCall::UpdateTimeToLive => self
                .change_ttl(&request["TimeToLiveSpecification"])
                .map(|()| false),
            ChangeCall::UpdateContinuousBackups => self
                .change_recovery(&request["PointInTimeRecoverySpecification"])
                .map(|()| false),
            ChangeCall::UpdateTable => self.update(request),
        }
    }

    fn change_ttl(&mut self, asked: &Value) -> Result<(), String> {
        let enabled = asked["Enabled"].as_bool().ok_or("Enabled is missing")?;
        let attribute = asked["AttributeName"]
            .as_str()
            .filter(|name| !name.is_empty())
            .ok_or("AttributeName is missing")?;
        let now = self.time_to_live["AttributeName"].as_str();
        if enabled && now.is_some_and(|now| now != attribute) {
            return Err("TimeToLive is active on a different AttributeName".to_owned());
        }
        self.time_to_live = if enabled {
            json!({"TimeToLiveStatus": "ENABLED", "AttributeName": attribute})
        } else {
            json!({"TimeToLiveStatus": "DISABLED"})
        };
        Ok(())
    }

    fn change_recovery(&mut self, asked: &Value) -> Result<(), String> {
        let enabled = asked["PointInTimeRecoveryEnabled"]
            .as_bool()
            .ok_or("PointInTimeRecoveryEnabled is missing")?;
        let days = asked["RecoveryPeriodInDays"].as_u64().unwrap_or(35);
        if !(1..=35).contains(&days) {
            return Err(format!("{days} days of recovery"));
        }
        self.recovery = if enabled {
            json!({"PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": days})
        } else {
            json!({"PointInTimeRecoveryStatus": "DISABLED"})
        };
        Ok(())
    }

    fn update(&mut self, request: &Value) -> Result<bool, String> {
        let members: Vec<(&String, &Value)> = request
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "TableName")
            .collect();
        if members.is_empty() {
            return Err("the request changes nothing".to_owned());
        }
        for (name, asked) in &members {
            self.check_update(name, asked)?;
        }
        let before = self.table.clone();
        for (name, asked) in members {
            self.set(name, asked);
        }
        Ok(before != self.table)
    }

    fn check_update(&self, name: &str, asked: &Value) -> Result<(), String> {
        let table = &self.table;
        match name {
            "StreamSpecification" => {
                let now = &table["StreamSpecification"];
                let enable = asked["StreamEnabled"]
                    .as_bool()
                    .ok_or("StreamEnabled is missing")?;
                if enable && now["StreamEnabled"] == true && now != asked {
                    return Err("Table already has an enabled stream".to_owned());
                }
                if enable && !asked["StreamViewType"].is_string() {
                    return Err("StreamViewType is missing".to_owned());
                }
                Ok(())
            }
            "GlobalSecondaryIndexUpdates" => rows(asked).try_for_each(|update| {
                let name = &update["Update"]["IndexName"];
                let found =
                    rows(&table["GlobalSecondaryIndexes"]).any(|index| index["IndexName"] == *name);
                if found {
                    Ok(())
                } else {
                    Err(format!(
                        "the fake only updates indexes that are there: {update}"
                    ))
                }
            }),
            name if CREATE_TAKES.contains(&name) && !INDEXES.contains(&name) => Ok(()),
            name => Err(format!("{name} is no member of the request")),
        }
    }
}

/// Changes an index's throughput.
fn update_index(table: &mut Value, update: &Value) {
    for index in rows_of(table, "GlobalSecondaryIndexes") {
        if index["IndexName"] == update["IndexName"] {
            for (name, asked) in update.as_object().into_iter().flatten() {
                index[name] = asked.clone();
            }
        }
    }
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn rows_of<'a>(table: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    let rows = table.get_mut(name).and_then(Value::as_array_mut);
    rows.into_iter().flatten()
}

fn members_of(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("a description is an object")
}
