//! What the handle of a lease and its renewal share: the row as it was last seen, how long it is trusted, how it stands.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::compare_and_set::{Applied, Doubt, Seen, TRIES};
use crate::decide::{Known, NewLease};
use crate::error::Error;
use crate::lease::{Epoch, Grant, LeaseId, Row, Step, Tenure};
use crate::leases::{Leases, lock};
use crate::monotonic::Monotonic;
use crate::position::Position;
use crate::registering::succession;
use crate::rows::{Change, Outcome};
use crate::silence::{ClaimWatch, Claimant};

/// How a held lease stands, as of its last renewal or other write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Go on.
    Held,
    /// A worker that is alive asks for the lease: finish what is in hand, checkpoint, [`HeldLease::hand_over`](crate::HeldLease::hand_over).
    Claimed {
        /// Who asks.
        by: String,
    },
    /// Not renewed in time. Start nothing; a renewal may still succeed.
    Fenced,
    /// Somebody else owns the lease, or nobody. Drop what is in hand.
    Lost {
        /// Who owns it, if anybody.
        owner: Option<String>,
        /// The epoch that was found.
        now: Epoch,
    },
    /// Released, handed over or ended by this worker.
    GivenUp,
}

impl Standing {
    /// Whether this worker does not own the lease any more, for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::GivenUp)
    }
}

/// What a handle and its renewal share.
#[derive(Debug)]
pub(crate) struct Holding {
    leases: Leases,
    id: LeaseId,
    pub(crate) tenure: Tenure,
    /// The moment up to which the lease is trusted, in nanoseconds of this worker's clock.
    trusted_until: AtomicU64,
    /// A release or hand-over is under way: another worker may own the lease before the answer is here.
    pub(crate) giving: AtomicBool,
    pub(crate) standing: watch::Sender<Standing>,
    /// Held over one write: renewal and checkpoint change the same row, and would only refuse each other.
    pub(crate) state: tokio::sync::Mutex<HoldingState>,
    /// For readers that must not wait for a write.
    pub(crate) known: Mutex<Known>,
}

#[derive(Debug)]
pub(crate) struct HoldingState {
    pub(crate) row: Row,
    claimant: ClaimWatch,
    drop_claim: Option<Grant>,
}

impl Holding {
    pub(crate) fn new(leases: Leases, grant: Grant, row: Row, sent: Monotonic) -> Self {
        let tenure = Tenure {
            grant,
            epoch: row.lease.epoch,
        };
        let holding = Holding {
            id: row.id.clone(),
            tenure,
            trusted_until: AtomicU64::new(0),
            giving: AtomicBool::new(false),
            standing: watch::Sender::new(Standing::Held),
            known: Mutex::new(Known::settled(row.lease.position.clone())),
            state: tokio::sync::Mutex::new(HoldingState {
                row,
                claimant: ClaimWatch::default(),
                drop_claim: None,
            }),
            leases,
        };
        holding.trust(sent);
        holding
    }

