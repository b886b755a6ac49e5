//! What all work under one shard's lease has in common: whether to go on, and how to try again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_domain::backoff::Backoff;
use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_source::StreamError;
use highwater_lease::{Error as LeaseError, HeldLease, Position, Standing};
use tokio::sync::watch;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::stream_log::StreamLog;

/// How often it is looked whether a fenced lease is good again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits between tries of what fails in passing. It is never given up while the lease is held.
const RETRIES: Backoff = Backoff {
    base_ms: 100,
    max_ms: 20_000,
    attempts: u32::MAX,
};

/// So many tries are made for somebody who waits for the lease, or for the program's end.
const TRIES_WHEN_ASKED: u32 = 3;

/// What there is to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    Go,
    /// Finish what is in hand and release it.
    Release,
    /// Finish what is in hand and hand it over.
    HandOver,
    /// It is lost: drop what is in hand.
    Drop,
}

/// Why work under a lease ends before it is done.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The lease is somebody else's.
    Lost,
    /// Somebody asked for the lease, or for a stop.
    Asked,
    /// No further try can help.
    Failed(StepError),
}

/// A lease in hand, and the log of its stream.
#[derive(Debug)]
pub(crate) struct ShardWork {
    pub(crate) deps: LiveDeps,
    pub(crate) log: Arc<StreamLog>,
    pub(crate) held: HeldLease,
    pub(crate) shard: ShardId,
    budget: Budget,
    standing: watch::Receiver<Standing>,
    random: Mutex<fastrand::Rng>,
}

impl ShardWork {
    pub(crate) fn new(
        deps: LiveDeps,
        log: Arc<StreamLog>,
        held: HeldLease,
        budget: Budget,
        seed: u64,
    ) -> Result<Self, StepError> {
        Ok(Self {
            shard: crate::shard_rows::shard_of(held.id())?,
            standing: held.standing(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            deps,
            log,
            held,
            budget,
        })
    }

    pub(crate) fn order(&self) -> Order {
        match &*self.standing.borrow() {
            Standing::Lost { .. } | Standing::GivenUp => Order::Drop,
            Standing::Claimed { .. } => Order::HandOver,
            Standing::Held | Standing::Fenced if self.deps.should_stop(&self.budget) => {
                Order::Release
            }
            Standing::Held | Standing::Fenced => Order::Go,
        }
    }

    /// Waits, but not longer than until there is something else to do.
    pub(crate) async fn rest(&self, wait: Duration) {
        let before = self.order();
        let mut standing = self.standing.clone();
        standing.borrow_and_update();
        let until = tokio::time::Instant::now() + wait;
        while self.order() == before && tokio::time::Instant::now() < until {
            let is_stopped = self.deps.should_stop(&self.budget);
            tokio::select! {
                biased;
                changed = standing.changed() => if changed.is_err() { return },
                () = self.deps.stopped(&self.budget), if !is_stopped => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Waits until a side effect may be started.
    pub(crate) async fn may_write(&self) -> Result<(), Halt> {
        let mut looks = 0_u32;
        loop {
            match self.held.check() {
                Ok(()) => return Ok(()),
                Err(LeaseError::Fenced { .. }) => {
                    looks += 1;
                    // A renewal may still succeed; whoever is asked to stop does not wait for it.
                    if self.order() != Order::Go && looks > TRIES_WHEN_ASKED {
                        return Err(Halt::Asked);
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(_) => return Err(Halt::Lost),
            }
        }
    }

    /// Decides about an error, and waits before another try if there should be one.
    pub(crate) async fn again(
        &self,
        what: &str,
        tries: &mut u32,
        error: StepError,
    ) -> Result<(), Halt> {
        if let StepError::Lease(lease) = &error {
            if lease.is_over() {
                return Err(Halt::Lost);
            }
            if matches!(lease, LeaseError::Fenced { .. }) {
                return self.may_write().await;
            }
        }
        if !passes(&error) {
            return Err(Halt::Failed(error));
        }
        match self.order() {
            Order::Drop => return Err(Halt::Lost),
            Order::Go => {}
            Order::Release | Order::HandOver if *tries < TRIES_WHEN_ASKED => {}
            Order::Release | Order::HandOver => return Err(Halt::Asked),
        }
        let random = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .f64();
        let wait_ms = RETRIES.wait_ms(*tries, random).unwrap_or(RETRIES.max_ms);
        *tries = tries.saturating_add(1);
        let what = format!("{what} of shard {}", self.shard);
        let reason = error.to_string();
        self.deps.observer.retrying(&what, &reason, wait_ms);
        self.rest(Duration::from_millis(wait_ms.max(1))).await;
        Ok(())
    }

    /// Stores a position with details, however often it takes.
    pub(crate) async fn checkpoint(
        &self,
        to: &Position,
        details: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), Halt> {
        let mut tries = 0;
        loop {
            self.may_write().await?;
            match self.held.checkpoint_with(to, details).await {
                // Not forward: an earlier one of this worker's, whose answer got lost, was further.
                Ok(()) | Err(LeaseError::NotForward { .. }) => return Ok(()),
                Err(error) => self.again("checkpoint", &mut tries, error.into()).await?,
            }
        }
    }
}

/// Whether the same call may succeed later without anyone's help.
pub(crate) fn passes(error: &StepError) -> bool {
    let kind = match error {
        StepError::Table(failure)
        | StepError::Store(failure)
        | StepError::Control(failure)
        | StepError::Stream(StreamError::Failed(failure)) => failure.kind,
        StepError::Stream(StreamError::IteratorExpired(_)) => return true,
        StepError::Lease(error) => return error.is_retryable(),
        _ => return false,
    };
    // An endpoint that is out of reach for a moment looks like a wrong one; damage in transit is not for ever.
    kind.is_retryable() || matches!(kind, FailureKind::Unreachable | FailureKind::Corrupt)
}
