//! Restore and load: every item back, into a new table with its settings or into one that exists.

use serde_json::{Value, json};

use super::read_back::{assert_same, id_of, table_items};
use super::stage::{Stage, TABLE, TO};
use highwater_testkit::generate::KeyShape;

const ITEMS: u64 = 500;

/// Backs [`TABLE`] up; gives the backup's id.
pub async fn backed_up(stage: &Stage, to: &str) -> String {
    let backup = [
        "backup",
        TABLE,
        "--to",
        to,
        "--segments",
        "3",
        "--part-size",
        "8KiB",
        "--json",
    ];
    let told = stage.run(&backup).await.done();
    id_of(&told.json()).to_string()
}

#[tokio::test]
async fn a_backup_is_restored_into_a_new_table_item_for_item() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let told = stage
        .run(&[
            "restore",
            &id,
            "--from",
            TO,
            "--to",
            "orders-restored",
            "--json",
        ])
        .await
        .done();
    let result = told.json();
    assert_eq!(result["status"], "completed", "{told:#?}");
    assert_eq!(result["totals"]["read"], ITEMS);
    assert_eq!(result["totals"]["written"], ITEMS);
    assert_eq!(result["balanced"], true);
    let schema = KeyShape::STRING.schema();
    assert_same(
        &table_items(&stage, "orders-restored", &schema).await,
        &table_items(&stage, TABLE, &schema).await,
    );
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_makes_nothing() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let before = (stage.tables().await, stage.control_rows().await);
    let restore = [
        "restore",
        &id,
        "--from",
        TO,
        "--to",
        "orders-restored",
        "--dry-run",
    ];
    let told = stage.run(&restore).await.done();
    for part in ["a new table", "500 items", "nothing was written", "write:"] {
        assert!(told.stdout.contains(part), "{part}: {told:#?}");
    }
    let told = stage
        .run(&[&restore[..], &["--json"]].concat())
        .await
        .done();
    assert_eq!(told.json()["plan"]["source"]["items"], ITEMS);
    assert_eq!((stage.tables().await, stage.control_rows().await), before);
}

#[tokio::test]
async fn dd_11_items_that_are_there_stay_unless_they_may_be_replaced() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let restore = [
        "restore",
        &id,
        "--from",
        TO,
        "--to",
        TABLE,
        "--into-existing",
        "--json",
    ];
    let told = stage.run(&restore).await.done();
    let totals = told.json()["totals"].clone();
    assert_eq!(
        (&totals["written"], &totals["existing"]),
        (&json!(0), &json!(ITEMS)),
        "{told:#?}"
    );

    let told = stage
        .run(&[&restore[..], &["--allow-overwrite"]].concat())
        .await
        .done();
    let totals = told.json()["totals"].clone();
    assert_eq!(
        (&totals["written"], &totals["existing"]),
        (&json!(ITEMS), &json!(0)),
        "{told:#?}"
    );
}

#[tokio::test]
async fn lines_of_standard_input_and_of_a_file_are_loaded() {
    let stage = Stage::with_items(0).await;
    let line = |n: u32| {
        let item = json!({"pk": {"S": format!("k{n}")}, "n": {"N": n.to_string()}});
        format!("{{\"Item\":{item}}}\n")
    };
    let lines = (0..60).map(line).collect::<Vec<_>>().concat();
    let file = stage.folder.path().join("lines.json");
    std::fs::write(&file, &lines).unwrap();
    let told = stage
        .run(&["load", TABLE, "--file", file.to_str().unwrap(), "--json"])
        .await
        .done();
    assert_eq!(told.json()["totals"]["written"], 60, "{told:#?}");

    let mut command = stage.command(&["load", TABLE, "--stdin", "--allow-overwrite", "--json"]);
    command.stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, lines.as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let told = super::stage::told(child).await.done();
    let result: Value = told.json();
    assert_eq!(result["totals"]["written"], 60, "{told:#?}");
}
