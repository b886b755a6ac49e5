//! What stands in a restore's way: an unfinished backup, no permission, no place for rejects, another table.

use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};

use super::denying_proxy::DenyingProxy;
use super::read_back::{id, table_items};
use super::restore_refusals::refused;
use super::restores::backed_up;
use super::restoring::{TARGET, done, file, record, restore, restore_id, restore_lines};
use super::stage::{CONTROL, Stage, TABLE, TO, finish, keys_below, signal, told, until};
use super::told::Told;

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
            let keys = keys_below(stage.bucket().as_ref(), &data).await;
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
        let result = done(&stage, &[&begin[..], &["--allow-incomplete"]].concat()).await;
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
        let failed = record(&stage, CONTROL, &id).await.unwrap();
        assert_eq!(
            (failed.status.as_str(), failed.totals.rejected),
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
