//! What an owner may do: renew, checkpoint, release.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::lease::{Grant, Lease, Row, State, Step, Tenure};
use crate::position::Position;

/// What an owner knows about the stored position of its lease: the last one that it knows to be stored, and the furthest
/// that it tried to store without hearing what became of it. The two are equal when nothing is in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Stored for certain.
    pub settled: Position,
    /// Stored perhaps.
    pub tried: Position,
}

impl Known {
    /// A position about which there is no doubt.
    #[must_use]
    pub fn settled(position: Position) -> Self {
        Self {
            settled: position.clone(),
            tried: position,
        }
    }

    pub(crate) fn covers(&self, position: &Position) -> bool {
        (&self.settled..=&self.tried).contains(&position)
    }
}

impl Row {
    /// That this tenure is the present one.
    ///
    /// # Errors
    /// [`Error::Lost`] with the owner and epoch that are there; [`Error::Ended`] if this tenure ended the lease.
    pub fn is_held(&self, tenure: &Tenure) -> Result<(), Error> {
        let lease = &self.lease;
        if lease.epoch == tenure.epoch && lease.is_owned_under(&tenure.grant) {
            return Ok(());
        }
        Err(self.lost(tenure))
    }

    pub(crate) fn lost(&self, tenure: &Tenure) -> Error {
        // Only the owner of an epoch can end it: this worker's own doing, told by an answer that got lost.
        if self.lease.state == State::End && self.lease.epoch == tenure.epoch {
            return Error::Ended {
                lease: self.id.clone(),
            };
        }
        Error::Lost {
            lease: self.id.clone(),
            epoch: tenure.epoch,
            owner: self.lease.owner.as_ref().map(|owner| owner.worker.clone()),
            now: self.lease.epoch,
        }
    }

