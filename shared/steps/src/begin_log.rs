//! Beginning a table's change log: the stream's number among the table's, and the shards from which its log is read.
//!
//! The same for everybody who begins: a follower, an auditor, a backup that captures a handoff. What is left behind,
//! in order: `generations/<number>.json` (creating it is the claim to the number), an incident in the log of the stream
//! before this one, and for each shard that reading begins with `shard.json` and then its lease, AT its start. All of
//! these are created once and found by every later call, so that a crash anywhere, or a second copy beside it, changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_domain::handoff::{begins_of_log, log_from};
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::lineage::{Lineage, Node};
use highwater_domain::live_control::{LogId, PublishedMark};
use highwater_domain::log_facts::{LOG_FACTS_VERSION, Origin, ShardFacts, StreamFacts};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::{Creation, ObjectStore};
use highwater_domain::sequence_number::Generation;
use highwater_domain::shard::ShardId;
use highwater_lease::Leases;
use serde::de::DeserializeOwned;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::shard_rows::{self, ShardRow};
use crate::stable_listing::StableListing;
use crate::status::json_object;

/// Changes right after a stream was enabled may have no records, for so long.
const SETTLE_SECONDS: u64 = 60;

/// The worker's name under which leases are registered; it never owns one.
pub(crate) const REGISTRAR: &str = "registrar";

/// Generations that are read, and shards that are registered, at once.
const AT_ONCE: usize = 8;

/// The table that a log is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTable {
    /// Its ARN.
    pub arn: String,
    /// Its UUID.
    pub id: Option<String>,
}

/// A log that has begun.
#[derive(Clone, Debug)]
pub struct LogBegun {
    /// The stream, with its number.
    pub facts: StreamFacts,
    /// The log's name in the control table: of its mark, and of its [group of leases](LogId::lease_group).
    pub log: LogId,
    /// Shards that this call registered. None where the log had begun before and nothing is new.
    pub registered: Vec<ShardId>,
}

/// Begins the log of the stream in `listing` at `place` in `store`, or finds that it has begun.
///
/// Reading begins with the oldest shards whose start is still there for sure, not with the open ones: more records than
/// needed are harmless. Shards below one that is registered already are left to it.
///
/// # Errors
/// [`StepError::StreamUnsuitable`] for a listing without shards; [`StepError::LogCorrupt`] for facts that cannot be read;
/// failures of the store and of the control table.
pub async fn begin(
    deps: &LiveDeps,
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
    table: &LoggedTable,
    listing: &StableListing,
) -> Result<LogBegun, StepError> {
    let lineage = Lineage::of(&listing.listing, listing.at);
    let begins = begins_of_log(&lineage, listing.at);
    if begins.is_empty() {
        return Err(StepError::StreamUnsuitable {
            table: table.arn.clone(),
            reason: format!("{} lists no shards", listing.listing.stream_arn),
        });
    }
    let store = store.as_ref();
    let (facts, before) = claim(store, place, table, listing).await?;
    if let Some(before) = before {
        note_end(deps, store, place, &before, &facts).await?;
    }
    let log = log_id(store, place, &facts);
    let leases = deps.leases.group(&log.lease_group(), REGISTRAR)?;
    let registrar = Registrar {
        store,
        place,
        label: &facts.stream_label,
        leases: &leases,
        at: listing.at,
    };
    let registered = registrar.register(&lineage, &begins).await?;
    Ok(LogBegun {
        facts,
        log,
        registered,
    })
}

/// The name in the control table of a stream's log.
#[must_use]
pub fn log_id(store: &dyn ObjectStore, place: &LogPlace, facts: &StreamFacts) -> LogId {
    log_of(store, place, &facts.stream_arn, &facts.stream_label)
}

/// The same by the stream's ARN and label.
pub(crate) fn log_of(store: &dyn ObjectStore, place: &LogPlace, arn: &str, label: &str) -> LogId {
    LogId::of(arn, &store.url(&place.stream(label)))
}

