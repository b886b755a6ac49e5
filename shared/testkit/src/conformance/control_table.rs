//! The laws of [`ControlTable`].

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow};

pub use crate::sample_rows::{checkpoint, part_row, record};

/// Runs every law. The table may hold other snapshots, none begun in the first minute of 1970.
pub async fn every_law(table: &Arc<dyn ControlTable>) {
    records_read_back_whole(&**table).await;
    an_id_is_taken_once(table).await;
    of_sixteen_updates_of_one_version_one_is_applied(table).await;
    of_sixteen_commits_of_one_version_one_is_applied(table).await;
    versions_grow(&**table).await;
    part_and_checkpoint_appear_together_or_not_at_all(&**table).await;
    a_part_row_never_changes(&**table).await;
    a_commit_may_have_no_part(&**table).await;
    segments_page_in_order(&**table).await;
    parts_page_in_order(&**table).await;
    forgetting_twice_forgets_one_snapshot(&**table).await;
}

/// Ids of the first minute of 1970, one per law.
fn id(law: u64) -> SnapshotId {
    SnapshotId::new(UnixMillis(law), 0xfeed_0000)
}

async fn commit(
    table: &dyn ControlTable,
    snapshot: &SnapshotId,
    segment: u32,
    seen: Option<i64>,
    part: Option<u32>,
) -> Cas {
    let row = part.map(|number| part_row(segment, number));
    let next = checkpoint(part.map_or(0, |number| number + 1));
    let commit = SegmentCommit {
        snapshot,
        segment,
        seen,
        next: &next,
        part: row.as_ref(),
    };
    table.commit_segment(commit).await.unwrap()
}

fn applied(cas: Cas) -> i64 {
    match cas {
        Cas::Applied(version) => version,
        Cas::Lost => panic!("nobody else writes here, and yet the write lost"),
    }
}

/// Records, checkpoints and rows come back as they went in; what was never written is `None`.
pub async fn records_read_back_whole(table: &dyn ControlTable) {
    let id = id(1);
    assert!(table.snapshot(&id).await.unwrap().is_none());
    assert!(table.segment(&id, 0).await.unwrap().is_none());
    let (segment, part) = (
        999_999,
        PartId {
            segment: 999_999,
            number: 0,
        },
    );
    assert!(table.part(&id, part).await.unwrap().is_none());

    let record = record(&id);
    let version = applied(table.create_snapshot(&record).await.unwrap());
    let stored = table.snapshot(&id).await.unwrap();
    assert_eq!(
        stored,
        Some(Versioned {
            value: record,
            version
        })
    );

    let version = applied(commit(table, &id, segment, None, Some(0)).await);
    let stored = table.segment(&id, segment).await.unwrap();
    let value = checkpoint(1);
    assert_eq!(stored, Some(Versioned { value, version }));
    assert_eq!(
        table.part(&id, part).await.unwrap(),
        Some(part_row(segment, 0))
    );
    assert!(table.segment(&id, 0).await.unwrap().is_none());
    assert!(version > 0, "versions are positive");
}

/// Of sixteen creates of one id one is applied, and its record is kept.
pub async fn an_id_is_taken_once(table: &Arc<dyn ControlTable>) {
    let id = id(2);
    let creates: Vec<_> = (0..16)
        .map(|n| {
            let table = Arc::clone(table);
            let mut record = record(&id);
            record.request_id = n.to_string();
            tokio::spawn(async move { (n, table.create_snapshot(&record).await.unwrap()) })
        })
        .collect();
    let winner = only_winner(creates).await;
    let stored = table.snapshot(&id).await.unwrap().unwrap();
    assert_eq!(stored.value.request_id, winner.to_string());
}

/// Of sixteen updates that saw one version one is applied.
pub async fn of_sixteen_updates_of_one_version_one_is_applied(table: &Arc<dyn ControlTable>) {
    let id = id(3);
    let mut seen = applied(table.create_snapshot(&record(&id)).await.unwrap());
    for _ in 0..3 {
        let updates: Vec<_> = (0..16)
            .map(|n| {
                let table = Arc::clone(table);
                let mut record = record(&id);
                record.estimated_items = n;
                tokio::spawn(
                    async move { (n, table.update_snapshot(seen, &record).await.unwrap()) },
                )
            })
            .collect();
        let winner = only_winner(updates).await;
        let stored = table.snapshot(&id).await.unwrap().unwrap();
        assert_eq!(stored.value.estimated_items, winner);
        assert!(stored.version > seen);
        seen = stored.version;
    }
}

