//! ScanSegment: scans one segment from its checkpoint on, and writes its parts.
//!
//! Any number of invocations may work on one segment, one after the other or at once: the chain of parts
//! is decided by the commit protocol alone ([`crate::write_part`]), never by a clock or a lease. What a
//! second worker costs is read capacity.

use highwater_domain::budget::Budget;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::key::Key;
use highwater_domain::part::{PartWriter, room_of};
use highwater_domain::scan::{Page, ScanTotals};
use highwater_domain::snapshot::{Checkpoint, SnapshotRecord, Status};
use serde::{Deserialize, Serialize};

use crate::deps::Deps;
use crate::error::StepError;
use crate::hold_handoff;
use crate::segment_pages::{Fetched, SegmentPages};
use crate::status;
use crate::write_part::{Commit, FinishedPart, PartTarget, Seen};

/// A part that is not full is cut after so long, so that a slow scan loses little to a crash.
const PART_MAX_AGE_MS: u64 = 5 * 60 * 1000;

/// The input of the state `ScanSegment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanInput {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The segment to scan, from 0.
    pub segment: u32,
}

/// The output of the state `ScanSegment`, which is its next input until `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanOutput {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The segment that this branch has to go on with: the same, or the next of its lane.
    pub segment: u32,
    /// Whether this branch has nothing left to do.
    pub done: bool,
}

/// Scans until the segment ends, or until the budget is spent: then the output says `done: false`.
pub async fn run(deps: &Deps, input: &ScanInput, budget: Budget) -> Result<ScanOutput, StepError> {
    let record = running(deps, &input.snapshot_id).await?;
    if input.segment >= record.total_segments {
        let (segment, total) = (input.segment, record.total_segments);
        return Err(StepError::InvalidInput(format!(
            "segment {segment} of {total} does not exist"
        )));
    }
    hold_handoff::check_source(deps, &record).await?;
    deps.pace.follow(&record);
    let store = status::open_store(deps, &record)?;
    let layout = status::layout(&record)?;
    let target = PartTarget {
        deps,
        record: &record,
        store: store.as_ref(),
        layout: &layout,
        segment: input.segment,
    };
    let output = |segment, done| ScanOutput {
        snapshot_id: input.snapshot_id.clone(),
        segment,
        done,
    };
    loop {
        let seen = target.seen().await?;
        if seen.checkpoint.done {
            deps.observer.segment_done(input.segment);
            let next = record.segment_after(input.segment);
            return Ok(output(next.unwrap_or(input.segment), next.is_none()));
        }
        let stopped = deps.should_stop(&budget)
            || advance(deps, &target, seen, budget).await? == Advance::OutOfTime;
        if stopped && deps.stop.is_set() {
            return Err(StepError::Interrupted {
                id: record.id,
                reason: "a stop was asked for".into(),
            });
        }
        if stopped {
            return Ok(output(input.segment, false));
        }
    }
}

