//! The audit of the listing: what it says of shards that is not in their leases yet. Any worker may do it at any time; all of it
//! is idempotent.
//!
//! A closed shard's end is noted, so that losing its records after all of them were read is no loss. A shard that nobody
//! will come upon by reading is registered at its start and put on record: never ignored, never read from now on.

use std::collections::{BTreeMap, BTreeSet};

use highwater_domain::handoff::begins_among;
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::IncidentKind;
use highwater_domain::lineage::{Lineage, Node};
use highwater_domain::log_facts::{LOG_FACTS_VERSION, Origin, ShardFacts};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::shard::{ShardId, StreamListing, StreamStatus};
use highwater_domain::stream_source::StreamError;
use highwater_lease::Error as LeaseError;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::note_incident::{Sight, first_second, note};
use crate::shard_end::{child_facts, late_child};
use crate::shard_rows::{self, ShardRow, lease_of, new_lease};
use crate::stream_log::StreamLog;

/// A shard whose parent is not listed is waited with for so long: the listing may be behind.
const PATIENCE_MS: u64 = 5 * 60 * 1000;

/// No listing is behind for so long.
const SETTLED_MS: u64 = 6 * 60 * 60 * 1000;

/// Surveys one log. Remembers, between two surveys, shards that it waits with.
#[derive(Debug, Default)]
pub struct Surveyor {
    waiting: BTreeMap<ShardId, UnixMillis>,
    refuses_orphans: bool,
}

/// What a survey found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// Shards that were registered.
    pub registered: Vec<ShardId>,
    /// Incidents that nobody had seen before.
    pub incidents: u64,
    /// The stream's status; `None` if it is not there any more.
    pub status: Option<StreamStatus>,
}

impl Surveyor {
    /// A surveyor for those who need each key's changes in order and without a hole: a shard that comes to light late, and whose
    /// parent is not listed any more, is not read. What its parent held is gone, and that is put on record as a gap.
    #[must_use]
    pub fn refusing_orphans() -> Self {
        Self {
            refuses_orphans: true,
            ..Self::default()
        }
    }

    /// Compares a full listing with the leases.
    pub async fn run(&mut self, deps: &LiveDeps, log: &StreamLog) -> Result<Surveyed, StepError> {
        let listing = match deps.streams.listing(log.arn()).await {
            Ok(listing) => listing,
            Err(StreamError::Gone(_)) => return Ok(Surveyed::default()),
            Err(error) => return Err(error.into()),
        };
        // Rows after the listing: a child that was registered in between is known.
        let rows = shard_rows::all(&log.leases).await?;
        note_ends(log, &listing, &rows).await?;
        let mut surveyed = Surveyed {
            status: Some(listing.status),
            ..Surveyed::default()
        };
        let lineage = Lineage::of(&listing, log.time.now());
        let mut unknown: Vec<&Node> = lineage
            .iter()
            .filter(|node| !rows.contains_key(&node.shard.id))
            .collect();
        unknown.sort_by_key(|node| node.ordinal);
        for node in &unknown {
            let parent = node.shard.parent.as_ref().and_then(|id| rows.get(id));
            if let Some(parent) = parent.filter(|parent| parent.ended) {
                let new = register_late_child(deps, log, node, parent).await?;
                surveyed.incidents += u64::from(new);
                surveyed.registered.push(node.shard.id.clone());
            }
        }
        let below: BTreeSet<&ShardId> =
            rows.keys().flat_map(|id| ancestors(&lineage, id)).collect();
        for root in self.late_roots(&lineage, &rows, &below, log.time.now()) {
            // A parent that leads to what is read, and is not read itself, ended before the reading began: nothing of it is missed.
            let parent = root.shard.parent.as_ref();
            if self.refuses_orphans
                && let Some(parent) = parent.filter(|parent| !below.contains(parent))
            {
                let gap = orphaned(log, root, parent);
                surveyed.incidents += u64::from(note(deps, log, &gap).await?);
                continue;
            }
            let new = register_late_root(deps, log, root).await?;
            surveyed.incidents += u64::from(new);
            surveyed.registered.push(root.shard.id.clone());
        }
        Ok(surveyed)
    }

    /// Shards from which a log of those would begin today that no registered shard leads to. `below` are those that lead to one.
    ///
    /// Of a parent with two children the one may be registered and the other not: a handoff was captured while the listing hid it.
    fn late_roots<'a>(
        &mut self,
        lineage: &'a Lineage,
        rows: &BTreeMap<ShardId, ShardRow>,
        below: &BTreeSet<&ShardId>,
        now: UnixMillis,
    ) -> Vec<&'a Node> {
        let is_unknown = |node: &&Node| {
            // What leads to a registered shard and was left out is from before the log.
            !below.contains(&node.shard.id)
                && !rows.contains_key(&node.shard.id)
                && ancestors(lineage, &node.shard.id).all(|id| !rows.contains_key(id))
        };
        let found = begins_among(lineage, now, is_unknown);
        let mut waiting = BTreeMap::new();
        let mut late = Vec::new();
        for node in found {
            let id = &node.shard.id;
            let since = self.waiting.get(id).copied().unwrap_or(now);
            if is_certain(node, lineage, since, now) {
                late.push(node);
            } else {
                waiting.insert(id.clone(), since);
            }
        }
        self.waiting = waiting;
        late
    }
}

