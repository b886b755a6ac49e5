//! The Lambda function behind the state `FinalizeRestore`.

use highwater_lambda::{StartError, serve, start_restore};
use highwater_steps::finalize_restore::{self, FinalizeRestoreInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_restore()?;
    serve(
        deps,
        |deps, input: FinalizeRestoreInput, budget| async move {
            finalize_restore::run(&deps, &input, budget).await
        },
    )
    .await
}
