//! What can go wrong, by what a caller can do about it.

use std::time::Duration;

use highwater_kv::FailureClass;

use crate::lease::{Epoch, LeaseId};
use crate::position::Position;

/// An error of this crate. Not to get a lease and to lose one are everyday events: a caller goes on with its other leases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another worker holds the lease, as far as this worker can tell. Ask again later.
    #[error("lease {lease} is held by worker {held_by:?} in epoch {epoch}")]
    NotAcquired {
        /// The lease.
        lease: LeaseId,
        /// Its owner.
        held_by: String,
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// This worker owned the lease and does no more. Drop all work in hand: somebody else goes on from the last checkpoint.
    #[error("lease {lease} of epoch {epoch} is lost: {}", now_owned(owner.as_deref(), *now))]
    Lost {
        /// The lease.
        lease: LeaseId,
        /// The epoch that is over.
        epoch: Epoch,
        /// Who owns it now, if anybody.
        owner: Option<String>,
        /// The epoch now.
        now: Epoch,
    },
    /// The last good renewal is too long ago to start anything. Renew first: the lease may still be there.
    #[error(
        "lease {lease} of epoch {epoch} was not renewed in time; nothing may be started before it is renewed"
    )]
    Fenced {
        /// The lease.
        lease: LeaseId,
        /// Its epoch, as far as this worker knows.
        epoch: Epoch,
    },
    /// A checkpoint behind the stored one. Nothing was written.
    #[error("checkpoint {asked} of lease {lease} is behind {current}")]
    NotForward {
        /// The lease.
        lease: LeaseId,
        /// The stored position.
        current: Position,
        /// The position asked for.
        asked: Position,
    },
    /// A parent is not finished, or not known. Its children wait.
    #[error("lease {lease} waits for its parent {parent}")]
    ParentUnfinished {
        /// The lease.
        lease: LeaseId,
        /// The first parent that is not known to be finished.
        parent: LeaseId,
    },
    /// Everything behind this lease is done; there is nothing to own.
    #[error("lease {lease} is finished")]
    Ended {
        /// The lease.
        lease: LeaseId,
    },
    /// No such lease is registered.
    #[error("lease {lease} is not registered")]
    Unknown {
        /// The lease.
        lease: LeaseId,
    },
    /// Another worker asked for the lease first.
    #[error("lease {lease} is already claimed by worker {by:?}")]
    AlreadyClaimed {
        /// The lease.
        lease: LeaseId,
        /// Who asked.
        by: String,
    },
    /// Nobody owns the lease, so there is nobody to ask for it. Acquire it.
    #[error("lease {lease} has no owner to claim it from; acquire it")]
    Unowned {
        /// The lease.
        lease: LeaseId,
    },
    /// Nobody asked for the lease, so there is nobody to hand it over to. Release it.
    #[error("nobody claims lease {lease}; release it instead of handing it over")]
    Unclaimed {
        /// The lease.
        lease: LeaseId,
    },
    /// The lease is registered with other parents. One of the two listings of shards was wrong.
    #[error("lease {lease} is registered with parents {registered:?}, not {asked:?}")]
    OtherParents {
        /// The lease.
        lease: LeaseId,
        /// The parents in the table.
        registered: Vec<LeaseId>,
        /// The parents asked for.
        asked: Vec<LeaseId>,
    },
    /// A lease that is not finished holds progress, and is not removed.
    #[error("lease {lease} is not finished; its progress is kept")]
    Unfinished {
        /// The lease.
        lease: LeaseId,
    },
    /// A finished lease is still needed by a child that has not begun or is not registered.
    #[error("finished lease {lease} is still needed: {child} waits for it")]
    StillNeeded {
        /// The lease.
        lease: LeaseId,
        /// The child.
        child: LeaseId,
    },
    /// A lease that cannot be registered, or a name that cannot be one.
    #[error("lease {lease:?} cannot be registered: {reason}")]
    Invalid {
        /// The name as it came.
        lease: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Times that would lose leases.
    #[error("impossible lease settings: {reason}")]
    Settings {
        /// Which rule is broken.
        reason: &'static str,
    },
    /// The row kept changing under this worker. Nothing of this call is written, or it is in doubt; try again.
    #[error("lease {lease} kept changing; try again")]
    Contended {
        /// The lease.
        lease: LeaseId,
    },
    /// The table did not answer in time. A write may have happened; the next call finds out.
    #[error("no answer about lease {lease} within {after:?}")]
    NoAnswer {
        /// The lease.
        lease: LeaseId,
        /// How long was waited.
        after: Duration,
    },
    /// The table could not be read or written. After a class of `Transient`, a write may have happened; the next call finds out.
    #[error(transparent)]
    Store(#[from] highwater_kv::Error),
}

fn now_owned(owner: Option<&str>, epoch: Epoch) -> String {
    match owner {
        Some(owner) => format!("worker {owner:?} owns it in epoch {epoch}"),
        None => format!("nobody owns it, after epoch {epoch}"),
    }
}

impl Error {
    /// Whether the lease is gone for this worker: lost or finished.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. } | Self::Ended { .. } | Self::Unknown { .. }
        )
    }

    /// Whether the same call may succeed later without anyone's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Contended { .. } | Self::NoAnswer { .. } => true,
            _ => false,
        }
    }

    /// Whether another worker, or the order of parents and children, stands in the way for now. The next round will see.
    pub(crate) fn is_in_the_way(&self) -> bool {
        matches!(
            self,
            Self::NotAcquired { .. }
                | Self::ParentUnfinished { .. }
                | Self::Ended { .. }
                | Self::Unknown { .. }
                | Self::AlreadyClaimed { .. }
                | Self::Unowned { .. }
                | Self::Contended { .. }
        )
    }

    /// Whether a write that failed so may have happened nevertheless.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Store(error) => matches!(
                error.class(),
                FailureClass::Transient
                    | FailureClass::Throttled
                    | FailureClass::Unreachable
                    | FailureClass::Corrupt
                    | FailureClass::Other
            ),
            _ => false,
        }
    }
}
