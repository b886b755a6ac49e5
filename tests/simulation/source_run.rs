//! One run of sources: processes bootstrap a copy from the table and follow it, and crash at any await, while the table is written
//! to, its shards split, and requests are lost, late and doubled. In the end the copy is the table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use highwater_domain::shard::ShardId;
use highwater_source::{
    Applied, Change, Checkpoints as _, Claims, Deduplicated, FnSink, MemoryCheckpoints, NoMetrics,
    Place, Record, Retry, SinkError, SourceBuilder, SourceError, TableSink, builder,
};
use highwater_steps::capture_handoff::CapturePace;
use highwater_steps::stable_listing::Patience;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::plan::{Disaster, Plan};
use super::processes::keep_running;
use super::quiet::Quiet;
use super::source_world::{Target, WiredCheckpoints, WiredTarget, id_of, ports};
use super::world::{TABLE, Worker, World};
use super::writers;

/// An item of the simulated table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Item {
    pub id: String,
    pub v: String,
}

/// How a seed's sources are set up, besides its plan.
#[derive(Clone, Copy, Debug)]
pub struct SourcePlan {
    pub plan: Plan,
    pub processes: u32,
    pub segments: u32,
    pub page_size: u32,
}

impl SourcePlan {
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x50CE);
        let mut plan = Plan::of(seed);
        plan.life_ms = [15_000, 60_000, 100_000_000][random.usize(..3)];
        Self {
            plan,
            processes: random.u32(1..4),
            segments: random.u32(1..6),
            page_size: random.u32(0..4),
        }
    }
}

/// What outlives the processes.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub checkpoints: Arc<MemoryCheckpoints>,
    pub claims: Arc<MemoryCheckpoints>,
    pub target: Arc<Target>,
    /// Every record that a sink was given, in order: its key, its order, its item.
    pub given: Arc<Mutex<Vec<Given>>>,
    /// What passed the claims.
    pub claimed: Arc<Mutex<Vec<Given>>>,
    pub losses: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub key: String,
    pub order: String,
    pub item: Option<Bytes>,
    pub place: Place,
}

/// What a run was worth.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceWorth {
    pub records: u64,
    pub given_again: u64,
    pub stale: u64,
    pub losses: u64,
    pub copies: u64,
}

impl SourceWorth {
    pub fn add(&mut self, more: Self) {
        self.records += more.records;
        self.given_again += more.given_again;
        self.stale += more.stale;
        self.losses += more.losses;
        self.copies += more.copies;
    }
}

/// A source of one worker, described.
pub fn described(worker: &Worker, of: SourcePlan, name: &str, kept: &Kept) -> SourceBuilder<Item> {
    let mut random = fastrand::Rng::with_seed(worker.seed);
    let pace = CapturePace {
        settle: Duration::from_secs(5),
        patience: Patience {
            apart: Duration::from_secs(5),
            at_most: Duration::from_mins(5),
        },
    };
    builder::<Item>()
        .name(name)
        .table(TABLE)
        .ports(ports(worker, &kept.checkpoints))
        .segments(of.segments)
        .page_size(of.page_size)
        .retry(Retry::default().attempts(12))
        .paced(pace, Duration::from_secs(10), Duration::from_mins(1))
        .worker(worker.name.clone())
        .seed(random.u64(..))
        .stop(worker.stop.clone())
}

/// Writes down what it is given, and passes it on to the fenced copy.
fn copying(worker: &Worker, kept: &Kept) -> Copying {
    let writer = WiredTarget {
        target: Arc::clone(&kept.target),
        wire: worker.wire.clone(),
    };
    Copying {
        table: TableSink::over(Arc::new(writer), "copy", "fences"),
        given: Arc::clone(&kept.given),
    }
}

struct Copying {
    table: TableSink<Item>,
    given: Arc<Mutex<Vec<Given>>>,
}

