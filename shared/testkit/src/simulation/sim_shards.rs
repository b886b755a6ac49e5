//! What becomes of shards: they roll over, split, merge, lose their records; streams begin and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_domain::ids::UnixMillis;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};

use super::sim_record::SimRecord;
use super::sim_sequence::{beginning, plus, usual};
use super::sim_table::{Nastiness, Partition, SimShard, SimTable, State, Stream};

impl SimTable {
    /// Enables a stream, which is a new one with an ARN of its own. It must be off.
    pub fn enable_stream(&self, view: StreamView) -> String {
        let now = self.time.now();
        let mut state = self.locked();
        assert!(state.live().is_none(), "the stream is on");
        let generation = state.streams.len() + 1;
        // Two streams within one millisecond still have two labels.
        let at = UnixMillis(now.0 + generation as u64);
        let label = at.to_rfc3339().trim_end_matches('Z').to_owned();
        let arn = format!("{}/stream/{label}", self.arn());
        state.streams.push(Stream {
            arn: arn.clone(),
            label,
            view,
            enabled_at: now,
            disabled_at: None,
            is_gone: false,
            shards: BTreeMap::new(),
        });
        for partition in 0..state.partitions.len() {
            let shard = state.make_shard(self.nasty, now, None);
            state.partitions[partition].shard = Some(shard);
        }
        self.trace.note(|| format!("stream enabled: {arn}"));
        arn
    }

    /// Disables the stream: its shards are closed and nothing goes on from them. Its records stay readable.
    pub fn disable_stream(&self) {
        let now = self.time.now();
        let mut state = self.locked();
        for partition in 0..state.partitions.len() {
            if let Some(shard) = state.partitions[partition].shard.take() {
                state.close(self.nasty, now, &shard);
            }
        }
        let stream = state.live().expect("a stream that is on");
        stream.disabled_at = Some(now);
        self.trace.note(|| "stream disabled".into());
    }

    /// Drops the table and makes it again under its name, with another id, empty and without a stream.
    pub fn drop_and_create(&self) {
        let has_stream = self.locked().live().is_some();
        if has_stream {
            self.disable_stream();
        }
        let now = self.time.now();
        let mut state = self.locked();
        state.incarnation += 1;
        for versions in state.items.values_mut() {
            let is_there = versions.last().is_some_and(|last| last.item.is_some());
            if is_there {
                versions.push(super::sim_table::Version {
                    at: now,
                    item: None,
                    record: None,
                });
            }
        }
        self.trace.note(|| "table dropped and created".into());
    }

    /// The ARN of the stream that was enabled last.
    #[must_use]
    pub fn stream_arn(&self) -> Option<String> {
        self.locked().streams.last().map(|it| it.arn.clone())
    }

    /// The label of the stream that was enabled last.
    #[must_use]
    pub fn stream_label(&self) -> Option<String> {
        self.locked().streams.last().map(|it| it.label.clone())
    }

    /// The labels of all streams that the table ever had, the first one first.
    #[must_use]
    pub fn stream_labels(&self) -> Vec<String> {
        let state = self.locked();
        state.streams.iter().map(|it| it.label.clone()).collect()
    }

    /// Whether a shard is closed.
    #[must_use]
    pub fn is_closed(&self, shard: &ShardId) -> bool {
        self.locked().shard_mut(shard).closed_at.is_some()
    }

    /// The shards that take records now, in the order of their partitions.
    #[must_use]
    pub fn open_shards(&self) -> Vec<ShardId> {
        let state = self.locked();
        let open = state.partitions.iter();
        open.filter_map(|it| it.shard.clone()).collect()
    }

    /// The shard that takes the records of an item now.
    #[must_use]
    pub fn shard_of(&self, key: &str) -> Option<ShardId> {
        let state = self.locked();
        state.partitions[state.partition_of(key)].shard.clone()
    }

    /// Closes a shard; one child goes on from it.
    pub fn roll(&self, shard: &ShardId) -> ShardId {
        let child = self.begin_roll(shard);
        self.end_roll(shard);
        child
    }

