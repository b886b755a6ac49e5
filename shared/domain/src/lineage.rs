//! The family tree of a stream's shards: what a listing says, whether it can be believed, and where to begin.
//!
//! `DescribeStream` is eventually consistent and wrong in four known ways: a parent is listed as open while its child
//! is listed; a closed shard is listed without a child; a shard is not listed yet; one is listed after its data is
//! gone. So a listing is believed only when it makes sense and a second one agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::UnixMillis;
use crate::sequence_number::{SequenceNumber, ShardOrdinal, ordinal};
use crate::shard::{Shard, ShardId, StreamListing, StreamStatus};

/// How long DynamoDB keeps stream records: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>.
pub const RETENTION_MS: u64 = 24 * 60 * 60 * 1000;

/// Something in a listing that cannot be so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "oddity")]
pub enum Oddity {
    /// A shard is open and has a child all the same. It may still receive records.
    OpenParent {
        /// The parent.
        parent: ShardId,
        /// One of its children.
        child: ShardId,
    },
    /// A shard is closed and nothing goes on from it, although the stream is alive.
    ClosedWithoutChild {
        /// The shard.
        shard: ShardId,
    },
    /// A shard names a parent that is not listed and whose records cannot all be gone yet.
    ParentNotListed {
        /// The shard.
        child: ShardId,
        /// The parent that it names.
        parent: ShardId,
    },
    /// A shard is listed twice.
    Twice {
        /// The shard.
        shard: ShardId,
    },
    /// Shards are each other's ancestors.
    Circle {
        /// One of them.
        shard: ShardId,
    },
    /// No two looks agreed until patience ended.
    Unsettled,
}

/// A position in one shard, such that nothing from there on can be lost without an error.
///
/// `TRIM_HORIZON` and `LATEST` are no such positions: they skip in silence what is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// `AT_SEQUENCE_NUMBER`: with this record.
    At(SequenceNumber),
    /// `AFTER_SEQUENCE_NUMBER`: behind this record.
    After(SequenceNumber),
    /// Behind the last record of a closed shard.
    End,
}

/// One shard of a believed listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The shard as it was listed.
    pub shard: Shard,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// Those that go on from it, in order of their ids.
    pub children: Vec<ShardId>,
}

/// The shards of one stream by their ids, parents linked with children.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(BTreeMap<ShardId, Node>);

impl Lineage {
    /// The tree that a listing tells of. Shards whose parent is not listed are roots.
    #[must_use]
    pub fn of(listing: &StreamListing, now: UnixMillis) -> Self {
        let shards: BTreeMap<&ShardId, &Shard> = listing
            .shards
            .iter()
            .map(|shard| (&shard.id, shard))
            .collect();
        let mut ordinals = BTreeMap::new();
        for id in shards.keys() {
            place(id, &shards, &mut ordinals, now);
        }
        let node = |(id, shard): (&&ShardId, &&Shard)| {
            let is_child = |other: &&&Shard| other.parent.as_ref() == Some(*id);
            let children = shards
                .values()
                .filter(is_child)
                .map(|child| child.id.clone());
            let node = Node {
                shard: (*shard).clone(),
                ordinal: ordinals.get(*id).copied().unwrap_or_default(),
                children: children.collect(),
            };
            ((*id).clone(), node)
        };
        Self(shards.iter().map(node).collect())
    }

    /// One shard.
    #[must_use]
    pub fn get(&self, id: &ShardId) -> Option<&Node> {
        self.0.get(id)
    }

