//! Materialize: makes a snapshot of what a table was at a second, and touches no table.
//!
//! The files that a restore would load become the segments of a new snapshot, under the commit protocol of a backup's
//! parts ([`crate::write_part`]), and the backup's own seal ends it. A file is read from its beginning by every
//! invocation: what is committed already is counted and not written again, so that the sums of a file are a function
//! of the file alone, whoever read it and however often it broke off.

use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::backup_source::{Catalog, SourceLocation};
use highwater_domain::budget::Budget;
use highwater_domain::control_table::Cas;
use highwater_domain::item_lines::Record;
use highwater_domain::key::Key;
use highwater_domain::layout::Layout;
use highwater_domain::materialized::Materialized;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::part::PartWriter;
use highwater_domain::restore::{FileCheckpoint, LoadTotals, RestoreRecord};
use highwater_domain::scan::ScanTotals;
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::{Checkpoint, Compression, SnapshotRecord, Status, Verified};
use highwater_domain::table_writer::WriteOp;

use crate::deps::Deps;
use crate::error::StepError;
use crate::finalize_backup;
use crate::load_file::{Advance, FileLoad};
use crate::plan_backup;
use crate::request::DEFAULT_PART_BYTES;
use crate::source_file::open_file;
use crate::status;
use crate::write_part::{Commit, FinishedPart, PartTarget, Seen};

/// The most segments that a snapshot has: the width of their numbers in the control table.
const MAX_SEGMENTS: u64 = 1_000_000;

/// The record of the snapshot that a restore makes: a pure function of the restore's plan and of what it begins with.
pub(crate) fn snapshot_of(
    record: &RestoreRecord,
    base: &Catalog,
) -> Result<SnapshotRecord, StepError> {
    let (Some(destination), Some(point)) = (&record.materialize, &record.point) else {
        return Err(StepError::Internal(format!(
            "restore {} makes no snapshot",
            record.id
        )));
    };
    let settings = base.settings.as_ref().ok_or_else(|| {
        StepError::PartMissing(format!(
            "{}/table.json, which the new snapshot needs",
            base.url
        ))
    })?;
    let broken = |source| StepError::Settings {
        table: record.target.to_string(),
        source,
    };
    let segments = record.files();
    let total_segments = u32::try_from(segments)
        .ok()
        .filter(|_| segments <= MAX_SEGMENTS)
        .ok_or_else(|| {
            StepError::InvalidInput(format!(
                "a snapshot has at most {MAX_SEGMENTS} segments, and this one would have {segments}"
            ))
        })?;
    Ok(SnapshotRecord {
        id: record.id.as_snapshot().clone(),
        request_id: record.request_id.clone(),
        table: record.target.clone(),
        table_arn: settings.arn().map_err(broken)?.to_owned(),
        table_id: settings.table_id().map(str::to_owned),
        key_schema: record.key_schema.clone(),
        destination: destination.clone(),
        total_segments,
        lanes: record.lanes,
        concurrency: record.concurrency,
        consistent: true,
        read_capacity: 0.0,
        selection: Selection::default(),
        max_items: 0,
        compression: Compression::default(),
        part_bytes: DEFAULT_PART_BYTES,
        with_stream: false,
        handoff: None,
        no_handoff: Some(
            "it shows a moment that is over: no live changes take over from it".into(),
        ),
        started_at: record.started_at,
        estimated_items: base.items.unwrap_or(0),
        estimated_bytes: base.plain_bytes.unwrap_or(0),
        status: Status::Running,
        ended_at: None,
        error: None,
        verified: Verified::default(),
        materialized: Some(Materialized {
            at: point.at.to_rfc3339(),
            snapshot: point.snapshot.clone(),
            log: point.log.clone(),
            grade: point.grade,
        }),
    })
}

/// Refuses a place where a snapshot of this id is already, before anything is recorded.
pub(crate) async fn refuse_existing(
    deps: &Deps,
    snapshot: &SnapshotRecord,
) -> Result<(), StepError> {
    let store = status::open_store(deps, snapshot)?;
    let layout = status::layout(snapshot)?;
    plan_backup::refuse_existing(store.as_ref(), &layout, snapshot).await
}

