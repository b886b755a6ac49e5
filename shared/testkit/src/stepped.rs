//! Drives several runs call by call, through any interleaving that a test chooses.
//!
//! Between two calls to its ports a run touches nothing that others see. Deciding whose call is
//! next therefore decides everything, and trying every order of the first calls tries every race.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use highwater_domain::failure::Failure;
use tokio::sync::{Semaphore, watch};

use crate::intercepted::{Call, Interceptor, Ticket};

/// A gate: each call to the ports that share it waits for a permit.
#[derive(Debug)]
pub struct Stepped {
    permits: Semaphore,
    completed: watch::Sender<u64>,
}

impl Default for Stepped {
    fn default() -> Self {
        Self::new()
    }
}

impl Stepped {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            permits: Semaphore::new(0),
            completed: watch::Sender::new(0),
        }
    }

    /// Lets one call through, the one that waits longest or the next to come.
    pub fn permit(&self) {
        self.permits.add_permits(1);
    }

    /// Lets every call through from now on.
    pub fn open(&self) {
        self.permits.close();
    }

    /// How many calls are completed.
    #[must_use]
    pub fn completed(&self) -> u64 {
        *self.completed.borrow()
    }

    /// Waits until so many calls are completed.
    pub async fn until_completed(&self, calls: u64) {
        let mut completed = self.completed.subscribe();
        // The sender is in self: it cannot go away while this waits.
        let _ = completed.wait_for(|done| *done >= calls).await;
    }
}

#[async_trait]
impl Interceptor for Stepped {
    async fn before(&self, _call: &Call) -> Result<Ticket, Failure> {
        // A closed semaphore is an open gate.
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
        Ok(0)
    }

    async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
        self.completed.send_modify(|calls| *calls += 1);
        Ok(())
    }
}

/// One run and the gate that its ports go through.
pub struct Run<'a, T> {
    /// The gate of this run alone.
    pub gate: Arc<Stepped>,
    /// What it does.
    pub work: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
}

impl<'a, T> Run<'a, T> {
    /// `work`, whose calls wait at `gate`.
    pub fn new(gate: &Arc<Stepped>, work: impl Future<Output = T> + Send + 'a) -> Self {
        Self {
            gate: Arc::clone(gate),
            work: Box::pin(work),
        }
    }
}

/// Runs all at once, their calls in the order of `schedule`: at each turn the run of that index makes
/// one call, to its end, while the others wait. After the schedule everything runs freely.
///
/// Turns of a run that has ended are skipped. The answers come in the order of the runs.
pub async fn interleave<T>(runs: Vec<Run<'_, T>>, schedule: &[usize]) -> Vec<T> {
    let gates: Vec<Arc<Stepped>> = runs.iter().map(|run| Arc::clone(&run.gate)).collect();
    let mut answers: Vec<Option<T>> = runs.iter().map(|_| None).collect();
    let mut running: FuturesUnordered<_> = runs
        .into_iter()
        .enumerate()
        .map(|(index, run)| run.work.map(move |answer| (index, answer)))
        .collect();
    for &turn in schedule {
        if answers[turn].is_some() {
            continue;
        }
        let gate = &gates[turn];
        let target = gate.completed() + 1;
        gate.permit();
        loop {
            tokio::select! {
                biased;
                () = gate.until_completed(target) => break,
                Some((index, answer)) = running.next() => {
                    answers[index] = Some(answer);
                    if index == turn {
                        break;
                    }
                }
            }
        }
    }
    for gate in &gates {
        gate.open();
    }
    while let Some((index, answer)) = running.next().await {
        answers[index] = Some(answer);
    }
    answers
        .into_iter()
        .map(|answer| answer.expect("every run has ended"))
        .collect()
}

/// Every order of the first `turns` calls of `runs` runs: `runs` to the power of `turns` schedules.
pub fn schedules(runs: usize, turns: u32) -> impl Iterator<Item = Vec<usize>> {
    (0..runs.pow(turns)).map(move |mut number| {
        (0..turns)
            .map(|_| {
                let turn = number % runs;
                number /= runs;
                turn
            })
            .collect()
    })
}

/// A schedule of so many turns drawn from a seed.
#[must_use]
pub fn random_schedule(seed: u64, runs: usize, turns: usize) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..turns).map(|_| random.usize(..runs)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use highwater_domain::object_store::{Creation, ObjectStore};

    use super::*;
    use crate::fake_store::{FakeStore, object};
    use crate::intercepted::Intercepted;

    /// Reads, then creates under the name it found free: a check-then-act race on purpose.
    async fn race(store: &dyn ObjectStore, who: &str) -> bool {
        let free = store.read("claim").await.unwrap().is_none();
        free && store.create(object("claim", who)).await.unwrap() == Creation::Created
    }

    #[tokio::test]
    async fn every_interleaving_of_a_race_is_driven() {
        let mut outcomes = HashSet::new();
        for schedule in schedules(2, 4) {
            let store = Arc::new(FakeStore::new());
            let gates = [Arc::new(Stepped::new()), Arc::new(Stepped::new())];
            let ports = [0, 1].map(|n| Intercepted::new(&store, &gates[n]));
            let runs = vec![
                Run::new(&gates[0], race(&ports[0], "zero")),
                Run::new(&gates[1], race(&ports[1], "one")),
            ];
            let won = interleave(runs, &schedule).await;
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{schedule:?}");
            // Both read before either creates: the late creator must have asked, and lost.
            let late_loser = gates.iter().all(|gate| gate.completed() == 2);
            outcomes.insert((won, late_loser));
        }
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    }

    #[test]
    fn schedules_are_all_different() {
        let all: HashSet<Vec<usize>> = schedules(3, 4).collect();
        assert_eq!(all.len(), 81);
        assert_eq!(random_schedule(7, 2, 20), random_schedule(7, 2, 20));
    }
}
