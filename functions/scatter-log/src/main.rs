//! The Lambda function behind the state `ScatterLog`.

use highwater_lambda::{StartError, serve, start_restore};
use highwater_steps::scatter_log::{self, ScatterInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_restore()?;
    serve(deps, |deps, input: ScatterInput, budget| async move {
        scatter_log::run(&deps, &input, budget).await
    })
    .await
}
