//! Who holds what, and which one lease should move to whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::{LeaseId, Row, State};

/// The leases of a group by worker, as one listing showed them.
///
/// Add the rows page by page. A worker counts as active while it owns a lease; whether it still lives shows as soon as its
/// leases have been silent for the lease time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Each active worker's leases, in order.
    pub workers: BTreeMap<String, BTreeSet<LeaseId>>,
    /// Leases that anybody may take now.
    pub unassigned: BTreeSet<LeaseId>,
    /// Leases whose parents are not finished, with those parents.
    pub waiting: BTreeMap<LeaseId, Vec<LeaseId>>,
    /// Leases that somebody asked for, and who.
    pub claims: BTreeMap<LeaseId, String>,
    /// Finished leases.
    pub ended: BTreeSet<LeaseId>,
}

/// One lease that should change hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The lease to claim.
    pub lease: LeaseId,
    /// Its owner.
    pub from: String,
}

impl Workload {
    /// A workload without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one row.
    pub fn add(&mut self, row: &Row) {
        let id = row.id.clone();
        match (&row.lease.owner, row.lease.state) {
            (_, State::End) => {
                self.ended.insert(id);
            }
            (Some(owner), _) => {
                if let Some(claim) = row.lease.current_claim() {
                    self.claims.insert(id.clone(), claim.by.worker.clone());
                }
                self.assign(owner.worker.clone(), id);
            }
            (None, State::Waiting) => {
                self.waiting.insert(id, row.lease.parents.clone());
            }
            (None, State::Ready) => {
                self.unassigned.insert(id);
            }
        }
    }

    fn assign(&mut self, worker: String, lease: LeaseId) {
        self.workers.entry(worker).or_default().insert(lease);
    }

    /// Takes note that a worker has just acquired a lease.
    pub(crate) fn acquired(&mut self, worker: &str, lease: &LeaseId) {
        for leases in self.workers.values_mut() {
            leases.remove(lease);
        }
        self.workers.retain(|_, leases| !leases.is_empty());
        self.unassigned.remove(lease);
        self.waiting.remove(lease);
        self.claims.remove(lease);
        self.assign(worker.to_owned(), lease.clone());
    }

    /// Whether a lease is there that could be worked on and has no owner.
    #[must_use]
    pub fn is_all_assigned(&self) -> bool {
        self.unassigned.is_empty() && self.free_to_begin().next().is_none()
    }

    /// Waiting leases all of whose parents this listing shows as finished.
    pub fn free_to_begin(&self) -> impl Iterator<Item = &LeaseId> {
        self.waiting
            .iter()
            .filter(|(_, parents)| parents.iter().all(|parent| self.ended.contains(parent)))
            .map(|(lease, _)| lease)
    }

