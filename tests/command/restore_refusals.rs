//! What a restore refuses: the right exit code, the culprit's name, a way out, and nothing made or written.

use highwater_domain::key::ScalarType;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::tables::NewTable;

use super::restores::backed_up;
use super::restoring::{
    TARGET, WRITES, file, note_operations, noted_operations, restore, restore_id,
};
use super::stage::{CONTROL, Stage, TABLE, TO};

/// Lines that make no sense, blanks between their words, and what the error must name.
const NONSENSE: [(&str, &[&str]); 27] = [
    ("restore s3://backups/x", &["--to"]),
    ("restore --to new", &["BACKUP"]),
    (
        "restore s3://backups/x --to new --resume 01768385930622-efd1a093",
        &["--resume"],
    ),
    (
        "restore --resume 01768385930622-efd1a093 --id 01768385930622-efd1a093",
        &["--resume", "--id"],
    ),
    ("restore --resume today", &["today"]),
    (
        "restore --resume 01768385930622-efd1a093 --into-existing",
        &["--into-existing", "--resume"],
    ),
    (
        "restore --resume 01768385930622-efd1a093 --max-items 5",
        &["--max-items", "--resume"],
    ),
    (
        "restore --resume 01768385930622-efd1a093 --to other",
        &["--to", "--resume"],
    ),
    (
        "restore --resume 01768385930622-efd1a093 --key pk:S",
        &["--key", "--resume"],
    ),
    (
        "restore 01768385930622-efd1a093 --to new",
        &["01768385930622-efd1a093", "--from"],
    ),
    (
        "restore s3://backups/x --to new --allow-overwrite",
        &["--allow-overwrite", "--into-existing"],
    ),
    ("restore s3://backups/x --to new$", &["new$"]),
    ("restore s3:// --to new", &["s3://"]),
    ("restore file://relative --to new", &["file://relative"]),
    (
        "restore s3://backups/x --to new --filter nonsense",
        &["nonsense", "ATTRIBUTE=VALUE"],
    ),
    ("restore s3://backups/x --to new --filter =a", &["=a"]),
    (
        "restore s3://backups/x --to new --filter a=1 --filter a=2",
        &["filter", "twice"],
    ),
    (
        "restore s3://backups/x --to new --max-items many",
        &["many"],
    ),
    (
        "restore s3://backups/x --to new --concurrency 0",
        &["--concurrency", "0"],
    ),
    (
        "restore s3://backups/x --to new --write-capacity=-1",
        &["write_capacity"],
    ),
    (
        "restore s3://backups/x --to new --write-capacity NaN",
        &["write_capacity"],
    ),
    (
        "restore s3://backups/x --to new --write-percent 0",
        &["write_percent"],
    ),
    (
        "restore s3://backups/x --to new --write-percent 5 -w 5",
        &["--write-percent"],
    ),
    (
        "restore s3://backups/x --to new --rejects here",
        &["here", "s3://"],
    ),
    (
        "restore s3://backups/x --to new --engine fast",
        &["fast", "import-table"],
    ),
    ("load", &["<TABLE>"]),
    ("load new --file a --stdin", &["--stdin"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_of_restore_exits_with_2_and_asks_nobody() {
    let stage = Stage::with_items(1).await;
    let mut wrong = Vec::new();
    for (line, words) in NONSENSE {
        let arguments: Vec<&str> = line.split(' ').collect();
        let told = stage.run(&arguments).await;
        let named = words.iter().all(|word| told.stderr.contains(word));
        let right =
            told.code == Some(2) && told.stdout.is_empty() && told.stderr.starts_with("error: ");
        if !(named && right) {
            wrong.push(format!("{line}: {words:?}: {told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stage.requests(), 0);
    stage.assert_untouched().await;
}

/// Runs what must be refused: with this code, these words, a hint that has these; and nothing is changed by it.
pub async fn refused(stage: &Stage, arguments: &[&str], code: i32, words: &[&str], hint: &str) {
    let now = async || {
        (
            stage.tables().await,
            stage.control_rows().await,
            stage.keys().await,
        )
    };
    let before = now().await;
    let told = stage.run(arguments).await.failed(code, words);
    if !hint.is_empty() {
        told.hinted(hint);
    }
    assert_eq!(now().await, before, "{arguments:?}");
}

/// A request that cannot be met: the line, the exit code, what the error names, what the hint names. `BACKUP` is a
/// backup with its place, `LINES` a file.
type Impossible = (&'static str, i32, &'static [&'static str], &'static str);

const IMPOSSIBLE: [Impossible; 20] = [
    (
        "restore BACKUP --to orders",
        1,
        &["orders", "already exists"],
        "--into-existing",
    ),
    (
        "restore BACKUP --to absent --into-existing",
        1,
        &["absent"],
        "list-tables",
    ),
    (
        "restore BACKUP --to other-key --into-existing",
        2,
        &["other-key", "pk", "N", "S"],
        "",
    ),
    ("restore BACKUP --to new --key id:S", 2, &["id", "pk"], ""),
    (
        "restore BACKUP --to new --filter customer=1",
        2,
        &["customer", "pk"],
        "",
    ),
    (
        "restore BACKUP --to new --write-percent 50",
        2,
        &["write_percent"],
        "",
    ),
    ("load absent --file LINES", 1, &["absent"], "list-tables"),
    ("restore LINES --to new", 2, &["--key"], ""),
    ("restore LINES --to new --key pk", 2, &["pk", "id:S"], ""),
    (
        "restore LINES --to new --key pk:X",
        2,
        &["pk:X", "id:S"],
        "",
    ),
    (
        "restore LINES --to new --key pk:S,",
        2,
        &["pk:S,", "id:S"],
        "",
    ),
    (
        "restore LINES --to new --key pk:S,pk:S",
        2,
        &["pk:S,pk:S", "same"],
        "",
    ),
    ("restore LINES --to new --key :S", 2, &[":S", "id:S"], ""),
    (
        "restore LINES --to new --key a:S,b:S,c:S",
        2,
        &["a:S,b:S,c:S", "id:S"],
        "",
    ),
    (
        "restore 01768385930622-0000004d --from s3://backups/daily --to new",
        1,
        &["01768385930622-0000004d", "s3://backups/daily"],
        "highwater list",
    ),
    (
        "restore s3://backups/nothing --to new",
        1,
        &["s3://backups/nothing"],
        "",
    ),
    (
        "restore s3://no-such-bucket/x --to new",
        1,
        &["no-such-bucket"],
        "create the bucket",
    ),
    (
        "restore /no/such/file.json --to new",
        1,
        &["/no/such/file.json"],
        "",
    ),
    (
        "restore /no/such/file.json --to new --dry-run",
        1,
        &["/no/such/file.json"],
        "",
    ),
    (
        "restore --resume 01768385999000-00000009",
        1,
        &["there is no restore", "01768385999000-00000009"],
        "--control",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_as_asked_is_refused_before_anything_is_made() {
    let stage = Stage::with_items(20).await;
    let backup = backed_up(&stage, TO).await;
    let other = KeyShape {
        partition: ScalarType::N,
        sort: None,
    };
    let table = NewTable::new("other-key", other);
    table.create(&stage.direct).await.unwrap();
    let lines = file(&stage, "lines.json", b"{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n");
    note_operations(&stage.dynamodb_proxy);
    note_operations(&stage.s3_proxy);
    for (line, code, words, hint) in IMPOSSIBLE {
        let line = line.replace("BACKUP", &format!("{backup} --from {TO}"));
        let line = line.replace("LINES", lines.to_str().unwrap());
        let arguments: Vec<&str> = line.split(' ').collect();
        refused(&stage, &arguments, code, words, hint).await;
    }

    let operations = noted_operations(&stage.dynamodb_proxy);
    let written: Vec<_> = operations
        .iter()
        .filter(|it| WRITES.contains(&it.as_str()))
        .collect();
    assert!(written.is_empty(), "{operations:?}");
    assert!(!noted_operations(&stage.s3_proxy).contains("PutObject"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_refused_and_the_restore_unharmed() {
    let stage = Stage::with_items(30).await;
    let backup = backed_up(&stage, TO).await;
    let id = restore_id(5);
    let begin = restore(&backup, &["--id", id.as_str()]);
    stage.run(&begin).await.done();
    let begin = [
        "restore",
        &backup,
        "--from",
        TO,
        "--to",
        "elsewhere",
        "--id",
        id.as_str(),
    ];
    refused(
        &stage,
        &begin,
        1,
        &[id.as_str(), "already exists"],
        &format!("--resume {id}"),
    )
    .await;
    assert_eq!(stage.tables().await, [CONTROL, TABLE, TARGET]);
    let told = stage
        .run(&["restore", "--resume", id.as_str()])
        .await
        .done();
    assert!(told.stdout.contains("is completed"), "{told:#?}");
}

/// What the help shows can be typed: no example is wrong usage.
#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_help_is_understood() {
    let stage = Stage::with_items(1).await;
    let mut examples = 0;
    for command in ["restore", "load"] {
        let help = stage.run(&[command, "--help"]).await.done().stdout;
        let lines = help
            .lines()
            .filter(|line| line.starts_with("  ") && line.contains("highwater "));
        for line in lines {
            let (_, example) = line.split_once("highwater ").unwrap();
            let (example, _) = example.split_once('(').unwrap_or((example, ""));
            let words: Vec<&str> = example.split_whitespace().collect();
            let told = stage.run(&words).await;
            assert_ne!(told.code, Some(2), "{line}: {told:#?}");
            examples += 1;
        }
        let widest = help.lines().map(str::len).max();
        assert!(
            widest <= Some(100),
            "{command} --help has a line of {widest:?}"
        );
    }
    assert!(examples >= 9, "{examples} examples");
}
