//! The laws of [`RestoreControl`].

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::restore::{FileCheckpoint, RestoreId};
use highwater_domain::restore_control::RestoreControl;
use tokio::task::JoinHandle;

pub use crate::sample_restores::{file_checkpoint, restore_record};

/// Runs every law. The table may hold other restores, none begun in the first minute of 1970.
pub async fn every_law(table: &Arc<dyn RestoreControl>) {
    restores_read_back_whole(&**table).await;
    an_id_is_taken_once(table).await;
    of_sixteen_updates_of_one_version_one_is_applied(table).await;
    of_sixteen_commits_of_one_version_one_is_applied(table).await;
    versions_grow(&**table).await;
    a_stale_commit_changes_nothing(&**table).await;
    files_page_in_order(&**table).await;
    forgetting_twice_forgets_one_restore(&**table).await;
}

/// Ids of the first minute of 1970, one per law.
fn id(law: u64) -> RestoreId {
    let text = SnapshotId::new(UnixMillis(law), 0xfeed_0001);
    text.as_str().parse().unwrap()
}

fn applied(cas: Cas) -> i64 {
    match cas {
        Cas::Applied(version) => version,
        Cas::Lost => panic!("nobody else writes here, and yet the write lost"),
    }
}

async fn commit(
    table: &dyn RestoreControl,
    id: &RestoreId,
    file: u32,
    seen: Option<i64>,
    lines: u64,
) -> Cas {
    let next = file_checkpoint(lines);
    table.commit_file(id, file, seen, &next).await.unwrap()
}

/// Records and checkpoints come back as they went in; what was never written is `None`.
pub async fn restores_read_back_whole(table: &dyn RestoreControl) {
    let id = id(1);
    assert!(table.restore(&id).await.unwrap().is_none());
    assert!(table.file(&id, 0).await.unwrap().is_none());
    assert!(table.files(&id, None, 10).await.unwrap().is_empty());

    let value = restore_record(&id);
    let version = applied(table.create_restore(&value).await.unwrap());
    assert!(version > 0, "versions are positive");
    let stored = table.restore(&id).await.unwrap();
    assert_eq!(stored, Some(Versioned { value, version }));

    for (file, value) in [
        (9_999_999, file_checkpoint(7)),
        (0, FileCheckpoint::default()),
    ] {
        let cas = table.commit_file(&id, file, None, &value).await.unwrap();
        let version = applied(cas);
        let stored = table.file(&id, file).await.unwrap();
        assert_eq!(stored, Some(Versioned { value, version }), "file {file}");
    }
    assert!(table.file(&id, 1).await.unwrap().is_none());
}

/// Of sixteen creates of one id one is applied, and its record is kept.
pub async fn an_id_is_taken_once(table: &Arc<dyn RestoreControl>) {
    let id = id(2);
    let creates: Vec<_> = (0..16)
        .map(|n: u64| {
            let table = Arc::clone(table);
            let mut record = restore_record(&id);
            record.request_id = n.to_string();
            tokio::spawn(async move { (n, table.create_restore(&record).await.unwrap()) })
        })
        .collect();
    let winner = only_winner(creates).await;
    let stored = table.restore(&id).await.unwrap().unwrap();
    assert_eq!(stored.value.request_id, winner.to_string());
}

/// Of sixteen updates that saw one version one is applied.
pub async fn of_sixteen_updates_of_one_version_one_is_applied(table: &Arc<dyn RestoreControl>) {
    let id = id(3);
    let mut seen = applied(table.create_restore(&restore_record(&id)).await.unwrap());
    for _ in 0..3 {
        let updates: Vec<_> = (0..16)
            .map(|n| {
                let table = Arc::clone(table);
                let mut record = restore_record(&id);
                record.max_items = n;
                tokio::spawn(async move { (n, table.update_restore(seen, &record).await.unwrap()) })
            })
            .collect();
        let winner = only_winner(updates).await;
        let stored = table.restore(&id).await.unwrap().unwrap();
        assert_eq!(stored.value.max_items, winner);
        assert!(stored.version > seen);
        seen = stored.version;
    }
}

/// Of sixteen commits that saw one version, or none, one is applied.
pub async fn of_sixteen_commits_of_one_version_one_is_applied(table: &Arc<dyn RestoreControl>) {
    let id = id(4);
    let mut seen = None;
    for _ in 0..3 {
        let commits: Vec<_> = (0..16)
            .map(|n| {
                let (table, id) = (Arc::clone(table), id.clone());
                tokio::spawn(async move { (n, commit(&*table, &id, 5, seen, n).await) })
            })
            .collect();
        let winner = only_winner(commits).await;
        let stored = table.file(&id, 5).await.unwrap().unwrap();
        assert_eq!(stored.value, file_checkpoint(winner));
        assert!(seen.is_none_or(|before| before < stored.version));
        seen = Some(stored.version);
    }
}