/// Claims the snapshot's id and place, and copies the table's settings. Repeated by every retry and resume.
pub(crate) async fn claim(
    deps: &Deps,
    snapshot: SnapshotRecord,
    base: &dyn ObjectStore,
    catalog: &Catalog,
) -> Result<(), StepError> {
    let store = status::open_store(deps, &snapshot)?;
    let layout = status::layout(&snapshot)?;
    plan_backup::prove_conditional_create(store.as_ref(), &layout).await?;
    let created = deps.control.create_snapshot(&snapshot).await;
    let snapshot = match created.map_err(StepError::Control)? {
        Cas::Applied(_) => snapshot,
        // By an earlier attempt; or by a backup that was given this id.
        Cas::Lost => {
            let known = status::load(deps, &snapshot.id).await?.value;
            if known.materialized != snapshot.materialized
                || known.destination != snapshot.destination
            {
                return Err(StepError::SnapshotExists {
                    place: known.destination,
                    id: known.id,
                });
            }
            revive(deps, known).await?
        }
    };
    if snapshot.status == Status::Completed {
        return Ok(());
    }
    plan_backup::claim_place(deps, store.as_ref(), &snapshot, false).await?;
    let base_at: SourceLocation = catalog.url.parse()?;
    let key = format!("{}/table.json", base_at.key);
    let settings = base.read(&key).await.map_err(StepError::Store)?;
    let settings = settings.ok_or_else(|| StepError::PartMissing(base.url(&key)))?;
    let copy = NewObject {
        key: layout.table_settings(),
        body: settings,
        content_type: "application/json",
        ..NewObject::default()
    };
    store.create(copy).await.map_err(StepError::Store)?;
    Ok(())
}

/// A snapshot whose restore was marked failed goes on with it.
async fn revive(deps: &Deps, mut known: SnapshotRecord) -> Result<SnapshotRecord, StepError> {
    while known.status == Status::Failed {
        let current = status::load(deps, &known.id).await?;
        known = SnapshotRecord {
            status: match current.value.status {
                Status::Failed => Status::Running,
                other => other,
            },
            ended_at: None,
            error: None,
            ..current.value
        };
        let update = deps.control.update_snapshot(current.version, &known).await;
        if update.map_err(StepError::Control)? == Cas::Lost {
            known = status::load(deps, &known.id).await?.value;
        }
    }
    Ok(known)
}

/// The snapshot that is being made, opened for writing.
pub(crate) struct NewSnapshot {
    record: SnapshotRecord,
    store: Arc<dyn ObjectStore>,
    layout: Layout,
}

impl NewSnapshot {
    /// The snapshot of this restore, which must not be marked failed.
    pub(crate) async fn open(deps: &Deps, restore: &RestoreRecord) -> Result<Self, StepError> {
        let record = status::load(deps, restore.id.as_snapshot()).await?.value;
        // Sealed, and the restore's own record does not say so yet: there is nothing left to copy.
        if record.status == Status::Failed {
            return Err(StepError::RestoreInterrupted {
                id: restore.id.clone(),
                reason: "its snapshot is failed".into(),
            });
        }
        Ok(Self {
            store: status::open_store(deps, &record)?,
            layout: status::layout(&record)?,
            record,
        })
    }

    /// Copies one file into it.
    pub(crate) async fn copy(&self, load: FileLoad<'_>) -> Result<Advance, StepError> {
        let copy = FileCopy {
            load,
            snapshot: self,
        };
        copy.run().await
    }
}

/// Seals the snapshot once everything is in it. `false` if time ran out; another round goes on.
pub(crate) async fn seal(
    deps: &Deps,
    record: &RestoreRecord,
    totals: &LoadTotals,
    budget: Budget,
) -> Result<bool, StepError> {
    let id = record.id.as_snapshot();
    let current = status::load(deps, id).await?;
    let store = status::open_store(deps, &current.value)?;
    if current.value.status == Status::Completed {
        // Sealed by an earlier try that may have died before it could say so.
        status::project(deps, store.as_ref(), id).await?;
        return Ok(true);
    }
    let written = status::progress(deps.control.as_ref(), id).await?.parts;
    if written.items != totals.written {
        return Err(StepError::Internal(format!(
            "snapshot {id}: its files came to {} items, its parts hold {}",
            totals.written, written.items
        )));
    }
    finalize_backup::check_and_seal(deps, store.as_ref(), current, budget).await
}

/// One file on its way into the new snapshot.
struct FileCopy<'a> {
    load: FileLoad<'a>,
    snapshot: &'a NewSnapshot,
}

/// What is known of a file while it is read.
struct Reading {
    seen: Seen,
    /// The last item that is in a committed part, while the reading has not come to it.
    behind: Option<Key>,
    totals: LoadTotals,
    lines: u64,
    /// Parts that this invocation has committed.
    parts: u32,
    draft: Draft,
}