/// Case 37: a young shard whose parent is not listed is rather the child of a shard that the listing hides.
fn is_certain(node: &Node, lineage: &Lineage, since: UnixMillis, now: UnixMillis) -> bool {
    let hidden = node.shard.parent.as_ref();
    if hidden.is_none_or(|parent| lineage.get(parent).is_some()) {
        return true;
    }
    let age = node.shard.id.created_at().map(|at| now.since(at));
    now.since(since) >= PATIENCE_MS || age.is_some_and(|age| age >= SETTLED_MS)
}

/// The shards that a shard goes on from, as far as the listing and the shards' own words tell.
fn ancestors<'a>(lineage: &'a Lineage, of: &ShardId) -> impl Iterator<Item = &'a ShardId> {
    let mut seen = BTreeSet::new();
    let parent = |id: &ShardId| lineage.get(id).and_then(|node| node.shard.parent.as_ref());
    std::iter::successors(parent(of), move |id| parent(id)).take_while(move |id| seen.insert(*id))
}

/// Where a closed shard ends: whoever has read so far has read all of it.
async fn note_ends(
    log: &StreamLog,
    listing: &StreamListing,
    rows: &BTreeMap<ShardId, ShardRow>,
) -> Result<(), StepError> {
    for shard in &listing.shards {
        let row = rows
            .get(&shard.id)
            .filter(|row| !row.ended && row.end.is_none());
        let (Some(_), Some(end)) = (row, &shard.end) else {
            continue;
        };
        let lease = lease_of(&shard.id)?;
        match log.leases.note(&lease, shard_rows::END, end.as_str()).await {
            // It has ended and was removed.
            Ok(()) | Err(LeaseError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn register_late_child(
    deps: &LiveDeps,
    log: &StreamLog,
    node: &Node,
    parent: &ShardRow,
) -> Result<bool, StepError> {
    let sight = late_child(log, &node.shard, parent.event_time);
    let new = note(deps, log, &sight).await?;
    let facts = child_facts(
        log,
        &node.shard,
        parent.ordinal,
        parent.event_time,
        Origin::LateChild,
    );
    let lease = new_lease(&facts.await?, Some(&parent.shard))?;
    register(log, &lease).await?;
    Ok(new)
}

async fn register_late_root(
    deps: &LiveDeps,
    log: &StreamLog,
    node: &Node,
) -> Result<bool, StepError> {
    let shard = &node.shard;
    let from = first_second(&shard.id);
    let sight = Sight {
        kind: IncidentKind::LateRoot,
        shard: Some(shard.id.clone()),
        what: shard.id.to_string(),
        from,
        until: UnixSeconds::of(log.time.now()).max(from),
        detail: format!(
            "shard {} came to light after the log had begun, and follows no shard that is read; it is read from its start, and marks published before may have been too high",
            shard.id
        ),
    };
    let new = note(deps, log, &sight).await?;
    let facts = ShardFacts {
        version: LOG_FACTS_VERSION,
        shard: shard.clone(),
        ordinal: node.ordinal,
        event_time: None,
        origin: Origin::LateRoot,
        registered_at: log.time.now(),
    };
    let key = log.place.shard_facts(log.label(), &shard.id);
    let (facts, _) = log.settle_fact(key, facts).await?;
    register(log, &new_lease(&facts, None)?).await?;
    Ok(new)
}

/// That what came before a shard is gone.
fn orphaned(log: &StreamLog, node: &Node, parent: &ShardId) -> Sight {
    let shard = &node.shard;
    let until = first_second(&shard.id);
    Sight {
        kind: IncidentKind::Gap,
        shard: Some(shard.id.clone()),
        what: format!("before-{}", shard.id),
        from: UnixSeconds::of(log.facts.log_from).min(until),
        until,
        detail: format!(
            "shard {} goes on from {parent}, which was never read and is not there any more; what changed before it is lost",
            shard.id
        ),
    }
}

async fn register(log: &StreamLog, lease: &highwater_lease::NewLease) -> Result<(), StepError> {
    match log.leases.register(lease).await {
        // Another survey, or its parent's end, was first and knew more or less of its parents.
        Ok(_) | Err(LeaseError::OtherParents { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
