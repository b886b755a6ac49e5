//! `highwater verify` of good backups of every kind, by themselves and against a table.

use highwater_testkit::faults::{Fault, Rule};
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::diff_troubles::incremental_export;
use super::restore_lines::gzip;
use super::restores::backed_up;
use super::restoring::{file, run_with_input};
use super::stage::{BUCKET, Stage, TABLE, TO, signal, told, until};

const ITEMS: u64 = 400;
const FILMS: u64 = 3201;

/// A verification that must find the backup good; gives its document.
async fn good(stage: &Stage, arguments: &[&str]) -> Value {
    let arguments = [&["verify"], arguments, &["--json"]].concat();
    let document = stage.run(&arguments).await.done().json();
    assert_eq!(document["good"], true, "{document}");
    let report = &document["report"];
    assert_eq!(
        report["totals"]["files"], report["listed_files"],
        "{report}"
    );
    let found = ["bad", "bad_item_list", "mismatches"].map(|list| report[list].clone());
    assert_eq!(found, [json!([]), json!([]), json!([])]);
    document
}

/// What the real dyndump wrote.
pub fn copy_films(stage: &Stage, folder: &str) {
    for name in [
        "movies-meta.json",
        &film_part(1),
        &film_part(2),
        &film_part(3),
    ] {
        let from = checkout::path(&format!("tests/fixtures/dyndump/{name}"));
        file(
            stage,
            &format!("{folder}/{name}"),
            &std::fs::read(from).unwrap(),
        );
    }
}

pub fn film_part(number: u32) -> String {
    format!("movies-part-{number:09}.json.gz")
}