#[async_trait::async_trait]
impl highwater_source::Sink<Item> for Copying {
    async fn apply(&self, record: &Record<Change<Item>>) -> Result<Applied, SinkError> {
        let applied = self.table.apply(record).await?;
        self.given.lock().unwrap().push(given(record));
        Ok(applied)
    }
}

fn given(record: &Record<Change<Item>>) -> Given {
    let new = record.raw().new.map(Bytes::copy_from_slice);
    if let (Some(value), Some(raw)) = (record.value.current(), &new) {
        assert_eq!(value.id, id_of(raw), "the value is the item");
    }
    Given {
        key: record.key(),
        order: record.order().to_string(),
        item: new,
        place: record.place.clone(),
    }
}

/// One life of a process that keeps the copy.
async fn copy_once(worker: Worker, of: SourcePlan, kept: Kept) {
    pause_at_first(&worker).await;
    let source = described(&worker, of, "copy", &kept);
    let ended = match source.bootstrap(copying(&worker, &kept)) {
        Ok(bootstrap) => bootstrap.run().await.map(|_| ()),
        Err(error) => Err(error),
    };
    note(&worker, &kept, ended);
}

/// One life of a process that writes down each record once, by claims.
async fn claim_once(worker: Worker, of: SourcePlan, kept: Kept) {
    pause_at_first(&worker).await;
    let claimed = Arc::clone(&kept.claimed);
    let sink = FnSink::new(move |record: &Record<Change<Item>>| {
        claimed.lock().unwrap().push(given(record));
        Ok::<_, SinkError>(Applied::Done)
    });
    let claims = Claims::new(Arc::new(WiredCheckpoints {
        place: Arc::clone(&kept.claims),
        wire: worker.wire.clone(),
    }));
    let sink = Deduplicated::new(sink, claims, Arc::new(NoMetrics));
    // Its own checkpoints: another name in the same place would do as well, but for the listing of segments.
    let own = Kept {
        checkpoints: Arc::clone(&kept.claims),
        ..kept.clone()
    };
    let ended = match described(&worker, of, "claimed", &own).bootstrap(sink) {
        Ok(bootstrap) => bootstrap.run().await.map(|_| ()),
        Err(error) => Err(error),
    };
    note(&worker, &kept, ended);
}

/// Processes that are started together do not begin in one moment.
async fn pause_at_first(worker: &Worker) {
    let mut random = fastrand::Rng::with_seed(worker.seed ^ 1);
    sleep(Duration::from_millis(random.u64(..3_000))).await;
}

fn note(worker: &Worker, kept: &Kept, ended: Result<(), SourceError>) {
    let name = &worker.name;
    if let Err(
        error @ (SourceError::HandoffExpired { .. }
        | SourceError::RecordsLost { .. }
        | SourceError::TableChanged { .. }),
    ) = &ended
    {
        let name = name.split('-').next().unwrap_or_default();
        kept.losses.lock().unwrap().push(format!("{name}: {error}"));
    }
    worker.world.trace.note(|| match ended {
        Ok(()) => format!("{name} ends"),
        Err(error) => format!("{name} fails: {error}"),
    });
}

/// What became of a run.
pub struct SourceRan {
    pub result: Result<SourceWorth, String>,
    pub trace: Vec<String>,
}

/// Carries a plan out, in a runtime of its own.
pub fn run(of: SourcePlan, traced: bool) -> SourceRan {
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
        let result = carry_out(world, of).await;
        SourceRan {
            result,
            trace: trace.lines(),
        }
    })
}

