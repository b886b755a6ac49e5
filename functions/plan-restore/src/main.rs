//! The Lambda function behind the state `PlanRestore`.

use highwater_lambda::{StartError, serve, start_restore};
use highwater_steps::plan_restore::{self, PlanRestoreInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_restore()?;
    serve(deps, |deps, input: PlanRestoreInput, budget| async move {
        plan_restore::run(&deps, &input, budget).await
    })
    .await
}
