//! Follow: reads a table's stream into its change log, beside any number of other workers that do the same.
//!
//! One task per held lease reads a shard, another renews it. All of them end with [`run`]: when it is dropped they are
//! aborted, which to everybody else is a crash; when a stop is asked for they finish what is in hand and give the leases
//! back. When the table gets another stream, that one is followed too, while the old one is read to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::TableRef;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::mark::DEFAULT_PUBLICATION_MS;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::deps::StopFlag;
use crate::error::StepError;
use crate::follow_stream::{Beginning, FollowedStream, Follower};
use crate::live_deps::LiveDeps;
use crate::log_target::{LogOf, LogTarget, patience};
use crate::shard_work::passes;
use crate::stream_log::StreamLog;

/// How often a table is looked at that has no stream any more, or another one.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// The first wait between two tries to take a stream up; the next is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// What is to be followed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowRequest {
    /// The table.
    pub table: TableRef,
    /// The destination: `s3://…` or `file://…`.
    pub to: String,
    /// This worker's name; without one, a random one. Workers need different names.
    #[serde(default)]
    pub worker: Option<String>,
    /// How long a record waits for others before it is written, in milliseconds.
    #[serde(default = "flush_ms")]
    pub flush_ms: u64,
    /// How late DynamoDB publishes a record at most, in milliseconds: what the grade `assumed` rests on.
    #[serde(default = "publication_ms")]
    pub publication_ms: u64,
    /// How often the listing is compared with what is known, in milliseconds.
    #[serde(default = "survey_every_ms")]
    pub survey_every_ms: u64,
    /// How often the mark is published, in milliseconds.
    #[serde(default = "publish_every_ms")]
    pub publish_every_ms: u64,
    /// Two answers about a shard's children lie this far apart before they are believed, in milliseconds.
    #[serde(default = "settle_ms")]
    pub settle_ms: u64,
    /// End once every shard is read and idle.
    #[serde(default)]
    pub until_idle: bool,
    /// Whether the stream is a local engine's, whose listings are never behind.
    #[serde(default)]
    pub local: bool,
    /// Draws waits and names from this, so that a simulation can be repeated.
    #[serde(default)]
    pub seed: Option<u64>,
}

fn flush_ms() -> u64 {
    2_000
}

fn publication_ms() -> u64 {
    DEFAULT_PUBLICATION_MS
}

fn survey_every_ms() -> u64 {
    60_000
}

fn publish_every_ms() -> u64 {
    10_000
}

fn settle_ms() -> u64 {
    10_000
}

