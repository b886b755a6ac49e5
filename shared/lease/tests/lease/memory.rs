//! A table in memory that knows its whole history and checks every write against the invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use highwater_lease::{Change, Lease, LeaseId, Outcome, Position, Row, State};

/// Rows, with everything that was ever written.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<LeaseId, Row>,
    versions: i64,
    history: Vec<(LeaseId, Lease)>,
}

impl Memory {
    pub fn get(&self, id: &LeaseId) -> Option<Row> {
        self.0.lock().unwrap().rows.get(id).cloned()
    }

    pub fn page(&self, after: Option<&LeaseId>, size: usize) -> Vec<Row> {
        let table = self.0.lock().unwrap();
        let behind = |row: &&Row| after.is_none_or(|after| row.id > *after);
        table
            .rows
            .values()
            .filter(behind)
            .take(size)
            .cloned()
            .collect()
    }

    /// Whether the lease ever stood so.
    pub fn was(&self, id: &LeaseId, is_so: impl Fn(&Lease) -> bool) -> bool {
        let table = self.0.lock().unwrap();
        table
            .history
            .iter()
            .any(|(other, lease)| other == id && is_so(lease))
    }

    pub fn write(&self, changes: &[Change]) -> Outcome {
        let mut table = self.0.lock().unwrap();
        let version = |id: &LeaseId| table.rows.get(id).map(|row| row.version);
        let holds = changes.iter().all(|change| match change {
            Change::Create(id, _) => version(id).is_none(),
            Change::Update(id, seen, _) | Change::Delete(id, seen) => version(id) == Some(*seen),
        });
        if !holds {
            return Outcome::Conflict;
        }
        let versions = changes.iter().map(|change| table.apply(change)).collect();
        table.check_lineage();
        Outcome::Written(versions)
    }
}

impl Table {
    fn apply(&mut self, change: &Change) -> Option<i64> {
        let (id, lease) = match change {
            Change::Create(id, lease) | Change::Update(id, _, lease) => (id.clone(), lease.clone()),
            Change::Delete(id, _) => {
                self.rows.remove(id);
                return None;
            }
        };
        if let Some(before) = self.rows.get(&id) {
            check_step(&before.lease, &lease);
        }
        self.check_grants(&id, &lease);
        self.history.push((id.clone(), lease.clone()));
        self.versions += 1;
        let version = self.versions;
        self.rows.insert(id.clone(), Row { id, lease, version });
        Some(version)
    }

    /// I17: an epoch has one owner, and an acquisition has one epoch.
    fn check_grants(&self, id: &LeaseId, lease: &Lease) {
        let Some(owner) = &lease.owner else { return };
        for (other, former) in self.history.iter().filter(|(other, _)| other == id) {
            if let Some(before) = &former.owner {
                assert_eq!(
                    former.epoch == lease.epoch,
                    before.grant == owner.grant,
                    "I17 of {other}: {former:?} and {lease:?}"
                );
            }
        }
    }

    /// I6 and I7.
    fn check_lineage(&self) {
        for row in self.rows.values() {
            if row.lease.state == State::End {
                assert_eq!(row.lease.position, Position::End, "{row:?}");
                for child in &row.lease.children {
                    assert!(self.rows.contains_key(child), "I6: {child} of {row:?}");
                }
            }
            if row.lease.owner.is_some() {
                for parent in &row.lease.parents {
                    let ended = |row: &Row| row.lease.state == State::End;
                    assert!(self.rows.get(parent).is_some_and(ended), "I7: {row:?}");
                }
            }
        }
    }
}

/// What no write may ever do to a row.
fn check_step(before: &Lease, after: &Lease) {
    let step = format!("{before:?} -> {after:?}");
    assert!(after.position >= before.position, "I5: {step}");
    let gained = after.epoch.get() - before.epoch.get();
    assert!(gained <= 1, "I17: {step}");
    if gained == 1 {
        assert!(after.owner.is_some(), "{step}");
        assert_eq!(after.position, before.position, "{step}");
        assert_eq!(after.claim, None, "a claim dies with its epoch: {step}");
    } else if before.owner.is_none() {
        assert_eq!(
            after.owner, None,
            "an owner without an epoch of its own: {step}"
        );
    }
    if after.position != before.position {
        assert!(before.owner.is_some(), "nobody's progress: {step}");
    }
    if before.state == State::End {
        assert_eq!(after.state, State::End, "{step}");
        assert_eq!(after.owner, None, "{step}");
    }
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (
        before.children.iter().collect(),
        after.children.iter().collect(),
    );
    assert!(old.is_subset(&new), "{step}");
}
