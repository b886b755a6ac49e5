//! The real program: everything that is measured, on little.

use std::ffi::OsString;

use highwater_benches::command::{Highwater, RunError};
use highwater_benches::data_set::DataSet;
use highwater_benches::item_sum::ItemSum;
use highwater_benches::job::{Bench, Job};
use highwater_benches::restore::{self, Source};
use highwater_benches::table::ReplayTable;
use highwater_benches::{backup, compare};
use highwater_tests::binaries;

use crate::server;

/// Every job fails unless its sums are those that were counted here.
#[tokio::test(flavor = "multi_thread")]
async fn every_job_ends_and_its_sums_are_right() {
    let program = binaries::path("highwater");
    let flags: Vec<OsString> = vec!["--part-size".into(), "1MB".into()];
    let bench = Bench {
        program: &program,
        set: DataSet::Medium,
        wire_bytes: 2_500_000,
        unprocessed: 10,
        backup_flags: &flags,
    };
    let jobs = [&Job::USUAL[..], &[Job::Puts]].concat();
    let mut ended = Vec::new();
    let note = |measured: &_| ended.push(*measured);
    bench.run(&jobs, note).await.unwrap();
    assert_eq!(ended.len(), jobs.len());
    let items = ReplayTable::new(DataSet::Medium, 2_500_000)
        .unwrap()
        .items();
    for measured in ended {
        assert!(measured.items.items >= items, "{measured:?}");
        assert!(measured.usage.cpu_seconds > 0.0, "{measured:?}");
        assert!(measured.usage.peak_rss_bytes > 0, "{measured:?}");
    }
}

#[tokio::test]
async fn a_backup_that_fails_says_why() {
    let server = server(DataSet::Small, 1).await;
    let highwater = Highwater::new(&binaries::path("highwater"), &server).unwrap();
    let failed = backup::run(&highwater, &server, "large", 4, &[]).await;
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("large"), "{error}");
}

/// Sums that are not the expected ones fail a job, or it would measure anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_other_items_than_expected_fails() {
    let server = server(DataSet::Large, 1).await;
    let highwater = Highwater::new(&binaries::path("highwater"), &server).unwrap();
    let path = highwater.folder().join("lines.json");
    let mut sum = ItemSum::default();
    std::fs::write(&path, "{\"pk\":{\"S\":\"a\"}}\n").unwrap();
    sum.add(br#"{"pk":{"S":"b"}}"#);
    let path = format!("file://{}", path.display());
    let source = Source {
        backup: &path,
        key: Some("pk:S"),
    };
    let restored = restore::run(&highwater, &server, source, "made", sum).await;
    assert!(
        matches!(restored, Err(RunError::Written { .. })),
        "{restored:?}"
    );
    sum.merge(&sum.clone());
    let verified = compare::verify(&highwater, &path, sum).await;
    assert!(
        matches!(
            verified,
            Err(RunError::Sums {
                said: 1,
                counted: 2,
                ..
            })
        ),
        "{verified:?}"
    );
}
