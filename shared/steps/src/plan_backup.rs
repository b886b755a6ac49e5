//! PlanBackup: decides what the snapshot will be, and claims its name.
//!
//! Idempotent: a retry of the same execution finds its own record and goes on where it broke off. What is
//! written, in order: a marker that tries the store's create-if-absent, what capturing a handoff leaves
//! ([`crate::capture_handoff`]), the record in the control table, `backup.json` as `running` (created only if absent),
//! `table.json`. Before the record nothing is claimed.

use bytes::Bytes;
use highwater_domain::control_table::Cas;
use highwater_domain::ids::{SnapshotId, TableRef, UnixMillis};
use highwater_domain::layout::{Destination, Layout};
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_domain::scan::ScanTotals;
use highwater_domain::snapshot::{PartTotals, SnapshotRecord, Status, Verified};
use highwater_domain::table::TableSettings;
use highwater_domain::workflow_history::backup_needs_children;
use serde::{Deserialize, Serialize};

use crate::deps::{Deps, SnapshotDeps};
use crate::error::StepError;
use crate::plan_handoff;
use crate::request::{BackupRequest, DEFAULT_CONCURRENCY, DEFAULT_PART_BYTES};
use crate::resume_backup;
use crate::status;

/// The most branches that one state machine execution starts; its history holds 25,000 events.
const MAX_LANES: u32 = 1000;

/// The input of the state `PlanBackup`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanInput {
    /// What the user asks for: the execution's input.
    pub request: BackupRequest,
    /// The execution, which a retry shares.
    pub execution_id: String,
    /// When the execution started, RFC 3339.
    pub started_at: String,
}

/// The output of the state `PlanBackup`: numbers and ids, never items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOutput {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The segments that the workflow's branches begin with.
    pub segments: Vec<u32>,
    /// How many branches may run at once.
    pub concurrency: u32,
    /// Whether each branch needs an execution of its own, because one execution's history would not hold them all.
    pub distributed: bool,
}

impl PlanInput {
    /// The id of the snapshot that this input is about.
    pub fn snapshot_id(&self) -> Result<SnapshotId, StepError> {
        if let Some(id) = &self.request.snapshot_id {
            return Ok(id.clone());
        }
        let started_at = UnixMillis::from_rfc3339(&self.started_at).ok_or_else(|| {
            StepError::InvalidInput(format!(
                "`started_at` is {:?}, which is no RFC 3339 time",
                self.started_at
            ))
        })?;
        Ok(SnapshotId::of_execution(&self.execution_id, started_at))
    }
}

/// Plans a snapshot, or takes up one that was stopped.
pub async fn run(deps: &Deps, input: &PlanInput) -> Result<PlanOutput, StepError> {
    input.request.check()?;
    let id = input.snapshot_id()?;
    let known = deps
        .control
        .snapshot(&id)
        .await
        .map_err(StepError::Control)?;
    let record = match known {
        Some(known) if input.request.resume => resume_backup::resume(deps, input, known).await?,
        Some(known) if known.value.request_id == input.execution_id => known.value,
        Some(known) => return Err(exists(&id, &known.value.destination)),
        None if input.request.resume => {
            return Err(StepError::SnapshotNotFound {
                id,
                place: "the control table".into(),
            });
        }
        None => plan(deps, input).await?,
    };
    claim(deps, &record, input.request.resume).await?;
    Ok(PlanOutput {
        snapshot_id: record.id.clone(),
        segments: if record.status == Status::Completed {
            Vec::new()
        } else {
            (0..record.lanes).collect()
        },
        concurrency: record.concurrency,
        distributed: !deps.pace.is_one_process() && backup_needs_children(&record),
    })
}

fn exists(id: &SnapshotId, place: &str) -> StepError {
    StepError::SnapshotExists {
        id: id.clone(),
        place: place.to_owned(),
    }
}

