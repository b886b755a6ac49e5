//! The commit protocol of a part: create the object, then commit its row with the checkpoint.
//!
//! The object's name is a function of its place, so creating it is the claim to that place. Whoever finds
//! the place taken continues from what is there: after the committed row, or by adopting the object of a
//! worker that died between the two writes. See `docs/ARCHITECTURE.md`, "Commit protocol".

use highwater_domain::control_table::{Cas, SegmentCommit, Versioned};
use highwater_domain::digest::sha256;
use highwater_domain::layout::Layout;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_domain::part::PartBody;
use highwater_domain::part_reader::read_items;
use highwater_domain::scan::ScanTotals;
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};

use crate::deps::SnapshotDeps;
use crate::error::StepError;

/// A segment's checkpoint as it was last read or written, with its version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// `None` before the segment's first commit.
    pub version: Option<i64>,
    /// What it says.
    pub checkpoint: Checkpoint,
}

impl From<Option<Versioned<Checkpoint>>> for Seen {
    fn from(read: Option<Versioned<Checkpoint>>) -> Self {
        read.map_or_else(Self::default, |read| Self {
            version: Some(read.version),
            checkpoint: read.value,
        })
    }
}

/// A finished part, not yet anywhere.
#[derive(Clone, Debug)]
pub struct FinishedPart {
    /// The object's bytes.
    pub body: PartBody,
    /// The first item's bytes.
    pub first_item: Vec<u8>,
    /// The last item's bytes.
    pub last_item: Vec<u8>,
}

/// Where one segment's parts go.
#[derive(Debug)]
pub struct PartTarget<'a> {
    /// The ports.
    pub deps: &'a SnapshotDeps,
    /// The snapshot.
    pub record: &'a SnapshotRecord,
    /// Its store.
    pub store: &'a dyn ObjectStore,
    /// Its keys.
    pub layout: &'a Layout,
    /// The segment.
    pub segment: u32,
}

/// Whether this worker's step is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It is; go on from it.
    Ours,
    /// Another worker's, or an earlier life's, is. What this worker holds in memory is void: read the checkpoint again.
    Theirs,
}

