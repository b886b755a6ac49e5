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
use highwater_domain::control_table::Cas;
use highwater_domain::item_lines::Record;
use highwater_domain::item_size::item_size;
use highwater_domain::key_print::KeyPrint;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::{Engine, FileCheckpoint, RestoreId, RestoreRecord};
use highwater_domain::table_writer::WriteOp;
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::import_table;
use crate::item_batches::{Draft, InFlight};
use crate::rejects::{self, Lines};
use crate::restore_deps::RestoreDeps;
use crate::restore_status;
use crate::source::{self, LookOptions};
use crate::source_file::open_file;
use crate::write_items::{ItemWriter, Reject, Unfinished};

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

/// Progress is committed after so long, so that a crash loses little.
const COMMIT_EVERY_MS: u64 = 5_000;

/// Progress is committed with so many rejects, so that they are kept and not only remembered.
const COMMIT_REJECTS: usize = 500;

/// DynamoDB's bound on an item: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>.
const MAX_ITEM_BYTES: u64 = 400 << 10;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advance {
    /// Everything of this file is accounted for, or no more is wanted.
    Done,
    /// Read the checkpoint again: somebody else has moved it.
    Reread,
    /// Time is up; what was loaded is committed.
    OutOfTime,
}

/// One file on its way into the table.
struct FileLoad<'a> {
    deps: &'a RestoreDeps,
    record: &'a RestoreRecord,
    store: &'a Arc<dyn ObjectStore>,
    number: u32,
    source: &'a SourceFile,
    budget: Budget,
}

/// What is done of a file and not yet committed.
struct Progress {
    seen: Option<i64>,
    committed: FileCheckpoint,
    next: FileCheckpoint,
    rejects: Vec<Reject>,
    committed_at: highwater_domain::ids::UnixMillis,
}

/// What a record turns out to be.
enum Sorted {
    Filtered,
    Rejected(String),
    Wanted(KeyPrint),
}

