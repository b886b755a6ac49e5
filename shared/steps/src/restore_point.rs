//! Decides how a second is restored: from which snapshot, with which part of the log. And freezes that part.
//!
//! Deciding only reads. Preparing writes the restore's shards and their objects' names into the work folder, so that
//! whatever the log gets meanwhile, all workers see the same.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::layout::Layout;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore::RestoreId;
use highwater_domain::restore_point::work_folder::{MergeShard, PointFingerprint, WORK_VERSION};
use highwater_domain::restore_point::{
    At, Candidate, Choice, Forbidden, LogFacts, LogShard, RESTORE_POINT_VERSION, Refusal,
    RestorePoint, Rules, TablePlace, Wanted, buckets_for, choose as decide,
};
use highwater_domain::shard::ShardId;

use crate::error::StepError;
use crate::log_index::{LogIndex, visit_objects};
use crate::merge_work::Work;
use crate::restore_deps::RestoreDeps;

pub use crate::merge_work::clear_work;

/// Snapshots that are looked at together, the nearest first.
const SNAPSHOTS_AT_ONCE: usize = 8;

/// Shards whose objects are listed at once.
const SHARDS_AT_ONCE: usize = 16;

/// How a second is to be restored.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the restore may rely on.
    pub rules: Rules,
    /// The folder for what lies between the log and the load, this restore's own: `s3://bucket/prefix` or
    /// `file:///path`.
    pub work: String,
}

/// The work folder of a restore if nobody says: in the table's own folder.
#[must_use]
pub fn default_work(place: &TablePlace, restore: &RestoreId) -> String {
    let key = format!("{}restores/{restore}", place.folder());
    place.location(&key).to_string()
}

/// Decides how the second `at` is restored from what is at `location`: a table's folder, its folder of snapshots, or
/// one snapshot in it. Reads only.
///
/// # Errors
/// [`StepError::NotRestorable`] if no snapshot there and its log make the second; the reason is that of the nearest
/// snapshot, with the way out.
pub async fn choose(
    deps: &RestoreDeps,
    location: &SourceLocation,
    at: At,
    options: &Options,
) -> Result<RestorePoint, StepError> {
    let place = table_place(location)?;
    let _: SourceLocation = options.work.parse()?;
    let store = deps.stores.open(&place.store).map_err(StepError::Store)?;
    let now = deps.clock.now();
    let wanted = at.wanted(now);
    let mut logs = Logs::default();
    let mut refused: Option<Refusal> = None;
    let snapshots = snapshots(&*store, &place, wanted).await?;
    for some in snapshots.chunks(SNAPSHOTS_AT_ONCE) {
        let candidates = candidates(&*store, &place, some).await?;
        logs.read_for(&store, &place, &candidates).await?;
        match decide(wanted, &candidates, &logs.known, options.rules, now) {
            Ok(choice) => return point(&store, &place, &logs, choice, options).await,
            Err(refusal) => {
                let says_more = refused.as_ref().is_none_or(|known| {
                    known.forbidden.is_about_the_snapshot()
                        && !refusal.forbidden.is_about_the_snapshot()
                });
                if says_more {
                    refused = Some(refusal);
                }
            }
        }
    }
    let refusal = refused.unwrap_or(Refusal {
        at: None,
        snapshot: None,
        forbidden: Forbidden::NoSnapshot,
    });
    Err(not_restorable(&store, &place, wanted, &refusal))
}

fn table_place(location: &SourceLocation) -> Result<TablePlace, StepError> {
    TablePlace::of(location).map_err(|error| StepError::InvalidInput(error.to_string()))
}

fn not_restorable(
    store: &Arc<dyn ObjectStore>,
    place: &TablePlace,
    wanted: Wanted,
    refusal: &Refusal,
) -> StepError {
    let at = match (refusal.at, wanted) {
        (Some(at), _) | (None, Wanted::Second(at)) => at.to_rfc3339(),
        (None, Wanted::Latest) => "its latest second".to_owned(),
    };
    StepError::NotRestorable {
        table: format!("{} ({})", place.table, store.url(&place.folder())),
        at,
        reason: refusal.to_string(),
    }
}

