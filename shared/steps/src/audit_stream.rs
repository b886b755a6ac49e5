//! `AuditStream`: reads the stream behind whoever writes the log, proves that nothing is missing, and fills in what is.
//!
//! A writer that Lambda calls cannot prove that it was given everything: it is told neither the shard nor what came before,
//! and what fails for a day is dropped. So every shard is read once more, from start to end, and compared. One run is one
//! slice of that: it goes on where the last one stopped, and ends when every shard is idle or ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::mark::DEFAULT_PUBLICATION_MS;
use highwater_domain::shard::ShardId;
use highwater_lease::{Error as LeaseError, HeldLease, Standing};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::deps::StopFlag;
use crate::error::StepError;
use crate::follow::worker_name;
use crate::follow_stream::Beginning;
use crate::live_deps::LiveDeps;
use crate::log_sink::LogSink;
use crate::log_target::{LogOf, LogTarget, patience};
use crate::poll_shard;
use crate::polled::{PollCounts, PollSettings, Polled};
use crate::publish_mark::MarkPublisher;
use crate::shard_rows::{self, lease_of};
use crate::shard_work::passes;
use crate::stream_log::StreamLog;
use crate::survey_shards::Surveyor;
use crate::watch_table;

/// Shards that are read at once.
const AT_ONCE: usize = 16;

/// How long a record waits for others: an audit is about completeness, not about speed.
const FLUSH: Duration = Duration::from_secs(2);

/// The pause between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The input of the function `AuditStream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditInput {
    /// The table.
    pub table: TableRef,
    /// The destination: `s3://…` or `file://…`.
    pub to: String,
    /// This worker's name; without one, a random one.
    #[serde(default)]
    pub worker: Option<String>,
    /// How late DynamoDB publishes a record at most, in milliseconds: what the grade `assumed` rests on.
    #[serde(default = "publication_ms")]
    pub publication_ms: u64,
    /// Two answers about a shard's children lie this far apart before they are believed, in milliseconds.
    #[serde(default = "settle_ms")]
    pub settle_ms: u64,
    /// Whether the stream is a local engine's, whose listings are never behind.
    #[serde(default)]
    pub local: bool,
    /// Draws waits and names from this, so that a simulation can be repeated.
    #[serde(default)]
    pub seed: Option<u64>,
}

fn publication_ms() -> u64 {
    DEFAULT_PUBLICATION_MS
}

fn settle_ms() -> u64 {
    10_000
}

impl AuditInput {
    /// Audits the log of `table` in `to`, everything else as usual.
    #[must_use]
    pub fn new(table: TableRef, to: impl Into<String>) -> Self {
        Self {
            table,
            to: to.into(),
            worker: None,
            publication_ms: publication_ms(),
            settle_ms: settle_ms(),
            local: false,
            seed: None,
        }
    }

