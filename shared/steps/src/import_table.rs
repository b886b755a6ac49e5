//! Has DynamoDB import the backup into a new table, and believes nothing until the counts agree.
//!
//! The import's token is the restore's id: a repeated call finds the import that a lost call began, for eight
//! hours. Its ARN then goes into the record. `COMPLETED` alone proves nothing (a prefix that matches no object
//! completes with an empty table): the items that were imported must be as many as the backup says, without errors.

use std::collections::BTreeSet;

use highwater_domain::backup_source::Catalog;
use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::import_request::{
    ImportOutcome, ImportSource, import_outcome, import_request,
};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::{LoadTotals, RestoreRecord};
use highwater_domain::table_admin::ImportState;

use crate::error::StepError;
use crate::restore_deps::RestoreDeps;
use crate::restore_status;
use crate::table_wait::{Pause, TableWait};

/// Bounds of the wait between two looks at an import, in seconds.
const WAIT_SECONDS: (u64, u64) = (5, 60);

/// How far the import is.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportProgress {
    /// Whether it ended well; otherwise call again.
    pub done: bool,
    /// How long to wait before that.
    pub wait_seconds: u64,
    /// The import.
    pub import_arn: String,
    /// What became of the items: all of them are written, or the step has failed.
    pub totals: LoadTotals,
}

/// Begins the import of `record`, which must be in the control table, or looks how far it is.
///
/// It does not wait for the end: an import takes minutes to hours, and the workflow waits for nothing. When it is
/// done, the record holds the totals and the table's UUID.
///
/// # Errors
/// [`StepError::ImportFailed`] if it ended without every item, [`StepError::TableExists`] if the table is there.
pub async fn run(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    budget: Budget,
) -> Result<ImportProgress, StepError> {
    let wait = TableWait {
        deps,
        record,
        budget,
    };
    let import_arn = match &record.import_arn {
        Some(arn) => arn.clone(),
        None => begin(&wait).await?,
    };
    let state = look(&wait, &import_arn).await?;
    let expected = record.source.items.ok_or_else(|| {
        StepError::InvalidInput(format!(
            "{} does not say how many items it has, so that no import of it can be proven whole",
            record.source.url
        ))
    })?;
    match import_outcome(expected, &state) {
        ImportOutcome::Running => Ok(ImportProgress {
            done: false,
            wait_seconds: wait_seconds(deps.clock.now().since(record.started_at)),
            import_arn,
            totals: LoadTotals::default(),
        }),
        ImportOutcome::Whole(totals) => {
            end(&wait, totals).await?;
            Ok(ImportProgress {
                done: true,
                wait_seconds: 0,
                import_arn,
                totals,
            })
        }
        ImportOutcome::Broken(reason) => Err(StepError::ImportFailed {
            table: record.target.to_string(),
            reason,
        }),
    }
}

/// A tenth of the time it has taken so far: short imports end soon, long ones are not asked a thousand times.
fn wait_seconds(elapsed_ms: u64) -> u64 {
    (elapsed_ms / 10_000).clamp(WAIT_SECONDS.0, WAIT_SECONDS.1)
}

async fn begin(wait: &TableWait<'_>) -> Result<String, StepError> {
    let request = import_request(wait.record)
        .ok_or_else(|| StepError::Internal(format!("restore {} is no import", wait.record.id)))?;
    let mut retry = 0;
    let arn = loop {
        let failure = match wait.deps.importer.import_table(&request).await {
            Ok(arn) => break arn,
            Err(failure) => failure,
        };
        if failure.kind == FailureKind::Invalid && wait.glance().await?.is_some() {
            return Err(StepError::TableExists(wait.record.target.to_string()));
        }
        if wait.pause_before_retry(failure, retry).await? == Pause::OutOfTime {
            return Err(wait.out_of_time("imported"));
        }
        retry += 1;
    };
    let latest = restore_status::update(wait.deps, &wait.record.id, |latest| {
        latest.import_arn.is_none().then(|| RestoreRecord {
            import_arn: Some(arn.clone()),
            ..latest.clone()
        })
    })
    .await?;
    Ok(latest.import_arn.unwrap_or(arn))
}

async fn look(wait: &TableWait<'_>, import_arn: &str) -> Result<ImportState, StepError> {
    let mut retry = 0;
    loop {
        let failure = match wait.deps.importer.describe_import(import_arn).await {
            Ok(state) => return Ok(state),
            Err(failure) => failure,
        };
        if wait.pause_before_retry(failure, retry).await? == Pause::OutOfTime {
            return Err(wait.out_of_time("imported"));
        }
        retry += 1;
    }
}

/// Records what the import came to, and which table it made.
async fn end(wait: &TableWait<'_>, totals: LoadTotals) -> Result<(), StepError> {
    let table = wait.glance().await?.ok_or_else(|| wait.changed())?;
    let table_id = table["TableId"].as_str().map(str::to_owned);
    let known = wait.record.target_table_id.as_ref();
    if known.is_some() && known != table_id.as_ref() {
        return Err(wait.changed());
    }
    restore_status::update(wait.deps, &wait.record.id, |latest| {
        Some(RestoreRecord {
            target_table_id: table_id.clone(),
            totals,
            ..latest.clone()
        })
    })
    .await?;
    Ok(())
}

/// An object under the import's prefix that is not the backup's and that the import would read, if there is one.
///
/// Empty objects, which some tools make for folders, do no harm.
pub async fn foreign_object(
    store: &dyn ObjectStore,
    catalog: &Catalog,
    source: &ImportSource,
) -> Result<Option<String>, StepError> {
    let known: BTreeSet<&str> = catalog
        .files
        .iter()
        .map(|file| file.object.as_str())
        .collect();
    let mut after: Option<String> = None;
    loop {
        let page = store
            .list(&source.prefix, after.as_deref())
            .await
            .map_err(StepError::Store)?;
        let foreign = page
            .objects
            .iter()
            .find(|object| object.bytes > 0 && !known.contains(object.key.as_str()));
        if let Some(object) = foreign {
            return Ok(Some(store.url(&object.key)));
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}
