//! Looks again at keys of a live replica that seem to differ from its source, until it is known whether they do:
//! [`live_check`](highwater_domain::live_check) says how that can be known. Each wait is one for all keys.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::difference::DifferenceKind;
use highwater_domain::fenced_writer::{FencedWrite, MAX_ORDERS};
use highwater_domain::item_reader::ItemReader;
use highwater_domain::live_check::{Awaited, ReplicaLook, SourceLook, Undecided, Verdict, looked};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{FENCE_ATTRIBUTE, FenceMode, Phase, ReplicaRecord};
use highwater_domain::replica_targets::TargetPorts;
use highwater_domain::table_writer::WriteOp;
use tokio::time::Instant;

use super::mend::{Mended, Mending};
use super::recheck_items::{Items, patiently};
use super::{FeedDeps, fenced_table, load};
use crate::error::StepError;

/// Batches of keys that are looked at at once.
const BATCHES_AT_ONCE: usize = 2;

/// How often it is asked how far the replica is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is done about a key in which the replica has gone wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repairing {
    /// Nothing.
    #[default]
    Never,
    /// It is told what would be written.
    DryRun,
    /// The source's item is written, under the fence as it stands.
    Write,
}

/// How keys are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct RecheckOptions {
    /// How long a key may wait until the replica has what the source had.
    pub patience: Duration,
    /// How often a key is begun with that is written to meanwhile.
    pub rounds: u32,
    /// What is done about it.
    pub repair: Repairing,
    /// Makes prints of items that nobody could foresee: new for every check.
    pub salt: u128,
}

/// What is known of a key in the end.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The replica has what the source had.
    Cleared,
    /// It has not, and never will by itself.
    Diverged(Divergence),
    /// Nothing can be said.
    Undecided(Undecided),
}

/// A key in which a replica has gone wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// How; the source is the first side.
    pub kind: DifferenceKind,
    /// The order at which the replica's fence stands; `None` if nothing was applied to the key since it was loaded.
    pub order: Option<String>,
    /// What was done about it.
    pub mended: Mended,
}

/// Hears how a check goes on. Must not block.
pub trait RecheckObserver: Debug + Send + Sync {
    /// So many keys are looked at, or looked at again.
    fn looking(&self, _keys: u64) {}

    /// So many wait until the replica has come as far as `due`.
    fn waiting(&self, _keys: u64, _due: UnixSeconds, _equal_at: Option<UnixSeconds>) {}

    /// Reads cost so many units.
    fn consumed(&self, _read_units: f64) {}
}

impl RecheckObserver for crate::deps::Unobserved {}

/// The tables of a check.
#[derive(Clone, Debug)]
pub struct Recheck<'a> {
    /// The ports of replicas.
    pub deps: &'a FeedDeps,
    /// The replica.
    pub record: &'a ReplicaRecord,
    /// Reads items of the source.
    pub source: Arc<dyn ItemReader>,
    /// The replica's table.
    pub target: &'a TargetPorts,
    /// How keys are looked at.
    pub options: RecheckOptions,
    /// Is told of progress.
    pub observer: Arc<dyn RecheckObserver>,
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rechecked {
    /// What is known of each key, in the order in which that was found out.
    pub found: Vec<(String, Found)>,
    /// The last second that was waited for; `None` if there was nothing to wait for.
    pub waited_for: Option<UnixSeconds>,
}

/// A key that is being looked at.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    /// The key, DynamoDB JSON.
    pub(super) key: String,
    /// Its row among the fences.
    pub(super) fence_id: String,
    /// Whether the replica's filter lets it through.
    pub(super) passes: bool,
    /// How often it was begun with.
    rounds: u32,
}

impl Suspect {
    fn of(record: &ReplicaRecord, key: String) -> Result<Self, StepError> {
        let broken = |error: &dyn std::fmt::Display| {
            StepError::InvalidInput(format!("{key} is no key of {}: {error}", record.target))
        };
        let print = record.key_schema.print_of(key.as_bytes());
        let print = print.map_err(|error| broken(&error))?;
        let read = record.key_schema.key_of(key.as_bytes());
        let read = read.map_err(|error| broken(&error))?;
        Ok(Self {
            fence_id: hex::encode(print.0),
            passes: record.filter.iter().all(|filter| filter.passes(&read)),
            rounds: 0,
            key,
        })
    }
}

