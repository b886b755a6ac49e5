//! How a table's log stands: its streams, its mark, its shards, what was lost, and whether a person is needed.

use std::sync::Arc;

use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::incident::{Incident, IncidentKind};
use highwater_domain::live_control::PublishedMark;
use highwater_domain::log_facts::StreamFacts;
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::{Silence, UnixSeconds};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::ShardId;
use highwater_domain::snapshot::Status;
use serde::Serialize;

use crate::begin_log::{LogBegun, generations, log_id};
use crate::error::StepError;
use crate::list_snapshots;
use crate::live_deps::LiveDeps;
use crate::publish_mark::MarkPublisher;
use crate::shard_rows::{self, ShardRow};
use crate::stream_log::StreamLog;

/// A mark that nobody has published for so long: nobody follows.
const UNATTENDED_MS: u64 = 60 * 60 * 1000;

/// DynamoDB drops records after 24 hours: a log that is so far behind will soon lose some.
const ALARMING_LAG_SECONDS: u64 = 18 * 60 * 60;

/// Nobody reads under this name; rows are only looked at.
const ONLOOKER: &str = "status";

/// How a table's log stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveStatus {
    /// The table's name.
    pub table: String,
    /// When this was looked at.
    pub at: UnixMillis,
    /// Its streams, the first one first.
    pub generations: Vec<GenerationStatus>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotStatus>,
    /// Whether something does not mend itself.
    pub needs_a_person: bool,
    /// What, in words; with what to do.
    pub why: Vec<String>,
}

/// One stream of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerationStatus {
    /// What is known of the stream.
    pub facts: StreamFacts,
    /// Whether it has ended and is read to its end.
    pub closed: bool,
    /// The mark as it was published last.
    pub mark: Option<PublishedMark>,
    /// How far each grade is behind now, in seconds.
    pub lag: Lag,
    /// Shards that are read.
    pub open_shards: u64,
    /// Shards that were read to their end.
    pub ended_shards: u64,
    /// The open shards, in order of their ids.
    pub shards: Vec<ShardStatus>,
    /// Everything that happened, in order of its first second.
    pub incidents: Vec<IncidentStatus>,
}

/// How far a mark is behind, in seconds; `None` where nothing is known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Of the grade `proven`.
    pub proven: Option<u64>,
    /// Of the grade `rolled`.
    pub rolled: Option<u64>,
    /// Of the grade `assumed`.
    pub assumed: Option<u64>,
}

