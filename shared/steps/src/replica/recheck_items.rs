//! Single items of a live replica and of its source, as a check reads them.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::backoff::Backoff;
use highwater_domain::failure::Failure;
use highwater_domain::fenced_item::FencedItem;
use highwater_domain::ids::UnixMillis;
use highwater_domain::item_digest::ItemDigester;
use highwater_domain::item_reader::ItemReader;
use highwater_domain::live_check::Print;
use highwater_domain::replica::ReplicaRecord;

use super::recheck::{RecheckObserver, Suspect};
use crate::error::StepError;

/// Items that are read at once.
const ITEMS_AT_ONCE: usize = 16;

/// How often a read is tried that fails in passing.
const TRIES: Backoff = Backoff {
    base_ms: 50,
    max_ms: 5_000,
    attempts: 8,
};

/// Calls until it goes well, or fails for good.
pub(super) async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, StepError>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut retry = 0;
    loop {
        let failure = match call().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let wait_ms = TRIES.wait_ms(retry, fastrand::f64());
        let Some(wait_ms) = wait_ms.filter(|_| failure.kind.is_retryable()) else {
            return Err(StepError::Table(failure));
        };
        retry += 1;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// Reads items of both tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Items<'a> {
    pub(super) record: &'a ReplicaRecord,
    pub(super) source: &'a dyn ItemReader,
    pub(super) replica: &'a dyn ItemReader,
    pub(super) salt: u128,
    pub(super) observer: &'a dyn RecheckObserver,
}

/// An item that was read. Its bytes are not kept: there may be many, and each of 400 KB.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) print: Print,
    pub(super) order: Option<String>,
    pub(super) answered_at: UnixMillis,
}

impl Items<'_> {
    /// What the source has under these keys, as the replica should have it.
    pub(super) async fn of_source(&self, suspects: &[Suspect]) -> Result<Vec<Seen>, StepError> {
        let reads = suspects.iter().map(|suspect| async move {
            let (item, answered_at) = self.source_item(suspect).await?;
            Ok(Seen {
                print: self.print(item.as_ref(), self.record.source.as_str())?,
                order: None,
                answered_at,
            })
        });
        // Gathered first: a task that holds the closure could not move between threads.
        let reads = stream::iter(reads.collect::<Vec<_>>()).buffered(ITEMS_AT_ONCE);
        reads.try_collect().await
    }

    /// The source's item of a key; none where the replica's filter leaves it out.
    pub(super) async fn source_item(
        &self,
        suspect: &Suspect,
    ) -> Result<(Option<Bytes>, UnixMillis), StepError> {
        let table = self.record.source.as_str();
        let read = patiently(|| self.source.read_item(table, suspect.key.as_bytes())).await?;
        self.observer.consumed(read.consumed_capacity);
        Ok((read.item.filter(|_| suspect.passes), read.answered_at))
    }

    /// What the replica has under these keys. Where its fence is an attribute, that is taken out.
    pub(super) async fn of_replica(
        &self,
        suspects: &[Suspect],
        attribute: Option<&str>,
    ) -> Result<Vec<Seen>, StepError> {
        let table = self.record.target.as_str();
        let reads = suspects.iter().map(|suspect| async move {
            let read = patiently(|| self.replica.read_item(table, suspect.key.as_bytes())).await?;
            self.observer.consumed(read.consumed_capacity);
            let apart = match (&read.item, attribute) {
                (Some(item), Some(attribute)) => {
                    FencedItem::of(item, attribute).map_err(|error| broken(table, &error))?
                }
                (item, _) => FencedItem {
                    item: item.clone(),
                    order: None,
                },
            };
            Ok(Seen {
                print: self.print(apart.item.as_ref(), table)?,
                order: apart.order,
                answered_at: read.answered_at,
            })
        });
        // Gathered first: a task that holds the closure could not move between threads.
        let reads = stream::iter(reads.collect::<Vec<_>>()).buffered(ITEMS_AT_ONCE);
        reads.try_collect().await
    }

    /// What stands for an item, however it is spelled.
    pub(super) fn print(&self, item: Option<&Bytes>, table: &str) -> Result<Print, StepError> {
        let Some(item) = item else { return Ok(None) };
        let mut digester = ItemDigester::new(&self.record.key_schema, self.salt);
        let digest = digester.digest(item);
        Ok(Some(digest.map_err(|error| broken(table, &error))?.item))
    }
}

fn broken(table: &str, error: &dyn std::fmt::Display) -> StepError {
    StepError::PartCorrupt(format!("an item of {table} cannot be read: {error}"))
}