async fn running(deps: &Deps, id: &SnapshotId) -> Result<SnapshotRecord, StepError> {
    let record = status::load(deps, id).await?.value;
    if record.status == Status::Running {
        return Ok(record);
    }
    let reason = record
        .error
        .unwrap_or_else(|| format!("it is {}", record.status.as_str()));
    Err(StepError::Interrupted {
        id: id.clone(),
        reason,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advance {
    /// Read the checkpoint again: it is done, or somebody else has moved it.
    Reread,
    /// Time is up; what was scanned is committed.
    OutOfTime,
}

/// Why a part ends where it does.
#[derive(Debug)]
enum End {
    Full,
    Segment,
    OutOfTime,
    Failed(StepError),
}

/// Writes parts from a checkpoint on, until one is the last or somebody else's.
async fn advance(
    deps: &Deps,
    target: &PartTarget<'_>,
    mut seen: Seen,
    budget: Budget,
) -> Result<Advance, StepError> {
    let record = target.record;
    let quota = items_left(deps, record).await?;
    let start = seen.checkpoint.next_key.clone();
    let pages = SegmentPages::new(
        deps.into(),
        record.into(),
        target.segment,
        start,
        quota,
        budget,
    );
    let mut items = SegmentItems {
        deps,
        record,
        pages,
        page: None,
        quota,
    };
    let mut room = Vec::new();
    loop {
        let draft = items.fill(room, seen.checkpoint.next_key.clone()).await?;
        let done = matches!(draft.end, End::Segment);
        let step = Checkpoint {
            next_key: draft.position.clone().filter(|_| !done),
            done,
            scan: draft.scan,
            ..Checkpoint::default()
        };
        let moved = draft.writer.items() > 0 || done || draft.position != seen.checkpoint.next_key;
        let (end, part) = draft.finish()?;
        let body = part.as_ref().map(|part| part.body.body.clone());
        if moved && target.commit(&mut seen, part, step).await? == Commit::Theirs {
            return Ok(Advance::Reread);
        }
        room = body.map(room_of).unwrap_or_default();
        match end {
            End::Full => {}
            End::Segment => return Ok(Advance::Reread),
            End::OutOfTime => return Ok(Advance::OutOfTime),
            End::Failed(error) => return Err(error),
        }
    }
}

/// How many items may still be taken, under `max_items`: exact, because then one lane walks the segments in order.
async fn items_left(deps: &Deps, record: &SnapshotRecord) -> Result<Option<u64>, StepError> {
    if record.max_items == 0 {
        return Ok(None);
    }
    let taken = status::progress(deps.control.as_ref(), &record.id)
        .await?
        .parts
        .items;
    Ok(Some(record.max_items.saturating_sub(taken)))
}

/// The items of a segment, in scan order, cut into parts.
struct SegmentItems<'a> {
    deps: &'a Deps,
    record: &'a SnapshotRecord,
    pages: SegmentPages,
    /// The page at work, and the index of its first item that is in no part yet.
    page: Option<(Page, usize)>,
    quota: Option<u64>,
}

/// A part in the making.
struct Draft {
    writer: PartWriter,
    first_item: Option<Vec<u8>>,
    last_item: Vec<u8>,
    /// Where the scan goes on after this part.
    position: Option<Key>,
    scan: ScanTotals,
    end: End,
}

impl SegmentItems<'_> {
    /// Fills one part from `position` on.
    async fn fill(&mut self, room: Vec<u8>, position: Option<Key>) -> Result<Draft, StepError> {
        let record = self.record;
        let writer = PartWriter::within(room, record.compression, record.part_bytes);
        let writer = writer.map_err(encoding)?;
        let mut draft = Draft {
            writer,
            first_item: None,
            last_item: Vec::new(),
            position,
            scan: ScanTotals::default(),
            end: End::Full,
        };
        let began = self.deps.clock.now();
        loop {
            if self.quota == Some(0) {
                draft.end = End::Segment;
                return Ok(draft);
            }
            if let Some((page, index)) = self.page.take()
                && let Some(end) = self.take_items(page, index, &mut draft, began)?
            {
                draft.end = end;
                return Ok(draft);
            }
            match self.pages.next().await {
                Ok(Some(Fetched::Page(page, throttles))) => {
                    draft.scan.pages += 1;
                    draft.scan.consumed_capacity += page.consumed_capacity;
                    draft.scan.throttles += throttles;
                    if record.selection.filter.is_some() {
                        draft.scan.scanned += page.scanned_count;
                    }
                    self.page = Some((page, 0));
                }
                Ok(Some(Fetched::OutOfTime)) => draft.end = End::OutOfTime,
                Ok(None) => draft.end = End::Segment,
                Err(error) => draft.end = End::Failed(error),
            }
            if self.page.is_none() {
                return Ok(draft);
            }
        }
    }

    /// Moves items of one page into the part. `Some` if the part ends here.
    ///
    /// A part may end inside a page, at the key of its last item. Not so under a filter: how many items
    /// were passed over is known only for whole pages, and the sums must stay exact.
    fn take_items(
        &mut self,
        page: Page,
        from: usize,
        draft: &mut Draft,
        began: UnixMillis,
    ) -> Result<Option<End>, StepError> {
        let whole_pages = self.record.selection.filter.is_some();
        let mut index = from;
        let mut full = false;
        while let Some(item) = page
            .items
            .get(index)
            .filter(|_| !full && self.quota != Some(0))
        {
            draft.writer.push(item).map_err(encoding)?;
            draft.first_item.get_or_insert_with(|| item.to_vec());
            index += 1;
            self.quota = self.quota.map(|left| left - 1);
            full = !whole_pages && draft.writer.is_full();
        }
        let taken = (index - from) as u64;
        draft.scan.items += taken;
        draft.scan.scanned += if whole_pages { 0 } else { taken };
        if let Some(last) = index
            .checked_sub(1)
            .filter(|_| taken > 0)
            .and_then(|last| page.items.get(last))
        {
            last.clone_into(&mut draft.last_item);
        }
        if index < page.items.len() {
            let key = self.record.key_schema.key_of(&draft.last_item);
            draft.position = Some(key.map_err(|error| StepError::PartCorrupt(error.to_string()))?);
            self.page = Some((page, index));
            return Ok(Some(if self.quota == Some(0) {
                End::Segment
            } else {
                End::Full
            }));
        }
        draft.position.clone_from(&page.last_evaluated_key);
        if page.last_evaluated_key.is_none() {
            return Ok(Some(End::Segment));
        }
        let old = self.deps.clock.now().since(began) >= PART_MAX_AGE_MS;
        Ok((full || draft.writer.is_full() || old).then_some(End::Full))
    }
}

impl Draft {
    /// Ends the part; an empty one is none.
    fn finish(self) -> Result<(End, Option<FinishedPart>), StepError> {
        let Some(first_item) = self.first_item else {
            return Ok((self.end, None));
        };
        let body = self.writer.finish().map_err(encoding)?;
        Ok((
            self.end,
            Some(FinishedPart {
                body,
                first_item,
                last_item: self.last_item,
            }),
        ))
    }
}

/// Compressing into memory does not fail for any reason that a user could mend.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn encoding(error: std::io::Error) -> StepError {
    StepError::Internal(format!("a part could not be compressed: {error}"))
}
