//! One run: a seed's plan is carried out, trouble ends, and every invariant is checked.

use std::time::Duration;

use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_testkit::simulation::SimTrace;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::backups::{Execution, Outcome};
use super::evidence::Evidence;
use super::plan::{Disaster, Plan};
use super::quiet::Quiet;
use super::world::{World, log_place};
use super::{bucket_reader, log_invariants, readers, snapshot_invariants, writers};

/// What a run was worth: so that nobody takes runs for checks in which nothing happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worth {
    pub records: u64,
    pub restores: u64,
    pub snapshots: u64,
    pub losses: u64,
    pub marks: u64,
}

impl Worth {
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.restores += other.restores;
        self.snapshots += other.snapshots;
        self.losses += other.losses;
        self.marks += other.marks;
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    pub result: Result<Worth, String>,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
    /// A print of everything that was left behind: a seed that runs twice leaves the same.
    pub print: u64,
}

/// Carries a plan out, in a runtime of its own.
pub fn run(plan: Plan, traced: bool) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    // Steps that were given no seed draw from the thread's own.
    fastrand::seed(plan.seed);
    runtime.block_on(async {
        let world = World::new(&plan, traced);
        let trace = world.trace.clone();
        let checked = carry_out(world.clone(), plan).await;
        let result = checked.and_then(|evidence| check(&evidence));
        Ran {
            result,
            trace: lines(&trace),
            print: print_of(&world),
        }
    })
}

fn lines(trace: &SimTrace) -> Vec<String> {
    trace.lines()
}

