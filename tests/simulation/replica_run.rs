//! One run of a replica: the source is written to all the time, its log is written, a snapshot is taken, loaded and followed, by
//! processes that die; in the end the replica is the source.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::control_table::ControlTable as _;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{FenceMode, Phase};
use highwater_domain::snapshot::Status;
use highwater_steps::replica::promote::{self, Caught};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::backups::{Execution, Outcome};
use super::evidence::Evidence;
use super::plan::{Disaster, Plan};
use super::quiet::Quiet;
use super::replica_mutations::ReplicaMutation;
use super::replica_processes::Process;
use super::replica_world::ReplicaWorld;
use super::world::{DESTINATION, TABLE, World};
use super::{readers, writers};

/// How a seed's replica is set up, besides its plan.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaPlan {
    pub plan: Plan,
    pub fence: FenceMode,
    /// Whether the target is there already, and empty.
    pub is_there: bool,
    pub drivers: u32,
    pub appliers: u32,
    pub echoes: u32,
    /// Whether it is promoted in the end.
    pub promotes: bool,
    /// What is done wrong on purpose.
    pub mutation: Option<ReplicaMutation>,
}

impl ReplicaPlan {
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x0C09);
        let mut plan = Plan::of(seed);
        plan.life_ms = [20_000, 90_000, 100_000_000][random.usize(..3)];
        plan.trouble.late_ms = [2_000, 60_000, 290_000][random.usize(..3)];
        plan.disaster = match random.u32(..100) {
            0..4 => Some(Disaster::Outage),
            4..8 => Some(Disaster::StreamOff),
            _ => None,
        };
        let fence = match random.u32(..5) {
            0 => FenceMode::Attribute,
            _ => FenceMode::Table,
        };
        Self {
            plan,
            fence,
            is_there: random.bool(),
            drivers: random.u32(1..3),
            appliers: random.u32(1..4),
            echoes: random.u32(..3),
            promotes: fence == FenceMode::Table && random.bool(),
            mutation: None,
        }
    }
}

/// What a run was worth.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaWorth {
    pub records: u64,
    pub written: u64,
    pub stale: u64,
    pub loads: u64,
    pub equalities: u64,
    /// Keys that a comparison under traffic has found right.
    pub cleared: u64,
    pub equal: u64,
    pub failed: u64,
    pub promoted: u64,
}

impl ReplicaWorth {
    pub fn add(&mut self, more: Self) {
        self.records += more.records;
        self.written += more.written;
        self.stale += more.stale;
        self.loads += more.loads;
        self.equalities += more.equalities;
        self.cleared += more.cleared;
        self.equal += more.equal;
        self.failed += more.failed;
        self.promoted += more.promoted;
    }
}

/// What became of a run.
pub struct ReplicaRan {
    pub result: Result<ReplicaWorth, String>,
    pub trace: Vec<String>,
}

/// Carries a plan out, in a runtime of its own.
pub fn run(of: ReplicaPlan, traced: bool) -> ReplicaRan {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    fastrand::seed(of.plan.seed);
    runtime.block_on(async {
        let world = World::new(&of.plan, traced);
        let trace = world.trace.clone();
        trace.note(|| format!("{of:?}"));
        let replica = ReplicaWorld::new(
            &world,
            of.fence,
            of.is_there,
            of.mutation,
            of.plan.nasty.empty_percent > 0,
        );
        let ended = carry_out(&replica, of).await;
        // What was broken first is what is told; the rest follows from it.
        let result = match replica.watched.violation() {
            Some(violation) => Err(violation),
            None => ended,
        };
        ReplicaRan {
            result,
            trace: trace.lines(),
        }
    })
}

