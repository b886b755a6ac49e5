//! Processes that crash at any await, stand still, and are started again.

use std::time::Duration;

use highwater_testkit::simulation::Trouble;
use tokio::time::sleep;

use super::plan::Plan;
use super::quiet::Quiet;
use super::world::{Worker, World};

/// Keeps a process running: one life after the other, each in a worker of its own.
///
/// A life ends by itself, or as a crash does: its future is dropped at whatever await it is. Requests that it has sent
/// go on their way.
pub async fn keep_running<F, L>(
    world: World,
    plan: Plan,
    quiet: Quiet,
    name: String,
    mut random: fastrand::Rng,
    mut life: L,
) where
    F: Future<Output = ()> + Send + 'static,
    L: FnMut(Worker) -> F,
{
    loop {
        let trouble = quiet.or(plan.trouble);
        let worker = world.worker(&name, random.u64(..), trouble);
        let (wire, suspension) = (worker.wire.clone(), worker.suspension.clone());
        let mut task = tokio::spawn(suspension.over(life(worker)));
        // A worker that is dropped with this future must not live on.
        let _kill = AbortOnDrop(task.abort_handle());
        let crash_at = tokio::time::Instant::now()
            + Duration::from_millis(random.u64(1..=plan.life_ms.max(2)));
        loop {
            tokio::select! {
                biased;
                _ = &mut task => break,
                () = sleep(Duration::from_secs(5)) => {}
            }
            if quiet.is_quiet() {
                wire.set_trouble(Trouble::NONE);
                continue;
            }
            if tokio::time::Instant::now() >= crash_at {
                world.trace.note(|| format!("{name} crashes"));
                task.abort();
                break;
            }
            if random.u8(..60) == 0 {
                let pause = Duration::from_millis(random.u64(1..90_000));
                world
                    .trace
                    .note(|| format!("{name} stands still for {pause:?}"));
                suspension.suspend(pause);
            }
        }
        sleep(Duration::from_millis(random.u64(1..10_000))).await;
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