/// What [`run`] would record for a new snapshot. Writes nothing.
pub async fn preview(deps: &Deps, input: &PlanInput) -> Result<SnapshotRecord, StepError> {
    input.request.check()?;
    let (Some(table), Some(to)) = (&input.request.table, &input.request.to) else {
        return Err(StepError::InvalidInput(
            "a plan for a new snapshot needs `table` and `to`".into(),
        ));
    };
    let settings = describe_active(deps, table).await?;
    let record = decide(deps, input, input.snapshot_id()?, &settings, &to.parse()?)?;
    let store = status::open_store(deps, &record)?;
    refuse_existing(store.as_ref(), &status::layout(&record)?, &record).await?;
    Ok(record)
}

/// A new snapshot: describes the table, tries the store, and records the plan.
async fn plan(deps: &Deps, input: &PlanInput) -> Result<SnapshotRecord, StepError> {
    let record = preview(deps, input).await?;
    let store = status::open_store(deps, &record)?;
    let layout = status::layout(&record)?;
    prove_conditional_create(store.as_ref(), &layout).await?;
    let record = match plan_handoff::with_handoff(deps, &input.request, record, &store).await {
        Ok(record) => record,
        Err(error) => {
            let _ = store.delete(&[layout.probe()]).await;
            return Err(error);
        }
    };
    match deps.control.create_snapshot(&record).await {
        Ok(Cas::Applied(_)) => Ok(record),
        Ok(Cas::Lost) => {
            // Taken between our look and now: by a rival, or by this very call, whose answer got lost.
            let known = status::load(deps, &record.id).await?.value;
            if known.request_id == record.request_id {
                Ok(known)
            } else {
                Err(exists(&record.id, &record.destination))
            }
        }
        Err(failure) => {
            // Nothing is claimed, so nothing should stay. If this fails too, an empty marker stays.
            let _ = store.delete(&[layout.probe()]).await;
            Err(StepError::Control(failure))
        }
    }
}

pub(crate) async fn describe_active(
    deps: &Deps,
    table: &TableRef,
) -> Result<TableSettings, StepError> {
    let settings = deps
        .describer
        .describe(table.as_str())
        .await
        .map_err(StepError::Table)?;
    let status = settings
        .status()
        .map_err(|source| settings_error(table, source))?;
    if matches!(status, "ACTIVE" | "UPDATING") {
        return Ok(settings);
    }
    Err(StepError::TableNotActive {
        table: table.to_string(),
        status: status.to_owned(),
    })
}

pub(crate) fn settings_error(
    table: &TableRef,
    source: highwater_domain::table::SettingsError,
) -> StepError {
    StepError::Settings {
        table: table.to_string(),
        source,
    }
}

/// The frozen plan: a pure function of the request, the table's settings and the time.
fn decide(
    deps: &Deps,
    input: &PlanInput,
    id: SnapshotId,
    settings: &TableSettings,
    destination: &Destination,
) -> Result<SnapshotRecord, StepError> {
    let request = &input.request;
    let name = settings.name().map_err(|source| StepError::Settings {
        table: String::new(),
        source,
    })?;
    let table = request.table.clone().map_or_else(|| name.parse(), Ok)?;
    let key_schema = settings
        .key_schema()
        .map_err(|source| settings_error(&table, source))?;
    let concurrency = request.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
    let total_segments = request.segments_for(settings.size_bytes(), concurrency);
    let max_items = request.max_items.unwrap_or(0);
    // One lane walks the segments one after the other, so that each knows exactly how many items are left.
    let lanes = if max_items > 0 {
        1
    } else {
        total_segments.min(MAX_LANES)
    };
    Ok(SnapshotRecord {
        id,
        request_id: input.execution_id.clone(),
        table_arn: settings
            .arn()
            .map_err(|source| settings_error(&table, source))?
            .to_owned(),
        table_id: settings.table_id().map(str::to_owned),
        selection: request.selection().with_keys(&key_schema),
        key_schema,
        destination: destination.to_string(),
        total_segments,
        lanes,
        concurrency: concurrency.min(lanes),
        consistent: request.consistent.unwrap_or(true),
        read_capacity: request.read_capacity_for(settings)?,
        max_items,
        compression: request.compression.unwrap_or_default(),
        part_bytes: request.part_bytes.unwrap_or(DEFAULT_PART_BYTES),
        with_stream: request.with_stream,
        handoff: None,
        no_handoff: None,
        started_at: deps.clock.now(),
        estimated_items: settings.item_count(),
        estimated_bytes: settings.size_bytes(),
        status: Status::Running,
        ended_at: None,
        error: None,
        verified: Verified::default(),
        materialized: None,
        table,
    })
}

