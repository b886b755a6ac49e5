//! Who makes and feeds a replica: drivers that plan and load it, as the state machine does, with loaders that die and are doubled;
//! appliers of the log; and echoes, which apply what they have seen long ago.

use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::engine_choice::EngineChoice;
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::log_facts::ShardFacts;
use highwater_domain::log_place::LogPlace;
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::restore::RestoreId;
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::snapshot::Status;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::deps::{StopFlag, Unobserved};
use highwater_steps::error::{ErrorName, StepError};
use highwater_steps::finalize_restore::{self, FinalizeRestoreInput};
use highwater_steps::load_part::{self, LoadInput};
use highwater_steps::plan_restore::{self, PlanRestoreInput};
use highwater_steps::replica::refused::RefusedPlace;
use highwater_steps::replica::sink::ReplicaWriter;
use highwater_steps::replica::{apply, place_of, plan};
use highwater_steps::restore_deps::RestoreDeps;
use highwater_steps::restore_request::RestoreRequest;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bucket_reader;
use super::plan::Plan;
use super::processes;
use super::quiet::Quiet;
use super::replica_world::ReplicaWorld;
use super::world::{DESTINATION, Worker, log_place};

/// What a process of a replica needs.
#[derive(Clone, Debug)]
pub struct Process {
    pub of: ReplicaWorld,
    pub plan: Plan,
    pub quiet: Quiet,
    /// The snapshot that is loaded.
    pub snapshot: String,
}

/// What becomes of one task.
enum Failed {
    /// It was killed, or failed in passing: it is tried again.
    Passing,
    ForGood(StepError),
}

/// What the state machine tries again.
fn is_passing(error: &StepError) -> bool {
    matches!(
        error.name(),
        ErrorName::Throttled | ErrorName::TransientAws | ErrorName::LeaseLost
    )
}

impl Process {
    /// Starts a process that lives `life` after life.
    pub fn keep_running<F, L>(
        &self,
        services: &mut JoinSet<()>,
        name: String,
        random: fastrand::Rng,
        life: L,
    ) where
        F: Future<Output = ()> + Send + 'static,
        L: Fn(Self, Worker) -> F + Send + 'static,
    {
        let process = self.clone();
        let life = move |worker| life(process.clone(), worker);
        let (world, quiet) = (self.of.world.clone(), self.quiet.clone());
        let running = processes::keep_running(world, self.plan, quiet, name, random, life);
        services.spawn(running);
    }

    /// One life of a process that makes the replica: it plans, loads, and takes it to where it is live.
    pub async fn drive(self, worker: Worker) {
        let mut random = fastrand::Rng::with_seed(worker.seed);
        sleep(Duration::from_millis(random.u64(..3_000))).await;
        let ended = self.to_live(&worker, &mut random).await;
        let name = &worker.name;
        worker.world.trace.note(|| match ended {
            Ok(phase) => format!("{name} ends: {phase}"),
            Err(error) => format!("{name} fails: {error}"),
        });
    }

    async fn to_live(
        &self,
        worker: &Worker,
        random: &mut fastrand::Rng,
    ) -> Result<Phase, StepError> {
        let deps = self.of.deps(worker);
        let now = deps.live.clock.now();
        let load: RestoreId = SnapshotId::new(now, random.u32(..)).as_str().parse()?;
        let request = self.of.request(&self.snapshot);
        let planned = plan::plan(&deps, &request, load, now).await?;
        let mut record = plan::begin(&deps, &planned).await?;
        if record.phase == Phase::Load {
            let request = RestoreRequest {
                engine: EngineChoice::Write,
                concurrency: Some(random.u32(1..4)),
                restore_id: Some(record.load.clone()),
                ..plan::load_request(&record, planned.makes_table)
            };
            self.load(worker, &record, request, random).await?;
            record = plan::note_target(&deps, &record).await?;
        }
        loop {
            let advanced = highwater_steps::replica::advance::run(&deps, record).await?;
            record = advanced.record;
            if matches!(record.phase, Phase::Live | Phase::Promoted | Phase::Failed) {
                return Ok(record.phase);
            }
            sleep(Duration::from_secs(random.u64(1..20))).await;
        }
    }

