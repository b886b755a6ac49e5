//! Parents and children: what is registered, what ends, what may be removed.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::Known;
use crate::error::Error;
use crate::lease::{Epoch, Lease, LeaseId, Row, State, Step, Tenure};
use crate::position::Position;

/// A lease to be registered.
///
/// ```
/// use highwater_lease::{LeaseId, NewLease, Position};
///
/// let start = Position::at("100000000003498069978".parse()?);
/// let child = NewLease::root(LeaseId::new("shardId-2")?, start)
///     .parent(LeaseId::new("shardId-1")?)
///     .detail("ord", "2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a lease exists once it is registered"]
pub struct NewLease {
    /// What is leased.
    pub id: LeaseId,
    /// What must be finished before.
    pub parents: Vec<LeaseId>,
    /// Where its work begins.
    pub start: Position,
    /// The caller's own facts about it.
    pub details: BTreeMap<String, String>,
}

impl NewLease {
    /// A lease without parents, so far.
    pub fn root(id: LeaseId, start: Position) -> Self {
        Self {
            id,
            parents: Vec::new(),
            start,
            details: BTreeMap::new(),
        }
    }

    /// Adds a parent. A merged shard has two.
    pub fn parent(mut self, parent: LeaseId) -> Self {
        self.parents.push(parent);
        self
    }

    /// Adds a fact of the caller's own.
    pub fn detail(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }

    /// Refuses what could never be worked on.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |reason| {
            Err(Error::Invalid {
                lease: self.id.to_string(),
                reason,
            })
        };
        if self.start == Position::End {
            return refuse("it would begin at its end");
        }
        if self.parents.contains(&self.id) {
            return refuse("it is its own parent");
        }
        if self.parents.iter().collect::<BTreeSet<_>>().len() < self.parents.len() {
            return refuse("one parent is named twice");
        }
        Ok(())
    }

    /// The row's first content.
    pub(crate) fn lease(&self, state: State, late: bool) -> Lease {
        Lease {
            parents: self.parents.clone(),
            children: Vec::new(),
            state,
            position: self.start.clone(),
            owner: None,
            epoch: Epoch::default(),
            heartbeat: 0,
            claim: None,
            late,
            details: self.details.clone(),
        }
    }
}

impl Row {
    /// That the row is what `new` would register. Progress, details and place of start may differ: the row has its own.
    ///
    /// # Errors
    /// [`Error::OtherParents`].
    pub fn is_registered_as(&self, new: &NewLease) -> Result<(), Error> {
        let set = |parents: &[LeaseId]| parents.iter().cloned().collect::<BTreeSet<_>>();
        if set(&self.lease.parents) == set(&new.parents) {
            return Ok(());
        }
        Err(Error::OtherParents {
            lease: self.id.clone(),
            registered: self.lease.parents.clone(),
            asked: new.parents.clone(),
        })
    }

    /// Finishes the lease: position END, owner gone, `children` named. Final.
    ///
    /// # Errors
    /// [`Error::Lost`], also if somebody else moved the position.
    pub fn end(&self, tenure: &Tenure, known: &Known, children: &[LeaseId]) -> Result<Step, Error> {
        // Only the owner of an epoch can end it, so this is an earlier try of the same.
        if self.lease.state == State::End && self.lease.epoch == tenure.epoch {
            return Ok(Step::Done);
        }
        self.is_held(tenure)?;
        if !known.covers(&self.lease.position) {
            return Err(self.lost(tenure));
        }
        let mut lease = self.lease.clone();
        lease.state = State::End;
        lease.position = Position::End;
        lease.owner = None;
        lease.claim = None;
        lease.children = children.to_vec();
        Ok(Step::write(lease))
    }

    /// The lease, free to begin because its parents are finished. `None` if it does not wait.
    #[must_use]
    pub fn promoted(&self) -> Option<Lease> {
        (self.lease.state == State::Waiting).then(|| Lease {
            state: State::Ready,
            ..self.lease.clone()
        })
    }

    /// The finished parent with one more child, unless it names it already.
    pub(crate) fn with_late_child(&self, child: &LeaseId) -> Option<Lease> {
        let names = self.lease.children.contains(child);
        (self.lease.state == State::End && !names).then(|| {
            let mut lease = self.lease.clone();
            lease.children.push(child.clone());
            lease
        })
    }

    /// The lease with one fact of the caller's own set.
    #[must_use]
    pub fn with_detail(&self, name: &str, value: &str) -> Step {
        if self
            .lease
            .details
            .get(name)
            .is_some_and(|known| known == value)
        {
            return Step::Done;
        }
        let mut lease = self.lease.clone();
        lease.details.insert(name.to_owned(), value.to_owned());
        Step::write(lease)
    }

