//! The life of a function: start once, then one step per event.

use std::future::Future;
use std::sync::Arc;

use highwater_aws::Clients;
use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::failure::Failure;
use highwater_domain::ids::UnixMillis;
use highwater_domain::object_store::Stores;
use highwater_domain::table_plan::TargetPlace;
use highwater_lease::Settings;
use highwater_steps::apply_directly::DirectApply;
use highwater_steps::consume_stream::ConsumeDeps;
use highwater_steps::deps::Unobserved;
use highwater_steps::known_facts::KnownFacts;
use highwater_steps::live_deps::{LiveDeps, LiveObserver, LogDeps};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::replica::FeedDeps;
use highwater_steps::{Deps, ErrorName, RestoreDeps, SnapshotDeps, StepError, StopFlag};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use tracing::{Instrument as _, Span};

use crate::config::{Config, ConfigError};
use crate::failure::StepFailure;
use crate::invocation::{Ids, Subject};
use crate::live_config::LiveConfig;
use crate::log_lines;
use crate::observed::{InvocationObserver, Observed, StandardOutput};
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
pub fn start() -> Result<Deps, StartError> {
    let (clients, config) = connect()?;
    Ok(backup_deps(&clients, &config))
}

fn snapshot_deps(clients: &Clients, config: &Config) -> SnapshotDeps {
    SnapshotDeps {
        control: Arc::new(clients.control_table(&config.control_table)),
        stores: Arc::new(S3Stores(clients.clone())),
        clock: Arc::new(SystemClock),
        observer: Arc::new(LoggingObserver),
        stop: StopFlag::default(),
    }
}

fn backup_deps(clients: &Clients, config: &Config) -> Deps {
    Deps {
        scanner: Arc::new(clients.table_scanner()),
        describer: Arc::new(clients.table_describer()),
        admin: Arc::new(clients.table_admin()),
        pace: Arc::new(Pace::new(Arc::new(SystemClock), Share::Invocation)),
        snapshots: snapshot_deps(clients, config),
        live: live_deps(
            clients,
            &config.control_table,
            Arc::new(S3Stores(clients.clone())),
            Arc::new(LoggingObserver),
        ),
    }
}

