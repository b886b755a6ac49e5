//! Backup, list, info, delete: each with its result, on S3 and in a folder.

use serde_json::Value;

use super::read_back::{Place, assert_same, id, id_of, table_items};
use super::stage::{CONTROL, Stage, TABLE, TO};
use highwater_testkit::generate::KeyShape;

const ITEMS: u64 = 500;

/// Backup, list, info, delete of one place. `left` tells whether anything is left there.
async fn whole_life(stage: &Stage, to: &str, place: &Place) {
    let backup = [
        "backup",
        TABLE,
        "--to",
        to,
        "--segments",
        "3",
        "--part-size",
        "8KiB",
    ];
    let told = stage.run(&[&backup[..], &["--json"]].concat()).await.done();
    let result = told.json();
    let id = id_of(&result);
    assert_eq!(result["backup"]["status"], "completed");
    assert_eq!(result["backup"]["item_count"], ITEMS);
    assert!(
        result["url"]
            .as_str()
            .unwrap()
            .ends_with(&format!("orders/AWSDynamoDB/{id}/"))
    );
    let schema = KeyShape::STRING.schema();
    let (items, metadata) = place.read(TABLE, &id).await;
    assert_same(&items, &table_items(stage, TABLE, &schema).await);
    assert!(metadata.part_count > 3, "{metadata:?}");

    check_listed(stage, to, id.as_str(), metadata.part_count).await;
    let id = id.as_str();
    check_info(stage, to, id, metadata.part_count).await;
    check_deleted(stage, to, id, place).await;
}

async fn check_listed(stage: &Stage, to: &str, id: &str, parts: u64) {
    let told = stage.run(&["list", to]).await.done();
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{told:#?}");
    assert!(lines[0].starts_with("ID "), "{told:#?}");
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(row[..3], [id, TABLE, "completed"]);
    assert_eq!(row[4], "500");
    assert_eq!(told.stderr, "");

    let listed = stage.run(&["list", to, "--json"]).await.done().json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["snapshot_id"], id);
    assert_eq!(listed[0]["table"], TABLE);
    assert_eq!(listed[0]["metadata"]["part_count"], parts);
    let others = stage
        .run(&["list", to, "--table", "other", "--json"])
        .await
        .done();
    assert_eq!(others.json(), Value::Array(Vec::new()));
}

async fn check_info(stage: &Stage, to: &str, id: &str, parts: u64) {
    let told = stage.run(&["info", id, "--from", to]).await.done();
    for line in [
        "Table Name...........: orders".to_owned(),
        "Status ..............: completed".to_owned(),
        "Backup Type .........: full".to_owned(),
        "Item Count ..........: 500".to_owned(),
        format!("Part Count ..........: {parts}"),
        "Segments ............: 3".to_owned(),
        "Read Consistency ....: strong".to_owned(),
    ] {
        assert!(
            told.stdout.lines().any(|shown| shown == line),
            "{line}: {told:#?}"
        );
    }
    assert_eq!(told.stderr, "");
    let info = stage
        .run(&["info", id, "--from", to, "--table", TABLE, "--json"])
        .await
        .done()
        .json();
    assert_eq!(info["snapshot_id"], id);
    assert_eq!(info["item_count"], ITEMS);
    assert_eq!(info["total_segments"], 3);
}

