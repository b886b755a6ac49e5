//! `highwater load`: how much, how fast, how often, how many at once, and how it ends when it is stopped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use highwater_testkit::faults::{Fault, Rule};
use tokio::process::Child;

use super::denying_proxy::DenyingProxy;
use super::loads::{empty_table, items, line, stage_and_lines};
use super::restore_lines::gzip;
use super::restoring::{completed, done, file, total};
use super::stage::{Stage, TABLE, finish, signal, told, until};

/// B5: dyndump panicked, and left `running` behind. A signal ends a silent load in order, and it can be resumed.
#[tokio::test(flavor = "multi_thread")]
async fn b5_a_signal_ends_a_silent_load_in_order() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let (stage, path) = stage_and_lines(400).await;
        let slow = Fault::Delay(40);
        stage
            .dynamodb_proxy
            .inject(Rule::rate(slow, 1.0).on("PutItem"));
        let log = stage.folder.path().join("load.log");
        let log_to = ["--log-to", log.to_str().unwrap(), "--log-timestamp="];
        let begin = ["load", TABLE, "--file", &path, "--silent", "--no-progress"];
        let child = stage.spawn(&[&begin[..], &log_to].concat());
        until("items are put", async || {
            (stage.dynamodb_proxy.count(slow) > 30).then_some(())
        })
        .await;
        signal(&child, name).await;
        let told = told(child)
            .await
            .failed(code, &[&format!("stopped by SIG{name}")]);
        let hint = told
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("hint: highwater "));
        let hint = hint.unwrap_or_else(|| panic!("{told:#?}"));
        let written = items(&stage, TABLE).await.len();
        assert!(
            written > 0 && written < 400,
            "the signal came in the middle: {written}"
        );
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.ends_with("\nAborted\n"), "{log}");
        stage.dynamodb_proxy.clear();
        let mut resume = stage.bare(highwater_tests::binaries::path("highwater"));
        resume.args(hint.split(' ')).arg("--json");
        let result = completed(&finish(resume).await.done());
        assert_eq!(total(&result, "read"), 400);
        assert_eq!(items(&stage, TABLE).await.len(), 400);
    }
}

/// How many requests have come, watched while a command runs: `(before, after, requests)` of each look.
struct Watch(Vec<(Instant, Instant, u64)>);

impl Watch {
    /// Looks until the command has ended, which must go well.
    async fn until_done(stage: &Stage, noted: Fault, mut child: Child) -> Self {
        let mut looks = Vec::new();
        while child.try_wait().unwrap().is_none() {
            let before = Instant::now();
            let requests = stage.dynamodb_proxy.count(noted);
            looks.push((before, Instant::now(), requests));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        told(child).await.done();
        Self(looks)
    }

    /// The most that came within `time`, whatever the moment. Errs downwards only.
    fn most_within(&self, time: Duration) -> u64 {
        let of = |(index, first): (usize, &(Instant, Instant, u64))| {
            let within = self.0[index..]
                .iter()
                .take_while(|look| look.1 - first.0 < time);
            within.last().map_or(0, |last| last.2 - first.2)
        };
        self.0.iter().enumerate().map(of).max().unwrap_or(0)
    }
}

/// B17: at the end of dyndump's input all waiting writes were sent at once. Here no second sees more than its units
/// and those that the first one began with.
#[tokio::test(flavor = "multi_thread")]
async fn b17_every_write_is_paced_to_the_end() {
    // A batch is sent whole as soon as its turn has come, and paid for after.
    for (way, least) in [(&[][..], 3.0), (&["--allow-overwrite"], 1.5)] {
        let (stage, path) = stage_and_lines(45).await;
        let (noted, operation) = match way {
            [] => (Fault::Delay(0), "PutItem"),
            _ => (Fault::Delay(0), "BatchWriteItem"),
        };
        stage
            .dynamodb_proxy
            .inject(Rule::rate(noted, 1.0).on(operation));
        let load = ["load", TABLE, "--file", &path, "-w", "10", "--no-progress"];
        let began = Instant::now();
        let child = stage.spawn(&[&load[..], way].concat());
        let watch = Watch::until_done(&stage, noted, child).await;
        let took = began.elapsed().as_secs_f64();
        assert!(
            (least..15.0).contains(&took),
            "45 units at 10 a second took {took} s: {way:?}"
        );
        assert_eq!(items(&stage, TABLE).await.len(), 45);
        if way.is_empty() {
            let most = watch.most_within(Duration::from_secs(1));
            assert!((5..=21).contains(&most), "{most} units in one second");
        }
    }
}

/// DD-10: a put that fails for good ends the load with that error.
#[tokio::test(flavor = "multi_thread")]
async fn dd_10_a_put_that_fails_for_good_is_told() {
    let (stage, path) = stage_and_lines(30).await;
    for (operation, way) in [
        (&["PutItem"], &[][..]),
        (&["BatchWriteItem"], &["--allow-overwrite"]),
    ] {
        let denied: &'static [&'static str] = operation;
        let proxy = DenyingProxy::start(stage.dynamodb.endpoint_url(), denied).await;
        let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
        command
            .args(["load", TABLE, "--file", &path, "--region", "eu-north-1"])
            .args(way);
        command.args(["--endpoint-url", proxy.endpoint_url()]);
        command.args([
            "--control",
            &format!("local:{}", stage.folder.path().join("control.db").display()),
        ]);
        let told = finish(command)
            .await
            .failed(1, &[operation[0], TABLE, "not authorized"]);
        assert!(told.stderr.contains("hint: check who you are"), "{told:#?}");
    }
    assert!(items(&stage, TABLE).await.is_empty());
}

