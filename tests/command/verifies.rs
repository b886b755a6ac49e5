//! `highwater verify`: a good backup of every kind is good, and of a damaged one every bad file is named.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::restore_lines::gzip;
use super::restores::backed_up;
use super::restoring::{file, files_below, run_with_input};
use super::stage::{BUCKET, Stage, TABLE, TO};
use super::told::Told;

const ITEMS: u64 = 400;
const FILMS: u64 = 3201;

/// A verification that must find the backup good; gives its document.
async fn good(stage: &Stage, arguments: &[&str]) -> Value {
    let arguments = [&["verify"], arguments, &["--json"]].concat();
    let document = stage.run(&arguments).await.done().json();
    assert_eq!(document["good"], true, "{document}");
    let report = &document["report"];
    assert_eq!(
        report["totals"]["files"], report["listed_files"],
        "{report}"
    );
    let found = ["bad", "bad_item_list", "mismatches"].map(|list| report[list].clone());
    assert_eq!(found, [json!([]), json!([]), json!([])]);
    document
}

/// A verification that must find damage, and say so in its document, its text and its exit code; gives the report.
async fn damaged(stage: &Stage, arguments: &[&str]) -> Value {
    let told = stage
        .run(&[&["verify"], arguments, &["--json"]].concat())
        .await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    let error: Value = serde_json::from_str(told.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(error["error"], "PartCorrupt", "{told:#?}");
    assert!(error["hint"].is_string(), "{told:#?}");
    let document = told.json();
    assert_eq!(document["good"], false, "{document}");
    let text = stage.run(&[&["verify"], arguments].concat()).await;
    assert_eq!(text.code, Some(1), "{text:#?}");
    assert!(text.error().contains("is damaged"), "{text:#?}");
    let lines = |start: &str| {
        let lines = text.stdout.lines();
        lines.filter(|line| line.starts_with(start)).count()
    };
    let report = document["report"].clone();
    assert_eq!(
        json!(lines("  bad file ")),
        report["bad_files"],
        "{text:#?}"
    );
    assert_eq!(
        json!(lines("  bad item ")),
        report["bad_items"],
        "{text:#?}"
    );
    report
}

/// The names of a report's bad files.
fn bad(report: &Value) -> BTreeSet<String> {
    let bad = report["bad"].as_array().unwrap();
    assert_eq!(report["bad_files"], bad.len(), "{report}");
    let name = |file: &Value| {
        assert!(file["reason"].as_str().unwrap().len() > 8, "{file}");
        let url = file["url"].as_str().unwrap();
        url.rsplit('/').next().unwrap().to_owned()
    };
    bad.iter().map(name).collect()
}

/// A backup in a folder, of which copies are damaged.
struct Whole {
    stage: Stage,
    /// Below the folder `whole`.
    backup: String,
}

impl Whole {
    async fn snapshot() -> Self {
        let stage = Stage::with_items(ITEMS).await;
        let to = format!("file://{}", stage.folder.path().join("whole").display());
        let id = backed_up(&stage, &to).await;
        let backup = format!("{TABLE}/AWSDynamoDB/{id}");
        Self { stage, backup }
    }

    async fn dyndump() -> Self {
        let stage = Stage::start().await;
        copy_films(&stage, "whole");
        let backup = "movies".to_owned();
        Self { stage, backup }
    }

    /// A damaged copy; gives where it is.
    fn copy(&self, damage: impl FnOnce(&Path)) -> String {
        let folder = self.stage.folder.path();
        let copy = tempfile::tempdir_in(folder).unwrap().keep();
        for from in files_below(&folder.join("whole")) {
            let to = copy.join(from.strip_prefix(folder.join("whole")).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&from, &to).unwrap();
        }
        let copy = copy.join(&self.backup);
        damage(&copy);
        copy.to_str().unwrap().to_owned()
    }

    /// What `verify` says of a damaged copy.
    async fn damaged(&self, damage: impl FnOnce(&Path)) -> Value {
        damaged(&self.stage, &[&self.copy(damage)]).await
    }

    /// A copy whose manifests or metadata cannot be believed is refused before a file is read.
    async fn refused(&self, words: &[&str], damage: impl FnOnce(&Path)) -> Told {
        let copy = self.copy(damage);
        let told = self.stage.run(&["verify", &copy]).await;
        let told = told.failed(1, words);
        assert!(told.stderr.contains("hint: "), "{told:#?}");
        told
    }
}

/// What the real dyndump wrote.
fn copy_films(stage: &Stage, folder: &str) {
    for name in [
        "movies-meta.json",
        &film_part(1),
        &film_part(2),
        &film_part(3),
    ] {
        let from = checkout::path(&format!("tests/fixtures/dyndump/{name}"));
        file(
            stage,
            &format!("{folder}/{name}"),
            &std::fs::read(from).unwrap(),
        );
    }
}

fn film_part(number: u32) -> String {
    format!("movies-part-{number:09}.json.gz")
}

fn parts(backup: &Path) -> Vec<PathBuf> {
    let mut parts = files_below(&backup.join("data"));
    parts.sort();
    assert!(parts.len() > 6, "{parts:?}");
    parts
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    let before = bytes.clone();
    change(&mut bytes);
    assert_ne!(bytes, before, "{}", path.display());
    std::fs::write(path, bytes).unwrap();
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn unpacked(packed: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text
}

/// Packs a part's lines anew, changed.
fn relined(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    rewrite(path, |bytes| {
        let mut lines: Vec<String> = unpacked(bytes).lines().map(str::to_owned).collect();
        change(&mut lines);
        *bytes = gzip(format!("{}\n", lines.join("\n")).as_bytes());
    });
}

/// Gives the manifest the hashes of what is there now, and `change`s its lines: whoever can change the one can
/// change the other.
fn remanifested(backup: &Path, change: impl FnOnce(&mut [Value])) {
    use base64::Engine as _;
    use md5::{Digest as _, Md5};
    let md5 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(Md5::digest(bytes));
    let manifest = backup.join("manifest-files.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut files: Vec<Value> = lines.collect();
    for file in &mut files {
        let key = file["dataFileS3Key"].as_str().unwrap();
        let part = backup.join("data").join(key.rsplit('/').next().unwrap());
        file["md5Checksum"] = json!(md5(&std::fs::read(part).unwrap()));
    }
    change(&mut files);
    let text: String = files.iter().map(|file| format!("{file}\n")).collect();
    std::fs::write(&manifest, &text).unwrap();
    std::fs::write(backup.join("manifest-files.md5"), md5(text.as_bytes())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn good_backups_of_every_kind_are_good() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let document = good(&stage, &[&id, "--from", TO]).await;
    assert_eq!(document["kind"], "highwater");
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["unchecked"], json!([]), "{document}");
    let members: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(members, ["backup", "good", "kind", "report", "seconds"]);
    let report: Vec<&String> = document["report"].as_object().unwrap().keys().collect();
    let known = [
        "bad",
        "bad_files",
        "bad_item_list",
        "bad_items",
        "listed_files",
        "mismatches",
        "totals",
        "unchecked",
    ];
    assert_eq!(report, known);

    // Without what is Highwater's own it is an export as DynamoDB makes it.
    let export = format!("s3/{BUCKET}/daily/{TABLE}/AWSDynamoDB/{id}");
    for own in ["backup.json", "table.json"] {
        std::fs::remove_file(stage.folder.path().join(&export).join(own)).unwrap();
    }
    let url = format!("{TO}/{TABLE}/AWSDynamoDB/{id}");
    let document = good(&stage, &[&url, "--key", "pk:S"]).await;
    assert_eq!(document["kind"], "full-export");
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["bad_items"], 0);
    let unknown_key = good(&stage, &[&url]).await;
    let unchecked = unknown_key["report"]["unchecked"].to_string();
    assert!(
        unchecked.contains("does not name the table's key"),
        "{unchecked}"
    );

    copy_films(&stage, &format!("s3/{BUCKET}/old"));
    let document = good(&stage, &["s3://backups/old/movies", "--key", "pk:S,n:N"]).await;
    assert_eq!(document["kind"], "dyndump");
    assert_eq!(document["report"]["totals"]["items"], FILMS);
    let unchecked = document["report"]["unchecked"].to_string();
    assert!(unchecked.contains("no hashes"), "{unchecked}");

    let dump = [
        "dump",
        TABLE,
        "--to",
        "s3://backups/dumps/orders",
        "--part-size",
        "9000",
    ];
    stage.run(&dump).await.done();
    let document = good(&stage, &["s3://backups/dumps/orders", "--key", "pk:S"]).await;
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["unchecked"], json!([]), "{document}");

    let lines = gzip(b"\n{\"pk\":{\"S\":\"x\"}}\n\n{\"Item\":{\"pk\":{\"S\":\"y\"}}}\n");
    let path = file(&stage, "lines.gz", &lines);
    let document = good(&stage, &[path.to_str().unwrap(), "--key", "pk:S"]).await;
    assert_eq!(document["report"]["totals"]["items"], 2);
    let told = run_with_input(&stage, &["verify", "-"], &lines)
        .await
        .done();
    assert!(
        told.stdout.ends_with("verified: it is what it says\n"),
        "{told:#?}"
    );
    assert!(
        told.stdout
            .contains("not checked: lines have neither hash nor count"),
        "{told:#?}"
    );
}

/// Each kind of damage to another file of one backup: all are named, and what is left is counted.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_file_of_a_snapshot_is_named() {
    let whole = Whole::snapshot().await;
    let (mut expected, mut files) = (BTreeSet::new(), 0);
    let report = whole
        .damaged(|backup| {
            let parts = parts(backup);
            files = parts.len();
            rewrite(&parts[0], |bytes| flip(bytes));
            rewrite(&parts[1], |bytes| bytes.truncate(bytes.len() - 20));
            rewrite(&parts[2], |bytes| bytes.extend_from_slice(b"extra"));
            rewrite(&parts[3], Vec::clear);
            relined(&parts[4], |lines| drop(lines.pop()));
            std::fs::remove_file(&parts[5]).unwrap();
            expected = parts[..6].iter().map(|part| name(part)).collect();
        })
        .await;
    assert_eq!(bad(&report), expected);
    assert_eq!(report["listed_files"], files);
    assert_eq!(report["totals"]["files"], files - 6, "{report}");
    // Two parts that changed places, each whole in itself.
    let report = whole
        .damaged(|backup| {
            let parts = parts(backup);
            let [one, other] = [0, 1].map(|at| std::fs::read(&parts[at]).unwrap());
            std::fs::write(&parts[0], other).unwrap();
            std::fs::write(&parts[1], one).unwrap();
            expected = parts[..2].iter().map(|part| name(part)).collect();
        })
        .await;
    assert_eq!(bad(&report), expected);
}

