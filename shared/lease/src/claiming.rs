//! A claim under way.

use crate::decide::claim::ClaimFate;
use crate::error::Error;
use crate::held::HeldLease;
use crate::lease::{LeaseId, Owner};
use crate::leases::Leases;

/// A request to the owner of a live lease. Poll it at the renewal interval: that also tells the owner that this worker is
/// still there to take the lease. One that is not polled is dropped by the owner after the lease time.
#[derive(Debug)]
#[must_use = "a claim that is not polled is taken for that of a dead worker"]
pub struct PendingClaim {
    leases: Leases,
    id: LeaseId,
    me: Owner,
}

/// How a claim stands.
#[derive(Debug)]
pub enum Claimed {
    /// The lease is this worker's now.
    Won(HeldLease),
    /// The owner is still at work.
    Waiting,
    /// The owner dropped the claim, or somebody else became the owner. Look at the balance again.
    Gone,
}

impl PendingClaim {
    pub(crate) fn new(leases: Leases, id: LeaseId, me: Owner) -> Self {
        Self { leases, id, me }
    }

    /// The lease that is asked for.
    #[must_use]
    pub fn id(&self) -> &LeaseId {
        &self.id
    }

    /// Looks whether the lease was handed over, and repeats the claim if not. An owner that has fallen silent for the lease
    /// time, or has released the lease, is succeeded.
    ///
    /// # Errors
    /// Errors of the table; poll again. [`Error::Unknown`], [`Error::Lost`]: gone.
    pub async fn poll(&mut self) -> Result<Claimed, Error> {
        let seen = self.leases.read(&self.id).await?;
        match seen.row.fate_of_claim(&self.me.grant) {
            ClaimFate::Won => {
                let held = self.leases.accept(&self.me, seen.row).await?;
                return Ok(Claimed::Won(held));
            }
            ClaimFate::Outstanding if seen.silence.is_none() => {
                let repeated = self
                    .leases
                    .compare_and_set(seen, |seen| match seen.row.fate_of_claim(&self.me.grant) {
                        ClaimFate::Outstanding => seen.row.claim(&self.me),
                        // Whatever it is, the next poll sees it.
                        ClaimFate::Won | ClaimFate::Gone => Ok(crate::lease::Step::Done),
                    })
                    .await;
                return repeated.map(|_| Claimed::Waiting);
            }
            ClaimFate::Outstanding | ClaimFate::Gone => {}
        }
        // Under a grant of its own: the claim's may have owned the lease already, in an epoch that nobody took up.
        let me = self.leases.new_owner();
        match self.leases.acquire_as(&me, seen).await {
            Ok(held) => Ok(Claimed::Won(held)),
            Err(error) if error.is_in_the_way() => self.look_again().await,
            Err(error) => Err(error),
        }
    }

    /// Somebody was faster: perhaps the owner, with the hand-over.
    async fn look_again(&self) -> Result<Claimed, Error> {
        let seen = self.leases.read(&self.id).await?;
        Ok(match seen.row.fate_of_claim(&self.me.grant) {
            ClaimFate::Gone => Claimed::Gone,
            ClaimFate::Won | ClaimFate::Outstanding => Claimed::Waiting,
        })
    }

    /// Takes the claim back, so that the owner need not wait for it to go stale. A lease that was won in the meantime is
    /// released.
    pub async fn withdraw(self) -> Result<(), Error> {
        let seen = self.leases.read(&self.id).await?;
        let applied = self
            .leases
            .compare_and_set(seen, |seen| Ok(seen.row.withdraw(&self.me.grant)))
            .await?;
        if applied.row.fate_of_claim(&self.me.grant) == ClaimFate::Won {
            self.leases
                .accept(&self.me, applied.row)
                .await?
                .release()
                .await?;
        }
        Ok(())
    }
}
