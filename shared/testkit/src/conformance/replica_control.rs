//! The laws of [`ReplicaControl`].

use std::sync::Arc;

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use tokio::task::JoinHandle;

pub use crate::sample_replicas::replica_record;

/// Runs every law. The table may hold other replicas, none of a table whose name begins with `conformance`.
pub async fn every_law(table: &Arc<dyn ReplicaControl>) {
    records_read_back_whole(&**table).await;
    of_sixteen_writers_over_one_version_one_is_applied(table).await;
    a_stale_write_changes_nothing(&**table).await;
    the_replicas_of_a_table_lie_together(&**table).await;
    what_is_forgotten_can_be_made_again(&**table).await;
}

fn source(law: &str) -> String {
    format!("arn:aws:dynamodb:eu-north-1:111122223333:table/conformance-{law}")
}

fn applied(cas: Cas) -> i64 {
    match cas {
        Cas::Applied(version) => version,
        Cas::Lost => panic!("nobody else writes here, and yet the write lost"),
    }
}

/// A record comes back as it went in, absent members included.
pub async fn records_read_back_whole(table: &dyn ReplicaControl) {
    let full = replica_record(&source("whole"), "copy");
    assert_eq!(
        table.replica(&full.source_arn, &full.id).await.unwrap(),
        None
    );
    let first = applied(table.create_replica(&full).await.unwrap());
    let known = |value: &ReplicaRecord, version| {
        let value = value.clone();
        Some(Versioned { value, version })
    };
    let stored = table.replica(&full.source_arn, &full.id).await.unwrap();
    assert_eq!(stored, known(&full, first));
    let bare = ReplicaRecord {
        source_table_id: None,
        target_table_id: None,
        target_region: None,
        target_role: None,
        filter: Vec::new(),
        attempts: Vec::new(),
        live_since: None,
        applied: None,
        applied_at: None,
        error: None,
        phase: Phase::Load,
        ..full.clone()
    };
    let second = applied(table.update_replica(first, &bare).await.unwrap());
    assert!(
        first > 0 && second > first,
        "versions are positive and grow"
    );
    let stored = table.replica(&full.source_arn, &full.id).await.unwrap();
    assert_eq!(stored, known(&bare, second));
}

/// Of sixteen writers that saw one version one is applied, and its record is kept. So it is with sixteen who make it.
pub async fn of_sixteen_writers_over_one_version_one_is_applied(table: &Arc<dyn ReplicaControl>) {
    let base = replica_record(&source("one-winner"), "copy");
    let mut seen = None;
    for _ in 0..3 {
        let calls: Vec<JoinHandle<(u64, Cas)>> = (0..16)
            .map(|n| {
                let table = Arc::clone(table);
                let record = ReplicaRecord {
                    applied: Some(UnixSeconds(n)),
                    ..base.clone()
                };
                tokio::spawn(async move {
                    let cas = match seen {
                        None => table.create_replica(&record).await,
                        Some(seen) => table.update_replica(seen, &record).await,
                    };
                    (n, cas.unwrap())
                })
            })
            .collect();
        let mut winners = Vec::new();
        for call in calls {
            let (n, cas) = call.await.unwrap();
            if cas != Cas::Lost {
                winners.push(n);
            }
        }
        let [winner] = winners[..] else {
            panic!("{winners:?} were all told that their record is kept");
        };
        let stored = table.replica(&base.source_arn, &base.id).await.unwrap();
        let stored = stored.unwrap();
        assert_eq!(stored.value.applied, Some(UnixSeconds(winner)));
        assert!(seen.is_none_or(|before| before < stored.version));
        seen = Some(stored.version);
    }
}

/// A write that names another version than the record's, or makes one that is there, is lost and changes nothing.
pub async fn a_stale_write_changes_nothing(table: &dyn ReplicaControl) {
    let record = replica_record(&source("stale"), "copy");
    let other = record.failed("another");
    let other = ReplicaRecord {
        refused: 1,
        ..other
    };
    let lost = table.update_replica(1, &record).await.unwrap();
    assert_eq!(lost, Cas::Lost, "there is none");
    let first = applied(table.create_replica(&record).await.unwrap());
    let second = applied(table.update_replica(first, &record).await.unwrap());
    assert_eq!(table.create_replica(&other).await.unwrap(), Cas::Lost);
    for wrong in [first, second + 1, 0, -1] {
        let cas = table.update_replica(wrong, &other).await.unwrap();
        assert_eq!(cas, Cas::Lost, "{wrong}");
    }
    let stored = table.replica(&record.source_arn, &record.id).await.unwrap();
    let stored = stored.unwrap();
    assert_eq!((stored.value, stored.version), (record, second));
}

/// All replicas of one table are found, by their ids, and no other's: not even of one whose name begins alike.
pub async fn the_replicas_of_a_table_lie_together(table: &dyn ReplicaControl) {
    let (of, other) = (source("list"), source("list2"));
    let mut made = Vec::new();
    // More than one page of any table.
    for n in 0..120 {
        let record = replica_record(&of, &format!("copy-{n}"));
        applied(table.create_replica(&record).await.unwrap());
        made.push(record);
    }
    let stranger = replica_record(&other, "copy-1");
    applied(table.create_replica(&stranger).await.unwrap());
    made.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(table.replicas(&of).await.unwrap(), made);
    assert_eq!(table.replicas(&other).await.unwrap(), [stranger]);
    assert_eq!(table.replicas(&source("none")).await.unwrap(), []);
}

/// Forgetting can be repeated, and what is gone can be made again; whoever saw the first one does not write the second.
pub async fn what_is_forgotten_can_be_made_again(table: &dyn ReplicaControl) {
    let record = replica_record(&source("forgotten"), "copy");
    applied(table.create_replica(&record).await.unwrap());
    for _ in 0..2 {
        let forgotten = table.forget_replica(&record.source_arn, &record.id).await;
        forgotten.unwrap();
        let stored = table.replica(&record.source_arn, &record.id).await;
        assert_eq!(stored.unwrap(), None);
    }
    assert_eq!(table.replicas(&record.source_arn).await.unwrap(), []);
    applied(table.create_replica(&record).await.unwrap());
}
