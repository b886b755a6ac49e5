//! Copies one file of a restore into a segment of a new snapshot.
//!
//! A file is read from its beginning by every invocation: what is committed already is counted and not written again,
//! so that the sums of a file are a function of the file alone, whoever read it and however often it broke off.

use bytes::Bytes;
use highwater_domain::item_lines::Record;
use highwater_domain::key::Key;
use highwater_domain::part::PartWriter;
use highwater_domain::restore::{FileCheckpoint, LoadTotals};
use highwater_domain::scan::ScanTotals;
use highwater_domain::snapshot::{Checkpoint, SnapshotRecord, Status};
use highwater_domain::table_writer::WriteOp;

use crate::error::StepError;
use crate::load_file::{Advance, FileLoad};
use crate::materialize::NewSnapshot;
use crate::write_part::{Commit, FinishedPart, PartTarget, Seen};

/// One file on its way into the new snapshot.
pub(crate) struct FileCopy<'a> {
    pub(crate) load: FileLoad<'a>,
    pub(crate) snapshot: &'a NewSnapshot,
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
    pub(crate) async fn run(&self) -> Result<Advance, StepError> {
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
        let mut records = self.load.open().await?;
        while let Some(chunk) = records.next().await? {
            let before = reading.totals;
            for record in chunk {
                if deps.should_stop(&self.load.budget) {
                    return self.stop(&target, reading).await;
                }
                self.take(&mut reading, &record)?;
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
    fn take(&self, reading: &mut Reading, record: &Record) -> Result<(), StepError> {
        let broken = |reason: String| {
            let (url, line) = (self.load.store.url(&self.load.source.object), record.line);
            StepError::PartCorrupt(format!("{url} line {line}: {reason}"))
        };
        let schema = &self.load.record.key_schema;
        let WriteOp::Put(item) = &record.op else {
            return Err(broken("it deletes an item, which no snapshot does".into()));
        };
        let print = schema
            .print_of_checked(item)
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
