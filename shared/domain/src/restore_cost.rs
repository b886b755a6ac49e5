//! What a restore will cost, before it is begun: write units and dollars, as an estimate that says how it was made.

use serde::{Deserialize, Serialize};

use crate::restore::Engine;

/// Dollars per million write request units of an on-demand table.
const DOLLARS_PER_MILLION_WRITES: f64 = 0.625;

/// Dollars per GiB of uncompressed lines that ImportTable reads.
const DOLLARS_PER_IMPORTED_GIB: f64 = 0.15;

/// Where the prices are from.
const PRICES: &str = "prices of us-east-1 since November 2024 (https://aws.amazon.com/dynamodb/pricing/on-demand/), other regions differ";

/// What the cost depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostFacts {
    /// Who writes.
    pub engine: Engine,
    /// Items, where the backup says.
    pub items: Option<u64>,
    /// Bytes of the lines before compression, where the backup says.
    pub plain_bytes: Option<u64>,
    /// Secondary indexes of the table; each item is written to every one.
    pub indexes: u64,
    /// Whether the table is billed on demand.
    pub on_demand: bool,
}

/// The estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreCost {
    /// Write capacity units; `None` if the backup does not say enough to tell.
    pub write_units: Option<u64>,
    /// US dollars; `None` if it cannot be told, or writes are paid for by the hour.
    pub dollars: Option<f64>,
    /// How the numbers came about.
    pub note: String,
}

/// Estimates the cost of writing all items of a backup once.
///
/// An item costs a unit per KB, rounded up, in the table and again in each index. The size of an item is taken as
/// the average of the lines, which are somewhat longer than the items that DynamoDB measures; sizes that differ much
/// from item to item cost more than their average.
#[must_use]
pub fn restore_cost(facts: &CostFacts) -> RestoreCost {
    match facts.engine {
        Engine::ImportTable => import_cost(facts),
        Engine::Write => write_cost(facts),
    }
}

fn import_cost(facts: &CostFacts) -> RestoreCost {
    let gib = |bytes: u64| bytes as f64 / f64::from(1_u32 << 30);
    RestoreCost {
        write_units: Some(0),
        dollars: facts
            .plain_bytes
            .map(|bytes| gib(bytes) * DOLLARS_PER_IMPORTED_GIB),
        note: format!(
            "ImportTable charges ${DOLLARS_PER_IMPORTED_GIB} per GiB of uncompressed lines and nothing for indexes; {PRICES}"
        ),
    }
}

fn write_cost(facts: &CostFacts) -> RestoreCost {
    let (Some(items), Some(bytes)) = (facts.items, facts.plain_bytes) else {
        return RestoreCost {
            write_units: None,
            dollars: None,
            note: "the backup does not say how many items and bytes it has".into(),
        };
    };
    let average = bytes.div_ceil(items.max(1));
    let units = items
        .saturating_mul(average.div_ceil(1024).max(1))
        .saturating_mul(facts.indexes.saturating_add(1));
    let basis = format!(
        "a unit per KB of the average line ({average} bytes) in the table and each of {} indexes",
        facts.indexes
    );
    if !facts.on_demand {
        return RestoreCost {
            write_units: Some(units),
            dollars: None,
            note: format!("{basis}; the table's provisioned throughput is paid for by the hour"),
        };
    }
    RestoreCost {
        write_units: Some(units),
        dollars: Some(units as f64 / 1e6 * DOLLARS_PER_MILLION_WRITES),
        note: format!(
            "{basis}; ${DOLLARS_PER_MILLION_WRITES} per million units on demand; {PRICES}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(engine: Engine) -> CostFacts {
        CostFacts {
            engine,
            items: Some(1_000_000),
            plain_bytes: Some(1_500_000_000),
            indexes: 0,
            on_demand: true,
        }
    }

    fn dollars(facts: &CostFacts) -> f64 {
        restore_cost(facts).dollars.unwrap()
    }

    #[test]
    fn an_item_rounds_up_to_whole_units_in_the_table_and_each_index() {
        let plain = facts(Engine::Write);
        assert_eq!(restore_cost(&plain).write_units, Some(2_000_000));
        assert!((dollars(&plain) - 1.25).abs() < 1e-9);
        let indexed = CostFacts {
            indexes: 2,
            ..plain
        };
        assert_eq!(restore_cost(&indexed).write_units, Some(6_000_000));
        let tiny = CostFacts {
            plain_bytes: Some(34_000_000),
            ..plain
        };
        assert_eq!(restore_cost(&tiny).write_units, Some(1_000_000));
        let exact = CostFacts {
            plain_bytes: Some(1_024_000_000),
            ..plain
        };
        assert_eq!(restore_cost(&exact).write_units, Some(1_000_000));
    }

    #[test]
    fn an_import_is_paid_by_the_byte_whatever_the_indexes() {
        let import = CostFacts {
            plain_bytes: Some(10 << 30),
            indexes: 5,
            ..facts(Engine::ImportTable)
        };
        assert_eq!(restore_cost(&import).write_units, Some(0));
        assert!((dollars(&import) - 1.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let unknown = CostFacts {
            items: None,
            ..facts(Engine::Write)
        };
        assert_eq!(restore_cost(&unknown).write_units, None);
        let provisioned = CostFacts {
            on_demand: false,
            ..facts(Engine::Write)
        };
        let cost = restore_cost(&provisioned);
        assert_eq!((cost.write_units, cost.dollars), (Some(2_000_000), None));
        let empty = CostFacts {
            items: Some(0),
            plain_bytes: Some(0),
            ..facts(Engine::Write)
        };
        assert_eq!(restore_cost(&empty).write_units, Some(0));
    }
}
