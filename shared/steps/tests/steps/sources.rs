//! Every kind of backup is recognised and read.

use std::sync::Arc;

use crate::hand_made::*;
use crate::stage::{Stage, layout, request};
use highwater_domain::backup_source::{LineShape, Packing, SourceKind};
use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::Status;
use highwater_steps::request::BackupRequest;
use highwater_steps::source::{LookOptions, look};
use highwater_steps::source_file::open_file;
use highwater_steps::{ErrorName, StepError};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::intercepted::Intercepted;
use serde_json::json;

fn bucket() -> Arc<FakeStore> {
    Arc::new(FakeStore::new())
}

const AT: &str = "backups/AWSDynamoDB/01768385930622-efd1a093";

#[tokio::test]
async fn a_highwater_snapshot_with_its_settings() {
    let stage = Stage::of_items(300);
    stage.back_up(request(3)).await.unwrap();
    let root = layout().root().trim_end_matches('/').to_owned();
    let (catalog, ops) = items_of(&stage.store, &root).await;
    let mut found: Vec<&str> = ops.iter().map(|op| &op[1..]).collect();
    let table = stage.table.items();
    let mut expected: Vec<&str> = table
        .values()
        .map(|item| std::str::from_utf8(item).unwrap())
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(catalog.kind, SourceKind::Highwater);
    assert_eq!(catalog.status, Some(Status::Completed));
    assert_eq!(catalog.table_name.as_deref(), Some("orders"));
    assert_eq!(catalog.items, Some(300));
    assert_eq!(catalog.key_schema.as_ref().unwrap().partition.name, "id");
    assert_eq!(catalog.settings.as_ref().unwrap().name().unwrap(), "orders");
    assert!(catalog.unchecked.is_empty(), "{:?}", catalog.unchecked);
    let again = look_at(
        &stage.store,
        &format!("{root}/manifest-summary.json"),
        STRICT,
    )
    .await
    .unwrap();
    assert_eq!(again.fingerprint(), catalog.fingerprint());
}

#[tokio::test]
async fn b7_a_snapshot_that_was_never_sealed_is_refused_unless_allowed() {
    let stage = Stage::of_items(300);
    let planned = stage.plan(request(3)).await.unwrap();
    stage
        .scan_all(u32::try_from(planned.segments.len()).unwrap())
        .await
        .unwrap();
    let root = layout().root().trim_end_matches('/').to_owned();
    let refused = look_at(&stage.store, &root, STRICT).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::BackupIncomplete);
    assert!(
        refused.to_string().contains("is running, not completed"),
        "{refused}"
    );
    let catalog = look_at(&stage.store, &root, INCOMPLETE).await.unwrap();
    assert_eq!(catalog.status, Some(Status::Running));
    assert!(
        catalog.unchecked[0].contains("no manifests"),
        "{:?}",
        catalog.unchecked
    );
    assert_eq!(
        read_all(&stage.store, &catalog, false).await.unwrap().len(),
        300
    );
    assert!(catalog.settings.is_some());
}

#[tokio::test]
async fn full_exports_of_every_packing_with_an_empty_file() {
    let store = bucket();
    let export = Export::full(&[
        ("5mrfg3b44e3vhnfickkozoym6a.json.gz", &item_lines(0..3)),
        ("empty.json.gz", ""),
        ("z.json.zst", &item_lines(3..2500)),
        ("plain.json", &item_lines(2500..2502)),
    ]);
    export.write(&store);
    let (catalog, ops) = items_of(&store, AT).await;
    assert_eq!(ops, puts(0..2502));
    assert_eq!(catalog.kind, SourceKind::FullExport);
    assert_eq!(
        (catalog.items, catalog.table_name.as_deref()),
        (Some(2502), Some("test"))
    );
    assert_eq!(catalog.files[1].stored_bytes, 20);
    assert_eq!(catalog.files[2].packing, Packing::Zstd);
    assert!(catalog.unchecked.is_empty(), "{:?}", catalog.unchecked);
}