/// Names, bytes and times of everything in the bucket.
fn print_of(world: &World) -> u64 {
    let mut print = 0_u64;
    for (key, object) in world.bucket.objects() {
        let created = world.bucket.created_at(&key).0;
        let bytes = key.bytes().chain(object.body).chain(created.to_be_bytes());
        for byte in bytes {
            print = (print ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    print
}

/// Every check, one after the other.
fn check(evidence: &Evidence) -> Result<Worth, String> {
    log_invariants::i3_the_log_holds_facts_only(evidence)?;
    log_invariants::i4_copies_are_equal(evidence)?;
    log_invariants::i5_i6_i7_i17_rows_only_move_forward(evidence)?;
    log_invariants::i5_what_is_behind_a_position_is_logged(evidence)?;
    log_invariants::i6_an_end_is_an_end(evidence)?;
    log_invariants::i8_nothing_below_a_mark_is_missing(evidence)?;
    log_invariants::i9_marks_do_not_go_back(evidence)?;
    log_invariants::i15_no_gap_without_an_incident(evidence)?;
    log_invariants::i16_a_lost_record_breaks_the_chain(evidence)?;
    snapshot_invariants::i1_parts_cover_what_was_scanned(evidence)?;
    snapshot_invariants::i2_objects_are_what_their_rows_say(evidence)?;
    let restores = snapshot_invariants::i14_restores_are_the_truth(evidence)?;
    snapshot_invariants::i20_everything_comes_to_an_end(evidence)?;
    let incidents = evidence.logs.iter().flat_map(|log| &log.incidents);
    let losses = incidents.filter(|(_, incident)| incident.kind.loses_records());
    Ok(Worth {
        records: evidence.records.len() as u64,
        restores: u64::from(restores),
        snapshots: snapshot_invariants::bases(evidence).len() as u64,
        losses: losses.count() as u64,
        marks: evidence.world.marks.history().len() as u64,
    })
}

async fn carry_out(world: World, plan: Plan) -> Result<Evidence, String> {
    let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x5EED);
    let quiet = Quiet::default();
    world.trace.note(|| format!("{plan:?}"));
    // Some items are there before the stream is.
    for _ in 0..random.u32(..10) {
        writers::write_one(&world.table, plan.keys, &mut random);
    }
    world.table.enable_stream(plan.view);
    sleep(Duration::from_millis(random.u64(5_000..10_000))).await;

    let mut services = JoinSet::new();
    readers::start(&mut services, &world, plan, &quiet, &mut random);
    let mut writing = JoinSet::new();
    writing.spawn(writers::write_all(world.clone(), plan, random.fork()));
    writing.spawn(writers::upheave(world.clone(), plan, random.fork()));
    let mut backups = JoinSet::new();
    for number in 0..plan.backups {
        let begins = random.u64(..=u64::from(plan.writes) * plan.pause_ms / 2);
        backups.spawn(back_up(&world, plan, &quiet, number, begins, &mut random));
    }
    if let Some(disaster) = plan.disaster {
        let about = u64::from(plan.writes) * plan.pause_ms / 4;
        sleep(Duration::from_millis(random.u64(1..=about.max(2)))).await;
        befall(&world, plan, &quiet, disaster, &mut services, &mut random).await;
    }
    while writing.join_next().await.is_some() {}
    world.trace.note(|| "all is written".into());
    let mut outcomes = joined(&mut backups).await?;

    quiet.begin();
    world.trace.note(|| "trouble is over".into());
    sleep(Duration::from_millis(plan.trouble.late_ms)).await;
    if plan.disaster.is_some() {
        // A loss counts from when it is found; only a snapshot after that heals it.
        let (number, begins_ms) = (plan.backups, 900_000);
        let healing = back_up(&world, plan, &quiet, number, begins_ms, &mut random);
        backups.spawn(healing);
        outcomes.extend(joined(&mut backups).await?);
    }
    let caught_up = catch_up(&world).await;
    services.shutdown().await;
    // Requests of those that were just killed.
    sleep(Duration::from_secs(10)).await;
    Evidence::of(world, plan, outcomes, caught_up).await
}

fn back_up(
    world: &World,
    plan: Plan,
    quiet: &Quiet,
    number: u32,
    begins_ms: u64,
    random: &mut fastrand::Rng,
) -> impl Future<Output = Outcome> + Send + 'static + use<> {
    let execution = Execution {
        world: world.clone(),
        plan,
        quiet: quiet.clone(),
        number,
        random: random.fork(),
    };
    async move {
        sleep(Duration::from_millis(begins_ms)).await;
        execution.run().await
    }
}

async fn joined(backups: &mut JoinSet<Outcome>) -> Result<Vec<Outcome>, String> {
    let mut outcomes = Vec::new();
    // A backup that does not end is a finding, not a reason to wait for ever.
    let patience = Duration::from_hours(2);
    loop {
        match tokio::time::timeout(patience, backups.join_next()).await {
            Ok(Some(outcome)) => {
                let outcome = outcome.map_err(|error| format!("a backup: {error}"))?;
                outcomes.push(outcome);
            }
            Ok(None) => {
                outcomes.sort_by(|a, b| a.id.cmp(&b.id));
                return Ok(outcomes);
            }
            Err(_) => return Err("I20: a backup has not ended after two hours".into()),
        }
    }
}

/// What happens once.
async fn befall(
    world: &World,
    plan: Plan,
    quiet: &Quiet,
    disaster: Disaster,
    services: &mut JoinSet<()>,
    random: &mut fastrand::Rng,
) {
    world.trace.note(|| format!("disaster: {disaster:?}"));
    match disaster {
        Disaster::Outage => {
            services.shutdown().await;
            let until = world.time.now().0 + random.u64(23..32) * 3_600_000;
            while world.time.now().0 < until {
                // Shards roll over every four hours or so, whether anything is written or not.
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
        Disaster::TableDropped => {
            world.table.drop_and_create();
            sleep(Duration::from_millis(random.u64(1..60_000))).await;
            world.table.enable_stream(plan.view);
        }
    }
}

/// Waits until everything that can be known is known, or says what is not after more than enough time.
async fn catch_up(world: &World) -> Result<(), String> {
    let wanted = UnixSeconds::of(world.time.now());
    let mut missing = String::new();
    for _ in 0..120 {
        sleep(Duration::from_secs(20)).await;
        match behind(world, wanted) {
            None => return Ok(()),
            Some(what) => missing = what,
        }
    }
    Err(format!("after 40 quiet minutes {missing}"))
}

/// What is not caught up with.
fn behind(world: &World, wanted: UnixSeconds) -> Option<String> {
    let label = world.table.stream_label()?;
    let history = world.marks.history();
    let mut of_stream = history
        .iter()
        .filter(|(_, _, mark)| mark.stream_label == label);
    let Some((_, _, mark)) = of_stream.next_back() else {
        return Some("no mark of the latest stream was published".into());
    };
    let reached = mark.mark.of(Grade::Assumed);
    if reached < Some(wanted) {
        return Some(format!(
            "the mark is {reached:?} and should be {wanted:?}: {mark:?}"
        ));
    }
    let logs = match bucket_reader::read(&log_place(), &world.bucket.objects()) {
        Ok(logs) => logs,
        Err(error) => return Some(error),
    };
    let log = logs.iter().find(|log| log.facts.stream_label == label)?;
    let labels = world.table.stream_labels();
    let generation = u16::try_from(labels.len()).unwrap();
    let all = world.table.all_records();
    let mut missing = all.iter().filter(|record| {
        let shard = log.shards.get(&record.shard);
        let is_logged = shard.is_some_and(|it| it.records.contains_key(&record.sequence_number));
        let is_lost = !log.losses(record.event_time, record.event_time).is_empty();
        record.generation == generation && !is_logged && !is_lost
    });
    missing
        .next()
        .map(|record| format!("{} {} is not logged", record.shard, record.sequence_number))
}