/// Of sixteen commits that saw one version one is applied, with its part and its checkpoint.
pub async fn of_sixteen_commits_of_one_version_one_is_applied(table: &Arc<dyn ControlTable>) {
    let id = id(4);
    let mut seen = None;
    for number in 0..3 {
        let commits: Vec<_> = (0..16)
            .map(|n| {
                let (table, id) = (Arc::clone(table), id.clone());
                tokio::spawn(async move {
                    let mut row = part_row(5, number);
                    row.items = n;
                    let mut next = checkpoint(number + 1);
                    next.scan.throttles = n;
                    let commit = SegmentCommit {
                        snapshot: &id,
                        segment: 5,
                        seen,
                        next: &next,
                        part: Some(&row),
                    };
                    (n, table.commit_segment(commit).await.unwrap())
                })
            })
            .collect();
        let winner = only_winner(commits).await;
        let stored = table.segment(&id, 5).await.unwrap().unwrap();
        assert_eq!(stored.value.scan.throttles, winner);
        let part = PartId { segment: 5, number };
        assert_eq!(table.part(&id, part).await.unwrap().unwrap().items, winner);
        seen = Some(stored.version);
    }
    let after = table.parts(&id, None, 100).await.unwrap();
    assert_eq!(after.len(), 3);
}

async fn only_winner(calls: Vec<tokio::task::JoinHandle<(u64, Cas)>>) -> u64 {
    let mut winners = Vec::new();
    for call in calls {
        let (n, cas) = call.await.unwrap();
        if cas != Cas::Lost {
            winners.push(n);
        }
    }
    let [winner] = winners[..] else {
        panic!("{winners:?} were all told that their write was applied");
    };
    winner
}

/// Versions grow; a write that names an old one, or none, or one to come, is lost and changes nothing.
pub async fn versions_grow(table: &dyn ControlTable) {
    let id = id(5);
    let mut current = record(&id);
    assert_eq!(table.update_snapshot(1, &current).await.unwrap(), Cas::Lost);
    assert!(
        table.snapshot(&id).await.unwrap().is_none(),
        "an update creates nothing"
    );
    let mut version = applied(table.create_snapshot(&current).await.unwrap());
    for step in 0..4 {
        current.estimated_items = step;
        let next = applied(table.update_snapshot(version, &current).await.unwrap());
        assert!(next > version);
        let mut stale = current.clone();
        stale.estimated_items = 77;
        for wrong in [version, next + 1, 0, -1] {
            assert_eq!(
                table.update_snapshot(wrong, &stale).await.unwrap(),
                Cas::Lost
            );
        }
        assert_eq!(table.create_snapshot(&stale).await.unwrap(), Cas::Lost);
        let stored = table.snapshot(&id).await.unwrap().unwrap();
        assert_eq!(stored.value, current);
        assert_eq!(stored.version, next);
        version = next;
    }
}

/// A commit that loses by its checkpoint leaves no part row behind.
pub async fn part_and_checkpoint_appear_together_or_not_at_all(table: &dyn ControlTable) {
    let id = id(6);
    let version = applied(commit(table, &id, 0, None, Some(0)).await);
    for wrong in [None, Some(version + 1), Some(0)] {
        assert_eq!(commit(table, &id, 0, wrong, Some(1)).await, Cas::Lost);
        let part = PartId {
            segment: 0,
            number: 1,
        };
        assert_eq!(table.part(&id, part).await.unwrap(), None);
    }
    assert_eq!(commit(table, &id, 1, Some(1), Some(0)).await, Cas::Lost);
    assert!(table.segment(&id, 1).await.unwrap().is_none());
    let stored = table.segment(&id, 0).await.unwrap().unwrap();
    assert_eq!((stored.value, stored.version), (checkpoint(1), version));
}

/// A commit whose part row exists is lost, moves no checkpoint, and changes nothing in the row.
pub async fn a_part_row_never_changes(table: &dyn ControlTable) {
    let id = id(7);
    let version = applied(commit(table, &id, 0, None, Some(0)).await);
    let mut other = part_row(0, 0);
    other.items = 1;
    let next = checkpoint(9);
    let rewrite = SegmentCommit {
        snapshot: &id,
        segment: 0,
        seen: Some(version),
        next: &next,
        part: Some(&other),
    };
    assert_eq!(table.commit_segment(rewrite).await.unwrap(), Cas::Lost);
    let part = PartId {
        segment: 0,
        number: 0,
    };
    assert_eq!(table.part(&id, part).await.unwrap(), Some(part_row(0, 0)));
    let stored = table.segment(&id, 0).await.unwrap().unwrap();
    assert_eq!((stored.value, stored.version), (checkpoint(1), version));
}

