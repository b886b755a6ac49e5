//! Verifying a backup finds everything that is wrong with it, not just the first thing.

use std::sync::{Arc, Mutex};

use crate::hand_made::*;
use crate::stage::{Stage, layout, request};
use highwater_domain::backup_source::Catalog;
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::ObjectStore;
use highwater_steps::ErrorName;
use highwater_steps::verify_backup::{VerifyReport, VerifyTotals, verify};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::intercepted::Intercepted;
use serde_json::json;

async fn report(store: &Arc<FakeStore>, catalog: &Catalog) -> VerifyReport {
    let shared: Arc<dyn ObjectStore> = store.clone();
    let seen = Mutex::new(VerifyTotals::default());
    let observe = |totals: VerifyTotals| {
        let before = std::mem::replace(&mut *seen.lock().unwrap(), totals);
        assert!(before.items < totals.items, "progress grows");
    };
    let report = verify(&shared, catalog, 4, observe).await.unwrap();
    assert_eq!(seen.into_inner().unwrap().items, report.totals.items);
    report
}

#[tokio::test]
async fn a_good_snapshot_is_good() {
    let stage = Stage::of_items(500);
    stage.back_up(request(4)).await.unwrap();
    let root = layout().root().trim_end_matches('/').to_owned();
    let catalog = look_at(&stage.store, &root, STRICT).await.unwrap();
    assert!(catalog.files.len() > 5, "{}", catalog.files.len());
    let report = report(&stage.store, &catalog).await;
    assert!(
        report.is_good() && report.unchecked.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.totals.items, 500);
    assert_eq!(report.totals.files, report.listed_files);
    assert_eq!(Some(report.totals.plain_bytes), catalog.plain_bytes);
    assert_eq!(report.totals.stored_bytes, catalog.stored_bytes());
}

#[tokio::test]
async fn every_bad_file_is_told_and_the_rest_is_read() {
    let store = Arc::new(FakeStore::new());
    let files: Vec<(String, String)> = (0..9)
        .map(|n| (format!("{n}.json.gz"), item_lines(n * 10..n * 10 + 10)))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let export = Export::full(&files);
    export.write(&store);
    let folder = export.folder();
    let catalog = look_at(&store, folder.trim_end_matches('/'), STRICT)
        .await
        .unwrap();
    let key = |n: usize| format!("{}{n}.json.gz", export.data);
    assert!(store.tamper(&key(2), |body| body[40] ^= 1));
    assert!(store.lose(&key(5)));
    assert!(store.tamper(&key(7), |body| body.push(0)));
    let report = report(&store, &catalog).await;
    assert!(!report.is_good());
    assert_eq!(
        (report.bad_files, report.listed_files, report.totals.files),
        (3, 9, 6)
    );
    assert_eq!(report.totals.items, 60);
    let urls: Vec<&str> = report.bad.iter().map(|bad| bad.url.as_str()).collect();
    assert_eq!(
        urls,
        [2, 5, 7].map(|n| format!("s3://fake-bucket/{}", key(n)))
    );
    assert_eq!(report.bad[1].reason, "it is not there");
    assert!(
        report.mismatches.is_empty(),
        "sums of a broken backup say nothing new"
    );
}

#[tokio::test]
async fn sums_of_a_dump_are_compared_at_the_end() {
    let store = Arc::new(FakeStore::new());
    write_real_dump(&store, "movies");
    let catalog = look_at(&store, "movies", STRICT).await.unwrap();
    let good = report(&store, &catalog).await;
    assert!(good.is_good(), "{good:?}");
    assert_eq!(
        (good.totals.items, good.totals.plain_bytes),
        (3201, 1_777_223)
    );
    assert_eq!(
        good.unchecked.len(),
        2,
        "no hashes, no key: {:?}",
        good.unchecked
    );
    for member in ["item_count", "uncompressed_bytes"] {
        write_real_dump(&store, "movies");
        change_member(&store, "movies-meta.json", member, json!(3200));
        let catalog = look_at(&store, "movies", STRICT).await.unwrap();
        let report = report(&store, &catalog).await;
        assert!(!report.is_good());
        assert!(
            report.mismatches[0].contains("its metadata says 3200"),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn items_without_the_tables_key_are_found() {
    let stage = Stage::of_items(20);
    stage.back_up(request(1)).await.unwrap();
    change_member(
        &stage.store,
        &layout().metadata(),
        "key_schema",
        json!({"partition": {"name": "noise", "scalar_type": "N"}, "sort": null}),
    );
    let root = layout().root().trim_end_matches('/').to_owned();
    let catalog = look_at(&stage.store, &root, STRICT).await.unwrap();
    let report = report(&stage.store, &catalog).await;
    assert_eq!((report.bad_items, report.bad_files), (20, 0));
    assert!(!report.is_good());
    assert!(
        report.bad_item_list[0].reason.contains("\"noise\""),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_bad_backup() {
    let stage = Stage::of_items(50);
    stage.back_up(request(1)).await.unwrap();
    let root = layout().root().trim_end_matches('/').to_owned();
    let catalog = look_at(&stage.store, &root, STRICT).await.unwrap();
    for (kind, name) in [
        (FailureKind::Transient, Some(ErrorName::TransientAws)),
        (FailureKind::Corrupt, None),
    ] {
        let failing = Arc::new(Failing::once(1, Moment::Before, kind).only("read"));
        let store: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&stage.store, &failing));
        let outcome = verify(&store, &catalog, 2, |_| {}).await;
        match name {
            Some(name) => assert_eq!(outcome.unwrap_err().name(), name),
            None => assert_eq!(outcome.unwrap().bad_files, 1),
        }
    }
}

/// Without hashes a file is read once, and what was counted before it was found bad is taken back.
#[tokio::test]
async fn the_items_of_a_bad_file_without_a_hash_do_not_count() {
    let store = Arc::new(FakeStore::new());
    plant(&store, "rows/a.json", item_lines(0..3000));
    plant(
        &store,
        "rows/b.json",
        format!("{}torn", item_lines(0..3000)),
    );
    let catalog = look_at(&store, "rows", STRICT).await.unwrap();
    let shared: Arc<dyn ObjectStore> = store.clone();
    let report = verify(&shared, &catalog, 1, |_| {}).await.unwrap();
    assert_eq!((report.bad_files, report.totals.files), (1, 1));
    assert_eq!(report.totals.items, 3000);
    assert_eq!(report.totals.plain_bytes, report.totals.stored_bytes);
    assert!(
        report.bad[0].reason.contains("rows/b.json line 3001"),
        "{:?}",
        report.bad
    );
    let mut catalog = catalog;
    catalog.files.truncate(1);
    catalog.files[0].claims.items = Some(3001);
    let report = verify(&shared, &catalog, 1, |_| {}).await.unwrap();
    assert!(
        report.bad[0].reason.contains("holds 3000 items where 3001"),
        "{:?}",
        report.bad
    );
}