impl FileLoad<'_> {
    async fn run(&self) -> Result<Advance, StepError> {
        loop {
            let seen = self
                .deps
                .restores
                .file(&self.record.id, self.number)
                .await
                .map_err(StepError::Control)?;
            let (checkpoint, version) = match seen {
                Some(seen) => (seen.value, Some(seen.version)),
                None => (FileCheckpoint::default(), None),
            };
            if checkpoint.done {
                self.deps
                    .observer
                    .file_loaded(self.number, &checkpoint.totals);
                return Ok(Advance::Done);
            }
            if self.deps.should_stop(&self.budget) {
                return Ok(Advance::OutOfTime);
            }
            let quota = self.quota().await?;
            if quota == Some(0) {
                return Ok(Advance::Done);
            }
            let mut progress = Progress {
                seen: version,
                committed: checkpoint,
                next: checkpoint,
                rejects: Vec::new(),
                committed_at: self.deps.clock.now(),
            };
            match self.load(&mut progress, quota).await? {
                Advance::Reread | Advance::Done => {}
                Advance::OutOfTime => return Ok(Advance::OutOfTime),
            }
        }
    }

    /// How many items may still be taken, under `max_items`: exact, because then one lane loads the files in order.
    async fn quota(&self) -> Result<Option<u64>, StepError> {
        if self.record.max_items == 0 {
            return Ok(None);
        }
        let totals = restore_status::totals(self.deps, &self.record.id)
            .await?
            .totals;
        let taken = totals.read - totals.filtered;
        Ok(Some(self.record.max_items.saturating_sub(taken)))
    }

    /// Loads from the checkpoint on. Whatever ends it, what is accounted for is committed first.
    async fn load(
        &self,
        progress: &mut Progress,
        quota: Option<u64>,
    ) -> Result<Advance, StepError> {
        let writer = ItemWriter::new(self.deps, self.record, self.number, self.budget);
        let mut in_flight = InFlight::new(&writer, self.record.on_existing);
        let fed = self.feed(progress, &mut in_flight, quota).await;
        let end = match fed {
            Ok(true) => self.drain(progress, &mut in_flight).await,
            Ok(false) => Ok(Advance::Reread),
            Err(unfinished) => Err(unfinished),
        };
        drop(in_flight);
        if let Ok(Advance::Reread) = end {
            return Ok(Advance::Reread);
        }
        progress.next.done = matches!(end, Ok(Advance::Done));
        if !self.commit(progress).await? {
            return Ok(Advance::Reread);
        }
        match end {
            Ok(advance) => Ok(advance),
            Err(Unfinished::OutOfTime) => Ok(Advance::OutOfTime),
            Err(Unfinished::Failed(error)) => Err(error),
        }
    }

    /// Reads the file and starts its writes. `false` if somebody else has moved the checkpoint.
    async fn feed(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight<'_>,
        mut quota: Option<u64>,
    ) -> Result<bool, Unfinished> {
        let from = progress.committed.lines;
        let mut records = open_file(self.store, self.source, self.record.skip_checks).await?;
        let mut draft = Draft::default();
        while let Some(chunk) = records.next().await? {
            for record in chunk.into_iter().filter(|record| record.line > from) {
                if quota == Some(0) {
                    in_flight.start(std::mem::take(&mut draft));
                    return Ok(true);
                }
                if self.deps.should_stop(&self.budget) {
                    return self.stop(progress, in_flight, draft).await;
                }
                if !self.make_room(progress, in_flight, &mut draft).await? {
                    return Ok(false);
                }
                let sorted = self.sort_out(&record);
                if let Sorted::Wanted(print) = &sorted
                    && (draft.holds(print) || in_flight.holds(print))
                {
                    // The later one must win: it waits for the earlier one.
                    in_flight.start(std::mem::take(&mut draft));
                    if self.drain(progress, in_flight).await? == Advance::Reread {
                        return Ok(false);
                    }
                }
                if !matches!(sorted, Sorted::Filtered) {
                    quota = quota.map(|left| left - 1);
                }
                take(&mut draft, record, sorted);
            }
        }
        in_flight.start(draft);
        Ok(true)
    }

    /// Time is up while records are read: what was started is waited for, what was not is left for the next round.
    async fn stop(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight<'_>,
        _left: Draft,
    ) -> Result<bool, Unfinished> {
        if self.drain(progress, in_flight).await? == Advance::Reread {
            return Ok(false);
        }
        Err(Unfinished::OutOfTime)
    }

    /// Starts the draft if it is full, when there is room for it.
    async fn make_room(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight<'_>,
        draft: &mut Draft,
    ) -> Result<bool, Unfinished> {
        if !draft.is_full() {
            return Ok(true);
        }
        while in_flight.is_full() {
            if !self.absorb_next(progress, in_flight).await? {
                return Ok(false);
            }
        }
        in_flight.start(std::mem::take(draft));
        Ok(true)
    }

    /// Waits for everything that was started.
    async fn drain(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight<'_>,
    ) -> Result<Advance, Unfinished> {
        while !in_flight.is_empty() {
            if !self.absorb_next(progress, in_flight).await? {
                return Ok(Advance::Reread);
            }
        }
        Ok(Advance::Done)
    }

    /// Takes over what became of the earliest batch. `false` if somebody else has moved the checkpoint.
    async fn absorb_next(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight<'_>,
    ) -> Result<bool, Unfinished> {
        let Some((batch, outcome)) = in_flight.next().await else {
            return Ok(true);
        };
        let outcome = outcome?;
        let mut more = outcome.totals;
        more.read = batch.read;
        more.filtered = batch.filtered;
        more.plain_bytes = batch.plain_bytes;
        more.rejected += batch.rejects.len() as u64;
        self.deps.observer.loaded(self.number, &more);
        progress.next.totals.add(&more);
        progress.next.lines = batch.last_line.max(progress.next.lines);
        progress.rejects.extend(batch.rejects);
        progress.rejects.extend(outcome.rejects);
        let stops_at_first = self.record.fail_fast || self.record.rejects.is_none();
        let due = self.deps.clock.now().since(progress.committed_at) >= COMMIT_EVERY_MS
            || progress.rejects.len() >= COMMIT_REJECTS
            || (stops_at_first && !progress.rejects.is_empty());
        if due {
            return Ok(self.commit(progress).await?);
        }
        Ok(true)
    }

    fn sort_out(&self, record: &Record) -> Sorted {
        let schema = &self.record.key_schema;
        let body = record.op.body();
        let print = match schema.print_of(body) {
            Ok(print) => print,
            Err(error) => return Sorted::Rejected(error.to_string()),
        };
        if !self.record.filter.is_empty() {
            // The print has found the key: it is there and of the right type.
            let passes = schema
                .key_of(body)
                .is_ok_and(|key| self.record.filter.iter().all(|filter| filter.passes(&key)));
            if !passes {
                return Sorted::Filtered;
            }
        }
        // An item's JSON is longer than what DynamoDB counts: only a long one can be too large.
        if body.len() as u64 > MAX_ITEM_BYTES
            && let WriteOp::Put(item) = &record.op
        {
            match item_size(item.as_ref()) {
                Ok(bytes) if bytes > MAX_ITEM_BYTES => {
                    return Sorted::Rejected(format!(
                        "the item has {bytes} bytes as DynamoDB counts; at most {MAX_ITEM_BYTES} are allowed"
                    ));
                }
                Ok(_) => {}
                Err(error) => return Sorted::Rejected(error.to_string()),
            }
        }
        Sorted::Wanted(print)
    }

    /// Makes the progress durable, its rejects first. `false` if somebody else has moved the checkpoint.
    async fn commit(&self, progress: &mut Progress) -> Result<bool, StepError> {
        if progress.next == progress.committed {
            return Ok(true);
        }
        let lines = Lines {
            file: self.number,
            after: progress.committed.lines,
            last: progress.next.lines,
        };
        progress.rejects.sort_by_key(|reject| reject.line);
        let object = &self.source.object;
        rejects::keep(self.deps, self.record, object, lines, &progress.rejects).await?;
        let (restores, id) = (&self.deps.restores, &self.record.id);
        let cas = restores
            .commit_file(id, self.number, progress.seen, &progress.next)
            .await
            .map_err(StepError::Control)?;
        let version = match cas {
            Cas::Applied(version) => version,
            Cas::Lost => {
                // Somebody else's step, or this very one, whose answer got lost.
                let known = restores
                    .file(id, self.number)
                    .await
                    .map_err(StepError::Control)?;
                match known.filter(|known| known.value == progress.next) {
                    Some(known) => known.version,
                    None => return Ok(false),
                }
            }
        };
        progress.seen = Some(version);
        progress.committed = progress.next;
        progress.rejects.clear();
        progress.committed_at = self.deps.clock.now();
        Ok(true)
    }
}

fn take(draft: &mut Draft, record: Record, sorted: Sorted) {
    match sorted {
        Sorted::Filtered => draft.pass_over(&record),
        Sorted::Rejected(reason) => draft.reject(record, reason),
        Sorted::Wanted(print) => draft.push(record, print),
    }
}
