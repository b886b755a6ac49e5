//! FinalizeBackup: ends a snapshot, one way or the other.
//!
//! Only this step writes `completed`, and only after it has seen every segment done and every part in the
//! store with its size, hash and count. It checkpoints its own progress, so that a snapshot of any number of
//! parts is checked by as many invocations as it takes.

use highwater_domain::budget::Budget;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::ids::SnapshotId;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::part_reader::read_part;
use highwater_domain::snapshot::{PartId, PartRow, SnapshotRecord, Status, Verified};
use serde::{Deserialize, Serialize};

use crate::deps::{Deps, JobEnd, SnapshotDeps};
use crate::error::StepError;
use crate::failure_input::FailureInput;
use crate::hold_handoff;
use crate::plan_backup::PlanInput;
use crate::request::BackupRequest;
use crate::seal;
use crate::status::{self, Progress};

/// How many part rows are read, and then checked at once. Between two reads the clock is looked at.
const PARTS_PER_READ: u32 = 16;

/// How many parts are checked between two checkpoints.
const PARTS_PER_CHECKPOINT: u64 = 500;

/// The input of the state `FinalizeBackup`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FinalizeInput {
    /// The snapshot, once there is one.
    pub snapshot_id: Option<SnapshotId>,
    /// The execution whose snapshot it is.
    pub execution_id: Option<String>,
    /// When that execution started; with the request it tells the id of a snapshot whose plan broke off.
    pub started_at: Option<String>,
    /// The execution's input.
    pub request: Option<BackupRequest>,
    /// What went wrong; the snapshot is then marked `failed` and nothing is checked.
    pub failure: Option<FailureInput>,
}

/// The output of the state `FinalizeBackup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeOutput {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Whether it ended; otherwise the state runs again.
    pub done: bool,
    /// Its status now; `None` if there never was a record.
    pub status: Option<Status>,
}

impl FinalizeInput {
    /// The id of the snapshot that is to be ended.
    pub fn snapshot_id(&self) -> Result<SnapshotId, StepError> {
        if let Some(id) = &self.snapshot_id {
            return Ok(id.clone());
        }
        let (Some(execution_id), Some(started_at)) = (&self.execution_id, &self.started_at) else {
            return Err(StepError::InvalidInput(
                "`snapshot_id`, or `execution_id` and `started_at`, must say which snapshot to end"
                    .into(),
            ));
        };
        PlanInput {
            request: self.request.clone().unwrap_or_default(),
            execution_id: execution_id.clone(),
            started_at: started_at.clone(),
        }
        .snapshot_id()
    }
}

/// Seals the snapshot, or marks it failed.
pub async fn run(
    deps: &Deps,
    input: &FinalizeInput,
    budget: Budget,
) -> Result<FinalizeOutput, StepError> {
    let request = input.request.as_ref();
    if let Some(table) = request.and_then(|request| request.table.as_ref()) {
        deps.observer.about(table.name());
    }
    let output = end(deps, input, budget).await?;
    if input.failure.is_some() {
        deps.observer.ended(JobEnd::BackupFailed);
    } else if output.done {
        deps.observer.ended(JobEnd::BackupCompleted);
    }
    Ok(output)
}

async fn end(
    deps: &Deps,
    input: &FinalizeInput,
    budget: Budget,
) -> Result<FinalizeOutput, StepError> {
    let id = input.snapshot_id()?;
    let output = |done, status| FinalizeOutput {
        snapshot_id: id.clone(),
        done,
        status,
    };
    if let Some(failure) = &input.failure {
        let status = fail(deps, &id, input.execution_id.as_deref(), failure).await?;
        return Ok(output(true, status));
    }
    let current = status::load(deps, &id).await?;
    let store = status::open_store(deps, &current.value)?;
    if current.value.status == Status::Completed {
        // Sealed by an earlier try that may have died before it could say so.
        status::project(deps, store.as_ref(), &id).await?;
        return Ok(output(true, Some(Status::Completed)));
    }
    refuse_foreign(&current.value, input.execution_id.as_deref())?;
    hold_handoff::check_source(deps, &current.value).await?;
    let sealed = check_and_seal(deps, store.as_ref(), current, budget).await?;
    let status = if sealed {
        Status::Completed
    } else {
        Status::Running
    };
    Ok(output(sealed, Some(status)))
}

