//! PlanRestore: decides what the restore will do, claims its id, and makes the table, or the place of a new snapshot.
//!
//! Idempotent: a retry of the same execution finds its own record and goes on where it broke off. What is written,
//! in order: to a second, the list of the log's objects in the work folder; the record in the control table; the
//! table; the table's id in the record. Before the record nothing is claimed, and no table that is not this restore's
//! is ever filled where a new one was asked for.

use highwater_domain::backup_source::Catalog;
use highwater_domain::budget::Budget;
use highwater_domain::control_table::Cas;
use highwater_domain::engine_choice::{
    Chosen, EngineChoice, EngineFacts, choose_engine, import_source,
};
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::{TableRef, UnixMillis};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::{Engine, RestoreId, RestoreRecord};
use highwater_domain::restore_point::{RestorePoint, TablePlace};
use highwater_domain::snapshot::Status;
use highwater_domain::table::TableSettings;
use highwater_domain::table_plan::{TablePlan, TargetPlace};
use highwater_domain::workflow_history::restore_needs_children;
use serde::{Deserialize, Serialize};

use crate::create_table;
use crate::decide_restore::{Decided, decide, decide_snapshot};
use crate::error::StepError;
use crate::import_table;
use crate::load_part;
use crate::materialize;
use crate::restore_deps::RestoreDeps;
use crate::restore_point::{self, Options};
use crate::restore_request::RestoreRequest;
use crate::restore_status;
use crate::restore_target;
use crate::source::{self, LookOptions};

/// The input of the state `PlanRestore`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRestoreInput {
    /// What the user asks for: the execution's input.
    pub request: RestoreRequest,
    /// The execution, which a retry shares.
    pub execution_id: String,
    /// When the execution started, RFC 3339.
    pub started_at: String,
}

/// The output of the state `PlanRestore`: numbers and ids, never items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRestoreOutput {
    /// The restore.
    pub restore_id: RestoreId,
    /// The shards of the log that the workflow's branches begin with; none without a second.
    pub shards: Vec<u32>,
    /// The buckets of keys that they begin with after that; none without a second.
    pub buckets: Vec<u32>,
    /// The files that they begin with at last.
    pub files: Vec<u32>,
    /// How many branches may run at once.
    pub concurrency: u32,
    /// Whether each branch needs an execution of its own, because one execution's history would not hold them all.
    pub distributed: bool,
}

impl PlanRestoreInput {
    /// The id of the restore that this input is about.
    pub fn restore_id(&self) -> Result<RestoreId, StepError> {
        if let Some(id) = &self.request.restore_id {
            return Ok(id.clone());
        }
        let started_at = UnixMillis::from_rfc3339(&self.started_at).ok_or_else(|| {
            StepError::InvalidInput(format!(
                "`started_at` is {:?}, which is no RFC 3339 time",
                self.started_at
            ))
        })?;
        Ok(RestoreId::of_execution(&self.execution_id, started_at))
    }
}

/// Plans a restore, or takes up one that was stopped.
pub async fn run(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
    budget: Budget,
) -> Result<PlanRestoreOutput, StepError> {
    input.request.check()?;
    let id = input.restore_id()?;
    let known = deps
        .restores
        .restore(&id)
        .await
        .map_err(StepError::Control)?;
    let replica = known
        .as_ref()
        .map_or(&input.request.replica, |known| &known.value.replica);
    let deps = &deps.reaching(replica.as_ref()).await?;
    let record = match known {
        Some(_) if input.request.resume => resume(deps, input, &id).await?,
        Some(known) if known.value.request_id == input.execution_id => known.value,
        Some(_) => return Err(StepError::RestoreExists(id)),
        None if input.request.resume => return Err(StepError::RestoreNotFound(id)),
        None => claim(deps, plan(deps, input, Log::Frozen).await?).await?,
    };
    let record = prepare_target(deps, record, budget).await?;
    Ok(begin(deps, &record))
}

