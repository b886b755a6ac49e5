//! LoadPart: loads the files of one lane, each from its checkpoint on, into the table or into a new snapshot.
//!
//! Any number of invocations may work on one file, one after the other or at once: a write names its whole item,
//! so that writing it twice changes nothing, and the checkpoint moves by compare-and-set. What a second worker
//! costs is write capacity; where existing items are kept it may count its rival's items as existing.
//!
//! Items of one key in one file are written in the file's order. To a second, an item of the snapshot whose key the
//! log names is left out and counted; what it was at the second comes from the files behind the snapshot's, so that
//! each item is written once.

use std::sync::Arc;

use highwater_domain::backup_source::{Catalog, SourceFile};
use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::{Engine, ReplicaOf, RestoreId, RestoreRecord};
use highwater_domain::reused_buffers::ReusedBuffers;
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::import_table;
use crate::load_file::{Advance, FileLoad};
use crate::materialize::NewSnapshot;
use crate::overlay::Overlay;
use crate::replica::{AnsweredWriter, Loading};
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
    let deps = &deps.reaching(record.replica.as_ref()).await?;
    let output = |file, done, wait_seconds| LoadOutput {
        restore_id: input.restore_id.clone(),
        file,
        done,
        wait_seconds,
    };
    if record.engine == Engine::ImportTable {
        let progress = import_table::run(deps, &record, budget).await?;
        if progress.done {
            deps.observer.loaded(input.file, &progress.totals);
        }
        return Ok(output(input.file, progress.done, progress.wait_seconds));
    }
    if u64::from(input.file) >= record.files().max(1) {
        let (file, files) = (input.file, record.files());
        return Err(StepError::InvalidInput(format!(
            "file {file} of {files} does not exist"
        )));
    }
    let left_at = match &record.replica {
        Some(of) => load_replica(deps, &record, of, input.file, budget).await?,
        None => fill(deps, &record, input.file, budget).await?,
    };
    match left_at {
        None => Ok(output(input.file, true, 0)),
        Some(_) if deps.stop.is_set() => Err(StepError::RestoreInterrupted {
            id: record.id,
            reason: "a stop was asked for".into(),
        }),
        Some(file) => Ok(output(file, false, 0)),
    }
}

/// Loads the lane from `first` on. The file at which the time was up, if it was.
async fn fill(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    first: u32,
    budget: Budget,
) -> Result<Option<u32>, StepError> {
    let target = Target::open(deps, record).await?;
    let sources = Sources::open(deps, record).await?;
    let mut next = Some(first).filter(|_| record.files() > 0);
    while let Some(file) = next {
        let load = sources.file(deps, record, file, budget)?;
        if target.fill(load).await? == Advance::OutOfTime {
            return Ok(Some(file));
        }
        next = record.file_after(file);
    }
    Ok(None)
}

/// So long a loader of a replica works at most before it says again that it does: one that dies is waited for.
const LOADER_MS: u64 = 30_000;

/// The same for a replica, whose loaders are on record while they are at work.
async fn load_replica(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    of: &ReplicaOf,
    first: u32,
    budget: Budget,
) -> Result<Option<u32>, StepError> {
    let now = deps.clock.now();
    let own = UnixMillis(now.0.saturating_add(LOADER_MS));
    let deadline = budget.deadline().map_or(own, |deadline| deadline.min(own));
    let loading = Loading::begin(deps.replicas.as_ref(), of, deadline, now).await?;
    let writer = AnsweredWriter::new(&deps.writer);
    let watched = RestoreDeps {
        writer: writer.clone(),
        ..deps.clone()
    };
    let left_at = fill(&watched, record, first, Budget::until(deadline, now)).await?;
    // Only now, and only so: a request that was never answered may be under way, whatever came of the next one.
    if writer.is_quiet() {
        loading.end().await?;
    }
    Ok(left_at)
}

/// What is filled: the table, or a new snapshot.
enum Target {
    Table,
    Snapshot(Box<NewSnapshot>),
}

impl Target {
    async fn open(deps: &RestoreDeps, record: &RestoreRecord) -> Result<Self, StepError> {
        if record.materialize.is_some() {
            let snapshot = NewSnapshot::open(&deps.snapshots, record).await?;
            return Ok(Self::Snapshot(Box::new(snapshot)));
        }
        restore_status::check_same_table(deps, record).await?;
        let workers = record.concurrency.min(record.lanes).max(1);
        deps.pace.limit(record.write_capacity, workers);
        Ok(Self::Table)
    }

    async fn fill(&self, load: FileLoad<'_>) -> Result<Advance, StepError> {
        match self {
            Self::Table => load.run().await,
            Self::Snapshot(snapshot) => snapshot.copy(load).await,
        }
    }
}

/// The files that are loaded: those of the backup, and behind them those that the log was folded into.
struct Sources {
    store: Arc<dyn ObjectStore>,
    catalog: Catalog,
    overlay: Option<Overlay>,
    buffers: ReusedBuffers,
}

impl Sources {
    async fn open(deps: &RestoreDeps, record: &RestoreRecord) -> Result<Self, StepError> {
        let (store, catalog) = open_source(deps, record).await?;
        let overlay = match &record.point {
            Some(point) => Some(Overlay::of(deps, point).await?),
            None => None,
        };
        Ok(Self {
            store,
            catalog,
            overlay,
            buffers: ReusedBuffers::default(),
        })
    }

    fn file<'a>(
        &'a self,
        deps: &'a RestoreDeps,
        record: &'a RestoreRecord,
        number: u32,
        budget: Budget,
    ) -> Result<FileLoad<'a>, StepError> {
        let absent = || StepError::Internal(format!("there is no file {number} to be loaded"));
        let of_log = record.bucket_of(number).zip(self.overlay.as_ref());
        let (store, source, overlay) = if let Some((bucket, overlay)) = of_log {
            (overlay.store(), at(overlay.files(), bucket), None)
        } else {
            let source = at(&self.catalog.files, number);
            (&self.store, source, self.overlay.as_ref())
        };
        let source = source.ok_or_else(absent)?;
        Ok(FileLoad {
            deps,
            record,
            store,
            number,
            source,
            overlay,
            budget,
            buffers: &self.buffers,
        })
    }
}

fn at(files: &[SourceFile], number: u32) -> Option<&SourceFile> {
    files.get(usize::try_from(number).ok()?)
}

/// Looks at the backup again: it must be the one that the plan was made from.
pub(crate) async fn open_source(
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
