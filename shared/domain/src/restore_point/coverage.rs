//! Whether a log reaches from a handoff to a second without a hole between its shards.

use std::collections::{BTreeMap, BTreeSet};

use crate::handoff::{Handoff, HandoffShard};
use crate::lineage::Position;
use crate::log_facts::Ending;
use crate::restore_point::{Forbidden, LogFacts, LogShard, Needs};
use crate::shard::ShardId;

impl LogFacts {
    /// The shards whose records can matter, in the order of their records.
    ///
    /// All that the log knows, but those whose last record is from before, and those that begin after. This does not
    /// rest on parents: a shard that was found without one is read like any other.
    #[must_use]
    pub fn shards_between(&self, needs: Needs) -> Vec<&LogShard> {
        let mut shards: Vec<&LogShard> = self
            .shards
            .values()
            .filter(|shard| shard.may_matter(needs))
            .collect();
        shards.sort_by(|a, b| a.place().cmp(&b.place()));
        shards
    }
}

impl LogShard {
    fn may_matter(&self, needs: Needs) -> bool {
        let ended_before = self
            .end
            .as_ref()
            .and_then(|end| end.event_time)
            .is_some_and(|at| at < needs.from);
        let begins_after = self.facts.event_time.is_some_and(|at| at > needs.until);
        !ended_before && !begins_after
    }

    fn place(&self) -> (u64, &ShardId) {
        (self.facts.ordinal.0, &self.facts.shard.id)
    }
}

/// Finds a hole: a shard of the handoff that the log does not have from its position on, a child that it does not
/// know, a loss that no incident tells of.
pub(super) fn check_coverage(
    handoff: &Handoff,
    log: &LogFacts,
    needs: Needs,
) -> Result<(), Forbidden> {
    let listed: BTreeMap<&ShardId, &HandoffShard> = handoff
        .shards
        .iter()
        .map(|shard| (&shard.shard.id, shard))
        .collect();
    for begin in handoff.beginnings() {
        if !is_reached(begin, &listed, log) {
            return Err(Forbidden::DoesNotReachBack {
                shard: begin.shard.id.clone(),
                captured_at: handoff.captured_at.to_rfc3339(),
            });
        }
    }
    for shard in log.shards_between(needs) {
        check_end(shard, log, needs)?;
    }
    Ok(())
}

/// Whether the log has the shard from its position on, or still reads an ancestor of it.
fn is_reached(
    begin: &HandoffShard,
    listed: &BTreeMap<&ShardId, &HandoffShard>,
    log: &LogFacts,
) -> bool {
    let mut next = Some(&begin.shard.id);
    let mut seen = BTreeSet::new();
    while let Some(id) = next.filter(|id| seen.insert(*id)) {
        if let Some(known) = log.shards.get(id) {
            let begins_early = match &begin.resume {
                Some(Position::At(start)) => known.facts.shard.start <= *start,
                // Anything else is no beginning that a handoff has.
                _ => false,
            };
            let is_itself = *id == begin.shard.id;
            return (is_itself && begins_early) || (!is_itself && known.end.is_none());
        }
        next = listed.get(id).and_then(|shard| shard.shard.parent.as_ref());
    }
    false
}

/// What goes on from an ended shard must be known, and so must the seconds of what was lost with it.
fn check_end(shard: &LogShard, log: &LogFacts, needs: Needs) -> Result<(), Forbidden> {
    let Some(end) = &shard.end else {
        return Ok(());
    };
    let id = &shard.facts.shard.id;
    if end.ending == Ending::Lost {
        let is_told = log
            .incidents
            .iter()
            .any(|it| it.kind.loses_records() && it.shard.as_ref() == Some(id));
        if !is_told {
            return Err(Forbidden::UntoldLoss { shard: id.clone() });
        }
    }
    if end.event_time.is_some_and(|at| at > needs.until) {
        return Ok(());
    }
    let unknown = end
        .children
        .iter()
        .find(|child| !log.shards.contains_key(child));
    unknown.map_or(Ok(()), |child| {
        Err(Forbidden::ChildUnknown {
            parent: id.clone(),
            child: child.clone(),
        })
    })
}