/// Every stream that the table's log knows, in order of their numbers.
pub async fn generations(
    store: &dyn ObjectStore,
    place: &LogPlace,
) -> Result<Vec<StreamFacts>, StepError> {
    let mut keys = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(&place.generations(), after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        keys.extend(page.objects.into_iter().map(|object| object.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut known = Vec::new();
    for some in keys.chunks(AT_ONCE) {
        let reads: Vec<_> = some.iter().map(|key| fact(store, key)).collect();
        known.extend(futures::future::try_join_all(reads).await?);
    }
    let mut known: Vec<StreamFacts> = known.into_iter().flatten().collect();
    known.sort_by_key(|facts| facts.generation);
    Ok(known)
}

/// A fact of the log, or `None` if there is none of this key.
async fn fact<T: DeserializeOwned>(
    store: &dyn ObjectStore,
    key: &str,
) -> Result<Option<T>, StepError> {
    let Some(body) = store.read(key).await.map_err(StepError::Store)? else {
        return Ok(None);
    };
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        StepError::LogCorrupt(format!(
            "{} is not what a change log keeps there: {error}",
            store.url(key)
        ))
    })
}

/// The stream's facts, and those of the stream before it. Creating the object is the claim to the number: who loses
/// reads again, and finds either its own stream or a number that is taken.
async fn claim(
    store: &dyn ObjectStore,
    place: &LogPlace,
    table: &LoggedTable,
    listing: &StableListing,
) -> Result<(StreamFacts, Option<StreamFacts>), StepError> {
    let stream = &listing.listing;
    loop {
        let known = generations(store, place).await?;
        // Of a stream that is there twice, by a store that broke its promise once, the first counts for everybody.
        if let Some(index) = known
            .iter()
            .position(|facts| facts.stream_arn == stream.stream_arn)
        {
            let before = index.checked_sub(1).and_then(|index| known.get(index));
            let before = before.cloned();
            let found = known.into_iter().nth(index);
            return found
                .map(|facts| (facts, before))
                .ok_or_else(|| StepError::Internal("a generation got lost in memory".into()));
        }
        let last = known.last().map_or(Generation(0), |facts| facts.generation);
        let number = last.0.checked_add(1).ok_or_else(|| {
            StepError::LogCorrupt(format!(
                "{} has no number left for another stream",
                store.url(&place.generations())
            ))
        })?;
        let lineage = Lineage::of(stream, listing.at);
        let facts = StreamFacts {
            version: LOG_FACTS_VERSION,
            generation: Generation(number),
            stream_arn: stream.stream_arn.clone(),
            stream_label: stream.label.clone(),
            view: stream.view,
            table_arn: table.arn.clone(),
            table_id: table.id.clone(),
            met_at: listing.at,
            log_from: log_from(&lineage, listing.at),
        };
        let object = json_object(place.generation(facts.generation), &facts)?;
        if store.create(object).await.map_err(StepError::Store)? == Creation::Created {
            return Ok((facts, known.into_iter().last()));
        }
        // A rival's, or our own, whose answer got lost.
    }
}

/// Notes, in the log of the stream before this one, that it has ended: what changed between the two has no records.
///
/// There is one such incident per stream. It begins with the last second that the old log surely saw.
async fn note_end(
    deps: &LiveDeps,
    store: &dyn ObjectStore,
    place: &LogPlace,
    old: &StreamFacts,
    new: &StreamFacts,
) -> Result<(), StepError> {
    let key = place.incident(&old.stream_label, STREAM_ENDED);
    if store.facts(&key).await.map_err(StepError::Store)?.is_some() {
        return Ok(());
    }
    let until = UnixSeconds(UnixSeconds::of(new.met_at).0 + SETTLE_SECONDS);
    let from = last_seen(deps, store, place, old).await?.min(until);
    let incident = Incident {
        version: INCIDENT_VERSION,
        id: STREAM_ENDED.into(),
        kind: IncidentKind::StreamEnded,
        stream_label: old.stream_label.clone(),
        shard: None,
        from,
        until,
        seen_at: new.met_at,
        detail: format!(
            "{} has ended and {} has taken its place; what changed in between has no records",
            old.stream_arn, new.stream_arn
        ),
    };
    put_incident(deps, store, place, &incident).await
}

/// The id of the incident that a stream has ended: there is one per stream.
pub const STREAM_ENDED: &str = "stream-ended";

/// Puts an incident on record. The second sight of one is the first's: whoever sees it is told once.
pub(crate) async fn put_incident(
    deps: &LiveDeps,
    store: &dyn ObjectStore,
    place: &LogPlace,
    incident: &Incident,
) -> Result<(), StepError> {
    let key = place.incident(&incident.stream_label, &incident.id);
    let created = store.create(json_object(key, incident)?).await;
    if created.map_err(StepError::Store)? == Creation::Created {
        deps.observer.incident(incident);
    }
    Ok(())
}

/// The last second of which a log surely holds something: the stream was alive then.
///
/// With nothing to show, that is the second from which it holds everything. When the log was begun does not count: a
/// stream can be met when it has long been disabled, and what changed since is lost.
async fn last_seen(
    deps: &LiveDeps,
    store: &dyn ObjectStore,
    place: &LogPlace,
    old: &StreamFacts,
) -> Result<UnixSeconds, StepError> {
    let mark: Option<PublishedMark> = fact(store, &place.mark(&old.stream_label)).await?;
    let marked = mark.and_then(|mark| mark.mark.rolled.max(mark.mark.proven));
    let leases = deps
        .leases
        .group(&log_id(store, place, old).lease_group(), REGISTRAR)?;
    let rows = shard_rows::all(&leases).await?;
    let stamped = rows.values().filter_map(|row| row.event_time);
    let begins = UnixSeconds::of(old.log_from);
    Ok(stamped.chain(marked).fold(begins, UnixSeconds::max))
}

/// Registers shards of one log.
struct Registrar<'a> {
    store: &'a dyn ObjectStore,
    place: &'a LogPlace,
    label: &'a str,
    leases: &'a Leases,
    at: UnixMillis,
}