/// Marks a snapshot as failed, if it is there and not sealed. Gives its status after that.
pub async fn fail(
    deps: &SnapshotDeps,
    id: &SnapshotId,
    execution: Option<&str>,
    failure: &FailureInput,
) -> Result<Option<Status>, StepError> {
    let known = deps.control.snapshot(id).await;
    let Some(known) = known.map_err(StepError::Control)? else {
        return Ok(None);
    };
    if failure.is_a_childs() && is_failed_by(&known.value, execution) {
        // The child has told why, and died perhaps before backup.json could say it.
        let store = status::open_store(deps, &known.value)?;
        status::project(deps, store.as_ref(), id).await?;
        return Ok(Some(Status::Failed));
    }
    let status = status::mark_failed(deps, id, execution, &failure.message()).await?;
    Ok(Some(status))
}

/// Seals the snapshot if every part is in the store and its handoff still holds. `false` if time ran out before, or another copy
/// has sealed it.
async fn check_and_seal(
    deps: &Deps,
    store: &dyn ObjectStore,
    current: Versioned<SnapshotRecord>,
    budget: Budget,
) -> Result<bool, StepError> {
    let Some((checked, progress)) = check(deps, store, current, budget).await? else {
        return Ok(false);
    };
    // Last, because the check of the parts may have taken hours.
    let Some(checked) = hold_handoff::judge(deps, store, checked).await? else {
        return Ok(false);
    };
    seal::seal(deps, store, checked, &progress).await?;
    Ok(true)
}

/// Finds every part of a snapshot whose segments are all done in the store, as its row says. `None` if time ran out before, or
/// another copy has sealed it.
pub(crate) async fn check(
    deps: &SnapshotDeps,
    store: &dyn ObjectStore,
    current: Versioned<SnapshotRecord>,
    budget: Budget,
) -> Result<Option<(Versioned<SnapshotRecord>, Progress)>, StepError> {
    let progress = all_segments_done(deps, &current.value).await?;
    let checked = check_parts(deps, store, current, &budget).await?;
    Ok(checked.map(|checked| (checked, progress)))
}

fn is_failed_by(record: &SnapshotRecord, execution_id: Option<&str>) -> bool {
    record.status == Status::Failed && execution_id == Some(&record.request_id)
}

/// A snapshot that was marked failed, or taken over by another execution, is no longer ours to end.
fn refuse_foreign(record: &SnapshotRecord, execution_id: Option<&str>) -> Result<(), StepError> {
    let interrupted = |reason: &str| StepError::Interrupted {
        id: record.id.clone(),
        reason: reason.to_owned(),
    };
    if execution_id.is_some_and(|execution| execution != record.request_id) {
        return Err(interrupted("another execution has taken it over"));
    }
    if record.status == Status::Running {
        Ok(())
    } else {
        Err(interrupted("it was marked failed meanwhile"))
    }
}

async fn all_segments_done(
    deps: &SnapshotDeps,
    record: &SnapshotRecord,
) -> Result<Progress, StepError> {
    let progress = status::progress(deps.control.as_ref(), &record.id).await?;
    let unfinished = u64::from(record.total_segments).saturating_sub(progress.segments_done);
    if unfinished == 0 {
        return Ok(progress);
    }
    Err(StepError::SegmentsUnfinished {
        id: record.id.clone(),
        unfinished,
        total: record.total_segments,
    })
}

/// Checks every part from the finalizer's checkpoint on. `None` if time ran out; the checkpoint tells where.
async fn check_parts(
    deps: &SnapshotDeps,
    store: &dyn ObjectStore,
    mut current: Versioned<SnapshotRecord>,
    budget: &Budget,
) -> Result<Option<Versioned<SnapshotRecord>>, StepError> {
    let mut verified = current.value.verified.clone();
    let mut saved_parts = verified.totals.parts;
    loop {
        let id = &current.value.id;
        let rows = deps
            .control
            .parts(id, verified.after, PARTS_PER_READ)
            .await
            .map_err(StepError::Control)?;
        let at_end = rows.is_empty();
        let stopping = deps.should_stop(budget);
        if at_end || stopping || verified.totals.parts - saved_parts >= PARTS_PER_CHECKPOINT {
            match save(deps, current, &verified).await? {
                Some(saved) => current = saved,
                None => return Ok(None),
            }
            saved_parts = current.value.verified.totals.parts;
            if current.value.verified.after != verified.after {
                verified.clone_from(&current.value.verified);
                continue;
            }
        }
        if at_end {
            return Ok(Some(current));
        }
        if stopping && deps.stop.is_set() {
            return Err(StepError::Interrupted {
                id: current.value.id,
                reason: "a stop was asked for".into(),
            });
        }
        if stopping {
            return Ok(None);
        }
        check_rows(store, &current.value, &rows, &mut verified).await?;
    }
}

