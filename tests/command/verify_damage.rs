//! `highwater verify` of damaged backups: every bad file is named, and what is left is counted.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::restore_lines::gzip;
use super::restores::backed_up;
use super::restoring::files_below;
use super::stage::{Stage, TABLE};
use super::told::Told;
use super::verifies::{copy_films, film_part};

const ITEMS: u64 = 800;

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

/// The files and lines of a report's bad items.
fn bad_items(report: &Value) -> Vec<(String, u64)> {
    let items = report["bad_item_list"].as_array().unwrap().iter();
    let place = |item: &Value| {
        assert!(item["reason"].as_str().unwrap().contains("pk"), "{item}");
        let url = item["url"].as_str().unwrap().rsplit('/').next().unwrap();
        (url.to_owned(), item["line"].as_u64().unwrap())
    };
    let mut items: Vec<_> = items.map(place).collect();
    items.sort();
    items
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

fn parts(backup: &Path) -> Vec<PathBuf> {
    let mut parts = files_below(&backup.join("data"));
    parts.sort();
    assert!(parts.len() > 6, "{parts:?}");
    parts
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The file that a line of a manifest is about.
fn named(file: &Value) -> String {
    name(Path::new(file["dataFileS3Key"].as_str().unwrap()))
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
        let md5 = md5(&std::fs::read(part).unwrap());
        file["etag"] = json!(highwater_domain::part::export_etag(&md5));
        file["md5Checksum"] = json!(md5);
    }
    change(&mut files);
    let lines: Vec<String> = files.iter().map(Value::to_string).collect();
    let text = format!("{}\n", lines.join("\n"));
    std::fs::write(&manifest, &text).unwrap();
    std::fs::write(backup.join("manifest-files.md5"), md5(text.as_bytes())).unwrap();
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
                lines.push("{\"Item\":{\"pk\":{\"S\":\"more\"}}}".to_owned());
            });
            relined(&parts[2], |lines| lines[1] = "{\"Item\":[]}".to_owned());
            rewrite(&parts[3], |bytes| bytes.truncate(bytes.len() - 20));
            relined(&parts[4], |lines| {
                lines[2] = "{\"Item\":{\"n\":{\"N\":\"1\"}}}".to_owned();
            });
            relined(&parts[5], |lines| {
                lines[0] = "{\"Item\":{\"pk\":{\"N\":\"1\"}}}".to_owned();
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
    assert_eq!(
        (bad_items(&report), &report["bad_items"]),
        (keyless, &json!(2))
    );
}

/// Who changes the manifest and its hash, and no part, is found out by the parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_wrong_about_its_parts_is_found_out() {
    let whole = Whole::snapshot().await;
    let mut expected = BTreeSet::new();
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
                expected = files[..4].iter().map(named).collect();
            });
        })
        .await;
    assert_eq!(bad(&report), expected);
    // An export without a hash is held against its counts, which come to the right sum here.
    let report = whole
        .damaged(|backup| {
            for own in ["backup.json", "table.json"] {
                std::fs::remove_file(backup.join(own)).unwrap();
            }
            remanifested(backup, |files| {
                for file in files.iter_mut() {
                    let members = file.as_object_mut().unwrap();
                    members.retain(|name, _| !["md5Checksum", "etag"].contains(&name.as_str()));
                }
                for (at, more) in [(1, -1), (4, 1)] {
                    files[at]["itemCount"] = json!(files[at]["itemCount"].as_i64().unwrap() + more);
                }
                expected = BTreeSet::from([1, 4].map(|at| named(&files[at])));
            });
        })
        .await;
    assert_eq!(bad(&report), expected);

    // A count that is that of no file, and of no sum.
    let report = whole
        .damaged(|backup| {
            remanifested(backup, |files| {
                files[0]["itemCount"] = json!(1);
                expected = BTreeSet::from([named(&files[0])]);
            });
        })
        .await;
    assert_eq!(bad(&report), expected);
    let mismatches = report["mismatches"].to_string();
    for told in ["summary.json: it says 800 items", "backup.json: it says"] {
        assert!(mismatches.contains(told), "{told}: {mismatches}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_part_of_a_dyndump_backup_is_named() {
    let whole = Whole::dyndump().await;
    let part = |backup: &Path, number| backup.with_file_name(film_part(number));
    let films =
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
    assert_eq!(bad(&report), films(&[1, 3]));
    let report = whole
        .damaged(|backup| {
            rewrite(&part(backup, 1), |bytes| bytes.truncate(bytes.len() / 2));
            rewrite(&part(backup, 2), |bytes| bytes.extend_from_slice(b"extra"));
        })
        .await;
    assert_eq!(bad(&report), films(&[1, 2]));
    let report = whole
        .damaged(|backup| {
            std::fs::remove_file(part(backup, 1)).unwrap();
            std::fs::remove_file(part(backup, 3)).unwrap();
        })
        .await;
    assert_eq!(bad(&report), films(&[1, 3]));
}

/// Changes a member of the metadata.
fn meta(member: &'static str, value: Value) -> impl FnOnce(&Path) {
    move |backup| {
        rewrite(&backup.with_file_name("movies-meta.json"), |bytes| {
            let mut meta: Value = serde_json::from_slice(bytes).unwrap();
            meta[member] = value;
            *bytes = meta.to_string().into_bytes();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_and_metadata_that_are_wrong_are_named() {
    let snapshot = Whole::snapshot().await;
    for manifest in ["manifest-files", "manifest-summary"] {
        let flipped = |backup: &Path| {
            let path = backup.join(format!("{manifest}.json"));
            rewrite(&path, |bytes| flip(bytes));
        };
        snapshot.refused(&[manifest], flipped).await;
    }
    let whole = Whole::dyndump().await;
    let report = whole.damaged(meta("item_count", json!(3202))).await;
    assert_eq!(bad(&report), BTreeSet::new());
    let mismatch = report["mismatches"][0].as_str().unwrap();
    assert!(
        mismatch.contains("3202 items") && mismatch.contains("3201"),
        "{mismatch}"
    );
    // Whatever number a hostile file gives: what is missing is counted, and not all of it is looked for.
    let hostile = whole.copy(meta("part_count", json!(u64::MAX)));
    let told = whole.stage.run(&["verify", &hostile, "--json"]).await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    let report = &told.json()["report"];
    assert_eq!(
        (&report["bad_files"], &report["totals"]["files"]),
        (&json!(1000), &json!(3))
    );
    let sums = report["mismatches"].to_string();
    assert!(sums.contains("more parts are missing"), "{sums}");
    for status in ["running", "failed"] {
        let changed = meta("status", json!(status));
        let told = whole.refused(&[status], changed).await;
        told.hinted("--allow-incomplete");
    }
}