impl Registrar<'_> {
    async fn register(
        &self,
        lineage: &Lineage,
        begins: &[&Node],
    ) -> Result<Vec<ShardId>, StepError> {
        let rows = shard_rows::all(self.leases).await?;
        let missing: Vec<&Node> = begins
            .iter()
            .filter(|node| !is_covered(lineage, node, &rows))
            .copied()
            .collect();
        let mut registered = Vec::new();
        for some in missing.chunks(AT_ONCE) {
            let registering: Vec<_> = some.iter().map(|node| self.register_one(node)).collect();
            let created = futures::future::try_join_all(registering).await?;
            let names = some.iter().map(|node| node.shard.id.clone());
            registered.extend(
                names
                    .zip(created)
                    .filter_map(|(id, created)| created.then_some(id)),
            );
        }
        Ok(registered)
    }

    /// The shard's facts, then its lease. Whether this call created the lease.
    async fn register_one(&self, node: &Node) -> Result<bool, StepError> {
        let shard = &node.shard;
        let facts = ShardFacts {
            version: LOG_FACTS_VERSION,
            shard: shard.clone(),
            ordinal: node.ordinal,
            event_time: None,
            origin: Origin::Listed,
            registered_at: self.at,
        };
        let key = self.place.shard_facts(self.label, &shard.id);
        let object = json_object(key.clone(), &facts)?;
        let facts = match self.store.create(object).await.map_err(StepError::Store)? {
            Creation::Created => facts,
            // Somebody was first, perhaps this very call: everybody goes by the one that stands.
            Creation::Exists => fact(self.store, &key).await?.ok_or_else(|| {
                let url = self.store.url(&key);
                StepError::LogCorrupt(format!("{url} was there and is gone"))
            })?,
        };
        let lease = shard_rows::new_lease(&facts, None)?;
        match self.leases.register(&lease).await {
            Ok(registered) => Ok(registered.created),
            // A parent's end registered it in this very moment.
            Err(highwater_lease::Error::OtherParents { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a shard is registered, or one that it goes on from: then the end of that registers it, with what it knows.
fn is_covered(lineage: &Lineage, node: &Node, rows: &BTreeMap<ShardId, ShardRow>) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = Some(node.shard.id.clone());
    while let Some(id) = next {
        if rows.contains_key(&id) {
            return true;
        }
        if !seen.insert(id.clone()) {
            return false;
        }
        next = lineage.get(&id).and_then(|node| node.shard.parent.clone());
    }
    false
}
