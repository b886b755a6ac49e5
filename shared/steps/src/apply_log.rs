//! `ApplyLog`: takes the replicas of a deployment's tables from phase to phase, and gives each what the log has for it.
//!
//! It is run again and again. An invocation goes on where another stopped, was killed, or is still at work: each shard is under a lease.

use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{Phase, ReplicaId, ReplicaRecord};
use highwater_domain::table::arn_of;
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::replica::apply::{self, ApplyReport, ApplyRequest};
use crate::replica::{FeedDeps, load, plan};

/// What a deployment applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyScope {
    /// The tables whose replicas are fed if an event names none: names or ARNs.
    pub tables: Vec<String>,
    /// How a replica is fed.
    pub request: ApplyRequest,
}

/// A scheduled event: `EventBridge`'s own, or one that names a table or a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyEvent {
    /// The source; without one, all of the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableRef>,
    /// The replica; without one, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
}

/// What an invocation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyLogReport {
    /// One report per replica, in order.
    pub replicas: Vec<ReplicaReport>,
    /// Whether every replica has what the log had; the next invocation goes on where one has not.
    pub done: bool,
}

/// How one replica stands, and what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// The source.
    pub table: String,
    /// The replica.
    pub replica: ReplicaId,
    /// Its table.
    pub target: TableRef,
    /// Where it is in its life.
    pub phase: Phase,
    /// The second up to which it holds everything.
    pub applied: Option<UnixSeconds>,
    /// Records of the log that were read.
    pub records: u64,
    /// Of those, records that are in the replica because of this.
    pub written: u64,
    /// Records that it had already, or later ones.
    pub stale: u64,
    /// Records that it does not take; each is kept whole.
    pub refused: u64,
}

impl ReplicaReport {
    fn of(table: &TableRef, report: &ApplyReport) -> Self {
        let (record, applied) = (&report.record, &report.applied);
        Self {
            table: table.name().to_owned(),
            replica: record.id.clone(),
            target: record.target.clone(),
            phase: record.phase,
            applied: record.applied,
            records: applied.records,
            written: applied.written,
            stale: applied.stale,
            refused: applied.refused,
        }
    }
}

/// Feeds the replicas that the event means, each with an equal share of the time that is left.
///
/// One replica's failure does not keep the others waiting: it is the answer once they are done. With several failures the
/// answer is the first, and the log has them all.
pub async fn run(
    deps: &FeedDeps,
    scope: &ApplyScope,
    event: &ApplyEvent,
    budget: Budget,
) -> Result<ApplyLogReport, StepError> {
    let mut tables = Vec::new();
    for table in meant(scope, event)? {
        let replicas = replicas(deps, &table).await?;
        let is_meant = |it: &ReplicaRecord| event.replica.as_ref().is_none_or(|id| *id == it.id);
        let replicas = replicas.into_iter().filter(is_meant);
        tables.push((table, replicas.collect::<Vec<_>>()));
    }
    let open = |it: &&ReplicaRecord| !it.phase.is_over();
    let mut waiting = tables
        .iter()
        .flat_map(|(_, replicas)| replicas)
        .filter(open)
        .count() as u64;
    if let Some(id) = event
        .replica
        .as_ref()
        .filter(|_| tables.iter().all(|(_, it)| it.is_empty()))
    {
        return Err(StepError::ReplicaNotFound(id.clone()));
    }
    let mut report = ApplyLogReport {
        replicas: Vec::new(),
        done: true,
    };
    let mut failed = None;
    for (table, replicas) in tables {
        deps.live.observer.about(table.name());
        let mut standing = Vec::new();
        for record in replicas {
            if record.phase.is_over() {
                standing.push(record);
                continue;
            }
            let share = budget.share(deps.live.clock.now(), waiting);
            waiting = waiting.saturating_sub(1);
            match feed(deps, scope, record.clone(), share).await {
                Ok(fed) => {
                    tracing::info!(%table, replica = %record.id, report = ?fed.applied, "applied");
                    // A replica that is not live yet has nothing to be done with in this invocation.
                    let is_live = fed.record.phase == Phase::Live;
                    report.done &= !is_live || !share.is_spent(deps.live.clock.now());
                    report.replicas.push(ReplicaReport::of(&table, &fed));
                    standing.push(fed.record);
                }
                Err(error) => {
                    tracing::error!(%table, replica = %record.id, name = error.name().as_str(), %error, "not applied");
                    failed.get_or_insert(error);
                    // What became of it counts, if that can be told.
                    let known = load(deps, &record.source_arn, &record.id).await;
                    standing.push(known.map_or(record, |known| known.value));
                }
            }
        }
        if !standing.is_empty() {
            deps.observer.stand(&standing, deps.live.clock.now());
        }
    }
    failed.map_or(Ok(report), Err)
}