async fn carry_out(replica: &ReplicaWorld, of: ReplicaPlan) -> Result<ReplicaWorth, String> {
    let (world, plan) = (&replica.world, of.plan);
    let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x0C09_5EED);
    let quiet = Quiet::default();
    for _ in 0..random.u32(..40) {
        writers::write_one(&world.table, plan.keys, &mut random);
    }
    world.table.enable_stream(plan.view);
    sleep(Duration::from_millis(random.u64(5_000..10_000))).await;
    let mut services = JoinSet::new();
    readers::start(&mut services, world, plan, &quiet, &mut random);
    let mut writing = JoinSet::new();
    writing.spawn(writers::write_all(world.clone(), plan, random.fork()));
    writing.spawn(writers::upheave(world.clone(), plan, random.fork()));
    let about = u64::from(plan.writes) * plan.pause_ms;
    sleep(Duration::from_millis(random.u64(..=about / 3))).await;
    let outcome = back_up(world, plan, &quiet, 1, &mut random).await;
    if outcome.status == Some(Status::Completed) {
        begin(replica, of, &quiet, &outcome, &mut services, &mut random).await?;
    } else if plan.disaster.is_none() {
        return Err(format!("I20: the snapshot failed: {:?}", outcome.error));
    }
    if let Some(disaster) = plan.disaster {
        sleep(Duration::from_millis(random.u64(1..=(about / 4).max(2)))).await;
        world.trace.note(|| format!("disaster: {disaster:?}"));
        befall(replica, of, disaster, &quiet, &mut services, &mut random).await;
        if outcome.status == Some(Status::Completed) && disaster == Disaster::Outage {
            begin(replica, of, &quiet, &outcome, &mut services, &mut random).await?;
        }
    }
    while writing.join_next().await.is_some() {}
    if outcome.status == Some(Status::Completed) {
        second_wave(replica, of, &mut random).await;
    }
    quiet.begin();
    world.trace.note(|| "trouble is over".into());
    sleep(Duration::from_millis(plan.trouble.late_ms)).await;
    if outcome.status != Some(Status::Completed) {
        return Ok(ReplicaWorth::default());
    }
    let caught_up = catch_up(replica, of).await;
    let promoted = match caught_up {
        Ok(Phase::Live) if of.promotes && is_of_this_stream(replica) => {
            Some(let_go(replica, of, &mut random).await?)
        }
        _ => None,
    };
    services.shutdown().await;
    sleep(Duration::from_secs(10)).await;
    check(replica, of, caught_up, promoted)
}

/// Writes once more, with everybody's trouble, when the replica is live: it takes minutes until then, and the first wave may be over.
async fn second_wave(replica: &ReplicaWorld, of: ReplicaPlan, random: &mut fastrand::Rng) {
    for _ in 0..120 {
        sleep(Duration::from_secs(15)).await;
        let phase = replica.watched.record().map(|record| record.phase);
        if !matches!(phase, None | Some(Phase::Load | Phase::Quiesce)) {
            break;
        }
    }
    let world = &replica.world;
    world.trace.note(|| "the second wave".into());
    let mut writing = JoinSet::new();
    writing.spawn(writers::write_all(world.clone(), of.plan, random.fork()));
    writing.spawn(writers::upheave(world.clone(), of.plan, random.fork()));
    while writing.join_next().await.is_some() {}
}

async fn back_up(
    world: &World,
    plan: Plan,
    quiet: &Quiet,
    number: u32,
    random: &mut fastrand::Rng,
) -> Outcome {
    let execution = Execution {
        world: world.clone(),
        plan,
        quiet: quiet.clone(),
        number,
        random: random.fork(),
    };
    execution.run().await
}

/// Starts everybody who makes and feeds the replica.
async fn begin(
    replica: &ReplicaWorld,
    of: ReplicaPlan,
    quiet: &Quiet,
    outcome: &Outcome,
    services: &mut JoinSet<()>,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let world = &replica.world;
    let known = world.control.snapshot(&outcome.id).await.unwrap();
    assert!(known.is_some(), "the snapshot is on record");
    let outcomes = vec![outcome.clone()];
    let evidence = Evidence::of(world.clone(), of.plan, outcomes, Ok(())).await?;
    let found = evidence.snapshots.first().ok_or("there is no snapshot")?;
    replica.watched.set_scanned(by_id(&found.items));
    let process = Process {
        of: replica.clone(),
        plan: of.plan,
        quiet: quiet.clone(),
        snapshot: format!("{DESTINATION}/{TABLE}/AWSDynamoDB/{}", outcome.id),
    };
    for number in 0..of.drivers {
        let name = format!("driver-{number}");
        process.keep_running(services, name, random.fork(), Process::drive);
    }
    for number in 0..of.appliers {
        let name = format!("applier-{number}");
        process.keep_running(services, name, random.fork(), Process::apply);
    }
    if compares(of) {
        // Draws of its own: a seed means what it meant without it.
        let random = fastrand::Rng::with_seed(of.plan.seed ^ 0xC4EC);
        process.keep_running(services, "checker".to_owned(), random, Process::check);
    }
    for number in 0..of.echoes {
        let name = format!("echo-{number}");
        process.keep_running(services, name, random.fork(), Process::echo);
    }
    Ok(())
}

