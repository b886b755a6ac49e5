//! The demo's replica: `highwater replicate`, inside this process.

use std::time::Duration;

use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::ids::TableRef;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{FenceMode, Phase, ReplicaRecord};
use highwater_domain::restore::RestoreId;
use highwater_lambda::SystemClock;
use highwater_steps::replica::apply::{self, ApplyReport, ApplyRequest};
use highwater_steps::replica::plan::{self, ReplicaRequest};
use highwater_steps::replica::sink::Applied;
use highwater_steps::replica::{ReplicaDeps, advance, load};
use highwater_steps::{RestoreDeps, StepError, StopFlag};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::shop::Truth;
use super::{BUCKET, Stage, destination, proof};
use crate::console::Console;
use crate::error::CliError;
use crate::format::count;
use crate::job::Job;
use crate::signals::Signals;
use crate::tasks::RestoreTasks;
use crate::workflow::LocalExecution;

/// How long the replica may take to have everything.
const PATIENCE: Duration = Duration::from_mins(1);

impl Stage {
    /// Loads a second table from the backup while the shop goes on, and begins to give it the log (highwater replicate).
    pub(super) async fn replicate(
        &self,
        root: &str,
        console: Console,
    ) -> Result<Replica, CliError> {
        let (log, snapshot) = (destination(), format!("s3://{BUCKET}/{root}"));
        let replica = Replica::load(
            self.replica_deps.clone(),
            &self.restore_deps,
            &self.table,
            &log,
            &snapshot,
        )
        .await?;
        console.say(&format!(
            "6. Replicating it to \"{}\" (highwater replicate): loaded from the backup; the log is applied from its handoff on.",
            replica.target()
        ));
        Ok(replica)
    }

    /// Waits until the replica holds everything that the shop did, and compares it.
    pub(super) async fn until_replicated(
        &self,
        replica: Replica,
        truth: &Truth,
        console: Console,
    ) -> Result<Value, CliError> {
        replica.reaches(truth.last()).await?;
        let into = replica.target().clone();
        let applied = replica.end().await?;
        let last = truth.at(truth.last());
        let items = proof::require_table_equals_truth(&self.deps, &into, last).await?;
        console.say(&format!(
            "9. The replica was given {} records of the log, {} of them written, and holds {} items; EQUAL to the source.",
            count(applied.records),
            count(applied.written),
            count(items),
        ));
        Ok(json!({"table": into, "items": items, "applied": applied.records, "equal": true}))
    }
}

/// A replica that is fed.
#[derive(Debug)]
pub struct Replica {
    deps: ReplicaDeps,
    record: ReplicaRecord,
    stop: StopFlag,
    work: JoinHandle<Result<ApplyReport, StepError>>,
}

impl Replica {
    /// Loads a replica of `table` from the backup at `snapshot`, and begins to give it the log at `log`.
    pub async fn load(
        deps: ReplicaDeps,
        restore: &RestoreDeps,
        table: &TableRef,
        log: &str,
        snapshot: &str,
    ) -> Result<Self, CliError> {
        let now = SystemClock.now();
        let request = ReplicaRequest {
            source: table.clone(),
            to: format!("{table}-replica")
                .parse()
                .map_err(StepError::from)?,
            target_region: None,
            target_role: None,
            filter: Vec::new(),
            fence: FenceMode::Table,
            log: log.to_owned(),
            snapshot: snapshot.trim_end_matches('/').to_owned(),
            local: true,
        };
        let id = RestoreId::of_execution("the demo's replica", now);
        let planned = plan::plan(&deps, &request, id, now).await?;
        let record = plan::begin(&deps, &planned).await?;
        let request = plan::load_request(&record, planned.makes_table);
        let job = Job::Restore(record.load.clone());
        let tasks = RestoreTasks::new(restore.clone());
        let mut signals = Signals::listen(restore.stop.clone())?;
        let quiet = Console::new(false, true);
        let execution = LocalExecution::new();
        let loaded = execution.run(&request, &job, &tasks, quiet, &mut signals);
        loaded.await?;
        let record = plan::note_target(&deps, &record).await?;
        let record = advance::run(&deps, record).await?.record;
        if record.phase != Phase::Live {
            return Err(CliError::Different(format!(
                "the replica is in phase {} after its load",
                record.phase
            )));
        }
        Ok(Self::feed(deps, record))
    }

    fn feed(deps: ReplicaDeps, record: ReplicaRecord) -> Self {
        let stop = StopFlag::default();
        let mut deps = deps;
        deps.feed.live.stop = stop.clone();
        let request = ApplyRequest {
            survey_every: Duration::from_millis(500),
            ..ApplyRequest::default()
        };
        let (ports, fed) = (deps.clone(), record.clone());
        let work =
            tokio::spawn(
                async move { apply::run(&ports, &fed, &request, Budget::UNLIMITED).await },
            );
        Self {
            deps,
            record,
            stop,
            work,
        }
    }

    /// The replica's table.
    pub fn target(&self) -> &TableRef {
        &self.record.target
    }

    /// Waits until the replica is known to hold everything up to this second.
    pub async fn reaches(&self, second: UnixSeconds) -> Result<(), CliError> {
        let began = Instant::now();
        loop {
            let known = load(&self.deps, &self.record.source_arn, &self.record.id).await?;
            let equal_at = known.value.equal_at();
            if equal_at.is_some_and(|at| at >= second) {
                return Ok(());
            }
            if self.work.is_finished() || began.elapsed() > PATIENCE {
                return Err(CliError::Different(format!(
                    "the replica is not known to be equal at {second}: {equal_at:?}"
                )));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends in order; what became of the records.
    pub async fn end(mut self) -> Result<Applied, CliError> {
        self.stop.set();
        let ended = (&mut self.work).await;
        let report = ended.map_err(|error| StepError::Internal(error.to_string()))??;
        Ok(report.applied)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.work.abort();
    }
}
