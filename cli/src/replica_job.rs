//! The ports of replicas, and the work that goes on until somebody stops it: the log is written, and applied.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use highwater_aws::Clients;
use highwater_domain::budget::{Budget, Clock as _};
use highwater_domain::ids::TableRef;
use highwater_domain::replica::{Phase, ReplicaId, ReplicaRecord};
use highwater_lambda::SystemClock;
use highwater_steps::follow::{self, FollowReport, FollowRequest};
use highwater_steps::replica::apply::{self, ApplyRequest};
use highwater_steps::replica::sink::Applied;
use highwater_steps::replica::{ReplicaDeps, advance, load};
use highwater_steps::{LiveDeps, StepError, StopFlag};
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::follow::Sharing;
use crate::connect;
use crate::console::Console;
use crate::error::CliError;
use crate::format::{count, seconds};
use crate::live_job::LiveJob;
use crate::replica_progress::{ReplicaProgress, standing_words};

/// The pause between two looks at a replica that is not live yet.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The ports of replicas, and what must live as long as they do.
pub struct ReplicaJob {
    /// The ports.
    pub deps: ReplicaDeps,
    job: LiveJob,
}

impl ReplicaJob {
    /// Connects, and opens the control table; it is created where there is none.
    pub async fn open(
        global: &Global,
        console: Console,
        sharing: &Sharing,
        progress: Arc<ReplicaProgress>,
        stop: StopFlag,
    ) -> Result<Self, CliError> {
        let job = LiveJob::open(global, console, sharing, progress.follow.clone(), stop).await?;
        let clients = Clients::connect(&connect::settings(global)).await?;
        let replicas = Arc::new(job.control().live().clone());
        let restores = job.control().restores.clone();
        let log = job.deps.log.clone();
        let deps = connect::replica_deps(&clients, log, replicas, restores, progress);
        Ok(Self { deps, job })
    }

    /// The ports of the source's stream.
    pub fn live(&self) -> &LiveDeps {
        &self.job.deps
    }

    /// The ARN of a table, or the table itself where it is one already: it may be gone.
    pub async fn source_arn(&self, table: &TableRef) -> Result<String, CliError> {
        if table.as_str().starts_with("arn:") {
            return Ok(table.to_string());
        }
        let described = self.deps.describer.describe(table.as_str()).await;
        let described = described.map_err(StepError::Table)?;
        let arn = described.arn().map_err(|source| StepError::Settings {
            table: table.to_string(),
            source,
        })?;
        Ok(arn.to_owned())
    }

    /// The one replica of `source_arn` in the table `to`.
    pub async fn find(&self, source_arn: &str, to: &TableRef) -> Result<ReplicaRecord, CliError> {
        let known = self.deps.replicas.replicas(source_arn).await;
        let known = known.map_err(StepError::Control)?;
        let is_it = |record: &ReplicaRecord| {
            record.target == *to
                || (!to.as_str().starts_with("arn:") && record.target.name() == to.name())
        };
        let mut found: Vec<ReplicaRecord> = known.into_iter().filter(is_it).collect();
        // A table of the same name may have been a replica before.
        found.sort_by_key(|record| (record.phase.is_over(), std::cmp::Reverse(record.began_at)));
        found.into_iter().next().ok_or_else(|| {
            StepError::InvalidInput(format!(
                "{to} is no replica of {source_arn} in this control table"
            ))
            .into()
        })
    }
}

/// What a replica was given by this process.
#[derive(Clone, Debug)]
pub struct Fed {
    /// What became of the records.
    pub applied: Applied,
    /// How the replica stands.
    pub record: ReplicaRecord,
}

