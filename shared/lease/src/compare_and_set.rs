//! How every write is made: decide on what was read, write it if the row is still so, otherwise read and decide again.

use std::collections::BTreeMap;
use std::future::Future;

use highwater_kv as kv;

use crate::error::Error;
use crate::lease::{Lease, LeaseId, Row, Step};
use crate::leases::Leases;
use crate::monotonic::Monotonic;
use crate::rows::{Change, Outcome};
use crate::silence::Silence;

/// How often a row may change between reading and writing before a call gives up.
pub(crate) const TRIES: usize = 16;

/// A row as it stands after a decision was carried out.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) row: Row,
    /// When the write was sent that made it so; `None` if nothing had to be written.
    pub(crate) sent: Option<Monotonic>,
}

/// A row that was read, with the proof of its owner's silence if there is one.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) row: Row,
    pub(crate) silence: Option<Silence>,
    /// The row comes from a handle's memory.
    stale: bool,
}

impl Seen {
    /// A row that was written or read earlier, and may be stale.
    pub(crate) fn earlier(row: Row) -> Self {
        Self {
            row,
            silence: None,
            stale: true,
        }
    }
}

/// Carries an error over the reading that is to decide what became of a write.
#[derive(Debug, Default)]
pub(crate) struct Doubt(Option<Error>);

impl Doubt {
    /// Whether to read and decide again after this failure. A second doubtful failure is one too many: the table is in
    /// trouble, and the SDK has retried both writes itself.
    pub(crate) fn raised_by(&mut self, error: Error) -> Result<(), Error> {
        if error.leaves_doubt() && self.0.is_none() {
            self.0 = Some(error);
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Whether an earlier write may have happened.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.is_some()
    }

    /// The first failure, which tells more than that of the reading after it.
    pub(crate) fn or(self, error: Error) -> Error {
        self.0.unwrap_or(error)
    }
}

impl Leases {
    /// Awaits an answer about a lease, but not longer than the renewal interval: a request that hangs must not let a
    /// live owner look dead.
    pub(crate) async fn answer<T>(
        &self,
        id: &LeaseId,
        answer: impl Future<Output = Result<T, kv::Error>> + Send,
    ) -> Result<T, Error> {
        let after = self.settings().renew_every;
        tokio::select! {
            biased;
            answer = answer => Ok(answer?),
            () = self.clock().sleep(after) => Err(Error::NoAnswer { lease: id.clone(), after }),
        }
    }

    /// Reads a row, and takes note of its owner's life.
    pub(crate) async fn look(&self, id: &LeaseId) -> Result<Option<Seen>, Error> {
        let sent = self.clock().now();
        let row = self.answer(id, self.rows().get(id)).await?;
        let received = self.clock().now();
        let mut observer = self.observer();
        let Some(row) = row else {
            observer.forget(id);
            return Ok(None);
        };
        let silence = observer.observe(&row, sent, received, self.settings().lease);
        Ok(Some(Seen {
            row,
            silence,
            stale: false,
        }))
    }

    /// As [`Self::look`], for a row that must be there.
    pub(crate) async fn read(&self, id: &LeaseId) -> Result<Seen, Error> {
        let seen = self.look(id).await?;
        seen.ok_or_else(|| Error::Unknown { lease: id.clone() })
    }

    /// Carries a decision about one row out. A conflict, or an answer that got lost, is settled by reading the row and
    /// deciding anew: whatever was written already shows there.
    pub(crate) async fn compare_and_set(
        &self,
        mut seen: Seen,
        mut decide: impl FnMut(&Seen) -> Result<Step, Error> + Send,
    ) -> Result<Applied, Error> {
        let id = seen.row.id.clone();
        let mut doubt = Doubt::default();
        let mut first_sent = None;
        for _ in 0..TRIES {
            let step = match decide(&seen) {
                // A write proves that the row was still so; a refusal proves nothing unless it is about what is there now.
                Err(_) if seen.stale => {
                    seen = self.read(&id).await?;
                    decide(&seen)?
                }
                decided => decided?,
            };
            let lease = match step {
                Step::Done => {
                    return Ok(Applied {
                        row: seen.row,
                        sent: first_sent,
                    });
                }
                Step::Write(lease) => *lease,
            };
            let sent = self.clock().now();
            match self.update(&seen.row, lease).await {
                Ok(Some(row)) => {
                    return Ok(Applied {
                        row,
                        sent: Some(sent),
                    });
                }
                Ok(None) => {}
                Err(error) => doubt.raised_by(error)?,
            }
            first_sent.get_or_insert(sent);
            seen = match self.read(&id).await {
                Ok(seen) => seen,
                Err(error @ Error::Unknown { .. }) => return Err(error),
                Err(error) => return Err(doubt.or(error)),
            };
        }
        Err(Error::Contended { lease: id })
    }

    /// Writes one row if it is still as it was seen. `None`: it is not.
    async fn update(&self, seen: &Row, lease: Lease) -> Result<Option<Row>, Error> {
        let id = &seen.id;
        let change = Change::Update(id.clone(), seen.version, lease.clone());
        match self.write(id, vec![change]).await? {
            Outcome::Conflict => Ok(None),
            Outcome::Written(versions) => {
                Ok(versions.first().copied().flatten().map(|version| Row {
                    id: id.clone(),
                    lease,
                    version,
                }))
            }
        }
    }

    pub(crate) async fn write(&self, id: &LeaseId, changes: Vec<Change>) -> Result<Outcome, Error> {
        self.answer(id, self.rows().write(changes)).await
    }

    /// Reads several rows by name. A name without a row is absent from the answer.
    pub(crate) async fn look_at_all(
        &self,
        ids: impl IntoIterator<Item = LeaseId>,
    ) -> Result<BTreeMap<LeaseId, Row>, Error> {
        let mut rows = BTreeMap::new();
        for id in ids {
            if let Some(seen) = self.look(&id).await? {
                rows.insert(id, seen.row);
            }
        }
        Ok(rows)
    }
}
