//! Who may take a lease.

use crate::error::Error;
use crate::lease::{LeaseId, Owner, Row, State, Step};
use crate::silence::Silence;

impl Row {
    /// Takes the lease for `me`, if it has no owner or its owner has been `silent` for the lease time.
    ///
    /// `unfinished` is a parent that is not known to be finished; it matters only while the row itself still waits. Any
    /// claim is dropped: it asked for the epoch that ends here.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::NotAcquired`], [`Error::ParentUnfinished`].
    pub fn acquire(
        &self,
        me: &Owner,
        silent: Option<&Silence>,
        unfinished: Option<&LeaseId>,
    ) -> Result<Step, Error> {
        let lease = &self.lease;
        if lease.is_owned_under(&me.grant) {
            return Ok(Step::Done);
        }
        if lease.state == State::End {
            return Err(Error::Ended {
                lease: self.id.clone(),
            });
        }
        if let Some(owner) = &lease.owner
            && !silent.is_some_and(|silence| silence.is_of(self))
        {
            return Err(Error::NotAcquired {
                lease: self.id.clone(),
                held_by: owner.worker.clone(),
                epoch: lease.epoch,
            });
        }
        if lease.state == State::Waiting
            && let Some(parent) = unfinished
        {
            return Err(Error::ParentUnfinished {
                lease: self.id.clone(),
                parent: parent.clone(),
            });
        }
        let mut lease = lease.clone();
        lease.state = State::Ready;
        lease.owner = Some(me.clone());
        lease.epoch = lease.epoch.next();
        lease.heartbeat = 0;
        lease.claim = None;
        Ok(Step::write(lease))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lease::Claim;
    use crate::lease::samples::{fresh, held, id, owner, tenure, written};
    use crate::monotonic::Monotonic;
    use crate::silence::Observer;

    const LEASE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::since_origin(Duration::from_secs(seconds))
    }

    fn silence(row: &Row) -> Silence {
        let mut observer = Observer::default();
        assert_eq!(observer.observe(row, at(0), at(1), LEASE), None);
        observer.observe(row, at(31), at(32), LEASE).unwrap()
    }

    #[test]
    fn an_unowned_lease_is_taken_in_the_next_epoch_with_its_progress() {
        let mut row = fresh("s");
        row.lease.epoch = tenure("x", 5).epoch;
        row.lease.heartbeat = 9;
        row.lease.position = "AFTER:77".parse().unwrap();
        let taken = written(row.acquire(&owner("b"), None, None).unwrap());
        assert_eq!(taken.owner, Some(owner("b")));
        assert_eq!((taken.epoch.get(), taken.heartbeat), (6, 0));
        assert_eq!(taken.position, row.lease.position);
    }

    #[test]
    fn a_live_owner_is_named_and_a_silent_one_replaced() {
        let row = held("s", "a");
        let refused = row.acquire(&owner("b"), None, None);
        assert!(
            matches!(refused, Err(Error::NotAcquired { held_by, epoch, .. }) if held_by == "a" && epoch.get() == 5)
        );
        let taken = written(
            row.acquire(&owner("b"), Some(&silence(&row)), None)
                .unwrap(),
        );
        assert_eq!((taken.owner, taken.epoch.get()), (Some(owner("b")), 6));
    }

    #[test]
    fn silence_that_was_seen_of_another_heartbeat_or_epoch_proves_nothing() {
        let seen = held("s", "a");
        let silence = silence(&seen);
        let mut renewed = seen.clone();
        renewed.lease.heartbeat += 1;
        let mut replaced = seen.clone();
        replaced.lease.epoch = replaced.lease.epoch.next();
        let other = held("t", "a");
        for row in [renewed, replaced, other] {
            assert!(row.acquire(&owner("b"), Some(&silence), None).is_err());
        }
    }

    #[test]
    fn a_lost_answer_is_recognised_by_the_grant_and_not_by_the_name() {
        let row = held("s", "a");
        assert_eq!(row.acquire(&owner("a"), None, None).unwrap(), Step::Done);
        let mut namesake = owner("a");
        namesake.grant = owner("another process of a").grant;
        assert!(row.acquire(&namesake, None, None).is_err());
    }

    #[test]
    fn a_waiting_lease_is_taken_only_once_its_parents_are_finished() {
        let mut row = fresh("s");
        row.lease.state = State::Waiting;
        let refused = row.acquire(&owner("a"), None, Some(&id("p")));
        assert!(
            matches!(refused, Err(Error::ParentUnfinished { parent, .. }) if parent == id("p"))
        );
        let taken = written(row.acquire(&owner("a"), None, None).unwrap());
        assert_eq!(taken.state, State::Ready);
    }

    #[test]
    fn a_finished_lease_is_never_taken_again() {
        let mut row = fresh("s");
        row.lease.state = State::End;
        assert!(matches!(
            row.acquire(&owner("a"), None, None),
            Err(Error::Ended { .. })
        ));
    }

    #[test]
    fn a_takeover_ends_the_claim_of_the_old_epoch() {
        let mut row = held("s", "a");
        row.lease.claim = Some(Claim {
            by: owner("c"),
            epoch: row.lease.epoch,
            beat: 1,
        });
        let silence = silence(&row);
        assert_eq!(
            written(row.acquire(&owner("b"), Some(&silence), None).unwrap()).claim,
            None
        );
    }
}
