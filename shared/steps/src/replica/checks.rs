//! What a replica asks of its snapshot and of the table that it is to fill.

use highwater_domain::failure::FailureKind;
use highwater_domain::ids::TableRef;
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::replica_targets::TargetPorts;
use highwater_domain::scan::ScanRequest;
use highwater_domain::selection::Selection;
use highwater_domain::table::TableSettings;

use super::handoff::HandedOver;
use super::plan::ReplicaRequest;
use crate::error::StepError;

/// The snapshot must be of this table as it is now, with its log beside it.
pub(super) fn check_snapshot(
    request: &ReplicaRequest,
    handed_over: &HandedOver,
    source: &TableSettings,
) -> Result<(), StepError> {
    let refused = |reason: String| {
        Err(StepError::ReplicaRefused {
            table: request.snapshot.clone(),
            reason,
        })
    };
    let metadata = &handed_over.metadata;
    if let (Some(then), Some(now)) = (metadata.table_id.as_deref(), source.table_id())
        && then != now
    {
        return refused(format!(
            "it is of an earlier table {}: that was dropped and created again",
            request.source
        ));
    }
    if metadata.table_name != request.source.name() {
        let (of, table) = (&metadata.table_name, &request.source);
        return refused(format!("it is of table {of}, not of {table}"));
    }
    Ok(())
}

pub(super) async fn existing(
    target: &TargetPorts,
    table: &TableRef,
) -> Result<Option<TableSettings>, StepError> {
    match target.describer.describe(table.as_str()).await {
        Ok(settings) => Ok(Some(settings)),
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
        Err(failure) => Err(StepError::Table(failure)),
    }
}

/// A table that is there must be ready, like the source, and empty.
pub(super) async fn check_existing(
    target: &TargetPorts,
    request: &ReplicaRequest,
    settings: &TableSettings,
    record: &ReplicaRecord,
) -> Result<(), StepError> {
    let refused = |reason: String| {
        Err(StepError::ReplicaRefused {
            table: request.to.to_string(),
            reason,
        })
    };
    let broken = |source| StepError::Settings {
        table: request.to.to_string(),
        source,
    };
    let status = settings.status().map_err(broken)?;
    if status != "ACTIVE" {
        return Err(StepError::TableNotActive {
            table: request.to.to_string(),
            status: status.to_owned(),
        });
    }
    let key = settings.key_schema().map_err(broken)?;
    if key != record.key_schema {
        let wanted = &record.key_schema;
        return refused(format!("its key is {key}, the source's is {wanted}"));
    }
    if settings.ttl_attribute().is_some() {
        return refused(
            "time to live is on: DynamoDB would delete from it what the source still has; disable it".into(),
        );
    }
    let scan = ScanRequest {
        table: request.to.to_string(),
        segment: 0,
        total_segments: 1,
        exclusive_start_key: None,
        consistent: true,
        limit: Some(1),
        selection: Selection::default(),
    };
    let page = target.scanner.scan_page(&scan).await;
    let page = page.map_err(StepError::Table)?;
    if !page.items.is_empty() {
        return refused("it has items: a replica begins empty".into());
    }
    Ok(())
}
