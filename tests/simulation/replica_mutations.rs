//! Replicas made wrongly on purpose: each mistake must be caught. As with the others the product's code is not touched, its ports
//! lie to it, or it is called as it should not be.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::{
    FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted, Verdict,
};
use highwater_domain::replica::{Phase, ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;

use super::replica_run::ReplicaPlan;
use super::replica_seeds::attempt;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaMutation {
    /// The replica is live as soon as it is loaded.
    QuiesceSkipped,
    /// The fence is looked at in one request, and item and fence are written in another.
    FenceInTwoSteps,
    /// Sequence numbers are compared across shards.
    ShardOmitted,
    /// A loader does not say that it is at work.
    LoaderNotRegistered,
    /// The log is applied while the snapshot is loaded.
    AppliedBeforeLive,
    /// An applier's position is written whatever the row has become.
    UnconditionalCursor,
}

/// A port that lies as a mutation wants.
#[derive(Debug)]
pub struct Wrong<P: ?Sized> {
    inner: Arc<P>,
    mutation: ReplicaMutation,
}

impl<P: ?Sized> Wrong<P> {
    pub fn new(inner: Arc<P>, mutation: ReplicaMutation) -> Self {
        Self { inner, mutation }
    }
}

/// The same writes with other orders.
fn reordered<'a>(
    writes: &'a [FencedWrite<'a>],
    orders: &'a [String],
) -> impl Iterator<Item = FencedWrite<'a>> {
    let pairs = writes.iter().zip(orders);
    pairs.map(|(write, order)| FencedWrite { order, ..*write })
}

/// The order of a record without its shard.
fn without_shard(order: &str) -> String {
    let mut parts = order.splitn(3, '-');
    let (generation, _, number) = (parts.next(), parts.next(), parts.next());
    format!(
        "{}-{:015}-{}",
        generation.unwrap_or_default(),
        0,
        number.unwrap_or_default()
    )
}

#[async_trait]
impl FencedWriter for Wrong<dyn FencedWriter> {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        match self.mutation {
            ReplicaMutation::ShardOmitted => {
                let orders: Vec<_> = writes.iter().map(|it| without_shard(it.order)).collect();
                let writes: Vec<_> = reordered(writes, &orders).collect();
                self.inner.transact(table, &writes).await
            }
            ReplicaMutation::FenceInTwoSteps => self.in_two_steps(table, writes).await,
            _ => self.inner.transact(table, writes).await,
        }
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        self.inner.orders(table, writes).await
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        self.inner.repair(table, repair).await
    }
}

impl Wrong<dyn FencedWriter> {
    /// The fence is looked at first, and the item written after that, whatever the fence has become: the account ignores it.
    async fn in_two_steps(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        let orders = self.inner.orders(table, writes).await?;
        let verdict = |(order, write): (&Option<String>, &FencedWrite<'_>)| match order {
            Some(order) if order.as_str() >= write.order => Verdict::Stale,
            _ => Verdict::Clear,
        };
        let verdicts: Vec<Verdict> = orders.iter().zip(writes).map(verdict).collect();
        if verdicts.contains(&Verdict::Stale) {
            return Ok(Transacted::Canceled(verdicts));
        }
        self.inner.transact(table, writes).await
    }
}

#[async_trait]
impl ReplicaControl for Wrong<dyn ReplicaControl> {
    async fn create_replica(&self, record: &ReplicaRecord) -> Result<Cas, Failure> {
        self.inner.create_replica(record).await
    }

    async fn replica(
        &self,
        source_arn: &str,
        id: &ReplicaId,
    ) -> Result<Option<Versioned<ReplicaRecord>>, Failure> {
        let mut known = self.inner.replica(source_arn, id).await?;
        if let Some(known) = &mut known
            && self.mutation == ReplicaMutation::QuiesceSkipped
            && known.value.phase == Phase::Quiesce
        {
            known.value.attempts.clear();
        }
        Ok(known)
    }

    async fn update_replica(&self, seen: i64, record: &ReplicaRecord) -> Result<Cas, Failure> {
        let mut record = record.clone();
        if self.mutation == ReplicaMutation::LoaderNotRegistered {
            record.attempts.clear();
        }
        self.inner.update_replica(seen, &record).await
    }