/// The snapshots there are, those whose scan began nearest to the wanted second first.
async fn snapshots(
    store: &dyn ObjectStore,
    place: &TablePlace,
    wanted: Wanted,
) -> Result<Vec<SnapshotId>, StepError> {
    if let Some(id) = &place.snapshot {
        return Ok(vec![id.clone()]);
    }
    let parent = Layout::snapshots_of(&place.prefix, &place.table);
    let mut ids: Vec<SnapshotId> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list_folders(&parent, after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        // Other tools' exports may live in the same folder, under names of their own.
        ids.extend(page.folders.iter().filter_map(|folder| {
            let name = folder.strip_prefix(&parent)?.strip_suffix('/')?;
            name.parse::<SnapshotId>().ok()
        }));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let at_ms = match wanted {
        Wanted::Second(at) => at.0.saturating_mul(1000),
        Wanted::Latest => u64::MAX,
    };
    ids.sort_by_key(|id| std::cmp::Reverse(id.clone()));
    ids.sort_by_key(|id| begun_at(id).0.abs_diff(at_ms));
    Ok(ids)
}

/// A snapshot's id begins with the moment at which it was planned.
fn begun_at(id: &SnapshotId) -> UnixMillis {
    let digits = id.as_str().split('-').next().unwrap_or_default();
    UnixMillis(digits.parse().unwrap_or_default())
}

async fn candidates(
    store: &dyn ObjectStore,
    place: &TablePlace,
    ids: &[SnapshotId],
) -> Result<Vec<Candidate>, StepError> {
    let mut candidates = Vec::new();
    for id in ids {
        let key = place.layout(id).metadata();
        let body = store.read(&key).await.map_err(StepError::Store)?;
        let unreadable = |what: String| Candidate {
            snapshot_id: id.clone(),
            handoff: Err(Forbidden::Unreadable(what)),
            consistent: true,
            scan_ended: UnixMillis::default(),
        };
        candidates.push(
            match body.as_deref().map(serde_json::from_slice::<Metadata>) {
                Some(Ok(metadata)) => Candidate::of(id.clone(), &metadata),
                Some(Err(error)) => {
                    unreadable(format!("{} is not a backup.json: {error}", store.url(&key)))
                }
                None => unreadable(format!("it has no backup.json ({})", store.url(&key))),
            },
        );
    }
    Ok(candidates)
}

/// The logs that candidates need, each read once.
#[derive(Default)]
struct Logs {
    known: Vec<LogFacts>,
    looked_for: Vec<String>,
}

impl Logs {
    async fn read_for(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        place: &TablePlace,
        candidates: &[Candidate],
    ) -> Result<(), StepError> {
        for handoff in candidates.iter().filter_map(|it| it.handoff.as_ref().ok()) {
            let label = &handoff.stream_label;
            if self.looked_for.contains(label) {
                continue;
            }
            self.looked_for.push(label.clone());
            match LogIndex::read(store, &place.log(), label).await {
                Ok(index) => self.known.push(index.facts),
                // No log of this stream: the decision says so.
                Err(StepError::InvalidInput(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The log objects of one shard.
#[derive(Clone, Debug, Default)]
struct ShardObjects {
    names: Vec<String>,
    stored_bytes: u64,
}

/// The names of a shard's objects, in order.
async fn objects_of(
    store: &dyn ObjectStore,
    stream: &str,
    shard: &ShardId,
) -> Result<ShardObjects, StepError> {
    let mut objects = ShardObjects::default();
    let folder = format!("{stream}{shard}/");
    visit_objects(store, stream, shard, |_, object| {
        let name = object.key.strip_prefix(&folder).unwrap_or_default();
        objects.names.push(name.to_owned());
        objects.stored_bytes += object.bytes;
    })
    .await?;
    Ok(objects)
}

async fn point(
    store: &Arc<dyn ObjectStore>,
    place: &TablePlace,
    logs: &Logs,
    choice: Choice,
    options: &Options,
) -> Result<RestorePoint, StepError> {
    let log = logs
        .known
        .iter()
        .find(|log| log.stream.generation == choice.generation)
        .ok_or_else(|| StepError::Internal("the chosen log is gone".into()))?;
    let shards = log.shards_between(choice.needs);
    let folder = place.log().stream(&log.stream.stream_label);
    let mut fingerprint = PointFingerprint::of(&choice);
    let (mut objects, mut stored_bytes) = (0, 0);
    let lists = shards
        .iter()
        .map(|shard| objects_of(&**store, &folder, &shard.facts.shard.id));
    // Collected first: a stream over a closure that borrows is not `Send` for every lifetime.
    let lists: Vec<_> = lists.collect();
    let mut lists = stream::iter(lists).buffered(SHARDS_AT_ONCE);
    for shard in &shards {
        let found = lists.try_next().await?.unwrap_or_default();
        fingerprint.shard(&shard.facts.shard.id);
        found.names.iter().for_each(|name| fingerprint.object(name));
        objects += found.names.len() as u64;
        stored_bytes += found.stored_bytes;
    }
    drop(lists);
    let buckets = buckets_for(stored_bytes);
    Ok(RestorePoint {
        version: RESTORE_POINT_VERSION,
        at: choice.at,
        table_arn: log.stream.table_arn.clone(),
        snapshot: place
            .location(place.layout(&choice.snapshot_id).root())
            .to_string(),
        work: own_folder(
            &options.work,
            PointFingerprint::of(&choice),
            &shards,
            buckets,
        ),
        snapshot_id: choice.snapshot_id,
        generation: choice.generation,
        stream_label: log.stream.stream_label.clone(),
        view: choice.view,
        grade: choice.grade,
        mark: choice.mark,
        needs: choice.needs,
        side: choice.side,
        log: place.location(&folder).to_string(),
        shards: count(shards.len())?,
        objects,
        stored_bytes,
        fingerprint: fingerprint.finish(),
        buckets,
        stamp_margin_s: options.rules.stamp_margin_s,
        bound: choice.bound,
    })
}

fn count(shards: usize) -> Result<u32, StepError> {
    u32::try_from(shards)
        .map_err(|_| StepError::InvalidInput(format!("{shards} shards are more than can be read")))
}

/// A folder that no other plan of the same restore has: two plans that see different shards must not share one.
fn own_folder(
    base: &str,
    mut plan: PointFingerprint,
    shards: &[&LogShard],
    buckets: u32,
) -> String {
    for shard in shards {
        plan.shard(&shard.facts.shard.id);
    }
    plan.object(&format!("{buckets} buckets"));
    let plan = plan.finish();
    let short = plan.get(..16).unwrap_or(&plan);
    format!("{}/{short}", base.trim_end_matches('/'))
}

/// Writes the restore's shards and the names of their objects into the work folder, and answers with the point as it was
/// frozen: what belongs into the record of a restore. The log may have grown since the point was chosen.
///
/// May be called any number of times, also at once, before the restore's record is created: who comes second takes what
/// is there.
pub async fn prepare(deps: &RestoreDeps, point: RestorePoint) -> Result<RestorePoint, StepError> {
    let place = table_place(&point.snapshot.parse()?)?;
    let store = deps.stores.open(&place.store).map_err(StepError::Store)?;
    let index = LogIndex::read(&store, &place.log(), &point.stream_label).await?;
    // A loss may have been found since the point was chosen.
    let whole = index.facts.check_losses(point.needs, point.stamp_margin_s);
    whole.map_err(|forbidden| StepError::NotRestorable {
        table: point.table_arn.clone(),
        at: point.at.to_rfc3339(),
        reason: forbidden.to_string(),
    })?;
    let shards = index.facts.shards_between(point.needs);
    let mut fingerprint = PointFingerprint::new(point.at, &point.snapshot_id, point.needs);
    let base = point.work.rsplit_once('/').map_or("", |(base, _)| base);
    let mut point = RestorePoint {
        work: own_folder(base, fingerprint.clone(), &shards, point.buckets),
        shards: count(shards.len())?,
        objects: 0,
        stored_bytes: 0,
        ..point
    };
    let work = Work::open(deps, &point)?;
    let folder = place.log().stream(&point.stream_label);
    let frozen = (0_u32..).zip(&shards).map(|(number, shard)| {
        let (store, folder, work) = (&store, &folder, &work);
        async move {
            let objects = objects_of(&**store, folder, &shard.facts.shard.id).await?;
            let frozen = merge_shard(number, shard, objects);
            work.settle(work.folder.shard(number), frozen).await
        }
    });
    let frozen: Vec<_> = frozen.collect();
    let mut frozen = stream::iter(frozen).buffered(SHARDS_AT_ONCE);
    while let Some(shard) = frozen.try_next().await? {
        fingerprint.shard(&shard.shard);
        shard
            .objects
            .iter()
            .for_each(|name| fingerprint.object(name));
        point.objects += shard.objects.len() as u64;
        point.stored_bytes += shard.stored_bytes;
    }
    drop(frozen);
    point.fingerprint = fingerprint.finish();
    Ok(point)
}

fn merge_shard(number: u32, shard: &LogShard, objects: ShardObjects) -> MergeShard {
    MergeShard {
        version: WORK_VERSION,
        number,
        shard: shard.facts.shard.id.clone(),
        ordinal: shard.facts.ordinal,
        event_time: shard.facts.event_time,
        objects: objects.names,
        stored_bytes: objects.stored_bytes,
    }
}