    /// Makes a child of a shard that stays open and takes records until [`end_roll`](Self::end_roll): listings say that
    /// both are open.
    pub fn begin_roll(&self, shard: &ShardId) -> ShardId {
        let now = self.time.now();
        let mut state = self.locked();
        let child = state.make_shard(self.nasty, now, Some(shard));
        self.trace
            .note(|| format!("{shard} begins to roll to {child}"));
        child
    }

    /// Closes a shard whose children were made by [`begin_roll`](Self::begin_roll): they take its records from now on.
    pub fn end_roll(&self, shard: &ShardId) {
        let now = self.time.now();
        let mut state = self.locked();
        let children = state.close(self.nasty, now, shard);
        let place = state.place_of(shard);
        let [child] = &children[..] else {
            panic!("{shard} was rolled {} times", children.len());
        };
        state.partitions[place].shard = Some(child.clone());
        self.trace.note(|| format!("{shard} closed by a roll"));
    }

    /// Splits a partition: its shard is closed, and two go on from it.
    pub fn split(&self, shard: &ShardId) -> (ShardId, ShardId) {
        let now = self.time.now();
        let mut state = self.locked();
        let low = state.make_shard(self.nasty, now, Some(shard));
        let high = state.make_shard(self.nasty, now, Some(shard));
        state.close(self.nasty, now, shard);
        let place = state.place_of(shard);
        let from = state.partitions[place].from;
        let until = state.partitions.get(place + 1);
        let until = until.map_or(u64::MAX, |next| next.from);
        state.partitions[place].shard = Some(low.clone());
        let upper = Partition {
            from: from + (until - from) / 2,
            shard: Some(high.clone()),
        };
        state.partitions.insert(place + 1, upper);
        self.trace
            .note(|| format!("{shard} splits into {low} and {high}"));
        (low, high)
    }

    /// Makes one partition of this shard's and the next: both shards are closed, and one goes on, which names only
    /// the first as its parent.
    pub fn merge(&self, shard: &ShardId) -> ShardId {
        let now = self.time.now();
        let mut state = self.locked();
        let place = state.place_of(shard);
        let next = state.partitions.remove(place + 1);
        let child = state.make_shard(self.nasty, now, Some(shard));
        state.close(self.nasty, now, shard);
        if let Some(second) = next.shard {
            state.close(self.nasty, now, &second);
        }
        state.partitions[place].shard = Some(child.clone());
        child
    }

    /// The first `count` records of a shard that are still there are gone.
    pub fn trim(&self, shard: &ShardId, count: usize) {
        let mut state = self.locked();
        let shard = state.shard_mut(shard);
        shard.trimmed = (shard.trimmed + count).min(shard.records.len());
    }

    /// A shard can be read no more; listings still name it until [`unlist`](Self::unlist).
    pub fn forget(&self, shard: &ShardId) {
        self.locked().shard_mut(shard).is_forgotten = true;
    }

    /// A shard is gone without a trace.
    pub fn unlist(&self, shard: &ShardId) {
        let mut state = self.locked();
        for stream in &mut state.streams {
            stream.shards.remove(shard);
        }
    }

    /// From now on records are published by hand only.
    pub fn hold_publication(&self) {
        self.locked().holds_publication = true;
    }

    /// Publishes the next `count` held records of a shard, or as many as there are, and says how many.
    pub fn publish(&self, shard: &ShardId, count: usize) -> usize {
        let now = self.time.now();
        let mut state = self.locked();
        let held = state.shard_mut(shard).records.iter_mut();
        let held = held.filter(|record| record.published_at.is_none());
        let published = held.take(count).map(|record| {
            let mut known = SimRecord::clone(record);
            known.published_at = Some(now);
            *record = Arc::new(known);
        });
        published.count()
    }

    /// Publishes everything that is held, and holds nothing from now on.
    pub fn publish_all(&self) {
        let shards: Vec<ShardId> = {
            let mut state = self.locked();
            state.holds_publication = false;
            let shards = state.streams.iter().flat_map(|it| it.shards.keys());
            shards.cloned().collect()
        };
        for shard in shards {
            self.publish(&shard, usize::MAX);
        }
    }

    /// The records of a shard, published or not, trimmed or not.
    #[must_use]
    pub fn records_of(&self, shard: &ShardId) -> Vec<Arc<SimRecord>> {
        self.locked().shard_mut(shard).records.clone()
    }

