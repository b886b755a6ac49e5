//! Plans a replica: looks at both tables, the snapshot and its log, refuses what cannot work, and claims the target.
//!
//! Nothing is written before everything was looked at. The claim on the target is a row in its table of fences, so that two control
//! tables cannot feed one replica.

use highwater_domain::control_table::Cas;
use highwater_domain::engine_choice::EngineChoice;
use highwater_domain::ids::{TableRef, UnixMillis};
use highwater_domain::key_filter::KeyFilter;
use highwater_domain::layout::Destination;
use highwater_domain::replica::{
    CLOCK_MARGIN_MS, FenceMode, LATE_REQUEST_MS, Phase, REPLICA_VERSION, ReplicaId, ReplicaRecord,
    STAMP_MARGIN_S,
};
use highwater_domain::replica_targets::{TargetAccess, TargetPorts};
use highwater_domain::restore::{OnExisting, ReplicaOf, RestoreId};
use highwater_domain::table::TableSettings;
use highwater_domain::table_plan::TableOverrides;
use serde::{Deserialize, Serialize};

use super::checks::{check_existing, check_snapshot, existing};
use super::handoff::{self, HandedOver};
use super::{FeedDeps, ReplicaDeps};
use crate::error::StepError;
use crate::restore_request::RestoreRequest;

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaRequest {
    /// The table that is replicated: name or ARN.
    pub source: TableRef,
    /// The table that is kept equal: name or ARN.
    pub to: TableRef,
    /// Its region, if it is another.
    #[serde(default)]
    pub target_region: Option<String>,
    /// The role that is assumed for it.
    #[serde(default)]
    pub target_role: Option<String>,
    /// Only items whose key passes every one of these.
    #[serde(default)]
    pub filter: Vec<KeyFilter>,
    /// Where the order of writes is kept.
    #[serde(default)]
    pub fence: FenceMode,
    /// The destination of the log and its snapshots: `s3://bucket/prefix` or `file:///path`.
    pub log: String,
    /// The snapshot that is loaded, one in the table's folder there.
    pub snapshot: String,
    /// Whether both tables are a local engine's, which keeps no request back.
    #[serde(default)]
    pub local: bool,
}

/// A replica that could be begun.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedReplica {
    /// Its record as it would be.
    pub record: ReplicaRecord,
    /// Whether its table is to be made.
    pub makes_table: bool,
    /// The items of the snapshot.
    pub items: u64,
    /// The replica as it is, if it was begun before: it is gone on with.
    pub standing: Option<ReplicaRecord>,
}

/// The restore that loads a replica. `makes_table` says whether its table is to be made.
#[must_use]
pub fn load_request(record: &ReplicaRecord, makes_table: bool) -> RestoreRequest {
    RestoreRequest {
        backup: Some(record.snapshot.clone()),
        to: Some(record.target.clone()),
        into_existing: !makes_table,
        on_existing: (!makes_table).then_some(OnExisting::Overwrite),
        restore_id: Some(record.load.clone()),
        // DynamoDB's own import would read the bucket as the target's role.
        engine: if TargetAccess::from(record).is_own() {
            EngineChoice::Auto
        } else {
            EngineChoice::Write
        },
        filter: record.filter.clone(),
        settings: TableOverrides {
            // Whatever expired there by itself would come back with its next change, and go again.
            no_ttl: makes_table,
            ..TableOverrides::default()
        },
        replica: Some(ReplicaOf {
            source_arn: record.source_arn.clone(),
            id: record.id.clone(),
        }),
        ..RestoreRequest::default()
    }
}

