//! Lease rows that know their whole history and check every write against the invariants, and a worker's way to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use highwater_domain::failure::Failure;
use highwater_kv as kv;
use highwater_lease::{Change, Lease, LeaseId, Outcome, Position, Row, Rows, State};

use super::sim_wire::Wire;

/// Rows of all groups.
#[derive(Debug, Default)]
pub struct RowTable(Mutex<Groups>);

#[derive(Debug, Default)]
struct Groups {
    rows: BTreeMap<(String, LeaseId), Row>,
    versions: i64,
    /// Which grant had which epoch.
    grants: BTreeMap<(String, LeaseId), BTreeMap<u64, String>>,
    /// Whether updates are made whatever their row has become.
    ignores_versions: bool,
    violations: Vec<String>,
}

impl RowTable {
    /// All rows of a group, in the order of their names.
    #[must_use]
    pub fn rows(&self, group: &str) -> Vec<Row> {
        let groups = self.locked();
        let all = groups.rows.iter();
        all.filter(|((of, _), _)| of == group)
            .map(|(_, row)| row.clone())
            .collect()
    }

    /// The names of all groups.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<String> {
        let groups = self.locked();
        groups.rows.keys().map(|(group, _)| group.clone()).collect()
    }

    /// From now on the table updates rows whatever has become of them: what every store does to which a version is
    /// not a condition.
    pub fn ignore_versions(&self) {
        self.locked().ignores_versions = true;
    }

    /// Writes that broke an invariant (I5, I6, I7, I17), in words.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.locked().violations.clone()
    }

    /// The worker's way to the rows of one group.
    #[must_use]
    pub fn over(self: &Arc<Self>, group: &str, wire: &Wire) -> WiredRows {
        WiredRows {
            table: Arc::clone(self),
            group: group.to_owned(),
            wire: wire.clone(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap()
    }

    fn write(&self, group: &str, changes: &[Change]) -> Outcome {
        let mut groups = self.locked();
        let version = |id: &LeaseId| {
            let row = groups.rows.get(&(group.to_owned(), id.clone()));
            row.map(|row| row.version)
        };
        let holds = changes.iter().all(|change| match change {
            Change::Create(id, _) => version(id).is_none(),
            Change::Update(id, ..) if groups.ignores_versions => version(id).is_some(),
            Change::Update(id, seen, _) | Change::Delete(id, seen) => version(id) == Some(*seen),
        });
        if !holds {
            return Outcome::Conflict;
        }
        let apply = changes.iter().map(|change| groups.apply(group, change));
        let versions = apply.collect();
        groups.check_lineage(group, changes);
        Outcome::Written(versions)
    }
}

impl Groups {
    fn apply(&mut self, group: &str, change: &Change) -> Option<i64> {
        let (id, lease) = match change {
            Change::Create(id, lease) | Change::Update(id, _, lease) => (id.clone(), lease.clone()),
            Change::Delete(id, _) => {
                self.rows.remove(&(group.to_owned(), id.clone()));
                return None;
            }
        };
        let place = (group.to_owned(), id.clone());
        if let Some(before) = self.rows.get(&place)
            && let Some(broken) = broken_step(&before.lease, &lease)
        {
            self.violations
                .push(format!("{broken}: {:?} -> {lease:?}", before.lease));
        }
        if let Some(owner) = &lease.owner {
            let grant = format!("{:?}", owner.grant);
            let known = self.grants.entry(place.clone()).or_default();
            let had = known.entry(lease.epoch.get()).or_insert(grant.clone());
            if *had != grant {
                self.violations
                    .push(format!("I17: two owners in one epoch of {id}: {lease:?}"));
            }
        }
        self.versions += 1;
        let version = self.versions;
        self.rows.insert(place, Row { id, lease, version });
        Some(version)
    }

    /// I6 and I7.
    fn check_lineage(&mut self, group: &str, changes: &[Change]) {
        let row = |id: &LeaseId| self.rows.get(&(group.to_owned(), id.clone()));
        let mut broken = Vec::new();
        for change in changes {
            let (Change::Create(id, _) | Change::Update(id, ..)) = change else {
                continue;
            };
            let Some(Row { lease, .. }) = row(id) else {
                continue;
            };
            if lease.state == State::End {
                let missing = lease.children.iter().find(|child| row(child).is_none());
                if let Some(child) = missing {
                    broken.push(format!(
                        "I6: {id} has ended and its child {child} is no row"
                    ));
                }
            }
            if lease.owner.is_some() {
                let ended = |id: &LeaseId| row(id).is_some_and(|it| it.lease.state == State::End);
                if let Some(parent) = lease.parents.iter().find(|parent| !ended(parent)) {
                    broken.push(format!(
                        "I7: {id} is read before its parent {parent} has ended"
                    ));
                }
            }
        }
        self.violations.extend(broken);
    }
}

/// What no write may ever do to a row.
fn broken_step(before: &Lease, after: &Lease) -> Option<&'static str> {
    let gained = after.epoch.get().checked_sub(before.epoch.get());
    let old: BTreeSet<_> = before.children.iter().collect();
    let new: BTreeSet<_> = after.children.iter().collect();
    let was_end = before.state == State::End;
    [
        (after.position < before.position, "I5: a position goes back"),
        (
            gained.is_none_or(|it| it > 1),
            "I17: an epoch goes back or jumps",
        ),
        (
            after.position != before.position && before.owner.is_none(),
            "I5: progress of nobody's",
        ),
        (
            was_end && (after.state != State::End || after.position != Position::End),
            "I6: an end is undone",
        ),
        (!old.is_subset(&new), "I6: a child is forgotten"),
    ]
    .into_iter()
    .find_map(|(is_broken, name)| is_broken.then_some(name))
}

/// A worker's way to the rows of one group.
#[derive(Clone, Debug)]
pub struct WiredRows {
    table: Arc<RowTable>,
    group: String,
    wire: Wire,
}

/// Rows on one page: few, so that paging happens.
const PAGE: usize = 20;

#[async_trait]
impl Rows for WiredRows {
    async fn get(&self, id: &LeaseId) -> Result<Option<Row>, kv::Error> {
        let place = (self.group.clone(), id.clone());
        let answer = async { self.table.locked().rows.get(&place).cloned() };
        let read = self.wire.read("GetItem", id.as_str(), answer).await;
        read.map_err(|failure| failed(&self.group, &failure))
    }

    async fn page(&self, after: Option<&LeaseId>) -> Result<Vec<Row>, kv::Error> {
        let answer = async {
            let rows = self.table.rows(&self.group).into_iter();
            let behind = rows.filter(|row| after.is_none_or(|after| row.id > *after));
            behind.take(PAGE).collect()
        };
        let read = self.wire.read("Query", &self.group, answer).await;
        read.map_err(|failure| failed(&self.group, &failure))
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Outcome, kv::Error> {
        let names = changes.iter().map(|change| match change {
            Change::Create(id, _) | Change::Update(id, ..) | Change::Delete(id, _) => id.as_str(),
        });
        let about = names.collect::<Vec<_>>().join(" ");
        let (table, group) = (Arc::clone(&self.table), self.group.clone());
        let effect = move || table.write(&group, &changes);
        let written = self.wire.write("write rows", about, effect).await;
        written.map_err(|failure| failed(&self.group, &failure))
    }
}

/// The one error of kv's that is transient and can be made by hand.
fn failed(group: &str, failure: &Failure) -> kv::Error {
    kv::Error::Contended {
        key: kv::RecordKey {
            table: "simulated".into(),
            partition: group.into(),
            name: failure.to_string(),
        },
    }
}