/// Whether what a comparison rests on is true: a log's mark that may be wrong, a change without a record and mistakes made on purpose
/// look as if the replica had gone wrong.
fn compares(of: ReplicaPlan) -> bool {
    let is_doubtful = of.plan.nasty.empty_percent > 0;
    let is_off = matches!(of.plan.disaster, Some(Disaster::StreamOff));
    !is_doubtful && !is_off && of.mutation.is_none()
}

/// Items by their `id`, which is a plain text here.
fn by_id(items: &[(Bytes, Bytes)]) -> BTreeMap<String, Bytes> {
    let id = |key: &Bytes| {
        let key: serde_json::Value = serde_json::from_slice(key).unwrap();
        key["id"]["S"].as_str().unwrap().to_owned()
    };
    let items = items.iter();
    items.map(|(key, item)| (id(key), item.clone())).collect()
}

async fn befall(
    replica: &ReplicaWorld,
    of: ReplicaPlan,
    disaster: Disaster,
    quiet: &Quiet,
    services: &mut JoinSet<()>,
    random: &mut fastrand::Rng,
) {
    let (world, plan) = (&replica.world, of.plan);
    match disaster {
        Disaster::Outage => {
            services.shutdown().await;
            let until = world.time.now().0 + random.u64(23..32) * 3_600_000;
            while world.time.now().0 < until {
                sleep(Duration::from_secs(random.u64(10_000..16_000))).await;
                for shard in world.table.open_shards() {
                    if world.table.children_of(&shard).is_empty() {
                        world.table.roll(&shard);
                    }
                }
                for _ in 0..random.u32(..6) {
                    writers::write_one(&world.table, plan.keys, random);
                }
            }
            readers::start(services, world, plan, quiet, random);
        }
        Disaster::StreamOff => {
            world.table.disable_stream();
            sleep(Duration::from_millis(random.u64(1..300_000))).await;
            world.table.enable_stream(plan.view);
        }
        Disaster::TableDropped => unreachable!("no plan of a replica draws this"),
    }
}

/// Waits until the replica is the source and says so, or has said that it cannot be.
async fn catch_up(replica: &ReplicaWorld, of: ReplicaPlan) -> Result<Phase, String> {
    let wanted = UnixSeconds::of(replica.world.time.now());
    let mut missing = String::new();
    for _ in 0..360 {
        sleep(Duration::from_secs(20)).await;
        if replica.watched.violation().is_some() {
            return Ok(Phase::Failed);
        }
        match behind(replica, of, wanted) {
            Ok(phase) => return Ok(phase),
            Err(what) => missing = what,
        }
    }
    Err(format!("I20: after two hours of quiet {missing}"))
}

fn behind(replica: &ReplicaWorld, of: ReplicaPlan, wanted: UnixSeconds) -> Result<Phase, String> {
    let watched = &replica.watched;
    let Some(record) = watched.record() else {
        return Err("there is no replica".into());
    };
    if record.phase == Phase::Failed {
        return Ok(Phase::Failed);
    }
    let stream = replica.world.table.stream_arn();
    if of.plan.disaster.is_some() && stream.as_ref() != Some(&record.stream_arn) {
        // What changes now is in another stream.
        return Ok(record.phase);
    }
    let is_equal = is_the_source(replica, of);
    // What a log assumed from silence may be wrong, until it has read what there was: then it says so.
    let may_be_early = of.plan.nasty.empty_percent > 0 && !is_equal;
    if record.equal_at() < Some(wanted) || may_be_early {
        return Err(format!(
            "it is {} and equal at {:?}, wanted {wanted}; {}",
            record.phase,
            record.equal_at(),
            if is_equal { "equal" } else { "different" }
        ));
    }
    Ok(record.phase)
}

