//! The Lambda function behind the state `LoadPart`.

use highwater_lambda::{StartError, serve, start_restore};
use highwater_steps::load_part::{self, LoadInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_restore()?;
    serve(deps, |deps, input: LoadInput, budget| async move {
        load_part::run(&deps, &input, budget).await
    })
    .await
}
