//! SIGINT and SIGTERM in the middle of a restore, and checkpoints in a file.

use std::time::{Duration, Instant};

use highwater_domain::restore_control::RestoreControl as _;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape, canonical};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::read_back::{assert_same, table_items};
use super::restores::backed_up;
use super::restoring::{
    TARGET, assert_restored, completed, done, file, loaded, record, restore, restore_id, total,
};
use super::stage::{CONTROL, Stage, TABLE, TO, finish, signal, told, until};
use super::told::Told;

const ITEMS: u64 = 1500;
const BATCH: Fault = Fault::Delay(60);

/// A stage with a backup, where every batch takes a while.
async fn slow_stage() -> (Stage, String) {
    let stage = Stage::with_items(ITEMS).await;
    let backup = backed_up(&stage, TO).await;
    let slowly = Rule::rate(BATCH, 1.0).on("BatchWriteItem");
    stage.dynamodb_proxy.inject(slowly);
    (stage, backup)
}

/// How many items the target has.
async fn items_there(stage: &Stage) -> u64 {
    let items = table_items(stage, TARGET, &KeyShape::STRING.schema()).await;
    items.len() as u64
}

/// Types what a hint says into a shell: the connection and the checkpoints are in it.
async fn follow(stage: &Stage, hint: &str) -> Value {
    let highwater = highwater_tests::binaries::path("highwater");
    let mut command = stage.bare("bash".into());
    command.args(["-c", &format!("{hint} --json")]);
    let folders = [highwater.parent().unwrap().to_owned()].into_iter();
    let path = std::env::var_os("PATH").unwrap();
    let folders = folders.chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    let told = finish(command).await.done();
    assert!(told.stderr.contains("Resuming restore "), "{told:#?}");
    completed(&told)
}

/// What the `hint:` line says to type.
#[track_caller]
fn hint(told: &Told) -> String {
    let mut hints = told
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("hint: "));
    hints
        .next()
        .unwrap_or_else(|| panic!("no hint: {told:#?}"))
        .to_owned()
}

