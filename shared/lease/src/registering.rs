//! How leases come into the table, and how they leave their parents.

use std::collections::BTreeMap;

use crate::compare_and_set::{Doubt, TRIES};
use crate::decide::NewLease;
use crate::error::Error;
use crate::lease::{LeaseId, Row, State};
use crate::leases::Leases;
use crate::rows::{Change, Outcome};

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// This call created it; `false`: it was there.
    pub created: bool,
    /// It waits for its parents.
    pub waiting: bool,
    /// A parent had ended without naming it. It is read from its start, late: somebody should know. The row keeps the
    /// mark, so that a crash before the caller has told anybody does not lose it.
    pub late: bool,
}

impl Leases {
    /// Registers a lease unless it is there. One whose parents are all finished can be acquired at once, any other
    /// waits. A parent that is not registered is not finished.
    ///
    /// A child that appears after its parent has ended is added to the parent's children in the same transaction.
    ///
    /// # Errors
    /// [`Error::OtherParents`] if it is there with other parents; [`Error::Invalid`].
    pub async fn register(&self, new: &NewLease) -> Result<Registered, Error> {
        new.validate()?;
        let mut doubt = Doubt::default();
        for _ in 0..TRIES {
            if let Some(seen) = self.look(&new.id).await? {
                seen.row.is_registered_as(new)?;
                return Ok(Registered {
                    // After a lost answer it may be somebody else's, but rather a child reported twice than never.
                    created: doubt.is_raised(),
                    waiting: seen.row.lease.state == State::Waiting,
                    late: seen.row.lease.late,
                });
            }
            let parents = self.look_at_all(new.parents.clone()).await?;
            let (changes, registered) = registration(new, &parents);
            match self.write(&new.id, changes).await {
                Ok(Outcome::Written(_)) => return Ok(registered),
                Ok(Outcome::Conflict) => {}
                Err(error) => doubt.raised_by(error)?,
            }
        }
        Err(Error::Contended {
            lease: new.id.clone(),
        })
    }

    /// Lets a lease go on without a parent that is gone for good: trimmed before it was ever registered.
    ///
    /// This is a decision that records may be missing, so it is the caller's to make and to report; it is never made here.
    ///
    /// # Errors
    /// [`Error::ParentUnfinished`] if the parent is registered: then it is to be read, not forgotten.
    pub async fn forget_parent(&self, child: &LeaseId, parent: &LeaseId) -> Result<(), Error> {
        if let Some(seen) = self.look(parent).await?
            && seen.row.lease.state != State::End
        {
            return Err(Error::ParentUnfinished {
                lease: child.clone(),
                parent: parent.clone(),
            });
        }
        let seen = self.read(child).await?;
        self.compare_and_set(seen, |seen| Ok(seen.row.without_parent(parent)))
            .await?;
        Ok(())
    }
}

fn is_ended(rows: &BTreeMap<LeaseId, Row>, id: &LeaseId) -> bool {
    rows.get(id)
        .is_some_and(|row| row.lease.state == State::End)
}

fn registration(new: &NewLease, parents: &BTreeMap<LeaseId, Row>) -> (Vec<Change>, Registered) {
    let waiting = new.parents.iter().any(|parent| !is_ended(parents, parent));
    let mut late_of = Vec::new();
    for row in parents.values() {
        if let Some(lease) = row.with_late_child(&new.id) {
            late_of.push(Change::Update(row.id.clone(), row.version, lease));
        }
    }
    let late = !late_of.is_empty();
    let state = if waiting {
        State::Waiting
    } else {
        State::Ready
    };
    let mut changes = vec![Change::Create(new.id.clone(), new.lease(state, late))];
    changes.extend(late_of);
    let registered = Registered {
        created: true,
        waiting,
        late,
    };
    (changes, registered)
}