#[tokio::test(flavor = "multi_thread")]
async fn good_backups_of_every_kind_are_good() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let document = good(&stage, &[&id, "--from", TO]).await;
    assert_eq!(document["kind"], "highwater");
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["unchecked"], json!([]), "{document}");
    let members: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(members, ["backup", "good", "kind", "report", "seconds"]);
    let report: Vec<&String> = document["report"].as_object().unwrap().keys().collect();
    let known = [
        "bad",
        "bad_files",
        "bad_item_list",
        "bad_items",
        "listed_files",
        "mismatches",
        "totals",
        "unchecked",
    ];
    assert_eq!(report, known);

    // Without what is Highwater's own it is an export as DynamoDB makes it.
    let export = format!("s3/{BUCKET}/daily/{TABLE}/AWSDynamoDB/{id}");
    for own in ["backup.json", "table.json"] {
        std::fs::remove_file(stage.folder.path().join(&export).join(own)).unwrap();
    }
    let url = format!("{TO}/{TABLE}/AWSDynamoDB/{id}");
    let document = good(&stage, &[&url, "--key", "pk:S"]).await;
    assert_eq!(document["kind"], "full-export");
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["bad_items"], 0);
    let unknown_key = good(&stage, &[&url]).await;
    let unchecked = unknown_key["report"]["unchecked"].to_string();
    assert!(
        unchecked.contains("does not name the table's key"),
        "{unchecked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn good_dumps_changes_and_lines_are_good() {
    let stage = Stage::with_items(ITEMS).await;
    copy_films(&stage, &format!("s3/{BUCKET}/old"));
    let document = good(&stage, &["s3://backups/old/movies", "--key", "pk:S,n:N"]).await;
    assert_eq!(document["kind"], "dyndump");
    assert_eq!(document["report"]["totals"]["items"], FILMS);
    let unchecked = document["report"]["unchecked"].to_string();
    assert!(unchecked.contains("no hashes"), "{unchecked}");

    let dump = [
        "dump",
        TABLE,
        "--to",
        "s3://backups/dumps/orders",
        "--part-size",
        "9000",
    ];
    stage.run(&dump).await.done();
    let document = good(&stage, &["s3://backups/dumps/orders", "--key", "pk:S"]).await;
    assert_eq!(document["report"]["totals"]["items"], ITEMS);
    assert_eq!(document["report"]["unchecked"], json!([]), "{document}");

    let export = incremental_export(&stage);
    let document = good(&stage, &[export.to_str().unwrap(), "--key", "pk:S"]).await;
    assert_eq!(document["kind"], "incremental-export");
    let totals = &document["report"]["totals"];
    assert_eq!(
        (&totals["items"], &totals["deletes"]),
        (&json!(2), &json!(1))
    );

    let lines = gzip(b"\n{\"pk\":{\"S\":\"x\"}}\n\n{\"Item\":{\"pk\":{\"S\":\"y\"}}}\n");
    let path = file(&stage, "lines.gz", &lines);
    let document = good(&stage, &[path.to_str().unwrap(), "--key", "pk:S"]).await;
    assert_eq!(document["report"]["totals"]["items"], 2);
    let told = run_with_input(&stage, &["verify", "-"], &lines)
        .await
        .done();
    assert!(
        told.stdout.ends_with("verified: it is what it says\n"),
        "{told:#?}"
    );
    assert!(
        told.stdout
            .contains("not checked: lines have neither hash nor count"),
        "{told:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_held_against_its_table() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let verify = ["verify", &id, "--from", TO, "--table", TABLE];
    let told = stage.run(&verify).await.done();
    assert!(
        told.stdout.contains("\nequal: both have the same items\n"),
        "{told:#?}"
    );
    let late = json!({"pk": {"S": "late"}}).to_string().into_bytes();
    stage.dynamodb.import(TABLE, vec![late]).await.unwrap();
    let told = stage.run(&[&verify[..], &["--json"]].concat()).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    let document = told.json();
    let expected =
        json!([{"key": {"pk": {"S": "late"}}, "kind": "only-in-b", "in_a": 0, "in_b": 1}]);
    assert_eq!(document["differences"], expected);
    assert_eq!(document["counts"]["only_in_b"], 1);
    // Whether the backup is good is another matter.
    good(&stage, &[&id, "--from", TO]).await;
    stage
        .run(&["verify", &id, "--from", TO, "--table", "missing"])
        .await
        .failed(1, &["missing"])
        .hinted("list-tables");
    let skip = ["verify", &id, "--from", TO, "--skip-checks"];
    stage
        .run(&skip)
        .await
        .failed(2, &["--skip-checks", "--table"]);
    let other = ["verify", &id, "--from", TO, "--key", "id:N"];
    stage.run(&other).await.failed(2, &["id:N", "pk:S"]);
    stage
        .run(&["verify", "s3://backups/nothing"])
        .await
        .failed(1, &["s3://backups/nothing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_change_nothing_and_a_signal_ends_it() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let faults = [
        Fault::Throttle,
        Fault::ServerError,
        Fault::DropRequest,
        Fault::TruncateAnswer,
    ];
    for fault in faults {
        stage.s3_proxy.inject(Rule::rate(fault, 0.1));
    }
    for _ in 0..3 {
        let document = good(&stage, &[&id, "--from", TO]).await;
        assert_eq!(document["report"]["totals"]["items"], ITEMS);
    }
    let struck: u64 = faults
        .iter()
        .map(|fault| stage.s3_proxy.count(*fault))
        .sum();
    assert!(struck > 5, "{struck}");

    stage.s3_proxy.clear();
    let held = Fault::Delay(3_600_000);
    let data = format!("/backups/daily/{TABLE}/AWSDynamoDB/{id}/data/");
    stage
        .s3_proxy
        .inject(Rule::nth(held, 2).on("GetObject").under(&data));
    let child = stage.spawn(&["verify", &id, "--from", TO]);
    until("a part is not answered", async || {
        (stage.s3_proxy.count(held) > 0).then_some(())
    })
    .await;
    signal(&child, "INT").await;
    told(child).await.failed(130, &["stopped by SIGINT"]);
}
