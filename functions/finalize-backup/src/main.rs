//! The Lambda function behind the state `FinalizeBackup`.

use highwater_lambda::{StartError, serve, start};
use highwater_steps::finalize_backup::{self, FinalizeInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start()?;
    serve(deps, |deps, input: FinalizeInput, budget| async move {
        finalize_backup::run(&deps, &input, budget).await
    })
    .await
}
