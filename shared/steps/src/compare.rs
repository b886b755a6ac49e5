//! Tells whether two tables or backups hold the same items, and which keys differ, in bounded memory.
//!
//! The first pass reads both sides to digests: a count and a sum per bucket of keys. If all buckets are equal, so are
//! the sides, and that is the end. The second pass reads both again, sorts the digests of those items that are in
//! buckets that differ (on disk, where they are many), and tells key by key what is the matter. Every item is read
//! and none is kept: memory is the buckets, a page or a batch per worker, one run of the sort, and the keys that
//! are listed.
//!
//! A side that changes while it is compared shows different digests in the second pass, and that is told.

use std::sync::Arc;

use highwater_domain::bucket_digests::BucketDigests;
use highwater_domain::difference::{Difference, DifferenceCounts, KeyTally, Side};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::KeySchema;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use crate::compare_pass::Totals;
use crate::compare_pass::{Found, Pass, Suspects};
pub use crate::compare_spill::SpillLimits;
use crate::compare_spill::{Merge, Spill, SpilledItem};
use crate::error::StepError;
use crate::item_source::{ItemSource, common_key};

/// How two sides are compared.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// The most keys that are listed. All are counted.
    pub limit: usize,
    /// How much memory sorting takes, and where the rest goes.
    pub spill: SpillLimits,
    /// The primary key, where neither side says.
    pub key: Option<KeySchema>,
    /// Makes digests that nobody could foresee: new for every comparison.
    pub salt: u128,
}

/// Hears how a comparison goes on. Must not block.
pub trait CompareObserver: std::fmt::Debug + Send + Sync {
    /// Items of one side were read.
    fn items(&self, _side: Side, _items: u64, _bytes: u64) {}

    /// The first pass found differences: the second begins, to look at about so many items of both sides again.
    fn second_pass(&self, _suspects: u64) {}
}

/// A side that did not show the same items in both passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Which.
    pub side: Side,
    /// Its items in the first pass.
    pub items_before: u64,
    /// Its items in the second pass.
    pub items_after: u64,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Whether both sides have the same items.
    pub equal: bool,
    /// The first side, as it was in the first pass.
    pub a: Totals,
    /// The second side, as it was in the first pass.
    pub b: Totals,
    /// How many keys differ.
    pub counts: DifferenceCounts,
    /// Keys that differ, in order, no more than were asked for.
    pub differences: Vec<Difference>,
    /// Sides that changed while they were compared: what is listed is neither the one state nor the other.
    pub changed: Vec<Changed>,
}

/// Compares the items of two sides.
///
/// Nothing is left behind, whenever this is dropped: temporary files have no names.
pub async fn compare(
    a: &Arc<dyn ItemSource>,
    b: &Arc<dyn ItemSource>,
    options: &CompareOptions,
    observer: &Arc<dyn CompareObserver>,
) -> Result<Comparison, StepError> {
    let schema = common_key(options.key.as_ref(), a.as_ref(), b.as_ref())?;
    let pass = |side, source: &Arc<dyn ItemSource>| Pass {
        side,
        source: Arc::clone(source),
        schema: schema.clone(),
        salt: options.salt,
        suspects: None,
        observer: Arc::clone(observer),
    };
    let (mut pass_a, mut pass_b) = (pass(Side::A, a), pass(Side::B, b));
    let (found_a, found_b) = tokio::try_join!(pass_a.read(), pass_b.read())?;
    require_claims(a.as_ref(), &found_a)?;
    require_claims(b.as_ref(), &found_b)?;
    let buckets = found_a.digests.differing(&found_b.digests);
    let mut comparison = Comparison {
        equal: buckets.is_empty(),
        a: found_a.totals(),
        b: found_b.totals(),
        counts: DifferenceCounts::default(),
        differences: Vec::new(),
        changed: Vec::new(),
    };
    if comparison.equal {
        return Ok(comparison);
    }
    observer.second_pass(items_in(&found_a.digests, &found_b.digests, &buckets));
    let (sender, sorting) = start_sorting(options);
    let suspects = Suspects::new(&buckets, sender.clone());
    pass_a.suspects = Some(suspects.clone());
    pass_b.suspects = Some(suspects);
    let read = tokio::try_join!(pass_a.read(), pass_b.read());
    let (again_a, again_b) = match read {
        Ok(read) => read,
        // If the items had nowhere to go, the reason is there and not here.
        Err(error) => {
            drop((pass_a, pass_b, sender));
            return Err(sorting.wait().await.err().unwrap_or(error));
        }
    };
    // Sorting ends with this message: without it the channel's end means that reading was given up.
    let told = sender.send(Sorting::AllRead).await;
    drop((pass_a, pass_b, sender));
    let listed = sorting.wait().await?;
    if told.is_err() {
        return Err(StepError::Internal(
            "sorting ended before reading did".into(),
        ));
    }
    comparison.counts = listed.counts;
    comparison.differences = listed.differences;
    comparison.changed = [(Side::A, &found_a, again_a), (Side::B, &found_b, again_b)]
        .into_iter()
        .filter(|(_, before, after)| before.digests != after.digests)
        .map(|(side, before, after)| Changed {
            side,
            items_before: before.digests.items(),
            items_after: after.digests.items(),
        })
        .collect();
    Ok(comparison)
}

