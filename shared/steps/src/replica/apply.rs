//! Gives a replica the log, from the handoff on: each shard under a lease, a parent before its children, each change behind its fence.
//!
//! Any number of processes may do it at once; a process that dies is followed by another from the last position. What comes twice, late,
//! or from a process that should be dead finds a fence in its way.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::handoff::Handoff;
use highwater_domain::live_control::LogId;
use highwater_domain::log_facts::{LOG_FACTS_VERSION, StreamFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::replica_targets::TargetAccess;
use highwater_domain::table::TableLook;
use highwater_lease::Leases;

use super::refused::{RefusedPlace, log_of};
use super::sink::{Applied, ReplicaSinks, ReplicaWriter};
use super::{FeedDeps, advance, handoff, load, place_of, standing};
use crate::deps::StopFlag;
use crate::error::StepError;
use crate::follow::worker_name;
use crate::live_deps::{LiveDeps, LogDeps};
use crate::log_stream::LogStream;
use crate::service_time::ServiceTime;
use crate::stream_log::StreamLog;
use crate::tap_stream::{self, TapRequest};

/// How often the replica's standing is put on record.
const STAND_EVERY: Duration = Duration::from_secs(5);

/// How a replica is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyRequest {
    /// This worker's name; without one, a random one.
    pub worker: Option<String>,
    /// How often the log's shards are looked at.
    pub survey_every: Duration,
    /// End once everything that the log holds is applied.
    pub until_idle: bool,
    /// Look at fences before writing against them: somebody else applies, too, and mostly first.
    pub looks_first: bool,
    /// Draws waits and names, so that a simulation can be repeated.
    pub seed: Option<u64>,
}

