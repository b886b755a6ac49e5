//! `highwater load`: dyndump's flags, variables and manners, without its bugs.

use std::path::{Path, PathBuf};

use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use serde_json::{Value, json};

use super::load_variables::beginning;
use super::read_back::{Items, assert_same, table_items};
use super::restore_lines::gzip;
use super::restoring::{done, file, files_below, run_with_input, total};
use super::stage::{BUCKET, Stage, TABLE};

pub const FROM: &str = "s3://backups/dumps/orders";

pub fn line(key: &str) -> String {
    format!("{{\"pk\":{{\"S\":\"{key}\"}},\"n\":{{\"N\":\"1\"}}}}\n")
}

/// Lines of the keys `k0`, `k1`, ….
pub fn lines(count: usize) -> String {
    (0..count).map(|n| line(&format!("k{n}"))).collect()
}

/// A stage with an empty table and a file of so many lines.
pub async fn stage_and_lines(count: usize) -> (Stage, String) {
    let stage = Stage::with_items(0).await;
    let path = file(&stage, "lines.json", lines(count).as_bytes());
    let path = path.to_str().unwrap().to_owned();
    (stage, path)
}

pub async fn items(stage: &Stage, table: &str) -> Items {
    table_items(stage, table, &KeyShape::STRING.schema()).await
}

pub async fn empty_table(stage: &Stage, table: &str) {
    let new = NewTable::new(table, KeyShape::STRING);
    new.create(&stage.direct).await.unwrap();
}

/// A backup in dyndump's layout of these lines, in as many parts as are given.
pub async fn dyndump_layout(stage: &Stage, status: &str, item_count: usize, parts: &[String]) {
    let mut stored = 0;
    for (index, part) in parts.iter().enumerate() {
        let packed = gzip(part.as_bytes());
        stored += packed.len();
        file(
            stage,
            &format!("s3/{BUCKET}/dumps/orders-part-{:09}.json.gz", index + 1),
            &packed,
        );
    }
    let meta = json!({
        "table_name": TABLE, "status": status, "backup_type": "full",
        "backup_start_time": "2016-04-01T12:25:00Z", "backup_end_time": "2016-04-01T12:26:00Z",
        "uncompressed_bytes": parts.iter().map(String::len).sum::<usize>(),
        "compressed_bytes": stored, "item_count": item_count, "part_count": parts.len(),
    });
    let name = format!("s3/{BUCKET}/dumps/orders-meta.json");
    file(stage, &name, meta.to_string().as_bytes());
}

const LOAD: [&str; 6] = [
    "load",
    TABLE,
    "--s3-bucket",
    BUCKET,
    "--s3-prefix",
    "dumps/orders",
];

