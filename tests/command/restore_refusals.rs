//! What a restore refuses: the right exit code, the culprit's name, a way out, and nothing made or written.

use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;

use super::denying_proxy::DenyingProxy;
use super::read_back::{id, table_items};
use super::restores::backed_up;
use super::restoring::{
    TARGET, WRITES, file, note_operations, noted_operations, restore, restore_id, restore_lines,
};
use super::stage::{CONTROL, Stage, TABLE, TO, finish, signal, told, until};
use super::told::Told;

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
async fn refused(stage: &Stage, arguments: &[&str], code: i32, words: &[&str], hint: &str) {
    let before = (
        stage.tables().await,
        stage.control_rows().await,
        stage.keys().await,
    );
    let told = stage.run(arguments).await.failed(code, words);
    if !hint.is_empty() {
        told.hinted(hint);
    }
    let after = (
        stage.tables().await,
        stage.control_rows().await,
        stage.keys().await,
    );
    assert_eq!(after, before, "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_as_asked_is_refused_before_anything_is_made() {
    let stage = Stage::with_items(20).await;
    let backup = backed_up(&stage, TO).await;
    let backup = backup.as_str();
    let other = KeyShape {
        partition: highwater_domain::key::ScalarType::N,
        sort: None,
    };
    NewTable::new("other-key", other)
        .create(&stage.direct)
        .await
        .unwrap();
    let lines = file(&stage, "lines.json", b"{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n");
    let lines = lines.to_str().unwrap();
    note_operations(&stage.dynamodb_proxy);
    note_operations(&stage.s3_proxy);

    let from = ["restore", backup, "--from", TO, "--to"];
    let asked = |more: &[&'static str]| [&from[..], more].concat();
    refused(
        &stage,
        &asked(&[TABLE]),
        1,
        &["orders", "already exists"],
        "--into-existing",
    )
    .await;
    refused(
        &stage,
        &asked(&["absent", "--into-existing"]),
        2,
        &["absent"],
        "",
    )
    .await;
    refused(
        &stage,
        &asked(&["other-key", "--into-existing"]),
        2,
        &["other-key", "pk", "N", "S"],
        "",
    )
    .await;
    refused(
        &stage,
        &asked(&[TARGET, "--key", "id:S"]),
        2,
        &["id", "pk"],
        "",
    )
    .await;
    refused(
        &stage,
        &asked(&[TARGET, "--filter", "customer=1"]),
        2,
        &["customer", "pk"],
        "",
    )
    .await;
    refused(
        &stage,
        &asked(&[TARGET, "--write-percent", "50"]),
        2,
        &["write_percent"],
        "",
    )
    .await;
    refused(
        &stage,
        &["load", "absent", "--file", lines],
        2,
        &["absent"],
        "",
    )
    .await;
    refused(
        &stage,
        &["restore", lines, "--to", TARGET],
        2,
        &["--key"],
        "",
    )
    .await;
    for key in ["pk", "pk:X", "pk:S,", "pk:S,pk:S", ":S", "a:S,b:S,c:S"] {
        refused(
            &stage,
            &["restore", lines, "--to", TARGET, "--key", key],
            2,
            &[key, "id:S"],
            "",
        )
        .await;
    }
    let unknown = id(77);
    let unknown = unknown.as_str();
    refused(
        &stage,
        &["restore", unknown, "--from", TO, "--to", TARGET],
        1,
        &[unknown, "s3://backups/daily"],
        "highwater list",
    )
    .await;
    refused(
        &stage,
        &["restore", "s3://backups/nothing", "--to", TARGET],
        1,
        &["s3://backups/nothing"],
        "",
    )
    .await;
    refused(
        &stage,
        &["restore", "s3://no-such-bucket/x", "--to", TARGET],
        1,
        &["no-such-bucket"],
        "create the bucket",
    )
    .await;
    refused(
        &stage,
        &["restore", "/no/such/file.json", "--to", TARGET],
        1,
        &["/no/such/file.json"],
        "",
    )
    .await;
    let none = restore_id(9);
    refused(
        &stage,
        &["restore", "--resume", none.as_str()],
        1,
        &["there is no restore", none.as_str()],
        "--control",
    )
    .await;

    let operations = noted_operations(&stage.dynamodb_proxy);
    let written: Vec<_> = operations
        .iter()
        .filter(|it| WRITES.contains(&it.as_str()))
        .collect();
    assert!(written.is_empty(), "{operations:?}");
    assert!(!noted_operations(&stage.s3_proxy).contains("PutObject"));
}

/// A backup that was killed, and one that failed.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_backup_is_refused_unless_asked_for() {
    let stage = Stage::with_items(1500).await;
    let slow = Fault::Delay(40);
    stage
        .dynamodb_proxy
        .inject(Rule::rate(slow, 1.0).on("Scan"));
    for (number, name, status) in [(1, "KILL", "running"), (2, "TERM", "failed")] {
        let id = id(number);
        let begin = [
            "backup",
            TABLE,
            "--to",
            TO,
            "--id",
            id.as_str(),
            "--segments",
            "12",
            "--concurrency",
            "2",
            "--part-size",
            "4000",
        ];
        let child = stage.spawn(&begin);
        let data = format!("daily/orders/AWSDynamoDB/{id}/data/");
        until("there are parts", async || {
            let keys = super::stage::keys_below(stage.bucket().as_ref(), &data).await;
            (keys.len() >= 4).then_some(())
        })
        .await;
        signal(&child, name).await;
        told(child).await;
        let begin = restore(id.as_str(), &[]);
        refused(
            &stage,
            &begin,
            1,
            &[id.as_str(), status, "not completed"],
            "--allow-incomplete",
        )
        .await;
        let result =
            super::restoring::done(&stage, &[&begin[..], &["--allow-incomplete"]].concat()).await;
        let schema = KeyShape::STRING.schema();
        let there = table_items(&stage, TARGET, &schema).await;
        assert_eq!(result["totals"]["written"], there.len(), "{result}");
        assert!(!there.is_empty() && there.len() < 1500, "{result}");
        let source = table_items(&stage, TABLE, &schema).await;
        assert!(
            there
                .iter()
                .all(|(key, item)| source.get(key) == Some(item))
        );
        stage
            .direct
            .delete_table()
            .table_name(TARGET)
            .send()
            .await
            .unwrap();
    }
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

/// A restore by somebody to whom these operations are forbidden.
async fn denied(stage: &Stage, denied: &'static [&'static str], arguments: &[&str]) -> Told {
    let dynamodb = DenyingProxy::start(stage.dynamodb.endpoint_url(), denied).await;
    let s3 = DenyingProxy::start(stage.s3.endpoint_url(), denied).await;
    let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
    command
        .args(arguments)
        .args(["--region", "eu-north-1"])
        .args(["--endpoint-url", dynamodb.endpoint_url()])
        .args(["--s3-endpoint-url", s3.endpoint_url()]);
    finish(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission_the_operation_and_its_object_are_named() {
    let stage = Stage::with_items(20).await;
    let backup = backed_up(&stage, TO).await;
    let begin = restore(&backup, &[]);
    let tables = stage.tables().await;

    let told = denied(&stage, &["GET", "HEAD"], &begin).await;
    told.failed(1, &["s3://backups/daily", "AccessDenied"])
        .hinted("aws sts get-caller-identity");
    let told = denied(&stage, &["DescribeTable"], &begin).await;
    told.failed(1, &["DescribeTable", TARGET, "AccessDeniedException"])
        .hinted("aws sts get-caller-identity");
    let rows = stage.control_rows().await;
    // The control table is there; the target is not.
    let told = denied(
        &stage,
        &["CreateTable"],
        &[&begin[..], &["--control", "local"]].concat(),
    )
    .await;
    told.failed(1, &["CreateTable", TARGET, "AccessDeniedException"])
        .hinted("aws sts get-caller-identity");
    assert_eq!(stage.tables().await, tables);
    assert!(
        stage.control_rows().await >= rows,
        "what was begun is known"
    );

    let id = restore_id(1);
    let begin = [&begin[..], &["--id", id.as_str()]].concat();
    let told = denied(&stage, &["BatchWriteItem"], &begin).await;
    let told = told.failed(
        1,
        &[
            "BatchWriteItem",
            TARGET,
            "AccessDeniedException",
            id.as_str(),
        ],
    );
    told.hinted(&format!("highwater restore --resume {id}"));
    stage
        .run(&["restore", "--resume", id.as_str()])
        .await
        .done();
    assert_eq!(
        table_items(&stage, TARGET, &KeyShape::STRING.schema())
            .await
            .len(),
        20
    );
    let told = denied(
        &stage,
        &["PutItem"],
        &restore(&backup, &["--into-existing", "--control", "local"]),
    )
    .await;
    told.failed(1, &["PutItem", TARGET, "AccessDeniedException"])
        .hinted("aws sts get-caller-identity");
}

/// Items are not counted as kept where they could not be.
#[tokio::test(flavor = "multi_thread")]
async fn rejects_that_cannot_be_kept_end_the_restore() {
    let stage = Stage::with_items(0).await;
    let text = b"{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n{\"Item\":{\"pk\":{\"N\":\"1\"}}}\n{\"Item\":{\"pk\":{\"S\":\"b\"}}}\n";
    let lines = file(&stage, "lines.json", text);
    for (number, place, words) in [
        (1, "file:///dev/null/x", "/dev/null/x"),
        (2, "s3://no-such-bucket/x", "no-such-bucket"),
    ] {
        let id = restore_id(number);
        let target = format!("target-{number}");
        let begin = [
            "restore",
            lines.to_str().unwrap(),
            "--to",
            &target,
            "--key",
            "pk:S",
            "--rejects",
            place,
            "--id",
            id.as_str(),
        ];
        let told = stage.run(&begin).await.failed(1, &[words, id.as_str()]);
        told.hinted(&format!("highwater restore --resume {id}"));
        let record = super::restoring::record(&stage, CONTROL, &id)
            .await
            .unwrap();
        assert_eq!(
            (record.status.as_str(), record.totals.rejected),
            ("failed", 0)
        );
    }
    // Good lines alone need no such place.
    let good = file(&stage, "good.json", b"{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n");
    stage
        .run(&restore_lines(
            &good,
            "pk:S",
            &["--rejects", "file:///dev/null/x"],
        ))
        .await
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_dropped_and_made_again_is_noticed() {
    let stage = Stage::with_items(600).await;
    let backup = backed_up(&stage, TO).await;
    let slow = Fault::Delay(60);
    stage
        .dynamodb_proxy
        .inject(Rule::rate(slow, 1.0).on("BatchWriteItem"));
    let id = restore_id(1);
    let child = stage.spawn(&restore(&backup, &["--id", id.as_str()]));
    until("it writes", async || {
        (stage.dynamodb_proxy.count(slow) >= 6).then_some(())
    })
    .await;
    signal(&child, "TERM").await;
    told(child).await.failed(143, &[]);
    stage
        .direct
        .delete_table()
        .table_name(TARGET)
        .send()
        .await
        .unwrap();
    stage
        .fill(TARGET, &Generator::small(8, KeyShape::STRING), 3)
        .await;
    let told = stage.run(&["restore", "--resume", id.as_str()]).await;
    told.failed(1, &[TARGET, id.as_str()]);
    assert_eq!(
        table_items(&stage, TARGET, &KeyShape::STRING.schema())
            .await
            .len(),
        3
    );
}
