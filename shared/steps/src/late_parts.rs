//! Parts that came too late to count: objects in `data/` that no row names.
//!
//! A request to create a part may land long after its worker has given it up, or has died. If others have found the end
//! of the segment meanwhile without a part at that place, nobody ever looks there again, and the object stays. It must
//! not: `data/` is handed to ImportTable as a prefix, and whatever lies there is imported.

use std::collections::HashSet;

use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::layout::Layout;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::SnapshotRecord;

use crate::deps::SnapshotDeps;
use crate::error::StepError;
use crate::status;

/// How often late parts are deleted before it is left to a retry of the whole step to go on.
const ROUNDS: u32 = 5;

/// S3 takes 1000 keys in one request.
const KEYS_PER_DELETE: usize = 1000;

/// How many late parts a message names.
const NAMED: usize = 10;

/// The folder of parts of a snapshot whose segments are all done.
#[derive(Debug)]
pub(crate) struct DataFolder<'a> {
    pub(crate) deps: &'a SnapshotDeps,
    pub(crate) store: &'a dyn ObjectStore,
    pub(crate) layout: &'a Layout,
    pub(crate) record: &'a SnapshotRecord,
    /// The objects of all rows, read after the segments were found done.
    pub(crate) parts: &'a HashSet<String>,
}

impl DataFolder<'_> {
    /// Deletes parts that came too late, until a listing shows the rows' objects and nothing else.
    ///
    /// Nobody can miss what is deleted: a row is committed only together with a step of its segment's checkpoint, and a
    /// checkpoint that says `done` takes no further step. So no row will ever name what none names now, whether it was
    /// there before or lands later, and a worker that finds its place taken reads that its segment is done.
    ///
    /// Any object that is not named like a part of this snapshot is somebody else's: it is refused, and nothing is deleted.
    pub(crate) async fn clear(&self) -> Result<(), StepError> {
        for _ in 0..ROUNDS {
            let late = self.late().await?;
            if late.is_empty() || !self.is_ours().await? {
                return Ok(());
            }
            let (snapshot, names) = (&self.record.id, named(&late));
            tracing::warn!(%snapshot, parts = late.len(), names, "parts that came too late are deleted: no row names them");
            for keys in late.chunks(KEYS_PER_DELETE) {
                self.store.delete(keys).await.map_err(StepError::Store)?;
            }
        }
        let late = self.late().await?;
        if late.is_empty() {
            return Ok(());
        }
        // In time every worker is dead, and every request of theirs has landed or never will.
        Err(StepError::Store(Failure::new(
            FailureKind::Transient,
            "delete",
            self.store.url(&self.layout.data()),
            format!(
                "parts that no row names still come, although they were deleted {ROUNDS} times: {}",
                named(&late)
            ),
        )))
    }

    /// The keys of parts that no row names.
    async fn late(&self) -> Result<Vec<String>, StepError> {
        let mut late = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&self.layout.data(), after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            for object in page.objects {
                if self.parts.contains(&object.key) {
                    continue;
                }
                if !self.could_be_a_workers(&object.key) {
                    return Err(StepError::PartCorrupt(format!(
                        "{} is no part of this snapshot, and must not lie among its parts",
                        self.store.url(&object.key)
                    )));
                }
                late.push(object.key);
            }
            after = page.next;
            if after.is_none() {
                return Ok(late);
            }
        }
    }

    fn could_be_a_workers(&self, key: &str) -> bool {
        let part = self.layout.part_of(key, self.record.compression);
        part.is_some_and(|part| part.segment < self.record.total_segments)
    }

    /// Whether the snapshot is still this execution's to end; `false` if another copy of it has sealed the snapshot.
    ///
    /// A copy that was held up for hours must not delete anything by the rows that it remembers: the snapshot may have
    /// been deleted meanwhile, and its id be in use again.
    async fn is_ours(&self) -> Result<bool, StepError> {
        Ok(status::again(self.deps, self.record).await?.is_some())
    }
}

/// Names of parts for a message, the first few.
fn named(late: &[String]) -> String {
    let names = late.iter().take(NAMED);
    let names: Vec<&str> = names
        .map(|key| key.rsplit('/').next().unwrap_or(key))
        .collect();
    match late.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