/// Stores how far the parts are checked. `None` if another copy of this execution has sealed the snapshot meanwhile:
/// the next look finds it so.
async fn save(
    deps: &SnapshotDeps,
    mut current: Versioned<SnapshotRecord>,
    verified: &Verified,
) -> Result<Option<Versioned<SnapshotRecord>>, StepError> {
    loop {
        // A second copy checks the same parts in the same order: whoever is further counts for both.
        if current.value.verified.after >= verified.after {
            return Ok(Some(current));
        }
        current.value.verified = verified.clone();
        let updated = deps
            .control
            .update_snapshot(current.version, &current.value)
            .await;
        match updated.map_err(StepError::Control)? {
            Cas::Applied(version) => {
                current.version = version;
                return Ok(Some(current));
            }
            // Somebody else's write, or this very one, whose answer got lost.
            Cas::Lost => match status::again(deps, &current.value).await? {
                Some(known) => current = known,
                None => return Ok(None),
            },
        }
    }
}

async fn check_rows(
    store: &dyn ObjectStore,
    record: &SnapshotRecord,
    rows: &[PartRow],
    verified: &mut Verified,
) -> Result<(), StepError> {
    for row in rows {
        check_order(verified.after, row.id)?;
        verified.after = Some(row.id);
        verified.totals.add(row);
    }
    // Collected first: a stream over a closure that borrows is not `Send` for every lifetime.
    let looks: Vec<_> = rows.iter().map(|row| look_at(store, row)).collect();
    let looks = futures::future::try_join_all(looks).await?;
    // One part in memory at a time, whatever its size.
    for (row, _) in rows
        .iter()
        .zip(looks)
        .filter(|(_, look)| *look == Look::NeedsReading)
    {
        read_back(store, record, row).await?;
    }
    Ok(())
}

/// The parts of a segment are numbered from 0 without holes.
fn check_order(before: Option<PartId>, part: PartId) -> Result<(), StepError> {
    let follows = match before {
        Some(before) if before.segment == part.segment => part.number == before.number + 1,
        Some(before) => part.segment > before.segment && part.number == 0,
        None => part.number == 0,
    };
    if follows {
        return Ok(());
    }
    Err(StepError::PartMissing(format!(
        "before part {} of segment {}",
        part.number, part.segment
    )))
}

/// What the store's own facts say of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is what was written.
    Right,
    /// It is there and has its size; hash and count the store does not keep.
    NeedsReading,
}

/// Existence, size and, where the store keeps them, hash and count of one part.
async fn look_at(store: &dyn ObjectStore, row: &PartRow) -> Result<Look, StepError> {
    let url = || store.url(&row.object);
    let facts = store.facts(&row.object).await.map_err(StepError::Store)?;
    let facts = facts.ok_or_else(|| StepError::PartMissing(url()))?;
    if facts.bytes != row.stored_bytes {
        let (found, expected) = (facts.bytes, row.stored_bytes);
        return Err(StepError::PartCorrupt(format!(
            "{} has {found} bytes where {expected} were written",
            url()
        )));
    }
    let (Some(sha256), Some(items)) = (facts.sha256, facts.item_count) else {
        return Ok(Look::NeedsReading);
    };
    if hex::encode(sha256) == row.sha256 && items == row.items {
        return Ok(Look::Right);
    }
    Err(StepError::PartCorrupt(format!(
        "{} is not what was written: hash or item count differ",
        url()
    )))
}

async fn read_back(
    store: &dyn ObjectStore,
    record: &SnapshotRecord,
    row: &PartRow,
) -> Result<(), StepError> {
    let body = store.read(&row.object).await.map_err(StepError::Store)?;
    let body = body.ok_or_else(|| StepError::PartMissing(store.url(&row.object)))?;
    read_part(&body, row, record.compression, |_| ())?;
    Ok(())
}