/// The changes that make `children` exist as `ending` ends, by what is there: `rows` has the children and their other
/// parents.
pub(crate) fn succession(
    ending: &LeaseId,
    children: &[NewLease],
    rows: &BTreeMap<LeaseId, Row>,
) -> Vec<Change> {
    let ended = |parent: &LeaseId| parent == ending || is_ended(rows, parent);
    let mut changes = Vec::new();
    for child in children {
        match rows.get(&child.id) {
            None => {
                let free = child.parents.iter().all(ended);
                let state = if free { State::Ready } else { State::Waiting };
                changes.push(Change::Create(child.id.clone(), child.lease(state, false)));
            }
            Some(row) if row.lease.parents.iter().all(ended) => {
                let promoted = row.promoted();
                changes.extend(
                    promoted.map(|lease| Change::Update(row.id.clone(), row.version, lease)),
                );
            }
            // It waits for another parent still, or began as a root before this one was known.
            Some(_) => {}
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::samples::{fresh, id};

    fn new(name: &str, parents: &[&str]) -> NewLease {
        let root = NewLease::root(id(name), "AT:1".parse().unwrap());
        parents
            .iter()
            .fold(root, |new, parent| new.parent(id(parent)))
    }

    fn rows(rows: &[Row]) -> BTreeMap<LeaseId, Row> {
        rows.iter()
            .map(|row| (row.id.clone(), row.clone()))
            .collect()
    }

    fn in_state(name: &str, state: State, parents: &[&str]) -> Row {
        let mut row = fresh(name);
        row.lease.state = state;
        row.lease.parents = parents.iter().map(|parent| id(parent)).collect();
        row
    }

    fn states(changes: &[Change]) -> Vec<(&str, State)> {
        let state = |change| match change {
            &Change::Create(ref id, ref lease) | &Change::Update(ref id, _, ref lease) => {
                (id.as_str(), lease.state)
            }
            Change::Delete(..) => panic!("nothing is deleted"),
        };
        changes.iter().map(state).collect()
    }

    #[test]
    fn kc_17_a_parent_that_is_not_registered_is_not_finished() {
        let (changes, registered) = registration(&new("c", &["p"]), &rows(&[]));
        assert_eq!(states(&changes), [("c", State::Waiting)]);
        assert!(registered.waiting && !registered.late);
        let one_of_two = rows(&[in_state("p", State::End, &[])]);
        let (changes, _) = registration(&new("c", &["p", "q"]), &one_of_two);
        assert_eq!(states(&changes)[0], ("c", State::Waiting));
        let (changes, _) = registration(&new("root", &[]), &rows(&[]));
        assert_eq!(states(&changes), [("root", State::Ready)]);
    }

    #[test]
    fn case_35_a_late_child_is_marked_and_added_to_its_parent() {
        let mut parent = in_state("p", State::End, &[]);
        parent.lease.children = vec![id("c1")];
        let (changes, registered) = registration(&new("c2", &["p"]), &rows(&[parent.clone()]));
        assert!(registered.late && !registered.waiting);
        let Change::Update(_, _, updated) = &changes[1] else {
            panic!("{changes:?}");
        };
        assert_eq!(updated.children, [id("c1"), id("c2")]);
        let (changes, registered) = registration(&new("c1", &["p"]), &rows(&[parent]));
        assert_eq!((changes.len(), registered.late), (1, false));
    }

    #[test]
    fn children_begin_when_their_last_parent_ends() {
        let children = [new("c", &["p"]), new("merged", &["p", "q"])];
        let changes = succession(&id("p"), &children, &rows(&[]));
        assert_eq!(
            states(&changes),
            [("c", State::Ready), ("merged", State::Waiting)]
        );
        // Both are there already: the second parent's end frees the merged one.
        let there = rows(&[
            in_state("c", State::Ready, &["p"]),
            in_state("merged", State::Waiting, &["p", "q"]),
            in_state("p", State::End, &[]),
        ]);
        let changes = succession(&id("q"), &children[1..], &there);
        assert_eq!(states(&changes), [("merged", State::Ready)]);
        let again = succession(&id("p"), &children, &there);
        assert_eq!(states(&again), []);
    }
}
