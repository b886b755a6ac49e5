//! Everybody who reads the stream: followers, the mapping with its function, auditors.

use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_steps::audit_stream::{self, AuditInput};
use highwater_steps::follow::{self, FollowRequest};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::mapping;
use super::mutations::Mutation;
use super::plan::Plan;
use super::processes::keep_running;
use super::quiet::Quiet;
use super::world::{DESTINATION, TABLE, Worker, World};

/// Starts them all.
pub fn start(
    services: &mut JoinSet<()>,
    world: &World,
    plan: Plan,
    quiet: &Quiet,
    random: &mut fastrand::Rng,
) {
    if let Some(settings) = plan.readers.mapping {
        let (world, quiet) = (world.clone(), quiet.clone());
        services.spawn(mapping::run(world, plan, settings, quiet, random.fork()));
    }
    for number in 0..plan.readers.followers {
        let (world, quiet) = (world.clone(), quiet.clone());
        let name = format!("follower-{number}");
        let random = random.fork();
        services.spawn(keep_running(world, plan, quiet, name, random, follow_once));
    }
    for number in 0..plan.readers.auditors {
        let (world, quiet) = (world.clone(), quiet.clone());
        let name = format!("auditor-{number}");
        let random = random.fork();
        services.spawn(keep_running(world, plan, quiet, name, random, audit_often));
    }
}

/// One life of a follower.
async fn follow_once(worker: Worker) {
    let deps = worker.live();
    let mut random = fastrand::Rng::with_seed(worker.seed);
    // Processes that are started together do not begin in one moment.
    sleep(Duration::from_millis(random.u64(..3_000))).await;
    let request = FollowRequest {
        // Mostly a process comes back under its old name.
        worker: (random.u8(..3) > 0).then(|| worker.name.clone()),
        seed: Some(random.u64(..)),
        settle_ms: settle_ms(&worker),
        ..FollowRequest::new(TABLE.parse().unwrap(), DESTINATION)
    };
    let ended = follow::run(&deps, &request, Budget::UNLIMITED).await;
    let name = &worker.name;
    worker.world.trace.note(|| match ended {
        Ok(report) => format!("{name} ends: {report:?}"),
        Err(error) => format!("{name} fails: {error}"),
    });
}

/// How long no children are doubted.
fn settle_ms(worker: &Worker) -> u64 {
    match worker.world.mutation {
        Some(Mutation::NoChildrenIsFinal) => 0,
        _ => 10_000,
    }
}

/// A schedule that calls the auditor, until the worker dies. Each call is one invocation with its own deadline.
async fn audit_often(worker: Worker) {
    let deps = worker.live();
    let mut random = fastrand::Rng::with_seed(worker.seed);
    loop {
        sleep(Duration::from_millis(random.u64(1_000..45_000))).await;
        let input = AuditInput {
            seed: Some(random.u64(..)),
            settle_ms: settle_ms(&worker),
            ..AuditInput::new(TABLE.parse().unwrap(), DESTINATION)
        };
        let lasts_ms = random.u64(30_000..240_000);
        let now = deps.clock.now();
        let budget = Budget::until(UnixMillis(now.0 + lasts_ms), now);
        let audit = audit_stream::run(&deps, &input, budget);
        // Lambda kills it at its deadline, wherever it is.
        let ended = timeout(Duration::from_millis(lasts_ms), audit).await;
        let name = &worker.name;
        worker.world.trace.note(|| match ended {
            Ok(Ok(report)) => format!("{name}: {report:?}"),
            Ok(Err(error)) => format!("{name} fails: {error}"),
            Err(_) => format!("{name} is killed at its deadline"),
        });
    }
}