#[tokio::test]
async fn hash_files_of_either_name_and_types_that_aws_leaves_out() {
    for hashes in ["md5", "checksum"] {
        let store = bucket();
        let mut export = Export::full(&[("a.json.gz", &item_lines(0..2))]);
        export.hashes = hashes;
        export.summary["exportType"] = json!("FULL_EXPORT");
        export.write(&store);
        let (catalog, ops) = items_of(&store, AT).await;
        assert_eq!((ops, catalog.unchecked.len()), (puts(0..2), 0));
    }
    let store = bucket();
    Export::full(&[("a.json.gz", &item_lines(0..2))]).write(&store);
    for name in ["manifest-files.md5", "manifest-summary.md5"] {
        assert!(store.lose(&format!("{AT}/{name}")));
    }
    let (catalog, _) = items_of(&store, AT).await;
    assert_eq!(
        catalog.unchecked,
        [
            "manifest-summary.json has neither .md5 nor .checksum beside it",
            "manifest-files.json has neither .md5 nor .checksum beside it"
        ]
    );
}

/// Another tool's export: two members in the manifest, five in the summary.
#[tokio::test]
async fn manifests_with_less_in_them_are_read_and_it_is_said() {
    let store = bucket();
    plant(
        &store,
        "dump/data/00000.json.gz",
        gzip(item_lines(0..4).as_bytes()),
    );
    plant(
        &store,
        "dump/manifest-files.json",
        r#"{"itemCount":4,"dataFileS3Key":"dump/data/00000.json.gz"}"#,
    );
    plant(
        &store,
        "dump/manifest-summary.json",
        r#"{"version":"2020-06-30","manifestFilesS3Key":"dump/manifest-files.json","itemCount":4,"outputFormat":"DYNAMODB_JSON","tableKeySchema":[]}"#,
    );
    let (catalog, ops) = items_of(&store, "dump").await;
    assert_eq!(ops, puts(0..4));
    assert_eq!(catalog.unchecked[2], "1 files have no MD5 in the manifest");
}

#[tokio::test]
async fn an_export_that_was_copied_elsewhere_has_its_files_beside_it() {
    // More files than are asked for one by one, so that the folder's listing is used, too.
    for count in [2, 60] {
        let store = bucket();
        let files: Vec<(String, String)> = (0..count)
            .map(|n| (format!("{n:03}.json.gz"), item_lines(n..n + 1)))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        Export::full(&files).write(&store);
        let (_, ops) = items_of(&store, AT).await;
        assert_eq!(ops, puts(0..count));
        for (key, object) in store.objects() {
            assert!(store.lose(&key));
            let name = key.strip_prefix("backups/AWSDynamoDB/").unwrap();
            plant(&store, &format!("copies/of/{name}"), object.body);
        }
        let (catalog, ops) = items_of(&store, &format!("copies/of/{EXPORT_ID}")).await;
        assert_eq!(ops, puts(0..count));
        assert!(catalog.files[0].object.starts_with("copies/of/"));
        // All in one folder, as people download exports.
        for (key, object) in store.objects() {
            assert!(store.lose(&key));
            plant(
                &store,
                &format!("flat/{}", key.rsplit('/').next().unwrap()),
                object.body,
            );
        }
        assert_eq!(items_of(&store, "flat").await.1, puts(0..count));
    }
}

fn change(keys: &str, images: &str) -> String {
    format!(
        "{{\"Metadata\":{{\"WriteTimestampMicros\":{{\"N\":\"1768386096366933\"}}}},\"Keys\":{keys}{images}}}\n"
    )
}