    /// The restore workflow: its lanes at once, each tried until it ends.
    async fn load(
        &self,
        worker: &Worker,
        record: &ReplicaRecord,
        request: RestoreRequest,
        random: &mut fastrand::Rng,
    ) -> Result<(), StepError> {
        let execution_id = format!("load-{}", record.load);
        let input = PlanRestoreInput {
            request,
            execution_id: execution_id.clone(),
            started_at: record.began_at.to_rfc3339(),
        };
        let planned = self
            .task(random, "plan-load", |deps, budget| {
                let input = input.clone();
                async move { plan_restore::run(&deps, &input, budget).await }
            })
            .await?;
        let mut lanes = Vec::new();
        for file in planned.files {
            let (process, load, mut random) = (self.clone(), record.load.clone(), random.fork());
            lanes.push(async move {
                let mut file = file;
                loop {
                    let output = process
                        .task(&mut random, "load", |deps, budget| {
                            let input = LoadInput {
                                restore_id: load.clone(),
                                file,
                            };
                            async move { load_part::run(&deps, &input, budget).await }
                        })
                        .await?;
                    if output.done {
                        return Ok::<(), StepError>(());
                    }
                    file = output.file;
                }
            });
        }
        futures::future::try_join_all(lanes).await?;
        let deps = self.of.loading(worker);
        loop {
            let input = FinalizeRestoreInput {
                restore_id: Some(record.load.clone()),
                execution_id: Some(execution_id.clone()),
                ..FinalizeRestoreInput::default()
            };
            let output = finalize_restore::run(&deps, &input, Budget::UNLIMITED).await?;
            if output.done {
                assert_eq!(output.status, Some(Status::Completed));
                return Ok(());
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// One state, tried until it ends; sometimes two sandboxes do it at once, of which one is not waited for.
    async fn task<T, F, W>(
        &self,
        random: &mut fastrand::Rng,
        name: &str,
        work: W,
    ) -> Result<T, StepError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StepError>> + Send + 'static,
        W: Fn(RestoreDeps, Budget) -> F,
    {
        loop {
            if !self.quiet.is_quiet() && random.u8(..4) == 0 {
                // A zombie: it goes on, whatever becomes of the other and of this process.
                tokio::spawn(self.sandbox(random, name, &work));
            }
            match self.sandbox(random, name, &work).await {
                Ok(output) => return Ok(output),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::Passing) => sleep(Duration::from_millis(random.u64(500..8_000))).await,
            }
        }
    }

    fn sandbox<T, F, W>(
        &self,
        random: &mut fastrand::Rng,
        name: &str,
        work: &W,
    ) -> impl Future<Output = Result<T, Failed>> + Send + 'static + use<T, F, W>
    where
        F: Future<Output = Result<T, StepError>> + Send + 'static,
        W: Fn(RestoreDeps, Budget) -> F,
    {
        let trouble = self.quiet.or(self.plan.trouble);
        let worker = self.of.world.worker(name, random.u64(..), trouble);
        let lasts_ms = random.u64(5_000..60_000);
        let is_killed = !self.quiet.is_quiet() && random.u8(..6) == 0;
        let limit = if is_killed {
            random.u64(..5_000)
        } else {
            lasts_ms
        };
        if !self.quiet.is_quiet() && random.u8(..10) == 0 {
            worker
                .suspension
                .suspend(Duration::from_millis(random.u64(..200_000)));
        }
        let deps = self.of.loading(&worker);
        let now = deps.clock.now();
        let budget = Budget::until(UnixMillis(now.0 + lasts_ms), now);
        let work = worker.suspension.over(work(deps, budget));
        async move {
            match timeout(Duration::from_millis(limit), work).await {
                Ok(Ok(output)) => Ok(output),
                Ok(Err(error)) if is_passing(&error) => Err(Failed::Passing),
                Ok(Err(error)) => Err(Failed::ForGood(error)),
                Err(_) => Err(Failed::Passing),
            }
        }
    }

    /// A schedule that applies the log, until the worker dies. Each call is one invocation with its own deadline.
    pub async fn apply(self, worker: Worker) {
        let mut random = fastrand::Rng::with_seed(worker.seed);
        let deps = self.of.deps(&worker);
        let arn = self.of.world.table.arn();
        loop {
            sleep(Duration::from_millis(random.u64(500..15_000))).await;
            let Ok(replicas) = deps.replicas.replicas(&arn).await else {
                continue;
            };
            let Some(record) = replicas.into_iter().next() else {
                continue;
            };
            if record.phase.is_over() {
                continue;
            }
            let request = ReplicaWorld::applying(&worker, &mut random);
            let lasts_ms = random.u64(10_000..240_000);
            let now = deps.live.clock.now();
            let budget = Budget::until(UnixMillis(now.0 + lasts_ms), now);
            let work = apply::advance_and_apply(&deps, record, &request, budget);
            // Lambda kills it some time after its deadline, wherever it is.
            let ended = timeout(Duration::from_millis(lasts_ms + 20_000), work).await;
            let name = &worker.name;
            worker.world.trace.note(|| match ended {
                Ok(Ok(report)) => format!(
                    "{name} applied {:?}, {} {:?}",
                    report.applied, report.record.phase, report.record.applied
                ),
                Ok(Err(error)) => format!("{name} fails: {error}"),
                Err(_) => format!("{name} is killed at its deadline"),
            });
        }
    }

    /// One that has records in hand from any time since the handoff, and applies them when it gets to it: doubled batches of a
    /// mapping, or a machine that slept.
    pub async fn echo(self, worker: Worker) {
        let mut random = fastrand::Rng::with_seed(worker.seed);
        let deps = self.of.deps(&worker);
        loop {
            sleep(Duration::from_millis(random.u64(1_000..30_000))).await;
            if self.quiet.is_quiet() {
                continue;
            }
            let Some(record) = self.of.watched.record() else {
                continue;
            };
            if record.phase != Phase::Live {
                continue;
            }
            let Some((ordinal, records)) = self.some_records(&record, &mut random) else {
                continue;
            };
            sleep(Duration::from_millis(random.u64(..120_000))).await;
            let access = (&record).into();
            let Ok(target) = deps.targets.open(&access).await else {
                continue;
            };
            let store = deps.live.stores.open(&DESTINATION.parse().unwrap());
            let place: LogPlace = log_place();
            let refused = RefusedPlace::new(store.unwrap(), &place, &record.id);
            let writer = ReplicaWriter::new(
                &record,
                target.writer,
                refused,
                std::sync::Arc::new(Unobserved),
            );
            let count = records.len();
            let applied = writer.apply(ordinal, &records, &StopFlag::default()).await;
            let name = &worker.name;
            worker.world.trace.note(|| match applied {
                Ok(applied) => format!("{name} applied {count} old records: {applied:?}"),
                Err(error) => format!("{name} fails with {count} old records: {error}"),
            });
        }
    }

    /// A stretch of some shard of the log.
    fn some_records(
        &self,
        record: &ReplicaRecord,
        random: &mut fastrand::Rng,
    ) -> Option<(ShardOrdinal, Vec<StreamRecord>)> {
        let objects = self.of.world.bucket.objects();
        let logs = bucket_reader::read(&log_place(), &objects).ok()?;
        let log = logs
            .iter()
            .find(|log| log.facts.stream_label == record.stream_label)?;
        // Only shards that the applier reads too have a place in the order of this replica's writes.
        let place = place_of(&log_place(), &record.id);
        let mut shards: Vec<_> = log.shards.iter().collect();
        random.shuffle(&mut shards);
        let (id, shard) = shards.into_iter().find(|(id, shard)| {
            let key = place.shard_facts(&record.stream_label, id);
            objects.contains_key(&key) && !shard.records.is_empty()
        })?;
        let own = objects.get(&place.shard_facts(&record.stream_label, id))?;
        let facts: ShardFacts = serde_json::from_slice(&own.body).ok()?;
        let all: Vec<&StreamRecord> = shard
            .records
            .values()
            .filter_map(|copies| copies.first().map(|(_, record)| record))
            .collect();
        let from = random.usize(..all.len());
        let until = (from + random.usize(1..12)).min(all.len());
        let some = all[from..until].iter().map(|it| (*it).clone()).collect();
        Some((facts.ordinal, some))
    }
}