async fn feed(
    deps: &FeedDeps,
    scope: &ApplyScope,
    record: ReplicaRecord,
    budget: Budget,
) -> Result<ApplyReport, StepError> {
    let fed = apply::advance_and_apply(deps, record, &scope.request, budget).await?;
    if fed.record.phase == Phase::Live && fed.record.target_table_id.is_none() {
        // Whoever loaded it died before it could say which table that was.
        plan::note_target(deps, &fed.record).await?;
    }
    Ok(fed)
}

fn meant(scope: &ApplyScope, event: &ApplyEvent) -> Result<Vec<TableRef>, StepError> {
    if let Some(table) = &event.table {
        // The deployment knows the ARN, which a table that is gone does not tell any more.
        let known = scope
            .tables
            .iter()
            .filter_map(|it| it.parse::<TableRef>().ok());
        let mut of_name = known.filter(|it| it.name() == table.as_str());
        return Ok(vec![of_name.next().unwrap_or_else(|| table.clone())]);
    }
    if scope.tables.is_empty() {
        return Err(StepError::InvalidInput(
            "nothing to apply: the event has no `table`, and HIGHWATER_TABLES names none".into(),
        ));
    }
    let names = scope.tables.iter();
    let parsed = names.map(|name| name.parse().map_err(StepError::from));
    parsed.collect()
}

async fn replicas(deps: &FeedDeps, table: &TableRef) -> Result<Vec<ReplicaRecord>, StepError> {
    let arn = if table.as_str().starts_with("arn:") {
        table.to_string()
    } else {
        let described = deps.live.describer.description(table.as_str()).await;
        let described = described.map_err(StepError::Table)?;
        let arn = arn_of(&described).map_err(|source| StepError::Settings {
            table: table.to_string(),
            source,
        })?;
        arn.to_owned()
    };
    let found = deps.replicas.replicas(&arn).await;
    found.map_err(StepError::Control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:dynamodb:eu-north-1:111122223333:table/orders";

    fn scope(tables: &[&str]) -> ApplyScope {
        ApplyScope {
            tables: tables.iter().map(|name| (*name).to_owned()).collect(),
            request: ApplyRequest::default(),
        }
    }

    #[test]
    fn an_event_names_a_table_or_means_all_of_the_deployment() {
        let named: ApplyEvent = serde_json::from_str(r#"{"table": "orders"}"#).unwrap();
        let scheduled: ApplyEvent =
            serde_json::from_str(r#"{"source": "aws.events", "detail": {}}"#).unwrap();
        let meant_by = |scope: &ApplyScope, event: &ApplyEvent| -> Vec<String> {
            let tables = meant(scope, event).unwrap();
            tables.iter().map(TableRef::to_string).collect()
        };
        let two = scope(&["customers", ARN]);
        assert_eq!(meant_by(&two, &named), [ARN], "the ARN that is known");
        assert_eq!(meant_by(&scope(&["customers"]), &named), ["orders"]);
        assert_eq!(meant_by(&two, &scheduled), ["customers", ARN]);
        for (scope, says) in [(scope(&[]), "HIGHWATER_TABLES"), (scope(&["a b"]), "a b")] {
            let error = meant(&scope, &scheduled).unwrap_err();
            assert!(matches!(error, StepError::InvalidInput(_)));
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
