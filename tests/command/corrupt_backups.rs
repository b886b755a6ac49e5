//! Damaged copies of backups: each is refused, with the object and what is wrong with it, before or while it is read.

use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use highwater_testkit::generate::KeyShape;
use highwater_tests::checkout;
use serde_json::{Value, json};
use std::io::Read as _;

use super::read_back::table_items;
use super::restore_lines::gzip;
use super::restoring::{TARGET, files_below, restore_id};
use super::stage::{Stage, TABLE};

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

    /// Restores a damaged copy: refused with these words, and nothing of the damaged file is in the table.
    async fn refused(&self, name: &str, words: &[&str], damage: impl FnOnce(&Path)) {
        let backup = self.copy(name);
        damage(&backup);
        let target = format!("{TARGET}-{name}");
        let begin = [
            "restore",
            backup.to_str().unwrap(),
            "--to",
            &target,
            "--key",
            "pk:S,n:N",
        ];
        let begin = match self.backup.is_dir() {
            true => &begin[..4],
            false => &begin[..],
        };
        let told = self.stage.run(begin).await;
        let told = told.failed(1, words);
        assert!(told.stderr.contains("hint: "), "{name}: {told:#?}");
    }
}

/// The part that most damage is done to.
fn part(backup: &Path) -> PathBuf {
    let mut parts: Vec<_> = files_below(&backup.join("data"));
    parts.sort();
    parts.remove(1)
}

fn rewrite(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let changed = change(bytes.clone());
    assert_ne!(bytes, changed, "{}", path.display());
    std::fs::write(path, changed).unwrap();
}

