//! Damaged and hostile backups: each is refused, with the object and the line named, before a record is given out.

use std::sync::Arc;

use crate::hand_made::*;
use crate::stage::{Stage, layout, request};
use highwater_domain::digest::md5_base64;
use highwater_domain::object_store::ObjectStore;
use highwater_steps::ErrorName;
use highwater_steps::source_file::open_file;
use highwater_testkit::fake_store::FakeStore;
use serde_json::json;

type Damage = fn(&mut Vec<u8>);

const AT: &str = "backups/AWSDynamoDB/01768385930622-efd1a093";

fn export() -> (Arc<FakeStore>, Export) {
    let store = Arc::new(FakeStore::new());
    let export = Export::full(&[
        ("a.json.gz", &item_lines(0..50)),
        ("b.json.zst", &item_lines(50..100)),
        ("c.json", &item_lines(100..150)),
    ]);
    export.write(&store);
    (store, export)
}

async fn refused(store: &Arc<FakeStore>, key: &str, name: ErrorName, says: &[&str]) {
    let error = refusal(store, key).await;
    assert_eq!(error.name(), name, "{error}");
    for text in says {
        assert!(
            error.to_string().contains(text),
            "{text:?} is not in {error}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_any_file_is_found_before_a_record_is_given_out() {
    for name in ["a.json.gz", "b.json.zst", "c.json"] {
        let (store, export) = export();
        let key = format!("{}{name}", export.data);
        let length = store.objects()[&key].body.len();
        let shared: Arc<dyn ObjectStore> = store.clone();
        let catalog = look_at(&store, AT, STRICT).await.unwrap();
        let file = catalog
            .files
            .iter()
            .find(|file| file.object == key)
            .unwrap();
        for at in (0..length).step_by(7) {
            assert!(store.tamper(&key, |body| body[at] ^= 1));
            let error = open_file(&shared, file, false).await.unwrap_err();
            assert_eq!(error.name(), ErrorName::PartCorrupt);
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{key} is not what was written")),
                "{error}"
            );
            assert!(store.tamper(&key, |body| body[at] ^= 1));
        }
        open_file(&shared, file, false).await.unwrap();
    }
}

#[tokio::test]
async fn missing_and_changed_files_of_an_export() {
    let (store, export) = export();
    let key = format!("{}b.json.zst", export.data);
    let catalog = look_at(&store, AT, STRICT).await.unwrap();
    assert!(store.lose(&key));
    refused(&store, AT, ErrorName::PartMissing, &["b.json.zst"]).await;
    let error = read_all(&store, &catalog, false).await.unwrap_err();
    assert_eq!(
        error.name(),
        ErrorName::PartMissing,
        "gone since the look: {error}"
    );
    plant(&store, &key, "short");
    let error = read_all(&store, &catalog, false).await.unwrap_err();
    assert!(
        error.to_string().contains("b.json.zst has 5 bytes where"),
        "{error}"
    );
    let error = read_all(&store, &catalog, true).await.unwrap_err();
    assert_eq!(
        error.name(),
        ErrorName::PartCorrupt,
        "a change of size is seen without checks, too"
    );
}

#[tokio::test]
async fn wrong_counts_and_hashes_of_an_export() {
    let (store, export) = export();
    export.change_files(&store, |text| {
        text.replacen("\"itemCount\":50", "\"itemCount\":51", 1)
    });
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["manifest-summary.json: it says 150 items", "come to 151"],
    )
    .await;
    // Both manifests wrong in the same way: the file itself tells.
    change_member(
        &store,
        &format!("{AT}/manifest-summary.json"),
        "itemCount",
        json!(151),
    );
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["manifest-summary.json", "manifest-summary.md5"],
    )
    .await;
    assert!(store.lose(&format!("{AT}/manifest-summary.md5")));
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["a.json.gz holds 50 items where 51 were written"],
    )
    .await;

    let (store, export) = self::export();
    let md5 = |name: &str| md5_base64(&store.objects()[&format!("{}{name}", export.data)].body);
    let (a, b) = (md5("a.json.gz"), md5("b.json.zst"));
    export.change_files(&store, |text| {
        text.replace(&a, "SWAPPED")
            .replace(&b, &a)
            .replace("SWAPPED", &b)
    });
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["a.json.gz is not what was written: its MD5 is", &b],
    )
    .await;

    let (store, _) = self::export();
    assert!(store.tamper(&format!("{AT}/manifest-files.json"), |body| body[16] ^= 1));
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["manifest-files.json", "manifest-files.md5"],
    )
    .await;
}