/// What the workflow's branches begin with.
fn begin(deps: &RestoreDeps, record: &RestoreRecord) -> PlanRestoreOutput {
    let over = record.status == Status::Completed;
    let list = |count: u32| (0..if over { 0 } else { count }).collect();
    PlanRestoreOutput {
        restore_id: record.id.clone(),
        shards: list(record.branches(record.shards())),
        buckets: list(record.branches(record.buckets())),
        files: list(if record.files() == 0 { 0 } else { record.lanes }),
        concurrency: record.concurrency,
        distributed: !deps.pace.is_one_process() && restore_needs_children(record),
    }
}

/// What becomes of the list of the log's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// It is looked at.
    Seen,
    /// It is kept, so that what is logged later changes nothing.
    Frozen,
}

/// What [`run`] would record for a new restore. Writes nothing.
pub async fn preview(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
) -> Result<RestoreRecord, StepError> {
    let deps = &deps.reaching(input.request.replica.as_ref()).await?;
    plan(deps, input, Log::Seen).await
}

async fn plan(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
    log: Log,
) -> Result<RestoreRecord, StepError> {
    let request = &input.request;
    request.check()?;
    let mut point = choose_point(deps, input).await?;
    let location = match &point {
        Some(point) => point.snapshot.parse()?,
        None => request.location()?,
    };
    let store = deps
        .stores
        .open(&location.store)
        .map_err(StepError::Store)?;
    let options = LookOptions {
        skip_checks: request.skip_checks,
        allow_incomplete: request.allow_incomplete,
    };
    let catalog = source::look(&store, &location, options).await?;
    if request.materialize.is_some() {
        point = freeze(deps, point, log).await?;
        let record = decide_snapshot(deps, input, &catalog, point)?;
        let snapshot = materialize::snapshot_of(&record, &catalog)?;
        materialize::refuse_existing(&deps.snapshots, &snapshot).await?;
        return Ok(record);
    }
    let Some(target) = &request.to else {
        return Err(StepError::InvalidInput(
            "a plan for a new restore needs `to`".into(),
        ));
    };
    let existing = describe_if_there(deps, target).await?;
    let place = place(deps, &catalog).await;
    let target_plan = match (&existing, request.into_existing) {
        (Some(settings), true) => restore_target::existing(target, settings, &catalog)?,
        (None, true) => return Err(restore_target::absent(target)),
        (Some(_), false) => return Err(StepError::TableExists(target.to_string())),
        (None, false) => restore_target::new(&place, request, target, &catalog)?,
    };
    for filter in &request.filter {
        filter.check(&target_plan.key_schema)?;
    }
    let chosen = match &point {
        Some(_) => put_together(),
        None => choose(deps, store.as_ref(), request, &catalog, &target_plan.plan).await?,
    };
    point = freeze(deps, point, log).await?;
    let decided = Decided {
        target,
        existing: existing.as_ref(),
        made: target_plan,
        chosen,
        point,
    };
    decide(deps, input, &catalog, decided)
}

/// The snapshot and the stretch of the log that a restore to a second needs, if it is to a second.
async fn choose_point(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
) -> Result<Option<RestorePoint>, StepError> {
    let request = &input.request;
    let Some(at) = request.at()? else {
        return Ok(None);
    };
    let (location, id) = (request.location()?, input.restore_id()?);
    let work = if let Some(folder) = &request.work {
        format!("{}/{id}", folder.trim_end_matches('/'))
    } else {
        let place = TablePlace::of(&location)
            .map_err(|error| StepError::InvalidInput(error.to_string()))?;
        restore_point::default_work(&place, &id)
    };
    let options = Options {
        rules: request.rules(),
        work,
    };
    let point = restore_point::choose(deps, &location, at, &options).await?;
    Ok(Some(point))
}

async fn freeze(
    deps: &RestoreDeps,
    point: Option<RestorePoint>,
    log: Log,
) -> Result<Option<RestorePoint>, StepError> {
    match (point, log) {
        (Some(point), Log::Frozen) => restore_point::prepare(deps, point).await.map(Some),
        (point, _) => Ok(point),
    }
}

/// The only engine that there is for a state that no snapshot holds yet.
fn put_together() -> Chosen {
    Chosen {
        engine: Engine::Write,
        reason: "snapshot and log are put together as they are written; ImportTable takes a snapshot (highwater materialize makes one)".into(),
        import: None,
    }
}

