//! Publishes the mark: computed from every shard's row, put in the control table by compare-and-set, copied to the bucket.

use std::collections::BTreeMap;

use highwater_domain::control_table::Cas;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::incident::{Incident, unhealed};
use highwater_domain::layout::Layout;
use highwater_domain::live_control::{PUBLISHED_MARK_VERSION, PublishedMark};
use highwater_domain::mark::{Mark, ShardProgress, bounding, mark};
use highwater_domain::metadata::Metadata;
use highwater_domain::snapshot::Status;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::shard_rows::{self, ShardRow};
use crate::status::json_object;
use crate::stream_log::StreamLog;

/// How often rows are read again that did not belong to one moment, or a mark that somebody else published meanwhile.
const TRIES: u32 = 20;

/// Publishes the marks of one log. Keeps what never changes once it was read: incidents, and handoffs of sealed snapshots.
#[derive(Debug, Default)]
pub struct MarkPublisher {
    incidents: BTreeMap<String, Incident>,
    /// Of sealed snapshots, `None` for one without a handoff in this stream.
    handoffs: BTreeMap<SnapshotId, Option<UnixMillis>>,
    unhealed: Option<u64>,
}

/// What was computed, and from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    /// The mark.
    pub mark: PublishedMark,
    /// All incidents of the log.
    pub incidents: Vec<Incident>,
    /// What heals losses: when the handoffs of its sealed snapshots were captured, and when the log began. Without a loss the
    /// snapshots are not asked.
    pub healing: Vec<UnixMillis>,
}

impl MarkPublisher {
    /// How many losses that no sealed snapshot has healed held the mark back when it was last computed; `None` before
    /// that.
    #[must_use]
    pub fn unhealed(&self) -> Option<u64> {
        self.unhealed
    }

    /// Computes the mark and publishes it, unless somebody did so within the last `fresh_ms`.
    ///
    /// A mark that was published is never lowered but by an incident that touches the seconds it takes back.
    pub async fn publish(
        &mut self,
        deps: &LiveDeps,
        log: &StreamLog,
        fresh_ms: u64,
    ) -> Result<PublishedMark, StepError> {
        for _ in 0..TRIES {
            // Before the rows are read: what is published then cannot be from older rows than this mark.
            let seen = deps.live.mark(&log.id).await.map_err(StepError::Control)?;
            if let Some(seen) = &seen
                && log.time.now().since(seen.value.computed_at) < fresh_ms
            {
                return Ok(seen.value.clone());
            }
            let published = seen.as_ref().map(|seen| seen.value.mark);
            let computed = self.compute(log, published).await?.mark;
            let version = seen.map(|seen| seen.version);
            let cas = deps.live.publish_mark(&log.id, version, &computed).await;
            match cas.map_err(StepError::Control)? {
                Cas::Applied(version) => {
                    copy(deps, log, version, &computed).await?;
                    if published != Some(computed.mark) {
                        deps.observer.marked(&computed);
                    }
                    return Ok(computed);
                }
                // Somebody else's, or this very one, whose answer got lost.
                Cas::Lost => {}
            }
        }
        Err(StepError::Internal(format!(
            "the mark of {} changes faster than it can be computed",
            log.id.as_str()
        )))
    }

    /// What would be published after `published`.
    pub async fn compute(
        &mut self,
        log: &StreamLog,
        published: Option<Mark>,
    ) -> Result<Computed, StepError> {
        // Rows first: whatever they show of a loss has its incident in the bucket already.
        let shards = shards(log).await?;
        self.read_incidents(log).await?;
        let incidents: Vec<Incident> = self.incidents.values().cloned().collect();
        let mut healing = if incidents.iter().any(|it| it.kind.loses_records()) {
            self.read_handoffs(log).await?
        } else {
            Vec::new()
        };
        // What was lost before the log began was never promised.
        healing.push(log.facts.met_at);
        let held = unhealed(&incidents, &healing);
        self.unhealed = Some(held.len() as u64);
        let found = mark(&shards, &held, log.publication_ms);
        let found = found.map_err(|missing| StepError::Internal(missing.to_string()))?;
        let open = shards.iter().filter(|shard| shard.children.is_none());
        let mark = PublishedMark {
            version: PUBLISHED_MARK_VERSION,
            stream_arn: log.arn().to_owned(),
            stream_label: log.label().to_owned(),
            generation: log.facts.generation,
            mark: found.following(published.unwrap_or_default(), &incidents),
            publication_ms: log.publication_ms,
            computed_at: log.time.now(),
            bounded_by: bounding(&shards, log.publication_ms).cloned(),
            open_shards: open.count() as u64,
            held_back: !held.is_empty(),
        };
        Ok(Computed {
            mark,
            incidents,
            healing,
        })
    }

