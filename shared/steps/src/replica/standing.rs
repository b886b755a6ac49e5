//! How far a replica is: the second up to which it holds every change of its source.

use std::collections::{BTreeMap, BTreeSet};

use highwater_domain::live_control::LogId;
use highwater_domain::mark::{ShardProgress, UnixSeconds, mark};
use highwater_domain::replica::ReplicaRecord;
use highwater_domain::shard::ShardId;
use highwater_lease::Leases;

use super::{FeedDeps, update};
use crate::error::StepError;
use crate::shard_rows::{self, ShardRow};

type Rows = BTreeMap<ShardId, ShardRow>;

/// Finds how far the replica is, and puts it on record, with how many records it has refused. Neither ever goes back.
pub(crate) async fn publish(
    deps: &FeedDeps,
    record: &ReplicaRecord,
    log: &LogId,
    writers: &Leases,
    own: &Leases,
    refused: u64,
) -> Result<ReplicaRecord, StepError> {
    // The mark first, then the log's positions, then the replica's: whatever the mark covers lies before the positions that are read
    // after it, and those of the replica are younger still.
    let published = deps.live.live.mark(log).await.map_err(StepError::Control)?;
    let log_mark = published.and_then(|published| published.value.mark.best());
    let written = shard_rows::all(writers).await?;
    let applied = shard_rows::all(own).await?;
    let until = applied_until(log_mark, &written, &applied);
    let now = deps.live.clock.now();
    update(deps, &record.source_arn, &record.id, |latest| {
        let next = latest.applied.max(until);
        let is_news =
            next != latest.applied || refused > latest.refused || latest.applied_at.is_none();
        let stale = latest
            .applied_at
            .is_some_and(|at| now.since(at) >= STALE_MS);
        if latest.phase.is_over() || !(is_news || stale) {
            return Ok(latest.clone());
        }
        Ok(ReplicaRecord {
            applied: next,
            refused: latest.refused.max(refused),
            applied_at: Some(now),
            ..latest.clone()
        })
    })
    .await
}

/// That a replica was looked at is put on record at least so often.
const STALE_MS: u64 = 60_000;

/// The second up to which everything is applied, from the log's mark and the positions of both. `None` if nothing is known.
///
/// Of a shard that the replica has read as far as the log goes it holds what the log's mark promises; of one that it is behind in, what
/// its own records prove; of one that it has not met, nothing, unless it must read to the end of another before.
#[must_use]
pub fn applied_until(
    log_mark: Option<UnixSeconds>,
    written: &Rows,
    applied: &Rows,
) -> Option<UnixSeconds> {
    let log_mark = log_mark?;
    if applied.is_empty() {
        return None;
    }
    let before = ancestors(written, applied);
    let mut behind: Vec<&ShardRow> = applied
        .values()
        .filter(|own| !own.ended && !written.contains_key(&own.shard))
        .collect();
    for row in written.values() {
        match applied.get(&row.shard) {
            Some(own) if own.position >= row.position => {}
            Some(own) => behind.push(own),
            None if before.contains(&row.shard) => {}
            // The one that it waits for is behind.
            None if is_waited_with(&row.shard, written, applied) => {}
            None => return None,
        }
    }
    if behind.is_empty() {
        return Some(log_mark);
    }
    let progress = behind.into_iter().map(|row| ShardProgress {
        // Silence of a replica is the log's, not the stream's.
        silence: None,
        ..row.progress()
    });
    let progress: Vec<ShardProgress> = progress.collect();
    let proven = mark(&progress, &[], 0).ok()?.proven?;
    Some(proven.min(log_mark))
}

/// Whether the replica is still to read a shard from which this one goes on: it meets this one at that one's end.
fn is_waited_with(shard: &ShardId, written: &Rows, applied: &Rows) -> bool {
    let mut seen = BTreeSet::from([shard]);
    let mut open = vec![shard];
    while let Some(id) = open.pop() {
        let parents = written.get(id).map(|row| &row.parents);
        for parent in parents.into_iter().flatten() {
            match applied.get(parent) {
                Some(own) if !own.ended => return true,
                None if seen.insert(parent) => open.push(parent),
                Some(_) | None => {}
            }
        }
    }
    false
}