async fn carry_out(world: World, of: SourcePlan) -> Result<SourceWorth, String> {
    let plan = of.plan;
    let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x50CE_5EED);
    let (quiet, kept) = (Quiet::default(), Kept::default());
    for _ in 0..random.u32(..30) {
        writers::write_one(&world.table, plan.keys, &mut random);
    }
    world.table.enable_stream(plan.view);
    sleep(Duration::from_millis(random.u64(5_000..10_000))).await;
    let mut processes = JoinSet::new();
    start(&mut processes, &world, of, &quiet, &kept, &mut random);
    let mut writing = JoinSet::new();
    writing.spawn(writers::write_all(world.clone(), plan, random.fork()));
    writing.spawn(writers::upheave(world.clone(), plan, random.fork()));
    if let Some(disaster) = plan.disaster {
        let about = u64::from(plan.writes) * plan.pause_ms / 4;
        sleep(Duration::from_millis(random.u64(1..=about.max(2)))).await;
        world.trace.note(|| format!("disaster: {disaster:?}"));
        befall(&world, plan, disaster, &mut processes, &mut random).await;
        if processes.is_empty() {
            start(&mut processes, &world, of, &quiet, &kept, &mut random);
        }
    }
    while writing.join_next().await.is_some() {}
    quiet.begin();
    world.trace.note(|| "trouble is over".into());
    sleep(Duration::from_millis(plan.trouble.late_ms)).await;
    let caught_up = catch_up(&world, &kept).await;
    processes.shutdown().await;
    sleep(Duration::from_secs(10)).await;
    check(&world, of, &kept, caught_up)
}

fn start(
    processes: &mut JoinSet<()>,
    world: &World,
    of: SourcePlan,
    quiet: &Quiet,
    kept: &Kept,
    random: &mut fastrand::Rng,
) {
    for number in 0..of.processes {
        let name = format!("copy-{number}");
        let kept = kept.clone();
        let life = move |worker| copy_once(worker, of, kept.clone());
        let (world, quiet) = (world.clone(), quiet.clone());
        processes.spawn(keep_running(
            world,
            of.plan,
            quiet,
            name,
            random.fork(),
            life,
        ));
    }
    let kept = kept.clone();
    let life = move |worker| claim_once(worker, of, kept.clone());
    let (world, quiet) = (world.clone(), quiet.clone());
    processes.spawn(keep_running(
        world,
        of.plan,
        quiet,
        "claimed-0".into(),
        random.fork(),
        life,
    ));
}

async fn befall(
    world: &World,
    plan: Plan,
    disaster: Disaster,
    processes: &mut JoinSet<()>,
    random: &mut fastrand::Rng,
) {
    match disaster {
        Disaster::Outage => {
            processes.shutdown().await;
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
        }
        Disaster::StreamOff => {
            world.table.disable_stream();
            sleep(Duration::from_millis(random.u64(1..300_000))).await;
            world.table.enable_stream(plan.view);
        }
        Disaster::TableDropped => {
            world.table.drop_and_create();
            sleep(Duration::from_millis(random.u64(1..60_000))).await;
            world.table.enable_stream(plan.view);
        }
    }
}

/// Waits until both are the table, or have said that they cannot be.
async fn catch_up(world: &World, kept: &Kept) -> Result<(), String> {
    let mut missing = String::new();
    for _ in 0..180 {
        sleep(Duration::from_secs(20)).await;
        match behind(world, kept) {
            None => return Ok(()),
            Some(what) => missing = what,
        }
    }
    Err(format!("after an hour of quiet {missing}"))
}

fn has_lost(kept: &Kept, who: &str) -> bool {
    let losses = kept.losses.lock().unwrap();
    losses.iter().any(|loss| loss.starts_with(who))
}

fn behind(world: &World, kept: &Kept) -> Option<String> {
    let items = world.table.items();
    if !has_lost(kept, "copy") && kept.target.items() != items {
        return Some(format!(
            "the copy is {:?}, the table {items:?}",
            kept.target.items()
        ));
    }
    let latest = latest(&kept.claimed.lock().unwrap());
    if !has_lost(kept, "claimed") && latest != items {
        return Some(format!(
            "the claimed records make {latest:?}, the table is {items:?}"
        ));
    }
    None
}

/// What records make of a table: per key the one of the greatest order.
fn latest(all: &[Given]) -> BTreeMap<String, Bytes> {
    let mut last: BTreeMap<&str, &Given> = BTreeMap::new();
    for one in all {
        let stands = last.entry(&one.key).or_insert(one);
        if one.order >= stands.order {
            *stands = one;
        }
    }
    let there = last.into_values().filter_map(|one| one.item.clone());
    there.map(|item| (id_of(&item), item)).collect()
}

