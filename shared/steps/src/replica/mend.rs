//! Puts an item of a replica right that somebody else has changed: under its fence as it stands, so that whatever is applied meanwhile
//! or later has the last word.

use std::time::Duration;

use highwater_domain::backoff::Backoff;
use highwater_domain::failure::FailureKind;
use highwater_domain::fenced_writer::{FencedWriter, Repair, Repaired};
use highwater_domain::live_check::Divergent;
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::table_writer::WriteOp;

use super::fenced_table;
use super::recheck::{Divergence, Found, Repairing, Suspect};
use super::recheck_items::Items;
use crate::error::StepError;

/// How often a repair is tried that something in passing stands against.
const TRIES: Backoff = Backoff {
    base_ms: 50,
    max_ms: 2_000,
    attempts: 6,
};

/// What was done about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Nothing: nobody asked for it.
    No,
    /// The source's item would be written.
    WouldPut,
    /// The replica's item would be deleted.
    WouldDelete,
    /// It is as the source had it.
    Done,
    /// The replica does not take the item, for this reason.
    Refused(String),
}

/// Mends keys, if that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mending<'a> {
    pub(super) repair: Repairing,
    pub(super) record: &'a ReplicaRecord,
    pub(super) items: Items<'a>,
    pub(super) writer: &'a dyn FencedWriter,
}

impl Mending<'_> {
    /// Does what is asked for. `None` if the key has moved on: it is to be looked at from the beginning.
    pub(super) async fn mend(
        &self,
        suspect: &Suspect,
        divergent: Divergent,
    ) -> Result<Option<Found>, StepError> {
        let Divergent {
            kind,
            order,
            source,
        } = divergent;
        let mended = if self.repair == Repairing::Never {
            Some(Mended::No)
        } else {
            let (item, _) = self.items.source_item(suspect).await?;
            let print = self
                .items
                .print(item.as_ref(), self.record.source.as_str())?;
            if print != source {
                return Ok(None);
            }
            let op = match item {
                Some(item) => WriteOp::Put(item),
                None => WriteOp::Delete(suspect.key.clone().into()),
            };
            match (self.repair, &op) {
                (Repairing::Write, op) => self.write(suspect, op, order.as_deref()).await?,
                (_, WriteOp::Put(_)) => Some(Mended::WouldPut),
                (_, WriteOp::Delete(_)) => Some(Mended::WouldDelete),
            }
        };
        Ok(mended.map(|mended| {
            Found::Diverged(Divergence {
                kind,
                order,
                mended,
            })
        }))
    }

    /// Writes under the fence; `None` if that is not where it was.
    async fn write(
        &self,
        suspect: &Suspect,
        op: &WriteOp,
        expected: Option<&str>,
    ) -> Result<Option<Mended>, StepError> {
        let fences = self.record.fence_table();
        let table = fenced_table(self.record, &fences);
        for attempt in 0.. {
            let repair = Repair {
                op,
                key: suspect.key.as_bytes(),
                fence_id: &suspect.fence_id,
                expected,
            };
            match self.writer.repair(table, repair).await {
                Ok(Repaired::Done) => {
                    tracing::warn!(replica = %self.record.id, key = suspect.key, "the replica's item was put right");
                    return Ok(Some(Mended::Done));
                }
                Ok(Repaired::Moved) => return Ok(None),
                Ok(Repaired::Refused(why)) => return Ok(Some(Mended::Refused(why))),
                Ok(Repaired::Passing(_)) => {}
                Err(failure) if failure.kind == FailureKind::Invalid => {
                    return Ok(Some(Mended::Refused(failure.message)));
                }
                Err(failure) if failure.kind.is_retryable() => {}
                Err(failure) => return Err(StepError::Table(failure)),
            }
            let Some(wait_ms) = TRIES.wait_ms(attempt, fastrand::f64()) else {
                break;
            };
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        // Somebody is at work there: what comes of it is looked at anew.
        Ok(None)
    }
}
