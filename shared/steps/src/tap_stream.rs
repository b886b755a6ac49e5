//! Gives a stream's records to somebody else than a change log: under the same leases, from stored positions, parent
//! before child, with what is lost on record as incidents.
//!
//! What the log keeps in its bucket besides records (who goes on from a shard, what was lost) is kept in `log.store`
//! here as well, which any store with a create-if-absent can be.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::budget::Budget;
use highwater_domain::handoff::Handoff;
use highwater_domain::ids::TableRef;
use highwater_domain::incident::Incident;
use highwater_domain::log_facts::{LOG_FACTS_VERSION, Origin, ShardFacts};
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_lease::Error as LeaseError;

use crate::deps::StopFlag;
use crate::error::StepError;
use crate::follow::FollowRequest;
use crate::follow_stream::{Beginning, Follower};
use crate::live_deps::LiveDeps;
use crate::shard_rows::new_lease;
use crate::stream_log::StreamLog;

/// Takes the records of one shard, under one lease.
#[async_trait]
pub trait RecordSink: Debug + Send {
    /// Takes `records`, in ascending order. When it returns well all of them are dealt with for good, and the shard's
    /// position moves behind them; the same records come again after a crash, and may come again after an error.
    ///
    /// # Errors
    /// A failure in passing is tried again; any other ends the reading of the whole stream.
    async fn take(
        &mut self,
        shard: &ShardId,
        ordinal: ShardOrdinal,
        records: &[StreamRecord],
    ) -> Result<(), StepError>;
}

/// Makes a sink for each lease that this worker gets.
pub trait RecordSinks: Debug + Send + Sync {
    /// A sink for one lease. `stop` is set when the worker is to finish what is in hand.
    fn open(&self, stop: &StopFlag) -> Box<dyn RecordSink>;
}

/// How a stream is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapRequest {
    /// The table.
    pub table: TableRef,
    /// How often the listing is compared with what is known.
    pub survey_every: Duration,
    /// Two answers about a shard's children lie this far apart before they are believed.
    pub settle: Duration,
    /// End once every shard is read and idle.
    pub until_idle: bool,
    /// Waits are drawn from this.
    pub seed: u64,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tapped {
    /// Records that were taken.
    pub records: u64,
    /// Records that came again.
    pub repeated: u64,
    /// Shards that this worker read to their end.
    pub shards_ended: u64,
    /// The stream has ended, and all of it was read.
    pub closed: bool,
}

/// Registers the shards with which the reading of a handoff begins, each AT its position. Those that are there stay.
pub async fn register(log: &StreamLog, handoff: &Handoff) -> Result<(), StepError> {
    for begins in handoff.beginnings() {
        let facts = ShardFacts {
            version: LOG_FACTS_VERSION,
            shard: begins.shard.clone(),
            ordinal: begins.ordinal,
            event_time: None,
            origin: Origin::Listed,
            registered_at: handoff.captured_at,
        };
        let key = log.place.shard_facts(log.label(), &begins.shard.id);
        let (facts, _) = log.settle_fact(key, facts).await?;
        match log.leases.register(&new_lease(&facts, None)?).await {
            // The end of a parent was first.
            Ok(_) | Err(LeaseError::OtherParents { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Everything that was lost of a stream so far, or may have been.
pub async fn incidents(log: &StreamLog) -> Result<Vec<Incident>, StepError> {
    let mut found = Vec::new();
    for key in log.keys_below(&log.place.incidents(log.label())).await? {
        found.extend(log.fact::<Incident>(&key).await?);
    }
    Ok(found)
}

/// Reads the stream of `log` into `sinks` until a stop, the end of the budget or of the stream, or (if asked for) silence.
///
/// # Errors
/// What no further try can help, a sink's own error included. All other shards' records in hand are dealt with first.
pub async fn run(
    deps: &LiveDeps,
    log: &Arc<StreamLog>,
    request: &TapRequest,
    sinks: Arc<dyn RecordSinks>,
    budget: Budget,
) -> Result<Tapped, StepError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let follow = FollowRequest {
        // A record waits for no others.
        flush_ms: 0,
        survey_every_ms: ms(request.survey_every),
        settle_ms: ms(request.settle),
        until_idle: request.until_idle,
        ..FollowRequest::new(request.table.clone(), log.store.url(""))
    };
    let (deps, log) = (deps.clone(), Arc::clone(log));
    let (ordered, beginning) = (StopFlag::default(), Beginning::new());
    let follower = Follower::new(deps, log, follow, budget, ordered, beginning, request.seed);
    let end = follower.tapped(sinks).follow().await?;
    Ok(Tapped {
        records: end.counts.records,
        repeated: end.counts.repeated,
        shards_ended: end.shards_ended,
        closed: end.closed,
    })
}
