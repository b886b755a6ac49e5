//! The Lambda function behind the schedule of `AuditStreamFunction`.

use highwater_lambda::{LiveConfig, StartError, serve, start_live};
use highwater_steps::audit_tables::{self, AuditEvent, AuditScope};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_live()?;
    let config = LiveConfig::from_environment()?;
    let scope = AuditScope {
        to: config.log_to,
        tables: config.tables,
        publication_ms: config.publication_ms,
    };
    serve(deps, move |deps, event: AuditEvent, budget| {
        let scope = scope.clone();
        async move { audit_tables::run(&deps, &scope, &event, budget).await }
    })
    .await
}