    /// All shards, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.0.values()
    }

    /// Shards whose parent is not here.
    pub fn roots(&self) -> impl Iterator<Item = &Node> {
        self.iter().filter(|node| self.parent_of(node).is_none())
    }

    fn parent_of(&self, node: &Node) -> Option<&Node> {
        self.0.get(node.shard.parent.as_ref()?)
    }

    /// Where to read from so that every record published from now on is seen: the shards that may still receive
    /// some, each from its start, but none below another of them.
    ///
    /// A shard that is open receives records even if a child of its is listed already; that child waits for it.
    #[must_use]
    pub fn open_frontier(&self) -> Vec<&Node> {
        self.frontier(|node| node.shard.end.is_none())
    }

    /// Where to read from so that every record published after `since` is seen, also by a reader whose reads may be
    /// as old as that: the oldest shards of each path that may hold one.
    #[must_use]
    pub fn frontier_since(&self, since: UnixMillis) -> Vec<&Node> {
        // A shard holds only records from before its first child was made.
        let may_hold = |node: &&Node| {
            let ended_at = node.children.iter().filter_map(ShardId::created_at).min();
            node.shard.end.is_none() || ended_at.is_none_or(|at| at >= since)
        };
        self.frontier(may_hold)
    }

    /// The shards that pass `test` with no ancestor that does.
    #[must_use]
    pub fn frontier(&self, test: impl Fn(&&Node) -> bool) -> Vec<&Node> {
        self.iter()
            .filter(&test)
            .filter(|node| !self.has_ancestor(node, &test))
            .collect()
    }

    fn has_ancestor(&self, node: &Node, test: &impl Fn(&&Node) -> bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = self.parent_of(node);
        while let Some(ancestor) = next {
            if test(&ancestor) {
                return true;
            }
            if !seen.insert(&ancestor.shard.id) {
                return false;
            }
            next = self.parent_of(ancestor);
        }
        false
    }
}

/// Finds a shard's ordinal, its ancestors' first. A circle ends where it began.
fn place<'a>(
    id: &'a ShardId,
    shards: &BTreeMap<&'a ShardId, &'a Shard>,
    ordinals: &mut BTreeMap<&'a ShardId, ShardOrdinal>,
    now: UnixMillis,
) {
    let mut path = vec![id];
    let mut on_path = BTreeSet::from([id]);
    while let Some(parent) = path
        .last()
        .and_then(|last| shards.get(last)?.parent.as_ref())
        .filter(|parent| shards.contains_key(parent) && !ordinals.contains_key(parent))
    {
        if !on_path.insert(parent) {
            break;
        }
        path.push(parent);
    }
    for id in path.into_iter().rev() {
        let parent = shards.get(id).and_then(|shard| shard.parent.as_ref());
        let above = parent.and_then(|parent| ordinals.get(parent).copied());
        ordinals.insert(id, ordinal(id, above, now.0));
    }
}

/// Everything in a listing that cannot be so. A parent may be absent if its records may all be gone.
#[must_use]
pub fn oddities(listing: &StreamListing, now: UnixMillis) -> Vec<Oddity> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for shard in &listing.shards {
        if !seen.insert(&shard.id) {
            found.insert(Oddity::Twice {
                shard: shard.id.clone(),
            });
        }
    }
    let lineage = Lineage::of(listing, now);
    for node in lineage.iter() {
        let shard = &node.shard;
        match (&shard.end, node.children.first()) {
            (None, Some(child)) => {
                found.insert(Oddity::OpenParent {
                    parent: shard.id.clone(),
                    child: child.clone(),
                });
            }
            (Some(_), None) if listing.status != StreamStatus::Disabled => {
                found.insert(Oddity::ClosedWithoutChild {
                    shard: shard.id.clone(),
                });
            }
            _ => {}
        }
        let young = shard
            .id
            .created_at()
            .is_none_or(|at| now.since(at) < RETENTION_MS);
        if let Some(parent) = shard
            .parent
            .as_ref()
            .filter(|parent| lineage.get(parent).is_none() && young)
        {
            found.insert(Oddity::ParentNotListed {
                child: shard.id.clone(),
                parent: parent.clone(),
            });
        }
        if lineage.has_ancestor(node, &|ancestor: &&Node| ancestor.shard.id == shard.id) {
            found.insert(Oddity::Circle {
                shard: shard.id.clone(),
            });
        }
    }
    found.into_iter().collect()
}

/// The children of a shard that was read to its end, as answers about them come in.
///
/// Just after the end an answer may name none of them, or some. So they are believed when two answers, some time apart, name
/// all that any answer has named. Only a stream that was disabled may have ended without children.
#[derive(Clone, Debug, Default)]
pub struct ChildrenWatch {
    seen: BTreeMap<ShardId, Shard>,
    agreed_since: Option<Duration>,
}