/// A step over nothing moves the checkpoint alone.
pub async fn a_commit_may_have_no_part(table: &dyn ControlTable) {
    let id = id(8);
    let first = applied(commit(table, &id, 0, None, None).await);
    let second = applied(commit(table, &id, 0, Some(first), None).await);
    assert!(second > first);
    assert!(table.parts(&id, None, 10).await.unwrap().is_empty());
    let done = Checkpoint {
        done: true,
        ..Checkpoint::default()
    };
    let end = SegmentCommit {
        snapshot: &id,
        segment: 0,
        seen: Some(second),
        next: &done,
        part: None,
    };
    applied(table.commit_segment(end).await.unwrap());
    assert_eq!(table.segment(&id, 0).await.unwrap().unwrap().value, done);
}

/// Checkpoints page in order of their segments, whatever order they were written in, and end empty.
pub async fn segments_page_in_order(table: &dyn ControlTable) {
    let (id, neighbour) = (id(9), id(10));
    let segments = [70_000, 0, 999_999, 10, 9, 2, 100, 1, 99_999, 100_000];
    for segment in segments {
        applied(commit(table, &id, segment, None, Some(0)).await);
        applied(commit(table, &neighbour, segment, None, None).await);
    }
    for limit in [1, 3, 10, 1000] {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = table.segments(&id, after, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some((last, _)) = page.last() else {
                break;
            };
            after = Some(*last);
            listed.extend(page);
        }
        let expected: Vec<u32> = BTreeSet::from(segments).into_iter().collect();
        let found: Vec<u32> = listed.iter().map(|(segment, _)| *segment).collect();
        assert_eq!(found, expected, "{limit} to a page");
        assert!(listed.iter().all(|(_, found)| *found == checkpoint(1)));
    }
    // Any segment will do as a position.
    let page = table.segments(&id, Some(50), 1).await.unwrap();
    assert_eq!(page[0].0, 100);
}

/// Part rows page in order of segment and number, and end empty.
pub async fn parts_page_in_order(table: &dyn ControlTable) {
    let (id, neighbour) = (id(11), id(12));
    let mut expected = Vec::new();
    for segment in [100_000, 2, 10, 0, 9] {
        let mut seen = None;
        for number in 0..12 {
            seen = Some(applied(
                commit(table, &id, segment, seen, Some(number)).await,
            ));
            expected.push(part_row(segment, number));
        }
    }
    applied(commit(table, &neighbour, 0, None, Some(0)).await);
    expected.sort_by_key(|row| row.id);
    for limit in [1, 7, 60, 1000] {
        let mut listed: Vec<PartRow> = Vec::new();
        loop {
            let after = listed.last().map(|row| row.id);
            let page = table.parts(&id, after, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        assert_eq!(listed, expected, "{limit} to a page");
    }
    let position = PartId {
        segment: 2,
        number: 500,
    };
    let page = table.parts(&id, Some(position), 1).await.unwrap();
    assert_eq!(page, [part_row(9, 0)]);
}

/// Forgetting removes everything of one snapshot, can be repeated, and frees the id.
pub async fn forgetting_twice_forgets_one_snapshot(table: &dyn ControlTable) {
    let (id, neighbour) = (id(13), id(14));
    for snapshot in [&id, &neighbour] {
        applied(table.create_snapshot(&record(snapshot)).await.unwrap());
        for segment in 0..40 {
            applied(commit(table, snapshot, segment, None, Some(0)).await);
        }
    }
    for _ in 0..2 {
        table.forget_snapshot(&id).await.unwrap();
        assert!(table.snapshot(&id).await.unwrap().is_none());
        assert!(table.segments(&id, None, 100).await.unwrap().is_empty());
        assert!(table.parts(&id, None, 100).await.unwrap().is_empty());
    }
    assert!(table.snapshot(&neighbour).await.unwrap().is_some());
    assert_eq!(table.parts(&neighbour, None, 100).await.unwrap().len(), 40);
    assert_eq!(
        table.segments(&neighbour, None, 100).await.unwrap().len(),
        40
    );
    applied(table.create_snapshot(&record(&id)).await.unwrap());
    applied(commit(table, &id, 0, None, Some(0)).await);
}