    async fn replicas(&self, source_arn: &str) -> Result<Vec<ReplicaRecord>, Failure> {
        let mut all = self.inner.replicas(source_arn).await?;
        for record in &mut all {
            let is_early = matches!(record.phase, Phase::Load | Phase::Quiesce);
            if is_early && self.mutation == ReplicaMutation::AppliedBeforeLive {
                record.phase = Phase::Live;
            }
        }
        Ok(all)
    }

    async fn forget_replica(&self, source_arn: &str, id: &ReplicaId) -> Result<(), Failure> {
        self.inner.forget_replica(source_arn, id).await
    }
}

/// Runs seeds until the mutation breaks an invariant in one that keeps it otherwise.
///
/// `first` is where to begin: a seed that is known to show it, or one shortly before.
fn caught(mutation: ReplicaMutation, first: u64, by: &[&str], prepare: impl Fn(&mut ReplicaPlan)) {
    let mut others: BTreeMap<String, u32> = BTreeMap::new();
    for seed in (first..1_500).chain(0..first) {
        let mut unchanged = ReplicaPlan::of(seed);
        unchanged.plan.disaster = None;
        prepare(&mut unchanged);
        let changed = ReplicaPlan {
            mutation: Some(mutation),
            ..unchanged
        };
        let Err(failure) = attempt(changed, false).result else {
            continue;
        };
        if !by.iter().any(|invariant| failure.starts_with(invariant)) {
            let kind: String = failure.chars().take(60).collect();
            println!("seed {seed}: {kind}");
            *others.entry(kind).or_default() += 1;
            continue;
        }
        match attempt(unchanged, false).result {
            Ok(_) => return println!("{mutation:?} is caught by seed {seed}: {failure}"),
            Err(own) => *others.entry(own).or_default() += 1,
        }
    }
    panic!("1,500 seeds do not catch {mutation:?}; what failed otherwise: {others:#?}");
}

/// Loaders whose requests are lost and late, and a table that is busy meanwhile.
fn late_loads(of: &mut ReplicaPlan) {
    of.plan.writes = 120;
    of.plan.keys = 20;
    of.plan.pause_ms = 2_000;
    of.plan.trouble.per_mille = 120;
    of.plan.trouble.late_ms = 290_000;
    of.plan.life_ms = 20_000;
}

#[test]
fn skipping_quiesce_is_caught() {
    caught(
        ReplicaMutation::QuiesceSkipped,
        43,
        &["I12", "I11"],
        late_loads,
    );
}

#[test]
fn a_loader_that_is_not_registered_is_caught() {
    caught(
        ReplicaMutation::LoaderNotRegistered,
        43,
        &["I12", "I11"],
        late_loads,
    );
}

#[test]
fn applying_before_the_replica_is_live_is_caught() {
    caught(
        ReplicaMutation::AppliedBeforeLive,
        14,
        &["I11", "I13", "EQUAL"],
        late_loads,
    );
}

#[test]
fn a_fence_in_two_steps_is_caught() {
    caught(
        ReplicaMutation::FenceInTwoSteps,
        0,
        &["I10", "I11", "I13", "EQUAL"],
        |of| {
            of.plan.writes = 150;
            of.plan.keys = 3;
            of.plan.pause_ms = 1_000;
            of.plan.trouble.per_mille = 120;
            of.plan.trouble.late_ms = 60_000;
            of.plan.nasty.empty_percent = 0;
            of.echoes = 3;
        },
    );
}

#[test]
fn comparing_numbers_across_shards_is_caught() {
    caught(
        ReplicaMutation::ShardOmitted,
        1,
        &["I13", "I20", "EQUAL"],
        |of| {
            of.plan.writes = 150;
            of.plan.keys = 4;
            of.plan.pause_ms = 3_000;
            of.plan.nasty.empty_percent = 0;
            of.plan.upheavals = 8;
        },
    );
}

#[test]
fn an_unconditional_cursor_is_caught() {
    caught(
        ReplicaMutation::UnconditionalCursor,
        15,
        &["I5", "I6", "I7", "I17"],
        |of| {
            of.plan.writes = 150;
            of.plan.pause_ms = 3_000;
            of.plan.trouble.per_mille = 120;
            of.plan.trouble.late_ms = 60_000;
            of.plan.life_ms = 60_000;
            of.appliers = 3;
        },
    );
}
