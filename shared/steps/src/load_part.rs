//! LoadPart: loads the files of one lane, each from its checkpoint on.
//!
//! Any number of invocations may work on one file, one after the other or at once: a write names its whole item,
//! so that writing it twice changes nothing, and the checkpoint moves by compare-and-set. What a second worker
//! costs is write capacity; where existing items are kept it may count its rival's items as existing.
//!
//! Items of one key in one file are written in the file's order.

use std::sync::Arc;

use highwater_domain::backup_source::{Catalog, SourceFile};
use highwater_domain::budget::Budget;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::{Engine, RestoreId, RestoreRecord};
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::import_table;
use crate::load_file::{Advance, FileLoad};
use crate::restore_deps::RestoreDeps;
use crate::restore_status;
use crate::source::{self, LookOptions};

/// The input of the state `LoadPart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadInput {
    /// The restore.
    pub restore_id: RestoreId,
    /// The file to load, from 0; with it come those that are whole lanes behind it.
    pub file: u32,
}

/// The output of the state `LoadPart`, which is its next input until `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOutput {
    /// The restore.
    pub restore_id: RestoreId,
    /// The file that this branch has to go on with.
    pub file: u32,
    /// Whether this branch has nothing left to do.
    pub done: bool,
    /// Seconds after which it makes sense to ask again: 0, or more while DynamoDB imports by itself.
    pub wait_seconds: u64,
}

/// Loads until the lane ends, or until the budget is spent: then the output says `done: false`.
pub async fn run(
    deps: &RestoreDeps,
    input: &LoadInput,
    budget: Budget,
) -> Result<LoadOutput, StepError> {
    let record = restore_status::running(deps, &input.restore_id).await?;
    let output = |file, done, wait_seconds| LoadOutput {
        restore_id: input.restore_id.clone(),
        file,
        done,
        wait_seconds,
    };
    if record.engine == Engine::ImportTable {
        let progress = import_table::run(deps, &record, budget).await?;
        return Ok(output(input.file, progress.done, progress.wait_seconds));
    }
    if u64::from(input.file) >= record.source.files.max(1) {
        let (file, files) = (input.file, record.source.files);
        return Err(StepError::InvalidInput(format!(
            "file {file} of {files} does not exist"
        )));
    }
    restore_status::check_same_table(deps, &record).await?;
    deps.pace.limit(record.write_capacity, record.concurrency);
    let (store, catalog) = open_source(deps, &record).await?;
    let mut next = Some(input.file).filter(|_| !catalog.files.is_empty());
    while let Some(file) = next {
        let load = FileLoad {
            deps,
            record: &record,
            store: &store,
            number: file,
            source: source_file(&catalog, file)?,
            budget,
        };
        if load.run().await? == Advance::OutOfTime {
            if deps.stop.is_set() {
                return Err(StepError::RestoreInterrupted {
                    id: record.id,
                    reason: "a stop was asked for".into(),
                });
            }
            return Ok(output(file, false, 0));
        }
        next = record.file_after(file);
    }
    Ok(output(input.file, true, 0))
}

fn source_file(catalog: &Catalog, file: u32) -> Result<&SourceFile, StepError> {
    usize::try_from(file)
        .ok()
        .and_then(|file| catalog.files.get(file))
        .ok_or_else(|| StepError::Internal(format!("the catalog lacks file {file}")))
}

/// Looks at the backup again: it must be the one that the plan was made from.
async fn open_source(
    deps: &RestoreDeps,
    record: &RestoreRecord,
) -> Result<(Arc<dyn ObjectStore>, Catalog), StepError> {
    let location: highwater_domain::backup_source::SourceLocation = record.source.url.parse()?;
    let store = deps
        .stores
        .open(&location.store)
        .map_err(StepError::Store)?;
    let options = LookOptions {
        skip_checks: record.skip_checks,
        // The plan has accepted it, or there would be none.
        allow_incomplete: true,
    };
    let catalog = source::look(&store, &location, options).await?;
    if catalog.fingerprint() == record.source.fingerprint {
        return Ok((store, catalog));
    }
    Err(StepError::PartCorrupt(format!(
        "the backup at {} is not what it was when restore {} began",
        record.source.url, record.id
    )))
}