/// The same where no hash gives the damage away, because the manifest was changed with the parts.
#[tokio::test(flavor = "multi_thread")]
async fn what_hashes_do_not_show_counts_lines_and_keys_do() {
    let whole = Whole::snapshot().await;
    let (mut expected, mut keyless) = (BTreeSet::new(), Vec::new());
    let report = whole
        .damaged(|backup| {
            let parts = parts(backup);
            relined(&parts[0], |lines| drop(lines.pop()));
            relined(&parts[1], |lines| {
                lines.push("{\"Item\":{\"pk\":{\"S\":\"more\"}}}".to_owned())
            });
            relined(&parts[2], |lines| lines[1] = "{\"Item\":[]}".to_owned());
            rewrite(&parts[3], |bytes| bytes.truncate(bytes.len() - 20));
            relined(&parts[4], |lines| {
                lines[2] = "{\"Item\":{\"n\":{\"N\":\"1\"}}}".to_owned()
            });
            relined(&parts[5], |lines| {
                lines[0] = "{\"Item\":{\"pk\":{\"N\":\"1\"}}}".to_owned()
            });
            remanifested(backup, |_| ());
            expected = parts[..4].iter().map(|part| name(part)).collect();
            keyless = [(&parts[4], 3), (&parts[5], 1)]
                .map(|(part, line)| (name(part), line))
                .to_vec();
        })
        .await;
    assert_eq!(bad(&report), expected);
    let third = &report["bad"].to_string();
    assert!(third.contains("line 2"), "{third}");
    let list = report["bad_item_list"].as_array().unwrap();
    let mut items: Vec<(String, u64)> = list
        .iter()
        .map(|item| {
            assert!(item["reason"].as_str().unwrap().contains("pk"), "{item}");
            let url = item["url"].as_str().unwrap().rsplit('/').next().unwrap();
            (url.to_owned(), item["line"].as_u64().unwrap())
        })
        .collect();
    items.sort();
    assert_eq!((items, &report["bad_items"]), (keyless, &json!(2)));

    // A swapped md5, and a wrong count of which the sum is right again.
    let report = whole
        .damaged(|backup| {
            remanifested(backup, |files| {
                let md5 = files[0]["md5Checksum"].take();
                files[0]["md5Checksum"] = files[1]["md5Checksum"].take();
                files[1]["md5Checksum"] = md5;
                for (at, more) in [(2, 1), (3, -1)] {
                    let count = files[at]["itemCount"].as_i64().unwrap();
                    files[at]["itemCount"] = json!(count + more);
                }
                let named = files[..4].iter();
                let key = |file: &Value| name(Path::new(file["dataFileS3Key"].as_str().unwrap()));
                expected = named.map(key).collect();
            });
        })
        .await;
    assert_eq!(bad(&report), expected);

    whole
        .refused(&["manifest-files"], |backup| {
            rewrite(&backup.join("manifest-files.json"), |bytes| flip(bytes))
        })
        .await;
    whole
        .refused(&["manifest-summary"], |backup| {
            rewrite(&backup.join("manifest-summary.json"), |bytes| flip(bytes))
        })
        .await;
    whole
        .refused(&["says", "items"], |backup| {
            remanifested(backup, |files| files[0]["itemCount"] = json!(1));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_part_of_a_dyndump_backup_is_named() {
    let whole = Whole::dyndump().await;
    let part = |backup: &Path, number| backup.with_file_name(film_part(number));
    let named =
        |numbers: &[u32]| -> BTreeSet<String> { numbers.iter().map(|n| film_part(*n)).collect() };
    let report = whole
        .damaged(|backup| {
            rewrite(&part(backup, 1), |bytes| flip(bytes));
            rewrite(&part(backup, 3), |bytes| {
                let middle = bytes.len() / 3;
                bytes[middle] ^= 64;
            });
        })
        .await;
    assert_eq!(bad(&report), named(&[1, 3]));
    let report = whole
        .damaged(|backup| {
            rewrite(&part(backup, 1), |bytes| bytes.truncate(bytes.len() / 2));
            rewrite(&part(backup, 2), |bytes| bytes.extend_from_slice(b"extra"));
        })
        .await;
    assert_eq!(bad(&report), named(&[1, 2]));
    let report = whole
        .damaged(|backup| {
            std::fs::remove_file(part(backup, 1)).unwrap();
            std::fs::remove_file(part(backup, 3)).unwrap();
        })
        .await;
    assert_eq!(bad(&report), named(&[1, 3]));
    let meta = |member: &'static str, value: Value| {
        move |backup: &Path| {
            rewrite(&backup.with_file_name("movies-meta.json"), |bytes| {
                let mut meta: Value = serde_json::from_slice(bytes).unwrap();
                meta[member] = value;
                *bytes = meta.to_string().into_bytes();
            });
        }
    };
    let report = whole.damaged(meta("item_count", json!(3202))).await;
    assert_eq!(bad(&report), named(&[]));
    let mismatch = report["mismatches"][0].as_str().unwrap();
    assert!(
        mismatch.contains("3202 items") && mismatch.contains("3201"),
        "{mismatch}"
    );
    for status in ["running", "failed"] {
        let told = whole
            .refused(&[status], meta("status", json!(status)))
            .await;
        told.hinted("--allow-incomplete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_held_against_its_table() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let verify = ["verify", &id, "--from", TO, "--table", TABLE];
    let told = stage.run(&verify).await.done();
    assert!(
        told.stdout.contains("\nequal: both have the same items\n"),
        "{told:#?}"
    );
    let late = json!({"pk": {"S": "late"}}).to_string().into_bytes();
    stage.dynamodb.import(TABLE, vec![late]).await.unwrap();
    let told = stage.run(&[&verify[..], &["--json"]].concat()).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    let document = told.json();
    let expected =
        json!([{"key": {"pk": {"S": "late"}}, "kind": "only-in-b", "in_a": 0, "in_b": 1}]);
    assert_eq!(document["differences"], expected);
    assert_eq!(document["counts"]["only_in_b"], 1);
    // Whether the backup is good is another matter.
    good(&stage, &[&id, "--from", TO]).await;
    stage
        .run(&["verify", &id, "--from", TO, "--table", "missing"])
        .await
        .failed(1, &["missing"])
        .hinted("list-tables");
    let skip = ["verify", &id, "--from", TO, "--skip-checks"];
    stage
        .run(&skip)
        .await
        .failed(2, &["--skip-checks", "--table"]);
    let other = ["verify", &id, "--from", TO, "--key", "id:N"];
    stage.run(&other).await.failed(2, &["id:N", "pk:S"]);
    stage
        .run(&["verify", "s3://backups/nothing"])
        .await
        .failed(1, &["s3://backups/nothing"]);
}
