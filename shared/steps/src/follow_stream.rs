//! Follows one stream: leases in rounds, one reader per lease, the survey, the mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::mark::Silence;
use highwater_domain::shard::ShardId;
use highwater_lease::{Claimed, HeldLease, PendingClaim, Standing};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::deps::StopFlag;
use crate::error::StepError;
use crate::follow::FollowRequest;
use crate::live_deps::LiveDeps;
use crate::log_sink::LogSink;
use crate::poll_shard;
use crate::polled::{PollCounts, PollSettings, Polled};
use crate::publish_mark::MarkPublisher;
use crate::shard_rows;
use crate::shard_work::passes;
use crate::stream_log::StreamLog;
use crate::survey_shards::Surveyor;
use crate::tap_stream::RecordSinks;
use crate::watch_table::{self, StreamState};

/// What following one stream came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct FollowedStream {
    pub(crate) label: String,
    pub(crate) counts: PollCounts,
    pub(crate) shards_ended: u64,
    pub(crate) incidents: u64,
    pub(crate) mark: Option<PublishedMark>,
    pub(crate) closed: bool,
}

/// What is done beside the readers to begin a log: nothing, or one task.
pub(crate) type Beginning = JoinSet<Result<(), StepError>>;

type Reading = Result<(Polled, PollCounts), StepError>;

pub(crate) struct Follower {
    deps: LiveDeps,
    /// Set by the caller to end this stream.
    ordered: StopFlag,
    /// Set to end the readers of this stream, and nothing else.
    halt: StopFlag,
    log: Arc<StreamLog>,
    /// Who takes the records instead of the log. Then there is no log that a mark could be of.
    tap: Option<Arc<dyn RecordSinks>>,
    request: FollowRequest,
    budget: Budget,
    /// What was known of silent shards when this began.
    silences: Option<BTreeMap<ShardId, Silence>>,
    random: fastrand::Rng,
    beginning: Beginning,
    readers: JoinSet<Reading>,
    renewals: JoinSet<Standing>,
    claim: Option<PendingClaim>,
    surveyor: Surveyor,
    publisher: MarkPublisher,
    state: StreamState,
    report: FollowedStream,
    /// What no further try can help: everything else is brought to an end first.
    failed: Option<StepError>,
}

/// When the next of each chore is due.
struct Due {
    round: Instant,
    survey: Instant,
    publish: Instant,
}

impl Follower {
    /// Of the stream of `log`. `beginning` is what is still to be done to begin the log, where others have begun it already.
    pub(crate) fn new(
        deps: LiveDeps,
        log: Arc<StreamLog>,
        request: FollowRequest,
        budget: Budget,
        ordered: StopFlag,
        beginning: Beginning,
        seed: u64,
    ) -> Self {
        Self {
            report: FollowedStream {
                label: log.label().to_owned(),
                ..FollowedStream::default()
            },
            silences: None,
            deps,
            ordered,
            halt: StopFlag::default(),
            beginning,
            log,
            tap: None,
            request,
            budget,
            random: fastrand::Rng::with_seed(seed),
            readers: JoinSet::new(),
            renewals: JoinSet::new(),
            claim: None,
            surveyor: Surveyor::default(),
            publisher: MarkPublisher::default(),
            state: StreamState::Alive,
            failed: None,
        }
    }

    /// The same, with the records going to `tap` instead of the log.
    pub(crate) fn tapped(mut self, tap: Arc<dyn RecordSinks>) -> Self {
        self.tap = Some(tap);
        self.surveyor = Surveyor::refusing_orphans();
        self
    }

    /// Follows the stream until there is a reason to stop, or `ordered` is set.
    pub(crate) async fn follow(mut self) -> Result<FollowedStream, StepError> {
        let now = Instant::now();
        let mut due = Due {
            round: now,
            survey: now,
            publish: now,
        };
        while self.failed.is_none() && !self.should_stop() {
            let has_looked = self.chores(&mut due).await;
            if self.failed.is_some() || (has_looked && self.is_over().await) {
                break;
            }
            let mut next = due.round.min(due.publish);
            if self.beginning.is_empty() {
                next = next.min(due.survey);
            }
            self.wait(next, &mut due).await;
        }
        self.finish().await
    }