async fn only_winner(calls: Vec<JoinHandle<(u64, Cas)>>) -> u64 {
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

/// Versions grow; a write that names an old one, or one to come, is lost and changes nothing.
pub async fn versions_grow(table: &dyn RestoreControl) {
    let id = id(5);
    let mut current = restore_record(&id);
    assert_eq!(table.update_restore(1, &current).await.unwrap(), Cas::Lost);
    let nothing = table.restore(&id).await.unwrap();
    assert!(nothing.is_none(), "an update creates nothing");
    let mut version = applied(table.create_restore(&current).await.unwrap());
    for step in 0..4 {
        current.max_items = step;
        let next = applied(table.update_restore(version, &current).await.unwrap());
        assert!(next > version);
        let mut stale = current.clone();
        stale.max_items = 77;
        for wrong in [version, next + 1, 0, -1] {
            let cas = table.update_restore(wrong, &stale).await.unwrap();
            assert_eq!(cas, Cas::Lost, "version {wrong} of {next}");
        }
        assert_eq!(table.create_restore(&stale).await.unwrap(), Cas::Lost);
        let stored = table.restore(&id).await.unwrap().unwrap();
        assert_eq!((stored.value, stored.version), (current.clone(), next));
        version = next;
    }
}

/// A commit that names another version than the file's, or one where there is none, is lost and changes nothing.
pub async fn a_stale_commit_changes_nothing(table: &dyn RestoreControl) {
    let id = id(6);
    assert_eq!(commit(table, &id, 0, Some(1), 1).await, Cas::Lost);
    assert!(table.file(&id, 0).await.unwrap().is_none());
    let first = applied(commit(table, &id, 0, None, 1).await);
    let second = applied(commit(table, &id, 0, Some(first), 2).await);
    assert!(second > first);
    for wrong in [None, Some(first), Some(second + 1), Some(0), Some(-1)] {
        assert_eq!(commit(table, &id, 0, wrong, 9).await, Cas::Lost);
        let stored = table.file(&id, 0).await.unwrap().unwrap();
        assert_eq!(
            (stored.value, stored.version),
            (file_checkpoint(2), second),
            "{wrong:?}"
        );
    }
    assert!(table.file(&id, 1).await.unwrap().is_none());
}

/// Checkpoints page in order of their files, whatever order they were written in, and end empty.
pub async fn files_page_in_order(table: &dyn RestoreControl) {
    let (id, neighbour) = (id(7), id(8));
    let files = [70_000, 0, 9_999_999, 10, 9, 2, 100, 1, 99_999, 100_000];
    for file in files {
        applied(commit(table, &id, file, None, u64::from(file)).await);
        applied(commit(table, &neighbour, file, None, 1).await);
    }
    // The restore's own record is no file.
    applied(table.create_restore(&restore_record(&id)).await.unwrap());
    for limit in [1, 3, 10, 1000] {
        let mut found = Vec::new();
        loop {
            let after = found.last().copied();
            let page = table.files(&id, after, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            if page.is_empty() {
                break;
            }
            for (file, checkpoint) in page {
                assert_eq!(checkpoint, file_checkpoint(u64::from(file)));
                found.push(file);
            }
        }
        let expected: Vec<u32> = BTreeSet::from(files).into_iter().collect();
        assert_eq!(found, expected, "{limit} to a page");
    }
    // Any file will do as a position.
    let page = table.files(&id, Some(50), 1).await.unwrap();
    assert_eq!(page[0].0, 100);
}

/// Forgetting removes everything of one restore, can be repeated, and frees the id.
pub async fn forgetting_twice_forgets_one_restore(table: &dyn RestoreControl) {
    let (id, neighbour) = (id(9), id(10));
    for restore in [&id, &neighbour] {
        let record = restore_record(restore);
        applied(table.create_restore(&record).await.unwrap());
        for file in 0..40 {
            applied(commit(table, restore, file, None, 1).await);
        }
    }
    for _ in 0..2 {
        table.forget_restore(&id).await.unwrap();
        assert!(table.restore(&id).await.unwrap().is_none());
        assert!(table.file(&id, 0).await.unwrap().is_none());
        assert!(table.files(&id, None, 100).await.unwrap().is_empty());
    }
    assert!(table.restore(&neighbour).await.unwrap().is_some());
    let kept = table.files(&neighbour, None, 100).await.unwrap();
    assert_eq!(kept.len(), 40);
    applied(table.create_restore(&restore_record(&id)).await.unwrap());
    applied(commit(table, &id, 0, None, 1).await);
}
