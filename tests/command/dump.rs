//! `highwater dump`, and `info` and `delete` of what it wrote, as users run them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use highwater_domain::digest::sha256_hex;
use highwater_domain::encoding::decode_typed;
use highwater_testkit::canonical::canonical;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::stage::{BUCKET, Stage, TABLE, finish, signal, told, until};
use super::told::Told;

const ITEMS: u64 = 400;
const PREFIX: &str = "dumps/orders";
const TO: &str = "s3://backups/dumps/orders";

/// Items by their key, in one spelling.
type Items = BTreeMap<String, Value>;

fn items_of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Items {
    let mut items = Items::new();
    for line in lines {
        let item = canonical(line);
        let before = items.insert(item["pk"].to_string(), item);
        assert_eq!(before, None, "an item came twice");
    }
    items
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    assert!(text.is_empty() || text.ends_with(b"\n"), "whole lines");
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).collect()
}

/// The table as the service itself tells it.
async fn table(stage: &Stage) -> Items {
    let place = stage.folder.path().join("oracle");
    let url = format!("file://{}", place.display());
    let done = stage
        .run(&["backup", TABLE, "--to", &url, "--json"])
        .await
        .done()
        .json();
    let root = PathBuf::from(done["url"].as_str().unwrap().trim_start_matches("file://"));
    let mut text = Vec::new();
    for entry in std::fs::read_dir(root.join("data")).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut text)
            .unwrap();
    }
    let items = lines(&text).into_iter().map(|line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        serde_json::to_vec(&line["Item"]).unwrap()
    });
    let items: Vec<Vec<u8>> = items.collect();
    items_of(items.iter().map(Vec::as_slice))
}

/// dyndump's layout, read by its description and by nothing of ours.
async fn read_layout(stage: &Stage, prefix: &str) -> (Items, Value) {
    let bucket = stage.bucket();
    let meta = bucket
        .read(&format!("{prefix}-meta.json"))
        .await
        .unwrap()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&meta).unwrap();
    assert_eq!(
        String::from_utf8(meta.to_vec()).unwrap(),
        in_dyndumps_manner(&metadata),
        "byte for byte"
    );
    let (mut text, mut chain, mut stored) = (Vec::new(), String::new(), 0);
    let parts = metadata["part_count"].as_u64().unwrap();
    for number in 1..=parts {
        let key = format!("{prefix}-part-{number:09}.json.gz");
        let body = bucket.read(&key).await.unwrap().unwrap();
        let facts = bucket.facts(&key).await.unwrap().unwrap();
        let mut part = Vec::new();
        flate2::read::GzDecoder::new(&body[..])
            .read_to_end(&mut part)
            .unwrap();
        let hash = sha256_hex(&part);
        assert_eq!(facts.user_metadata["dyndump-sha256"], hash);
        assert_eq!(facts.user_metadata["dyndump-part"], number.to_string());
        assert_eq!(
            facts.user_metadata["dyndump-itemcount"],
            lines(&part).len().to_string()
        );
        chain.push_str(&hash);
        chain.push('\n');
        stored += body.len();
        text.extend_from_slice(&part);
    }
    let keys = stage.keys().await;
    let ours = keys.iter().filter(|key| key.starts_with(prefix)).count() as u64;
    assert_eq!(ours, parts + 1, "{keys:?}");
    assert_eq!(metadata["hash_sha256"], sha256_hex(chain.as_bytes()));
    assert_eq!(metadata["last_hashed"], parts);
    assert_eq!(metadata["uncompressed_bytes"], text.len());
    assert_eq!(metadata["compressed_bytes"], stored);
    let items = items_of(lines(&text));
    assert_eq!(metadata["item_count"], items.len());
    (items, metadata)
}

/// The metadata's members in dyndump's order, indented as Go indents.
fn in_dyndumps_manner(metadata: &Value) -> String {
    let names = [
        "table_name",
        "table_arn",
        "status",
        "backup_type",
        "backup_start_time",
        "backup_end_time",
        "uncompressed_bytes",
        "compressed_bytes",
        "item_count",
        "part_count",
        "hash_sha256",
        "last_hashed",
    ];
    let members = names.map(|name| format!("  \"{name}\": {}", metadata[name]));
    format!("{{\n{}\n}}", members.join(",\n"))
}