    fn should_stop(&self) -> bool {
        self.ordered.is_set() || self.deps.should_stop(&self.budget)
    }

    /// Does what is due. Whether that may have shown that all is over.
    async fn chores(&mut self, due: &mut Due) -> bool {
        let has_looked = Instant::now() >= due.survey.min(due.publish);
        if Instant::now() >= due.round {
            due.round = Instant::now() + self.renew_every();
            self.round().await;
        }
        // Before the log has begun a survey would take its first shards for late ones.
        if self.beginning.is_empty() && Instant::now() >= due.survey {
            let every = Duration::from_millis(self.request.survey_every_ms);
            let surveyed = self.survey().await;
            if self.settled("the listing of shards", surveyed) {
                due.round = Instant::now();
            }
            due.survey = Instant::now() + every;
        }
        if Instant::now() >= due.publish {
            let every = Duration::from_millis(self.request.publish_every_ms);
            due.publish = Instant::now() + every;
            let fresh_ms = self.request.publish_every_ms / 2;
            self.publish(fresh_ms).await;
        }
        has_looked
    }

    fn renew_every(&mut self) -> Duration {
        // Workers that were started together should not all look at the same moments.
        let every = self.log.leases.settings().renew_every;
        every.mul_f64(0.9 + 0.2 * self.random.f64())
    }