    async fn read_incidents(&mut self, log: &StreamLog) -> Result<(), StepError> {
        let folder = log.place.incidents(log.label());
        for key in log.keys_below(&folder).await? {
            if self.incidents.contains_key(&key) {
                continue;
            }
            if let Some(incident) = log.fact(&key).await? {
                self.incidents.insert(key, incident);
            }
        }
        Ok(())
    }

    /// When the handoffs were captured of the snapshots of this stream that are there, sealed and with a handoff.
    async fn read_handoffs(&mut self, log: &StreamLog) -> Result<Vec<UnixMillis>, StepError> {
        let folder = Layout::snapshots_of(log.place.prefix(), log.place.table());
        let mut captured = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = log.store.list_folders(&folder, after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            for name in &page.folders {
                let name = name.strip_prefix(&folder).unwrap_or(name);
                // Other tools' exports may live in the same folder, under names of their own.
                if let Ok(id) = name.trim_end_matches('/').parse::<SnapshotId>() {
                    captured.extend(self.read_handoff(log, id).await?);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(captured);
            }
        }
    }

    async fn read_handoff(
        &mut self,
        log: &StreamLog,
        id: SnapshotId,
    ) -> Result<Option<UnixMillis>, StepError> {
        if let Some(known) = self.handoffs.get(&id) {
            return Ok(*known);
        }
        let key = Layout::new(log.place.prefix(), log.place.table(), &id).metadata();
        let body = log.store.read(&key).await.map_err(StepError::Store)?;
        // What cannot be read heals nothing. What is not sealed may be, the next time.
        let metadata = body.and_then(|body| serde_json::from_slice::<Metadata>(&body).ok());
        let sealed = metadata.filter(|metadata| metadata.status == Status::Completed);
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let handoff = sealed.handoff().ok().flatten();
        let handoff = handoff.filter(|it| !it.expired && it.stream_label == log.label());
        let captured_at = handoff.map(|handoff| handoff.captured_at);
        self.handoffs.insert(id, captured_at);
        Ok(captured_at)
    }
}

/// All shards, as of one moment as far as it matters: a listing of rows is not atomic, and the end of a parent may have come
/// between two pages of it.
async fn shards(log: &StreamLog) -> Result<Vec<ShardProgress>, StepError> {
    let mut tries = 0;
    loop {
        let rows = shard_rows::all(&log.leases).await?;
        let shards: Vec<ShardProgress> = rows.values().map(ShardRow::progress).collect();
        match mark(&shards, &[], log.publication_ms) {
            Ok(_) => return Ok(shards),
            Err(missing) if tries >= TRIES => {
                return Err(StepError::LogCorrupt(missing.to_string()));
            }
            Err(_) => tries += 1,
        }
    }
}

/// Copies the mark to the bucket, where restores look. Whoever writes last has looked at the control table after writing.
async fn copy(
    deps: &LiveDeps,
    log: &StreamLog,
    version: i64,
    mark: &PublishedMark,
) -> Result<(), StepError> {
    let key = log.place.mark(log.label());
    let (mut version, mut mark) = (version, mark.clone());
    for _ in 0..TRIES {
        let object = json_object(key.clone(), &mark)?;
        log.store.replace(object).await.map_err(StepError::Store)?;
        let now = deps.live.mark(&log.id).await.map_err(StepError::Control)?;
        match now {
            Some(now) if now.version != version => (version, mark) = (now.version, now.value),
            _ => return Ok(()),
        }
    }
    // The next publication writes it again.
    Ok(())
}
