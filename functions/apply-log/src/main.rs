//! The Lambda function behind the schedule of `ApplyLogFunction`.

use highwater_lambda::{LiveConfig, StartError, serve, start_replicas};
use highwater_steps::apply_log::{self, ApplyEvent, ApplyScope};
use highwater_steps::replica::apply::ApplyRequest;

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_replicas()?;
    let scope = ApplyScope {
        tables: LiveConfig::from_environment()?.tables,
        request: ApplyRequest {
            until_idle: true,
            // The stream's consumer was mostly first.
            looks_first: true,
            ..ApplyRequest::default()
        },
    };
    serve(deps, move |deps, event: ApplyEvent, budget| {
        let scope = scope.clone();
        async move { apply_log::run(&deps, &scope, &event, budget).await }
    })
    .await
}
