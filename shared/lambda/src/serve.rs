//! The life of a function: start once, then one step per event.

use std::future::Future;
use std::sync::Arc;

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::object_store::Stores;
use highwater_domain::table_plan::TargetPlace;
use highwater_lease::Settings;
use highwater_steps::live_deps::{LiveDeps, LiveObserver};
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
use crate::ports::{KvLeaseGroups, LoggingObserver, S3Stores, SystemClock};

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
    Ok(backup_deps(&clients, &config))
}

fn backup_deps(clients: &Clients, config: &Config) -> Deps {
    let clock = Arc::new(SystemClock);
    Deps {
        scanner: Arc::new(clients.table_scanner()),
        describer: Arc::new(clients.table_describer()),
        control: Arc::new(clients.control_table(&config.control_table)),
        stores: Arc::new(S3Stores(clients.clone())),
        pace: Arc::new(Pace::new(clock.clone(), Share::Invocation)),
        clock,
        observer: Arc::new(LoggingObserver),
        stop: StopFlag::default(),
        live: live_deps(
            clients,
            &config.control_table,
            Arc::new(S3Stores(clients.clone())),
            Arc::new(LoggingObserver),
        ),
    }
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
        snapshots: backup_deps(&clients, &config),
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

/// Sets up logging and builds the ports of the live side from the environment. Once per sandbox.
pub async fn start_live() -> Result<LiveDeps, StartError> {
    let (clients, config) = connect().await?;
    let stores = Arc::new(S3Stores(clients.clone()));
    Ok(live_deps(
        &clients,
        &config.control_table,
        stores,
        Arc::new(LoggingObserver),
    ))
}

/// The ports of the live side over these clients, for a function and the command line alike.
#[must_use]
pub fn live_deps(
    clients: &Clients,
    control_table: &str,
    stores: Arc<dyn Stores>,
    observer: Arc<dyn LiveObserver>,
) -> LiveDeps {
    let control = clients.control_table(control_table);
    LiveDeps {
        streams: Arc::new(clients.stream_source()),
        describer: Arc::new(clients.table_describer()),
        admin: Arc::new(clients.table_admin()),
        stores,
        leases: Arc::new(KvLeaseGroups::new(control.clone(), Settings::default())),
        live: Arc::new(control),
        clock: Arc::new(SystemClock),
        observer,
        stop: StopFlag::default(),
    }
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

pub(crate) fn finish<O: Serialize>(
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

#[cfg(test)]
mod tests {
    use highwater_domain::live_control::LogId;
    use highwater_domain::stream_source::StreamError;
    use highwater_lease::{LeaseId, NewLease, Position};
    use highwater_local::{EmbeddedDynamoDb, StreamShape};

    use super::*;

    /// Leases and marks are kept in the control table that is named, and streams are asked where tables are.
    #[tokio::test]
    async fn the_live_side_works_over_one_endpoint_and_one_control_table() {
        let engine = EmbeddedDynamoDb::start_with(StreamShape::default()).await;
        let engine = engine.unwrap();
        let clients = Clients::connect(&ConnectionSettings {
            region: Some("eu-north-1".into()),
            endpoint_url: Some(engine.endpoint_url().into()),
            ..ConnectionSettings::default()
        })
        .await
        .unwrap();
        clients.control_table("control").ensure().await.unwrap();
        let stores = Arc::new(S3Stores(clients.clone()));
        let deps = live_deps(&clients, "control", stores, Arc::new(LoggingObserver));

        let arn = "arn:aws:dynamodb:eu-north-1:111122223333:table/orders/stream/1.5";
        let gone = deps.streams.listing(arn).await.unwrap_err();
        assert!(matches!(gone, StreamError::Gone(_)), "{gone:?}");
        let log = LogId::of(arn, "s3://bucket/orders/log/1.5/");
        assert_eq!(deps.live.mark(&log).await.unwrap(), None);

        let group = log.lease_group();
        let leases = deps.leases.group(&group, "one").unwrap();
        let shard = LeaseId::new("shardId-00000001768385930622-efd1a093").unwrap();
        let start = Position::at("100000000000000000001".parse().unwrap());
        leases
            .register(&NewLease::root(shard.clone(), start))
            .await
            .unwrap();
        let seen = deps.leases.group(&group, "two").unwrap();
        assert_eq!(seen.fetch(&shard).await.unwrap().id, shard);
        let stranger = deps.leases.group("another group", "two").unwrap();
        assert!(stranger.fetch(&shard).await.is_err());
    }
}
