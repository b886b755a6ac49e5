//! Loads one file of a backup: reads its lines, sorts them out, has them written, and commits how far it came.

use std::sync::Arc;

use highwater_domain::backup_source::SourceFile;
use highwater_domain::budget::Budget;
use highwater_domain::control_table::Cas;
use highwater_domain::ids::UnixMillis;
use highwater_domain::item_lines::Record;
use highwater_domain::item_size::item_size;
use highwater_domain::key_print::KeyPrint;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::{FileCheckpoint, RestoreRecord};
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::table_writer::WriteOp;

use crate::error::StepError;
use crate::item_batches::{Draft, InFlight};
use crate::overlay::Overlay;
use crate::rejects::{self, Lines};
use crate::restore_deps::RestoreDeps;
use crate::restore_status;
use crate::source_file::{Records, open_file_in};
use crate::write_items::{ItemWriter, Reject, Unfinished};

/// Progress is committed after so long, so that a crash loses little.
const COMMIT_EVERY_MS: u64 = 5_000;

/// Progress is committed with so many rejects, so that they are kept and not only remembered.
const COMMIT_REJECTS: usize = 500;

/// DynamoDB's bound on an item: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>.
const MAX_ITEM_BYTES: u64 = 400 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Everything of this file is accounted for, or no more is wanted.
    Done,
    /// Read the checkpoint again: somebody else has moved it.
    Reread,
    /// Time is up; what was loaded is committed.
    OutOfTime,
}

/// One file on its way into the table.
pub(crate) struct FileLoad<'a> {
    pub(crate) deps: &'a RestoreDeps,
    pub(crate) record: &'a RestoreRecord,
    pub(crate) store: &'a Arc<dyn ObjectStore>,
    pub(crate) number: u32,
    pub(crate) source: &'a SourceFile,
    /// The keys whose state at a second the log tells, where this is a file of the snapshot under it.
    pub(crate) overlay: Option<&'a Overlay>,
    pub(crate) budget: Budget,
    /// What the lane's files are decompressed into.
    pub(crate) buffers: &'a ReusedBuffers,
}

/// What is done of a file and not yet committed.
struct Progress {
    seen: Option<i64>,
    committed: FileCheckpoint,
    next: FileCheckpoint,
    rejects: Vec<Reject>,
    committed_at: UnixMillis,
}

/// What a record turns out to be.
enum Sorted {
    Filtered,
    Superseded,
    Rejected(String),
    Wanted(KeyPrint),
}

