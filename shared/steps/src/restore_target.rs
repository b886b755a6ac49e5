//! The table of a restore: as it is, or as it is to be.

use highwater_domain::backup_source::Catalog;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::TableRef;
use highwater_domain::key::KeySchema;
use highwater_domain::table::TableSettings;
use highwater_domain::table_plan::{TablePlan, TargetPlace, parse_key_schema};

use crate::error::StepError;
use crate::restore_request::RestoreRequest;

/// The refusal of a table that is to be filled and is not there.
pub(crate) fn absent(target: &TableRef) -> StepError {
    StepError::Table(Failure::new(
        FailureKind::NotFound,
        "DescribeTable",
        target.as_str(),
        "there is no such table to fill; a restore without `into_existing` makes it",
    ))
}

/// The table to be, or as it is.
pub(crate) struct RestoreTarget {
    pub(crate) key_schema: KeySchema,
    pub(crate) table_id: Option<String>,
    pub(crate) plan: TablePlan,
}

/// A table that is there: it must be ready, and have the backup's key.
pub(crate) fn existing(
    target: &TableRef,
    settings: &TableSettings,
    catalog: &Catalog,
) -> Result<RestoreTarget, StepError> {
    let broken = |source| StepError::Settings {
        table: target.to_string(),
        source,
    };
    let status = settings.status().map_err(broken)?;
    if !matches!(status, "ACTIVE" | "UPDATING") {
        return Err(StepError::TableNotActive {
            table: target.to_string(),
            status: status.to_owned(),
        });
    }
    let key_schema = settings.key_schema().map_err(broken)?;
    if let Some(of_backup) = catalog.key_schema.as_ref().filter(|it| **it != key_schema) {
        return Err(StepError::InvalidInput(format!(
            "table {target} has the key {key_schema}, the backup has {of_backup}: its items do not fit"
        )));
    }
    Ok(RestoreTarget {
        key_schema,
        table_id: settings.table_id().map(str::to_owned),
        plan: TablePlan::default(),
    })
}

/// A table that is to be made, like the one that was backed up.
pub(crate) fn new(
    place: &TargetPlace,
    request: &RestoreRequest,
    target: &TableRef,
    catalog: &Catalog,
) -> Result<RestoreTarget, StepError> {
    let asked = request.key.as_deref().map(parse_key_schema).transpose()?;
    let key_schema = match (asked, &catalog.key_schema) {
        (Some(asked), Some(known)) if asked != *known => {
            return Err(StepError::InvalidInput(format!(
                "`key` is {asked}, but the backup's table has the key {known}"
            )));
        }
        (_, Some(known)) => known.clone(),
        (Some(asked), None) => asked,
        (None, None) => {
            return Err(StepError::InvalidInput(format!(
                "a {} does not say what its table's key was: give `key` (--key id:S or --key id:S,at:N), or make the table and fill it (--into-existing)",
                catalog.kind.as_str()
            )));
        }
    };
    let plan = match &catalog.settings {
        Some(settings) => TablePlan::of(settings, target, place, &request.settings),
        None => TablePlan::minimal(&key_schema, target, place, &request.settings),
    };
    Ok(RestoreTarget {
        key_schema,
        table_id: None,
        plan: plan?,
    })
}