    /// The shards that go on from a shard, as it is in truth.
    #[must_use]
    pub fn children_of(&self, shard: &ShardId) -> Vec<ShardId> {
        self.locked().shard_mut(shard).children.clone()
    }

    /// What `DescribeStream` would say of the latest stream if it told the truth.
    #[must_use]
    pub fn true_listing(&self) -> StreamListing {
        let now = self.time.now();
        let state = self.locked();
        let stream = state.streams.last().expect("a stream");
        let shards = stream.shards.iter();
        StreamListing {
            stream_arn: stream.arn.clone(),
            label: stream.label.clone(),
            view: stream.view,
            status: stream.status(now, self.nasty.enabling_ms),
            shards: shards.map(|(id, shard)| listed(id, shard)).collect(),
        }
    }

    /// Whether the stream that was enabled last still takes records.
    #[must_use]
    pub fn stream_is_on(&self) -> bool {
        let state = self.locked();
        let status = state.streams.last().map(|it| it.status(self.time.now(), 0));
        status.is_some_and(|status| status != StreamStatus::Disabled)
    }
}

/// A shard as a listing tells it.
pub(crate) fn listed(id: &ShardId, shard: &SimShard) -> Shard {
    Shard {
        id: id.clone(),
        parent: shard.parent.clone(),
        start: shard.start.parse().unwrap(),
        end: shard.end.as_ref().map(|end| end.parse().unwrap()),
    }
}

impl State {
    fn make_shard(
        &mut self,
        nasty: Nastiness,
        now: UnixMillis,
        parent: Option<&ShardId>,
    ) -> ShardId {
        let mut random = self.random.fork();
        let stream = self.streams.last_mut().expect("a stream");
        let number = stream.shards.len() as u64;
        let text = format!("shardId-{:020}-{:08x}", now.0, random.u32(..));
        let id: ShardId = text.parse().unwrap();
        let above = parent.map(|parent| &stream.shards[parent]);
        let last = above.map(SimShard::last_number);
        let start = if nasty.wild {
            beginning(last, &mut random)
        } else {
            last.map_or_else(|| usual(100_000 + number * 1000), |last| plus(last, 1_000))
        };
        if let Some(parent) = parent {
            let parent = stream.shards.get_mut(parent).unwrap();
            parent.children.push(id.clone());
        }
        let shard = SimShard {
            parent: parent.cloned(),
            children: Vec::new(),
            start,
            end: None,
            made_at: now,
            closed_at: None,
            records: Vec::new(),
            trimmed: 0,
            is_forgotten: false,
            event_time: highwater_domain::mark::UnixSeconds(0),
            trims_later_ms: random.u64(..=nasty.trim_jitter_ms),
        };
        stream.shards.insert(id.clone(), shard);
        id
    }

    /// Closes a shard and gives its children, whose paths go on from its final stamp.
    fn close(&mut self, nasty: Nastiness, now: UnixMillis, id: &ShardId) -> Vec<ShardId> {
        let beyond = if nasty.wild { self.random.u64(..3) } else { 0 };
        let stream = self.streams.last_mut().expect("a stream");
        let shard = stream.shards.get_mut(id).unwrap();
        assert!(shard.closed_at.is_none(), "{id} is closed");
        shard.closed_at = Some(now);
        // A shard's last number need not be that of a record.
        shard.end = Some(plus(shard.last_number(), beyond));
        let (children, event_time) = (shard.children.clone(), shard.event_time);
        for child in &children {
            let child = stream.shards.get_mut(child).unwrap();
            child.event_time = child.event_time.max(event_time);
        }
        children
    }

    fn place_of(&self, shard: &ShardId) -> usize {
        let place = self
            .partitions
            .iter()
            .position(|it| it.shard.as_ref() == Some(shard));
        place.unwrap_or_else(|| panic!("{shard} takes no records"))
    }

    pub(crate) fn shard_mut(&mut self, id: &ShardId) -> &mut SimShard {
        let mut streams = self.streams.iter_mut();
        let found = streams.find_map(|stream| stream.shards.get_mut(id));
        found.unwrap_or_else(|| panic!("there is no {id}"))
    }
}
