//! Who compares a live replica with its source at any moment, while both change and everybody else dies: nothing may ever look as if
//! it had gone wrong.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::item_reader::ItemReader;
use highwater_domain::replica::Phase;
use highwater_steps::deps::Unobserved;
use highwater_steps::replica::recheck::{Found, Recheck, RecheckOptions, Repairing};
use highwater_testkit::simulation::Wired;
use tokio::time::sleep;

use super::evidence::key_json;
use super::replica_processes::Process;
use super::world::Worker;

impl Process {
    /// One life of a process that looks at every key there ever was, again and again.
    pub async fn check(self, worker: Worker) {
        let mut random = fastrand::Rng::with_seed(worker.seed);
        let deps = self.of.deps(&worker);
        let source: Arc<dyn ItemReader> = Arc::new(Wired::new(&self.of.world.table, &worker.wire));
        loop {
            sleep(Duration::from_millis(random.u64(1_000..60_000))).await;
            let Some(record) = self.of.watched.record() else {
                continue;
            };
            if record.phase != Phase::Live {
                continue;
            }
            let access = (&record).into();
            let Ok(target) = deps.targets.open(&access).await else {
                continue;
            };
            let recheck = Recheck {
                deps: &deps,
                record: &record,
                source: source.clone(),
                target: &target,
                options: RecheckOptions {
                    patience: Duration::from_secs(random.u64(30..1_200)),
                    rounds: random.u32(1..5),
                    repair: Repairing::Never,
                    salt: random.u128(..),
                },
                observer: Arc::new(Unobserved),
            };
            let keys = self.of.world.table.histories().into_keys();
            let keys = keys.map(|key| String::from_utf8(key_json(&key).to_vec()).unwrap());
            let checked = recheck.run(keys.collect()).await;
            let name = &worker.name;
            worker.world.trace.note(|| match &checked {
                Ok(checked) => format!(
                    "{name} has looked at {} keys, until {:?}",
                    checked.found.len(),
                    checked.waited_for
                ),
                Err(error) => format!("{name} fails: {error}"),
            });
            let Ok(checked) = checked else { continue };
            for (key, found) in checked.found {
                match found {
                    Found::Cleared => self.of.watched.cleared(),
                    Found::Undecided(_) => {}
                    Found::Diverged(it) => self
                        .of
                        .watched
                        .broken(format!("CHECK: {key} is said to have gone wrong: {it:?}")),
                }
            }
        }
    }
}
