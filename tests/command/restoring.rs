//! A restore by the command: how it is asked for, what it has told, what it left in the table.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use highwater_domain::ids::UnixMillis;
use highwater_domain::key::KeySchema;
use highwater_domain::restore::{RestoreId, RestoreRecord};
use highwater_domain::restore_control::RestoreControl as _;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::faults::{Fault, Rule};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::read_back::{assert_same, table_items};
use super::stage::{Stage, TABLE, TO, told};
use super::told::Told;

/// The table that most tests restore into.
pub const TARGET: &str = "orders-restored";

/// Every operation of DynamoDB that changes something.
pub const WRITES: [&str; 12] = [
    "BatchWriteItem",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "TransactWriteItems",
    "CreateTable",
    "UpdateTable",
    "DeleteTable",
    "UpdateTimeToLive",
    "UpdateContinuousBackups",
    "TagResource",
    "UntagResource",
];

/// The `number`th restore of a test.
pub fn restore_id(number: u32) -> RestoreId {
    let id = highwater_domain::ids::SnapshotId::new(UnixMillis(1_768_385_999_000), number);
    id.as_str().parse().unwrap()
}

/// A restore's record, `None` also if there is no control table.
pub async fn record(stage: &Stage, control: &str, id: &RestoreId) -> Option<RestoreRecord> {
    if !stage.tables().await.iter().any(|table| table == control) {
        return None;
    }
    let record = stage.control(control).restore(id).await.unwrap();
    record.map(|record| record.value)
}

/// How many of a restore's files are loaded whole, and how many items of all files are committed as read.
pub async fn loaded(stage: &Stage, control: &str, id: &RestoreId) -> (usize, u64) {
    let files = stage.control(control).files(id, None, 1000).await.unwrap();
    let done = files.iter().filter(|(_, checkpoint)| checkpoint.done);
    let read = files.iter().map(|(_, checkpoint)| checkpoint.totals.read);
    (done.count(), read.sum())
}

/// The result of a restore that went well: completed, and every item accounted for.
#[track_caller]
pub fn completed(told: &Told) -> Value {
    let result = told.json();
    assert_eq!(result["status"], "completed", "{told:#?}");
    assert_accounted_for(&result);
    result
}

/// read = written + skipped + rejected, by our own sums and by the command's.
#[track_caller]
pub fn assert_accounted_for(result: &Value) {
    let number = |name: &str| result["totals"][name].as_u64().unwrap();
    let skipped = number("existing") + number("filtered") + number("superseded");
    assert_eq!(result["skipped"], skipped, "{result}");
    assert_eq!(
        number("read"),
        number("written") + skipped + number("rejected"),
        "{result}"
    );
    assert_eq!(result["balanced"], true, "{result}");
}

/// A number of a result's totals.
#[track_caller]
pub fn total(result: &Value, name: &str) -> u64 {
    result["totals"][name].as_u64().unwrap()
}

/// [`TARGET`] holds what [`TABLE`] does, item for item.
pub async fn assert_restored(stage: &Stage, schema: &KeySchema) {
    assert_same(
        &table_items(stage, TARGET, schema).await,
        &table_items(stage, TABLE, schema).await,
    );
}

/// `restore ID --from TO --to TARGET`, and more.
pub fn restore<'a>(backup: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let begin = ["restore", backup, "--from", TO, "--to", TARGET];
    [&begin[..], more].concat()
}

/// `restore FILE --to TARGET --key KEY`, and more.
pub fn restore_lines<'a>(file: &'a Path, key: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let file = file.to_str().unwrap();
    let begin = ["restore", file, "--to", TARGET, "--key", key];
    [&begin[..], more].concat()
}

/// Runs a restore or a load that must go well, and gives its result.
pub async fn done(stage: &Stage, arguments: &[&str]) -> Value {
    completed(&stage.run(&[arguments, &["--json"]].concat()).await.done())
}

/// Writes a file into the stage's folder.
pub fn file(stage: &Stage, name: &str, bytes: &[u8]) -> PathBuf {
    let path = stage.folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Runs the command with this on its standard input.
pub async fn run_with_input(stage: &Stage, arguments: &[&str], input: &[u8]) -> Told {
    let mut command = stage.command(arguments);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside the waiting, because a pipe holds little. A command that refuses at once closes it early.
    let writing = tokio::spawn(async move { stdin.write_all(&input).await.ok() });
    let told = told(child).await;
    writing.await.unwrap();
    told
}

/// Notes the operations that come through a proxy from now on.
pub fn note_operations(proxy: &FaultProxy) {
    proxy.inject(Rule::rate(NOTED, 1.0));
}

/// The operations that were noted.
pub fn noted_operations(proxy: &FaultProxy) -> BTreeSet<String> {
    let injected = proxy.injected().into_keys();
    injected
        .filter(|(_, fault)| *fault == NOTED)
        .map(|(operation, _)| operation)
        .collect()
}

/// No fault: the request is passed on at once, and counted by its name.
const NOTED: Fault = Fault::Delay(0);

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}
