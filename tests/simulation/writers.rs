//! The people who write to the table, and what becomes of its partitions meanwhile.

use std::time::Duration;

use highwater_testkit::simulation::SimTable;
use tokio::time::sleep;

use super::plan::Plan;
use super::world::World;

/// One write of one of the plan's keys.
pub fn write_one(table: &SimTable, keys: u32, random: &mut fastrand::Rng) {
    let key = format!("k{}", random.u32(..keys));
    match random.u32(..10) {
        0..2 => drop(table.delete(&key)),
        // Few values, so that some writes change nothing and some go A, B, A.
        2..4 => drop(table.put(&key, &random.u32(..3).to_string())),
        _ => drop(table.put(&key, &random.u64(..).to_string())),
    }
}

/// All writes of the plan, in bursts and with pauses.
pub async fn write_all(world: World, plan: Plan, mut random: fastrand::Rng) {
    let mut left = plan.writes;
    while left > 0 {
        let burst = random.u32(1..=left.min(8));
        for _ in 0..burst {
            write_one(&world.table, plan.keys, &mut random);
            if random.bool() {
                sleep(Duration::from_millis(random.u64(1..40))).await;
            }
        }
        left -= burst;
        sleep(Duration::from_millis(random.u64(1..=plan.pause_ms * 4))).await;
    }
}

/// Rolls and splits shards.
pub async fn upheave(world: World, plan: Plan, mut random: fastrand::Rng) {
    let about = u64::from(plan.writes) * plan.pause_ms / 2;
    for _ in 0..plan.upheavals {
        sleep(Duration::from_millis(random.u64(1..=about.max(2)))).await;
        let open = world.table.open_shards();
        if open.is_empty() {
            continue;
        }
        let shard = &open[random.usize(..open.len())];
        match random.u32(..4) {
            0 if open.len() < 5 => drop(world.table.split(shard)),
            1 => {
                world.table.begin_roll(shard);
                sleep(Duration::from_millis(random.u64(1..6_000))).await;
                // A disaster may have closed it meanwhile.
                if world.table.open_shards().contains(shard) {
                    world.table.end_roll(shard);
                }
            }
            _ => drop(world.table.roll(shard)),
        }
    }
}