/// Whether the source's changes are still in the stream that the replica follows.
fn is_of_this_stream(replica: &ReplicaWorld) -> bool {
    let record = replica.watched.record();
    record.map(|record| record.stream_arn) == replica.world.table.stream_arn()
}

/// Whether the replica has the source's items; byte for byte, and nothing else in its table, unless its fences are attributes.
fn is_the_source(replica: &ReplicaWorld, of: ReplicaPlan) -> bool {
    let watched = &replica.watched;
    let (is, should) = (watched.items(), replica.world.table.items());
    match of.fence {
        FenceMode::Table => is == should && watched.stored() == should.len(),
        FenceMode::Attribute => read(&is) == read(&should),
    }
}

/// Promotes the replica, and writes to the source after that: nothing of it reaches what stands by itself now.
async fn let_go(
    replica: &ReplicaWorld,
    of: ReplicaPlan,
    random: &mut fastrand::Rng,
) -> Result<BTreeMap<String, Bytes>, String> {
    let trouble = highwater_testkit::simulation::Trouble::NONE;
    let worker = replica.world.worker("promote", random.u64(..), trouble);
    let deps = replica.deps(&worker);
    let record = replica.watched.record().ok_or("there is no replica")?;
    let promoted = promote::run(&deps, &record, Caught::WithinSeconds(3_600)).await;
    let promoted = promoted.map_err(|error| format!("PROMOTE: {error}"))?;
    if promoted.phase != Phase::Promoted {
        return Err(format!("PROMOTE: it is {}", promoted.phase));
    }
    let items = replica.watched.items();
    for _ in 0..20 {
        writers::write_one(&replica.world.table, of.plan.keys, random);
        sleep(Duration::from_secs(5)).await;
    }
    sleep(Duration::from_mins(5)).await;
    Ok(items)
}

fn check(
    replica: &ReplicaWorld,
    of: ReplicaPlan,
    caught_up: Result<Phase, String>,
    promoted: Option<BTreeMap<String, Bytes>>,
) -> Result<ReplicaWorth, String> {
    let (world, watched) = (&replica.world, &replica.watched);
    let rows = [&world.rows, &replica.own_rows];
    if let Some(broken) = rows.iter().flat_map(|it| it.violations()).next() {
        return Err(broken);
    }
    if let Some(untold) = watched.untold() {
        return Err(untold);
    }
    let phase = caught_up?;
    let seen = watched.seen();
    let worth = ReplicaWorth {
        records: seen.applied.records,
        written: seen.applied.written,
        stale: seen.applied.stale,
        loads: seen.loads,
        equalities: seen.equalities,
        cleared: seen.cleared,
        promoted: u64::from(promoted.is_some()),
        ..ReplicaWorth::default()
    };
    if phase == Phase::Failed {
        let record = watched.record();
        if of.plan.disaster.is_none() && !gave_up(of) {
            let why = record.and_then(|it| it.error);
            return Err(format!("I15: it failed without a loss: {why:?}"));
        }
        return Ok(ReplicaWorth { failed: 1, ..worth });
    }
    let stream = world.table.stream_arn();
    let record = watched.record().ok_or("there is no replica")?;
    if stream.as_ref() != Some(&record.stream_arn) {
        return Ok(worth);
    }
    if let Some(items) = promoted {
        if watched.items() != items {
            return Err("PROMOTE: a change of the source has reached what was promoted".into());
        }
        return Ok(ReplicaWorth { equal: 1, ..worth });
    }
    if !is_the_source(replica, of) {
        let (is, should) = (watched.items(), world.table.items());
        return Err(format!("I13: the replica is {is:?}, the source {should:?}"));
    }
    Ok(ReplicaWorth { equal: 1, ..worth })
}

/// Whether a mapping may have given records up, which an auditor puts on record as lost once they cannot be read any more.
fn gave_up(of: ReplicaPlan) -> bool {
    of.plan.readers.mapping.is_some_and(|it| it.discards)
}

fn read(items: &BTreeMap<String, Bytes>) -> BTreeMap<&String, serde_json::Value> {
    let items = items.iter();
    items
        .map(|(key, item)| (key, serde_json::from_slice(item).unwrap()))
        .collect()
}