impl ChildrenWatch {
    /// Takes an answer of the moment `at`, by any clock that only goes forward. The children, once they are believed.
    ///
    /// `may_be_none`: the stream is disabled, or gone.
    pub fn answer(
        &mut self,
        at: Duration,
        children: &[Shard],
        may_be_none: bool,
        apart: Duration,
    ) -> Option<Vec<Shard>> {
        let known = self.seen.len();
        for child in children {
            let kept = self
                .seen
                .entry(child.id.clone())
                .or_insert_with(|| child.clone());
            // It may have ended between two answers.
            kept.end = kept.end.take().or_else(|| child.end.clone());
        }
        if self.seen.len() > known {
            self.agreed_since = None;
        }
        let named: BTreeSet<&ShardId> = children.iter().map(|child| &child.id).collect();
        let is_whole = named.len() == self.seen.len() && (may_be_none || !named.is_empty());
        if !is_whole {
            return None;
        }
        let since = *self.agreed_since.get_or_insert(at);
        let is_second = at > since || apart.is_zero();
        (is_second && at.saturating_sub(since) >= apart)
            .then(|| self.seen.values().cloned().collect())
    }

    /// Whether any answer has named a child.
    #[must_use]
    pub fn has_seen_any(&self) -> bool {
        !self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::StreamView;

    const HOUR: u64 = 3_600_000;
    const NOW: UnixMillis = UnixMillis(1_768_385_930_622);

    fn id(hours_ago: u64, name: &str) -> ShardId {
        format!("shardId-{:020}-{name}", NOW.0 - hours_ago * HOUR)
            .parse()
            .unwrap()
    }

    fn shard(id: &ShardId, parent: Option<&ShardId>, open: bool) -> Shard {
        let number = |text: &str| text.parse().unwrap();
        Shard {
            id: id.clone(),
            parent: parent.cloned(),
            start: number("100"),
            end: (!open).then(|| number("900")),
        }
    }

    fn listing(shards: Vec<Shard>) -> StreamListing {
        StreamListing {
            stream_arn: "arn".into(),
            label: "label".into(),
            view: StreamView::NewAndOldImages,
            status: StreamStatus::Enabled,
            shards,
        }
    }

    #[test]
    fn a_sound_listing_has_no_oddities() {
        let (root, left, right) = (id(9, "a"), id(4, "b"), id(4, "c"));
        let gone = id(30, "z");
        let sound = listing(vec![
            shard(&left, Some(&root), true),
            shard(&right, Some(&root), true),
            shard(&root, Some(&gone), false),
        ]);
        // The root is younger than a day, so that its parent should be listed.
        assert_eq!(
            oddities(&sound, NOW),
            [Oddity::ParentNotListed {
                child: root.clone(),
                parent: gone
            }]
        );
        let later = UnixMillis(NOW.0 + 16 * HOUR);
        assert_eq!(oddities(&sound, later), []);
        let lineage = Lineage::of(&sound, NOW);
        assert_eq!(lineage.get(&root).unwrap().children, [left, right]);
        assert_eq!(lineage.roots().count(), 1);
    }

    #[test]
    fn every_known_lie_is_seen() {
        let (root, child, lone) = (id(9, "a"), id(5, "b"), id(3, "c"));
        let lies = listing(vec![
            shard(&root, None, true),
            shard(&child, Some(&root), false),
            shard(&lone, None, true),
            shard(&lone, None, true),
        ]);
        assert_eq!(
            oddities(&lies, NOW),
            [
                Oddity::OpenParent {
                    parent: root,
                    child: child.clone()
                },
                Oddity::ClosedWithoutChild { shard: child },
                Oddity::Twice { shard: lone },
            ]
        );
    }

    #[test]
    fn an_ended_stream_may_have_childless_shards() {
        let mut ended = listing(vec![shard(&id(9, "a"), None, false)]);
        ended.status = StreamStatus::Disabled;
        assert_eq!(oddities(&ended, NOW), []);
    }

    #[test]
    fn circles_end() {
        let (a, b) = (id(9, "a"), id(9, "b"));
        let circle = listing(vec![shard(&a, Some(&b), false), shard(&b, Some(&a), true)]);
        let odd = oddities(&circle, NOW);
        assert!(
            odd.contains(&Oddity::Circle { shard: a })
                && odd.contains(&Oddity::Circle { shard: b }),
            "{odd:?}"
        );
    }

    /// Case 66: an open parent whose child is listed may still receive records: reading begins with it.
    #[test]
    fn the_open_frontier_begins_with_open_parents() {
        let (root, child, grandchild) = (id(9, "a"), id(5, "b"), id(1, "c"));
        let odd = listing(vec![
            shard(&root, None, true),
            shard(&child, Some(&root), false),
            shard(&grandchild, Some(&child), true),
        ]);
        let lineage = Lineage::of(&odd, NOW);
        let frontier: Vec<_> = lineage
            .open_frontier()
            .into_iter()
            .map(|it| &it.shard.id)
            .collect();
        assert_eq!(frontier, [&root]);
    }

    #[test]
    fn an_older_frontier_reaches_back_to_ancestors() {
        let (root, child, grandchild) = (id(9, "a"), id(5, "b"), id(1, "c"));
        let sound = listing(vec![
            shard(&root, None, false),
            shard(&child, Some(&root), false),
            shard(&grandchild, Some(&child), true),
        ]);
        let lineage = Lineage::of(&sound, NOW);
        let from = |hours_ago: u64| {
            let since = UnixMillis(NOW.0 - hours_ago * HOUR);
            let frontier = lineage.frontier_since(since).into_iter();
            frontier.map(|it| it.shard.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(from(0), [grandchild]);
        assert_eq!(from(1), std::slice::from_ref(&child));
        assert_eq!(from(4), [child]);
        assert_eq!(from(5), std::slice::from_ref(&root));
        assert_eq!(from(30), [root]);
    }

    /// Case 46: what counts is the lineage, not the numbers.
    #[test]
    fn ordinals_grow_along_the_lineage() {
        let (root, child) = (id(5, "a"), id(9, "b"));
        let backwards = listing(vec![
            shard(&root, None, false),
            shard(&child, Some(&root), true),
        ]);
        let lineage = Lineage::of(&backwards, NOW);
        assert!(lineage.get(&child).unwrap().ordinal > lineage.get(&root).unwrap().ordinal);
    }

    fn watched(answers: &[(u64, &[&str], bool)]) -> Option<Vec<ShardId>> {
        let mut watch = ChildrenWatch::default();
        let root = id(9, "a");
        let mut believed = None;
        for (second, names, disabled) in answers {
            assert_eq!(believed, None, "an answer after the last one");
            let children: Vec<Shard> = names
                .iter()
                .map(|name| shard(&id(4, name), Some(&root), true))
                .collect();
            let at = Duration::from_secs(*second);
            let apart = Duration::from_secs(10);
            believed = watch.answer(at, &children, *disabled, apart);
        }
        let ids = |shards: Vec<Shard>| shards.into_iter().map(|shard| shard.id).collect();
        believed.map(ids)
    }

    /// Case 34: none for a while, then one, then both.
    #[test]
    fn case_34_children_are_believed_when_answers_agree() {
        let both = Some(vec![id(4, "b"), id(4, "c")]);
        let answers: [(u64, &[&str], bool); 6] = [
            (0, &[], false),
            (10, &[], false),
            (40, &["b"], false),
            (49, &["b", "c"], false),
            (50, &["b", "c"], false),
            (59, &["c", "b"], false),
        ];
        for some in 1..6 {
            assert_eq!(watched(&answers[..some]), None, "{some} answers");
        }
        assert_eq!(watched(&answers), both);
        // An answer that has forgotten one does not agree, and does not take it back.
        let forgetful: [(u64, &[&str], bool); 3] = [
            (0, &["b", "c"], false),
            (11, &["b"], false),
            (12, &["b", "c"], false),
        ];
        assert_eq!(watched(&forgetful[..2]), None);
        assert_eq!(watched(&forgetful), both);
    }

    #[test]
    fn only_a_disabled_stream_ends_without_children() {
        let none: [(u64, &[&str], bool); 2] = [(0, &[], false), (9999, &[], false)];
        assert_eq!(watched(&none), None);
        let disabled: [(u64, &[&str], bool); 2] = [(0, &[], true), (10, &[], true)];
        assert_eq!(watched(&disabled[..1]), None);
        assert_eq!(watched(&disabled), Some(Vec::new()));
        let one_after_all: [(u64, &[&str], bool); 2] = [(0, &[], true), (10, &["b"], true)];
        assert_eq!(watched(&one_after_all), None);
    }
}