    /// The lease without a parent that is gone from the table for good.
    #[must_use]
    pub fn without_parent(&self, parent: &LeaseId) -> Step {
        if !self.lease.parents.contains(parent) {
            return Step::Done;
        }
        let mut lease = self.lease.clone();
        lease.parents.retain(|other| other != parent);
        if lease.parents.is_empty() && lease.state == State::Waiting {
            lease.state = State::Ready;
        }
        Step::write(lease)
    }

    /// That the row may be removed: its work is done, and no child of it (`child_state`) still waits or is missing.
    ///
    /// # Errors
    /// [`Error::Unfinished`], [`Error::StillNeeded`].
    pub fn may_be_removed(
        &self,
        child_state: impl Fn(&LeaseId) -> Option<State>,
    ) -> Result<(), Error> {
        let lease = || self.id.clone();
        if self.lease.state != State::End {
            return Err(Error::Unfinished { lease: lease() });
        }
        let waits =
            |child: &&LeaseId| !matches!(child_state(child), Some(State::Ready | State::End));
        match self.lease.children.iter().find(waits) {
            None => Ok(()),
            Some(child) => Err(Error::StillNeeded {
                lease: lease(),
                child: child.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::samples::{fresh, held, id, tenure, written};

    fn at(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn an_end_is_final_names_the_children_and_keeps_the_epoch() {
        let row = held("p", "a");
        let known = Known::settled(at("AT:1"));
        let children = [id("c1"), id("c2")];
        let lease = written(row.end(&tenure("a", 5), &known, &children).unwrap());
        assert_eq!((lease.state, &lease.position), (State::End, &Position::End));
        assert_eq!((lease.owner.as_ref(), lease.epoch.get()), (None, 5));
        assert_eq!(lease.children, children);

        let ended = Row { lease, ..row };
        assert_eq!(
            ended.end(&tenure("a", 5), &known, &children).unwrap(),
            Step::Done
        );
        assert!(matches!(
            ended.end(&tenure("a", 4), &known, &[]),
            Err(Error::Lost { .. })
        ));
        assert!(matches!(
            ended.renew(&tenure("a", 5), None),
            Err(Error::Ended { .. })
        ));
    }

    #[test]
    fn an_end_is_refused_to_a_former_owner_and_after_a_foreign_checkpoint() {
        let mut row = held("p", "a");
        let known = Known::settled(at("AT:1"));
        assert!(row.end(&tenure("b", 5), &known, &[]).is_err());
        assert!(row.end(&tenure("a", 4), &known, &[]).is_err());
        row.lease.position = at("AFTER:3");
        assert!(row.end(&tenure("a", 5), &known, &[]).is_err());
    }

    #[test]
    fn a_lease_that_could_never_be_worked_on_is_refused() {
        let start = at("AT:1");
        let good = NewLease::root(id("c"), start.clone()).parent(id("p"));
        good.validate().unwrap();
        for bad in [
            NewLease::root(id("c"), Position::End),
            good.clone().parent(id("c")),
            good.clone().parent(id("p")),
        ] {
            assert!(
                matches!(bad.validate(), Err(Error::Invalid { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn case_37_a_lease_is_not_silently_registered_with_other_parents() {
        let mut row = fresh("c");
        let as_root = NewLease::root(id("c"), at("AT:9"));
        let as_child = as_root.clone().parent(id("p"));
        row.is_registered_as(&as_root).unwrap();
        assert!(matches!(
            row.is_registered_as(&as_child),
            Err(Error::OtherParents { .. })
        ));
        row.lease.parents = vec![id("q"), id("p")];
        let merged = as_child.parent(id("q"));
        row.is_registered_as(&merged).unwrap();
    }

    #[test]
    fn only_finished_leases_without_waiting_children_are_removed() {
        let mut row = fresh("p");
        assert!(matches!(
            row.may_be_removed(|_| None),
            Err(Error::Unfinished { .. })
        ));
        row.lease.state = State::End;
        row.may_be_removed(|_| None).unwrap();
        row.lease.children = vec![id("c1"), id("c2")];
        row.may_be_removed(|_| Some(State::Ready)).unwrap();
        row.may_be_removed(|_| Some(State::End)).unwrap();
        let one_waits = |child: &LeaseId| (child.as_str() == "c1").then_some(State::Ready);
        assert!(
            matches!(row.may_be_removed(one_waits), Err(Error::StillNeeded { child, .. }) if child == id("c2"))
        );
        assert!(row.may_be_removed(|_| Some(State::Waiting)).is_err());
    }

    #[test]
    fn a_waiting_lease_whose_last_parent_is_gone_may_begin() {
        let mut row = fresh("c");
        row.lease.state = State::Waiting;
        row.lease.parents = vec![id("p"), id("q")];
        let one_left = written(row.without_parent(&id("p")));
        assert_eq!(
            (one_left.state, one_left.parents.len()),
            (State::Waiting, 1)
        );
        let row = Row {
            lease: one_left,
            ..row
        };
        assert_eq!(row.without_parent(&id("p")), Step::Done);
        assert_eq!(written(row.without_parent(&id("q"))).state, State::Ready);
    }
}