    /// For a local engine: it publishes at once, and its listings are true.
    #[must_use]
    pub fn on_local_engine(self) -> Self {
        Self {
            publication_ms: 0,
            settle_ms: 0,
            local: true,
            ..self
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The stream; the newest, if the log of an older one was still to be read.
    pub stream_label: String,
    /// Shards that this run has read.
    pub shards: u64,
    /// Records that were compared with the log.
    pub records: u64,
    /// Records that were not in the log although they were written minutes before.
    pub missing: u64,
    /// Records that were not in the log and are now; those that were merely on their way included.
    pub back_filled: u64,
    /// Incidents that this run was the first to see.
    pub incidents: u64,
    /// The mark.
    pub mark: Option<PublishedMark>,
    /// Whether every shard was read to its end or until nothing came, by this run or by whoever holds its lease.
    pub done: bool,
}

/// Audits for as long as the budget allows, at most until nothing is left to read.
///
/// # Errors
/// What no further try can help: no stream and no log of one, a permission, a log that contradicts the stream.
pub async fn run(
    deps: &LiveDeps,
    input: &AuditInput,
    budget: Budget,
) -> Result<AuditReport, StepError> {
    let mut random = input
        .seed
        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let worker = worker_name(input.worker.as_deref(), &mut random);
    let target = LogTarget::open(deps, &input.table, &input.to)?;
    let mut report = AuditReport {
        done: true,
        ..AuditReport::default()
    };
    for (log, beginning) in logs(deps, input, &target, &worker).await? {
        let audit = Audit {
            deps,
            log: Arc::new(log),
            input,
            budget,
            halt: StopFlag::default(),
            random: random.fork(),
            beginning,
            readers: JoinSet::new(),
            renewals: JoinSet::new(),
            taken: BTreeSet::new(),
            owned_since: BTreeMap::new(),
            report: &mut report,
        };
        audit.run().await?;
    }
    Ok(report)
}

/// The table's stream, and those before it that are not read to their end.
async fn logs(
    deps: &LiveDeps,
    input: &AuditInput,
    target: &LogTarget,
    worker: &str,
) -> Result<Vec<(StreamLog, Beginning)>, StepError> {
    let of = LogOf {
        worker: worker.to_owned(),
        publication_ms: input.publication_ms,
        patience: patience(input.local),
    };
    let (current, no_stream) = match target.stream(deps).await {
        Ok((table, stream)) => {
            let begun = target.begin(deps, &table, &stream, &of).await?;
            (Some(begun), None)
        }
        Err(error @ (StepError::StreamUnsuitable { .. } | StepError::Table(_)))
            if !passes(&error) =>
        {
            (None, Some(error))
        }
        Err(error) => return Err(error),
    };
    let arn = current.as_ref().map(|(log, _)| log.arn().to_owned());
    let unfinished = target.unfinished(deps, arn.as_deref(), &of).await?;
    let mut logs: Vec<(StreamLog, Beginning)> = unfinished
        .into_iter()
        .map(|log| (log, Beginning::new()))
        .collect();
    logs.extend(current);
    match no_stream {
        Some(error) if logs.is_empty() => Err(error),
        _ => Ok(logs),
    }
}

struct Audit<'a> {
    deps: &'a LiveDeps,
    log: Arc<StreamLog>,
    input: &'a AuditInput,
    budget: Budget,
    halt: StopFlag,
    random: fastrand::Rng,
    beginning: Beginning,
    readers: JoinSet<Result<(Polled, PollCounts), StepError>>,
    renewals: JoinSet<Standing>,
    /// Shards that need no look any more in this run.
    taken: BTreeSet<ShardId>,
    /// Shards whose lease somebody else holds, and since when this run knows.
    owned_since: BTreeMap<ShardId, Instant>,
    report: &'a mut AuditReport,
}

impl Audit<'_> {
    async fn run(mut self) -> Result<(), StepError> {
        let read = self.survey_and_read().await;
        self.halt.set();
        let mut failed = read.err();
        while let Some(ended) = self.readers.join_next().await {
            if let Err(error) = self.take(ended) {
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let mut publisher = MarkPublisher::default();
        let mark = publisher.publish(self.deps, &self.log, 0).await?;
        if let Some(unhealed) = publisher.unhealed() {
            self.deps.observer.audited(&mark, unhealed);
        }
        self.log.label().clone_into(&mut self.report.stream_label);
        self.report.mark = Some(mark);
        Ok(())
    }

    async fn survey(&mut self) -> Result<(), StepError> {
        let surveyed = Surveyor::default().run(self.deps, &self.log).await?;
        let table = self.input.table.as_str();
        let watched = watch_table::run(self.deps, &self.log, table, surveyed.status).await?;
        self.report.incidents += surveyed.incidents + u64::from(watched.1);
        Ok(())
    }

    async fn survey_and_read(&mut self) -> Result<(), StepError> {
        // Before the log has begun a survey would take its first shards for late ones.
        let mut is_surveyed = self.beginning.is_empty();
        if is_surveyed {
            self.survey().await?;
        }
        loop {
            if self.deps.should_stop(&self.budget) {
                self.report.done = false;
                return Ok(());
            }
            let is_left = self.begin_readers().await?;
            if !is_left && self.readers.is_empty() && is_surveyed {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(ended) = self.readers.join_next() => self.take(ended)?,
                Some(begun) = self.beginning.join_next() => {
                    begun.map_err(|error| {
                        StepError::Internal(format!("beginning the log broke off: {error}"))
                    })??;
                    self.survey().await?;
                    is_surveyed = true;
                }
                Some(_) = self.renewals.join_next() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Takes every free lease, as many as may be read at once. Whether a shard is left that this run has not looked at.
    async fn begin_readers(&mut self) -> Result<bool, StepError> {
        let rows = shard_rows::all(&self.log.leases).await?;
        let mut is_left = false;
        for (shard, row) in &rows {
            let waits = row
                .parents
                .iter()
                .any(|id| rows.get(id).is_none_or(|it| !it.ended));
            if row.ended || waits || self.taken.contains(shard) {
                continue;
            }
            is_left = true;
            if self.readers.len() >= AT_ONCE {
                break;
            }
            match self.log.leases.acquire(&lease_of(shard)?).await {
                Ok(held) => {
                    self.taken.insert(shard.clone());
                    self.report.shards += 1;
                    self.read(shard, held);
                }
                Err(LeaseError::NotAcquired { .. }) => self.look_at_owner(shard),
                Err(
                    LeaseError::Ended { .. }
                    | LeaseError::ParentUnfinished { .. }
                    | LeaseError::Unknown { .. },
                ) => {}
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(is_left)
    }

    /// An owner that is alive reads the shard itself. One that died is silent, which takes the lease time to see.
    fn look_at_owner(&mut self, shard: &ShardId) {
        let settings = self.log.leases.settings();
        let patience = settings.lease + settings.renew_every;
        let since = self.owned_since.entry(shard.clone());
        if since.or_insert_with(Instant::now).elapsed() >= patience {
            self.taken.insert(shard.clone());
        }
    }

    fn read(&mut self, shard: &ShardId, held: HeldLease) {
        let span = tracing::error_span!("shard", %shard);
        let renewal = held.renewal().run();
        self.renewals.spawn(renewal.instrument(span.clone()));
        let mut deps = self.deps.clone();
        deps.log.stop = self.halt.clone();
        let settings = PollSettings {
            flush: FLUSH,
            apart: Duration::from_millis(self.input.settle_ms),
            until_silent: true,
        };
        let sink = LogSink::missing(self.deps, &self.log, self.random.u64(..));
        let reader = poll_shard::run(
            deps,
            Arc::clone(&self.log),
            held,
            sink,
            settings,
            self.budget,
            self.random.u64(..),
        );
        self.readers.spawn(reader.instrument(span));
    }

    fn take(
        &mut self,
        ended: Result<Result<(Polled, PollCounts), StepError>, tokio::task::JoinError>,
    ) -> Result<(), StepError> {
        let ended = ended
            .map_err(|error| StepError::Internal(format!("reading a shard broke off: {error}")))?;
        let (polled, counts) = ended?;
        self.deps.observer.back_filled(counts.sunk.back_filled);
        let report = &mut *self.report;
        report.records += counts.records;
        report.missing += counts.sunk.missing;
        report.back_filled += counts.sunk.back_filled;
        report.incidents += counts.incidents;
        report.done &= polled != Polled::Stopped;
        Ok(())
    }
}
