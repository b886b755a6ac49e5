//! The target of a replica and the replicas' records, with every write checked against the history of the source when it is made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::{
    FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted,
};
use highwater_domain::incident::IncidentKind;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{Phase, ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};
use highwater_steps::replica::ReplicaObserver;
use highwater_steps::replica::sink::Applied;
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::simulation::Version;

use super::bucket_reader;
use super::replica_reading::{Found, is_same};
use super::world::{World, log_place};

/// The services of one replica, which notice every broken invariant.
#[derive(Debug)]
pub struct Watched {
    pub(super) world: World,
    pub(super) account: Arc<FakeAdmin>,
    /// Whether pages are empty that are no tip.
    doubtful: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the scan found, once the snapshot is sealed.
    scanned: BTreeMap<String, Bytes>,
    violations: Vec<String>,
    /// The first equality that was said too early because the log had assumed too much.
    assumed_wrongly: Option<String>,
    applied: Applied,
    loads: u64,
    /// How often the replica was said to be equal to its source.
    equalities: u64,
    /// How often a key was found right by a comparison.
    cleared: u64,
}

/// What was seen of a replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub applied: Applied,
    pub loads: u64,
    pub equalities: u64,
    pub cleared: u64,
}

fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a service that answers at once")
}

impl Watched {
    pub fn new(world: &World, account: &Arc<FakeAdmin>, doubtful: bool) -> Self {
        Self {
            doubtful,
            world: world.clone(),
            account: Arc::clone(account),
            state: Mutex::default(),
        }
    }

    /// Says what the scan found.
    pub fn set_scanned(&self, items: BTreeMap<String, Bytes>) {
        self.state.lock().unwrap().scanned = items;
    }

    /// The first invariant that was broken.
    pub fn violation(&self) -> Option<String> {
        self.state.lock().unwrap().violations.first().cloned()
    }

    pub fn seen(&self) -> Seen {
        let state = self.state.lock().unwrap();
        Seen {
            applied: state.applied,
            loads: state.loads,
            equalities: state.equalities,
            cleared: state.cleared,
        }
    }

    pub fn broken(&self, what: String) {
        self.world.trace.note(|| format!("BROKEN {what}"));
        self.state.lock().unwrap().violations.push(what);
    }

    /// A comparison has found a key right.
    pub fn cleared(&self) {
        self.state.lock().unwrap().cleared += 1;
    }

    /// The replica's record, if there is one.
    pub fn record(&self) -> Option<ReplicaRecord> {
        let arn = self.world.table.arn();
        now(self.world.control.replicas(&arn)).unwrap().pop()
    }

    fn phase(&self) -> Option<Phase> {
        self.record().map(|record| record.phase)
    }

    /// I11 for one item.
    fn check_item(&self, key: &str, versions: &[Version]) {
        let Some(Found { order, item }) = self.found(key) else {
            return;
        };
        let expected = match &order {
            Some(order) => match Self::named(versions, order) {
                Some(place) => versions[place].item.clone(),
                None => {
                    return self.broken(format!(
                        "I11: the fence of {key} names {order}, which never was"
                    ));
                }
            },
            None => self.state.lock().unwrap().scanned.get(key).cloned(),
        };
        if !is_same(item.as_ref(), expected.as_ref()) {
            self.broken(format!(
                "I11: {key} is {item:?}, and {expected:?} by its fence {order:?}"
            ));
        }
    }

    fn check_all(&self) {
        for (key, versions) in self.world.table.histories() {
            self.check_item(&key, &versions);
        }
    }

    /// As much of what a replica says as does not rest on silence. An empty page is no tip: where there are such, the log's mark of the
    /// grade `assumed` may be wrong, if it says so afterwards; and with it everything that is as good as the log.
    fn certain(&self, at: UnixSeconds) -> UnixSeconds {
        if !self.doubtful {
            return at;
        }
        let marks = self.world.marks.history();
        let known = marks
            .iter()
            .map(|(_, _, mark)| mark.mark.proven.max(mark.mark.rolled));
        at.min(known.max().flatten().unwrap_or(UnixSeconds(0)))
    }

    /// What was said too early by a log that assumed, and that the log has never told to be late.
    pub fn untold(&self) -> Option<String> {
        let said = self.state.lock().unwrap().assumed_wrongly.clone()?;
        let logs = bucket_reader::read(&log_place(), &self.world.bucket.objects()).unwrap();
        let told = logs
            .iter()
            .flat_map(|log| &log.incidents)
            .any(|(_, incident)| {
                matches!(
                    incident.kind,
                    IncidentKind::LateRecord | IncidentKind::LateChild | IncidentKind::LateRoot
                )
            });
        (!told).then_some(said)
    }

    /// That the replica holds every change up to the second that it says.
    fn check_equal(&self, at: UnixSeconds, record: &ReplicaRecord) {
        self.state.lock().unwrap().equalities += 1;
        if let Some(behind) = self.behind(self.certain(at), record) {
            self.broken(format!("EQUAL: said to be equal at {at}, and {behind}"));
        } else if let Some(behind) = self.behind(at, record) {
            let mut state = self.state.lock().unwrap();
            let said = || format!("EQUAL: assumed to be equal at {at}, and {behind}");
            state.assumed_wrongly.get_or_insert_with(said);
        }
    }