/// One shard that is still read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// Where reading goes on.
    pub position: String,
    /// The greatest stamp on its path; `None` while it has no record.
    pub event_time: Option<UnixSeconds>,
    /// When it was last asked and had nothing, if it is idle.
    pub silent_at: Option<UnixMillis>,
    /// How far it is behind, in seconds: since its last record, or since it was last found idle.
    pub lag_seconds: Option<u64>,
    /// The worker that reads it.
    pub owner: Option<String>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentStatus {
    /// What happened.
    #[serde(flatten)]
    pub incident: Incident,
    /// Whether records are missing for good and no snapshot has been taken since: the mark is held back.
    pub open: bool,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotStatus {
    /// Its name.
    pub snapshot_id: SnapshotId,
    /// `running`, `failed`, `completed`; `None` if that cannot be read.
    pub status: Option<Status>,
    /// The stream of its handoff, if it has one that was not given up.
    pub stream_label: Option<String>,
    /// When its handoff was captured.
    pub handoff_at: Option<UnixMillis>,
}

/// Looks at the log at `place` in `store`.
pub async fn run(
    deps: &LiveDeps,
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
) -> Result<LiveStatus, StepError> {
    let at = deps.clock.now();
    let mut streams = Vec::new();
    for facts in generations(store.as_ref(), place).await? {
        streams.push(generation(deps, store, place, facts, at).await?);
    }
    let why = reasons(&streams, at);
    Ok(LiveStatus {
        table: place.table().to_owned(),
        at,
        generations: streams,
        snapshots: snapshots(store.as_ref(), place).await?,
        needs_a_person: !why.is_empty(),
        why,
    })
}

async fn generation(
    deps: &LiveDeps,
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
    facts: StreamFacts,
    at: UnixMillis,
) -> Result<GenerationStatus, StepError> {
    let begun = LogBegun {
        log: log_id(store.as_ref(), place, &facts),
        facts,
        registered: Vec::new(),
    };
    let published = deps.live.mark(&begun.log).await;
    let mark = published.map_err(StepError::Control)?.map(|it| it.value);
    let publication_ms = mark.as_ref().map_or(0, |mark| mark.publication_ms);
    let log = StreamLog::of(deps, store, place, &begun, ONLOOKER, publication_ms)?;
    let rows = shard_rows::all(&log.leases).await?;
    let (ended, open): (Vec<&ShardRow>, Vec<&ShardRow>) = rows.values().partition(|row| row.ended);
    let computed = MarkPublisher::default().compute(&log, None).await?;
    let mut incidents: Vec<IncidentStatus> = computed
        .incidents
        .into_iter()
        .map(|incident| IncidentStatus {
            open: computed
                .healing
                .iter()
                .all(|at| !incident.is_healed_by(*at))
                && incident.kind.loses_records(),
            incident,
        })
        .collect();
    incidents
        .sort_by(|a, b| (a.incident.from, &a.incident.id).cmp(&(b.incident.from, &b.incident.id)));
    let behind = |second: Option<UnixSeconds>| {
        second.map(|second| UnixSeconds::of(at).0.saturating_sub(second.0))
    };
    let marked = mark.as_ref().map(|mark| mark.mark).unwrap_or_default();
    let has_ended = incidents
        .iter()
        .any(|it| it.incident.kind == IncidentKind::StreamEnded);
    Ok(GenerationStatus {
        closed: has_ended && open.is_empty(),
        lag: Lag {
            proven: behind(marked.proven),
            rolled: behind(marked.rolled),
            assumed: behind(marked.assumed),
        },
        mark,
        open_shards: open.len() as u64,
        ended_shards: ended.len() as u64,
        shards: open.into_iter().map(|row| shard(row, at)).collect(),
        incidents,
        facts: log.facts,
    })
}

fn shard(row: &ShardRow, at: UnixMillis) -> ShardStatus {
    let silent_at = row.silence.filter(Silence::is_idle).map(|it| it.last);
    let seen = row.event_time.max(silent_at.map(UnixSeconds::of));
    ShardStatus {
        shard: row.shard.clone(),
        ordinal: row.ordinal,
        position: row.position.to_string(),
        event_time: row.event_time,
        silent_at,
        lag_seconds: seen.map(|seen| UnixSeconds::of(at).0.saturating_sub(seen.0)),
        owner: row.owner.clone(),
    }
}

async fn snapshots(
    store: &dyn ObjectStore,
    place: &LogPlace,
) -> Result<Vec<SnapshotStatus>, StepError> {
    let listed = list_snapshots::run(store, place.prefix(), Some(place.table())).await?;
    let status = |listed: list_snapshots::Listed| {
        let metadata = listed.metadata.as_ref();
        let handoff = metadata.and_then(|metadata| metadata.handoff().ok().flatten());
        let handoff = handoff.filter(|handoff| !handoff.expired);
        SnapshotStatus {
            status: metadata.map(|metadata| metadata.status),
            stream_label: handoff.map(|handoff| handoff.stream_label.clone()),
            handoff_at: handoff.map(|handoff| handoff.captured_at),
            snapshot_id: listed.snapshot_id,
        }
    };
    Ok(listed.into_iter().map(status).collect())
}

/// What does not mend itself. Only the newest stream can be mended; what the older ones lost, they lost.
fn reasons(generations: &[GenerationStatus], at: UnixMillis) -> Vec<String> {
    let mut why = Vec::new();
    let Some(newest) = generations.last() else {
        return why;
    };
    let label = &newest.facts.stream_label;
    for open in newest.incidents.iter().filter(|it| it.open) {
        let Incident { id, kind, .. } = &open.incident;
        why.push(match kind {
            IncidentKind::StreamEnded => format!(
                "stream {label} has ended, and nothing records what changes now ({id}): enable a stream and take a snapshot"
            ),
            _ => format!(
                "records of stream {label} are missing from second {} to {} ({id}): take a snapshot",
                open.incident.from.0, open.incident.until.0
            ),
        });
    }
    if newest.closed {
        return why;
    }
    let computed_at = newest.mark.as_ref().map(|mark| mark.computed_at);
    match computed_at {
        Some(computed) if at.since(computed) < UNATTENDED_MS => {}
        Some(computed) => why.push(format!(
            "nobody has published a mark since {}: start `highwater follow`, or see why the audit does not run",
            computed.to_rfc3339()
        )),
        None if at.since(newest.facts.met_at) < UNATTENDED_MS => {}
        None => why.push(format!(
            "the log of stream {label} has begun and nobody reads it: start `highwater follow`, or see why the audit does not run"
        )),
    }
    if newest
        .lag
        .assumed
        .is_some_and(|lag| lag >= ALARMING_LAG_SECONDS)
        && why.is_empty()
    {
        why.push(format!(
            "the log of stream {label} is {} hours behind, and DynamoDB keeps records for 24: see what holds the reader up",
            newest.lag.assumed.unwrap_or_default() / 3600
        ));
    }
    why
}
