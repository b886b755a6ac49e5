//! Damaged copies of backups: each is refused, with the object and what is wrong with it, before or while it is read.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::GzDecoder;
use highwater_testkit::generate::KeyShape;
use highwater_tests::checkout;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use super::restore_lines::gzip;
use super::restoring::{TARGET, assert_restored, files_below, restore_id};
use super::stage::Stage;

/// A backup in a folder, to be copied and damaged.
struct Whole {
    stage: Stage,
    backup: PathBuf,
}

impl Whole {
    /// A Highwater snapshot.
    async fn snapshot() -> Self {
        let stage = Stage::with_items(300).await;
        let to = format!("file://{}", stage.folder.path().join("whole").display());
        let id = super::restores::backed_up(&stage, &to).await;
        let backup = stage
            .folder
            .path()
            .join("whole/orders/AWSDynamoDB")
            .join(id);
        assert!(backup.join("backup.json").is_file());
        Self { stage, backup }
    }

    /// What the real dyndump wrote.
    async fn dyndump() -> Self {
        let stage = Stage::with_items(0).await;
        let backup = stage.folder.path().join("whole/movies");
        std::fs::create_dir_all(backup.parent().unwrap()).unwrap();
        for name in [
            "movies-meta.json",
            "movies-part-000000001.json.gz",
            "movies-part-000000002.json.gz",
            "movies-part-000000003.json.gz",
        ] {
            let from = checkout::path(&format!("tests/fixtures/dyndump/{name}"));
            std::fs::copy(from, backup.with_file_name(name)).unwrap();
        }
        Self { stage, backup }
    }

    /// A copy of the folder that the backup is in; gives where the backup is in it.
    fn copy(&self, name: &str) -> PathBuf {
        let whole = self.stage.folder.path().join("whole");
        let copy = self.stage.folder.path().join(name);
        for file in files_below(&whole) {
            let to = copy.join(file.strip_prefix(&whole).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&file, &to).unwrap();
        }
        copy.join(self.backup.strip_prefix(&whole).unwrap())
    }

    /// Restores damaged copies: each is refused with these words and a way out.
    async fn refuses(&self, cases: Vec<Case>) {
        for Case {
            name,
            words,
            damage,
        } in cases
        {
            let backup = self.copy(&name);
            damage(&backup);
            let target = format!("{TARGET}-{name}");
            let mut begin = vec!["restore", backup.to_str().unwrap(), "--to", &target];
            if !self.backup.is_dir() {
                // dyndump does not say what its table's key was.
                begin.extend(["--key", "pk:S,n:N"]);
            }
            let told = self.stage.run(&begin).await;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let told = told.failed(1, &words);
            assert!(told.stderr.contains("hint: "), "{name}: {told:#?}");
        }
    }
}

/// What is done to a copy, and what the error must name.
struct Case {
    name: String,
    words: Vec<String>,
    damage: Box<dyn Fn(&Path)>,
}

fn case(name: &str, words: &[&str], damage: impl Fn(&Path) + 'static) -> Case {
    Case {
        name: name.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        damage: Box::new(damage),
    }
}

/// The part that most damage is done to.
fn part(backup: &Path) -> PathBuf {
    if !backup.is_dir() {
        return backup.with_file_name("movies-part-000000002.json.gz");
    }
    parts(backup).remove(1)
}

