//! A lease in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::decide::{Known, NewLease};
use crate::error::Error;
use crate::holding::{Holding, Standing};
use crate::lease::{Epoch, Grant, LeaseId, Row, Step};
use crate::leases::{Leases, lock};
use crate::monotonic::Monotonic;
use crate::position::Position;
use crate::renewal::Renewal;
use highwater_domain::sequence_number::SequenceNumber;

/// A lease that this worker owns.
///
/// Spawn its [`renewal`](Self::renewal), ask [`is_valid_now`](Self::is_valid_now) before each side effect, and pass
/// [`epoch`](Self::epoch) on to every sink that can refuse an old one. A handle that is dropped without
/// [`release`](Self::release) lets the lease run out.
///
/// Any call may be dropped half way, or fail without an answer: the next one finds out what became of it.
#[derive(Debug)]
pub struct HeldLease(Arc<Holding>);

impl HeldLease {
    pub(crate) fn new(leases: Leases, grant: Grant, row: Row, sent: Monotonic) -> Self {
        Self(Arc::new(Holding::new(leases, grant, row, sent)))
    }

    /// What is leased.
    #[must_use]
    pub fn id(&self) -> &LeaseId {
        self.0.id()
    }

    /// The fencing token: larger than that of every earlier owner.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.tenure.epoch
    }

    /// The last position that is known to be stored.
    #[must_use]
    pub fn position(&self) -> Position {
        lock(&self.0.known).settled.clone()
    }

    /// How the lease stands, now and with each change.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }

    /// Whether a side effect may be started now: the lease is not lost, and the last good renewal was *sent* less than the lease
    /// time, less the margin, ago. However long an answer was under way, the trust only gets shorter by it.
    #[must_use]
    pub fn is_valid_now(&self) -> bool {
        self.0.check().is_ok()
    }

    /// As [`is_valid_now`](Self::is_valid_now), with the reason.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Fenced`].
    pub fn check(&self) -> Result<(), Error> {
        self.0.check()
    }

    /// How much longer the lease is trusted without another renewal.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        let left = self.0.trusted_until().since(self.0.leases().clock().now());
        if self.0.standing.borrow().is_over() {
            Duration::ZERO
        } else {
            left
        }
    }

    /// What keeps the lease alive. It does nothing until it is run or polled, and ends with this handle.
    #[must_use]
    pub fn renewal(&self) -> Renewal {
        Renewal::new(&self.0)
    }

    /// Stores that everything up to and including this record is done.
    ///
    /// # Errors
    /// [`Error::Lost`]: somebody else goes on from the last checkpoint. [`Error::Fenced`]: renew first.
    /// [`Error::NotForward`]. [`Error::Store`], [`Error::NoAnswer`]: it may or may not be stored; the next checkpoint
    /// finds out.
    pub async fn checkpoint(&self, done: &SequenceNumber) -> Result<(), Error> {
        self.checkpoint_with(&Position::after(done.clone()), &BTreeMap::new())
            .await
    }

    /// Stores a position together with facts of the caller's own, in one write.
    ///
    /// # Errors
    /// Those of [`checkpoint`](Self::checkpoint), and [`Error::Invalid`] for [`Position::End`], which only
    /// [`shard_end`](Self::shard_end) stores.
    pub async fn checkpoint_with(
        &self,
        to: &Position,
        details: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        if *to == Position::End {
            return Err(Error::Invalid {
                lease: self.0.id().to_string(),
                reason: "only the end of its shard stores the position END",
            });
        }
        let holding = &self.0;
        let mut state = holding.state.lock().await;
        holding.check()?;
        let known = lock(&holding.known).clone();
        // Before anything is sent: whoever drops this call must find the position in doubt, not unknown.
        {
            let mut known = lock(&holding.known);
            if *to > known.tried {
                known.tried = to.clone();
            }
        }
        let mut reached = known;
        let outcome = holding
            .apply(&mut state, |seen| {
                let step = seen
                    .row
                    .checkpoint(&holding.tenure, &reached, to, details)?;
                if *to > reached.tried {
                    reached.tried = to.clone();
                }
                Ok(step)
            })
            .await;
        if let Err(Error::NotForward { current, .. }) = &outcome {
            // What is stored is this owner's own, from a try whose answer got lost.
            *lock(&holding.known) = Known::settled(current.clone());
        }
        outcome?;
        *lock(&holding.known) = Known::settled(state.row.lease.position.clone());
        Ok(())
    }

    /// Gives the lease up. Its progress stays, and anybody may take it at once. Nothing happens if this worker has given it up
    /// already.
    ///
    /// # Errors
    /// [`Error::Lost`]: it was gone already. After [`Error::Store`] call it again, or let the lease run out.
    pub async fn release(&self) -> Result<(), Error> {
        let mut state = self.0.state.lock().await;
        if *self.0.standing.borrow() == Standing::GivenUp {
            return Ok(());
        }
        self.0.giving.store(true, Ordering::SeqCst);
        self.0
            .apply(&mut state, |seen| seen.row.release(&self.0.tenure))
            .await?;
        self.0.over(Standing::GivenUp);
        Ok(())
    }

    /// Makes the claimant the owner, in the next epoch. Drain, flush and checkpoint first: from here on the other one works.
    ///
    /// # Errors
    /// [`Error::Unclaimed`]: nobody asks (any more), the lease is still held. [`Error::Lost`].
    pub async fn hand_over(&self) -> Result<(), Error> {
        let mut state = self.0.state.lock().await;
        self.0.giving.store(true, Ordering::SeqCst);
        let mut to = None;
        let given = self
            .0
            .apply(&mut state, |seen| {
                let step = seen.row.hand_over(&self.0.tenure, to.as_ref())?;
                if let Step::Write(lease) = &step {
                    to = lease.owner.as_ref().map(|owner| owner.grant.clone());
                }
                Ok(step)
            })
            .await;
        if let Err(Error::Unclaimed { .. }) = &given {
            self.0.giving.store(false, Ordering::SeqCst);
        }
        given?;
        self.0.over(Standing::GivenUp);
        Ok(())
    }

    /// Ends the lease and registers its children, in one transaction: either the shard is finished and its children are
    /// there, or nothing has happened. All records of the shard must be done.
    ///
    /// Children without a parent get this lease as their parent. A child that is there already is kept with its
    /// progress; if it waited for this lease alone, it may begin.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Fenced`], [`Error::Invalid`] for a child that could never be worked on. After
    /// [`Error::Store`] or [`Error::NoAnswer`] call it again.
    pub async fn shard_end(&self, children: &[NewLease]) -> Result<(), Error> {
        let holding = &self.0;
        let children = holding.heirs(children)?;
        let mut state = holding.state.lock().await;
        if self.position() == Position::End {
            return Ok(());
        }
        holding.check()?;
        let names: Vec<LeaseId> = children.iter().map(|child| child.id.clone()).collect();
        let related: BTreeSet<LeaseId> = children
            .iter()
            .flat_map(|child| child.parents.iter().chain([&child.id]))
            .filter(|id| *id != holding.id())
            .cloned()
            .collect();
        holding.end(&mut state, &names, &children, &related).await
    }
}