#[tokio::test]
async fn incremental_exports_put_and_delete_from_their_shared_folder() {
    let key = |n: usize| format!(r#"{{"pk":{{"S":"{n}"}}}}"#);
    let lines = [
        change(&key(1), &format!(",\"NewImage\":{}", item(1))),
        change(
            &key(2),
            &format!(",\"OldImage\":{},\"NewImage\":{}", item(9), item(2)),
        ),
        change(&key(3), &format!(",\"OldImage\":{}", item(3))),
        change(&key(4), ""),
    ]
    .concat();
    let store = bucket();
    let export = Export::incremental(&[("a.json.gz", &lines), ("empty.json.gz", "")]);
    // Other exports have their data in the same folder.
    plant(&store, &format!("{}other.json.gz", export.data), "not ours");
    export.write(&store);
    let expected = [
        format!("+{}", item(1)),
        format!("+{}", item(2)),
        format!("-{}", key(3)),
        format!("-{}", key(4)),
    ];
    let (catalog, ops) = items_of(&store, AT).await;
    assert_eq!(ops, expected);
    assert_eq!(catalog.kind, SourceKind::IncrementalExport);
    assert_eq!((catalog.items, catalog.files.len()), (Some(4), 2));
    for (key, object) in store.objects() {
        assert!(store.lose(&key));
        plant(
            &store,
            &key.replace("backups/AWSDynamoDB", "moved"),
            object.body,
        );
    }
    let (catalog, ops) = items_of(&store, &format!("moved/{EXPORT_ID}")).await;
    assert_eq!(ops, expected);
    assert_eq!(catalog.files[0].object, "moved/data/a.json.gz");
    // The shared folder by itself is no backup of items.
    let refused = refusal(&store, "moved/data").await.to_string();
    assert!(
        refused.contains("a.json.gz line 1 is not an item: it is a change of an incremental"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_real_dyndumps_backup_and_its_one_file_hold_the_same() {
    let store = bucket();
    write_real_dump(&store, "backups/movies");
    let (catalog, mut parts) = items_of(&store, "backups/movies").await;
    assert_eq!(catalog.kind, SourceKind::Dyndump);
    assert_eq!(catalog.table_name.as_deref(), Some("movies"));
    assert_eq!(
        (catalog.items, catalog.plain_bytes),
        (Some(3201), Some(1_777_223))
    );
    assert_eq!(
        catalog.unchecked,
        ["the parts have no hashes: the older dyndump wrote none"]
    );
    assert_eq!(catalog.files.len(), 3);
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/dyndump/movies.json.gz"
    );
    plant(&store, "movies.json.gz", std::fs::read(file).unwrap());
    let (catalog, mut lines) = items_of(&store, "movies.json.gz").await;
    assert_eq!(catalog.kind, SourceKind::Lines);
    parts.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines.len(), 3201);
    assert_eq!(parts, lines);
}

#[tokio::test]
async fn dd_15_parts_are_read_in_order_with_their_hashes() {
    let texts: Vec<String> = (0..12).map(|n| format!("{}\n", item(n))).collect();
    let parts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // A prefix is text: with a slash at its end, with dashes and colons, with what patterns are made of.
    for (prefix, key) in [
        ("dump", "dump"),
        ("backups/2016-04-01-12:25-", "backups/2016-04-01-12:25-"),
        ("backups/", "backups/"),
        ("a+b(c", "a+b(c"),
    ] {
        let store = bucket();
        write_hashed_dump(&store, prefix, &parts);
        let (catalog, ops) = items_of(&store, key).await;
        assert_eq!(ops, puts(0..12), "{prefix}");
        assert!(catalog.unchecked.is_empty(), "{:?}", catalog.unchecked);
        assert_eq!(catalog.files[3].claims.items, Some(1));
        assert_eq!(catalog.files[0].shape, LineShape::Bare);
    }
}

#[tokio::test]
async fn b10_the_prefix_of_another_backup_is_not_this_one() {
    let store = bucket();
    write_hashed_dump(&store, "a.b", &[&format!("{}\n", item(0))]);
    write_hashed_dump(
        &store,
        "aXb",
        &[&format!("{}\n", item(1)), &format!("{}\n", item(2))],
    );
    plant(&store, "a.b-part-ignore-this.json.gz", "x");
    let (catalog, ops) = items_of(&store, "a.b").await;
    assert_eq!(ops, puts(0..1));
    assert!(catalog.unchecked[0].contains("a.b-part-ignore-this.json.gz is not a part"));
}

#[tokio::test]
async fn dd_19_a_backup_of_nothing_holds_nothing() {
    let store = bucket();
    write_hashed_dump(&store, "dump", &[]);
    let (catalog, ops) = items_of(&store, "dump").await;
    assert_eq!(
        (ops.len(), catalog.items, catalog.files.len()),
        (0, Some(0), 0)
    );
    let full = bucket();
    Export::full(&[("empty.json.gz", "")]).write(&full);
    assert_eq!(items_of(&full, AT).await.1.len(), 0);
}

#[tokio::test]
async fn dd_16_metadata_that_says_little_is_not_a_completed_backup() {
    let store = bucket();
    plant(
        &store,
        "test-prefix-meta.json",
        r#"{"table_name":"a_table","item_count":1234}"#,
    );
    let refused = look_at(&store, "test-prefix", STRICT).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::BackupIncomplete);
    let catalog = look_at(&store, "test-prefix", INCOMPLETE).await.unwrap();
    assert_eq!(catalog.table_name.as_deref(), Some("a_table"));
}

#[tokio::test]
async fn b7_a_dump_that_did_not_complete_is_refused_unless_allowed() {
    for status in ["running", "failed"] {
        let store = bucket();
        let part = format!("{}\n", item(0));
        write_hashed_dump(&store, "dump", &[&part, &part]);
        change_member(&store, "dump-meta.json", "status", json!(status));
        assert!(store.lose("dump-part-000000001.json.gz"));
        let refused = look_at(&store, "dump", STRICT).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("the backup at s3://fake-bucket/dump is {status}, not completed")
        );
        let catalog = look_at(&store, "dump", INCOMPLETE).await.unwrap();
        assert_eq!((catalog.files.len(), catalog.items), (1, None));
        assert!(
            catalog.unchecked[0].contains(
                "1 parts are missing; the first is s3://fake-bucket/dump-part-000000001.json.gz"
            ),
            "{:?}",
            catalog.unchecked
        );
        // An interrupted deletion takes the metadata last, or is none of dyndump's.
        assert!(store.lose("dump-meta.json"));
        let refused = look_at(&store, "dump", STRICT).await.unwrap_err();
        assert_eq!(refused.name(), ErrorName::BackupIncomplete, "{refused}");
        let catalog = look_at(&store, "dump", INCOMPLETE).await.unwrap();
        assert_eq!(
            (catalog.kind, catalog.files.len()),
            (SourceKind::Dyndump, 1)
        );
    }
}