/// B7: dyndump took failed and running backups as if they were whole, and did not miss a part.
#[tokio::test(flavor = "multi_thread")]
async fn b7_a_backup_that_is_not_whole_is_refused() {
    let stage = Stage::with_items(0).await;
    let parts = [line("a"), line("b"), line("c")];
    for status in ["running", "failed"] {
        dyndump_layout(&stage, status, 3, &parts).await;
        let told = stage.run(&LOAD).await.failed(1, &[status, FROM]);
        told.hinted("--allow-incomplete");
    }
    dyndump_layout(&stage, "completed", 3, &parts).await;
    let second = stage
        .folder
        .path()
        .join(format!("s3/{BUCKET}/dumps/orders-part-000000002.json.gz"));
    std::fs::remove_file(second).unwrap();
    stage
        .run(&LOAD)
        .await
        .failed(1, &["orders-part-000000002.json.gz"]);
    assert!(items(&stage, TABLE).await.is_empty());
    let result = done(&stage, &[&LOAD[..], &["--allow-incomplete"]].concat()).await;
    assert_eq!(total(&result, "written"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_checks_says_what_it_skips() {
    let stage = Stage::with_items(0).await;
    dyndump_layout(&stage, "completed", 4, &[lines(3)]).await;
    stage.run(&LOAD).await.failed(1, &["4", "3"]);
    let told = stage
        .run(&[&LOAD[..], &["--skip-checks", "--allow-overwrite"]].concat())
        .await
        .done();
    assert!(
        told.stdout.contains("Total items written:  3\n"),
        "{told:#?}"
    );
    assert!(beginning(&told).contains("skip-checks=true"), "{told:#?}");
    assert!(
        told.stderr
            .contains("not compared with what the backup says"),
        "{told:#?}"
    );
}

/// B2: dyndump wrote empty lists, maps and binaries as `{}`, and could not load what it had written.
#[tokio::test(flavor = "multi_thread")]
async fn b2_old_empty_values_are_kept_whole_and_the_rest_is_loaded() {
    for more in [&[][..], &["--allow-overwrite"]] {
        let stage = Stage::with_items(0).await;
        let bad = |n: usize| format!("{{\"pk\":{{\"S\":\"bad{n}\"}},\"empty\":{{}}}}\n");
        let parts = [
            format!("{}{}{}", bad(0), lines(40), bad(1)),
            format!("{}{}", line("k40"), bad(2)),
        ];
        dyndump_layout(&stage, "completed", 44, &parts).await;
        let kept = stage.folder.path().join("kept");
        let rejects = format!("file://{}", kept.display());
        let arguments = [&LOAD[..], &["--rejects", &rejects, "--json"], more].concat();
        let told = stage.run(&arguments).await;
        assert_eq!(told.code, Some(1), "{told:#?}");
        let result = told.json();
        let sums = ["read", "written", "existing", "filtered", "rejected"]
            .map(|name| total(&result, name));
        assert_eq!(
            (sums, &result["balanced"]),
            ([44, 41, 0, 0, 3], &json!(true))
        );
        assert!(told.stderr.contains("3 items were not taken"), "{told:#?}");
        assert_eq!(items(&stage, TABLE).await.len(), 41);
        let mut found: Vec<Value> = Vec::new();
        for path in files_below(&kept) {
            let text = std::fs::read_to_string(path).unwrap();
            found.extend(
                text.lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()),
            );
        }
        found.sort_by_key(|reject| reject["item"].to_string());
        assert_eq!(found.len(), 3, "{found:?}");
        for (n, (reject, line)) in found.iter().zip([1, 42, 2]).enumerate() {
            let whole: Value = serde_json::from_str(&bad(n)).unwrap();
            assert_eq!((&reject["item"], &reject["line"]), (&whole, &json!(line)));
            assert!(reject["reason"].as_str().unwrap().len() > 10, "{reject}");
            assert!(
                reject["object"]
                    .as_str()
                    .unwrap()
                    .contains("-part-00000000"),
                "{reject}"
            );
        }
    }
}

/// DD-08: as many items as there are, by as many workers as there are.
#[tokio::test(flavor = "multi_thread")]
async fn dd_08_every_item_is_put_whoever_does_it() {
    let stage = Stage::with_items(0).await;
    let folder = three_files(&stage);
    let result = done(
        &stage,
        &["load", TABLE, "--file", folder.to_str().unwrap(), "-p", "2"],
    )
    .await;
    assert_eq!(total(&result, "written"), 3);
    let there = items(&stage, TABLE).await;
    let keys: Vec<&Value> = there.values().map(|item| &item["pk"]["S"]).collect();
    assert_eq!(keys, ["a", "b", "c"]);
}

pub fn three_files(stage: &Stage) -> PathBuf {
    for key in ["a", "b", "c"] {
        file(stage, &format!("three/{key}.json"), line(key).as_bytes());
    }
    stage.folder.path().join("three")
}

/// DD-09: an error in the middle of the input is the load's error, with its line, and nothing of the file is loaded.
#[tokio::test(flavor = "multi_thread")]
async fn dd_09_an_error_in_the_middle_of_the_file_is_told_with_its_line() {
    let stage = Stage::with_items(0).await;
    let torn = format!(
        "{}{{\"pk\":{{\"S\":\"torn\"}}]\n{}",
        lines(3),
        line("after")
    );
    let input = torn.as_bytes();
    let torn = file(&stage, "torn.json", input);
    for arguments in [
        ["load", TABLE, "--file", torn.to_str().unwrap()],
        [
            "load",
            TABLE,
            "--from",
            &format!("file://{}", torn.display()),
        ],
    ] {
        let told = stage.run(&arguments).await;
        told.failed(1, &["torn.json", "line 4"]);
    }
    run_with_input(&stage, &["load", TABLE, "--stdin"], input)
        .await
        .failed(1, &["line 4"]);
    assert!(items(&stage, TABLE).await.is_empty());
    let missing = stage.folder.path().join("missing.json");
    let told = stage
        .run(&["load", TABLE, "-f", missing.to_str().unwrap()])
        .await;
    told.failed(1, &["missing.json"]);
}

/// DD-11: what is there stays and is counted, unless it may be replaced.
#[tokio::test(flavor = "multi_thread")]
async fn dd_11_what_is_there_stays_unless_it_may_be_replaced() {
    let stage = Stage::with_items(0).await;
    let old = json!({"pk": {"S": "k1"}, "old": {"BOOL": true}});
    stage
        .dynamodb
        .import(TABLE, vec![old.to_string().into_bytes()])
        .await
        .unwrap();
    let path = file(&stage, "lines.json", lines(3).as_bytes());
    let load = ["load", TABLE, "--file", path.to_str().unwrap()];
    let of = |there: &Items| {
        there
            .values()
            .find(|item| item["pk"]["S"] == "k1")
            .unwrap()
            .clone()
    };
    let result = done(&stage, &load).await;
    assert_eq!(
        (total(&result, "written"), total(&result, "existing")),
        (2, 1)
    );
    assert_eq!(of(&items(&stage, TABLE).await), old);
    let result = done(&stage, &[&load[..], &["--allow-overwrite"]].concat()).await;
    assert_eq!(
        (total(&result, "written"), total(&result, "existing")),
        (3, 0)
    );
    assert_eq!(of(&items(&stage, TABLE).await)["n"], json!({"N": "1e0"}));
}

/// What `dump` writes, `load` reads: dyndump's layout, an empty one too (DD-19), and typed lines.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_dumped_is_loaded_again_equal() {
    let stage = Stage::start().await;
    stage
        .fill(TABLE, &Generator::new(3, KeyShape::STRING), 150)
        .await;
    let typed = stage.folder.path().join("typed.json");
    let dumps: [&[&str]; 3] = [
        &["--to", FROM, "--part-size", "9000"],
        &["--file", typed.to_str().unwrap(), "--encoding", "typed"],
        &[
            "--file",
            typed.to_str().unwrap(),
            "--encoding",
            "typed",
            "--string-nums",
        ],
    ];
    for (number, dump) in dumps.into_iter().enumerate() {
        std::fs::remove_file(&typed).ok();
        stage.run(&[&["dump", TABLE], dump].concat()).await.done();
        let target = format!("target-{number}");
        empty_table(&stage, &target).await;
        let from = if number == 0 {
            ["--from", FROM]
        } else {
            ["--file", typed.to_str().unwrap()]
        };
        let result = done(&stage, &[&["load", &target], &from[..]].concat()).await;
        assert_eq!(total(&result, "written"), 150, "{dump:?}");
        stage.run(&["diff", TABLE, &target]).await.done();
        assert_same(&items(&stage, &target).await, &items(&stage, TABLE).await);
    }
    empty_table(&stage, "empty").await;
    stage
        .run(&["dump", "empty", "--to", "s3://backups/dumps/empty"])
        .await
        .done();
    let load = ["load", TABLE, "--from", "s3://backups/dumps/empty"];
    let result = done(&stage, &load).await;
    assert_eq!((total(&result, "read"), total(&result, "written")), (0, 0));
    assert_same(
        &items(&stage, TABLE).await,
        &items(&stage, "target-0").await,
    );
    // Plain lines have lost their types.
    let plain = Path::new("plain.json");
    let plain = stage.folder.path().join(plain);
    let plain = plain.to_str().unwrap();
    stage
        .run(&["dump", TABLE, "--file", plain, "--encoding", "plain"])
        .await
        .done();
    stage
        .run(&["load", "empty", "--file", plain])
        .await
        .failed(1, &["plain.json", "line 1"]);
    assert!(items(&stage, "empty").await.is_empty());
}