    /// A key that lacks a change up to a second, if there is one.
    fn behind(&self, at: UnixSeconds, record: &ReplicaRecord) -> Option<String> {
        for (key, versions) in self.world.table.histories() {
            let is_due = |version: &Version| {
                let told = version.record.as_ref();
                told.is_some_and(|it| it.generation == record.generation.0 && it.event_time <= at)
            };
            let Some(due) = versions.iter().rposition(is_due) else {
                continue;
            };
            let Found { order, item } = self.found(&key)?;
            let holds = match &order {
                Some(order) => Self::named(&versions, order).is_some_and(|place| place >= due),
                None => versions[due..]
                    .iter()
                    .any(|version| is_same(version.item.as_ref(), item.as_ref())),
            };
            if !holds {
                let due = &versions[due];
                return Some(format!("{key} is {item:?} at {order:?}, behind {due:?}"));
            }
        }
        None
    }

    /// A record that replaces another.
    fn check_record(&self, before: &ReplicaRecord, after: &ReplicaRecord) {
        let is_step = before.phase == after.phase
            || matches!(
                (before.phase, after.phase),
                (Phase::Load, Phase::Quiesce)
                    | (Phase::Quiesce, Phase::Live)
                    | (Phase::Live, Phase::Promoted)
                    | (Phase::Load | Phase::Quiesce | Phase::Live, Phase::Failed)
            );
        if !is_step {
            self.broken(format!("PHASE: {} after {}", after.phase, before.phase));
        }
        if after.applied < before.applied {
            self.broken(format!(
                "EQUAL: goes back from {:?} to {:?}",
                before.applied, after.applied
            ));
        }
        if after.phase == Phase::Live && before.phase != Phase::Live {
            self.check_all();
        }
        // What was said and is said again stands as it was said: a log that assumed too much has put a late record on record since.
        if let Some(at) = after.equal_at()
            && after.phase == Phase::Live
            && before.equal_at() != Some(at)
        {
            self.check_equal(at, after);
        }
    }
}

#[async_trait]
impl TableWriter for Watched {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        let answer = self.account.write_batch(table, ops).await?;
        self.state.lock().unwrap().loads += 1;
        let phase = self.phase();
        if matches!(phase, Some(Phase::Live | Phase::Promoted)) {
            self.broken(format!("I12: a loader wrote in phase {phase:?}"));
        }
        Ok(answer)
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let answer = self
            .account
            .put_if_absent(table, partition_key, item, want_existing)
            .await?;
        self.state.lock().unwrap().loads += 1;
        let phase = self.phase();
        if matches!(phase, Some(Phase::Live | Phase::Promoted)) {
            self.broken(format!("I12: a loader wrote in phase {phase:?}"));
        }
        Ok(answer)
    }
}

#[async_trait]
impl FencedWriter for Watched {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        let before = self.account.orders(table, writes).await?;
        let answer = self.account.transact(table, writes).await?;
        let after = self.account.orders(table, writes).await?;
        for (before, after) in before.iter().zip(&after) {
            if after < before {
                self.broken(format!("I10: a fence went from {before:?} to {after:?}"));
            }
        }
        if self.phase() == Some(Phase::Live) {
            self.check_all();
        }
        Ok(answer)
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        self.account.orders(table, writes).await
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        self.account.repair(table, repair).await
    }
}

#[async_trait]
impl ReplicaControl for Watched {
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure> {
        self.world.control.create_replica(record).await
    }

    async fn replica(
        &self,
        source_arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure> {
        self.world.control.replica(source_arn, id).await
    }

    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure> {
        let before = self.record();
        let cas = self.world.control.update_replica(seen, record).await?;
        if let (Cas::Applied(_), Some(before)) = (cas, before) {
            self.check_record(&before, record);
        }
        Ok(cas)
    }

    async fn replicas(&self, source_arn: &str) -> Result<Vec<ReplicaRecord>, Failure> {
        self.world.control.replicas(source_arn).await
    }

    async fn forget_replica(&self, source_arn: &str, id: &ReplicaId) -> Result<(), Failure> {
        self.world.control.forget_replica(source_arn, id).await
    }
}

/// Adds up what appliers say of themselves.
#[derive(Debug)]
pub struct Tally(pub Arc<Watched>);

impl ReplicaObserver for Tally {
    fn applied(&self, _: &ReplicaId, applied: &Applied) {
        if !applied.is_balanced() {
            self.0.broken(format!("SUM: {applied:?}"));
        }
        self.0.state.lock().unwrap().applied.add(applied);
    }

    fn refused(&self, _: &ReplicaId, reason: &str) {
        self.0.broken(format!(
            "SUM: the target refused a record of its source: {reason}"
        ));
    }
}
