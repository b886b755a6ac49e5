//! Tables that take writes: what is written is counted and dropped.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Refusal, ReturnConsumedCapacity};
use crate::item_sum::ItemSum;

/// The most writes of a batch:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>.
const BATCH_WRITES: usize = 25;
/// The one condition that a table without items answers truthfully.
const ABSENT: &str = "attribute_not_exists(#k)";

/// A table that forgets its items.
#[derive(Clone, Debug)]
pub(super) struct WrittenTable {
    /// The `Table` member of `DescribeTable`.
    pub(super) description: Value,
    pub(super) tags: Vec<Value>,
    pub(super) written: ItemSum,
}

/// A `CreateTable` of an on-demand table without indexes. A setting that was ignored would be answered wrongly.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct CreateTable {
    pub(super) table_name: String,
    key_schema: Value,
    attribute_definitions: Value,
    billing_mode: OnDemand,
    #[serde(default)]
    tags: Vec<Value>,
}

#[derive(Debug, Deserialize)]
enum OnDemand {
    #[serde(rename = "PAY_PER_REQUEST")]
    PayPerRequest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct UntagResource {
    pub(super) resource_arn: String,
    pub(super) tag_keys: Vec<String>,
}

/// A `BatchWriteItem` of puts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct BatchWrite<'a> {
    #[serde(borrow)]
    request_items: BTreeMap<String, Vec<WriteRequest<'a>>>,
    #[serde(default)]
    return_consumed_capacity: ReturnConsumedCapacity,
}

#[derive(Debug, Deserialize)]
enum WriteRequest<'a> {
    PutRequest {
        #[serde(borrow, rename = "Item")]
        item: &'a RawValue,
    },
}

/// A `PutItem`, unconditional or on the condition that there is no such item.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PutItem<'a> {
    pub(super) table_name: String,
    #[serde(borrow)]
    item: &'a RawValue,
    condition_expression: Option<String>,
    #[serde(rename = "ExpressionAttributeNames")]
    _names: Option<BTreeMap<String, String>>,
    #[serde(default)]
    return_consumed_capacity: ReturnConsumedCapacity,
    #[serde(rename = "ReturnValuesOnConditionCheckFailure")]
    _on_failure: Option<String>,
}

impl CreateTable {
    /// A request for a table whose key is the string `pk`.
    pub(super) fn of_strings(name: &str) -> Self {
        Self {
            table_name: name.to_owned(),
            key_schema: json!([{"AttributeName": "pk", "KeyType": "HASH"}]),
            attribute_definitions: json!([{"AttributeName": "pk", "AttributeType": "S"}]),
            billing_mode: OnDemand::PayPerRequest,
            tags: Vec::new(),
        }
    }

    /// The table, active at once. `number` tells it from others of its name.
    pub(super) fn make(self, number: usize) -> WrittenTable {
        let name = &self.table_name;
        let OnDemand::PayPerRequest = self.billing_mode;
        let description = json!({
            "TableName": name,
            "TableArn": format!("arn:aws:dynamodb:us-east-1:123456789012:table/{name}"),
            "TableId": format!("11111111-0000-4000-8000-{number:012}"),
            "TableStatus": "ACTIVE",
            "CreationDateTime": 1_768_385_931.622,
            "KeySchema": self.key_schema,
            "AttributeDefinitions": self.attribute_definitions,
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "ProvisionedThroughput": {
                "NumberOfDecreasesToday": 0, "ReadCapacityUnits": 0, "WriteCapacityUnits": 0,
            },
            "TableSizeBytes": 0,
            "ItemCount": 0,
            "DeletionProtectionEnabled": false,
        });
        WrittenTable {
            description,
            tags: self.tags,
            written: ItemSum::default(),
        }
    }
}

/// What a request wrote into one table, and its answer.
pub(super) struct Writes {
    pub(super) table: String,
    pub(super) sum: ItemSum,
    pub(super) answer: String,
}

impl BatchWrite<'_> {
    /// Takes the writes, but for about `unprocessed` percent of them.
    pub(super) fn take(&self, unprocessed: u8) -> Result<Writes, Refusal> {
        let mut tables = self.request_items.iter();
        let (Some((table, writes)), None) = (tables.next(), tables.next()) else {
            return Err(Refusal::Batch("writes to one table".into()));
        };
        if writes.is_empty() || writes.len() > BATCH_WRITES {
            return Err(Refusal::Batch(format!("1 to {BATCH_WRITES} writes")));
        }
        let mut sum = ItemSum::default();
        let (mut units, mut back) = (0, String::new());
        for WriteRequest::PutRequest { item } in writes {
            if fastrand::u8(..100) < unprocessed {
                let comma = if back.is_empty() { "" } else { "," };
                back = back + comma + r#"{"PutRequest":{"Item":"# + item.get() + "}}";
            } else {
                sum.add(item.get().as_bytes());
                units += units_of(item);
            }
        }
        let name = Value::from(table.as_str());
        let mut answer = String::from(r#"{"UnprocessedItems":{"#);
        if !back.is_empty() {
            answer = answer + &name.to_string() + ":[" + &back + "]";
        }
        answer.push('}');
        if self.return_consumed_capacity.is_wanted() {
            let consumed = json!([{"TableName": name, "CapacityUnits": units as f64}]);
            answer = answer + r#","ConsumedCapacity":"# + &consumed.to_string();
        }
        answer.push('}');
        Ok(Writes {
            table: table.clone(),
            sum,
            answer,
        })
    }
}

impl PutItem<'_> {
    pub(super) fn take(&self) -> Result<Writes, Refusal> {
        if let Some(other) = self
            .condition_expression
            .as_ref()
            .filter(|it| *it != ABSENT)
        {
            return Err(Refusal::Condition(other.clone()));
        }
        let mut sum = ItemSum::default();
        sum.add(self.item.get().as_bytes());
        let mut answer = json!({});
        if self.return_consumed_capacity.is_wanted() {
            let units = units_of(self.item) as f64;
            answer["ConsumedCapacity"] =
                json!({"TableName": self.table_name, "CapacityUnits": units});
        }
        Ok(Writes {
            table: self.table_name.clone(),
            sum,
            answer: answer.to_string(),
        })
    }
}

/// A unit per begun KiB of JSON, which is more than DynamoDB counts.
fn units_of(item: &RawValue) -> usize {
    item.get().len().div_ceil(1024)
}
