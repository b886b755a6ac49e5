//! The event of `AuditStream`: which tables' logs are audited, one after the other, within one invocation.

use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::layout::Destination;
use serde::{Deserialize, Serialize};

use crate::audit_stream::{self, AuditInput, AuditReport};
use crate::error::StepError;
use crate::live_deps::LiveDeps;

/// What a deployment audits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditScope {
    /// Where the logs are.
    pub to: Destination,
    /// The tables that are audited if an event names none.
    pub tables: Vec<String>,
    /// How late DynamoDB publishes a record at most, in milliseconds.
    pub publication_ms: u64,
}

/// A scheduled event: `EventBridge`'s own, or one that names a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// The table; without one, all of the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableRef>,
}

/// What an invocation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTablesReport {
    /// One report per table, in order.
    pub tables: Vec<TableAudit>,
    /// Whether every audit came to its end; the next invocation goes on where one did not.
    pub done: bool,
}

/// The audit of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAudit {
    /// The table.
    pub table: TableRef,
    /// What came of it.
    #[serde(flatten)]
    pub report: AuditReport,
}

/// Audits the event's table, or all tables of the deployment, each with an equal share of the time that is left.
///
/// One table's failure does not keep the others waiting: it is the answer once they are done. With several failures the
/// answer is the first, and the log has them all.
pub async fn run(
    deps: &LiveDeps,
    scope: &AuditScope,
    event: &AuditEvent,
    budget: Budget,
) -> Result<AuditTablesReport, StepError> {
    let tables = tables(scope, event)?;
    let mut report = AuditTablesReport {
        tables: Vec::new(),
        done: true,
    };
    let mut failed = None;
    let count = tables.len() as u64;
    for (waiting, table) in (1..=count).rev().zip(tables) {
        let share = budget.share(deps.clock.now(), waiting);
        let input = AuditInput {
            publication_ms: scope.publication_ms,
            ..AuditInput::new(table.clone(), scope.to.to_string())
        };
        deps.observer.about(table.name());
        match audit_stream::run(deps, &input, share).await {
            Ok(audit) => {
                tracing::info!(%table, report = ?audit, "audited");
                report.done &= audit.done;
                report.tables.push(TableAudit {
                    table,
                    report: audit,
                });
            }
            Err(error) => {
                tracing::error!(%table, name = error.name().as_str(), %error, "not audited");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(report), Err)
}

fn tables(scope: &AuditScope, event: &AuditEvent) -> Result<Vec<TableRef>, StepError> {
    if let Some(table) = &event.table {
        return Ok(vec![table.clone()]);
    }
    if scope.tables.is_empty() {
        return Err(StepError::InvalidInput(
            "nothing to audit: the event has no `table`, and HIGHWATER_TABLES names none".into(),
        ));
    }
    let names = scope.tables.iter();
    let parsed = names.map(|name| name.parse().map_err(StepError::from));
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(tables: &[&str]) -> AuditScope {
        AuditScope {
            to: "s3://bucket/live".parse().unwrap(),
            tables: tables.iter().map(|name| (*name).to_owned()).collect(),
            publication_ms: 1,
        }
    }

    #[test]
    fn an_event_names_a_table_or_means_all_of_the_deployment() {
        let named: AuditEvent = serde_json::from_str(r#"{"table": "orders"}"#).unwrap();
        let scheduled: AuditEvent =
            serde_json::from_str(r#"{"source": "aws.events", "detail": {}}"#).unwrap();
        let named_by = |scope: &AuditScope, event: &AuditEvent| -> Vec<String> {
            let tables = tables(scope, event).unwrap();
            tables.iter().map(TableRef::to_string).collect()
        };
        let two = scope(&["customers", "orders"]);
        assert_eq!(named_by(&two, &named), ["orders"]);
        assert_eq!(named_by(&two, &scheduled), ["customers", "orders"]);
        for (scope, says) in [(scope(&[]), "HIGHWATER_TABLES"), (scope(&["a b"]), "a b")] {
            let error = tables(&scope, &scheduled).unwrap_err();
            assert!(matches!(error, StepError::InvalidInput(_)));
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