/// A part in the making.
struct Draft {
    writer: PartWriter,
    first: Option<Bytes>,
    last: Bytes,
}

impl Draft {
    fn new(snapshot: &SnapshotRecord) -> Result<Self, StepError> {
        let writer = PartWriter::new(snapshot.compression, snapshot.part_bytes);
        Ok(Self {
            writer: writer.map_err(|error| encoding(&error))?,
            first: None,
            last: Bytes::new(),
        })
    }

    fn push(&mut self, item: &Bytes) -> Result<(), StepError> {
        self.writer.push(item).map_err(|error| encoding(&error))?;
        self.first.get_or_insert_with(|| item.clone());
        self.last = item.clone();
        Ok(())
    }

    /// Ends the part; an empty one is none.
    fn finish(self) -> Result<Option<FinishedPart>, StepError> {
        let Some(first) = self.first else {
            return Ok(None);
        };
        Ok(Some(FinishedPart {
            body: self.writer.finish().map_err(|error| encoding(&error))?,
            first_item: first.to_vec(),
            last_item: self.last.to_vec(),
        }))
    }
}

impl FileCopy<'_> {
    /// Copies until the file's end, or until the budget is spent.
    async fn run(&self) -> Result<Advance, StepError> {
        let FileLoad { deps, number, .. } = self.load;
        loop {
            let (checkpoint, version) = self.load.checkpoint().await?;
            if checkpoint.done {
                deps.observer.file_loaded(number, &checkpoint.totals);
                return Ok(Advance::Done);
            }
            if deps.should_stop(&self.load.budget) {
                return Ok(Advance::OutOfTime);
            }
            if self.snapshot.record.status == Status::Completed {
                let (id, number) = (&self.snapshot.record.id, number);
                return Err(StepError::Internal(format!(
                    "snapshot {id} is sealed, and file {number} is not in it"
                )));
            }
            match self.copy().await? {
                Copied::Whole(done) => self.commit_file(version, &done).await?,
                Copied::Reread => {}
                Copied::OutOfTime => return Ok(Advance::OutOfTime),
            }
        }
    }

    /// Records that the file is whole. Whoever else does the same has found the same.
    async fn commit_file(&self, seen: Option<i64>, done: &FileCheckpoint) -> Result<(), StepError> {
        let FileLoad {
            deps,
            record,
            number,
            ..
        } = self.load;
        let restores = &deps.restores;
        let commit = restores.commit_file(&record.id, number, seen, done).await;
        commit.map(|_| ()).map_err(StepError::Control)
    }

    /// Reads the file once, and writes what is in no part yet.
    async fn copy(&self) -> Result<Copied, StepError> {
        let FileLoad {
            deps,
            record,
            store,
            source,
            ..
        } = self.load;
        let target = self.part_target();
        let seen = target.seen().await?;
        let mut reading = Reading {
            behind: seen.checkpoint.next_key.clone(),
            seen,
            totals: LoadTotals::default(),
            lines: 0,
            parts: 0,
            draft: Draft::new(&self.snapshot.record)?,
        };
        let mut records = open_file(store, source, record.skip_checks).await?;
        while let Some(chunk) = records.next().await? {
            let before = reading.totals;
            for record in chunk {
                if deps.should_stop(&self.load.budget) {
                    return self.stop(&target, reading).await;
                }
                self.take(&mut reading, record)?;
                if reading.draft.writer.is_full()
                    && self.commit(&target, &mut reading, false).await? == Commit::Theirs
                {
                    return Ok(Copied::Reread);
                }
            }
            self.tell(&before, &reading.totals);
        }
        if let Some(key) = &reading.behind {
            return Err(StepError::PartCorrupt(format!(
                "{} does not have the item {key:?}, up to which it was copied",
                store.url(&source.object)
            )));
        }
        if !reading.seen.checkpoint.done
            && self.commit(&target, &mut reading, true).await? == Commit::Theirs
        {
            return Ok(Copied::Reread);
        }
        self.ended(&reading)
    }

    /// Every item that the file gave lies in a part, and nothing else does.
    fn ended(&self, reading: &Reading) -> Result<Copied, StepError> {
        let parts = reading.seen.checkpoint.parts.items;
        if parts != reading.totals.written {
            return Err(StepError::Internal(format!(
                "{}: {} items were taken from it, its parts hold {parts}",
                self.load.store.url(&self.load.source.object),
                reading.totals.written
            )));
        }
        Ok(Copied::Whole(FileCheckpoint {
            lines: reading.lines,
            totals: reading.totals,
            done: true,
        }))
    }

    fn part_target(&self) -> PartTarget<'_> {
        PartTarget {
            deps: &self.load.deps.snapshots,
            record: &self.snapshot.record,
            store: self.snapshot.store.as_ref(),
            layout: &self.snapshot.layout,
            segment: self.load.number,
        }
    }

    /// Time is up. What was read since the last part is left for the next round, which cuts it as this one would
    /// have; only a round that came to no part at all commits what it has, or none would ever get on.
    async fn stop(
        &self,
        target: &PartTarget<'_>,
        mut reading: Reading,
    ) -> Result<Copied, StepError> {
        if reading.parts == 0 && reading.draft.writer.items() > 0 {
            self.commit(target, &mut reading, false).await?;
        }
        Ok(Copied::OutOfTime)
    }

    /// Counts one record, and puts it into the part unless it is in one already.
    fn take(&self, reading: &mut Reading, record: Record) -> Result<(), StepError> {
        let broken = |reason: String| {
            let (url, line) = (self.load.store.url(&self.load.source.object), record.line);
            StepError::PartCorrupt(format!("{url} line {line}: {reason}"))
        };
        let schema = &self.load.record.key_schema;
        let WriteOp::Put(item) = &record.op else {
            return Err(broken("it deletes an item, which no snapshot does".into()));
        };
        let print = schema
            .print_of(item)
            .map_err(|error| broken(error.to_string()))?;
        reading.lines = record.line;
        reading.totals.read += 1;
        reading.totals.plain_bytes += record.plain_bytes;
        if self.load.is_superseded(&print)? {
            reading.totals.superseded += 1;
            return Ok(());
        }
        reading.totals.written += 1;
        if reading.seen.checkpoint.done {
            return Ok(());
        }
        if let Some(last) = &reading.behind {
            let key = schema
                .key_of(item)
                .map_err(|error| broken(error.to_string()))?;
            if key == *last {
                reading.behind = None;
            }
            return Ok(());
        }
        reading.draft.push(item)
    }

    /// Commits what the draft holds, if anything, and whether the file is at its end.
    async fn commit(
        &self,
        target: &PartTarget<'_>,
        reading: &mut Reading,
        done: bool,
    ) -> Result<Commit, StepError> {
        let draft = std::mem::replace(&mut reading.draft, Draft::new(&self.snapshot.record)?);
        let items = draft.writer.items();
        let key = match draft.first {
            Some(_) if !done => Some(self.load.record.key_schema.key_of(&draft.last)),
            _ => None,
        };
        let next = Checkpoint {
            next_key: key
                .transpose()
                .map_err(|error| StepError::Internal(error.to_string()))?,
            done,
            scan: ScanTotals {
                scanned: items,
                items,
                ..ScanTotals::default()
            },
            ..Checkpoint::default()
        };
        let commit = target
            .commit(&mut reading.seen, draft.finish()?, next)
            .await?;
        reading.parts += 1;
        Ok(commit)
    }

    fn tell(&self, before: &LoadTotals, after: &LoadTotals) {
        let more = LoadTotals {
            read: after.read - before.read,
            written: after.written - before.written,
            superseded: after.superseded - before.superseded,
            plain_bytes: after.plain_bytes - before.plain_bytes,
            ..LoadTotals::default()
        };
        self.load.deps.observer.loaded(self.load.number, &more);
    }
}

/// How far a reading came.
enum Copied {
    Whole(FileCheckpoint),
    /// Somebody else has moved the segment: read its checkpoint again.
    Reread,
    OutOfTime,
}

/// Compressing into memory does not fail for any reason that a user could mend.
fn encoding(error: &std::io::Error) -> StepError {
    StepError::Internal(format!("a part could not be compressed: {error}"))
}

/// Marks the snapshot as failed with its restore, so that nobody takes it for one that is being made.
pub(crate) async fn mark_failed(
    deps: &Deps,
    record: &RestoreRecord,
    reason: &str,
) -> Result<(), StepError> {
    let id = record.id.as_snapshot();
    let known = deps
        .control
        .snapshot(id)
        .await
        .map_err(StepError::Control)?;
    let ours = known.is_some_and(|known| known.value.materialized.is_some());
    if ours {
        status::mark_failed(deps, id, None, reason).await?;
    }
    Ok(())
}