    /// Waits for a reader's end, a chore, or a stop.
    async fn wait(&mut self, until: Instant, due: &mut Due) {
        tokio::select! {
            biased;
            Some(ended) = self.readers.join_next() => {
                if self.take(ended) {
                    // Its children may begin, and the mark may move.
                    due.round = Instant::now();
                    due.publish = Instant::now();
                }
            }
            Some(begun) = self.beginning.join_next() => {
                let begun = begun.unwrap_or_else(|error| {
                    Err(StepError::Internal(format!("beginning the log broke off: {error}")))
                });
                if !self.settled("the log", begun) && self.failed.is_none() {
                    // Whoever looks next does it; the survey finds what is missing.
                    tracing::warn!("the log's beginning was not looked at again");
                }
                due.round = Instant::now();
            }
            Some(_) = self.renewals.join_next() => {}
            () = self.ordered.asked() => {}
            () = self.deps.stopped(&self.budget) => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Takes up a reader's result. Whether its shard has ended.
    fn take(&mut self, ended: Result<Reading, tokio::task::JoinError>) -> bool {
        match ended {
            Ok(Ok((polled, counts))) => {
                self.report.counts.add(&counts);
                let is_end = polled == Polled::Ended;
                self.report.shards_ended += u64::from(is_end);
                is_end
            }
            Ok(Err(error)) => {
                self.failed.get_or_insert(error);
                false
            }
            Err(error) if error.is_cancelled() => false,
            Err(error) => {
                let error = StepError::Internal(format!("reading a shard broke off: {error}"));
                self.failed.get_or_insert(error);
                false
            }
        }
    }

    /// Whether a chore has succeeded. One that failed in passing is done again when it is due; what cannot pass ends all.
    fn settled<T>(&mut self, what: &str, outcome: Result<T, StepError>) -> bool {
        match outcome {
            Ok(_) => true,
            Err(error) if passes(&error) => {
                self.deps.observer.retrying(what, &error.to_string(), 0);
                false
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                false
            }
        }
    }

    async fn round(&mut self) {
        self.poll_claim().await;
        match self.log.leases.round().await {
            Ok(round) => {
                for held in round.acquired {
                    self.read(held);
                }
                if let Some(claim) = round.claim {
                    self.claim.get_or_insert(claim);
                }
                if let Some(error) = round.failure {
                    self.settled("leases", Err::<(), _>(error.into()));
                }
            }
            Err(error) => {
                self.settled("leases", Err::<(), _>(error.into()));
            }
        }
    }

    async fn poll_claim(&mut self) {
        let Some(mut claim) = self.claim.take() else {
            return;
        };
        match claim.poll().await {
            Ok(Claimed::Won(held)) => self.read(held),
            Ok(Claimed::Waiting) => self.claim = Some(claim),
            Ok(Claimed::Gone) => {}
            Err(error) if error.is_over() => {}
            Err(error) => {
                self.claim = Some(claim);
                self.settled("a claim", Err::<(), _>(error.into()));
            }
        }
    }

    /// Begins to read the shard of a lease, and to renew it.
    fn read(&mut self, held: HeldLease) {
        self.renewals.spawn(held.renewal().run());
        let settings = PollSettings {
            flush: Duration::from_millis(self.request.flush_ms),
            apart: Duration::from_millis(self.request.settle_ms),
            until_silent: false,
        };
        let sink = match &self.tap {
            None => LogSink::all(&self.deps, &self.log, self.random.u64(..)),
            Some(tap) => LogSink::Tapped(tap.open(&self.halt)),
        };
        let mut deps = self.deps.clone();
        deps.log.stop = self.halt.clone();
        self.readers.spawn(poll_shard::run(
            deps,
            Arc::clone(&self.log),
            held,
            sink,
            settings,
            self.budget,
            self.random.u64(..),
        ));
    }

    async fn survey(&mut self) -> Result<(), StepError> {
        let surveyed = self.surveyor.run(&self.deps, &self.log).await?;
        self.report.incidents += surveyed.incidents;
        let table = self.request.table.as_str();
        let watched = watch_table::run(&self.deps, &self.log, table, surveyed.status).await?;
        self.state = watched.0;
        self.report.incidents += u64::from(watched.1);
        Ok(())
    }

    async fn publish(&mut self, fresh_ms: u64) {
        if self.tap.is_some() {
            return;
        }
        let published = self
            .publisher
            .publish(&self.deps, &self.log, fresh_ms)
            .await;
        match published {
            Ok(mark) => self.report.mark = Some(mark),
            Err(error) => {
                self.settled("the mark", Err::<(), _>(error));
            }
        }
    }

    /// Whether there is nothing left to do: the stream has ended and all of it is read, or it is idle and that was asked for.
    async fn is_over(&mut self) -> bool {
        let has_ended = matches!(self.state, StreamState::Ended { .. });
        // Who takes the records must be told of the end, though a shard of an ended stream may stay open as long as it is listed.
        let is_tail = has_ended && self.tap.is_some();
        let until_idle = self.request.until_idle || is_tail;
        if !has_ended && !until_idle {
            return false;
        }
        let rows = match shard_rows::all(&self.log.leases).await {
            Ok(rows) => rows,
            Err(error) => {
                self.settled("leases", Err::<(), _>(error));
                return false;
            }
        };
        if has_ended && rows.values().all(|row| row.ended) {
            self.report.closed = true;
            return true;
        }
        let silences = rows
            .iter()
            .filter_map(|(id, row)| Some((id.clone(), row.silence?)));
        let before = self.silences.get_or_insert_with(|| silences.collect());
        let is_done = |row: &shard_rows::ShardRow| {
            let old = before.get(&row.shard);
            row.ended || row.silence.is_some_and(|it| it.is_idle_after(old))
        };
        let is_over = until_idle && rows.values().all(is_done);
        self.report.closed |= is_over && is_tail;
        is_over
    }

    /// Lets the readers finish what is in hand and give their leases back.
    async fn finish(mut self) -> Result<FollowedStream, StepError> {
        self.halt.set();
        while let Some(ended) = self.readers.join_next().await {
            self.take(ended);
        }
        if let Some(claim) = self.claim.take()
            && let Err(error) = claim.withdraw().await
        {
            tracing::debug!(%error, "a claim was not withdrawn; it goes stale");
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.publish(0).await;
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.report),
        }
    }
}
