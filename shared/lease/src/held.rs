//! A lease in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
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
use crate::renewal::Renewal;
use crate::rows::{Change, Outcome};
use crate::sequence_number::SequenceNumber;
use crate::silence::{ClaimWatch, Claimant};

/// How a held lease stands, as of its last renewal or other write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Go on.
    Held,
    /// A worker that is alive asks for the lease: finish what is in hand, checkpoint, [`HeldLease::hand_over`].
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

/// A lease that this worker owns.
///
/// Spawn its [`renewal`](Self::renewal), ask [`is_valid_now`](Self::is_valid_now) before each side effect, and pass
/// [`epoch`](Self::epoch) on to every sink that can refuse an old one. A handle that is dropped without
/// [`release`](Self::release) lets the lease run out.
///
/// Any call may be dropped half way, or fail without an answer: the next one finds out what became of it.
#[derive(Debug)]
pub struct HeldLease(Arc<Holding>);

/// What a handle and its renewal share.
#[derive(Debug)]
pub(crate) struct Holding {
    leases: Leases,
    id: LeaseId,
    tenure: Tenure,
    /// The moment up to which the lease is trusted, in nanoseconds of this worker's clock.
    trusted_until: AtomicU64,
    /// A release or hand-over is under way: another worker may own the lease before the answer is here.
    giving: AtomicBool,
    standing: watch::Sender<Standing>,
    /// Held over one write: renewal and checkpoint change the same row, and would only refuse each other.
    state: tokio::sync::Mutex<HoldingState>,
    /// For readers that must not wait for a write.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct HoldingState {
    row: Row,
    claimant: ClaimWatch,
    drop_claim: Option<Grant>,
}

impl HeldLease {
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
        Self(Arc::new(holding))
    }

    /// What is leased.
    #[must_use]
    pub fn id(&self) -> &LeaseId {
        &self.0.id
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
        let left = self.0.trusted_until().since(self.0.leases.clock().now());
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
                lease: self.0.id.to_string(),
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
            .filter(|id| **id != holding.id)
            .cloned()
            .collect();
        holding.end(&mut state, &names, &children, &related).await
    }
}

impl Holding {
    pub(crate) fn id(&self) -> &LeaseId {
        &self.id
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    fn trusted_until(&self) -> Monotonic {
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

    fn check(&self) -> Result<(), Error> {
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
    fn heirs(&self, children: &[NewLease]) -> Result<Vec<NewLease>, Error> {
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

    async fn end(
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
    async fn apply(
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

    fn over(&self, standing: Standing) {
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