/// A suspect, and what it waits for.
type Waiting = (Suspect, Awaited);

impl Recheck<'_> {
    /// Looks at these keys (DynamoDB JSON) until something is known of each.
    ///
    /// # Errors
    /// [`StepError::ReplicaFailed`] if the replica is not live, or no more; a read or a write that fails for good.
    pub async fn run(&self, keys: Vec<String>) -> Result<Rechecked, StepError> {
        let suspects = keys.into_iter().map(|key| Suspect::of(self.record, key));
        let mut open: Vec<Suspect> = suspects.collect::<Result<_, _>>()?;
        let mut done = Rechecked::default();
        while !open.is_empty() {
            self.observer.looking(open.len() as u64);
            let mut waiting = Vec::new();
            for (suspect, awaited) in self.look(std::mem::take(&mut open)).await? {
                match awaited {
                    None => done.found.push((suspect.key, Found::Cleared)),
                    Some(awaited) => waiting.push((suspect, awaited)),
                }
            }
            let Some(due) = waiting.iter().map(|(_, awaited)| awaited.due()).max() else {
                break;
            };
            let equal_at = self.reaches(due, waiting.len()).await?;
            let is_due = |(_, awaited): &Waiting| equal_at.is_some_and(|at| at >= awaited.due());
            let (ready, late): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_due);
            let waited_for = ready.iter().map(|(_, awaited)| awaited.due()).max();
            done.waited_for = done.waited_for.max(waited_for);
            let late = late.into_iter().map(|(suspect, _)| {
                let why = Found::Undecided(Undecided::OutOfPatience);
                (suspect.key, why)
            });
            done.found.extend(late);
            for (suspect, found) in self.look_again(ready).await? {
                match found {
                    Some(found) => done.found.push((suspect.key, found)),
                    None if suspect.rounds + 1 >= self.options.rounds => {
                        let why = Found::Undecided(Undecided::WrittenTooOften);
                        done.found.push((suspect.key, why));
                    }
                    None => open.push(Suspect {
                        rounds: suspect.rounds + 1,
                        ..suspect
                    }),
                }
            }
        }
        Ok(done)
    }

    /// First looks: the replica's fences, its items, then the source's. `None` where both are the same.
    async fn look(
        &self,
        suspects: Vec<Suspect>,
    ) -> Result<Vec<(Suspect, Option<Awaited>)>, StepError> {
        let looks = batches(suspects).map(|batch| async move {
            let replica = self.replica_looks(&batch).await?;
            let source = self.items().of_source(&batch).await?;
            let pairs = batch.into_iter().zip(replica.into_iter().zip(source));
            let looked = pairs.map(|(suspect, ((look, _), source))| {
                let margin = self.record.stamp_margin_s;
                let source = SourceLook::at(source.print, source.answered_at, margin);
                (suspect, looked(look, source))
            });
            Ok::<_, StepError>(looked.collect::<Vec<_>>())
        });
        let looked: Vec<Vec<_>> = stream::iter(looks)
            .buffered(BATCHES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// Second looks at keys whose time has come. `None` for those that are to be begun with anew.
    async fn look_again(
        &self,
        waiting: Vec<Waiting>,
    ) -> Result<Vec<(Suspect, Option<Found>)>, StepError> {
        let looks = batches(waiting).map(|batch| async move {
            let (suspects, awaited): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let looks = self.replica_looks(&suspects).await?;
            let mut found = Vec::with_capacity(suspects.len());
            for ((suspect, awaited), (look, after)) in suspects.into_iter().zip(awaited).zip(looks)
            {
                let of_key = match awaited.looked_again(&look, after.as_deref()) {
                    Verdict::Cleared => Some(Found::Cleared),
                    Verdict::Moving => None,
                    Verdict::Diverged(divergent) => {
                        self.mending().mend(&suspect, divergent).await?
                    }
                };
                found.push((suspect, of_key));
            }
            Ok::<_, StepError>(found)
        });
        let looked: Vec<Vec<_>> = stream::iter(looks)
            .buffered(BATCHES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// What the replica has under these keys: the order before, the item, the order after.
    async fn replica_looks(
        &self,
        suspects: &[Suspect],
    ) -> Result<Vec<(ReplicaLook, Option<String>)>, StepError> {
        let attribute = match self.record.fence {
            FenceMode::Table => None,
            FenceMode::Attribute => Some(FENCE_ATTRIBUTE),
        };
        if attribute.is_some() {
            // An item and its order are one: they are read at once.
            let read = self.items().of_replica(suspects, attribute).await?;
            let looks = read.into_iter().map(|it| {
                let (item, order) = (it.print, it.order);
                let after = order.clone();
                (ReplicaLook { order, item }, after)
            });
            return Ok(looks.collect());
        }
        let before = self.orders(suspects).await?;
        let items = self.items().of_replica(suspects, None).await?;
        let after = self.orders(suspects).await?;
        let looks = before.into_iter().zip(items).zip(after);
        let looks = looks.map(|((order, it), after)| {
            let item = it.print;
            (ReplicaLook { order, item }, after)
        });
        Ok(looks.collect())
    }

    /// Where the fences of these keys stand.
    async fn orders(&self, suspects: &[Suspect]) -> Result<Vec<Option<String>>, StepError> {
        let deletes = suspects
            .iter()
            .map(|it| WriteOp::Delete(it.key.clone().into()));
        let deletes: Vec<WriteOp> = deletes.collect();
        let asked = suspects.iter().zip(&deletes).map(|(it, op)| FencedWrite {
            op,
            key: it.key.as_bytes(),
            fence_id: &it.fence_id,
            order: "",
        });
        let asked: Vec<FencedWrite<'_>> = asked.collect();
        let fences = self.record.fence_table();
        let table = fenced_table(self.record, &fences);
        patiently(|| self.target.writer.orders(table, &asked)).await
    }

    /// Waits until the replica is on record as equal to its source as of `due`, or patience is out. As of when it is equal.
    async fn reaches(
        &self,
        due: UnixSeconds,
        keys: usize,
    ) -> Result<Option<UnixSeconds>, StepError> {
        let begun = Instant::now();
        loop {
            let is_over = begun.elapsed() >= self.options.patience;
            let known = load(self.deps, &self.record.source_arn, &self.record.id).await;
            let known = match known {
                Ok(known) => known.value,
                // It is asked again soon anyway.
                Err(StepError::Control(failure)) if failure.kind.is_retryable() && !is_over => {
                    tokio::time::sleep(ASK_EVERY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            require_live(self.record, &known)?;
            let equal_at = known.equal_at();
            if equal_at >= Some(due) || is_over {
                return Ok(equal_at);
            }
            self.observer.waiting(keys as u64, due, equal_at);
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    pub(super) fn items(&self) -> Items<'_> {
        Items {
            record: self.record,
            source: self.source.as_ref(),
            replica: self.target.reader.as_ref(),
            salt: self.options.salt,
            observer: self.observer.as_ref(),
        }
    }

    fn mending(&self) -> Mending<'_> {
        Mending {
            repair: self.options.repair,
            record: self.record,
            items: self.items(),
            writer: self.target.writer.as_ref(),
        }
    }
}

/// A replica that is not live is equal to nothing, and one that was begun anew is another: `record` is how it was when it was first
/// looked at, `now` how it is.
///
/// # Errors
/// [`StepError::ReplicaFailed`] says what it is instead.
pub fn require_live(record: &ReplicaRecord, now: &ReplicaRecord) -> Result<(), StepError> {
    let reason = if now.load != record.load {
        "it was begun anew while it was compared".to_owned()
    } else if now.phase != Phase::Live {
        format!(
            "it is in phase {}, and only a live one is compared",
            now.phase
        )
    } else {
        return Ok(());
    };
    Err(StepError::ReplicaFailed {
        id: record.id.clone(),
        reason,
    })
}

/// Keys in batches, as many as fences are looked at at once.
fn batches<T>(all: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<T> = all.by_ref().take(MAX_ORDERS).collect();
        (!batch.is_empty()).then_some(batch)
    })
}