    /// The one lease that `me`, who holds `holding` leases, should claim, or `None`.
    ///
    /// It comes from a worker that holds the most, and at least two more than `me`, so that no lease ever moves back and forth.
    /// Claims under way count as if they were served already. Nobody has more than one claim under way, and nobody
    /// claims while there are leases without an owner. Equal choices are decided by `seed`: workers with different seeds
    /// rarely ask for the same lease.
    #[must_use]
    pub fn rebalance(
        &self,
        me: &str,
        holding: usize,
        max_leases: usize,
        seed: u64,
    ) -> Option<Transfer> {
        let claims_of_mine = self.claims.values().any(|claimant| claimant == me);
        if holding >= max_leases || claims_of_mine || !self.is_all_assigned() {
            return None;
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let free = |leases: &BTreeSet<LeaseId>| -> Vec<LeaseId> {
            let unclaimed = leases
                .iter()
                .filter(|lease| !self.claims.contains_key(*lease));
            unclaimed.cloned().collect()
        };
        let mut fullest: Vec<(&String, Vec<LeaseId>)> = Vec::new();
        for (worker, leases) in self.workers.iter().filter(|(worker, _)| *worker != me) {
            let leases = free(leases);
            let most = fullest.first().map_or(0, |(_, leases)| leases.len());
            if leases.len() > most {
                fullest.clear();
            }
            if leases.len() >= most.max(holding.saturating_add(2)) {
                fullest.push((worker, leases));
            }
        }
        let (from, leases) = random.choice(fullest)?;
        Some(Transfer {
            lease: random.choice(leases)?,
            from: from.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lease::Claim;
    use crate::lease::samples::{fresh, held, id, owner};

    fn workload(rows: &[Row]) -> Workload {
        let mut workload = Workload::new();
        for row in rows {
            workload.add(row);
        }
        workload
    }

    fn holding(counts: &[usize]) -> Workload {
        let rows: Vec<Row> = counts
            .iter()
            .enumerate()
            .flat_map(|(worker, count)| {
                (0..*count).map(move |n| held(&format!("s{worker}-{n}"), &format!("w{worker}")))
            })
            .collect();
        workload(&rows)
    }

    #[test]
    fn kc_08_eleven_shards_over_five_workers_one_ended() {
        let mut rows: Vec<Row> = (0..10)
            .map(|n| held(&format!("shard-{n:02}"), &format!("worker-{}", n % 5)))
            .collect();
        let mut ended = held("shard-10", "worker-0");
        ended.lease.state = State::End;
        rows.push(ended);
        let load = workload(&rows);
        assert_eq!(load.workers.len(), 5);
        assert!(load.workers.values().all(|leases| leases.len() == 2));
        assert_eq!(load.ended, [id("shard-10")].into());
        assert!(load.is_all_assigned());
        // Balanced: nobody has anything to claim.
        for worker in load.workers.keys() {
            assert_eq!(load.rebalance(worker, 2, usize::MAX, 1), None);
        }

        rows.push(fresh("shard-11"));
        let load = workload(&rows);
        assert_eq!(load.unassigned, [id("shard-11")].into());
        assert!(!load.is_all_assigned());
        assert_eq!(
            load.rebalance("newcomer", 0, usize::MAX, 1),
            None,
            "take what is free first"
        );
    }

    #[test]
    fn a_waiting_lease_is_free_once_the_listing_shows_its_parents_ended() {
        let mut child = fresh("c");
        child.lease.state = State::Waiting;
        child.lease.parents = vec![id("p"), id("q")];
        let mut ended = fresh("p");
        ended.lease.state = State::End;
        let mut load = workload(&[child, ended.clone()]);
        assert_eq!(load.free_to_begin().count(), 0);
        assert!(load.is_all_assigned());
        ended.id = id("q");
        load.add(&ended);
        assert_eq!(load.free_to_begin().collect::<Vec<_>>(), [&id("c")]);
        assert!(!load.is_all_assigned());
    }

    #[test]
    fn a_lease_moves_only_from_a_worker_with_two_more() {
        assert_eq!(holding(&[2, 1]).rebalance("w1", 1, 9, 7), None);
        assert_eq!(holding(&[2, 2]).rebalance("w1", 2, 9, 7), None);
        let transfer = holding(&[3, 1]).rebalance("w1", 1, 9, 7).unwrap();
        assert_eq!(transfer.from, "w0");
        let from_fullest = holding(&[3, 5, 4]).rebalance("me", 0, 9, 7).unwrap();
        assert_eq!(from_fullest.from, "w1");
        assert_eq!(
            holding(&[5]).rebalance("me", 3, 3, 7),
            None,
            "no more than the most"
        );
        assert_eq!(holding(&[]).rebalance("me", 0, 9, 7), None);
    }

    #[test]
    fn k3_one_claim_at_a_time_and_claims_under_way_count() {
        let claimed = |lease: &str, by: &str| {
            let mut row = held(lease, "w0");
            row.lease.claim = Some(Claim {
                by: owner(by),
                epoch: row.lease.epoch,
                beat: 0,
            });
            row
        };
        let load = workload(&[claimed("a", "b"), held("b", "w0"), held("c", "w0")]);
        assert_eq!(load.rebalance("b", 0, 9, 7), None, "b has asked already");
        let other = load.rebalance("c", 0, 9, 7).unwrap();
        assert_ne!(other.lease, id("a"));
        let load = workload(&[claimed("a", "b"), held("b", "w0")]);
        assert_eq!(
            load.rebalance("c", 0, 9, 7),
            None,
            "w0 is about to have one"
        );
    }

    #[test]
    fn the_choice_depends_on_the_seed_alone() {
        let load = holding(&[6, 6, 1]);
        let choices: BTreeSet<_> = (0..50)
            .map(|seed| {
                let choice = load.rebalance("w2", 1, 9, seed).unwrap();
                assert_eq!(load.rebalance("w2", 1, 9, seed), Some(choice.clone()));
                choice.lease
            })
            .collect();
        assert!(choices.len() > 6, "{choices:?}");
    }

    proptest! {
        /// Whoever comes, in whatever order, the group comes to rest, with no two workers more than one lease apart.
        #[test]
        fn any_group_comes_to_rest_in_balance(
            mut counts in prop::collection::vec(0_usize..20, 1..8),
            max_leases in 1_usize..25,
            seed: u64,
        ) {
            let total: usize = counts.iter().sum();
            let mut moves = 0;
            loop {
                let load = holding(&counts);
                let transfer = (0..counts.len()).find_map(|worker| {
                    let name = format!("w{worker}");
                    let transfer = load.rebalance(&name, counts[worker], max_leases, seed ^ moves);
                    transfer.map(|transfer| (worker, transfer))
                });
                let Some((to, transfer)) = transfer else { break };
                let from: usize = transfer.from[1..].parse().unwrap();
                prop_assert!(counts[from] >= counts[to] + 2);
                prop_assert!(counts[to] < max_leases);
                counts[from] -= 1;
                counts[to] += 1;
                moves += 1;
                prop_assert!(moves <= total as u64, "a lease moves back and forth");
            }
            let most = *counts.iter().max().unwrap();
            let least = *counts.iter().min().unwrap();
            prop_assert!(most <= least + 1 || least >= max_leases, "{:?}", counts);
        }
    }
}
