//! The Lambda function behind the state `FoldLog`.

use highwater_lambda::{StartError, serve, start_restore};
use highwater_steps::fold_log::{self, FoldInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_restore()?;
    serve(deps, |deps, input: FoldInput, budget| async move {
        fold_log::run(&deps, &input, budget).await
    })
    .await
}