    pub(crate) fn id(&self) -> &LeaseId {
        &self.id
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn trusted_until(&self) -> Monotonic {
        Monotonic::since_origin(Duration::from_nanos(
            self.trusted_until.load(Ordering::SeqCst),
        ))
    }

    /// When the last good renewal was sent.
    pub(crate) fn last_sent(&self) -> Monotonic {
        let trusted = self.leases.settings().trusted();
        let until = self.trusted_until().elapsed();
        Monotonic::since_origin(until.saturating_sub(trusted))
    }

    /// Takes note of a good write that was sent at this moment.
    fn trust(&self, sent: Monotonic) {
        let until = sent.plus(self.leases.settings().trusted()).elapsed();
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.trusted_until.fetch_max(nanos, Ordering::SeqCst);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let (owner, now) = match &*self.standing.borrow() {
            Standing::Lost { owner, now } => (owner.clone(), *now),
            Standing::GivenUp => (None, self.tenure.epoch),
            Standing::Held | Standing::Claimed { .. } | Standing::Fenced => {
                return self.check_trust();
            }
        };
        Err(Error::Lost {
            lease: self.id.clone(),
            epoch: self.tenure.epoch,
            owner,
            now,
        })
    }

    fn check_trust(&self) -> Result<(), Error> {
        let giving = self.giving.load(Ordering::SeqCst);
        if giving || self.leases.clock().now() > self.trusted_until() {
            return Err(Error::Fenced {
                lease: self.id.clone(),
                epoch: self.tenure.epoch,
            });
        }
        Ok(())
    }

    /// The children of this lease's end, each with a parent and each once.
    pub(crate) fn heirs(&self, children: &[NewLease]) -> Result<Vec<NewLease>, Error> {
        let mut names = BTreeSet::new();
        let mut heirs = Vec::with_capacity(children.len());
        for child in children {
            let mut child = child.clone();
            if child.parents.is_empty() {
                child.parents.push(self.id.clone());
            }
            child.validate()?;
            let reason = if !names.insert(child.id.clone()) {
                "it is named twice among the children"
            } else if !child.parents.contains(&self.id) {
                "it is no child of the lease that ends"
            } else {
                heirs.push(child);
                continue;
            };
            return Err(Error::Invalid {
                lease: child.id.to_string(),
                reason,
            });
        }
        Ok(heirs)
    }

    pub(crate) async fn end(
        &self,
        state: &mut HoldingState,
        names: &[LeaseId],
        children: &[NewLease],
        related: &BTreeSet<LeaseId>,
    ) -> Result<(), Error> {
        let mut doubt = Doubt::default();
        for _ in 0..TRIES {
            let known = lock(&self.known).clone();
            let lease = match state.row.end(&self.tenure, &known, names) {
                Ok(Step::Write(lease)) => *lease,
                Ok(Step::Done) => {
                    self.ended();
                    return Ok(());
                }
                Err(error) => return self.fail(error),
            };
            let rows = self.leases.look_at_all(related.clone()).await?;
            let mut changes = vec![Change::Update(self.id.clone(), state.row.version, lease)];
            changes.extend(succession(&self.id, children, &rows));
            match self.leases.write(&self.id, changes).await {
                Ok(Outcome::Written(_)) => {
                    self.ended();
                    return Ok(());
                }
                Ok(Outcome::Conflict) => {}
                Err(error) => doubt.raised_by(error)?,
            }
            match self.leases.read(&self.id).await {
                Ok(seen) => state.row = seen.row,
                Err(error @ Error::Unknown { .. }) => return self.fail(error),
                Err(error) => return Err(doubt.or(error)),
            }
        }
        Err(Error::Contended {
            lease: self.id.clone(),
        })
    }

    /// One sign of life.
    pub(crate) async fn renew(&self) -> Result<Standing, Error> {
        let mut state = self.state.lock().await;
        let now = self.standing.borrow().clone();
        if now.is_over() {
            return Ok(now);
        }
        let dead = state.drop_claim.clone();
        let renewed = self
            .apply(&mut state, |seen| {
                seen.row.renew(&self.tenure, dead.as_ref())
            })
            .await;
        match renewed {
            Ok(()) => {
                // The row has a new version, so a release that is still on its way can no longer succeed.
                self.giving.store(false, Ordering::SeqCst);
                Ok(self.standing.borrow().clone())
            }
            Err(error) => {
                if matches!(self.check(), Err(Error::Fenced { .. })) {
                    self.stand(Standing::Fenced);
                }
                Err(error)
            }
        }
    }

    /// Carries a decision out, from the row as this handle knows it.
    pub(crate) async fn apply(
        &self,
        state: &mut HoldingState,
        decide: impl FnMut(&Seen) -> Result<Step, Error> + Send,
    ) -> Result<(), Error> {
        let seen = Seen::earlier(state.row.clone());
        match self.leases.compare_and_set(seen, decide).await {
            Ok(Applied { row, sent }) => {
                state.row = row;
                if let Some(sent) = sent {
                    self.trust(sent);
                }
                self.look_at_claim(state);
                Ok(())
            }
            Err(error) => self.fail(error),
        }
    }

    fn look_at_claim(&self, state: &mut HoldingState) {
        let now = self.leases.clock().now();
        let lease_time = self.leases.settings().lease;
        let claim = state.row.lease.current_claim();
        let claimant = state.claimant.look(claim, now, lease_time);
        state.drop_claim = None;
        self.stand(match claimant {
            Claimant::None | Claimant::Unconfirmed => Standing::Held,
            Claimant::Alive(by) => Standing::Claimed { by },
            Claimant::Dead(grant) => {
                state.drop_claim = Some(grant);
                Standing::Held
            }
        });
    }

    fn fail(&self, error: Error) -> Result<(), Error> {
        if let Error::Ended { .. } = &error {
            self.ended();
        } else if error.is_over() {
            tracing::warn!(lease = %self.id, epoch = %self.tenure.epoch, %error, "lease lost");
            let (owner, now) = match &error {
                Error::Lost { owner, now, .. } => (owner.clone(), *now),
                _ => (None, self.tenure.epoch),
            };
            self.over(Standing::Lost { owner, now });
        }
        Err(error)
    }

    fn ended(&self) {
        *lock(&self.known) = Known::settled(Position::End);
        self.over(Standing::GivenUp);
    }

    pub(crate) fn over(&self, standing: Standing) {
        self.leases.let_go(&self.tenure.grant);
        self.stand(standing);
    }

    /// Tells everybody, if it is news. What is over stays over.
    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|current| {
            let news = !current.is_over() && *current != standing;
            if news {
                *current = standing;
            }
            news
        });
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.leases.let_go(&self.tenure.grant);
    }
}