/// The content type and encoding that S3 keeps.
async fn headers(stage: &Stage, key: &str) -> (String, Option<String>) {
    let s3 = highwater_testkit::clients::s3(stage.s3.endpoint_url());
    let head = s3
        .head_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    (head.content_type.unwrap(), head.content_encoding)
}

fn path_of(stage: &Stage, name: &str) -> (PathBuf, String) {
    let path = stage.folder.path().join(name);
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

/// B12: what ran for less than a second has finite averages.
fn assert_ends_as_dyndump(told: &Told, items: u64) {
    let last: Vec<&str> = told.stderr.lines().rev().take(3).collect();
    assert_eq!(last[0], format!("Total items read:  {items}"), "{told:#?}");
    for (line, start) in [
        (last[1], "Avg capacity/sec: "),
        (last[2], "Avg items/sec: "),
    ] {
        let average = line
            .strip_prefix(start)
            .unwrap_or_else(|| panic!("{told:#?}"));
        assert!(average.parse::<f64>().unwrap().is_finite(), "{line}");
        assert_eq!(average.split('.').nth(1).map(str::len), Some(2), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b11_and_b12_a_file_is_whole_and_the_lines_are_dyndumps() {
    let stage = Stage::with_items(ITEMS).await;
    let (path, file) = path_of(&stage, "orders.json");
    let told = stage
        .run(&["dump", TABLE, "--file", &file, "-r", "0"])
        .await
        .done();
    assert_eq!(told.stdout, "");
    let first = told.stderr.lines().next().unwrap();
    assert!(
        first.starts_with("Beginning scan: table=\"orders\" readCapacity=0 parallel=5 itemCount="),
        "{first}"
    );
    assert!(
        first.ends_with(&format!("targets=file://{file}")),
        "{first}"
    );
    assert_ends_as_dyndump(&told, ITEMS);
    let text = std::fs::read(&path).unwrap();
    assert_eq!(items_of(lines(&text)), table(&stage).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_carries_items_and_nothing_else() {
    let stage = Stage::with_items(ITEMS).await;
    for more in [
        &["--stdout"][..],
        &["-f", "-", "--json"],
        &["--stdout", "--silent"],
    ] {
        let arguments = [&["dump", TABLE][..], more].concat();
        let told = stage.run(&arguments).await.done();
        assert_eq!(
            items_of(lines(told.stdout.as_bytes())).len() as u64,
            ITEMS,
            "{more:?}"
        );
        if more.contains(&"--silent") {
            assert_eq!(told.stderr, "");
        } else if more.contains(&"--json") {
            let account: Value = serde_json::from_str(told.stderr.lines().last().unwrap()).unwrap();
            assert_eq!(account["items"], ITEMS);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_s3_at_once_and_dyndumps_layout_by_its_description() {
    let stage = Stage::with_items(ITEMS).await;
    let (path, file) = path_of(&stage, "orders.json");
    let arguments = [
        "dump",
        TABLE,
        "--filename",
        &file,
        "--s3-bucket",
        BUCKET,
        "--s3-prefix",
        PREFIX,
        "--part-size",
        "4000",
        "--json",
    ];
    let told = stage.run(&arguments).await.done();
    assert!(
        told.stderr.contains(&format!("targets=file://{file},{TO}")),
        "{told:#?}"
    );
    assert_eq!(told.json()["items"], ITEMS);
    let (items, metadata) = read_layout(&stage, PREFIX).await;
    assert_eq!(items, table(&stage).await);
    assert_eq!(items_of(lines(&std::fs::read(&path).unwrap())), items);
    assert_eq!(
        (&metadata["status"], &metadata["backup_type"]),
        (&"completed".into(), &"full".into())
    );
    assert!(metadata["part_count"].as_u64().unwrap() > 5, "{metadata}");
    let part = headers(&stage, &format!("{PREFIX}-part-000000001.json.gz")).await;
    assert_eq!(
        part,
        ("application/json".to_owned(), Some("gzip".to_owned()))
    );
    let meta = headers(&stage, &format!("{PREFIX}-meta.json")).await;
    assert_eq!(meta, ("application/json".to_owned(), None));

    // DD-18: whatever is there stays.
    let before = stage.keys().await;
    let again = stage.run(&["dump", TABLE, "--to", TO]).await;
    let again = again.failed(1, &["already exists", TO, "\"orders\"", "completed"]);
    again.hinted(&format!("highwater delete {TO}"));
    assert_eq!(stage.keys().await, before);
}

/// The prefix is put before the names as it is, slash and all.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_taken_as_it_is_and_a_folder_is_a_store_too() {
    let stage = Stage::with_items(20).await;
    let s3 = [
        "dump",
        TABLE,
        "--s3-bucket",
        BUCKET,
        "--s3-prefix",
        "a+b/2016-04-01-12:25-",
    ];
    stage.run(&s3).await.done();
    let (items, _) = read_layout(&stage, "a+b/2016-04-01-12:25-").await;
    assert_eq!(items.len(), 20);
    let place = format!("file://{}/dumps/orders", stage.folder.path().display());
    stage.run(&["dump", TABLE, "--to", &place]).await.done();
    let folder = stage.folder.path().join("dumps");
    assert!(
        folder.join("orders-meta.json").exists()
            && folder.join("orders-part-000000001.json.gz").exists()
    );
    let info = stage.run(&["info", &place, "--json"]).await.done().json();
    assert_eq!(
        (&info["status"], &info["item_count"]),
        (&"completed".into(), &20.into())
    );
    stage.run(&["delete", &place, "--force"]).await.done();
    assert!(!folder.join("orders-meta.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_holds_every_item() {
    let stage = Stage::start().await;
    stage
        .fill(TABLE, &Generator::new(5, KeyShape::STRING), 120)
        .await;
    let expected = table(&stage).await;
    let dump = async |more: &[&str]| {
        let arguments = [&["dump", TABLE, "--stdout", "--quiet"][..], more].concat();
        stage.run(&arguments).await.done().stdout
    };
    assert_eq!(items_of(lines(dump(&[]).await.as_bytes())), expected);
    for more in [
        &["--encoding", "typed"][..],
        &["--encoding=typed", "--string-nums"],
    ] {
        let text = dump(more).await;
        let decoded: Vec<Vec<u8>> = lines(text.as_bytes())
            .into_iter()
            .map(|line| decode_typed(line).unwrap())
            .collect();
        assert_eq!(
            items_of(decoded.iter().map(Vec::as_slice)),
            expected,
            "{more:?}"
        );
    }
    let plain = dump(&["--encoding", "plain", "--string-nums"]).await;
    let ids: Vec<Value> = lines(plain.as_bytes())
        .into_iter()
        .map(|line| serde_json::from_slice::<Value>(line).unwrap()["pk"].clone())
        .collect();
    assert_eq!(ids.len(), expected.len());
    assert!(ids.iter().all(Value::is_string), "{:?}", ids.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_on_items_is_exact() {
    let stage = Stage::with_items(ITEMS).await;
    for (flag, limit) in [("-m", "1"), ("--maxitems", "37"), ("--max-items", "399")] {
        let told = stage
            .run(&["dump", TABLE, "--stdout", "-p", "7", flag, limit])
            .await
            .done();
        assert_eq!(
            lines(told.stdout.as_bytes()).len(),
            limit.parse::<usize>().unwrap()
        );
    }
}

/// B1 and B4: unlimited is unlimited, and silent is silent.
#[tokio::test(flavor = "multi_thread")]
async fn b1_and_b4_silent_is_silent() {
    let stage = Stage::with_items(ITEMS).await;
    let (_, file) = path_of(&stage, "orders.json");
    let told = stage
        .run(&[
            "dump",
            TABLE,
            "--silent",
            "--read-capacity",
            "0",
            "-f",
            &file,
        ])
        .await
        .done();
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("", ""));
    let told = stage
        .run(&["dump", "absent", "--silent", "-f", &file])
        .await;
    let told = told.failed(1, &["absent"]);
    assert!(
        told.stderr
            .lines()
            .all(|line| line.starts_with("error: ") || line.starts_with("hint: ")),
        "{told:#?}"
    );
}

/// B5, B6 and DD-20: an orderly end, with nothing on show that is not whole.
#[tokio::test(flavor = "multi_thread")]
async fn b5_b6_and_dd_20_a_signal_leaves_failed_and_no_file() {
    for (name, code, more) in [
        ("INT", 130, &["--silent"][..]),
        ("TERM", 143, &["--no-progress"]),
    ] {
        let stage = Stage::with_items(ITEMS).await;
        stage
            .dynamodb_proxy
            .inject(Rule::rate(Fault::Delay(300), 1.0).on("Scan"));
        let (path, file) = path_of(&stage, "orders.json");
        let log = stage.folder.path().join("job.log");
        let log_to = log.to_str().unwrap().to_owned();
        // So many segments that the scan takes its time.
        let base = [
            "dump",
            TABLE,
            "-f",
            &file,
            "--to",
            TO,
            "--segments",
            "200",
            "-p",
            "2",
            "--log-to",
            &log_to,
        ];
        let child = stage.spawn(&[&base[..], more].concat());
        until("the dump has begun", async || {
            (!stage.keys().await.is_empty() && stage.dynamodb_proxy.requests() > 4).then_some(())
        })
        .await;
        signal(&child, name).await;
        let told = told(child).await;
        if more == ["--silent"] {
            assert_eq!(told.stderr.lines().count(), 1, "only the error: {told:#?}");
        }
        told.failed(code, &[&format!("stopped by SIG{name}")]);
        let (_, metadata) = read_layout(&stage, PREFIX).await;
        assert_eq!(metadata["status"], "failed");
        assert!(metadata["backup_end_time"].is_string());
        assert!(!path.exists());
        assert_no_leftovers(stage.folder.path());
        let log = std::fs::read_to_string(log).unwrap();
        let words: Vec<&str> = log
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert!(words[0].starts_with("Beginning scan: "), "{log}");
        assert_eq!(words[1..], ["Abort request received", "Aborted"], "{log}");
    }
}

fn assert_no_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        let name = name.to_string_lossy();
        assert!(!name.starts_with(".highwater-dump-"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_standard_output_that_goes_away_ends_everything() {
    let stage = Stage::with_items(ITEMS).await;
    stage
        .dynamodb_proxy
        .inject(Rule::rate(Fault::Delay(50), 1.0).on("Scan"));
    let (path, file) = path_of(&stage, "orders.json");
    let mut child = stage.spawn(&[
        "dump",
        TABLE,
        "--stdout",
        "-f",
        &file,
        "--to",
        TO,
        "--segments",
        "40",
        "-p",
        "1",
    ]);
    let mut stdout = child.stdout.take().unwrap();
    let mut some = [0; 10];
    stdout.read_exact(&mut some).await.unwrap();
    drop(stdout);
    told(child)
        .await
        .failed(1, &["standard output", "reader has gone"]);
    assert!(!path.exists());
    let (_, metadata) = read_layout(&stage, PREFIX).await;
    assert_eq!(metadata["status"], "failed");
}

/// DD-14 as a user meets it; B11 beside it.
#[tokio::test(flavor = "multi_thread")]
async fn dd_14_and_b11_what_s3_refuses_ends_the_dump_and_the_file() {
    let stage = Stage::with_items(ITEMS).await;
    let (path, file) = path_of(&stage, "orders.json");
    let parts = format!("/{BUCKET}/{PREFIX}-part-");
    stage.s3_proxy.inject(
        Rule::rate(Fault::ServerError, 1.0)
            .on("PutObject")
            .under(&parts),
    );
    let told = stage
        .run(&[
            "dump",
            TABLE,
            "-f",
            &file,
            "--to",
            TO,
            "--part-size",
            "1000",
            "--max-retries",
            "1",
        ])
        .await;
    told.failed(1, &["PutObject", "-part-00000000"]);
    assert!(!path.exists());
    assert_no_leftovers(stage.folder.path());
    let info = stage.run(&["info", TO]).await.done();
    assert!(
        info.stdout.contains("Status ..............: failed"),
        "{info:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_as_many_as_was_said() {
    let stage = Stage::with_items(50).await;
    stage
        .dynamodb_proxy
        .inject(Rule::nth(Fault::Throttle, 3).on("Scan"));
    let never = stage
        .run(&["dump", TABLE, "--stdout", "--max-retries", "0"])
        .await;
    assert_eq!(never.code, Some(1), "{never:#?}");
    stage.dynamodb_proxy.clear();
    stage
        .dynamodb_proxy
        .inject(Rule::nth(Fault::Throttle, 3).on("Scan"));
    let once = stage
        .run(&["dump", TABLE, "--stdout", "--max-retries", "1"])
        .await
        .done();
    assert_eq!(lines(once.stdout.as_bytes()).len(), 50);
}

/// dyndump's variables drive it all, and its flags mean what they meant.
#[tokio::test(flavor = "multi_thread")]
async fn dyndumps_environment_is_heard_as_a_second_choice() {
    let stage = Stage::with_items(ITEMS).await;
    let run = async |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = stage.command(arguments);
        command.envs(variables.iter().copied());
        finish(command).await
    };
    let (path, file) = path_of(&stage, "orders.json");
    let log = stage.folder.path().join("job.log");
    let variables = [
        ("FILENAME", file.as_str()),
        ("S3_BUCKET", BUCKET),
        ("S3_PREFIX", PREFIX),
        ("MAXITEMS", "25"),
        ("MAX_PARALLEL", "3"),
        ("READ_CAPACITY", "1000"),
        ("USE_CONSISTENT", "true"),
        ("AWS_MAX_RETRIES", "2"),
        ("NO_PROGRESS", "true"),
        ("LOG_TARGET", log.to_str().unwrap()),
        ("LOG_TIMESTAMP", ""),
        ("HIGHWATER_MAX_ITEMS", "30"),
    ];
    let told = run(&["dump", TABLE], &variables).await.done();
    assert!(
        told.stderr
            .starts_with("Beginning scan: table=\"orders\" readCapacity=1000 parallel=3 "),
        "{told:#?}"
    );
    let (items, metadata) = read_layout(&stage, PREFIX).await;
    assert_eq!(items.len(), 30, "ours goes before dyndump's");
    assert_eq!(metadata["backup_type"], "query");
    assert_eq!(lines(&std::fs::read(&path).unwrap()).len(), 30);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.ends_with("Dump completed OK table=orders\n"), "{log}");

    // A place on the command line is the only one.
    std::fs::remove_file(&path).unwrap();
    let told = run(&["dump", TABLE, "--stdout"], &variables).await.done();
    assert_eq!(lines(told.stdout.as_bytes()).len(), 30);
    assert!(!path.exists());

    let place = [
        ("S3_BUCKET", BUCKET),
        ("S3_PREFIX", PREFIX),
        ("SILENT", "true"),
    ];
    let info = run(&["info"], &place).await.done();
    assert!(
        info.stdout.contains("Item Count ..........: 30"),
        "{info:#?}"
    );
    let delete = [&place[..], &[("NO_DELETE_PROMPT", "true")]].concat();
    let deleted = run(&["delete"], &delete).await.done();
    assert_eq!(deleted.stderr, "");
    assert_eq!(stage.keys().await, [""; 0]);
}

/// B13: nothing is escaped, and a backup that runs has no end yet.
#[tokio::test(flavor = "multi_thread")]
async fn b13_info_shows_dyndumps_lines_as_they_are() {
    let stage = Stage::start().await;
    let metadata = r#"{"table_name":"a&b<c>","status":"running","backup_start_time":"2026-11-21T23:05:26.768194022+01:00","backup_end_time":null,"item_count":7}"#;
    let object = highwater_domain::object_store::NewObject {
        key: format!("{PREFIX}-meta.json"),
        body: metadata.into(),
        content_type: "application/json",
        ..Default::default()
    };
    stage.bucket().replace(object).await.unwrap();
    let info = stage.run(&["info", TO]).await.done();
    let expected = "\
Table Name...........: a&b<c>
Table ARN............: 
Status ..............: running
Backup Type .........: full
Backup Start Time ...: 2026-11-21T23:05:26.768194022+01:00
Backup End Time .....: -
Compressed (bytes) ..: 0
Uncompressed (bytes) : 0
Item Count ..........: 7
Part Count ..........: 0
";
    assert_eq!(info.stdout, expected);
    stage
        .run(&["info", "s3://backups/nothing"])
        .await
        .failed(1, &["no backup", "nothing-meta.json"]);
}

/// B10 and B16 with the command: exact keys, and the metadata outlives what cannot be deleted.
#[tokio::test(flavor = "multi_thread")]
async fn b10_and_b16_delete_takes_parts_then_metadata() {
    let stage = Stage::with_items(100).await;
    let dump = |prefix| {
        [
            "dump",
            TABLE,
            "--s3-bucket",
            BUCKET,
            "--s3-prefix",
            prefix,
            "--part-size",
            "1000",
        ]
    };
    for prefix in ["a.b", "aXb"] {
        stage.run(&dump(prefix)).await.done();
    }
    let delete = ["delete", "--s3-bucket", BUCKET, "--s3-prefix", "a.b"];
    let asked = stage.run(&delete).await;
    asked.failed(1, &["nothing was deleted"]).hinted("--force");
    let dry = stage
        .run(&[&delete[..], &["--dry-run", "--json"]].concat())
        .await
        .done()
        .json();
    let parts = dry["parts"].as_u64().unwrap();
    assert!(parts > 3, "{dry}");
    let all = stage.keys().await.len() as u64;

    stage
        .s3_proxy
        .inject(Rule::rate(Fault::ServerError, 1.0).on("DeleteObjects"));
    let failed = stage
        .run(&[&delete[..], &["--force", "--max-retries", "0"]].concat())
        .await;
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert_eq!(stage.keys().await.len() as u64, all);
    stage.s3_proxy.clear();
    deletes_all_of(&stage, &delete, parts).await;
    let left = stage.keys().await;
    assert_eq!(left.len() as u64, all - parts - 1);
    assert!(left.iter().all(|key| key.starts_with("aXb-")), "{left:?}");
}

async fn deletes_all_of(stage: &Stage, delete: &[&str], parts: u64) {
    let log = stage.folder.path().join("delete.log");
    let logged = [
        "--force",
        "--log-timestamp=",
        "--log-to",
        log.to_str().unwrap(),
    ];
    let done = stage.run(&[delete, &logged].concat()).await.done();
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(
        log.starts_with("Beginning s3 delete prefix=s3://backups/a.b ")
            && log.ends_with("Delete completed OK prefix=s3://backups/a.b\n"),
        "{log}"
    );
    assert_eq!(
        done.stdout,
        format!("Deleted {parts} parts from s3://backups/a.b\n")
    );
    assert!(
        done.stderr.starts_with(&format!(
            "Beginning s3 delete prefix=s3://backups/a.b parts={parts}\n"
        )),
        "{done:#?}"
    );
}

/// Parts that lost their metadata are deleted only for whoever says so.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_deleted_only_when_asked_for() {
    let stage = Stage::with_items(20).await;
    stage.run(&["dump", TABLE, "--to", TO]).await.done();
    stage
        .bucket()
        .delete(&[format!("{PREFIX}-meta.json")])
        .await
        .unwrap();
    let told = stage.run(&["delete", TO, "--force"]).await;
    told.failed(1, &["parts are", "--force-orphans"]);
    let into = stage.run(&["dump", TABLE, "--to", TO]).await;
    into.failed(1, &["-part-00000000", "without metadata"]);
    stage
        .run(&["delete", TO, "--force", "--force-orphans"])
        .await
        .done();
    assert_eq!(stage.keys().await, [""; 0]);
}

/// The readers take what the writer wrote: proven, and loaded into another table.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_dumped_verifies_and_loads() {
    let stage = Stage::with_items(ITEMS).await;
    let dump = ["dump", TABLE, "--to", TO, "--part-size", "4000"];
    stage.run(&dump).await.done();
    stage.run(&["verify", TO]).await.done();
    NewTable::new("copy", KeyShape::STRING)
        .create(&stage.direct)
        .await
        .unwrap();
    let load = ["load", "copy", "--s3-bucket", BUCKET, "--s3-prefix", PREFIX];
    stage.run(&load).await.done();
    let copied = stage.run(&["dump", "copy", "--stdout"]).await.done();
    assert_eq!(
        items_of(lines(copied.stdout.as_bytes())),
        table(&stage).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layout_may_be_highwaters_own() {
    let stage = Stage::with_items(50).await;
    let done = stage
        .run(&["dump", TABLE, "--to", TO, "--layout", "highwater", "--json"])
        .await
        .done()
        .json();
    assert_eq!(done["backup"]["item_count"], 50);
    assert_eq!(done["backup"]["consistent"], false);
    assert!(
        stage
            .keys()
            .await
            .iter()
            .any(|key| key.contains("/AWSDynamoDB/"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let stage = Stage::with_items(10).await;
    let (path, file) = path_of(&stage, "orders.json");
    let plan = stage
        .run(&[
            "dump",
            TABLE,
            "-f",
            &file,
            "--to",
            TO,
            "--dry-run",
            "--json",
        ])
        .await
        .done()
        .json();
    assert_eq!(
        (&plan["dry_run"], &plan["restorable"], &plan["consistent"]),
        (&true.into(), &true.into(), &false.into())
    );
    let told = stage
        .run(&[
            "dump",
            TABLE,
            "-f",
            &file,
            "--encoding",
            "plain",
            "--dry-run",
        ])
        .await
        .done();
    assert!(told.stdout.contains("not be restorable"), "{told:#?}");
    assert!(!path.exists());
    stage.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_refused_with_the_flag_named() {
    let stage = Stage::start().await;
    for (arguments, words) in [
        ("dump orders", "--file"),
        ("dump orders --s3-bucket b0b", "--s3-prefix"),
        ("dump orders --to s3://backups", "prefix"),
        (
            "dump orders --to s3://backups/x --s3-bucket b0b --s3-prefix y",
            "--s3-bucket",
        ),
        (
            "dump orders --to s3://backups/x --encoding typed",
            "--encoding wire",
        ),
        ("dump orders --stdout --string-nums", "--string-nums"),
        ("dump orders --stdout --log-to -", "--log-to"),
        ("dump orders --stdout --layout highwater", "--layout"),
        ("dump orders --stdout --parallel 0", "--parallel"),
        ("dump orders --stdout --parallel 1001", "--parallel"),
        ("dump orders --stdout --read-capacity=-1", "read_capacity"),
        (
            "dump orders --to s3://backups/x --part-size 999",
            "--part-size",
        ),
        ("info", "--s3-bucket"),
        ("info 01768385930622-efd1a093", "--from"),
        (
            "delete s3://backups/x --s3-bucket b0b --s3-prefix y",
            "--s3-bucket",
        ),
    ] {
        let words_of = arguments.split(' ').collect::<Vec<_>>();
        let told = stage.run(&words_of).await;
        assert_eq!(told.code, Some(2), "{arguments}: {told:#?}");
        assert!(told.stderr.contains(words), "{arguments}: {told:#?}");
    }
    assert_eq!(stage.keys().await, [""; 0]);
}

/// A pipe that nobody reads does not keep a signal waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_heard_while_standard_output_is_full() {
    let stage = Stage::start().await;
    stage
        .fill(TABLE, &Generator::small(7, KeyShape::STRING), 3000)
        .await;
    let mut command = stage.command(&["dump", TABLE, "--stdout"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    signal(&child, "INT").await;
    let mut child = child;
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert_eq!(status.expect("it ends").unwrap().code(), Some(130));
}