/// A backup that does not have the items it says it has is not what it claims to be.
fn require_claims(source: &dyn ItemSource, found: &Found) -> Result<(), StepError> {
    let items = found.digests.items();
    match source.claimed_items() {
        Some(claimed) if claimed != items => Err(StepError::PartCorrupt(format!(
            "{} says that it has {claimed} items, and has {items}",
            source.name()
        ))),
        _ => Ok(()),
    }
}

fn items_in(a: &BucketDigests, b: &BucketDigests, buckets: &[u32]) -> u64 {
    let of = |digests: &BucketDigests| -> u64 {
        buckets.iter().map(|bucket| digests.items_in(*bucket)).sum()
    };
    of(a) + of(b)
}

/// What is sent to the sorting thread.
pub(crate) enum Sorting {
    /// Items to sort.
    Items(Vec<SpilledItem>),
    /// There are no more.
    AllRead,
}

/// Batches that wait to be sorted.
const WAITING_BATCHES: usize = 8;

/// What was found out key by key.
#[derive(Debug, Default)]
struct Listed {
    counts: DifferenceCounts,
    differences: Vec<Difference>,
}

/// The sorting thread.
struct SortingThread(JoinHandle<Result<Listed, StepError>>);

impl SortingThread {
    async fn wait(self) -> Result<Listed, StepError> {
        let outcome = self.0.await;
        outcome.unwrap_or_else(|error| Err(StepError::Internal(error.to_string())))
    }
}

/// Sorts, and then tells what differs, off the threads that wait for answers.
fn start_sorting(options: &CompareOptions) -> (mpsc::Sender<Sorting>, SortingThread) {
    let (sender, mut items) = mpsc::channel(WAITING_BATCHES);
    let options = options.clone();
    let thread = tokio::task::spawn_blocking(move || {
        let failed = |error: std::io::Error| {
            let folder = options.spill.folder.display().to_string();
            let message = error.to_string();
            StepError::Store(
                Failure::new(FailureKind::NotWritable, "temporary file", folder, message)
                    .with_source(error),
            )
        };
        let mut spill = Spill::new(options.spill.clone());
        loop {
            match items.blocking_recv() {
                Some(Sorting::Items(batch)) => batch
                    .into_iter()
                    .try_for_each(|item| spill.push(item))
                    .map_err(failed)?,
                Some(Sorting::AllRead) => break,
                // Nobody wants to know any more.
                None => return Ok(Listed::default()),
            }
        }
        let merge = spill.sorted().map_err(failed)?;
        list(merge, options.limit).map_err(failed)
    });
    (sender, SortingThread(thread))
}

/// Walks through sorted items, key by key.
fn list(mut merge: Merge, limit: usize) -> std::io::Result<Listed> {
    let mut listed = Listed::default();
    let mut next = merge.next()?;
    while let Some(first) = next {
        let key_digest = first.digest.key;
        let mut tally = KeyTally::default();
        tally.add(first.side, first.digest.item);
        next = merge.next()?;
        while let Some(item) = next.as_ref().filter(|it| it.digest.key == key_digest) {
            tally.add(item.side, item.digest.item);
            next = merge.next()?;
        }
        let Some(kind) = tally.kind() else { continue };
        listed.counts.add(kind);
        if listed.differences.len() < limit {
            let (in_a, in_b) = tally.items();
            listed.differences.push(Difference {
                key: String::from_utf8_lossy(&first.key).into_owned(),
                kind,
                in_a,
                in_b,
            });
        }
    }
    listed.differences.sort_unstable();
    Ok(listed)
}
