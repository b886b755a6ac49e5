//! How a live lease changes hands: one worker asks, the owner gives. Nobody takes.

use crate::error::Error;
use crate::lease::{Claim, Grant, Owner, Row, State, Step, Tenure};

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimFate {
    /// The owner handed the lease over, in this epoch.
    Won,
    /// The owner has not answered yet.
    Outstanding,
    /// The epoch that was asked for is over, or the owner took the claim for dead.
    Gone,
}

impl Row {
    /// Asks the owner for the lease, or repeats that one is still asking. Owner, position and everything else stay.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::Unowned`], [`Error::AlreadyClaimed`].
    pub fn claim(&self, me: &Owner) -> Result<Step, Error> {
        let lease = || self.id.clone();
        if self.lease.is_owned_under(&me.grant) {
            return Ok(Step::Done);
        }
        if self.lease.state == State::End {
            return Err(Error::Ended { lease: lease() });
        }
        if self.lease.owner.is_none() {
            return Err(Error::Unowned { lease: lease() });
        }
        let beat = match self.lease.current_claim() {
            None => 0,
            Some(mine) if mine.by.grant == me.grant => mine.beat.saturating_add(1),
            Some(other) => {
                return Err(Error::AlreadyClaimed {
                    lease: lease(),
                    by: other.by.worker.clone(),
                });
            }
        };
        let mut claimed = self.lease.clone();
        claimed.claim = Some(Claim {
            by: me.clone(),
            epoch: claimed.epoch,
            beat,
        });
        Ok(Step::write(claimed))
    }

    /// Takes one's claim back, if it is still there.
    #[must_use]
    pub fn withdraw(&self, me: &Grant) -> Step {
        match &self.lease.claim {
            Some(claim) if claim.by.grant == *me => {
                let mut lease = self.lease.clone();
                lease.claim = None;
                Step::write(lease)
            }
            _ => Step::Done,
        }
    }

    /// Makes the claimant the owner, in the next epoch.
    ///
    /// `to` is the claimant of an earlier try whose answer got lost.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Unclaimed`].
    pub fn hand_over(&self, tenure: &Tenure, to: Option<&Grant>) -> Result<Step, Error> {
        if self.lease.epoch == tenure.epoch.next()
            && to.is_some_and(|claimant| self.lease.is_owned_under(claimant))
        {
            return Ok(Step::Done);
        }
        self.is_held(tenure)?;
        let Some(claim) = self.lease.current_claim() else {
            return Err(Error::Unclaimed {
                lease: self.id.clone(),
            });
        };
        let mut lease = self.lease.clone();
        lease.owner = Some(claim.by.clone());
        lease.epoch = lease.epoch.next();
        lease.heartbeat = 0;
        lease.claim = None;
        Ok(Step::write(lease))
    }

    pub(crate) fn fate_of_claim(&self, me: &Grant) -> ClaimFate {
        if self.lease.is_owned_under(me) {
            return ClaimFate::Won;
        }
        match self.lease.current_claim() {
            Some(claim) if claim.by.grant == *me && self.lease.owner.is_some() => {
                ClaimFate::Outstanding
            }
            _ => ClaimFate::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Epoch;
    use crate::lease::samples::{fresh, held, owner, tenure, written};

    fn claimed_by(worker: &str) -> Row {
        let row = held("s", "a");
        let lease = written(row.claim(&owner(worker)).unwrap());
        Row { lease, ..row }
    }

    #[test]
    fn k16_a_claim_changes_the_claim_and_nothing_else() {
        let row = held("s", "a");
        let claimed = written(row.claim(&owner("b")).unwrap());
        let mut expected = row.lease.clone();
        expected.claim = Some(Claim {
            by: owner("b"),
            epoch: row.lease.epoch,
            beat: 0,
        });
        assert_eq!(claimed, expected);
        let again = Row {
            lease: claimed,
            ..row
        };
        assert_eq!(
            written(again.claim(&owner("b")).unwrap())
                .claim
                .unwrap()
                .beat,
            1
        );
    }

    #[test]
    fn the_first_claim_stands_until_its_epoch_is_over() {
        let mut row = claimed_by("b");
        let second = row.claim(&owner("c"));
        assert!(matches!(second, Err(Error::AlreadyClaimed { by, .. }) if by == "b"));
        row.lease.epoch = row.lease.epoch.next();
        let later = written(row.claim(&owner("c")).unwrap());
        assert_eq!(later.claim.unwrap().by, owner("c"));
    }

    #[test]
    fn there_must_be_an_owner_to_ask() {
        assert!(matches!(
            fresh("s").claim(&owner("b")),
            Err(Error::Unowned { .. })
        ));
        let mut ended = fresh("s");
        ended.lease.state = State::End;
        assert!(matches!(ended.claim(&owner("b")), Err(Error::Ended { .. })));
    }

    #[test]
    fn a_hand_over_makes_the_claimant_the_owner_of_the_next_epoch() {
        let row = claimed_by("b");
        let given = written(row.hand_over(&tenure("a", 5), None).unwrap());
        assert_eq!(given.owner, Some(owner("b")));
        assert_eq!(
            (given.epoch, given.heartbeat, &given.claim),
            (Epoch::from_stored(6), 0, &None)
        );
        assert_eq!(given.position, row.lease.position);

        let given = Row {
            lease: given,
            ..row
        };
        assert_eq!(given.fate_of_claim(&owner("b").grant), ClaimFate::Won);
        let again = given.hand_over(&tenure("a", 5), Some(&owner("b").grant));
        assert_eq!(again.unwrap(), Step::Done);
        assert!(matches!(
            given.hand_over(&tenure("a", 5), None),
            Err(Error::Lost { .. })
        ));
    }

    #[test]
    fn case_43_a_stale_claim_is_never_served() {
        let mut row = claimed_by("b");
        row.lease.epoch = Epoch::from_stored(6);
        row.lease.owner = Some(owner("c"));
        let refused = row.hand_over(&tenure("c", 6), None);
        assert!(matches!(refused, Err(Error::Unclaimed { .. })));
        assert_eq!(row.fate_of_claim(&owner("b").grant), ClaimFate::Gone);
    }

    #[test]
    fn a_claim_is_taken_back_by_its_claimant_only() {
        let row = claimed_by("b");
        assert_eq!(row.withdraw(&owner("c").grant), Step::Done);
        assert_eq!(
            written(row.withdraw(&owner("b").grant)),
            held("s", "a").lease
        );
    }
}
