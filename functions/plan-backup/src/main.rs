//! The Lambda function behind the state `PlanBackup`.

use highwater_lambda::{StartError, serve, start};
use highwater_steps::plan_backup::{self, PlanInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start()?;
    serve(deps, |deps, input: PlanInput, _budget| async move {
        plan_backup::run(&deps, &input).await
    })
    .await
}
