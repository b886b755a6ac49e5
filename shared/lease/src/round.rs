//! One look at the whole group: take what is free, ask for one's share.

use std::collections::HashSet;

use crate::claiming::PendingClaim;
use crate::error::Error;
use crate::held::HeldLease;
use crate::lease::{LeaseId, Row, State};
use crate::leases::Leases;
use crate::workload::Workload;

/// What a round brought.
#[derive(Debug)]
pub struct Round {
    /// Leases taken: unowned ones, children whose parents are finished, those of silent owners.
    pub acquired: Vec<HeldLease>,
    /// The lease asked for, if this worker has too few.
    pub claim: Option<PendingClaim>,
    /// Who holds what, the leases taken in this round included.
    pub workload: Workload,
    /// What kept the round from going on. Whatever it took until then is in `acquired`, and is this worker's.
    pub failure: Option<Error>,
}

impl Leases {
    /// Looks at all leases; takes every one that is free, up to [`Settings::max_leases`](crate::Settings::max_leases); and if
    /// none was left without an owner, claims one lease from the worker that holds the most.
    ///
    /// Call it when the worker starts and then about every [`Settings::renew_every`](crate::Settings::renew_every), with
    /// some jitter: the silence of an owner takes two rounds to see.
    ///
    /// # Errors
    /// Errors of listing. What fails later is in [`Round::failure`].
    pub async fn round(&self) -> Result<Round, Error> {
        let (workload, candidates) = self.survey().await?;
        let mut round = Round {
            acquired: Vec::new(),
            claim: None,
            workload,
            failure: None,
        };
        round.failure = self.take(&mut round, candidates).await.err();
        if round.failure.is_none() {
            round.failure = self.even_out(&mut round).await.err();
        }
        Ok(round)
    }

    /// Lists the group. Returns also the leases that may be free, in random order.
    async fn survey(&self) -> Result<(Workload, Vec<LeaseId>), Error> {
        let mut workload = Workload::new();
        let mut candidates = Vec::new();
        let mut known = HashSet::new();
        let mut after: Option<LeaseId> = None;
        loop {
            let sent = self.clock().now();
            let page = self.page(after.as_ref()).await?;
            let received = self.clock().now();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for row in &page {
                let silence = {
                    let lease_time = self.settings().lease;
                    self.observer().observe(row, sent, received, lease_time)
                };
                if silence.is_some() || is_free(row) {
                    candidates.push(row.id.clone());
                }
                known.insert(row.id.clone());
                workload.add(row);
            }
        }
        self.observer().retain(|lease| known.contains(lease));
        // The children of finished parents, which no transaction has set free yet.
        candidates.extend(workload.free_to_begin().cloned());
        // Workers that come at the same moment should not all begin with the same lease.
        self.shuffle(&mut candidates);
        Ok((workload, candidates))
    }

    async fn take(&self, round: &mut Round, candidates: Vec<LeaseId>) -> Result<(), Error> {
        for id in candidates {
            if self.holding() >= self.settings().max_leases {
                return Ok(());
            }
            match self.acquire(&id).await {
                Ok(held) => {
                    round.workload.acquired(self.worker(), &id);
                    round.acquired.push(held);
                }
                Err(error) if error.is_in_the_way() => {
                    tracing::debug!(lease = %id, %error, "not taken");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn even_out(&self, round: &mut Round) -> Result<(), Error> {
        let max_leases = self.settings().max_leases;
        let transfer =
            round
                .workload
                .rebalance(self.worker(), self.holding(), max_leases, self.draw());
        let Some(transfer) = transfer else {
            return Ok(());
        };
        match self.claim(&transfer.lease).await {
            Ok(claim) => {
                tracing::info!(lease = %transfer.lease, from = transfer.from, "lease claimed");
                round.claim = Some(claim);
                Ok(())
            }
            Err(error) if error.is_in_the_way() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_free(row: &Row) -> bool {
    row.lease.owner.is_none() && row.lease.state == State::Ready
}
