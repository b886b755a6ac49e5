//! The Lambda function behind the state `ScanSegment`.

use highwater_lambda::{StartError, serve, start};
use highwater_steps::scan_segment::{self, ScanInput};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start()?;
    serve(deps, |deps, input: ScanInput, budget| async move {
        scan_segment::run(&deps, &input, budget).await
    })
    .await
}