impl PartTarget<'_> {
    /// The segment's checkpoint.
    pub async fn seen(&self) -> Result<Seen, StepError> {
        let read = self
            .deps
            .control
            .segment(&self.record.id, self.segment)
            .await;
        Ok(read.map_err(StepError::Control)?.into())
    }

    /// Moves the segment forward to `next`, with a part if there is one; `seen` follows.
    ///
    /// `next` needs to say only where the scan stands: position, end, and what it took. The rest is added here.
    pub async fn commit(
        &self,
        seen: &mut Seen,
        part: Option<FinishedPart>,
        next: Checkpoint,
    ) -> Result<Commit, StepError> {
        let id = PartId {
            segment: self.segment,
            number: seen.checkpoint.next_part,
        };
        let object = self.layout.part(id, self.record.compression);
        let Some(part) = part else {
            // What an earlier life uploaded and could not commit may since have been deleted from the table. Its object
            // must not stay behind without a row; and what it holds was there after the snapshot began.
            if next.done && self.is_there(&object).await? {
                self.adopt(seen, id, object).await?;
                return Ok(Commit::Theirs);
            }
            return self.commit_row(seen, None, next).await;
        };
        let (created, md5) = self
            .store
            .create_told_md5(NewObject {
                key: object.clone(),
                body: part.body.body.clone(),
                sha256: Some(part.body.sha256),
                content_type: "application/octet-stream",
                item_count: Some(part.body.items),
                ..NewObject::default()
            })
            .await
            .map_err(StepError::Store)?;
        if created == Creation::Exists {
            self.adopt(seen, id, object).await?;
            return Ok(Commit::Theirs);
        }
        let row = PartRow {
            first_key: Some(self.key_of(&object, &part.first_item)?),
            last_key: Some(self.key_of(&object, &part.last_item)?),
            ..part.body.row(id, object, md5)
        };
        let commit = self.commit_row(seen, Some(&row), next).await?;
        if commit == Commit::Ours {
            self.deps.observer.part(&row);
        }
        Ok(commit)
    }

    async fn is_there(&self, object: &str) -> Result<bool, StepError> {
        let facts = self.store.facts(object).await;
        Ok(facts.map_err(StepError::Store)?.is_some())
    }

    /// Commits an object that is in the store without a row: its last item's key is where the scan goes on.
    ///
    /// Somebody else may do the same at the same time; both compute the same row from the same bytes.
    async fn adopt(&self, seen: &Seen, id: PartId, object: String) -> Result<(), StepError> {
        let row = self
            .deps
            .control
            .part(&self.record.id, id)
            .await
            .map_err(StepError::Control)?;
        if row.is_some() {
            // Row and checkpoint were committed together, so the checkpoint has moved. If it has not, somebody
            // has written to the control table behind our back, and reading again would never end.
            if self.seen().await?.version == seen.version {
                return Err(StepError::PartCorrupt(format!(
                    "the row of {} is committed, but its segment's checkpoint stands before it",
                    self.store.url(&object)
                )));
            }
            return Ok(());
        }
        let Some(body) = self.store.read(&object).await.map_err(StepError::Store)? else {
            // Gone between the two looks. FinalizeBackup clears away what came too late, once every segment is done;
            // otherwise only a deletion of the snapshot does that.
            if self.seen().await?.checkpoint.done {
                return Ok(());
            }
            return Err(StepError::PartMissing(self.store.url(&object)));
        };
        let contents = read_items(&body, &object, self.record.compression, |_| ())?;
        let (Some(first), Some(last)) = (contents.first_item, contents.last_item) else {
            return Err(StepError::PartCorrupt(format!(
                "{} holds no item",
                self.store.url(&object)
            )));
        };
        let last_key = self.key_of(&object, &last)?;
        let part = PartBody {
            sha256: sha256(&body),
            body,
            items: contents.items,
            plain_bytes: contents.plain_bytes,
        };
        let row = PartRow {
            first_key: Some(self.key_of(&object, &first)?),
            last_key: Some(last_key.clone()),
            ..part.row(id, object, None)
        };
        let next = Checkpoint {
            next_key: Some(last_key),
            done: false,
            scan: ScanTotals {
                scanned: row.items,
                items: row.items,
                ..ScanTotals::default()
            },
            ..Checkpoint::default()
        };
        if self.commit_row(&mut seen.clone(), Some(&row), next).await? == Commit::Ours {
            self.deps.observer.adopted(&row);
        }
        Ok(())
    }

    async fn commit_row(
        &self,
        seen: &mut Seen,
        part: Option<&PartRow>,
        step: Checkpoint,
    ) -> Result<Commit, StepError> {
        let next = advanced(&seen.checkpoint, part, step);
        let commit = SegmentCommit {
            snapshot: &self.record.id,
            segment: self.segment,
            seen: seen.version,
            next: &next,
            part,
        };
        match self
            .deps
            .control
            .commit_segment(commit)
            .await
            .map_err(StepError::Control)?
        {
            Cas::Applied(version) => {
                *seen = Seen {
                    version: Some(version),
                    checkpoint: next,
                };
                Ok(Commit::Ours)
            }
            Cas::Lost => Ok(Commit::Theirs),
        }
    }

    fn key_of(&self, object: &str, item: &[u8]) -> Result<highwater_domain::key::Key, StepError> {
        self.record
            .key_schema
            .key_of(item)
            .map_err(|error| StepError::PartCorrupt(format!("{}: {error}", self.store.url(object))))
    }
}

/// The checkpoint after a step: sums grow by what the step took, and the part's number is used up.
fn advanced(before: &Checkpoint, part: Option<&PartRow>, step: Checkpoint) -> Checkpoint {
    let mut next = Checkpoint {
        scan: before.scan,
        parts: before.parts,
        next_part: before.next_part,
        ..step
    };
    next.scan.add(&step.scan);
    if let Some(row) = part {
        next.parts.add(row);
        next.next_part += 1;
    }
    next
}