impl Default for ApplyRequest {
    fn default() -> Self {
        Self {
            worker: None,
            survey_every: Duration::from_secs(10),
            until_idle: false,
            looks_first: false,
            seed: None,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyReport {
    /// What became of the records.
    pub applied: Applied,
    /// How the replica stands.
    pub record: ReplicaRecord,
    /// The stream has ended, and all of its log is applied.
    pub closed: bool,
}

/// Applies until a stop, the end of the budget or of the stream, or (if asked for) until nothing is left.
///
/// # Errors
/// [`StepError::ReplicaFailed`] where the replica is not live or cannot go on; what no further try can help.
pub async fn run(
    deps: &FeedDeps,
    record: &ReplicaRecord,
    request: &ApplyRequest,
    budget: Budget,
) -> Result<ApplyReport, StepError> {
    if record.phase != Phase::Live {
        let reason = record.error.clone();
        let reason = reason.unwrap_or_else(|| format!("it is in phase {}", record.phase));
        return Err(StepError::ReplicaFailed {
            id: record.id.clone(),
            reason,
        });
    }
    let access = TargetAccess::from(record);
    let target = deps.feeds.open_feed(&access).await;
    let target = target.map_err(StepError::Table)?;
    check_target(record, target.describer.as_ref()).await?;
    let mut random = request
        .seed
        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let worker = worker_name(request.worker.as_deref(), &mut random);
    let handed_over = handoff::read(&deps.live, &record.snapshot).await?;
    let feed = Feed::open(deps, record, &handed_over.handoff, &worker, random.u64(..))?;
    tap_stream::register(&feed.own, &handed_over.handoff).await?;
    let refused = RefusedPlace::new(Arc::clone(&feed.store), &feed.log, &record.id);
    let observer = Arc::clone(&deps.observer);
    let writer = ReplicaWriter::new(record, target.writer, refused.clone(), observer);
    let writer = if request.looks_first {
        writer.looking_first()
    } else {
        writer
    };
    let work = Feeding {
        deps,
        feed: &feed,
        record,
        writer: &writer,
        refused: &refused,
    };
    work.run(request, budget, random.u64(..)).await
}

/// The target must be the table that was loaded.
pub(super) async fn check_target(
    record: &ReplicaRecord,
    target: &(impl TableLook + ?Sized),
) -> Result<(), StepError> {
    let name = record.target.as_str();
    let found = TableLook::table_id(target, name).await;
    let found = found.map_err(StepError::Table)?;
    if record.target_table_id.is_none() || found == record.target_table_id {
        return Ok(());
    }
    Err(StepError::ReplicaFailed {
        id: record.id.clone(),
        reason: format!("{name} was dropped and created again; rebuild the replica"),
    })
}

/// The log as a replica reads it.
struct Feed {
    store: Arc<dyn ObjectStore>,
    log: LogPlace,
    id: LogId,
    /// The leases of whoever writes the log, which are only read.
    writers: Leases,
    stream: Arc<LogStream>,
    /// What the replica knows of the shards, and its own leases.
    own: StreamLog,
}

impl Feed {
    fn open(
        deps: &FeedDeps,
        record: &ReplicaRecord,
        handoff: &Handoff,
        worker: &str,
        seed: u64,
    ) -> Result<Self, StepError> {
        let table = record.source.name();
        let (store, log) = log_of(deps.live.stores.as_ref(), &record.log, table)?;
        let folder = |place: &LogPlace| store.url(&place.stream(&record.stream_label));
        let id = LogId::of(&record.stream_arn, &folder(&log));
        let group = |id: &LogId| deps.live.leases.group(&id.lease_group(), worker);
        let writers = group(&id)?;
        let place = place_of(&log, &record.id);
        let own_id = LogId::of(&record.stream_arn, &folder(&place));
        let clock = &deps.live.clock;
        let stream = LogStream::new(
            Arc::clone(&store),
            log.clone(),
            record.stream_label.clone(),
            writers.clone(),
            Arc::clone(clock),
            record.captured_at,
        )
        .knowing(deps.known.clone());
        let own = StreamLog {
            store: Arc::clone(&store),
            place,
            facts: StreamFacts {
                version: LOG_FACTS_VERSION,
                generation: record.generation,
                stream_arn: record.stream_arn.clone(),
                stream_label: record.stream_label.clone(),
                view: handoff.view,
                table_arn: record.source_arn.clone(),
                table_id: record.source_table_id.clone(),
                met_at: handoff.captured_at,
                log_from: handoff.log_from,
            },
            leases: group(&own_id)?.seeded(seed),
            id: own_id,
            time: ServiceTime::new(Arc::clone(clock)),
            publication_ms: 0,
        };
        Ok(Self {
            store,
            log,
            id,
            writers,
            stream: Arc::new(stream),
            own,
        })
    }
}

/// One run of a replica's feeding.
struct Feeding<'a> {
    deps: &'a FeedDeps,
    feed: &'a Feed,
    record: &'a ReplicaRecord,
    writer: &'a ReplicaWriter,
    refused: &'a RefusedPlace,
}

/// How many records are kept as refused, as of so many that this process has refused.
#[derive(Clone, Copy, Debug)]
struct Kept {
    refused_here: u64,
    count: u64,
}

impl Feeding<'_> {
    async fn run(
        &self,
        request: &ApplyRequest,
        budget: Budget,
        seed: u64,
    ) -> Result<ApplyReport, StepError> {
        let (deps, record, feed) = (self.deps, self.record, self.feed);
        let halt = StopFlag::default();
        let tapped = LiveDeps {
            streams: Arc::clone(&feed.stream) as Arc<_>,
            log: LogDeps {
                stop: halt.clone(),
                ..deps.live.clone()
            },
        };
        let tap = TapRequest {
            table: record.source.clone(),
            survey_every: request.survey_every,
            // A log's word on a shard's children is final.
            settle: Duration::ZERO,
            until_idle: request.until_idle,
            seed,
        };
        let own = Arc::new(feed.own.clone());
        let sinks = Arc::new(ReplicaSinks(self.writer.clone()));
        let reading = std::pin::pin!(tap_stream::run(&tapped, &own, &tap, sinks, budget));
        let mut kept = None;
        let read = self.attend(reading, &halt, &mut kept).await;
        if let Some(lost) = feed.stream.lost() {
            let why = format!(
                "changes are missing in the log: {}; rebuild it",
                lost.detail
            );
            advance::fail(deps, record, &why).await?;
            return Err(StepError::ReplicaFailed {
                id: record.id.clone(),
                reason: why,
            });
        }
        let closed = read?.closed;
        let record = self.stand(&mut kept).await?;
        Ok(ApplyReport {
            applied: self.writer.total(),
            record,
            closed,
        })
    }

    /// Waits for the reading, passes a stop on, and puts on record how far it is.
    async fn attend<T>(
        &self,
        reading: impl Future<Output = Result<T, StepError>> + Unpin,
        halt: &StopFlag,
        kept: &mut Option<Kept>,
    ) -> Result<T, StepError> {
        let mut reading = reading;
        let mut stand = tokio::time::Instant::now() + STAND_EVERY;
        loop {
            tokio::select! {
                biased;
                read = &mut reading => return read,
                () = self.deps.live.stop.asked(), if !halt.is_set() => halt.set(),
                () = tokio::time::sleep_until(stand) => {
                    stand = tokio::time::Instant::now() + STAND_EVERY;
                    match self.stand(kept).await {
                        // Promoted, or failed: whoever did it wants no more writes.
                        Ok(now) if now.phase != Phase::Live => halt.set(),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::warn!(replica = %self.record.id, %error, "how far the replica is could not be put on record");
                        }
                    }
                }
            }
        }
    }

    async fn stand(&self, kept: &mut Option<Kept>) -> Result<ReplicaRecord, StepError> {
        let refused_here = self.writer.total().refused;
        let count = match *kept {
            Some(known) if known.refused_here == refused_here => known.count,
            _ => self.refused.keys().await?.len() as u64,
        };
        *kept = Some(Kept {
            refused_here,
            count,
        });
        let feed = self.feed;
        let own = &feed.own.leases;
        standing::publish(self.deps, self.record, &feed.id, &feed.writers, own, count).await
    }
}

/// The record as it stands, taken as far as it goes, and applied if it is live.
pub async fn advance_and_apply(
    deps: &FeedDeps,
    record: ReplicaRecord,
    request: &ApplyRequest,
    budget: Budget,
) -> Result<ApplyReport, StepError> {
    let advanced = advance::run(deps, record).await?;
    if advanced.record.phase == Phase::Live {
        return run(deps, &advanced.record, request, budget).await;
    }
    let record = load(deps, &advanced.record.source_arn, &advanced.record.id).await?;
    Ok(ApplyReport {
        applied: Applied::default(),
        record: record.value,
        closed: false,
    })
}
