//! A group of leases, as one worker sees it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_kv as kv;

use crate::claiming::PendingClaim;
use crate::compare_and_set::{Doubt, Seen, TRIES};
use crate::error::Error;
use crate::held::HeldLease;
use crate::lease::{Grant, LeaseId, Owner, Row, State, Step, Tenure};
use crate::monotonic::{Monotonic, MonotonicClock, SystemMonotonic};
use crate::rows::{Change, KvRows, Outcome, Rows};
use crate::settings::Settings;
use crate::silence::Observer;
use crate::workload::Workload;

/// The leases of one group, through the eyes of one worker. Cheap to clone; clones share what the worker has observed and
/// holds.
///
/// ```no_run
/// # async fn example(table: highwater_kv::Table) -> Result<(), highwater_lease::Error> {
/// use highwater_lease::{LeaseId, Leases, NewLease, Position, Settings};
///
/// let leases = Leases::new(&table, "orders-stream", "worker-1", Settings::default())?;
/// let shard = LeaseId::new("shardId-00000001")?;
/// let start = Position::at("100000000000000000001".parse().expect("digits"));
/// leases.register(&NewLease::root(shard.clone(), start)).await?;
///
/// let held = leases.acquire(&shard).await?;
/// tokio::spawn(held.renewal().run());
/// held.checkpoint(&"100000000000000000007".parse().expect("digits")).await?;
/// held.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rows: Arc<dyn Rows>,
    clock: Arc<dyn MonotonicClock>,
    worker: String,
    settings: Settings,
    observer: Mutex<Observer>,
    /// The grants of the leases that this worker holds.
    holding: Mutex<HashSet<Grant>>,
    random: Mutex<fastrand::Rng>,
}

impl Leases {
    /// The group `group` in a kv table, for a worker of this name. Nothing is sent.
    ///
    /// The group is a partition of the table that belongs to it alone. Workers should have different names; if two have
    /// the same, nothing breaks but the balance between them.
    ///
    /// # Errors
    /// [`Error::Settings`] for times that would lose leases.
    pub fn new(
        table: &kv::Table,
        group: &str,
        worker: impl Into<String>,
        settings: Settings,
    ) -> Result<Self, Error> {
        let rows = Arc::new(KvRows::new(table, group));
        Self::over(rows, Arc::new(SystemMonotonic::new()), worker, settings)
    }

    /// The same over any rows and clock: for simulators and tests.
    pub fn over(
        rows: Arc<dyn Rows>,
        clock: Arc<dyn MonotonicClock>,
        worker: impl Into<String>,
        settings: Settings,
    ) -> Result<Self, Error> {
        settings.validate()?;
        Ok(Self(Arc::new(Inner {
            rows,
            clock,
            worker: worker.into(),
            settings,
            observer: Mutex::default(),
            holding: Mutex::default(),
            random: Mutex::new(fastrand::Rng::new()),
        })))
    }