/// Sets up logging and builds the ports of the restore workflow from the environment. Once per sandbox.
pub fn start_restore() -> Result<RestoreDeps, StartError> {
    let (clients, config) = connect()?;
    let clock = Arc::new(SystemClock);
    Ok(RestoreDeps {
        writer: Arc::new(clients.table_writer()),
        admin: Arc::new(clients.table_admin()),
        importer: Arc::new(clients.table_importer()),
        describer: Arc::new(clients.table_describer()),
        restores: Arc::new(clients.control_table(&config.control_table)),
        replicas: Arc::new(clients.control_table(&config.control_table)),
        elsewhere: Some(Arc::new(clients.replica_targets())),
        snapshots: snapshot_deps(&clients, &config),
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
pub fn start_live() -> Result<LiveDeps, StartError> {
    let (clients, config) = connect()?;
    let stores = Arc::new(S3Stores(clients.clone()));
    Ok(live_deps(
        &clients,
        &config.control_table,
        stores,
        Arc::new(LoggingObserver),
    ))
}

/// Sets up logging and builds the ports of `consume-stream`, with the short cut to replicas where the deployment may have some. Once per
/// sandbox.
pub fn start_consume() -> Result<ConsumeDeps, StartError> {
    let (clients, config) = connect()?;
    let stores = Arc::new(S3Stores(clients.clone()));
    let observer = Arc::new(LoggingObserver);
    let live = live_deps(&clients, &config.control_table, stores, observer);
    let has_replicas = LiveConfig::from_environment()?.replicas;
    let replicas = has_replicas.then(|| {
        DirectApply::new(
            Arc::new(clients.control_table(&config.control_table)),
            Arc::new(clients.replica_targets()),
            Arc::new(Unobserved),
        )
    });
    Ok(ConsumeDeps { live, replicas })
}

/// Sets up logging and builds the ports of replicas from the environment. Once per sandbox.
pub fn start_replicas() -> Result<FeedDeps, StartError> {
    let (clients, config) = connect()?;
    let control = Arc::new(clients.control_table(&config.control_table));
    let stores = Arc::new(S3Stores(clients.clone()));
    let observer = Arc::new(LoggingObserver);
    Ok(FeedDeps {
        live: log_deps(&clients, &config.control_table, stores, observer),
        replicas: control.clone(),
        restores: control,
        feeds: Arc::new(clients.replica_targets()),
        known: KnownFacts::default(),
        observer: Arc::new(Unobserved),
    })
}

/// The ports of the live side over these clients, for a function and the command line alike.
#[must_use]
pub fn live_deps(
    clients: &Clients,
    control_table: &str,
    stores: Arc<dyn Stores>,
    observer: Arc<dyn LiveObserver>,
) -> LiveDeps {
    LiveDeps {
        streams: Arc::new(clients.stream_source()),
        log: log_deps(clients, control_table, stores, observer),
    }
}

/// The ports of a change log over these clients.
#[must_use]
pub fn log_deps(
    clients: &Clients,
    control_table: &str,
    stores: Arc<dyn Stores>,
    observer: Arc<dyn LiveObserver>,
) -> LogDeps {
    let control = clients.control_table(control_table);
    LogDeps {
        describer: Arc::new(clients.table_describer()),
        stores,
        leases: Arc::new(KvLeaseGroups::new(control.clone(), Settings::default())),
        live: Arc::new(control),
        clock: Arc::new(SystemClock),
        observer,
        stop: StopFlag::default(),
    }
}

fn connect() -> Result<(Clients, Config), StartError> {
    let config = Config::from_pairs(std::env::vars());
    log_lines::begin(config.as_ref().map_or("info", |config| &config.log));
    match &config {
        Ok(config) => tracing::info!(?config, "starting"),
        Err(error) => tracing::error!(%error, "not starting"),
    }
    let config = config?;
    if let Some(level) = config.level_without_metrics() {
        tracing::error!(
            level,
            "Lambda drops this function's metrics, which are lines of the level INFO: set its ApplicationLogLevel to INFO and HIGHWATER_LOG to the level wanted"
        );
    }
    Ok((Clients::of_function()?, config))
}

/// Answers events with `step` until the sandbox ends.
///
/// An event that is not the step's input is `InvalidInput`; a panic is `Internal`. The budget ends before
/// the invocation's deadline does. Every line of an invocation carries its ids, and what it counted is told as metrics.
pub async fn serve<D, I, O, S, F>(deps: D, step: S) -> Result<(), StartError>
where
    D: Observed,
    I: Subject + DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    S: Fn(D, I, Budget) -> F,
    F: Future<Output = Result<O, StepError>> + Send + 'static,
{
    let stack = Config::from_pairs(std::env::vars())?.stack;
    let (deps, step, stack) = (&deps, &step, &stack);
    let handler = service_fn(move |event: LambdaEvent<Value>| async move {
        let LambdaEvent { payload, context } = event;
        let span = Ids::span(&context);
        let input = I::deserialize(&payload);
        if let Ok(input) = &input {
            input.ids().record(&span);
        }
        // Events hold ids and numbers, never items: they can be logged whole.
        span.in_scope(|| tracing::info!(event = %payload, "invoked"));
        let input = input.map_err(|error| {
            let message = format!("the event is not this function's input: {error}");
            refuse(&span, message)
        })?;
        let invocation = Invocation::new(&context, span, &input.ids(), stack.clone());
        invocation
            .run(deps, |deps, budget| step(deps, input, budget))
            .await
    });
    lambda_runtime::run(handler)
        .await
        .map_err(StartError::Runtime)
}

/// The answer to an event that is not the function's input.
pub(crate) fn refuse(span: &Span, message: String) -> StepFailure {
    let name = ErrorName::InvalidInput;
    span.in_scope(|| tracing::error!(name = name.as_str(), error = message, "event refused"));
    StepFailure { name, message }
}

/// One invocation: its lines, its numbers, its time.
pub(crate) struct Invocation {
    span: Span,
    pub(crate) observer: Arc<InvocationObserver>,
    budget: Budget,
}

impl Invocation {
    /// The invocation of `context`, about what `ids` say.
    pub(crate) fn new(context: &Context, span: Span, ids: &Ids, stack: Option<String>) -> Self {
        ids.record(&span);
        let (deadline, now) = (UnixMillis(context.deadline), SystemClock.now());
        let budget = Budget::of_invocation(deadline, now);
        if deadline <= now {
            let deadline = deadline.to_rfc3339();
            span.in_scope(|| {
                tracing::warn!(
                    deadline,
                    "the runtime tells a deadline that is over already; a minute is assumed"
                );
            });
        }
        let mut properties = ids.properties();
        properties.insert("request_id".into(), context.request_id.as_str().into());
        let observer = InvocationObserver::new(
            span.clone(),
            stack,
            properties,
            Arc::new(SystemClock),
            Arc::new(StandardOutput),
        );
        if let Some(table) = &ids.table {
            observer.turn_to(table);
        }
        Self {
            span,
            observer: Arc::new(observer),
            budget,
        }
    }

    /// Runs a step to its end, and tells what it counted, however it ends.
    pub(crate) async fn run<D, O, F>(
        self,
        deps: &D,
        step: impl FnOnce(D, Budget) -> F,
    ) -> Result<Value, StepFailure>
    where
        D: Observed,
        O: Serialize + Send + 'static,
        F: Future<Output = Result<O, StepError>> + Send + 'static,
    {
        let deps = deps.clone().observed_by(&self.observer);
        let step = step(deps, self.budget).instrument(self.span.clone());
        // A task of its own only so that a panic becomes an answer: it is over before the invocation is.
        let outcome = tokio::spawn(step).await;
        let answer = self.span.in_scope(|| finish(outcome));
        self.observer.flush();
        answer
    }
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

#[cfg(test)]
mod tests {
    use highwater_aws::ConnectionSettings;
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
