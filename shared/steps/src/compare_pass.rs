//! One reading of one side of a comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_domain::bucket_digests::{BUCKETS, BucketDigests, bucket_of};
use highwater_domain::difference::Side;
use highwater_domain::item_digest::{ItemDigest, ItemDigester};
use highwater_domain::key::{KeyError, KeySchema};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::compare::{CompareObserver, Sorting};
use crate::compare_spill::SpilledItem;
use crate::error::StepError;
use crate::item_source::{ItemBatch, ItemSource};

/// How much one side has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Items.
    pub items: u64,
    /// Bytes of their JSON, as it came.
    pub bytes: u64,
}

/// What one reading of one side came to.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) digests: BucketDigests,
    bytes: u64,
}

impl Found {
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            items: self.digests.items(),
            bytes: self.bytes,
        }
    }
}

/// The buckets whose items are looked at key by key, and where they go.
#[derive(Clone, Debug)]
pub(crate) struct Suspects {
    /// One bit per bucket.
    buckets: Arc<[u64]>,
    sorting: mpsc::Sender<Sorting>,
}

impl Suspects {
    pub(crate) fn new(buckets: &[u32], sorting: mpsc::Sender<Sorting>) -> Self {
        let mut bits = vec![0_u64; BUCKETS as usize / 64];
        for bucket in buckets {
            if let Some(word) = bits.get_mut(*bucket as usize / 64) {
                *word |= 1 << (bucket % 64);
            }
        }
        Self {
            buckets: bits.into(),
            sorting,
        }
    }

    fn has(&self, digest: ItemDigest) -> bool {
        let bucket = bucket_of(digest.key);
        let word = self.buckets.get(bucket as usize / 64);
        word.is_some_and(|word| word & 1 << (bucket % 64) != 0)
    }
}

/// One reading of one side.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) side: Side,
    pub(crate) source: Arc<dyn ItemSource>,
    pub(crate) schema: KeySchema,
    pub(crate) salt: u128,
    /// In the second pass.
    pub(crate) suspects: Option<Suspects>,
    pub(crate) observer: Arc<dyn CompareObserver>,
}

/// What all workers of a pass add to.
#[derive(Debug, Default)]
struct Sum {
    digests: Mutex<BucketDigests>,
    bytes: AtomicU64,
}

impl Pass {
    /// Reads the side whole, several units at once. The first failure ends it.
    pub(crate) async fn read(&self) -> Result<Found, StepError> {
        let sum = Arc::new(Sum::default());
        // Dropping the set ends all of its tasks.
        let mut tasks = JoinSet::new();
        let mut units = 0..self.source.units();
        loop {
            while tasks.len() < self.source.concurrency().max(1) as usize {
                let Some(unit) = units.next() else { break };
                let (pass, sum) = (self.clone(), Arc::clone(&sum));
                tasks.spawn(async move { pass.read_unit(unit, &sum).await });
            }
            match tasks.join_next().await {
                None => break,
                Some(Ok(outcome)) => outcome?,
                Some(Err(error)) => return Err(StepError::Internal(error.to_string())),
            }
        }
        let digests = sum.digests.lock().map(|it| it.clone());
        Ok(Found {
            digests: digests.unwrap_or_else(|poisoned| poisoned.into_inner().clone()),
            bytes: sum.bytes.load(Ordering::Acquire),
        })
    }

    async fn read_unit(&self, unit: u32, sum: &Sum) -> Result<(), StepError> {
        let mut digester = ItemDigester::new(&self.schema, self.salt);
        let mut batches = self.source.open(unit).await?;
        while let Some(batch) = batches.next().await? {
            let bytes = self.take(&batch, &mut digester, sum).await?;
            sum.bytes.fetch_add(bytes, Ordering::AcqRel);
            self.observer.items(self.side, batch.len() as u64, bytes);
        }
        Ok(())
    }

    /// Adds a batch to the sum, and sends what is suspect to be sorted. Gives its bytes.
    async fn take(
        &self,
        batch: &ItemBatch,
        digester: &mut ItemDigester,
        sum: &Sum,
    ) -> Result<u64, StepError> {
        let mut bytes = 0;
        let mut digests = Vec::with_capacity(batch.len());
        let mut suspects = Vec::new();
        for index in 0..batch.len() {
            let Some(item) = batch.get(index) else { break };
            let unreadable = |error: KeyError| {
                let place = format!("{} {}", self.source.name(), batch.place(index));
                StepError::PartCorrupt(format!("{place}: {error}"))
            };
            let digest = digester.digest(item).map_err(unreadable)?;
            bytes += item.len() as u64;
            digests.push(digest);
            if self.suspects.as_ref().is_some_and(|it| it.has(digest)) {
                let key = self.schema.key_of(item).map_err(unreadable)?;
                suspects.push(SpilledItem {
                    digest,
                    side: self.side,
                    key: serde_json::to_vec(&key)
                        .map_err(|error| StepError::Internal(error.to_string()))?,
                });
            }
        }
        {
            // A worker that panicked in here had added whole items, and its panic ends the comparison.
            let mut sums = sum.digests.lock().unwrap_or_else(PoisonError::into_inner);
            for digest in digests {
                sums.add(digest);
            }
        }
        if let (Some(Suspects { sorting, .. }), false) = (&self.suspects, suspects.is_empty()) {
            let sent = sorting.send(Sorting::Items(suspects)).await;
            sent.map_err(|_| StepError::Internal("sorting ended early".into()))?;
        }
        Ok(bytes)
    }
}
