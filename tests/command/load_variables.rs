//! `highwater load` as dyndump's users call it: their variables, their dash, their silence.

use super::loads::{FROM, empty_table, items, line, stage_and_lines, three_files};
use super::read_back::assert_same;
use super::restoring::file;
use super::stage::{BUCKET, Stage, TABLE, finish};
use super::told::Told;

const COPY: &str = "orders-copy";

async fn run_with(stage: &Stage, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
    let mut command = stage.command(arguments);
    command.envs(variables.iter().copied());
    finish(command).await
}

pub fn beginning(told: &Told) -> &str {
    let mut lines = told.stderr.lines();
    lines
        .find(|line| line.starts_with("Beginning restore: "))
        .unwrap_or_else(|| panic!("{told:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_of_dyndumps_is_heard() {
    let (stage, path) = stage_and_lines(30).await;
    let log = stage.folder.path().join("load.log");
    let mut variables = vec![
        ("FILENAME", path.as_str()),
        ("MAXITEMS", "7"),
        ("WRITE_CAPACITY", "1000"),
        ("ALLOW_OVERWRITE", "true"),
        ("SKIP_CHECKS", "true"),
        ("NO_PROGRESS", "true"),
        ("AWS_MAX_RETRIES", "4"),
        ("LOG_TARGET", log.to_str().unwrap()),
        ("LOG_TIMESTAMP", "at 2006:"),
    ];
    let told = run_with(&stage, &["load", TABLE], &variables).await.done();
    let first = beginning(&told);
    for said in [
        "table=\"orders\"",
        "lines.json\"",
        "writeCapacity=1000 units/s",
        "allow-overwrite=true",
        "skip-checks=true",
    ] {
        assert!(first.contains(said), "{said}: {first}");
    }
    assert!(
        told.stdout.contains("Total items written:  7\n"),
        "{told:#?}"
    );
    assert!(
        told.stdout.ends_with("Total items skipped:  0\n"),
        "{told:#?}"
    );
    let log = std::fs::read_to_string(&log).unwrap();
    let log: Vec<&str> = log.lines().map(|line| &line["at 20xx:".len()..]).collect();
    assert!(
        log[0].starts_with(" Beginning restore: table=\"orders\" source="),
        "{log:?}"
    );
    assert_eq!(log.last(), Some(&" Restore completed OK table=orders"));

    // Ours goes before dyndump's, and a flag before both; what is empty is absent.
    variables.push(("HIGHWATER_MAX_ITEMS", "9"));
    let empty = variables
        .iter()
        .position(|(name, _)| *name == "ALLOW_OVERWRITE")
        .unwrap();
    variables[empty].1 = "";
    let flags = ["load", TABLE, "-w", "2000.5"];
    let told = run_with(&stage, &flags, &variables).await.done();
    for said in ["writeCapacity=2000.5 units/s", "allow-overwrite=false"] {
        assert!(beginning(&told).contains(said), "{said}: {told:#?}");
    }
    assert!(
        told.stdout
            .contains("Total items written:  2\nTotal items skipped:  7\n"),
        "{told:#?}"
    );
    assert_eq!(items(&stage, TABLE).await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_on_the_command_line_is_the_only_one() {
    let (stage, path) = stage_and_lines(30).await;
    let variables = [("FILENAME", path.as_str()), ("S3_BUCKET", "nothing")];
    let other = file(&stage, "other.json", line("other").as_bytes());
    let place = [
        "load",
        TABLE,
        "--filename",
        other.to_str().unwrap(),
        "--maxitems=30",
    ];
    run_with(&stage, &place, &variables).await.done();
    assert_eq!(items(&stage, TABLE).await.len(), 1);
    let folder = three_files(&stage);
    let mut parallel = vec![
        ("FILENAME", folder.to_str().unwrap()),
        ("MAX_PARALLEL", "2"),
    ];
    let told = run_with(&stage, &["load", TABLE], &parallel).await.done();
    assert!(beginning(&told).contains("parallel=2"), "{told:#?}");
    parallel.push(("HIGHWATER_CONCURRENCY", "3"));
    let told = run_with(&stage, &["load", TABLE], &parallel).await.done();
    assert!(beginning(&told).contains("parallel=3"), "{told:#?}");

    let places = [("S3_BUCKET", BUCKET), ("S3_PREFIX", "dumps/orders")];
    stage.run(&["dump", TABLE, "--to", FROM]).await.done();
    empty_table(&stage, COPY).await;
    run_with(&stage, &["load", COPY], &places).await.done();
    assert_same(&items(&stage, COPY).await, &items(&stage, TABLE).await);
}

/// Flags, and variables.
type Way = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

/// B3: dyndump opened a file called `-`.
#[tokio::test(flavor = "multi_thread")]
async fn b3_a_dash_is_standard_input() {
    let stage = Stage::with_items(0).await;
    file(&stage, "-", line("of the file").as_bytes());
    let ways: [Way; 5] = [
        (&["-f", "-"], &[]),
        (&["--file=-"], &[("FILENAME", "nothing")]),
        (&["--stdin"], &[]),
        (&[], &[("USE_STDIN", "true")]),
        (&[], &[("FILENAME", "-")]),
    ];
    for (number, (flags, variables)) in ways.into_iter().enumerate() {
        let input = file(&stage, "input", line(&format!("input {number}")).as_bytes());
        let mut command = stage.command(&[&["load", TABLE], flags].concat());
        command
            .envs(variables.iter().copied())
            .current_dir(stage.folder.path());
        command.stdin(std::fs::File::open(input).unwrap());
        finish(command).await.done();
        let there = items(&stage, TABLE).await;
        let has = |key: &str| there.values().any(|item| item["pk"]["S"] == key);
        assert!(
            has(&format!("input {number}")) && !has("of the file"),
            "{flags:?}"
        );
    }
}

/// B4: silent is silent, but for errors.
#[tokio::test(flavor = "multi_thread")]
async fn b4_silent_says_nothing_but_errors() {
    let (stage, path) = stage_and_lines(20).await;
    let load = ["load", TABLE, "--file", &path];
    for (more, variables) in [
        (&["--silent"][..], &[][..]),
        (&["--quiet"], &[]),
        (&[], &[("SILENT", "true")]),
        (&["--silent", "--no-progress", "--json"], &[]),
    ] {
        let told = run_with(&stage, &[&load[..], more].concat(), variables)
            .await
            .done();
        assert_eq!(told.stderr, "", "{more:?}");
        assert!(!told.stdout.is_empty());
    }
    let told = stage
        .run(&["load", TABLE, "--file", "/nowhere.json", "--silent"])
        .await;
    let told = told.failed(1, &["/nowhere.json"]);
    assert!(told.stderr.starts_with("error: "), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_refused_with_the_flag_named() {
    let stage = Stage::with_items(0).await;
    for (arguments, words) in [
        ("load orders", "--s3-bucket"),
        ("load --stdin", "<TABLE>"),
        ("load orders --file x --stdin", "--stdin"),
        ("load orders --file x --from file:///y", "--from"),
        (
            "load orders --from s3://backups/x --s3-bucket backups --s3-prefix x",
            "--s3-bucket",
        ),
        ("load orders --s3-bucket backups", "--s3-prefix"),
        ("load orders --file x --parallel 0", "--concurrency"),
        ("load orders --file x -p 1001", "--concurrency"),
        (
            "load orders --file x -w 5 --write-percent 5",
            "--write-percent",
        ),
        ("load orders --file lines.json -w=-1", "write_capacity"),
        ("load orders --file x -m many", "--max-items"),
        ("load orders --file x --max-retries=-1", "--max-retries"),
        ("load orders --file x --json --log-to -", "--log-to"),
        ("load orders --from s3://", "s3://"),
        ("load orders --from 01768385930622-efd1a093", "--from"),
    ] {
        file(&stage, "lines.json", line("x").as_bytes());
        let mut command = stage.command(&arguments.split(' ').collect::<Vec<_>>());
        command.current_dir(stage.folder.path());
        let told = finish(command).await;
        assert_eq!(
            (told.code, told.stdout.as_str()),
            (Some(2), ""),
            "{arguments}: {told:#?}"
        );
        assert!(told.stderr.contains(words), "{arguments}: {told:#?}");
    }
    assert!(items(&stage, TABLE).await.is_empty());
    stage.assert_untouched().await;
}
