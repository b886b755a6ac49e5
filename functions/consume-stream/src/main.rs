//! The Lambda function behind the event source mapping `ConsumeStreamMapping`.

use highwater_lambda::{LiveConfig, StartError, serve_stream, start_consume};
use highwater_steps::consume_stream::{self, LogDestination};

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let deps = start_consume()?;
    let to = LogDestination(LiveConfig::from_environment()?.log_to);
    serve_stream(deps, move |deps, input, budget| {
        let to = to.clone();
        async move { consume_stream::run(&deps, &to, input, budget).await }
    })
    .await
}
