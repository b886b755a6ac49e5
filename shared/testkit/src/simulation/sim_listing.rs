//! What `DescribeStream` says: stale, partial, out of order and contradictory for a while, and true afterwards.

use highwater_domain::ids::UnixMillis;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus};

use super::sim_shards::listed;
use super::sim_table::{Nastiness, SimShard, SimTable, Stream};

impl SimTable {
    /// The next listings are these, one each.
    pub fn script_listings(&self, listings: impl IntoIterator<Item = StreamListing>) {
        self.locked().scripted_listings.extend(listings);
    }

    /// The next answers about a shard's children are these, one each.
    pub fn script_children(&self, of: &ShardId, answers: impl IntoIterator<Item = Vec<Shard>>) {
        let answers = answers.into_iter().map(|answer| (of.clone(), answer));
        self.locked().scripted_children.extend(answers);
    }

    /// A shard as a true listing tells it.
    #[must_use]
    pub fn listed(&self, shard: &ShardId) -> Shard {
        let mut state = self.locked();
        listed(shard, state.shard_mut(shard))
    }
}

impl Stream {
    /// One answer of `DescribeStream`.
    pub(crate) fn listing(
        &self,
        now: UnixMillis,
        nasty: Nastiness,
        random: &mut fastrand::Rng,
    ) -> StreamListing {
        let status = self.status(now, nasty.enabling_ms);
        let mut shards = Vec::new();
        if status != StreamStatus::Enabling {
            for (id, shard) in &self.shards {
                if let Some(told) = told(id, shard, now, nasty, random) {
                    let is_young = now.since(shard.made_at) < nasty.lies_ms;
                    if is_young && random.u8(..10) == 0 {
                        shards.push(told.clone());
                    }
                    shards.push(told);
                }
            }
            if nasty.lies_ms > 0 {
                random.shuffle(&mut shards);
            }
        }
        StreamListing {
            stream_arn: self.arn.clone(),
            label: self.label.clone(),
            view: self.view,
            status,
            shards,
        }
    }

    /// One answer of `DescribeStream` with the filter `CHILD_SHARDS`.
    pub(crate) fn children(
        &self,
        of: &ShardId,
        now: UnixMillis,
        nasty: Nastiness,
        random: &mut fastrand::Rng,
    ) -> Vec<Shard> {
        let Some(parent) = self.shards.get(of) else {
            return Vec::new();
        };
        let Some(closed_at) = parent.closed_at else {
            return Vec::new();
        };
        let is_fresh = now.since(closed_at) < nasty.lies_ms;
        let mut told: Vec<Shard> = parent
            .children
            .iter()
            .filter(|_| !is_fresh || random.u8(..3) == 0)
            .filter_map(|child| Some(listed(child, self.shards.get(child)?)))
            .collect();
        if nasty.lies_ms > 0 {
            random.shuffle(&mut told);
        }
        told
    }
}

/// A shard in one listing, if it is in it at all.
fn told(
    id: &ShardId,
    shard: &SimShard,
    now: UnixMillis,
    nasty: Nastiness,
    random: &mut fastrand::Rng,
) -> Option<Shard> {
    if now.since(shard.made_at) < nasty.lies_ms && random.bool() {
        return None;
    }
    if let Some(closed_at) = shard.closed_at {
        // Listed for a while after everything in it is gone.
        let listed_ms = nasty.retention_ms + shard.trims_later_ms + nasty.trim_jitter_ms;
        if now.since(closed_at) > listed_ms {
            return None;
        }
        if now.since(closed_at) < nasty.lies_ms && random.bool() {
            let mut open = listed(id, shard);
            open.end = None;
            return Some(open);
        }
    }
    Some(listed(id, shard))
}
