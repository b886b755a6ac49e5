//! Where live changes take over from a scan: positions in a stream, captured before the scan begins.

use serde::{Deserialize, Serialize};

use crate::ids::UnixMillis;
use crate::lineage::{Lineage, Node, Oddity, Position};
use crate::sequence_number::{Generation, ShardOrdinal};
use crate::shard::{Shard, ShardId, StreamListing, StreamView};

/// The version of the handoff's layout that this build writes.
pub const HANDOFF_VERSION: u32 = 1;

/// How far back an eventually consistent read may see: consumption then begins before it.
pub const EVENTUAL_MARGIN_MS: u64 = 15 * 60 * 1000;

/// A log is complete only so long after a root shard was made.
const ROOT_MARGIN_MS: u64 = 60 * 1000;

/// The handoff of one snapshot, versioned JSON in the snapshot's record and in `backup.json`.
///
/// Every record that DynamoDB published after the positions is in the log, or an incident says that it is not. A
/// strongly consistent read after the capture has seen everything published before it. So, for each key, the last
/// record in the log beats the scanned item, and without one the scanned item stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// The layout's version, [`HANDOFF_VERSION`].
    pub version: u32,
    /// The table.
    pub table_arn: String,
    /// The table's UUID.
    pub table_id: Option<String>,
    /// The stream.
    pub stream_arn: String,
    /// When the stream was enabled, which names it.
    pub stream_label: String,
    /// Which of the table's streams it is.
    pub generation: Generation,
    /// What its records carry.
    pub view: StreamView,
    /// When the positions were captured.
    pub captured_at: UnixMillis,
    /// Below this the log was not complete even then: records from before may be gone.
    pub log_from: UnixMillis,
    /// Every shard that was listed, in order of their ids.
    pub shards: Vec<HandoffShard>,
    /// What was odd about the listing when patience ended; empty for one that two looks agreed on.
    pub oddities: Vec<Oddity>,
}

/// One shard of a handoff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffShard {
    /// The shard as it was listed.
    #[serde(flatten)]
    pub shard: Shard,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// Where reading begins, for the shards that it begins with; the others are ancestors of these, or follow them.
    pub resume: Option<Position>,
}

/// What a handoff is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoffOf {
    /// The table's ARN.
    pub table_arn: String,
    /// The table's UUID.
    pub table_id: Option<String>,
    /// Which of the table's streams it is.
    pub generation: Generation,
    /// Whether the scan reads strongly consistently.
    pub consistent: bool,
}

impl Handoff {
    /// The positions that a listing gives.
    ///
    /// For a strongly consistent scan, and a listing without oddities, reading begins with the open shards. For any
    /// other it begins with their ancestors: more records than needed are harmless, fewer are a hole.
    #[must_use]
    pub fn of(
        of: HandoffOf,
        listing: &StreamListing,
        oddities: Vec<Oddity>,
        now: UnixMillis,
    ) -> Self {
        let lineage = Lineage::of(listing, now);
        let begins: Vec<&ShardId> = beginnings(&lineage, &of, &oddities, now)
            .into_iter()
            .map(|node| &node.shard.id)
            .collect();
        let shard = |node: &Node| HandoffShard {
            shard: node.shard.clone(),
            ordinal: node.ordinal,
            resume: begins
                .contains(&&node.shard.id)
                .then(|| Position::At(node.shard.start.clone())),
        };
        let roots = lineage
            .roots()
            .filter_map(|root| root.shard.id.created_at());
        Self {
            version: HANDOFF_VERSION,
            table_arn: of.table_arn,
            table_id: of.table_id,
            stream_arn: listing.stream_arn.clone(),
            stream_label: listing.label.clone(),
            generation: of.generation,
            view: listing.view,
            captured_at: now,
            log_from: UnixMillis(roots.map(|at| at.0).max().unwrap_or(now.0) + ROOT_MARGIN_MS),
            shards: lineage.iter().map(shard).collect(),
            oddities,
        }
    }

    /// The shards that reading begins with.
    pub fn beginnings(&self) -> impl Iterator<Item = &HandoffShard> {
        self.shards.iter().filter(|shard| shard.resume.is_some())
    }
}

fn beginnings<'a>(
    lineage: &'a Lineage,
    of: &HandoffOf,
    oddities: &[Oddity],
    now: UnixMillis,
) -> Vec<&'a Node> {
    if !oddities.is_empty() {
        // A listing that cannot be believed: from as far back as it knows.
        return lineage.roots().collect();
    }
    if of.consistent {
        return lineage.open_frontier();
    }
    lineage.frontier_since(UnixMillis(now.0.saturating_sub(EVENTUAL_MARGIN_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::oddities;
    use crate::shard::StreamStatus;

    const NOW: UnixMillis = UnixMillis(1_768_385_930_622);

    fn id(minutes_ago: u64, name: &str) -> ShardId {
        format!("shardId-{:020}-{name}", NOW.0 - minutes_ago * 60_000)
            .parse()
            .unwrap()
    }

    fn listing() -> StreamListing {
        let shard = |id: ShardId, parent: Option<ShardId>, open: bool| Shard {
            id,
            parent,
            start: "100".parse().unwrap(),
            end: (!open).then(|| "900".parse().unwrap()),
        };
        StreamListing {
            stream_arn: "arn:stream".into(),
            label: "2026-01-14T10:18:50.622".into(),
            view: StreamView::NewAndOldImages,
            status: StreamStatus::Enabled,
            shards: vec![
                shard(id(300, "a"), None, false),
                shard(id(5, "b"), Some(id(300, "a")), true),
            ],
        }
    }

    fn of(consistent: bool) -> HandoffOf {
        HandoffOf {
            table_arn: "arn:table".into(),
            table_id: Some("uuid".into()),
            generation: Generation(1),
            consistent,
        }
    }

    fn begins(handoff: &Handoff) -> Vec<ShardId> {
        handoff.beginnings().map(|it| it.shard.id.clone()).collect()
    }

    #[test]
    fn reading_begins_with_the_open_shards() {
        let handoff = Handoff::of(of(true), &listing(), Vec::new(), NOW);
        assert_eq!(begins(&handoff), [id(5, "b")]);
        assert_eq!(handoff.shards.len(), 2, "the lineage is kept whole");
        assert_eq!(handoff.log_from, UnixMillis(NOW.0 - 299 * 60_000));
        let json = serde_json::to_string(&handoff).unwrap();
        assert_eq!(serde_json::from_str::<Handoff>(&json).unwrap(), handoff);
    }

    /// Case 7: an eventually consistent read may not have seen what an ancestor published minutes ago.
    #[test]
    fn an_eventual_scan_begins_with_ancestors() {
        let handoff = Handoff::of(of(false), &listing(), Vec::new(), NOW);
        assert_eq!(begins(&handoff), [id(300, "a")]);
    }

    #[test]
    fn an_odd_listing_begins_with_its_roots() {
        let mut odd = listing();
        odd.shards[0].end = None;
        let oddities = oddities(&odd, NOW);
        assert_eq!(oddities.len(), 1);
        let handoff = Handoff::of(of(true), &odd, oddities, NOW);
        assert_eq!(begins(&handoff), [id(300, "a")]);
    }
}
