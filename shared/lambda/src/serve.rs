//! The life of a function: start once, then one step per event.

use std::future::Future;
use std::sync::Arc;

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::table_plan::TargetPlace;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::{Deps, ErrorName, RestoreDeps, StepError, StopFlag};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use tracing::Instrument as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError};
use crate::failure::StepFailure;
use crate::ports::{LoggingObserver, S3Stores, SystemClock};

/// Why a function cannot start. The runtime reports it as an init error.
#[derive(Debug, Error)]
pub enum StartError {
    /// The environment is incomplete.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The SDK cannot be configured.
    #[error(transparent)]
    Aws(#[from] Failure),
    /// The runtime API went away.
    #[error("the Lambda runtime ended: {0}")]
    Runtime(lambda_runtime::Error),
}

/// Sets up logging and builds the ports of the backup workflow from the environment. Once per sandbox.
pub async fn start() -> Result<Deps, StartError> {
    let (clients, config) = connect().await?;
    let clock = Arc::new(SystemClock);
    Ok(Deps {
        scanner: Arc::new(clients.table_scanner()),
        describer: Arc::new(clients.table_describer()),
        control: Arc::new(clients.control_table(config.control_table)),
        stores: Arc::new(S3Stores(clients)),
        pace: Arc::new(Pace::new(clock.clone(), Share::Invocation)),
        clock,
        observer: Arc::new(LoggingObserver),
        stop: StopFlag::default(),
    })
}

/// Sets up logging and builds the ports of the restore workflow from the environment. Once per sandbox.
pub async fn start_restore() -> Result<RestoreDeps, StartError> {
    let (clients, config) = connect().await?;
    let clock = Arc::new(SystemClock);
    Ok(RestoreDeps {
        writer: Arc::new(clients.table_writer()),
        admin: Arc::new(clients.table_admin()),
        importer: Arc::new(clients.table_importer()),
        describer: Arc::new(clients.table_describer()),
        restores: Arc::new(clients.control_table(&config.control_table)),
        own_table: Some(config.control_table),
        own_endpoint: clients.has_own_endpoint(),
        place: TargetPlace {
            region: clients.region().to_owned(),
            account: None,
        },
        stores: Arc::new(S3Stores(clients)),
        pace: Arc::new(Pace::new(clock.clone(), Share::Invocation)),
        clock,
        max_retries: None,
        observer: Arc::new(LoggingObserver),
        stop: StopFlag::default(),
    })
}

async fn connect() -> Result<(Clients, Config), StartError> {
    let config = Config::from_pairs(std::env::vars())?;
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_current_span(true)
        .init();
    tracing::info!(?config, "starting");
    let clients = Clients::connect(&ConnectionSettings::default()).await?;
    Ok((clients, config))
}

/// Answers events with `step` until the sandbox ends.
///
/// An event that is not the step's input is `InvalidInput`; a panic is `Internal`. The budget ends before
/// the invocation's deadline does.
pub async fn serve<D, I, O, S, F>(deps: D, step: S) -> Result<(), StartError>
where
    D: Clone,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    S: Fn(D, I, Budget) -> F,
    F: Future<Output = Result<O, StepError>> + Send + 'static,
{
    let (deps, step) = (&deps, &step);
    let handler = service_fn(move |event: LambdaEvent<Value>| async move {
        // Events hold ids and numbers, never items: they can be logged whole.
        tracing::info!(event = %event.payload, "invoked");
        let input: I = serde_json::from_value(event.payload).map_err(|error| StepFailure {
            name: ErrorName::InvalidInput,
            message: format!("the event is not this function's input: {error}"),
        })?;
        let budget = Budget::until(UnixMillis(event.context.deadline), SystemClock.now());
        let span = tracing::info_span!("step", request_id = event.context.request_id);
        let outcome = tokio::spawn(step(deps.clone(), input, budget).instrument(span)).await;
        finish(outcome)
    });
    lambda_runtime::run(handler)
        .await
        .map_err(StartError::Runtime)
}

fn finish<O: Serialize>(
    outcome: Result<Result<O, StepError>, tokio::task::JoinError>,
) -> Result<Value, StepFailure> {
    let internal = |message: String| StepFailure {
        name: ErrorName::Internal,
        message,
    };
    match outcome {
        Ok(Ok(output)) => serde_json::to_value(output).map_err(|error| internal(error.to_string())),
        Ok(Err(error)) => {
            tracing::error!(name = error.name().as_str(), error = %error, "step failed");
            Err(StepFailure::from(&error))
        }
        Err(panic) => {
            tracing::error!(%panic, "step panicked");
            Err(internal(format!("the step panicked: {panic}")))
        }
    }
}