/// Looks at everything that a replica needs. Writes nothing.
///
/// # Errors
/// [`StepError::ReplicaRefused`] names the table and why it cannot be.
pub async fn plan(
    deps: &ReplicaDeps,
    request: &ReplicaRequest,
    load: RestoreId,
    now: UnixMillis,
) -> Result<PlannedReplica, StepError> {
    request.log.parse::<Destination>()?;
    let source = deps.describer.describe(request.source.as_str()).await;
    let source = source.map_err(StepError::Table)?;
    let access = TargetAccess {
        region: request.target_region.clone(),
        role: request.target_role.clone(),
    };
    let target = deps.targets.open(&access).await.map_err(StepError::Table)?;
    let handed_over = handoff::read(&deps.live, &request.snapshot).await?;
    check_snapshot(request, &handed_over, &source)?;
    let existing = existing(&target, &request.to).await?;
    let looked = Looked {
        source,
        existing,
        handed_over,
    };
    let record = looked.record(request, load, now)?;
    let standing = check_standing(deps, &target, &record).await?;
    if let Some(settings) = looked.existing.as_ref().filter(|_| standing.is_none()) {
        check_existing(&target, request, settings, &record).await?;
    }
    Ok(PlannedReplica {
        makes_table: looked.existing.is_none(),
        items: looked.handed_over.metadata.item_count,
        record,
        standing,
    })
}

/// What was found before anything is decided.
struct Looked {
    source: TableSettings,
    /// The target, if it is there.
    existing: Option<TableSettings>,
    handed_over: HandedOver,
}

impl Looked {
    /// The replica as it would begin.
    fn record(
        &self,
        request: &ReplicaRequest,
        load: RestoreId,
        now: UnixMillis,
    ) -> Result<ReplicaRecord, StepError> {
        let broken = |source| StepError::Settings {
            table: request.source.to_string(),
            source,
        };
        let source_arn = self.source.arn().map_err(broken)?.to_owned();
        let key_schema = self.source.key_schema().map_err(broken)?;
        for filter in &request.filter {
            filter.check(&key_schema)?;
        }
        let target_arn = match &self.existing {
            Some(settings) => settings.arn().map_err(broken)?.to_owned(),
            None => future_arn(&source_arn, request),
        };
        if source_arn == target_arn {
            return Err(refused(&request.to, "it is the source itself"));
        }
        // A local engine keeps no request back, and its stamps are exact.
        let usual_unless_local = |usual| if request.local { 0 } else { usual };
        let id_of = |it: &TableSettings| it.table_id().map(str::to_owned);
        let handoff = &self.handed_over.handoff;
        Ok(ReplicaRecord {
            version: REPLICA_VERSION,
            id: ReplicaId::of(&source_arn, &target_arn),
            source: request.source.clone(),
            source_table_id: id_of(&self.source),
            target: request.to.clone(),
            target_table_id: self.existing.as_ref().and_then(id_of),
            target_region: request.target_region.clone(),
            target_role: request.target_role.clone(),
            fence: request.fence,
            key_schema,
            filter: request.filter.clone(),
            log: request.log.clone(),
            snapshot: request.snapshot.clone(),
            load,
            stream_arn: handoff.stream_arn.clone(),
            stream_label: handoff.stream_label.clone(),
            generation: handoff.generation,
            captured_at: handoff.captured_at,
            scanned_at: self.handed_over.scanned_at,
            phase: Phase::Load,
            attempts: Vec::new(),
            late_ms: usual_unless_local(LATE_REQUEST_MS + CLOCK_MARGIN_MS),
            stamp_margin_s: usual_unless_local(STAMP_MARGIN_S),
            began_at: now,
            live_since: None,
            applied: None,
            applied_at: None,
            rejected: 0,
            refused: 0,
            error: None,
            source_arn,
        })
    }
}

fn refused(table: &TableRef, reason: impl Into<String>) -> StepError {
    StepError::ReplicaRefused {
        table: table.to_string(),
        reason: reason.into(),
    }
}

/// The replica as it is, if it was begun before. One that is over is no base for another, and nobody else's may be used.
async fn check_standing(
    deps: &ReplicaDeps,
    target: &TargetPorts,
    record: &ReplicaRecord,
) -> Result<Option<ReplicaRecord>, StepError> {
    let standing = deps.replicas.replica(&record.source_arn, &record.id).await;
    let standing = standing
        .map_err(StepError::Control)?
        .map(|known| known.value);
    if let Some(over) = standing.as_ref().filter(|known| known.phase.is_over()) {
        let reason = format!(
            "it was a replica of this source and is {}: begin with a fresh table, and drop this one or keep it as it is",
            over.phase
        );
        return Err(refused(&record.target, reason));
    }
    let holder = target.fences.holder(&record.fence_table()).await;
    if let Some(holder) = holder.map_err(StepError::Table)?
        && standing.as_ref().map(claim_of).as_ref() != Some(&holder)
    {
        let reason = format!(
            "replica {holder} uses it, which is not known here: it has the fences {}",
            record.fence_table()
        );
        return Err(refused(&record.target, reason));
    }
    Ok(standing)
}

