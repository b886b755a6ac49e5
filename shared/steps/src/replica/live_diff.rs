//! Compares a live replica with its source while both are written to, and tells real divergence only.
//!
//! The tables are compared as any two are, which names the keys that are not the same at two moments: suspects. Each of these is then
//! looked at until it is known what is the matter with it.

use std::sync::Arc;

use highwater_domain::item_reader::ItemReader;
use highwater_domain::live_check::Undecided;
use highwater_domain::live_control::LogId;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::replica_targets::TargetPorts;

use super::apply::check_target;
use super::mend::Mended;
use super::recheck::{
    Divergence, Found, Recheck, RecheckObserver, RecheckOptions, Rechecked, require_live,
};
use super::refused::log_of;
use super::{FeedDeps, load, sides};
use crate::compare::{CompareObserver, CompareOptions, Comparison, SpillLimits, Totals, compare};
use crate::error::StepError;
use crate::paced_reader::PacedReader;
use crate::table_items::TableItems;

/// The two tables.
#[derive(Debug)]
pub struct LiveTables {
    /// All items of the source, read strongly.
    pub source: TableItems,
    /// All items of the replica, read strongly.
    pub replica: TableItems,
    /// Reads single items of the source.
    pub reader: Arc<dyn ItemReader>,
    /// The replica's ports.
    pub target: TargetPorts,
}

/// How they are compared.
#[derive(Clone, Debug)]
pub struct LiveDiffRequest {
    /// The most suspects that are looked at.
    pub limit: usize,
    /// How much memory sorting takes, and where the rest goes.
    pub spill: SpillLimits,
    /// How suspects are looked at, and what is done about those in which the replica has gone wrong.
    pub recheck: RecheckOptions,
}

/// Who hears how it goes on.
#[derive(Clone, Debug)]
pub struct LiveDiffObservers {
    /// Of the comparison.
    pub compare: Arc<dyn CompareObserver>,
    /// Of the looks at suspects.
    pub recheck: Arc<dyn RecheckObserver>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveDiffReport {
    /// The replica, as it stands in the end.
    pub record: ReplicaRecord,
    /// What was compared of the source.
    pub source: Totals,
    /// What was compared of the replica.
    pub replica: Totals,
    /// Keys that were not the same at two moments.
    pub suspects: u64,
    /// Suspects that nobody looked at, because there were more than the limit.
    pub not_looked_at: u64,
    /// Suspects in which the replica has what the source had.
    pub cleared: u64,
    /// Keys in which the replica has gone wrong, in order.
    pub diverged: Vec<(String, Divergence)>,
    /// Keys of which nothing can be said, in order.
    pub undecided: Vec<(String, Undecided)>,
    /// The last second that was waited for; `None` if there was nothing to wait for.
    pub waited_for: Option<UnixSeconds>,
    /// How it is known that the log has everything up to the second that was waited for, or as of which the replica is equal.
    pub grade: Option<Grade>,
}

impl LiveDiffReport {
    /// How many keys are put right.
    #[must_use]
    pub fn repaired(&self) -> usize {
        let diverged = self.diverged.iter();
        diverged.filter(|(_, it)| it.mended == Mended::Done).count()
    }

    /// In how many keys the replica is wrong in the end.
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.diverged.len() - self.repaired()
    }

    /// Whether something is known of every key.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.undecided.is_empty() && self.not_looked_at == 0
    }

    /// Whether the replica has, or has now, what its source has.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.wrong() == 0 && self.is_decided()
    }
}

/// Compares the replica of `record` with its source.
///
/// # Errors
/// [`StepError::ReplicaFailed`] if it is not live, or one of the tables is not the one that was replicated.
pub async fn run(
    deps: &FeedDeps,
    record: &ReplicaRecord,
    tables: LiveTables,
    request: &LiveDiffRequest,
    observers: &LiveDiffObservers,
) -> Result<LiveDiffReport, StepError> {
    let known = load(deps, &record.source_arn, &record.id).await?.value;
    require_live(record, &known)?;
    check_target(&known, tables.target.describer.as_ref()).await?;
    check_source(deps, &known).await?;
    let reader = PacedReader::new(tables.reader, tables.source.pace());
    let of_target = PacedReader::new(tables.target.reader.clone(), tables.replica.pace());
    let target = TargetPorts {
        reader: Arc::new(of_target),
        ..tables.target
    };
    let source = sides::of_source(tables.source, &known);
    let replica = sides::of_replica(tables.replica, &known);
    let options = CompareOptions {
        limit: request.limit,
        spill: request.spill.clone(),
        key: None,
        salt: request.recheck.salt,
    };
    let compared = compare(&source, &replica, &options, &observers.compare).await?;
    let keys = compared.differences.iter().map(|it| it.key.clone());
    let recheck = Recheck {
        deps,
        record: &known,
        source: Arc::new(reader),
        target: &target,
        options: request.recheck.clone(),
        observer: Arc::clone(&observers.recheck),
    };
    let rechecked = recheck.run(keys.collect()).await?;
    let now = load(deps, &record.source_arn, &record.id).await?.value;
    let rests_on = rechecked.waited_for.or(now.equal_at());
    let grade = grade_at(deps, &now, rests_on).await?;
    Ok(report(now, &compared, rechecked, grade))
}

/// The source must be the table that was replicated.
async fn check_source(deps: &FeedDeps, record: &ReplicaRecord) -> Result<(), StepError> {
    let name = record.source.as_str();
    let found = deps.live.describer.table_id(name).await;
    let found = found.map_err(StepError::Table)?;
    if record.source_table_id.is_none() || found == record.source_table_id {
        return Ok(());
    }
    Err(StepError::ReplicaFailed {
        id: record.id.clone(),
        reason: format!("{name} was dropped and created again: the replica is of the table before"),
    })
}

/// How it is known that the log has everything up to this second.
async fn grade_at(
    deps: &FeedDeps,
    record: &ReplicaRecord,
    at: Option<UnixSeconds>,
) -> Result<Option<Grade>, StepError> {
    let Some(at) = at else { return Ok(None) };
    let table = record.source.name();
    let (store, log) = log_of(deps.live.stores.as_ref(), &record.log, table)?;
    let id = LogId::of(
        &record.stream_arn,
        &store.url(&log.stream(&record.stream_label)),
    );
    let published = deps.live.live.mark(&id).await.map_err(StepError::Control)?;
    Ok(published.and_then(|published| published.value.mark.grade_at(at)))
}

fn report(
    record: ReplicaRecord,
    compared: &Comparison,
    rechecked: Rechecked,
    grade: Option<Grade>,
) -> LiveDiffReport {
    let suspects = compared.counts.keys();
    let mut report = LiveDiffReport {
        record,
        source: compared.a,
        replica: compared.b,
        suspects,
        not_looked_at: suspects.saturating_sub(compared.differences.len() as u64),
        cleared: 0,
        diverged: Vec::new(),
        undecided: Vec::new(),
        waited_for: rechecked.waited_for,
        grade,
    };
    for (key, found) in rechecked.found {
        match found {
            Found::Cleared => report.cleared += 1,
            Found::Diverged(divergence) => report.diverged.push((key, divergence)),
            Found::Undecided(why) => report.undecided.push((key, why)),
        }
    }
    report.diverged.sort_by(|a, b| a.0.cmp(&b.0));
    report.undecided.sort();
    report
}
