//! Lambda's event-source mapping: it re-cuts, retries, bisects, doubles, delivers late and out of order, kills functions at
//! their time-out, and gives records up when they are 24 hours old, or when it is told to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_domain::lineage::RETENTION_MS;
use highwater_domain::shard::ShardId;
use highwater_steps::consume_stream::{self, ConsumeInput, LogDestination};
use highwater_testkit::simulation::{SimRecord, Trouble};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::plan::{Mapping, Plan};
use super::quiet::Quiet;
use super::world::{DESTINATION, World};

/// Polls every shard of the stream that is on when it begins, until it is dropped.
pub async fn run(
    world: World,
    plan: Plan,
    mapping: Mapping,
    quiet: Quiet,
    mut random: fastrand::Rng,
) {
    let mut known = BTreeSet::new();
    let mut lanes = JoinSet::new();
    loop {
        let Some(arn) = world.table.stream_arn() else {
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        for shard in world.table.true_listing().shards {
            if known.insert(shard.id.clone()) {
                let lane = Lane {
                    world: world.clone(),
                    plan,
                    mapping,
                    quiet: quiet.clone(),
                    arn: arn.clone(),
                    shard: shard.id,
                    random: random.fork(),
                };
                lanes.spawn(lane.run());
            }
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// One shard's deliveries.
struct Lane {
    world: World,
    plan: Plan,
    mapping: Mapping,
    quiet: Quiet,
    arn: String,
    shard: ShardId,
    random: fastrand::Rng,
}

impl Lane {
    async fn run(mut self) {
        // A mapping needs a while to start polling.
        sleep(Duration::from_millis(self.random.u64(..8_000))).await;
        let (mut done, mut tries) = (0, 0);
        let mut most = 20;
        let mut doubles = JoinSet::new();
        loop {
            let there = self.visible();
            done = done.max(self.expired(&there));
            if done >= there.len() {
                sleep(Duration::from_millis(self.random.u64(250..3_000))).await;
                continue;
            }
            let cut = self.random.usize(1..=most.min(there.len() - done));
            let batch = &there[done..done + cut];
            if self.random.u8(..12) == 0 && !self.quiet.is_quiet() {
                // The same once more, minutes later, or something older, cut another way.
                let from = self.random.usize(..=done);
                let again = there[from..done + cut].to_vec();
                let late = Duration::from_millis(self.random.u64(..120_000));
                let invocation = self.invocation(&again);
                doubles.spawn(async move {
                    sleep(late).await;
                    invocation.await
                });
            }
            let invocation = self.invocation(batch);
            if let Some(written) = invocation.await {
                done += written;
                if written == cut {
                    (tries, most) = (0, 20);
                    continue;
                }
            } else {
                most = (cut / 2).max(1);
            }
            tries += 1;
            if tries > 3 && self.mapping.discards && !self.quiet.is_quiet() {
                self.world.trace.note(|| {
                    let shard = &self.shard;
                    format!("the mapping gives up {cut} records of {shard}")
                });
                (done, tries) = (done + cut, 0);
            }
            sleep(Duration::from_millis(self.random.u64(100..2_000))).await;
        }
    }

    fn visible(&self) -> Vec<Arc<SimRecord>> {
        let now = self.world.time.now();
        let records = self.world.table.records_of(&self.shard);
        let seen = |record: &Arc<SimRecord>| record.published_at.is_some_and(|at| at <= now);
        records.into_iter().take_while(seen).collect()
    }

    /// How many records are too old to be delivered.
    fn expired(&self, records: &[Arc<SimRecord>]) -> usize {
        let now = self.world.time.now();
        let is_old = |record: &&Arc<SimRecord>| now.since(record.committed_at) > RETENTION_MS;
        records.iter().take_while(is_old).count()
    }

    /// One invocation of the function in a sandbox of its own: how many records need not come again, or `None` if it failed.
    fn invocation(
        &mut self,
        batch: &[Arc<SimRecord>],
    ) -> impl Future<Output = Option<usize>> + Send + use<> {
        let trouble = self.quiet.or(self.plan.trouble);
        let timeout_ms = self.random.u64(10_000..60_000);
        let event = self.event(batch);
        let numbers: Vec<_> = batch.iter().map(|it| it.sequence_number.clone()).collect();
        let worker = self.world.worker("consume", self.random.u64(..), trouble);
        let is_killed = trouble != Trouble::NONE && self.random.u8(..20) == 0;
        let killed_ms = self.random.u64(..timeout_ms);
        async move {
            let deps = worker.live();
            let now = deps.clock.now();
            let budget = Budget::until(UnixMillis(now.0 + timeout_ms), now);
            let input = ConsumeInput::read(&event.into()).unwrap();
            let destination = LogDestination(DESTINATION.parse().unwrap());
            let limit = if is_killed { killed_ms } else { timeout_ms };
            let work = consume_stream::run(&deps, &destination, input, budget);
            let answer = tokio::time::timeout(Duration::from_millis(limit), work).await;
            match answer {
                Ok(Ok(output)) => match output.batch_item_failures.first() {
                    None => Some(numbers.len()),
                    // Lambda knows sequence numbers of this batch, and fails it whole for anything else.
                    Some(failure) => numbers
                        .iter()
                        .position(|number| *number == failure.item_identifier),
                },
                Ok(Err(_)) | Err(_) => None,
            }
        }
    }

    fn event(&mut self, batch: &[Arc<SimRecord>]) -> String {
        let json = |record: &Arc<SimRecord>| {
            serde_json::from_slice(&record.for_lambda(&self.arn)).unwrap()
        };
        let records: Vec<Value> = batch.iter().map(json).collect();
        if !self.mapping.windows {
            return json!({"Records": records}).to_string();
        }
        json!({
            "Records": records,
            "window": {"start": "2026-01-14T10:18:00Z", "end": "2026-01-14T10:19:00Z"},
            "state": {},
            "shardId": self.shard,
            "eventSourceARN": self.arn,
            "isFinalInvokeForWindow": self.random.u8(..10) == 0,
            "isWindowTerminatedEarly": false,
        })
        .to_string()
    }
}