    /// A sign of life. A claim by `dead_claim` is dropped on the way.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn renew(&self, tenure: &Tenure, dead_claim: Option<&Grant>) -> Result<Step, Error> {
        self.is_held(tenure)?;
        let mut lease = self.alive();
        if let (Some(claim), Some(dead)) = (&lease.claim, dead_claim)
            && claim.by.grant == *dead
        {
            lease.claim = None;
        }
        Ok(Step::write(lease))
    }

    /// Moves the position forward, and sets details. Counts as a sign of life; a claim stays.
    ///
    /// The stored position must be one that the owner `knows` of: its condition is owner, epoch and position at once.
    ///
    /// # Errors
    /// [`Error::Lost`], also if somebody else moved the position; [`Error::NotForward`].
    pub fn checkpoint(
        &self,
        tenure: &Tenure,
        known: &Known,
        to: &Position,
        details: &BTreeMap<String, String>,
    ) -> Result<Step, Error> {
        self.is_held(tenure)?;
        if !known.covers(&self.lease.position) {
            return Err(self.lost(tenure));
        }
        if *to < self.lease.position {
            return Err(Error::NotForward {
                lease: self.id.clone(),
                current: self.lease.position.clone(),
                asked: to.clone(),
            });
        }
        let known_details = details
            .iter()
            .all(|(name, value)| self.lease.details.get(name) == Some(value));
        if *to == self.lease.position && known_details {
            return Ok(Step::Done);
        }
        let mut lease = self.alive();
        lease.position = to.clone();
        lease.details.extend(details.clone());
        Ok(Step::write(lease))
    }

    /// Gives the lease up. Everything but owner and claim stays: position, epoch, parents.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn release(&self, tenure: &Tenure) -> Result<Step, Error> {
        let lease = &self.lease;
        if lease.epoch == tenure.epoch && (lease.owner.is_none() || lease.state == State::End) {
            return Ok(Step::Done);
        }
        self.is_held(tenure)?;
        let mut lease = lease.clone();
        lease.owner = None;
        lease.claim = None;
        Ok(Step::write(lease))
    }

    pub(crate) fn alive(&self) -> Lease {
        let mut lease = self.lease.clone();
        lease.heartbeat = lease.heartbeat.saturating_add(1);
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Claim;
    use crate::lease::samples::{held, owner, tenure, written};

    fn at(text: &str) -> Position {
        text.parse().unwrap()
    }

    fn none() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn claimed(worker: &str, by: &str) -> Row {
        let mut row = held("s", worker);
        row.lease.claim = Some(Claim {
            by: owner(by),
            epoch: row.lease.epoch,
            beat: 2,
        });
        row
    }

    /// Tenures that are not the present one of `held("s", "a")`: another worker's, a former and a later one of the same.
    fn strangers() -> [Tenure; 3] {
        [tenure("b", 5), tenure("a", 4), tenure("a", 6)]
    }

    #[test]
    fn only_the_present_tenure_may_do_anything() {
        let row = held("s", "a");
        let known = Known::settled(at("AT:1"));
        for other in strangers() {
            for refused in [
                row.renew(&other, None),
                row.checkpoint(&other, &known, &at("AFTER:2"), &none()),
                row.release(&other),
            ] {
                assert!(
                    matches!(&refused, Err(Error::Lost { owner: Some(owner), now, .. }) if owner == "a" && now.get() == 5),
                    "{refused:?}"
                );
            }
        }
    }

    #[test]
    fn a_renewal_moves_the_heartbeat_and_nothing_else() {
        let row = claimed("a", "b");
        let renewed = written(row.renew(&tenure("a", 5), None).unwrap());
        let mut expected = row.lease.clone();
        expected.heartbeat = 4;
        assert_eq!(renewed, expected);
        let kept = row.renew(&tenure("a", 5), Some(&owner("c").grant)).unwrap();
        assert_eq!(written(kept).claim, row.lease.claim);
        let dropped = row.renew(&tenure("a", 5), Some(&owner("b").grant)).unwrap();
        assert_eq!(written(dropped).claim, None);
    }

    #[test]
    fn kc_20_a_checkpoint_leaves_a_claim_where_it_is() {
        let row = claimed("a", "b");
        let known = Known::settled(at("AT:1"));
        let details = BTreeMap::from([("et_last".to_owned(), "1700000000".to_owned())]);
        let moved = written(
            row.checkpoint(&tenure("a", 5), &known, &at("AFTER:9"), &details)
                .unwrap(),
        );
        let mut expected = row.lease.clone();
        expected.position = at("AFTER:9");
        expected.heartbeat = 4;
        expected.details = details;
        assert_eq!(moved, expected);
        assert!(moved.claim.is_some());
    }

    #[test]
    fn kc_15_a_checkpoint_behind_the_stored_one_is_refused() {
        let mut row = held("s", "a");
        row.lease.position = at("AFTER:100");
        let known = Known::settled(at("AFTER:100"));
        for behind in ["AT:1", "AFTER:99", "AT:100"] {
            let refused = row.checkpoint(&tenure("a", 5), &known, &at(behind), &none());
            assert!(
                matches!(&refused, Err(Error::NotForward { current, .. }) if *current == at("AFTER:100")),
                "{refused:?}"
            );
        }
        let same = row.checkpoint(&tenure("a", 5), &known, &at("AFTER:100"), &none());
        assert_eq!(same.unwrap(), Step::Done);
    }

    #[test]
    fn of_two_checkpoints_that_saw_the_same_position_one_wins() {
        let row = held("s", "a");
        let known = Known::settled(at("AT:1"));
        let first = written(
            row.checkpoint(&tenure("a", 5), &known, &at("AFTER:5"), &none())
                .unwrap(),
        );
        let after_first = Row {
            lease: first,
            ..row
        };
        let second = after_first.checkpoint(&tenure("a", 5), &known, &at("AFTER:9"), &none());
        assert!(matches!(second, Err(Error::Lost { .. })), "{second:?}");
    }

    #[test]
    fn a_position_that_an_earlier_try_of_ones_own_stored_is_no_surprise() {
        let mut row = held("s", "a");
        let known = Known {
            settled: at("AT:1"),
            tried: at("AFTER:5"),
        };
        for stored in ["AT:1", "AFTER:4", "AFTER:5"] {
            row.lease.position = at(stored);
            let step = row.checkpoint(&tenure("a", 5), &known, &at("AFTER:9"), &none());
            assert_eq!(written(step.unwrap()).position, at("AFTER:9"));
        }
        row.lease.position = at("AFTER:6");
        assert!(
            row.checkpoint(&tenure("a", 5), &known, &at("AFTER:9"), &none())
                .is_err()
        );
    }

    #[test]
    fn k17_a_release_keeps_the_progress() {
        let mut row = claimed("a", "b");
        row.lease.position = at("AFTER:77");
        row.lease.details.insert("ord".into(), "7".into());
        let released = written(row.release(&tenure("a", 5)).unwrap());
        let mut expected = row.lease.clone();
        expected.owner = None;
        expected.claim = None;
        assert_eq!(released, expected);
        let again = Row {
            lease: released,
            ..row
        };
        assert_eq!(again.release(&tenure("a", 5)).unwrap(), Step::Done);
        assert!(again.release(&tenure("a", 4)).is_err());
    }
}