fn flip(bytes: Vec<u8>) -> Vec<u8> {
    let mut bytes = bytes;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn lines_of(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    plain
}

/// Without its last line, packed anew.
fn shortened(packed: Vec<u8>) -> Vec<u8> {
    let plain = lines_of(&packed);
    let last = plain[..plain.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap();
    gzip(&plain[..=last])
}

/// Changes the manifest of files, and its hash with it: whoever can change the one can change the other.
fn change_manifest(backup: &Path, change: impl Fn(&mut Value)) {
    rewrite(&backup.join("manifest-files.json"), |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let mut files: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        change(&mut files[1]);
        let lines: String = files.iter().map(|file| format!("{file}\n")).collect();
        lines.into_bytes()
    });
    set_md5(backup);
}

fn set_md5(backup: &Path) {
    use base64::Engine as _;
    use md5::{Digest as _, Md5};
    let manifest = std::fs::read(backup.join("manifest-files.json")).unwrap();
    let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(manifest));
    std::fs::write(backup.join("manifest-files.md5"), md5).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused() {
    let whole = Whole::snapshot().await;
    let name = part(&whole.backup)
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let name = name.as_str();
    // A part of another length already shows in the sums, before it is read.
    let at_part =
        |change: fn(Vec<u8>) -> Vec<u8>| move |backup: &Path| rewrite(&part(backup), change);
    whole.refused("flipped", &[name], at_part(flip)).await;
    whole
        .refused(
            "truncated",
            &["backup.json", "bytes"],
            at_part(|bytes| bytes[..bytes.len() - 20].to_vec()),
        )
        .await;
    whole
        .refused("empty", &["backup.json", "bytes"], at_part(|_| Vec::new()))
        .await;
    whole
        .refused(
            "garbage",
            &["backup.json", "bytes"],
            at_part(|mut bytes| {
                bytes.extend_from_slice(b"garbage");
                bytes
            }),
        )
        .await;
    whole
        .refused("shortened", &["backup.json", "bytes"], at_part(shortened))
        .await;
    whole
        .refused("missing", &[name], |backup| {
            std::fs::remove_file(part(backup)).unwrap()
        })
        .await;
    whole
        .refused("count", &[], |backup| {
            change_manifest(backup, |file| {
                file["itemCount"] = json!(file["itemCount"].as_u64().unwrap() + 1)
            })
        })
        .await;
    // The MD5 of nothing.
    let (base64, hex) = (
        "1B2M2Y8AsgTpgAmY7PhCfg==",
        "d41d8cd98f00b204e9800998ecf8427e",
    );
    whole
        .refused("md5", &["manifest-files.json", "line 2"], |backup| {
            change_manifest(backup, |file| file["md5Checksum"] = json!(base64));
        })
        .await;
    whole
        .refused("md5-and-etag", &[name], |backup| {
            change_manifest(backup, |file| {
                file["md5Checksum"] = json!(base64);
                file["etag"] = json!(hex);
            });
        })
        .await;
    whole
        .refused("manifest", &["manifest-files"], |backup| {
            rewrite(&backup.join("manifest-files.json"), flip)
        })
        .await;
    whole
        .refused("summary", &["manifest-summary"], |backup| {
            rewrite(&backup.join("manifest-summary.json"), flip)
        })
        .await;
    whole
        .refused("no-manifest", &["manifest-files"], |backup| {
            std::fs::remove_file(backup.join("manifest-files.json")).unwrap()
        })
        .await;
    whole
        .refused("swapped", &[], |backup| {
            let mut parts = files_below(&backup.join("data"));
            parts.sort();
            let (one, other) = (
                std::fs::read(&parts[0]).unwrap(),
                std::fs::read(&parts[1]).unwrap(),
            );
            std::fs::write(&parts[0], other).unwrap();
            std::fs::write(&parts[1], one).unwrap();
        })
        .await;
    for (number, key) in [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "orders/AWSDynamoDB/other/data/x.json.gz",
        "\u{0}",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        whole
            .refused(&format!("hostile-{number}"), &[], |backup| {
                change_manifest(backup, |file| file["dataFileS3Key"] = json!(key))
            })
            .await;
    }
    // The backup itself is whole.
    whole
        .stage
        .run(&["restore", whole.backup.to_str().unwrap(), "--to", TARGET])
        .await
        .done();
    let schema = KeyShape::STRING.schema();
    let there = table_items(&whole.stage, TARGET, &schema).await;
    assert_eq!(there.len(), 300);
    super::read_back::assert_same(&there, &table_items(&whole.stage, TABLE, &schema).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_of_dyndump_is_refused() {
    let whole = Whole::dyndump().await;
    let name = "movies-part-000000002.json.gz";
    let part = |backup: &Path| backup.with_file_name(name);
    let at_part =
        |change: fn(Vec<u8>) -> Vec<u8>| move |backup: &Path| rewrite(&part(backup), change);
    let at_meta = |member: &'static str, value: Value| {
        move |backup: &Path| {
            rewrite(&backup.with_file_name("movies-meta.json"), |bytes| {
                let mut meta: Value = serde_json::from_slice(&bytes).unwrap();
                meta[member] = value;
                meta.to_string().into_bytes()
            });
        }
    };
    whole.refused("flipped", &[name], at_part(flip)).await;
    whole
        .refused(
            "truncated",
            &["movies-meta.json", "bytes"],
            at_part(|bytes| bytes[..bytes.len() / 2].to_vec()),
        )
        .await;
    whole
        .refused(
            "garbage",
            &["movies-meta.json", "bytes"],
            at_part(|mut bytes| {
                bytes.extend_from_slice(b"garbage");
                bytes
            }),
        )
        .await;
    whole
        .refused(
            "shortened",
            &["movies-meta.json", "bytes"],
            at_part(shortened),
        )
        .await;
    whole
        .refused("missing", &["part"], |backup| {
            std::fs::remove_file(part(backup)).unwrap()
        })
        .await;
    whole
        .refused("count", &["3200"], at_meta("item_count", json!(3200)))
        .await;
    whole
        .refused("parts", &["part"], at_meta("part_count", json!(4)))
        .await;
    whole
        .refused("fewer", &["part"], at_meta("part_count", json!(2)))
        .await;
    whole
        .refused("running", &["running"], at_meta("status", json!("running")))
        .await;
    whole
        .refused("no-json", &["movies-meta.json"], |backup| {
            rewrite(&backup.with_file_name("movies-meta.json"), |bytes| {
                bytes[..60].to_vec()
            })
        })
        .await;
}

/// What was damaged and found while it was read can be mended and gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_when_its_backup_is_mended() {
    let whole = Whole::snapshot().await;
    let backup = whole.copy("mended");
    let broken = part(&backup);
    let bytes = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, flip(bytes.clone())).unwrap();
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
    let schema = KeyShape::STRING.schema();
    let there = table_items(&whole.stage, TARGET, &schema).await;
    super::read_back::assert_same(&there, &table_items(&whole.stage, TABLE, &schema).await);
}