impl FollowRequest {
    /// Follows `table` into `to`, everything else as usual.
    #[must_use]
    pub fn new(table: TableRef, to: impl Into<String>) -> Self {
        Self {
            table,
            to: to.into(),
            worker: None,
            flush_ms: flush_ms(),
            publication_ms: publication_ms(),
            survey_every_ms: survey_every_ms(),
            publish_every_ms: publish_every_ms(),
            settle_ms: settle_ms(),
            until_idle: false,
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

/// What following came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FollowReport {
    /// This worker.
    pub worker: String,
    /// The stream that was followed last.
    pub stream_label: String,
    /// Records that this worker made durable.
    pub records: u64,
    /// Objects that hold them.
    pub objects: u64,
    /// Records that came again.
    pub repeated: u64,
    /// Shards that this worker read to their end.
    pub shards_ended: u64,
    /// Incidents that this worker was the first to see.
    pub incidents: u64,
    /// The mark, as it was published last.
    pub mark: Option<PublishedMark>,
    /// Whether the stream has ended, all of it is read, and no other has taken its place.
    pub closed: bool,
}

/// A worker's name that nobody else has.
pub(crate) fn worker_name(asked: Option<&str>, random: &mut fastrand::Rng) -> String {
    asked.map_or_else(|| format!("worker-{:08x}", random.u32(..)), str::to_owned)
}

/// Follows the table's stream until a stop is asked for, the budget is spent, the table is dropped, or (if asked for) nothing
/// comes any more. A table whose stream has ended is waited with: it may get another.
///
/// # Errors
/// What no further try can help: no stream, a permission, a log that contradicts the stream. All leases are given back first.
pub async fn run(
    deps: &LiveDeps,
    request: &FollowRequest,
    budget: Budget,
) -> Result<FollowReport, StepError> {
    let mut random = request
        .seed
        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let worker = worker_name(request.worker.as_deref(), &mut random);
    let target = LogTarget::open(deps, &request.table, &request.to)?;
    let mut following = Following {
        deps,
        request,
        budget,
        target,
        report: FollowReport {
            worker,
            ..FollowReport::default()
        },
        streams: JoinSet::new(),
        followed: BTreeSet::new(),
        halt: StopFlag::default(),
        waits: false,
        random,
    };
    following.run().await?;
    Ok(following.report)
}

struct Following<'a> {
    deps: &'a LiveDeps,
    request: &'a FollowRequest,
    budget: Budget,
    target: LogTarget,
    report: FollowReport,
    streams: JoinSet<Result<FollowedStream, StepError>>,
    /// The streams that were taken up, by ARN.
    followed: BTreeSet<String>,
    /// Set when one stream has failed for good: the others end in order.
    halt: StopFlag,
    /// Whether to look for another stream although none is followed.
    waits: bool,
    random: fastrand::Rng,
}

impl Following<'_> {
    async fn run(&mut self) -> Result<(), StepError> {
        let (deps, budget) = (self.deps, self.budget);
        tokio::select! {
            biased;
            begun = self.take_up_patiently() => begun?,
            // A beginning that is broken off is gone on with by whoever begins next.
            () = deps.stopped(&budget) => return Ok(()),
        }
        let mut failed = None;
        let mut look = Instant::now() + LOOK_EVERY;
        while !self.streams.is_empty() || (self.waits && !self.should_stop()) {
            let outcome = tokio::select! {
                biased;
                Some(ended) = self.streams.join_next() => self.take(ended),
                () = tokio::time::sleep_until(look) => {
                    look = Instant::now() + LOOK_EVERY;
                    tokio::select! {
                        biased;
                        another = self.take_up_another() => another,
                        () = deps.stopped(&budget) => Ok(()),
                    }
                }
                () = deps.stopped(&budget), if self.streams.is_empty() => Ok(()),
            };
            if let Err(error) = outcome {
                self.halt.set();
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn should_stop(&self) -> bool {
        self.halt.is_set() || self.deps.should_stop(&self.budget)
    }

    fn take(
        &mut self,
        ended: Result<Result<FollowedStream, StepError>, tokio::task::JoinError>,
    ) -> Result<(), StepError> {
        let ended = ended.map_err(|error| {
            StepError::Internal(format!("following a stream broke off: {error}"))
        })??;
        self.add(&ended);
        // A table that has lost its stream may get another one: whoever follows it wants that, too.
        self.waits = ended.closed && !self.request.until_idle;
        Ok(())
    }

    fn add(&mut self, ended: &FollowedStream) {
        let report = &mut self.report;
        report.records += ended.counts.records;
        report.objects += ended.counts.sunk.objects;
        report.repeated += ended.counts.repeated;
        report.shards_ended += ended.shards_ended;
        report.incidents += ended.incidents + ended.counts.incidents;
        if ended.label >= report.stream_label {
            report.stream_label.clone_from(&ended.label);
            report.mark.clone_from(&ended.mark);
            report.closed = ended.closed;
        }
    }

    /// Begins with the table's stream, and with what earlier ones have left, unless they are followed already.
    async fn take_up(&mut self) -> Result<(), StepError> {
        let of = LogOf {
            worker: self.report.worker.clone(),
            publication_ms: self.request.publication_ms,
            patience: patience(self.request.local),
        };
        let stream = self.target.stream(self.deps).await;
        let current = stream.as_ref().ok().map(|(_, stream)| stream.arn.as_str());
        let unfinished = self.target.unfinished(self.deps, current, &of).await?;
        let mut is_left = false;
        for log in unfinished {
            is_left = true;
            if !self.followed.contains(log.arn()) {
                self.follow(log, Beginning::new());
            }
        }
        match stream {
            Ok((table, stream)) if !self.followed.contains(&stream.arn) => {
                let begun = self.target.begin(self.deps, &table, &stream, &of).await;
                let (log, beginning) = begun?;
                self.follow(log, beginning);
                Ok(())
            }
            Ok(_) => Ok(()),
            // What earlier streams have left is reason enough to go on.
            Err(StepError::StreamUnsuitable { .. }) if is_left => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn follow(&mut self, log: StreamLog, beginning: Beginning) {
        self.followed.insert(log.arn().to_owned());
        let follower = Follower::new(
            self.deps.clone(),
            Arc::new(log),
            self.request.clone(),
            self.budget,
            self.halt.clone(),
            beginning,
            self.random.u64(..),
        );
        self.streams.spawn(follower.follow());
    }

    /// The same, however often it takes, until a stop is asked for.
    async fn take_up_patiently(&mut self) -> Result<(), StepError> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.take_up().await {
                Err(error) if passes(&error) && !self.deps.should_stop(&self.budget) => {
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    let reason = error.to_string();
                    self.deps
                        .observer
                        .retrying("the table's stream", &reason, wait_ms);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(10));
                }
                // There was no time to begin: nothing was done, and nothing has failed for good.
                Err(error) if passes(&error) => return Ok(()),
                answer => return answer,
            }
        }
    }

    /// Looks whether the table has another stream by now. That it has none, or cannot be asked, is no reason to stop reading the
    /// old one.
    async fn take_up_another(&mut self) -> Result<(), StepError> {
        if self.should_stop() {
            return Ok(());
        }
        match self.take_up().await {
            Ok(()) => Ok(()),
            Err(StepError::Table(failure)) if failure.kind == FailureKind::NotFound => {
                // It was dropped.
                self.waits = false;
                Ok(())
            }
            Err(error @ StepError::StreamUnsuitable { .. }) => {
                tracing::debug!(%error, "the table has no other stream to follow");
                Ok(())
            }
            Err(error) if passes(&error) => {
                self.deps
                    .observer
                    .retrying("the table's stream", &error.to_string(), 60_000);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