#[tokio::test]
async fn hostile_keys_in_manifests() {
    for key in [
        "/etc/x.json.gz",
        "../x.json.gz",
        "a/../../x.json.gz",
        "./x.json.gz",
        "a//x.json.gz",
        "x.txt",
        "a\\..\\x.json.gz",
        "a\0.json.gz",
    ] {
        let (store, export) = export();
        // A store that takes any key would read it.
        plant(
            &store,
            key.trim_start_matches('/'),
            gzip(item_lines(0..50).as_bytes()),
        );
        let written = serde_json::to_string(&format!("{}a.json.gz", export.data)).unwrap();
        let hostile = serde_json::to_string(key).unwrap();
        export.change_files(&store, |text| text.replace(&written, &hostile));
        refused(
            &store,
            AT,
            ErrorName::PartCorrupt,
            &[
                "manifest-files.json: line 1",
                "is not the key of an export's file",
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn keys_that_name_one_file_twice_or_a_manifest_elsewhere() {
    let (store, export) = export();
    export.change_files(&store, |text| text.replace("b.json.zst", "a.json.gz"));
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["manifest-files.json: line 2", "listed twice"],
    )
    .await;
    // Two keys, one file: the second is not where it should be, and the name beside the manifest is taken.
    let (store, export) = self::export();
    export.change_files(&store, |text| {
        text.replace(&format!("{}b.json.zst", export.data), "elsewhere/a.json.gz")
    });
    refused(
        &store,
        AT,
        ErrorName::PartCorrupt,
        &["manifest-files.json: line 2", "another line names"],
    )
    .await;
    let (store, _) = self::export();
    assert!(store.lose(&format!("{AT}/manifest-files.json")));
    assert!(store.lose(&format!("{AT}/manifest-summary.md5")));
    for key in ["/x", "../manifest-files.json", "a\\b"] {
        change_member(
            &store,
            &format!("{AT}/manifest-summary.json"),
            "manifestFilesS3Key",
            json!(key),
        );
        refused(
            &store,
            AT,
            ErrorName::PartCorrupt,
            &["manifest-summary.json: manifestFilesS3Key"],
        )
        .await;
    }
}

#[tokio::test]
async fn manifests_that_are_no_json() {
    for (name, text, says) in [
        (
            "manifest-summary",
            "{",
            "manifest-summary.json: it is damaged",
        ),
        (
            "manifest-files",
            "{}\n",
            "manifest-files.json: line 1: missing field `dataFileS3Key`",
        ),
        ("manifest-files", "\u{fffd}", "manifest-files.json: line 1"),
    ] {
        let (store, export) = export();
        export.write_manifest(&store, name, text);
        refused(&store, AT, ErrorName::PartCorrupt, &[says]).await;
    }
}

#[tokio::test]
async fn b7_a_missing_part_of_a_dump_is_named() {
    for number in 1..=3 {
        let store = Arc::new(FakeStore::new());
        write_real_dump(&store, "movies");
        let key = format!("movies-part-00000000{number}.json.gz");
        assert!(store.lose(&key));
        refused(&store, "movies", ErrorName::PartMissing, &[&key]).await;
    }
    let store = Arc::new(FakeStore::new());
    write_real_dump(&store, "movies");
    plant(&store, "movies-part-000000004.json.gz", gzip(b""));
    refused(
        &store,
        "movies",
        ErrorName::PartCorrupt,
        &["movies-meta.json: it says 3 parts, and there are 4"],
    )
    .await;
}

#[tokio::test]
async fn a_real_dump_without_hashes_is_checked_line_by_line_before_a_record_is_given_out() {
    let part = "movies-part-000000002.json.gz";
    let damages: [(&str, Damage); 5] = [
        ("movies-part-000000002.json.gz line", |body| {
            let at = body.len() / 2;
            body[at] ^= 0x10;
        }),
        ("gzip member 1 is damaged before byte 50993", |body| {
            let crc = body.len() - 8;
            body[crc] ^= 1;
        }),
        ("ends in the middle of gzip member 1", |body| {
            body.truncate(body.len() - 9);
        }),
        (
            "something that is not gzip follows member 1, from byte 50993 on",
            |body| {
                body.extend_from_slice(b"rest");
            },
        ),
        ("by its name it is gzip, but it begins with", |body| {
            body[0] = b'{';
        }),
    ];
    for (says, damage) in damages {
        let store = Arc::new(FakeStore::new());
        write_real_dump(&store, "movies");
        assert!(store.tamper(part, damage));
        let stored: usize = store
            .objects()
            .iter()
            .filter(|(key, _)| key.contains("-part-"))
            .map(|(_, part)| part.body.len())
            .sum();
        change_member(
            &store,
            "movies-meta.json",
            "compressed_bytes",
            json!(stored),
        );
        let catalog = look_at(&store, "movies", STRICT).await.unwrap();
        let shared: Arc<dyn ObjectStore> = store.clone();
        let error = open_file(&shared, &catalog.files[1], false)
            .await
            .unwrap_err();
        assert_eq!(error.name(), ErrorName::PartCorrupt);
        assert!(
            error.to_string().contains(part) && error.to_string().contains(says),
            "{error}"
        );
    }
}

#[tokio::test]
async fn zeros_behind_the_last_member_are_padding() {
    let part = "movies-part-000000002.json.gz";
    let store = Arc::new(FakeStore::new());
    write_real_dump(&store, "movies");
    assert!(store.tamper(part, |body| body.extend_from_slice(&[0; 512])));
    change_member(
        &store,
        "movies-meta.json",
        "compressed_bytes",
        json!(199_776 + 512),
    );
    assert_eq!(items_of(&store, "movies").await.1.len(), 3201);
}

#[tokio::test]
async fn dd_15_wrong_hashes_of_a_dump() {
    let texts = [0, 1, 2].map(|n| format!("{}\n", item(n)));
    let parts = texts.each_ref().map(String::as_str);
    let dump = || {
        let store = Arc::new(FakeStore::new());
        write_hashed_dump(&store, "d", &parts);
        store
    };
    let part = "d-part-000000002.json.gz";
    // Another item of the same length: every size is right.
    let store = dump();
    let body = gzip(format!("{}\n", item(7)).as_bytes());
    assert!(store.tamper(part, |stored| *stored = body));
    refused(
        &store,
        "d",
        ErrorName::PartCorrupt,
        &["the lines of d-part-000000002.json.gz are not what was written"],
    )
    .await;

    let store = dump();
    change_member(&store, "d-meta.json", "hash_sha256", json!("00"));
    refused(
        &store,
        "d",
        ErrorName::PartCorrupt,
        &["d-meta.json", "have the hash 00"],
    )
    .await;
    change_member(&store, "d-meta.json", "item_count", json!(4));
    refused(
        &store,
        "d",
        ErrorName::PartCorrupt,
        &["it says 4 items, the parts have 3"],
    )
    .await;
    change_member(&store, "d-meta.json", "compressed_bytes", json!(4));
    refused(&store, "d", ErrorName::PartCorrupt, &["it says 4 bytes"]).await;
    plant(&store, "d-meta.json", "{");
    refused(
        &store,
        "d",
        ErrorName::PartCorrupt,
        &["it is not dyndump's metadata"],
    )
    .await;

    for (name, value, says) in [
        (
            "dyndump-part",
            "3",
            "d-part-000000002.json.gz: by its user metadata it is part 3",
        ),
        ("dyndump-itemcount", "many", "dyndump-itemcount is \"many\""),
    ] {
        let store = dump();
        let mut object = store.objects()[part].clone();
        object.user_metadata.insert(name.into(), value.into());
        store.plant(object);
        refused(&store, "d", ErrorName::PartCorrupt, &[says]).await;
    }
}

#[tokio::test]
async fn a_damaged_snapshot() {
    let sealed = async || {
        let stage = Stage::of_items(300);
        stage.back_up(request(2)).await.unwrap();
        stage.store
    };
    let root = layout().root().trim_end_matches('/').to_owned();
    for (member, value) in [
        ("item_count", json!(299)),
        ("part_count", json!(1)),
        ("compressed_bytes", json!(5)),
    ] {
        let store = sealed().await;
        change_member(&store, &layout().metadata(), member, value);
        refused(
            &store,
            &root,
            ErrorName::PartCorrupt,
            &["backup.json: it says"],
        )
        .await;
    }
    for key in [
        layout().manifest_files_md5(),
        layout().manifest_summary_md5(),
        layout().manifest_summary(),
        layout().manifest_files(),
    ] {
        let store = sealed().await;
        assert!(store.lose(&key));
        refused(&store, &root, ErrorName::PartMissing, &[]).await;
    }
    let store = sealed().await;
    assert!(store.tamper(&layout().metadata(), |body| body.truncate(20)));
    refused(
        &store,
        &root,
        ErrorName::PartCorrupt,
        &["backup.json: it is not a backup.json"],
    )
    .await;
    let store = sealed().await;
    assert!(store.tamper(&layout().table_settings(), |body| body.truncate(20)));
    refused(
        &store,
        &root,
        ErrorName::PartCorrupt,
        &["table.json: it is not a table.json"],
    )
    .await;
}

#[tokio::test]
async fn bad_lines_are_named_with_their_file_and_number() {
    for (text, says) in [
        (
            "{\"a\":{\"S\":\"1\"}}\n{\"a\":",
            "rows/x.json line 2 is not an item: EOF",
        ),
        (
            "[{\"a\":1}]",
            "rows/x.json line 1 is not an item: a JSON object was expected",
        ),
        (
            "{\"Title\":\"1776\"}",
            "attribute \"Title\" is no attribute value of DynamoDB JSON",
        ),
    ] {
        let store = Arc::new(FakeStore::new());
        plant(&store, "rows/x.json", text);
        refused(&store, "rows", ErrorName::PartCorrupt, &[says]).await;
    }
}
