//! The laws of [`LiveControl`].

use std::sync::Arc;

use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::ids::UnixMillis;
use highwater_domain::live_control::{LiveControl, LogId, PUBLISHED_MARK_VERSION, PublishedMark};
use highwater_domain::mark::{Mark, UnixSeconds};
use highwater_domain::sequence_number::Generation;
use tokio::task::JoinHandle;

/// Runs every law. The table may hold other marks, none of a table called `conformance`.
pub async fn every_law(table: &Arc<dyn LiveControl>) {
    marks_read_back_whole(&**table).await;
    of_sixteen_publications_over_one_version_one_is_applied(table).await;
    a_stale_publication_changes_nothing(&**table).await;
    each_log_has_a_mark_of_its_own(&**table).await;
}

/// A mark whose every member says `seconds`, so that none can be mistaken for another's.
#[must_use]
pub fn published_mark(seconds: u64) -> PublishedMark {
    PublishedMark {
        version: PUBLISHED_MARK_VERSION,
        stream_arn: format!("arn:aws:dynamodb:eu-north-1:111122223333:table/t/stream/{seconds}"),
        stream_label: "2026-01-14T10:18:50.622".into(),
        generation: Generation(3),
        mark: Mark {
            proven: None,
            rolled: Some(UnixSeconds(seconds)),
            assumed: Some(UnixSeconds(seconds + 120)),
        },
        publication_ms: 120_000,
        computed_at: UnixMillis(seconds * 1000 + 7),
        bounded_by: Some("shardId-00000001768385930622-efd1a093".parse().unwrap()),
        open_shards: seconds,
        held_back: seconds % 2 == 1,
    }
}

/// A log of the table `conformance`, in a bucket named by the law.
fn log(law: &str) -> LogId {
    LogId::of(
        "arn:aws:dynamodb:eu-north-1:111122223333:table/conformance/stream/2026-01-14T10:18:50.622",
        &format!("s3://{law}/any prefix/conformance/log/2026-01-14T10:18:50.622/"),
    )
}

fn applied(cas: Cas) -> i64 {
    match cas {
        Cas::Applied(version) => version,
        Cas::Lost => panic!("nobody else writes here, and yet the write lost"),
    }
}

/// A mark comes back as it went in, absent members included; what was never published is `None`.
pub async fn marks_read_back_whole(table: &dyn LiveControl) {
    let log = log("reads-back");
    assert!(table.mark(&log).await.unwrap().is_none());
    let mut seen = None;
    let full = published_mark(1_768_385_931);
    let mut bare = full.clone();
    bare.mark = Mark::default();
    bare.bounded_by = None;
    for value in [full, bare] {
        let version = applied(table.publish_mark(&log, seen, &value).await.unwrap());
        assert!(
            version > seen.unwrap_or(0),
            "versions are positive and grow"
        );
        let stored = table.mark(&log).await.unwrap();
        assert_eq!(stored, Some(Versioned { value, version }));
        seen = Some(version);
    }
}

/// Of sixteen publications that saw one version, or none, one is applied, and its mark is kept.
pub async fn of_sixteen_publications_over_one_version_one_is_applied(table: &Arc<dyn LiveControl>) {
    let log = log("one-winner");
    let mut seen = None;
    for _ in 0..3 {
        let calls: Vec<JoinHandle<(u64, Cas)>> = (0..16)
            .map(|n| {
                let (table, log) = (Arc::clone(table), log.clone());
                let mark = published_mark(n);
                tokio::spawn(
                    async move { (n, table.publish_mark(&log, seen, &mark).await.unwrap()) },
                )
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
            panic!("{winners:?} were all told that their mark is published");
        };
        let stored = table.mark(&log).await.unwrap().unwrap();
        assert_eq!(stored.value, published_mark(winner));
        assert!(seen.is_none_or(|before| before < stored.version));
        seen = Some(stored.version);
    }
}

/// A publication that names another version than the mark's, or one where there is none, is lost and changes nothing.
pub async fn a_stale_publication_changes_nothing(table: &dyn LiveControl) {
    let log = log("stale");
    let lost = table.publish_mark(&log, Some(1), &published_mark(9)).await;
    assert_eq!(lost.unwrap(), Cas::Lost);
    assert!(table.mark(&log).await.unwrap().is_none());
    let first = table.publish_mark(&log, None, &published_mark(1)).await;
    let first = applied(first.unwrap());
    let second = table
        .publish_mark(&log, Some(first), &published_mark(2))
        .await;
    let second = applied(second.unwrap());
    for wrong in [None, Some(first), Some(second + 1), Some(0), Some(-1)] {
        let cas = table.publish_mark(&log, wrong, &published_mark(9)).await;
        assert_eq!(cas.unwrap(), Cas::Lost, "{wrong:?}");
        let stored = table.mark(&log).await.unwrap().unwrap();
        assert_eq!((stored.value, stored.version), (published_mark(2), second));
    }
}

/// One stream in two places, and two streams in one, are three logs.
pub async fn each_log_has_a_mark_of_its_own(table: &dyn LiveControl) {
    let other_stream = LogId::of(
        "arn:aws:dynamodb:eu-north-1:111122223333:table/conformance/stream/2026-01-15T00:00:00.000",
        "s3://own-a/any prefix/conformance/log/2026-01-14T10:18:50.622/",
    );
    let logs = [log("own-a"), log("own-b"), other_stream];
    for (n, log) in (0..).zip(&logs) {
        let cas = table.publish_mark(log, None, &published_mark(n)).await;
        applied(cas.unwrap());
    }
    for (n, log) in (0..).zip(&logs) {
        let stored = table.mark(log).await.unwrap().unwrap();
        assert_eq!(stored.value, published_mark(n));
    }
}
