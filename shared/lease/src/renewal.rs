//! What keeps a held lease alive.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;
use crate::holding::{Holding, Standing};
use crate::lease::LeaseId;

/// Renews one lease for as long as its [`HeldLease`](crate::HeldLease) lives and the lease is not over.
///
/// Run it as a task of its own, so that slow work cannot keep it from renewing:
///
/// ```no_run
/// # async fn example(held: highwater_lease::HeldLease) {
/// let renewal = tokio::spawn(held.renewal().run());
/// let mut standing = held.standing();
/// // … in the loop that does the work:
/// if standing.has_changed().unwrap_or(true) {
///     println!("{:?}", standing.borrow_and_update());
/// }
/// # }
/// ```
///
/// A worker with its own scheduler calls [`renew`](Self::renew) whenever [`due_in`](Self::due_in) says so.
#[derive(Debug)]
pub struct Renewal {
    // Weak: a handle that was dropped must not be kept alive by its own renewal, or the lease would stay for ever with nobody at
    // work.
    holding: Weak<Holding>,
    id: LeaseId,
    standing: watch::Receiver<Standing>,
    failed: bool,
}

impl Renewal {
    pub(crate) fn new(holding: &Arc<Holding>) -> Self {
        let standing = holding.subscribe();
        Self {
            id: holding.id().clone(),
            holding: Arc::downgrade(holding),
            standing,
            failed: false,
        }
    }

    /// The lease that is renewed.
    #[must_use]
    pub fn id(&self) -> &LeaseId {
        &self.id
    }

    /// When the next renewal should be sent: an interval after the last one was sent, or a tenth of it after a failure.
    /// `None`: never again.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        let holding = self.holding.upgrade()?;
        if self.standing.borrow().is_over() {
            return None;
        }
        let every = holding.leases().settings().renew_every;
        if self.failed {
            return Some(every / 10);
        }
        let now = holding.leases().clock().now();
        Some(holding.last_sent().plus(every).since(now))
    }

    /// Renews once, now.
    ///
    /// # Errors
    /// [`Error::Lost`] is final. After any other the lease stands until it is fenced, and a later renewal may still succeed.
    pub async fn renew(&mut self) -> Result<Standing, Error> {
        let Some(holding) = self.holding.upgrade() else {
            return Ok(Standing::GivenUp);
        };
        let renewed = holding.renew().await;
        self.failed = renewed.is_err();
        renewed
    }

    /// Renews until there is nothing to renew, and says why: [`Standing::Lost`] or [`Standing::GivenUp`].
    ///
    /// A renewal that fails is tried again soon; once the lease is fenced, that is told by
    /// [`HeldLease::standing`](crate::HeldLease::standing), and it is tried on: as long as nobody else took the lease, it can
    /// come back.
    pub async fn run(mut self) -> Standing {
        loop {
            let leases = self
                .holding
                .upgrade()
                .map(|holding| holding.leases().clone());
            let (Some(due), Some(leases)) = (self.due_in(), leases) else {
                return self.last_words();
            };
            tokio::select! {
                biased;
                changed = self.standing.changed() => {
                    if changed.is_err() {
                        return self.last_words();
                    }
                    continue;
                }
                () = leases.clock().sleep(due) => {}
            }
            if let Err(error) = self.renew().await
                && !error.is_over()
            {
                tracing::warn!(lease = %self.id, %error, "lease not renewed, trying again");
            }
        }
    }

    fn last_words(&self) -> Standing {
        match &*self.standing.borrow() {
            over if over.is_over() => over.clone(),
            // The handle is gone without a word.
            _ => Standing::GivenUp,
        }
    }
}
