//! `highwater verify`: a good backup of every kind is good, and of a damaged one every bad file is named.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use highwater_testkit::generate::{Generator, KeyShape};
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
    assert_eq!(report["totals"]["files"], report["listed_files"], "{report}");
    let found = ["bad", "bad_item_list", "mismatches"].map(|list| report[list].clone());
    assert_eq!(found, [json!([]), json!([]), json!([])]);
    document
}

/// A verification that must find damage, and say so in its document, its text and its exit code; gives the report.
async fn damaged(stage: &Stage, arguments: &[&str]) -> Value {
    let told = stage.run(&[&["verify"], arguments, &["--json"]].concat()).await;
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
    assert_eq!(json!(lines("  bad file ")), report["bad_files"], "{text:#?}");
    assert_eq!(json!(lines("  bad item ")), report["bad_items"], "{text:#?}");
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
    for name in ["movies-meta.json", &film_part(1), &film_part(2), &film_part(3)] {
        let from = checkout::path(&format!("tests/fixtures/dyndump/{name}"));
        file(stage, &format!("{folder}/{name}"), &std::fs::read(from).unwrap());
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
    assert_eq!(
        report,
        ["bad", "bad_file_list", "bad_files", "bad_item_list", "bad_items", "listed_files", "mismatches", "totals", "unchecked"]
            .iter()
            .filter(|name| **name != "bad_file_list")
            .collect::<Vec<_>>()
    );

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
    assert!(unchecked.contains("does not name the table's key"), "{unchecked}");

    copy_films(&stage, &format!("s3/{BUCKET}/old"));
    let document = good(&stage, &["s3://backups/old/movies", "--key", "pk:S,n:N"]).await;
    assert_eq!(document["kind"], "dyndump");
    assert_eq!(document["report"]["totals"]["items"], FILMS);
    let unchecked = document["report"]["unchecked"].to_string();
    assert!(unchecked.contains("no hashes"), "{unchecked}");

    let dump = ["dump", TABLE, "--to", "s3://backups/dumps/orders", "--part-size", "9000"];
    stage.run(&dump).await.done();
    let document = good(&stage, &["s3://backups/dumps/orders", "--key", "pk:S"]).await;
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["unchecked"], json!([]), "{document}");

    let lines = gzip(b"\n{\"pk\":{\"S\":\"x\"}}\n\n{\"Item\":{\"pk\":{\"S\":\"y\"}}}\n");
    let path = file(&stage, "lines.gz", &lines);
    let document = good(&stage, &[path.to_str().unwrap(), "--key", "pk:S"]).await;
    assert_eq!(document["report"]["totals"]["items"], 2);
    let told = run_with_input(&stage, &["verify", "-"], &lines).await.done();
    assert!(told.stdout.ends_with("verified: it is what it says\n"), "{told:#?}");
    assert!(told.stdout.contains("not checked: lines have neither hash nor count"), "{told:#?}");
}

/// Each kind of damage to another file of one backup: all are named, and what is left is counted.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_file_of_a_snapshot_is_named() {
    let whole = Whole::snapshot().await;
    let mut expected = BTreeSet::new();
    let mut files = 0;
    let report = whole
        .damaged(|backup| {
            let parts = parts(backup);
            files = parts.len();
            rewrite(&parts[0], |bytes| flip(bytes));
            rewrite(&parts[1], |bytes| bytes.truncate(bytes.len() - 20));
            rewrite(&parts[2], |bytes| bytes.extend_from_slice(b"extra"));
            rewrite(&parts[3], Vec::clear);
            std::fs::swap_or_copy(&parts[4], &parts[5]);
            expected = parts[..6].iter().map(|part| name(part)).collect();
        })
        .await;
    assert_eq!(bad(&report), expected);
    assert_eq!(report["listed_files"], files);
    assert_eq!(report["totals"]["files"], files - 6, "{report}");
}

trait Swap {}