/// Where tables are made, with the account where a setting depends on it: a KMS key of another one cannot be used.
async fn place(deps: &RestoreDeps, catalog: &Catalog) -> TargetPlace {
    let mut place = deps.place.clone();
    if let (None, Some(own_table), Some(_)) = (&place.account, &deps.own_table, &catalog.settings) {
        // Where it cannot be found out, what depends on it is left out and named.
        let table = deps.describer.description(own_table).await.ok();
        let arn = table.as_ref().and_then(|it| it["TableArn"].as_str());
        let account = arn.and_then(|arn| arn.split(':').nth(4));
        place.account = account.map(str::to_owned);
    }
    place
}

/// Who is to write, and why.
async fn choose(
    deps: &RestoreDeps,
    store: &dyn ObjectStore,
    request: &RestoreRequest,
    catalog: &Catalog,
    plan: &TablePlan,
) -> Result<Chosen, StepError> {
    let foreign_object = match import_source(catalog) {
        Ok(source) if request.engine != EngineChoice::Write && !request.into_existing => {
            import_table::foreign_object(store, catalog, &source).await?
        }
        _ => None,
    };
    let facts = EngineFacts {
        catalog,
        plan,
        foreign_object: foreign_object.as_deref(),
        partial: !request.filter.is_empty() || request.max_items.is_some(),
        load_write_capacity: request.settings.load_write_capacity,
        region: &deps.place.region,
        own_endpoint: deps.own_endpoint,
    };
    Ok(choose_engine(request.engine, &facts)?)
}

async fn describe_if_there(
    deps: &RestoreDeps,
    target: &TableRef,
) -> Result<Option<TableSettings>, StepError> {
    match deps.describer.describe(target.as_str()).await {
        Ok(settings) => Ok(Some(settings)),
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
        Err(failure) => Err(StepError::Table(failure)),
    }
}

/// Records the plan, unless its id was taken between our look and now.
async fn claim(deps: &RestoreDeps, record: RestoreRecord) -> Result<RestoreRecord, StepError> {
    let cas = deps
        .restores
        .create_restore(&record)
        .await
        .map_err(StepError::Control)?;
    if matches!(cas, Cas::Applied(_)) {
        return Ok(record);
    }
    // By a rival, or by this very call, whose answer got lost.
    let known = restore_status::load(deps, &record.id).await?.value;
    if known.request_id == record.request_id {
        return Ok(known);
    }
    Err(StepError::RestoreExists(record.id))
}

/// Makes the table if it is to be made, and waits until it can be written; or claims the snapshot's place.
async fn prepare_target(
    deps: &RestoreDeps,
    record: RestoreRecord,
    budget: Budget,
) -> Result<RestoreRecord, StepError> {
    if record.materialize.is_some() && record.status != Status::Completed {
        let (store, catalog) = load_part::open_source(deps, &record).await?;
        let snapshot = materialize::snapshot_of(&record, &catalog)?;
        materialize::claim(&deps.snapshots, snapshot, store.as_ref(), &catalog).await?;
        return Ok(record);
    }
    if record.status == Status::Completed || record.engine == Engine::ImportTable {
        return Ok(record);
    }
    create_table::run(deps, &record, budget).await?;
    Ok(record)
}

/// Takes up a restore that was stopped: its plan stays, its request and pace are new.
async fn resume(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
    id: &RestoreId,
) -> Result<RestoreRecord, StepError> {
    let request = &input.request;
    let known = restore_status::load(deps, id).await?.value;
    let asked = request.write_capacity.is_some() || request.write_percent.is_some();
    let write_capacity = if asked {
        let existing = describe_if_there(deps, &known.target).await?;
        request.write_capacity_for(existing.as_ref())?
    } else {
        known.write_capacity
    };
    restore_status::update(deps, id, |latest| {
        (latest.status != Status::Completed).then(|| RestoreRecord {
            request_id: input.execution_id.clone(),
            concurrency: request
                .concurrency
                .unwrap_or(latest.concurrency)
                .min(latest.most_workers()),
            write_capacity,
            status: Status::Running,
            ended_at: None,
            error: None,
            ..latest.clone()
        })
    })
    .await
}