/// A snapshot of another control table may live at this very place.
pub(crate) async fn refuse_existing(
    store: &dyn ObjectStore,
    layout: &Layout,
    record: &SnapshotRecord,
) -> Result<(), StepError> {
    match read_metadata(store, layout).await? {
        Some(metadata) if metadata.request_id != record.request_id => {
            Err(exists(&record.id, &store.url(layout.root())))
        }
        _ => Ok(()),
    }
}

async fn read_metadata(
    store: &dyn ObjectStore,
    layout: &Layout,
) -> Result<Option<Metadata>, StepError> {
    let Some(body) = store
        .read(&layout.metadata())
        .await
        .map_err(StepError::Store)?
    else {
        return Ok(None);
    };
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        StepError::PartCorrupt(format!(
            "{} is not a backup.json: {error}",
            store.url(&layout.metadata())
        ))
    })
}

/// How often a second create may succeed before it is the store's doing.
const PROOFS: u32 = 3;

/// A store that lets a second create succeed would let two workers claim one part.
pub(crate) async fn prove_conditional_create(
    store: &dyn ObjectStore,
    layout: &Layout,
) -> Result<(), StepError> {
    let marker = || NewObject {
        key: layout.probe(),
        body: Bytes::new(),
        content_type: "application/octet-stream",
        item_count: None,
        ..NewObject::default()
    };
    store.create(marker()).await.map_err(StepError::Store)?;
    for _ in 0..PROOFS {
        // A second copy of this plan that fails deletes the marker, perhaps between two creates of ours.
        if store.create(marker()).await.map_err(StepError::Store)? == Creation::Exists {
            return Ok(());
        }
    }
    let place = store.url(&layout.probe());
    let _ = store.delete(&[layout.probe()]).await;
    Err(StepError::StoreUnsuitable { place })
}

/// Shows the claim in the store: `backup.json` and `table.json`. Repeated by every retry and resume.
async fn claim(deps: &Deps, record: &SnapshotRecord, resumed: bool) -> Result<(), StepError> {
    let store = status::open_store(deps, record)?;
    let layout = status::layout(record)?;
    claim_place(deps, store.as_ref(), record, resumed).await?;
    if store
        .facts(&layout.table_settings())
        .await
        .map_err(StepError::Store)?
        .is_none()
    {
        let settings = deps
            .describer
            .describe(record.table.as_str())
            .await
            .map_err(StepError::Table)?;
        let object = status::json_object(layout.table_settings(), &settings)?;
        store.create(object).await.map_err(StepError::Store)?;
    }
    Ok(())
}

/// Shows the claim in the store: `backup.json` as `running`.
///
/// Whoever uses another control table may claim the same id in the same place at the same time. The object
/// that was created first decides; the other's record goes again.
pub(crate) async fn claim_place(
    deps: &SnapshotDeps,
    store: &dyn ObjectStore,
    record: &SnapshotRecord,
    resumed: bool,
) -> Result<(), StepError> {
    let layout = status::layout(record)?;
    let metadata = Metadata::of(record, &PartTotals::default(), &ScanTotals::default());
    let object = status::metadata_object(&layout, &metadata)?;
    if store.create(object).await.map_err(StepError::Store)? == Creation::Created {
        return Ok(());
    }
    let there = read_metadata(store, &layout).await?;
    let foreign = |there: Metadata| there.request_id != record.request_id;
    if !resumed && there.is_some_and(foreign) {
        deps.control
            .forget_snapshot(&record.id)
            .await
            .map_err(StepError::Control)?;
        return Err(exists(&record.id, &store.url(layout.root())));
    }
    status::project(deps, store, &record.id).await
}
