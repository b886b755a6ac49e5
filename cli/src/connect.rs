//! From flags to ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_aws::{Clients, ConnectionSettings, KvControlTable};
use highwater_domain::control_table::ControlTable;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::layout::Destination;
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::table_plan::TargetPlace;
use highwater_lambda::{KvLeaseGroups, SystemClock};
use highwater_local::{DirectoryStore, EmbeddedDynamoDb};
use highwater_steps::deps::Unobserved;
use highwater_steps::known_facts::KnownFacts;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::replica::{FeedDeps, ReplicaDeps, ReplicaObserver};
use highwater_steps::{
    Deps, LiveDeps, LiveObserver, LogDeps, Observer, RestoreDeps, SnapshotDeps, StopFlag,
};

use crate::args::{Global, LocalControl};
use crate::console::Console;
use crate::error::CliError;

/// Opens buckets and directories; buckets only where there is a connection to AWS.
#[derive(Clone, Debug)]
pub struct LocalAndS3 {
    clients: Option<Clients>,
}

impl LocalAndS3 {
    /// Directories, and buckets through `clients`.
    pub fn new(clients: Option<Clients>) -> Self {
        Self { clients }
    }
}

impl Stores for LocalAndS3 {
    fn open(&self, destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        match (destination, &self.clients) {
            (Destination::Directory { path }, _) => {
                Ok(Arc::new(DirectoryStore::new(Path::new(path))))
            }
            (Destination::S3 { bucket, .. }, Some(clients)) => {
                Ok(Arc::new(clients.s3_store(bucket)))
            }
            (Destination::S3 { .. }, None) => Err(Failure::new(
                FailureKind::Invalid,
                "open",
                destination.to_string(),
                "this command was started without a connection to AWS",
            )),
        }
    }
}

/// What the flags say about the connection.
pub fn settings(global: &Global) -> ConnectionSettings {
    ConnectionSettings {
        region: global.region.clone(),
        profile: global.profile.clone(),
        endpoint_url: global.endpoint_url.clone(),
        dynamodb_endpoint_url: None,
        s3_endpoint_url: global.s3_endpoint_url.clone(),
        sfn_endpoint_url: None,
    }
}

/// The store of a destination, for commands that touch no table. A directory needs no AWS at all.
pub async fn store(
    global: &Global,
    destination: &Destination,
) -> Result<Arc<dyn ObjectStore>, CliError> {
    let clients = match destination {
        Destination::Directory { .. } => None,
        Destination::S3 { .. } => Some(Clients::connect(&settings(global)).await?),
    };
    Ok(LocalAndS3 { clients }.open(destination)?)
}

/// The place where checkpoints are kept.
pub struct Control {
    /// Snapshots, segments and parts.
    pub table: Arc<dyn ControlTable>,
    /// Restores and their files.
    pub restores: Arc<dyn RestoreControl>,
    /// The same table, for leases and marks.
    live: KvControlTable,
    /// The file's engine, which lives as long as this does.
    _engine: Option<EmbeddedDynamoDb>,
}

impl Control {
    /// A control table that needs no engine of its own.
    pub fn of(table: KvControlTable) -> Self {
        Self::with_engine(table, None)
    }

    /// The same table, as leases and marks see it.
    pub fn live(&self) -> &KvControlTable {
        &self.live
    }

    fn with_engine(table: KvControlTable, engine: Option<EmbeddedDynamoDb>) -> Self {
        let live = table.clone();
        let table = Arc::new(table);
        Self {
            table: table.clone(),
            restores: table,
            live,
            _engine: engine,
        }
    }
}

/// Whether a control table that is not there should be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Make it, and say so.
    Create,
    /// Leave it: reading from what is not there finds nothing.
    Leave,
}

/// Opens the control table, or the file that stands for it.
pub async fn control(
    global: &Global,
    console: Console,
    absent: Absent,
) -> Result<Control, CliError> {
    if let Some(local) = &global.control {
        let path = local_path(local)?;
        if absent == Absent::Leave && !path.exists() {
            let file = path.display().to_string();
            let absent = Failure::new(FailureKind::NotFound, "open", file, "there is no such file");
            return Err(highwater_steps::StepError::Control(absent).into());
        }
        let engine = EmbeddedDynamoDb::open(&path).await?;
        let clients = Clients::connect(&ConnectionSettings {
            region: Some("local".into()),
            endpoint_url: Some(engine.endpoint_url().to_owned()),
            ..ConnectionSettings::default()
        })
        .await?;
        let table = clients.control_table(&global.control_table);
        if ensure(&table).await? {
            console.say(&format!("checkpoints are kept in {}", path.display()));
        }
        return Ok(Control::with_engine(table, Some(engine)));
    }
    let clients = Clients::connect(&settings(global)).await?;
    let table = clients.control_table(&global.control_table);
    if absent == Absent::Create && ensure(&table).await? {
        let name = &global.control_table;
        console.say(&format!(
            "created the control table {name} (on demand, TTL on) for checkpoints"
        ));
    }
    Ok(Control::of(table))
}