#[tokio::test]
async fn lines_from_one_file_or_a_folder() {
    let store = bucket();
    for (name, text) in [
        ("rows/b.jsonl.gz", format!("{}\r\n\n{}\n", item(2), item(3))),
        ("rows/a.json", item_lines(0..2)),
        (
            "rows/deep/c.ndjson.zst",
            format!("{}{}", item(4), item_lines(5..6)),
        ),
        ("rows/_SUCCESS.json", "ignored".into()),
        ("rows/.hidden/x.json", "ignored".into()),
    ] {
        plant(&store, name, packed(name, text.as_bytes()));
    }
    plant(&store, "rows/readme.txt", "ignored");
    let (catalog, ops) = items_of(&store, "rows").await;
    assert_eq!(ops, [puts(0..6)].concat());
    assert_eq!(catalog.kind, SourceKind::Lines);
    assert_eq!(catalog.files.len(), 3);
    assert!(
        catalog.unchecked[1].contains("rows/readme.txt is left out"),
        "{:?}",
        catalog.unchecked
    );
    // One file may be called anything, and pretty-printed.
    plant(&store, "anything", gzip(b"{\n \"a\": {\"S\": \"x\"}\n}"));
    assert_eq!(
        items_of(&store, "anything").await.1,
        [r#"+{"a":{"S":"x"}}"#]
    );
}

#[tokio::test]
async fn a_folder_that_holds_backups_is_none() {
    let store = bucket();
    Export::full(&[("a.json.gz", &item_lines(0..1))]).write(&store);
    for key in ["backups", "backups/AWSDynamoDB"] {
        let refused = look_at(&store, key, STRICT).await.unwrap_err();
        assert_eq!(refused.name(), ErrorName::SnapshotNotFound);
        assert!(
            refused
                .to_string()
                .contains(&format!("as s3://fake-bucket/{AT}")),
            "{refused}"
        );
    }
    let refused = look_at(&store, "", STRICT).await.unwrap_err().to_string();
    assert!(refused.contains("it holds exports, such as"), "{refused}");
    let dumps = bucket();
    write_hashed_dump(&dumps, "all/d1", &[&format!("{}\n", item(0))]);
    let refused = look_at(&dumps, "all", STRICT)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("dyndump's backup s3://fake-bucket/all/d1; name that"),
        "{refused}"
    );
    let refused = look_at(&bucket(), "nothing", STRICT).await.unwrap_err();
    assert!(
        matches!(refused, StepError::BackupNotFound { .. }),
        "{refused}"
    );
    // Data files without a manifest are an export that never ended, not lines.
    for name in ["manifest-summary.json", "manifest-files.json"] {
        store.lose(&format!("{AT}/{name}"));
    }
    let refused = look_at(&store, AT, STRICT).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::BackupIncomplete);
    let catalog = look_at(&store, AT, INCOMPLETE).await.unwrap();
    assert_eq!(read_all(&store, &catalog, false).await.unwrap(), puts(0..1));
}