async fn stopped_in_order(name: &str, code: i32) {
    let (stage, backup) = slow_stage().await;
    let id = restore_id(1);
    let begin = restore(&backup, &["--id", id.as_str(), "--concurrency", "2"]);
    let child = stage.spawn(&begin);
    until("some files are loaded", async || {
        let known = record(&stage, CONTROL, &id).await.is_some();
        (known && loaded(&stage, CONTROL, &id).await.0 >= 3).then_some(())
    })
    .await;
    signal(&child, name).await;
    let told = told(child)
        .await
        .failed(code, &[&format!("stopped by SIG{name}"), id.as_str()]);
    let hint = hint(&told);
    assert!(
        hint.starts_with(&format!("highwater restore --resume {id} ")),
        "{hint}"
    );

    let failed = record(&stage, CONTROL, &id).await.unwrap();
    assert_eq!(failed.status.as_str(), "failed");
    assert!(failed.error.is_some(), "{failed:?}");
    let (_, read) = loaded(&stage, CONTROL, &id).await;
    assert!(
        read > 0 && read < ITEMS,
        "the signal came in the middle: {read}"
    );
    assert_eq!(failed.totals.written, read);
    assert_eq!(
        items_there(&stage).await,
        read,
        "what was loaded is committed"
    );

    let sent = stage.dynamodb_proxy.count(BATCH);
    let result = follow(&stage, &hint).await;
    let more = stage.dynamodb_proxy.count(BATCH) - sent;
    assert_eq!(total(&result, "written"), ITEMS);
    assert!(
        more < sent + (ITEMS - read),
        "what was committed is not loaded again: {more}"
    );
    assert_restored(&stage, &KeyShape::STRING.schema()).await;
    let ended = record(&stage, CONTROL, &id).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.error), ("completed", None));
    // Again is no harm.
    let again = done(&stage, &["restore", "--resume", id.as_str()]).await;
    assert_eq!(total(&again, "written"), ITEMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_stops_a_restore_in_order() {
    stopped_in_order("INT", 130).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_a_restore_in_order() {
    stopped_in_order("TERM", 143).await;
}

/// One file, stopped in its middle twice: what is committed is where the next run begins, to the line.
async fn stopped_in_the_middle(operation: &str, target: &str, how: &[&str], requests: u64) {
    let stage = Stage::with_items(0).await;
    let schema = KeyShape::STRING.schema();
    let generator = Generator::small(4, KeyShape::STRING);
    let items: Vec<Vec<u8>> = (0..ITEMS).map(|index| generator.item(index)).collect();
    let lines = file(&stage, "lines.json", &items.join(&b'\n'));
    let slowly = Rule::rate(BATCH, 1.0).on(operation);
    stage.dynamodb_proxy.inject(slowly);
    let id = restore_id(1);
    let begin = [
        "restore",
        lines.to_str().unwrap(),
        "--to",
        target,
        "--id",
        id.as_str(),
    ];
    let begin = [&begin[..], how].concat();
    let resume = ["restore", "--resume", id.as_str()];
    let mut before = 0;
    for arguments in [&begin[..], &resume] {
        let sent = stage.dynamodb_proxy.count(BATCH);
        let child = stage.spawn(arguments);
        until("it writes", async || {
            (stage.dynamodb_proxy.count(BATCH) >= sent + requests).then_some(())
        })
        .await;
        signal(&child, "TERM").await;
        told(child).await.failed(143, &[]);
        let files = stage.control(CONTROL).files(&id, None, 10).await.unwrap();
        let [(0, checkpoint)] = files[..] else {
            panic!("{files:?}")
        };
        let in_the_middle = before + 1..ITEMS;
        assert!(in_the_middle.contains(&checkpoint.lines), "{checkpoint:?}");
        assert_eq!(checkpoint.totals.written, checkpoint.lines);
        let there = table_items(&stage, target, &schema).await;
        assert_eq!(
            there.len() as u64,
            checkpoint.lines,
            "committed is what is there"
        );
        before = checkpoint.lines;
    }
    stage.dynamodb_proxy.clear();
    let result = done(&stage, &resume).await;
    assert_eq!(
        (total(&result, "read"), total(&result, "written")),
        (ITEMS, ITEMS)
    );
    let expected = items
        .iter()
        .map(|item| (schema.key_of(item).unwrap(), canonical(item)));
    assert_same(
        &table_items(&stage, target, &schema).await,
        &expected.collect(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_gone_on_with_in_its_middle() {
    stopped_in_the_middle("BatchWriteItem", TARGET, &["--key", "pk:S"], 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_gone_on_with_in_its_middle_where_items_stay() {
    stopped_in_the_middle("PutItem", TABLE, &["--into-existing"], 200).await;
}

/// The orderly end is held up for an hour; the second signal does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_restore_at_once() {
    let (stage, backup) = slow_stage().await;
    let held_up = Fault::Delay(3_600_000);
    stage.dynamodb_proxy.clear();
    stage
        .dynamodb_proxy
        .inject(Rule::rate(held_up, 1.0).on("BatchWriteItem"));
    let id = restore_id(1);
    let mut child = stage.spawn(&restore(&backup, &["--id", id.as_str()]));
    until("a worker writes", async || {
        (stage.dynamodb_proxy.count(held_up) > 0).then_some(())
    })
    .await;
    signal(&child, "INT").await;
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("stopping: ") {
            break;
        }
    }
    assert_eq!(child.try_wait().unwrap(), None, "it waits for its workers");
    let second = Instant::now();
    signal(&child, "TERM").await;
    let status = child.wait().await.unwrap();
    assert!(
        second.elapsed() < Duration::from_secs(5),
        "{:?}",
        second.elapsed()
    );
    assert_eq!(status.code(), Some(143));
    assert_eq!(
        record(&stage, CONTROL, &id).await.unwrap().status.as_str(),
        "running"
    );
    stage.dynamodb_proxy.clear();
    done(&stage, &["restore", "--resume", id.as_str()]).await;
    assert_restored(&stage, &KeyShape::STRING.schema()).await;
}

/// Checkpoints in a file, through `kill -9` and a signal; no control table is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_resumed_from_a_file_of_checkpoints() {
    let (stage, backup) = slow_stage().await;
    let id = restore_id(1);
    let local = format!(
        "local:{}",
        stage
            .folder
            .path()
            .join("check points/control.db")
            .display()
    );
    // The backup made one.
    stage
        .direct
        .delete_table()
        .table_name(CONTROL)
        .send()
        .await
        .unwrap();
    let more = [
        "--id",
        id.as_str(),
        "--concurrency",
        "2",
        "--control",
        &local,
    ];
    let mut resume = String::new();
    for name in ["KILL", "TERM"] {
        let before = stage.dynamodb_proxy.count(BATCH);
        let child = match name {
            "KILL" => stage.spawn(&restore(&backup, &more)),
            _ => stage.spawn(&["restore", "--resume", id.as_str(), "--control", &local]),
        };
        until("it writes", async || {
            (stage.dynamodb_proxy.count(BATCH) >= before + 12).then_some(())
        })
        .await;
        signal(&child, name).await;
        let told = told(child).await;
        assert_eq!(told.code, (name == "TERM").then_some(143), "{told:#?}");
        if name == "TERM" {
            resume = hint(&told);
        }
    }
    let other = format!("local:{}", stage.folder.path().join("other.db").display());
    let told = stage
        .run(&["restore", "--resume", id.as_str(), "--control", &other])
        .await;
    told.failed(1, &["there is no restore", id.as_str()])
        .hinted("--control");
    // The hint names the file, or it would not work as printed.
    let result = follow(&stage, &resume).await;
    assert_eq!(total(&result, "read"), ITEMS);
    assert_restored(&stage, &KeyShape::STRING.schema()).await;
    let made = stage.tables().await;
    assert!(!made.contains(&CONTROL.to_owned()), "{made:?}");
}