/// Takes a replica to `live`, and feeds it until it is stopped, over, or (if asked for) has all that the log holds.
pub async fn feed(
    deps: &ReplicaDeps,
    source_arn: &str,
    id: &ReplicaId,
    request: &ApplyRequest,
    console: Console,
) -> Result<Fed, StepError> {
    let mut applied = Applied::default();
    let mut said = None;
    loop {
        let known = load(deps, source_arn, id).await?.value;
        let advanced = advance::run(deps, known).await?;
        let record = advanced.record;
        if said != Some(record.phase) {
            said = Some(record.phase);
            console.say(&format!(
                "replica {} is in phase {}",
                record.target, record.phase
            ));
        }
        if record.phase == Phase::Live {
            let report = apply::run(deps, &record, request, Budget::UNLIMITED).await?;
            applied.add(&report.applied);
            let ended = report.closed || request.until_idle;
            if ended || report.record.phase.is_over() || deps.live.stop.is_set() {
                return Ok(Fed {
                    applied,
                    record: report.record,
                });
            }
            continue;
        }
        if record.phase.is_over() {
            return Err(over(&record));
        }
        if let Some(quiet_at) = advanced.quiet_at {
            let left = quiet_at.since(deps.live.clock.now());
            console.say(&format!(
                "a loader died; its last requests run out in {}",
                seconds(Duration::from_millis(left).as_secs_f64())
            ));
        }
        if deps.live.stop.is_set() {
            return Ok(Fed { applied, record });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn over(record: &ReplicaRecord) -> StepError {
    let reason = record.error.clone();
    StepError::ReplicaFailed {
        id: record.id.clone(),
        reason: reason.unwrap_or_else(|| format!("it is {}", record.phase)),
    }
}

/// How often it is looked whether the table has more replicas.
const LOOK_FOR_MORE: Duration = Duration::from_secs(10);

/// Feeds every replica of a table that is not over, those that are begun meanwhile included. A replica that cannot go on ends nothing
/// but itself.
pub async fn feed_all(
    deps: &ReplicaDeps,
    source_arn: &str,
    request: &ApplyRequest,
    console: Console,
) -> Result<Vec<Fed>, StepError> {
    let mut fed = Vec::new();
    let mut known: BTreeSet<ReplicaId> = BTreeSet::new();
    let mut at_work = FuturesUnordered::new();
    loop {
        let records = deps.replicas.replicas(source_arn).await;
        for record in records.map_err(StepError::Control)? {
            if !record.phase.is_over() && known.insert(record.id.clone()) {
                console.say(&format!("feeding the replica {}", record.target));
                at_work.push(feed_one(deps, source_arn, record.id, request, console));
            }
        }
        if deps.live.stop.is_set() && at_work.is_empty() {
            return Ok(fed);
        }
        let again = tokio::time::sleep(LOOK_FOR_MORE);
        tokio::pin!(again);
        loop {
            tokio::select! {
                biased;
                Some(ended) = at_work.next() => fed.extend(ended),
                () = &mut again => break,
                () = tokio::time::sleep(LOOK_EVERY), if at_work.is_empty() => {
                    if deps.live.stop.is_set() || request.until_idle {
                        return Ok(fed);
                    }
                }
            }
            if at_work.is_empty() && request.until_idle {
                return Ok(fed);
            }
        }
    }
}

async fn feed_one(
    deps: &ReplicaDeps,
    source_arn: &str,
    id: ReplicaId,
    request: &ApplyRequest,
    console: Console,
) -> Option<Fed> {
    match feed(deps, source_arn, &id, request, console).await {
        Ok(fed) => Some(fed),
        Err(error) => {
            console.say(&format!("replica {id} is not fed any more: {error}"));
            None
        }
    }
}

/// What a replica was given, for people.
pub fn fed_words(fed: &Fed) -> String {
    let (record, applied) = (&fed.record, &fed.applied);
    format!(
        "  replica {}: records {} = written {} + stale {} + superseded {} + seen by the scan {} + filtered {} + refused {}\n  {}",
        record.target,
        count(applied.records),
        count(applied.written),
        count(applied.stale),
        count(applied.superseded),
        count(applied.seen),
        count(applied.filtered),
        count(applied.refused),
        standing_words(record, SystemClock.now()),
    )
}

/// The same for machines.
pub fn fed_value(fed: &Fed) -> Value {
    let applied = &fed.applied;
    json!({
        "replica": fed.record,
        "equal_at": fed.record.equal_at(),
        "applied": {
            "records": applied.records,
            "written": applied.written,
            "stale": applied.stale,
            "superseded": applied.superseded,
            "seen": applied.seen,
            "filtered": applied.filtered,
            "refused": applied.refused,
        },
    })
}

/// Writes the log and feeds replicas from it, side by side. The first failure of either ends both.
pub async fn follow_and_feed<T>(
    live: &LiveDeps,
    request: Option<&FollowRequest>,
    feeding: impl Future<Output = Result<T, StepError>>,
) -> Result<(Option<FollowReport>, T), StepError> {
    let Some(request) = request else {
        return Ok((None, feeding.await?));
    };
    if request.until_idle {
        // Everything that is in the stream is in the log before a replica is asked whether it has all of it.
        let followed = follow::run(live, request, Budget::UNLIMITED).await?;
        return Ok((Some(followed), feeding.await?));
    }
    let following = async {
        let followed = follow::run(live, request, Budget::UNLIMITED).await;
        if followed.is_err() {
            live.stop.set();
        }
        followed
    };
    let feeding = async {
        let fed = feeding.await;
        live.stop.set();
        fed
    };
    let (followed, fed) = Box::pin(async { tokio::join!(following, feeding) }).await;
    // What the follower met is why the rest was stopped.
    Ok((Some(followed?), fed?))
}