impl FileLoad<'_> {
    /// Loads until the file's end, or until the budget is spent.
    pub(crate) async fn run(&self) -> Result<Advance, StepError> {
        loop {
            let (checkpoint, version) = self.checkpoint().await?;
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

    /// How far the file is committed, and the version of that.
    pub(crate) async fn checkpoint(&self) -> Result<(FileCheckpoint, Option<i64>), StepError> {
        let seen = self
            .deps
            .restores
            .file(&self.record.id, self.number)
            .await
            .map_err(StepError::Control)?;
        Ok(match seen {
            Some(seen) => (seen.value, Some(seen.version)),
            None => (FileCheckpoint::default(), None),
        })
    }

    /// Whether the log tells what the item of this key was.
    pub(crate) fn is_superseded(&self, print: &KeyPrint) -> Result<bool, StepError> {
        self.overlay
            .map_or(Ok(false), |overlay| overlay.covers(print))
    }

    /// How many items may still be taken, under `max_items`: exact, because then one lane loads the files in order.
    async fn quota(&self) -> Result<Option<u64>, StepError> {
        if self.record.max_items == 0 {
            return Ok(None);
        }
        let totals = restore_status::totals(self.deps, &self.record.id)
            .await?
            .totals;
        Ok(Some(self.record.max_items.saturating_sub(totals.taken())))
    }

    /// Loads from the checkpoint on. Whatever ends it, what is accounted for is committed first.
    async fn load(
        &self,
        progress: &mut Progress,
        quota: Option<u64>,
    ) -> Result<Advance, StepError> {
        let writer = ItemWriter::new(self.deps, self.record, self.number, self.budget);
        let mut in_flight = InFlight::new(writer, self.record.on_existing);
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
        in_flight: &mut InFlight,
        mut quota: Option<u64>,
    ) -> Result<bool, Unfinished> {
        let from = progress.committed.lines;
        let mut records = self.open().await?;
        let mut draft = Draft::default();
        while let Some(chunk) = records.next().await? {
            for record in chunk.into_iter().filter(|record| record.line > from) {
                if quota == Some(0) {
                    return self.start(progress, in_flight, draft).await;
                }
                if self.deps.should_stop(&self.budget) {
                    return self.stop(progress, in_flight).await;
                }
                if !self.make_room(progress, in_flight, &mut draft).await? {
                    return Ok(false);
                }
                let sorted = self.sort_out(&record)?;
                if let Sorted::Wanted(print) = &sorted
                    && (draft.holds(print) || in_flight.holds(print))
                {
                    // The later one must win: it waits for the earlier one.
                    let earlier = std::mem::take(&mut draft);
                    if !self.start(progress, in_flight, earlier).await?
                        || self.drain(progress, in_flight).await? == Advance::Reread
                    {
                        return Ok(false);
                    }
                }
                if !matches!(sorted, Sorted::Filtered | Sorted::Superseded) {
                    quota = quota.map(|left| left - 1);
                }
                take(&mut draft, record, sorted);
            }
        }
        self.start(progress, in_flight, draft).await
    }

    /// The file's records, from the first one on.
    pub(crate) async fn open(&self) -> Result<Records, StepError> {
        open_file_in(
            self.store,
            self.source,
            self.record.skip_checks,
            self.buffers,
        )
        .await
    }

    /// Starts a batch. `false` if somebody else has moved the checkpoint.
    async fn start(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight,
        draft: Draft,
    ) -> Result<bool, Unfinished> {
        // A wait for capacity may be long: what was written before it is told and committed meanwhile.
        if self.deps.pace.must_wait() && self.drain(progress, in_flight).await? == Advance::Reread {
            return Ok(false);
        }
        if in_flight.start(draft).await {
            return Ok(true);
        }
        self.stop(progress, in_flight).await
    }

    /// Time is up while records are read: what was started is waited for, what was not is left for the next round.
    async fn stop(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight,
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
        in_flight: &mut InFlight,
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
        let full = std::mem::take(draft);
        self.start(progress, in_flight, full).await
    }

    /// Waits for everything that was started.
    async fn drain(
        &self,
        progress: &mut Progress,
        in_flight: &mut InFlight,
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
        in_flight: &mut InFlight,
    ) -> Result<bool, Unfinished> {
        let Some((batch, outcome)) = in_flight.next().await else {
            return Ok(true);
        };
        let outcome = outcome?;
        let mut more = outcome.totals;
        more.read = batch.read;
        more.filtered = batch.filtered;
        more.superseded = batch.superseded;
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

    fn sort_out(&self, record: &Record) -> Result<Sorted, StepError> {
        let schema = &self.record.key_schema;
        let body = record.op.body();
        let print = match schema.print_of_checked(body) {
            Ok(print) => print,
            Err(error) => return Ok(Sorted::Rejected(error.to_string())),
        };
        if self.is_superseded(&print)? {
            return Ok(Sorted::Superseded);
        }
        if !self.record.filter.is_empty() {
            // The print has found the key: it is there and of the right type.
            let passes = schema
                .key_of(body)
                .is_ok_and(|key| self.record.filter.iter().all(|filter| filter.passes(&key)));
            if !passes {
                return Ok(Sorted::Filtered);
            }
        }
        // An item's JSON is longer than what DynamoDB counts: only a long one can be too large.
        if body.len() as u64 > MAX_ITEM_BYTES
            && let WriteOp::Put(item) = &record.op
        {
            match item_size(item.as_ref()) {
                Ok(bytes) if bytes > MAX_ITEM_BYTES => {
                    return Ok(Sorted::Rejected(format!(
                        "the item has {bytes} bytes as DynamoDB counts; at most {MAX_ITEM_BYTES} are allowed"
                    )));
                }
                Ok(_) => {}
                Err(error) => return Ok(Sorted::Rejected(error.to_string())),
            }
        }
        Ok(Sorted::Wanted(print))
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
        Sorted::Superseded => draft.supersede(&record),
        Sorted::Rejected(reason) => draft.reject(record, reason),
        Sorted::Wanted(print) => draft.push(record, print),
    }
}
