//! `highwater status`.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_aws::Clients;
use highwater_domain::failure::FailureKind;
use highwater_domain::replica_control::ReplicaControl;
use highwater_steps::deps::Unobserved;
use highwater_steps::live_status::{self, LiveStatus};
use highwater_steps::replica::{self, status::ReplicaStatus};
use highwater_steps::{ErrorName, LiveDeps, StepError, StopFlag};
use serde::Serialize;
use serde_json::json;

use crate::args::Global;
use crate::args::status::Status;
use crate::bucket_marks::BucketMarks;
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::status_text;
use crate::table_places::{self, TableFolder};

/// How one table stands.
#[derive(Clone, Debug, Serialize)]
pub struct TableStatus {
    /// Its folder.
    pub url: String,
    /// Why the log's positions of this moment are not known; `None` if they are.
    pub without_positions: Option<String>,
    /// Its replicas, as far as the control table knows them.
    pub replicas: Vec<ReplicaStatus>,
    /// Everything else.
    #[serde(flatten)]
    pub status: LiveStatus,
}

/// Shows how tables stand.
pub async fn run(args: &Status, global: &Global, console: Console) -> Result<(), CliError> {
    let tables = table_places::find(&args.places, args.from.as_ref(), global).await?;
    let mut positions = Positions::open(global, console).await?;
    let mut found = Vec::new();
    for table in &tables {
        found.push(positions.status(table).await?);
    }
    let needy: Vec<&TableStatus> = found
        .iter()
        .filter(|table| table.status.needs_a_person)
        .collect();
    let why: Vec<String> = needy
        .iter()
        .flat_map(|table| {
            table
                .status
                .why
                .iter()
                .map(|why| format!("{}: {why}", table.status.table))
        })
        .collect();
    let text: Vec<String> = found
        .iter()
        .map(|table| status_text::of(table, status_text::width()))
        .collect();
    let value = json!({"needs_a_person": !needy.is_empty(), "why": why, "tables": found});
    console.result(&text.join("\n\n"), &value);
    if needy.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = needy.iter().map(|table| &*table.status.table).collect();
    Err(CliError::NeedsAPerson {
        what: names.join(", "),
        why: why.join("; "),
        hint: None,
    })
}

/// Where positions are read: the control table, or, once it has turned out to be out of reach, nowhere.
enum Positions {
    Known {
        deps: Box<LiveDeps>,
        replicas: Box<dyn ReplicaControl>,
        /// It lives as long as the ports do.
        _control: Control,
    },
    Unknown(Box<BucketMarks>, String),
}

impl Positions {
    async fn open(global: &Global, console: Console) -> Result<Self, CliError> {
        let opened = async {
            let clients = Clients::connect(&connect::settings(global)).await?;
            let control = connect::control(global, console, Absent::Leave).await?;
            let observer = Arc::new(Unobserved);
            let deps = connect::live_deps(&clients, &control, observer, StopFlag::default());
            let replicas = Box::new(control.live().clone());
            Ok::<_, CliError>((deps, replicas, control))
        };
        match Box::pin(opened).await {
            Ok((deps, replicas, control)) => Ok(Self::Known {
                deps: Box::new(deps),
                replicas,
                _control: control,
            }),
            Err(error) => Self::without(error.to_string()).await,
        }
    }

    async fn without(reason: String) -> Result<Self, CliError> {
        Ok(Self::Unknown(Box::new(BucketMarks::start().await?), reason))
    }

    async fn status(&mut self, table: &TableFolder) -> Result<TableStatus, CliError> {
        if let Self::Known { deps, replicas, .. } = self {
            match with_replicas(deps, replicas.as_ref(), table).await {
                Ok((status, replicas)) => return Ok(told(table, status, replicas, None)),
                Err(error) => match out_of_reach(&error) {
                    Some(reason) => *self = Self::without(reason).await?,
                    None => return Err(error.into()),
                },
            }
        }
        let Self::Unknown(marks, reason) = self else {
            return Err(StepError::Internal("positions are known and not known".into()).into());
        };
        let deps = marks.of(table).await?;
        let status = live_status::run(&deps, &table.store, &table.place).await?;
        Ok(told(table, status, Vec::new(), Some(reason.clone())))
    }
}

fn told(
    table: &TableFolder,
    mut status: LiveStatus,
    replicas: Vec<ReplicaStatus>,
    without_positions: Option<String>,
) -> TableStatus {
    let why = replicas.iter().flat_map(|replica| &replica.why);
    status.why.extend(why.cloned());
    status.needs_a_person = !status.why.is_empty();
    TableStatus {
        url: table.to_string(),
        without_positions,
        replicas,
        status,
    }
}

/// How the log of a table stands, and those who are fed from it.
async fn with_replicas(
    deps: &LiveDeps,
    control: &dyn ReplicaControl,
    table: &TableFolder,
) -> Result<(LiveStatus, Vec<ReplicaStatus>), StepError> {
    let status = live_status::run(deps, &table.store, &table.place).await?;
    // A table that was dropped and made anew has the ARN that it had.
    let arns: BTreeSet<&str> = status
        .generations
        .iter()
        .map(|stream| stream.facts.table_arn.as_str())
        .collect();
    let mut replicas = Vec::new();
    for arn in arns {
        replicas.extend(replica::status::of_table(control, arn, status.at).await?);
    }
    Ok((status, replicas))
}

/// Why the control table cannot be asked, if that is what went wrong. The bucket says the rest.
fn out_of_reach(error: &StepError) -> Option<String> {
    let is_it = match error {
        StepError::Control(failure) => failure.kind != FailureKind::Corrupt,
        StepError::Lease(_) => error.name() != ErrorName::LeaseLost,
        _ => false,
    };
    is_it.then(|| error.to_string())
}