fn parts(backup: &Path) -> Vec<PathBuf> {
    let mut parts = files_below(&backup.join("data"));
    parts.sort();
    parts
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn rewrite(path: &Path, change: impl FnOnce(&[u8]) -> Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let changed = change(&bytes);
    assert_ne!(bytes, changed, "{}", path.display());
    std::fs::write(path, changed).unwrap();
}

fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn with_garbage(bytes: &[u8]) -> Vec<u8> {
    [bytes, b"garbage"].concat()
}

/// Without its last line, packed anew.
fn shortened(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    let lines = plain[..plain.len() - 1].iter();
    let last = lines.rev().position(|byte| *byte == b'\n').unwrap();
    gzip(&plain[..plain.len() - 1 - last])
}

/// Changes the second line of the manifest of files, and its hash with it: whoever can change the one can change
/// the other.
fn change_manifest(backup: &Path, change: impl Fn(&mut Value)) {
    let manifest = backup.join("manifest-files.json");
    rewrite(&manifest, |bytes| {
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let mut lines: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        let mut file: Value = serde_json::from_slice(&lines[1]).unwrap();
        change(&mut file);
        lines[1] = format!("{file}\n").into_bytes();
        lines.concat()
    });
    let md5 = BASE64.encode(Md5::digest(std::fs::read(manifest).unwrap()));
    std::fs::write(backup.join("manifest-files.md5"), md5).unwrap();
}

/// Damage to a part of either kind of backup. One of another length already shows in the sums, before it is read.
fn damaged_parts(name: &str, sums: &str) -> Vec<Case> {
    let sums = [sums, "bytes"];
    let changed =
        |change: fn(&[u8]) -> Vec<u8>| move |backup: &Path| rewrite(&part(backup), change);
    vec![
        case("flipped", &[name], changed(flip)),
        case(
            "truncated",
            &sums,
            changed(|bytes| bytes[..bytes.len() - 20].to_vec()),
        ),
        case(
            "half",
            &sums,
            changed(|bytes| bytes[..bytes.len() / 2].to_vec()),
        ),
        case("empty", &sums, changed(|_| Vec::new())),
        case("garbage", &sums, changed(with_garbage)),
        case("shortened", &sums, changed(shortened)),
    ]
}

fn damaged_manifests(name: &str) -> Vec<Case> {
    // The MD5 of nothing.
    let md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
    let etag = highwater_domain::part::export_etag(md5).unwrap();
    let flipped = |file: &'static str| move |backup: &Path| rewrite(&backup.join(file), flip);
    vec![
        case("missing", &[name], |backup| {
            std::fs::remove_file(part(backup)).unwrap();
        }),
        case("count", &["manifest-summary.json", "301"], |backup| {
            change_manifest(backup, |file| {
                file["itemCount"] = json!(file["itemCount"].as_u64().unwrap() + 1);
            });
        }),
        case("md5", &["manifest-files.json", "line 2"], move |backup| {
            change_manifest(backup, |file| file["md5Checksum"] = json!(md5));
        }),
        case("md5-and-etag", &[name], move |backup| {
            change_manifest(backup, |file| {
                file["md5Checksum"] = json!(md5);
                file["etag"] = json!(etag);
            });
        }),
        case(
            "manifest",
            &["manifest-files"],
            flipped("manifest-files.json"),
        ),
        case(
            "summary",
            &["manifest-summary"],
            flipped("manifest-summary.json"),
        ),
        case("no-manifest", &["manifest-files"], |backup| {
            std::fs::remove_file(backup.join("manifest-files.json")).unwrap();
        }),
        case("swapped", &["s00000-p00000"], |backup| {
            let parts = parts(backup);
            let (one, other) = (
                std::fs::read(&parts[0]).unwrap(),
                std::fs::read(&parts[1]).unwrap(),
            );
            std::fs::write(&parts[0], other).unwrap();
            std::fs::write(&parts[1], one).unwrap();
        }),
    ]
}

fn hostile_keys() -> Vec<Case> {
    let named = |number: usize, key: &'static str, words: &[&str]| {
        case(&format!("hostile-{number}"), words, move |backup| {
            change_manifest(backup, |file| file["dataFileS3Key"] = json!(key));
        })
    };
    let keys = ["../x", "/etc/passwd", "a/../../x", "\u{0}", ""];
    let cases = keys.into_iter().enumerate();
    let refused = &["manifest-files.json", "line 2"];
    let mut cases: Vec<Case> = cases
        .map(|(number, key)| named(number, key, refused))
        .collect();
    // A key like any other, of another backup.
    cases.push(named(
        9,
        "orders/AWSDynamoDB/other/data/x.json.gz",
        &["other/data/x.json.gz"],
    ));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused() {
    let whole = Whole::snapshot().await;
    let part = part(&whole.backup);
    whole
        .refuses(damaged_parts(name_of(&part), "backup.json"))
        .await;
    whole.refuses(damaged_manifests(name_of(&part))).await;
    whole.refuses(hostile_keys()).await;
    // The backup itself is whole.
    let begin = ["restore", whole.backup.to_str().unwrap(), "--to", TARGET];
    whole.stage.run(&begin).await.done();
    assert_restored(&whole.stage, &KeyShape::STRING.schema()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_of_dyndump_is_refused() {
    let whole = Whole::dyndump().await;
    let meta = "movies-meta.json";
    let changed = |member: &'static str, value: Value| {
        move |backup: &Path| {
            rewrite(&backup.with_file_name(meta), |bytes| {
                let mut meta: Value = serde_json::from_slice(bytes).unwrap();
                meta[member] = value.clone();
                meta.to_string().into_bytes()
            });
        }
    };
    whole
        .refuses(damaged_parts(name_of(&part(&whole.backup)), meta))
        .await;
    let cases = vec![
        case("missing", &["part"], |backup| {
            std::fs::remove_file(part(backup)).unwrap();
        }),
        case("count", &["3200"], changed("item_count", json!(3200))),
        case("parts", &["part"], changed("part_count", json!(4))),
        case("fewer", &["part"], changed("part_count", json!(2))),
        case("running", &["running"], changed("status", json!("running"))),
        case("no-json", &[meta], |backup| {
            rewrite(&backup.with_file_name("movies-meta.json"), |bytes| {
                bytes[..60].to_vec()
            });
        }),
    ];
    whole.refuses(cases).await;
}

/// What was damaged and found while it was read can be mended and gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_when_its_backup_is_mended() {
    let whole = Whole::snapshot().await;
    let backup = whole.copy("mended");
    let broken = part(&backup);
    let bytes = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, flip(&bytes)).unwrap();
    let id = restore_id(3);
    let begin = [
        "restore",
        backup.to_str().unwrap(),
        "--to",
        TARGET,
        "--id",
        id.as_str(),
    ];
    let told = whole
        .stage
        .run(&begin)
        .await
        .failed(1, &[broken.file_name().unwrap().to_str().unwrap()]);
    told.hinted(&format!("highwater restore --resume {id}"));
    // The same damage is found again, not passed over.
    let resume = ["restore", "--resume", id.as_str()];
    whole
        .stage
        .run(&resume)
        .await
        .failed(1, &[broken.file_name().unwrap().to_str().unwrap()]);
    std::fs::write(&broken, bytes).unwrap();
    whole.stage.run(&resume).await.done();
    assert_restored(&whole.stage, &KeyShape::STRING.schema()).await;
}