    /// Draws from this seed from now on, so that a simulation can be repeated. Workers need different seeds.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        *lock(&self.0.random) = fastrand::Rng::with_seed(seed);
        self
    }

    /// This worker's name.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.0.worker
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How many leases this worker holds now.
    #[must_use]
    pub fn holding(&self) -> usize {
        lock(&self.0.holding).len()
    }

    /// A lease as it stands: its position is where a reader goes on.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn fetch(&self, id: &LeaseId) -> Result<Row, Error> {
        Ok(self.read(id).await?.row)
    }

    /// A page of leases by name, from the first one behind `after`. An empty page is the end.
    pub async fn page(&self, after: Option<&LeaseId>) -> Result<Vec<Row>, Error> {
        Ok(self.0.rows.page(after).await?)
    }

    /// Who holds what, from all pages of the group. Memory grows with the number of leases.
    pub async fn active_workers(&self) -> Result<Workload, Error> {
        let mut workload = Workload::new();
        let mut after = None;
        loop {
            let page = self.page(after.as_ref()).await?;
            let Some(last) = page.last() else {
                return Ok(workload);
            };
            after = Some(last.id.clone());
            for row in &page {
                workload.add(row);
            }
        }
    }

    /// Takes a lease that nobody owns, or whose owner this worker has seen silent for the lease time.
    ///
    /// Silence takes two sights: the first call about a lease with a dead owner says `NotAcquired`, one that comes a lease
    /// time later succeeds. [`round`](Self::round) does this for all leases.
    ///
    /// The limit [`Settings::max_leases`] is not looked at here.
    ///
    /// # Errors
    /// [`Error::NotAcquired`], [`Error::ParentUnfinished`] (also if the parent is not registered), [`Error::Ended`],
    /// [`Error::Unknown`].
    pub async fn acquire(&self, id: &LeaseId) -> Result<HeldLease, Error> {
        let me = self.new_owner();
        let seen = self.read(id).await?;
        self.acquire_as(&me, seen).await
    }

    pub(crate) async fn acquire_as(&self, me: &Owner, seen: Seen) -> Result<HeldLease, Error> {
        let unfinished = self.unfinished_parent(&seen.row).await?;
        let mut tried = None;
        let applied = self
            .compare_and_set(seen, |seen| {
                let silence = seen.silence.as_ref();
                let step = seen.row.acquire(me, silence, unfinished.as_ref())?;
                if let Step::Write(lease) = &step
                    && *tried.get_or_insert(lease.epoch) != lease.epoch
                {
                    // The first try may have had the epoch that is over by now: its grant is used up.
                    return Err(Error::Contended {
                        lease: seen.row.id.clone(),
                    });
                }
                Ok(step)
            })
            .await?;
        match applied.sent {
            Some(sent) => Ok(self.hold(me, applied.row, sent)),
            None => self.accept(me, applied.row).await,
        }
    }

    /// Takes up a lease that somebody handed over: a sign of life comes first, since nobody knows how long ago that was.
    pub(crate) async fn accept(&self, me: &Owner, row: Row) -> Result<HeldLease, Error> {
        let tenure = Tenure {
            grant: me.grant.clone(),
            epoch: row.lease.epoch,
        };
        let before = self.clock().now();
        let applied = self
            .compare_and_set(Seen::earlier(row), |seen| seen.row.renew(&tenure, None))
            .await?;
        Ok(self.hold(me, applied.row, applied.sent.unwrap_or(before)))
    }

    fn hold(&self, me: &Owner, row: Row, sent: Monotonic) -> HeldLease {
        tracing::debug!(lease = %row.id, epoch = %row.lease.epoch, worker = self.worker(), "lease acquired");
        lock(&self.0.holding).insert(me.grant.clone());
        HeldLease::new(self.clone(), me.grant.clone(), row, sent)
    }

    pub(crate) fn let_go(&self, grant: &Grant) {
        lock(&self.0.holding).remove(grant);
    }

    /// The first parent of a waiting lease that is not finished, or not registered.
    async fn unfinished_parent(&self, row: &Row) -> Result<Option<LeaseId>, Error> {
        if row.lease.state != State::Waiting {
            return Ok(None);
        }
        for parent in &row.lease.parents {
            let ended = self
                .look(parent)
                .await?
                .is_some_and(|seen| seen.row.lease.state == State::End);
            if !ended {
                return Ok(Some(parent.clone()));
            }
        }
        Ok(None)
    }

    /// Asks the owner of a live lease to hand it over. Poll the claim until it is won or gone.
    ///
    /// # Errors
    /// [`Error::AlreadyClaimed`], [`Error::Unowned`], [`Error::Ended`], [`Error::Unknown`].
    pub async fn claim(&self, id: &LeaseId) -> Result<PendingClaim, Error> {
        let me = self.new_owner();
        let seen = self.read(id).await?;
        self.compare_and_set(seen, |seen| seen.row.claim(&me))
            .await?;
        Ok(PendingClaim::new(self.clone(), id.clone(), me))
    }

    /// Sets a fact of the caller's own about a lease, whoever owns it; nothing else changes. For an owner,
    /// [`HeldLease::checkpoint_with`] sets facts together with the position.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn note(&self, id: &LeaseId, name: &str, value: &str) -> Result<(), Error> {
        let seen = self.read(id).await?;
        self.compare_and_set(seen, |seen| Ok(seen.row.with_detail(name, value)))
            .await?;
        Ok(())
    }

    /// Removes a finished lease. Its children must be registered and free to begin: a missing parent is never taken for a
    /// finished one.
    ///
    /// A removed lease that is registered again starts from its beginning: keep finished leases until no listing of the
    /// source can name them any more.
    ///
    /// # Errors
    /// [`Error::Unfinished`], [`Error::StillNeeded`]. A lease that is not there is removed already.
    pub async fn remove(&self, id: &LeaseId) -> Result<(), Error> {
        let mut doubt = Doubt::default();
        for _ in 0..TRIES {
            let Some(seen) = self.look(id).await? else {
                return Ok(());
            };
            let children = self.look_at_all(seen.row.lease.children.clone()).await?;
            seen.row
                .may_be_removed(|child| children.get(child).map(|row| row.lease.state))?;
            self.check_nobody_waits_for(id).await?;
            let change = Change::Delete(id.clone(), seen.row.version);
            match self.write(id, vec![change]).await {
                Ok(Outcome::Written(_)) => return Ok(()),
                Ok(Outcome::Conflict) => {}
                Err(error) => doubt.raised_by(error)?,
            }
        }
        Err(Error::Contended { lease: id.clone() })
    }

    /// A child that was registered beforehand may wait for a parent that did not name it as it ended.
    async fn check_nobody_waits_for(&self, parent: &LeaseId) -> Result<(), Error> {
        let waiting = self.active_workers().await?.waiting;
        match waiting
            .into_iter()
            .find(|(_, parents)| parents.contains(parent))
        {
            None => Ok(()),
            Some((child, _)) => Err(Error::StillNeeded {
                lease: parent.clone(),
                child,
            }),
        }
    }

    pub(crate) fn new_owner(&self) -> Owner {
        let bits = lock(&self.0.random).u128(..);
        Owner {
            worker: self.0.worker.clone(),
            grant: Grant::from_bits(bits),
        }
    }

    pub(crate) fn draw(&self) -> u64 {
        lock(&self.0.random).u64(..)
    }

    pub(crate) fn shuffle(&self, ids: &mut [LeaseId]) {
        lock(&self.0.random).shuffle(ids);
    }

    pub(crate) fn rows(&self) -> &dyn Rows {
        self.0.rows.as_ref()
    }

    pub(crate) fn clock(&self) -> &dyn MonotonicClock {
        self.0.clock.as_ref()
    }

    pub(crate) fn observer(&self) -> MutexGuard<'_, Observer> {
        lock(&self.0.observer)
    }
}

/// A mutex whose holder panicked still guards good values here: nothing is left half changed under it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