/// What the table of fences says of whose it is. A replica's name follows from its tables, so that two control tables would give it the
/// same; its load is only one's.
fn claim_of(record: &ReplicaRecord) -> String {
    format!("{}/{}", record.id, record.load)
}

/// Records the replica and claims the target. One that is there under the same name, and not over, is gone on with.
///
/// The record first: a claim that nobody knows of would stand in everybody's way for ever, a record without a claim gets it the next time.
pub async fn begin(
    deps: &ReplicaDeps,
    planned: &PlannedReplica,
) -> Result<ReplicaRecord, StepError> {
    let record = match &planned.standing {
        Some(standing) => standing.clone(),
        None => create(deps, &planned.record).await?,
    };
    // What is past loading was claimed before; a claim now could bring the fences back of what is being promoted.
    if record.phase != Phase::Load {
        return Ok(record);
    }
    let access = TargetAccess::from(&record);
    let target = deps.targets.open(&access).await.map_err(StepError::Table)?;
    let claim = claim_of(&record);
    let holder = target.fences.claim(&record.fence_table(), &claim).await;
    let holder = holder.map_err(StepError::Table)?;
    if holder == claim {
        return Ok(record);
    }
    // Another control table's was first. Nothing was loaded: that begins behind the claim.
    let forgotten = deps.replicas.forget_replica(&record.source_arn, &record.id);
    forgotten.await.map_err(StepError::Control)?;
    Err(StepError::ReplicaRefused {
        table: record.target.to_string(),
        reason: format!("replica {holder} uses it"),
    })
}

async fn create(deps: &ReplicaDeps, record: &ReplicaRecord) -> Result<ReplicaRecord, StepError> {
    let created = deps.replicas.create_replica(record).await;
    match created.map_err(StepError::Control)? {
        Cas::Applied(_) => Ok(record.clone()),
        // Somebody else was first, or this very call, whose answer got lost.
        Cas::Lost => Ok(super::load(deps, &record.source_arn, &record.id)
            .await?
            .value),
    }
}

/// Notes the table that a load has made or filled: another one later is not the replica's.
pub async fn note_target(
    deps: &FeedDeps,
    record: &ReplicaRecord,
) -> Result<ReplicaRecord, StepError> {
    let access = TargetAccess::from(record);
    let target = deps.feeds.open_feed(&access).await;
    let target = target.map_err(StepError::Table)?;
    let found = target.describer.table_id(record.target.as_str()).await;
    let found = found.map_err(StepError::Table)?;
    super::update(deps, &record.source_arn, &record.id, |latest| {
        Ok(ReplicaRecord {
            target_table_id: latest.target_table_id.clone().or_else(|| found.clone()),
            ..latest.clone()
        })
    })
    .await
}

/// The ARN that the target will have once it is made: the source's, with what was asked to differ.
fn future_arn(source_arn: &str, request: &ReplicaRequest) -> String {
    if request.to.as_str().starts_with("arn:") {
        return request.to.to_string();
    }
    let mut parts: Vec<&str> = source_arn.splitn(6, ':').collect();
    if let (Some(place), Some(region)) = (parts.get_mut(3), request.target_region.as_deref()) {
        *place = region;
    }
    let role_account = request
        .target_role
        .as_deref()
        .and_then(|it| it.split(':').nth(4));
    if let (Some(place), Some(account)) = (parts.get_mut(4), role_account) {
        *place = account;
    }
    let table = format!("table/{}", request.to.name());
    if let Some(place) = parts.get_mut(5) {
        *place = &table;
    }
    parts.join(":")
}