async fn ensure(table: &KvControlTable) -> Result<bool, CliError> {
    table
        .ensure()
        .await
        .map_err(|failure| highwater_steps::StepError::Control(failure).into())
}

/// The file of `--control local`: as named, or in the user's state folder.
fn local_path(local: &LocalControl) -> Result<PathBuf, CliError> {
    if let Some(path) = &local.path {
        return Ok(path.clone());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state =
        state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    state
        .map(|folder| folder.join("highwater/control.db"))
        .ok_or_else(|| {
            CliError::Usage("no home folder is known: name the file, --control local:PATH".into())
        })
}

/// The control table's name where it is a table of the user's account; checkpoints in a file are of none.
pub fn control_table(global: &Global) -> Option<&str> {
    global
        .control
        .is_none()
        .then_some(global.control_table.as_str())
}

/// The ports of the restore workflow. `control_table` tells the account, if it is a table of it.
pub fn restore_deps(
    clients: &Clients,
    control: &Control,
    control_table: Option<&str>,
    observer: Arc<dyn Observer>,
    stop: StopFlag,
) -> RestoreDeps {
    let clock = Arc::new(SystemClock);
    RestoreDeps {
        snapshots: snapshot_deps(clients, control, observer.clone(), stop.clone()),
        writer: Arc::new(clients.table_writer()),
        admin: Arc::new(clients.table_admin()),
        importer: Arc::new(clients.table_importer()),
        describer: Arc::new(clients.table_describer()),
        place: TargetPlace {
            region: clients.region().to_owned(),
            account: None,
        },
        own_table: control_table.map(str::to_owned),
        own_endpoint: clients.has_own_endpoint(),
        stores: Arc::new(LocalAndS3 {
            clients: Some(clients.clone()),
        }),
        restores: control.restores.clone(),
        replicas: Arc::new(control.live().clone()),
        elsewhere: Some(Arc::new(clients.replica_targets())),
        pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
        clock,
        max_retries: None,
        observer,
        stop,
    }
}

/// The ports of the live side. Leases and marks are where the checkpoints are.
pub fn live_deps(
    clients: &Clients,
    control: &Control,
    observer: Arc<dyn LiveObserver>,
    stop: StopFlag,
) -> LiveDeps {
    let settings = highwater_lease::Settings::default();
    LiveDeps {
        streams: Arc::new(clients.stream_source()),
        log: LogDeps {
            describer: Arc::new(clients.table_describer()),
            stores: Arc::new(LocalAndS3 {
                clients: Some(clients.clone()),
            }),
            leases: Arc::new(KvLeaseGroups::new(control.live.clone(), settings)),
            live: Arc::new(control.live.clone()),
            clock: Arc::new(SystemClock),
            observer,
            stop,
        },
    }
}

/// The ports of replicas of a table whose log is kept by these.
pub fn replica_deps(
    clients: &Clients,
    log: LogDeps,
    replicas: Arc<dyn ReplicaControl>,
    restores: Arc<dyn RestoreControl>,
    observer: Arc<dyn ReplicaObserver>,
) -> ReplicaDeps {
    let targets = Arc::new(clients.replica_targets());
    ReplicaDeps {
        feed: FeedDeps {
            live: log,
            replicas,
            restores,
            feeds: targets.clone(),
            known: KnownFacts::default(),
            observer,
        },
        describer: Arc::new(clients.table_describer()),
        targets,
    }
}

/// The ports of the backup workflow.
pub fn deps(
    clients: &Clients,
    control: &Control,
    observer: Arc<dyn Observer>,
    stop: StopFlag,
) -> Deps {
    Deps {
        scanner: Arc::new(clients.table_scanner()),
        describer: Arc::new(clients.table_describer()),
        admin: Arc::new(clients.table_admin()),
        pace: Arc::new(Pace::new(Arc::new(SystemClock), Share::Process)),
        live: live_deps(clients, control, Arc::new(Unobserved), stop.clone()),
        snapshots: snapshot_deps(clients, control, observer, stop),
    }
}

/// The ports that keep a snapshot.
fn snapshot_deps(
    clients: &Clients,
    control: &Control,
    observer: Arc<dyn Observer>,
    stop: StopFlag,
) -> SnapshotDeps {
    SnapshotDeps {
        stores: Arc::new(LocalAndS3 {
            clients: Some(clients.clone()),
        }),
        control: control.table.clone(),
        clock: Arc::new(SystemClock),
        observer,
        stop,
    }
}