/// dyndump's `--max-retries`: 0 gives up at the first refusal, `n` at one more than `n`.
#[tokio::test(flavor = "multi_thread")]
async fn max_retries_is_how_often_a_refused_write_is_sent_again() {
    let (stage, path) = stage_and_lines(1).await;
    // Checkpoints elsewhere: their requests are not counted, and not refused.
    let control = format!("local:{}", stage.folder.path().join("control.db").display());
    let ways = [
        ("PutItem", &["--control", &control][..]),
        (
            "BatchWriteItem",
            &["--control", &control, "--allow-overwrite"],
        ),
    ];
    for (operation, way) in ways {
        for fault in [Fault::Throttle, Fault::ServerError] {
            for (retries, refusals, goes_well) in [
                ("0", 1, false),
                ("0", 0, true),
                ("1", 2, false),
                ("2", 2, true),
                ("3", 2, true),
            ] {
                stage.dynamodb_proxy.clear();
                for nth in 1..=refusals {
                    stage
                        .dynamodb_proxy
                        .inject(Rule::nth(fault, nth).on(operation));
                }
                let before = stage.dynamodb_proxy.count(fault);
                let load = ["load", TABLE, "--file", &path, "--max-retries", retries];
                let told = stage.run(&[&load[..], way].concat()).await;
                let case = format!(
                    "{operation} {fault:?}: {refusals} refusals, {retries} retries: {told:#?}"
                );
                assert_eq!(told.code, Some(i32::from(!goes_well)), "{case}");
                assert_eq!(
                    stage.dynamodb_proxy.count(fault) - before,
                    refusals,
                    "{case}"
                );
                if !goes_well {
                    told.failed(1, &[operation, TABLE]);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dyndumps_variable_of_retries_is_heard() {
    let (stage, path) = stage_and_lines(1).await;
    for (variables, code) in [
        (&[("AWS_MAX_RETRIES", "1")][..], 1),
        (&[("AWS_MAX_RETRIES", "2")], 0),
        (
            &[("AWS_MAX_RETRIES", "1"), ("HIGHWATER_MAX_RETRIES", "2")],
            0,
        ),
    ] {
        stage.dynamodb_proxy.clear();
        for nth in [1, 2] {
            let refusal = Rule::nth(Fault::Throttle, nth).on("BatchWriteItem");
            stage.dynamodb_proxy.inject(refusal);
        }
        let mut command = stage.command(&["load", TABLE, "--file", &path, "--allow-overwrite"]);
        command.envs(variables.iter().copied());
        let told = finish(command).await;
        assert_eq!(told.code, Some(code), "{variables:?}: {told:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_items_are_exactly_so_many() {
    let stage = Stage::start().await;
    for number in 0..5 {
        let text: String = (0..20).map(|n| line(&format!("f{number}-{n}"))).collect();
        file(&stage, &format!("folder/{number}.json"), text.as_bytes());
    }
    let folder = stage.folder.path().join("folder");
    for (most, expected) in [
        ("1", 1),
        ("19", 19),
        ("27", 27),
        ("100", 100),
        ("1000", 100),
        ("0", 100),
    ] {
        for way in [&[][..], &["--allow-overwrite"]] {
            let target = format!("target-{most}-{}", way.len());
            empty_table(&stage, &target).await;
            let load = [
                "load",
                &target,
                "--file",
                folder.to_str().unwrap(),
                "-p",
                "4",
                "-m",
                most,
            ];
            let result = done(&stage, &[&load[..], way].concat()).await;
            assert_eq!(total(&result, "written"), expected, "{most} {way:?}");
            assert_eq!(items(&stage, &target).await.len() as u64, expected);
        }
    }
}

/// Files of 20 items each, `f0-0` and so on, with blank lines between; every other one is packed.
fn twelve_files(stage: &Stage) -> PathBuf {
    for number in 0..12 {
        let items = (0..20).map(|n| line(&format!("f{number}-{n}")));
        let text = items.fold(String::new(), |text, item| text + "\n" + &item + "  \n\r\n");
        let (suffix, bytes) = match number % 2 {
            0 => ("", text.into_bytes()),
            _ => (".gz", gzip(text.as_bytes())),
        };
        file(stage, &format!("folder/{number}.json{suffix}"), &bytes);
    }
    stage.folder.path().join("folder")
}

/// MU-13: blank lines are no items, what is packed is unpacked, the key filter is heard, and no more files are in
/// flight than were asked for, of which nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn mu_13_lines_of_many_files() {
    let stage = Stage::start().await;
    let folder = twelve_files(&stage);
    let folder = folder.to_str().unwrap();
    // A file is one batch, which stays in flight for so long.
    let held = Duration::from_millis(250);
    let noted = Fault::Delay(250);
    stage
        .dynamodb_proxy
        .inject(Rule::rate(noted, 1.0).on("BatchWriteItem"));
    for at_once in [1, 3, 12] {
        let (target, number) = (format!("target-{at_once}"), at_once.to_string());
        empty_table(&stage, &target).await;
        let load = [
            "load",
            &target,
            "--file",
            folder,
            "--concurrency",
            &number,
            "--allow-overwrite",
        ];
        let sent = stage.dynamodb_proxy.count(noted);
        let watch = Watch::until_done(&stage, noted, stage.spawn(&load)).await;
        assert_eq!(
            stage.dynamodb_proxy.count(noted) - sent,
            12,
            "a file is one batch"
        );
        let most = watch.most_within(held);
        assert!(most <= at_once, "{most} files at once instead of {at_once}");
        let least = at_once.div_ceil(2).min(3);
        assert!(most >= least, "only {most} files at once of {at_once}");
        let there = items(&stage, &target).await;
        assert_eq!(there.len(), 240, "nothing is lost");
    }
    stage.dynamodb_proxy.clear();
    for (filter, expected) in [
        ("pk^=f1-", 20),
        ("pk^=f1", 60),
        ("pk=f7-3", 1),
        ("pk=f7", 0),
    ] {
        let target = format!("filter-{expected}");
        empty_table(&stage, &target).await;
        let load = ["load", &target, "--file", folder, "--filter", filter];
        let result = done(&stage, &load).await;
        assert_eq!(
            (total(&result, "written"), total(&result, "filtered")),
            (expected, 240 - expected)
        );
        let there = items(&stage, &target).await;
        assert_eq!(there.len() as u64, expected, "{filter}");
    }
}