/// The shards that lead to those that the replica reads: they ended before its handoff.
fn ancestors(written: &Rows, applied: &Rows) -> BTreeSet<ShardId> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&ShardId> = applied.keys().collect();
    while let Some(id) = open.pop() {
        let parents = written.get(id).map(|row| &row.parents);
        for parent in parents.into_iter().flatten() {
            if !applied.contains_key(parent) && found.insert(parent.clone()) {
                open.push(parent);
            }
        }
    }
    // A shard that was closed when the log began has no lease of its own among those of its children.
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_domain::sequence_number::ShardOrdinal;

    fn row(shard: &str, parents: &[&str], position: &str, at: Option<u64>) -> (ShardId, ShardRow) {
        let id: ShardId = shard.parse().unwrap();
        let row = ShardRow {
            shard: id.clone(),
            parents: parents.iter().map(|it| it.parse().unwrap()).collect(),
            children: Vec::new(),
            ended: position == "END",
            position: position.parse().unwrap(),
            ordinal: ShardOrdinal(1),
            event_time: at.map(UnixSeconds),
            event_time_base: None,
            end: None,
            silence: None,
            lost: false,
            owner: None,
        };
        (id, row)
    }

    fn rows<const N: usize>(rows: [(ShardId, ShardRow); N]) -> Rows {
        rows.into_iter().collect()
    }

    const MARK: Option<UnixSeconds> = Some(UnixSeconds(900));

    #[test]
    fn at_the_tip_the_logs_mark_holds() {
        let written = rows([
            row("a", &[], "AFTER:7", Some(500)),
            row("b", &[], "AT:1", None),
        ]);
        let applied = rows([
            row("a", &[], "AFTER:7", Some(500)),
            row("b", &[], "AT:1", None),
        ]);
        assert_eq!(applied_until(MARK, &written, &applied), MARK);
        assert_eq!(applied_until(None, &written, &applied), None);
        assert_eq!(applied_until(MARK, &written, &Rows::new()), None);
    }

    #[test]
    fn behind_the_tip_only_what_was_applied_counts() {
        let written = rows([
            row("a", &[], "AFTER:9", Some(800)),
            row("b", &[], "AFTER:5", Some(300)),
        ]);
        let behind = rows([
            row("a", &[], "AFTER:7", Some(500)),
            row("b", &[], "AFTER:5", Some(300)),
        ]);
        // What is idle and read as far as the log goes holds nothing back.
        assert_eq!(
            applied_until(MARK, &written, &behind),
            Some(UnixSeconds(499))
        );
        // A shard of which nothing was applied leaves nothing known.
        let nothing = rows([
            row("a", &[], "AFTER:9", Some(800)),
            row("b", &[], "AT:1", None),
        ]);
        assert_eq!(applied_until(MARK, &written, &nothing), None);
        // What is applied beyond the mark is held back with it.
        let held = Some(UnixSeconds(3));
        assert_eq!(applied_until(held, &written, &behind), held);
        // One that the log's rows lack is behind for all that is known.
        let stray = rows([row("x", &[], "AFTER:7", Some(200))]);
        let until = applied_until(MARK, &Rows::new(), &stray);
        assert_eq!(until, Some(UnixSeconds(199)));
    }

    #[test]
    fn a_shard_that_the_replica_does_not_know_yet_is_behind_but_one_from_before_is_not() {
        let child = row("c", &["a"], "AFTER:9", Some(800));
        let written = rows([row("a", &[], "END", Some(500)), child.clone()]);
        let applied = rows([row("a", &[], "AFTER:7", Some(400))]);
        assert_eq!(
            applied_until(MARK, &written, &applied),
            Some(UnixSeconds(399))
        );
        // Rows are not read at one moment: the parent was seen at its end, and the child was not seen.
        let applied = rows([row("a", &[], "END", Some(500))]);
        assert_eq!(applied_until(MARK, &written, &applied), None);
        // The parent ended before the handoff: the replica never reads it.
        let applied = rows([child]);
        assert_eq!(applied_until(MARK, &written, &applied), MARK);
    }

    /// Seed 5919: the handoff was captured while the listing hid a shard, and the replica had not surveyed its log yet.
    #[test]
    fn a_shard_that_leads_nowhere_and_follows_nothing_that_is_read_leaves_nothing_known() {
        let written = rows([
            row("y", &[], "END", Some(1)),
            row("z", &["y"], "AFTER:1", Some(1)),
            row("c", &["a"], "AFTER:9", Some(800)),
        ]);
        for position in ["AFTER:8", "AFTER:9"] {
            let applied = rows([row("c", &["a"], position, Some(800))]);
            assert_eq!(applied_until(MARK, &written, &applied), None);
        }
    }
}