fn check(
    world: &World,
    of: SourcePlan,
    kept: &Kept,
    caught_up: Result<(), String>,
) -> Result<SourceWorth, String> {
    caught_up?;
    if let Some(broken) = world.rows.violations().first() {
        return Err(broken.clone());
    }
    let losses = kept.losses.lock().unwrap().clone();
    if of.plan.disaster.is_none()
        && let Some(loss) = losses.first()
    {
        return Err(format!("a loss without a disaster: {loss}"));
    }
    let (most, stale) = kept.target.most_effects();
    if most > 1 {
        return Err(format!("a record had {most} effects on the fenced copy"));
    }
    let given = kept.given.lock().unwrap().clone();
    let claimed = kept.claimed.lock().unwrap().clone();
    in_order("given", &given)?;
    in_order("claimed", &claimed)?;
    all_came("given", world, kept, &given)?;
    let distinct: BTreeSet<(&str, &str)> = given
        .iter()
        .map(|it| (it.key.as_str(), it.order.as_str()))
        .collect();
    Ok(SourceWorth {
        records: distinct.len() as u64,
        given_again: (given.len() - distinct.len()) as u64,
        stale,
        losses: losses.len() as u64,
        copies: u64::from(!has_lost(kept, "copy")),
    })
}

/// Per key, changes come for the first time in their order. (A second process that scans the same segment may find an item there
/// whose changes came already; that is what the order of scanned items is for.)
fn in_order(what: &str, all: &[Given]) -> Result<(), String> {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for one in all {
        let is_scanned = one.order.starts_with("00000-");
        if is_scanned || !seen.insert((&one.key, &one.order)) {
            continue;
        }
        if let Some(before) = last.insert(&one.key, &one.order)
            && before > one.order.as_str()
        {
            let (key, order) = (&one.key, &one.order);
            return Err(format!("{what}: {key} {order} came after {before}"));
        }
    }
    Ok(())
}

/// Every change since the handoff came at least once: nothing is passed over because a later one would hide it. Where changes are lost,
/// nothing came behind them in their shard.
fn all_came(what: &str, world: &World, kept: &Kept, all: &[Given]) -> Result<(), String> {
    let number = |order: &str| order.rsplit('-').next().unwrap_or_default().to_owned();
    let came: BTreeSet<(&Place, String)> = all
        .iter()
        .map(|it| (&it.place, number(&it.order)))
        .collect();
    let Some(began) = began(kept) else {
        return Ok(());
    };
    let mut missing: BTreeMap<ShardId, String> = BTreeMap::new();
    for record in world.table.all_records() {
        if record.committed_at.0 <= began {
            continue;
        }
        let key = format!(r#"{{"id":{{"S":"{}"}}}}"#, record.key);
        let number = record.sequence_number.padded();
        let has_come = came.contains(&(&Place::Shard(record.shard.clone()), number.clone()));
        let name = format!("{key} {number} of {}", record.shard);
        match missing.get(&record.shard) {
            _ if !has_come && !has_lost(kept, "copy") => {
                return Err(format!("{what}: {name} never came"));
            }
            Some(gone) if has_come => {
                return Err(format!("{what}: {name} came behind {gone}, which did not"));
            }
            None if !has_come => drop(missing.insert(record.shard.clone(), name)),
            _ => {}
        }
    }
    Ok(())
}

/// A moment after which every change is behind the copy's handoff, however wrong the clock was that told it.
fn began(kept: &Kept) -> Option<u64> {
    let plan = kept.checkpoints.load("plan").now_or_never()?.ok()??;
    let plan: serde_json::Value = serde_json::from_slice(&plan.value).ok()?;
    Some(plan["handoff"]["captured_at"].as_u64()? + 5_000)
}