#[tokio::test]
async fn other_formats_are_refused_by_name() {
    let store = bucket();
    let mut export = Export::full(&[("a.json.gz", &item_lines(0..1))]);
    export.summary["outputFormat"] = json!("ION");
    export.write(&store);
    let refused = look_at(&store, AT, STRICT).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::InvalidInput);
    assert!(refused.to_string().contains("\"ION\""), "{refused}");
    let stage = Stage::of_items(3);
    stage.back_up(BackupRequest { ..request(1) }).await.unwrap();
    change_member(&stage.store, &layout().metadata(), "version", json!(99));
    let refused = look_at(&stage.store, layout().root().trim_end_matches('/'), STRICT)
        .await
        .unwrap_err();
    assert_eq!(refused.name(), ErrorName::InvalidInput);
    assert!(refused.to_string().contains("version 99"), "{refused}");
}

#[tokio::test]
async fn skipped_checks_are_said_and_skipped() {
    let store = bucket();
    let export = Export::full(&[("a.json.gz", &item_lines(0..2))]);
    export.write(&store);
    plant(
        &store,
        &format!("{}a.json.gz", export.data),
        gzip(item_lines(7..8).as_bytes()),
    );
    plant(&store, &format!("{AT}/manifest-files.md5"), "wrong");
    let skipping = LookOptions {
        skip_checks: true,
        ..STRICT
    };
    let catalog = look_at(&store, AT, skipping).await.unwrap();
    assert!(
        catalog.unchecked[0].contains("not compared"),
        "{:?}",
        catalog.unchecked
    );
    assert_eq!(read_all(&store, &catalog, true).await.unwrap(), puts(7..8));
    // What no check is needed for to be seen is seen all the same.
    assert!(
        store.tamper(&format!("{}a.json.gz", export.data), |body| body[30] ^=
            0x10)
    );
    let error = read_all(&store, &catalog, true).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::PartCorrupt);
}

#[tokio::test]
async fn b7_a_completed_dump_with_a_missing_part_is_taken_only_if_allowed() {
    let store = bucket();
    let texts = [0, 1, 2].map(|n| format!("{}\n", item(n)));
    write_hashed_dump(&store, "d", &texts.each_ref().map(String::as_str));
    assert!(store.lose("d-part-000000002.json.gz"));
    let refused = look_at(&store, "d", STRICT).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::PartMissing);
    let catalog = look_at(&store, "d", INCOMPLETE).await.unwrap();
    assert_eq!((catalog.files.len(), catalog.items), (2, None));
    assert_eq!(
        read_all(&store, &catalog, false).await.unwrap(),
        [puts(0..1), puts(2..3)].concat()
    );
}

#[tokio::test]
async fn dd_15_every_call_that_fails_is_told_and_never_taken_for_an_end() {
    let store = bucket();
    let texts: Vec<String> = (0..5).map(|n| format!("{}\n", item(n))).collect();
    let parts: Vec<&str> = texts.iter().map(String::as_str).collect();
    write_hashed_dump(&store, "d", &parts);
    let files: Vec<(String, String)> = (0..40)
        .map(|n| (format!("{n}.json.gz"), item_lines(n..n + 1)))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    Export::full(&files).write(&store);
    plant(&store, "rows/a.json", item_lines(0..5));
    plant(&store, "rows/b.json", item_lines(5..9));
    for (key, items) in [("d", 5), (AT, 40), ("rows", 9), ("rows/a.json", 5)] {
        for nth in 1.. {
            let failing = Arc::new(Failing::once(nth, Moment::Before, FailureKind::Throttled));
            let shared: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&store, &failing));
            let outcome = async {
                let catalog = look(&shared, &location(key), STRICT).await?;
                let mut read = 0;
                for file in &catalog.files {
                    let mut records = open_file(&shared, file, false).await?;
                    while let Some(batch) = records.next().await? {
                        read += batch.len();
                    }
                }
                Ok::<_, StepError>(read)
            };
            let outcome = outcome.await;
            if !failing.has_struck() {
                assert_eq!(outcome.unwrap(), items);
                break;
            }
            assert_eq!(
                outcome.unwrap_err().name(),
                ErrorName::Throttled,
                "{key}: call {nth}"
            );
        }
    }
}
