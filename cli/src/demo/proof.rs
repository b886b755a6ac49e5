//! The demo's proofs: that a backup is whole, and that two places hold the same items.

use std::sync::Arc;

use highwater_domain::backup_source::Catalog;
use highwater_domain::ids::TableRef;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::table_settings_diff::settings_differences;
use highwater_steps::compare::{CompareObserver, CompareOptions, SpillLimits, compare};
use highwater_steps::item_source::ItemSource;
use highwater_steps::table_items::{TableItems, TableReading};
use highwater_steps::verify_backup::{VerifyTotals, verify};
use highwater_steps::{Deps, StepError};

use super::shop::TruthItems;
use crate::error::CliError;

/// How many files are read at once.
const CONCURRENCY: u32 = 2;

#[derive(Debug)]
struct Unwatched;

impl CompareObserver for Unwatched {}

/// Re-reads everything in a backup, and checks every hash and count.
pub async fn require_whole(
    store: &Arc<dyn ObjectStore>,
    catalog: &Catalog,
) -> Result<VerifyTotals, CliError> {
    let report = verify(store, catalog, CONCURRENCY as usize, |_| ()).await?;
    if report.is_good() {
        return Ok(report.totals);
    }
    let reasons: Vec<&str> = report.bad.iter().map(|file| file.reason.as_str()).collect();
    Err(CliError::Different(format!(
        "the backup is damaged: {}",
        reasons.join("; ")
    )))
}

/// Compares a table with what another one was at a second; gives the number of items.
pub async fn require_table_equals_truth(
    deps: &Deps,
    table: &TableRef,
    truth: TruthItems,
) -> Result<u64, CliError> {
    require_equal(Arc::new(items_of(deps, table).await?), Arc::new(truth)).await
}

/// Compares the settings of two tables.
pub async fn require_settings_equal(
    deps: &Deps,
    one: &TableRef,
    other: &TableRef,
) -> Result<(), CliError> {
    let settings = async |table: &TableRef| {
        let described = deps.describer.describe(table.as_str()).await;
        described.map_err(StepError::Table)
    };
    let differences = settings_differences(&settings(one).await?, &settings(other).await?);
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(CliError::Different(format!(
            "{} of {other} is not that of {one}",
            first.setting
        ))),
    }
}

async fn items_of(deps: &Deps, table: &TableRef) -> Result<TableItems, CliError> {
    let reading = TableReading::default();
    Ok(TableItems::open(deps.describer.as_ref(), deps.into(), table, &reading).await?)
}

async fn require_equal(a: Arc<dyn ItemSource>, b: Arc<dyn ItemSource>) -> Result<u64, CliError> {
    let options = CompareOptions {
        key: None,
        limit: 1,
        spill: SpillLimits::in_folder(std::env::temp_dir()),
        salt: fastrand::u128(..),
    };
    let observer: Arc<dyn CompareObserver> = Arc::new(Unwatched);
    let comparison = compare(&a, &b, &options, &observer).await?;
    match comparison.differences.first() {
        None if comparison.equal => Ok(comparison.a.items),
        first => Err(CliError::Different(format!(
            "{} items on one side, {} on the other; the first that differs: {first:?}",
            comparison.a.items, comparison.b.items
        ))),
    }
}