async fn check_deleted(stage: &Stage, to: &str, id: &str, place: &Place) {
    let snapshot = id.parse().unwrap();
    let before = place.data(TABLE, &snapshot).await;
    let delete = ["delete", id, "--from", to];
    let planned = stage
        .run(&[&delete[..], &["--dry-run", "--json"]].concat())
        .await
        .done()
        .json();
    assert_eq!(planned["dry_run"], true);
    assert_eq!(planned["parts"].as_array().unwrap().len(), before.len());
    assert_eq!(
        place.data(TABLE, &snapshot).await,
        before,
        "a dry run deletes nothing"
    );

    // Nobody can be asked here.
    let told = stage.run(&delete).await.failed(1, &["nothing was deleted"]);
    told.hinted("--force");
    assert_eq!(place.data(TABLE, &snapshot).await, before);

    let deleted = stage
        .run(&[&delete[..], &["--force", "--json"]].concat())
        .await
        .done()
        .json();
    assert_eq!(deleted["deleted"], id);
    assert_eq!(deleted["parts"], before.len());
    assert_eq!(place.metadata(TABLE, &snapshot).await, None);
    assert!(
        stage.record(CONTROL, &snapshot).await.is_none(),
        "its rows are gone"
    );
    let told = stage.run(&["list", to]).await.done();
    assert_eq!(
        told.stdout.lines().count(),
        1,
        "the header alone: {told:#?}"
    );
    let told = stage
        .run(&["info", id, "--from", to])
        .await
        .failed(1, &[id]);
    told.hinted("highwater list");
    stage
        .run(&[&delete[..], &["--force"]].concat())
        .await
        .failed(1, &[id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_lives_and_dies_in_s3() {
    let stage = Stage::with_items(ITEMS).await;
    whole_life(&stage, TO, &Place::bucket(&stage, "daily")).await;
    assert_eq!(stage.keys().await, [""; 0], "nothing stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_lives_and_dies_in_a_folder() {
    let stage = Stage::with_items(ITEMS).await;
    let folder = stage.folder.path().join("backups");
    let to = format!("file://{}", folder.display());
    whole_life(&stage, &to, &Place::folder(&folder)).await;
    assert!(!folder.join(TABLE).exists(), "nothing stays");
}

/// dyndump's DD-18: the summary.
#[tokio::test(flavor = "multi_thread")]
async fn results_go_to_stdout_and_talk_to_stderr() {
    let stage = Stage::with_items(50).await;
    let told = stage.run(&["backup", TABLE, "--to", TO]).await.done();
    assert!(told.stdout.starts_with("Backup 0"), "{told:#?}");
    for words in [
        "50 items",
        "is completed",
        "Avg items/sec: ",
        "Avg capacity/sec: ",
        "Total items read:  50",
    ] {
        assert!(told.stdout.contains(words), "{words}: {told:#?}");
    }
    assert!(
        told.stdout
            .contains("read 50 = written 50 + skipped 0 + rejected 0"),
        "{told:#?}"
    );
    assert!(
        told.stderr.contains("Beginning scan: table=\"orders\" "),
        "{told:#?}"
    );
    assert!(
        told.stderr.contains("created the control table highwater"),
        "{told:#?}"
    );
    assert!(!told.stdout.contains("Beginning scan"), "{told:#?}");

    let told = stage
        .run(&["backup", TABLE, "--to", TO, "--quiet"])
        .await
        .done();
    assert!(told.stdout.starts_with("Backup 0"), "{told:#?}");
    assert_eq!(told.stderr, "");
    let told = stage
        .run(&["backup", TABLE, "--to", TO, "-q", "--json"])
        .await
        .done();
    assert_eq!(told.json()["backup"]["item_count"], 50);
    assert_eq!(told.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_under_json_is_json_on_stderr() {
    let stage = Stage::with_items(1).await;
    let told = stage
        .run(&["backup", "missing", "--to", TO, "--json"])
        .await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));
    let error: Value = serde_json::from_str(&told.stderr).unwrap();
    assert_eq!(error["error"], "TableNotFound");
    assert!(error["message"].as_str().unwrap().contains("missing"));
    assert!(error["hint"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_at_all() {
    let stage = Stage::with_items(100).await;
    let told = stage
        .run(&["backup", TABLE, "--to", TO, "--dry-run"])
        .await
        .done();
    assert!(
        told.stdout.contains("nothing was written (--dry-run)"),
        "{told:#?}"
    );
    let plan = stage
        .run(&[
            "backup",
            TABLE,
            "--to",
            TO,
            "--dry-run",
            "--segments",
            "7",
            "--json",
        ])
        .await
        .done()
        .json();
    assert_eq!(plan["dry_run"], true);
    assert_eq!(plan["plan"]["total_segments"], 7);
    assert_eq!(plan["plan"]["destination"], TO);
    stage.assert_untouched().await;

    let folder = stage.folder.path().join("backups");
    let to = format!("file://{}", folder.display());
    stage
        .run(&["backup", TABLE, "--to", &to, "--dry-run"])
        .await
        .done();
    assert!(!folder.exists(), "not even the folder");
    let control = stage.folder.path().join("control.db");
    let local = format!("local:{}", control.display());
    stage
        .run(&[
            "backup",
            TABLE,
            "--to",
            TO,
            "--dry-run",
            "--control",
            &local,
        ])
        .await
        .done();
    assert!(!control.exists(), "nor the checkpoint file");
    stage.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_makes_an_empty_backup() {
    let stage = Stage::with_items(0).await;
    let name = id(9);
    stage
        .run(&["backup", TABLE, "--to", TO, "--id", name.as_str()])
        .await
        .done();
    let (items, metadata) = Place::bucket(&stage, "daily").read(TABLE, &name).await;
    assert!(items.is_empty());
    assert_eq!((metadata.item_count, metadata.part_count), (0, 0));
}
