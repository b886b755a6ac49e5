//! What a restore will do, decided: a pure function of the request, of what was found, and of the time.

use highwater_domain::backup_source::Catalog;
use highwater_domain::engine_choice::Chosen;
use highwater_domain::ids::TableRef;
use highwater_domain::key::KeySchema;
use highwater_domain::restore::{Engine, LoadTotals, OnExisting, RestoreRecord, SourceFacts};
use highwater_domain::restore_point::RestorePoint;
use highwater_domain::snapshot::Status;
use highwater_domain::table::TableSettings;
use highwater_domain::table_plan::TablePlan;

use crate::error::StepError;
use crate::plan_restore::PlanRestoreInput;
use crate::restore_deps::RestoreDeps;
use crate::restore_request::{DEFAULT_CONCURRENCY, RestoreRequest};
use crate::restore_target::RestoreTarget;

/// What a restore into a table is decided from, beside the request and the backup.
pub(crate) struct Decided<'a> {
    pub(crate) target: &'a TableRef,
    pub(crate) existing: Option<&'a TableSettings>,
    pub(crate) made: RestoreTarget,
    pub(crate) chosen: Chosen,
    pub(crate) point: Option<RestorePoint>,
}

/// The frozen plan: a pure function of the request, what was found, and the time.
pub(crate) fn decide(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
    catalog: &Catalog,
    decided: Decided<'_>,
) -> Result<RestoreRecord, StepError> {
    let request = &input.request;
    let (made, chosen) = (decided.made, decided.chosen);
    let plain = plain_record(
        deps,
        input,
        catalog,
        decided.target.clone(),
        made.key_schema,
    )?;
    let record = RestoreRecord {
        target_table_id: made.table_id,
        table_plan: match chosen.import {
            Some(source) => made.plan.into_import(source),
            None => made.plan,
        },
        on_existing: request.on_existing_for(catalog)?,
        engine: chosen.engine,
        engine_reason: chosen.reason,
        write_capacity: request.write_capacity_for(decided.existing)?,
        max_items: request.max_items.unwrap_or(0),
        filter: request.filter.clone(),
        fail_fast: request.fail_fast,
        skip_checks: request.skip_checks,
        rejects: request.rejects.clone(),
        point: decided.point,
        ..plain
    };
    with_lanes(record, request)
}

/// The frozen plan of a restore that makes a snapshot.
pub(crate) fn decide_snapshot(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
    catalog: &Catalog,
    point: Option<RestorePoint>,
) -> Result<RestoreRecord, StepError> {
    let request = &input.request;
    let lacks = |what: &str| {
        StepError::PartMissing(format!(
            "{} does not have {what}, which a new snapshot needs",
            catalog.url
        ))
    };
    let settings = catalog
        .settings
        .as_ref()
        .ok_or_else(|| lacks("table.json"))?;
    let name = settings.name().map_err(|_| lacks("its table's name"))?;
    let key_schema = catalog.key_schema.clone();
    let record = RestoreRecord {
        engine_reason: "a snapshot is made, and no table is touched".into(),
        materialize: request.materialize.as_ref().map(|it| it.to.clone()),
        point,
        ..plain_record(
            deps,
            input,
            catalog,
            name.parse()?,
            key_schema.ok_or_else(|| lacks("its table's key"))?,
        )?
    };
    with_lanes(record, request)
}

/// What the records of all restores have in common.
fn plain_record(
    deps: &RestoreDeps,
    input: &PlanRestoreInput,
    catalog: &Catalog,
    target: TableRef,
    key_schema: KeySchema,
) -> Result<RestoreRecord, StepError> {
    Ok(RestoreRecord {
        id: input.restore_id()?,
        request_id: input.execution_id.clone(),
        source: SourceFacts {
            url: catalog.url.clone(),
            kind: catalog.kind,
            files: catalog.files.len() as u64,
            items: catalog.items,
            stored_bytes: catalog.stored_bytes(),
            plain_bytes: catalog.plain_bytes,
            fingerprint: catalog.fingerprint(),
            unchecked: catalog.unchecked.clone(),
        },
        target,
        key_schema,
        target_table_id: None,
        table_plan: TablePlan::default(),
        on_existing: OnExisting::Overwrite,
        engine: Engine::Write,
        engine_reason: String::new(),
        lanes: 1,
        concurrency: 1,
        write_capacity: 0.0,
        max_items: 0,
        filter: Vec::new(),
        fail_fast: false,
        skip_checks: false,
        rejects: None,
        import_arn: None,
        totals: LoadTotals::default(),
        started_at: deps.clock.now(),
        status: Status::Running,
        ended_at: None,
        error: None,
        point: None,
        replica: input.request.replica.clone(),
        materialize: None,
    })
}

/// Decides how many work at once, now that it is known on how much.
fn with_lanes(record: RestoreRecord, request: &RestoreRequest) -> Result<RestoreRecord, StepError> {
    // One lane loads the files one after the other, so that it knows exactly how many items are left.
    let one_lane = record.max_items > 0 || record.engine == Engine::ImportTable;
    let concurrency = request.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
    let files = record.files();
    let lanes = match u32::try_from(files) {
        Ok(_) if one_lane => 1,
        Ok(files) => files.clamp(1, concurrency),
        Err(_) => {
            return Err(StepError::InvalidInput(format!(
                "the backup has {files} files, more than can be counted"
            )));
        }
    };
    let mut record = RestoreRecord { lanes, ..record };
    record.concurrency = concurrency.min(record.most_workers());
    Ok(record)
}
