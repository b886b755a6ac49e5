//! What a description says and no request can ask for: noted for the user, never dropped.

use serde_json::Value;

use crate::described_table::{GLOBAL_TABLE, READ_ONLY, RESTORED, says_something};
use crate::table_plan::NotRestored;

/// Notes what a provisioned table had beside its settings.
pub(crate) fn provisioned(table: &Value, on_demand: bool, notes: &mut Vec<NotRestored>) {
    if on_demand {
        let units = &table["ProvisionedThroughput"];
        let (read, write) = (&units["ReadCapacityUnits"], &units["WriteCapacityUnits"]);
        notes.push(NotRestored::new(
            format!("provisioned throughput, {read} read and {write} write units"),
            "the new table was asked to be on demand",
        ));
    }
    notes.push(NotRestored::new(
        "auto scaling",
        "scaling policies are kept by Application Auto Scaling and are in no table's settings; if the table had any, register the new one",
    ));
}

/// Every new on-demand table is warm for this much:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput.html>.
const WARM_READS: u64 = 12_000;
const WARM_WRITES: u64 = 4_000;

/// Warm throughput grows by itself with use, and asking for it costs money: it is named, not restored.
pub(crate) fn warm_throughput(whose: &str, described: &Value, notes: &mut Vec<NotRestored>) {
    let warm = &described["WarmThroughput"];
    let (read, write) = (
        warm["ReadUnitsPerSecond"].as_u64().unwrap_or(0),
        warm["WriteUnitsPerSecond"].as_u64().unwrap_or(0),
    );
    let provisioned = |member: &str| {
        described["ProvisionedThroughput"][member]
            .as_u64()
            .unwrap_or(0)
    };
    if read > provisioned("ReadCapacityUnits").max(WARM_READS)
        || write > provisioned("WriteCapacityUnits").max(WARM_WRITES)
    {
        notes.push(NotRestored::new(
            format!("warm throughput of the {whose}, {read} read and {write} write units"),
            "it grows by itself with the load, and asking for it at once is charged: aws dynamodb update-table --warm-throughput",
        ));
    }
}

/// Notes members that no call of a restore sets, known or not.
pub(crate) fn the_rest(table: &Value, notes: &mut Vec<NotRestored>) {
    if says_something(&table["Replicas"]) {
        let regions: Vec<&str> = table["Replicas"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|replica| replica["RegionName"].as_str())
            .collect();
        notes.push(NotRestored::new(
            format!("global table with replicas in {}", regions.join(", ")),
            "the new table is of one region; add replicas when it is loaded: aws dynamodb update-table --replica-updates",
        ));
    }
    if says_something(&table["ArchivalSummary"]) {
        notes.push(NotRestored::new(
            "archival",
            "the backed-up table was archived because its KMS key was out of reach; the new one is not",
        ));
    }
    for (member, value) in table.as_object().into_iter().flatten() {
        let name = member.as_str();
        let known = READ_ONLY.contains(&name)
            || RESTORED.contains(&name)
            || GLOBAL_TABLE.contains(&name)
            || name == "ArchivalSummary";
        if !known && says_something(value) {
            notes.push(unknown(member.clone()));
        }
    }
}

/// A setting of a later year.
pub(crate) fn unknown(setting: String) -> NotRestored {
    NotRestored::new(
        setting,
        "this version does not know it; its value is in the backup's table.json",
    )
}
