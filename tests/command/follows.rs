//! `highwater follow`: every record of the stream is in the log, however the processes that write it end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::StreamViewType;
use highwater_testkit::faults::{Fault, Rule};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::live_stage::{LiveStage, ROLLING, follow};
use super::stage::{TABLE, TO, finish, signal, told, until};
use super::told::Told;

/// Waits until the log holds so many records.
async fn logged(live: &LiveStage, at_least: usize) {
    until("records are in the log", async || {
        let counts = live.log_objects().await;
        let logged: u64 = counts.iter().map(|name| name.count).sum();
        (logged >= at_least as u64).then_some(())
    })
    .await;
}

async fn stopped(child: Child) -> Told {
    signal(&child, "TERM").await;
    told(child).await.done()
}

#[tokio::test(flavor = "multi_thread")]
async fn until_idle_the_log_holds_the_whole_stream_and_the_mark_reaches_it() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 1).write(700).await;
    let told = live
        .stage
        .run(&follow(&["--until-idle", "--json"]))
        .await
        .done();
    let records = live.assert_log_is_the_stream().await;
    assert!(records.len() > 400, "{}", records.len());
    let shards: BTreeSet<_> = records.keys().map(|(shard, _)| shard).collect();
    assert!(shards.len() > 5, "shards rolled over: {shards:?}");
    let result = told.json();
    assert_eq!(result["report"]["records"], records.len());
    assert_eq!(result["report"]["incidents"], 0);
    assert_eq!(result["table"], TABLE);
    assert_eq!(result["report"]["closed"], false);
    let newest = records.values().map(|record| record.created_at).max();
    let mark = live.assert_mark_is_true().await.unwrap();
    assert!(Some(mark.0 + 2) >= newest, "{mark} {newest:?}");

    // Nothing new: nothing is written.
    let again = live
        .stage
        .run(&follow(&["--until-idle", "--json"]))
        .await
        .done();
    assert_eq!(again.json()["report"]["records"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_hands_over_in_order_and_the_next_process_goes_on_at_once() {
    let live = LiveStage::start(ROLLING).await;
    // A lease that nobody could wait for in this test: the second process gets its shards because the first gave them back.
    let patient = follow(&["--lease", "10m"]);
    let mut writer = live.writer("a", 2);
    let first = live.stage.spawn(&patient);
    writer.write_slowly(150, Duration::from_millis(2)).await;
    logged(&live, 50).await;
    let ended = stopped(first).await;
    assert!(
        ended
            .stdout
            .contains("stopped by SIGTERM; its shards are handed over"),
        "{ended:#?}"
    );
    assert!(ended.stderr.contains("stopping: "), "{ended:#?}");
    writer.write(250).await;
    let started = Instant::now();
    let second = live.stage.spawn(&patient);
    let all = live.stream_records().await.len();
    logged(&live, all).await;
    assert!(started.elapsed() < Duration::from_mins(1));
    stopped(second).await;
    let records = live.assert_log_is_the_stream().await;
    // In order: not one record was written twice.
    let written: u64 = live.log_objects().await.iter().map(|name| name.count).sum();
    assert_eq!(written, records.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_leaves_behind_others_take_over() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 3);
    let mut first = live.stage.spawn(&follow(&["--worker", "first"]));
    writer.write_slowly(150, Duration::from_millis(2)).await;
    logged(&live, 30).await;
    first.start_kill().unwrap();
    assert_eq!(told(first).await.code, None, "it was killed at work");
    writer.write(150).await;
    let told = live
        .stage
        .run(&follow(&["--until-idle", "--json"]))
        .await
        .done();
    assert!(
        told.json()["report"]["records"].as_u64() > Some(50),
        "{told:#?}"
    );
    live.assert_log_is_the_stream().await;
    live.assert_mark_is_true().await.unwrap();
}

/// Two processes read different shards of one stream, and each record comes once.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_the_shards_of_a_stream() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 4);
    let children =
        ["one", "two"].map(|name| live.stage.spawn(&follow(&["--worker", name, "--json"])));
    for _ in 0..8 {
        writer.write_slowly(60, Duration::from_millis(2)).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let all = live.stream_records().await.len();
    logged(&live, all).await;
    for child in children {
        let report = stopped(child).await.json();
        assert!(report["report"]["records"].as_u64() > Some(0), "{report}");
    }
    live.assert_log_is_the_stream().await;
}

/// The checkpoints of `--control local` are a file that processes of one machine may share.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_local_file_of_checkpoints() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 5);
    let file = format!(
        "local:{}",
        live.stage.folder.path().join("control.db").display()
    );
    let children = ["one", "two"].map(|name| {
        live.stage
            .spawn(&follow(&["--worker", name, "--json", "--control", &file]))
    });
    for _ in 0..8 {
        writer.write_slowly(60, Duration::from_millis(2)).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let all = live.stream_records().await.len();
    logged(&live, all).await;
    for child in children {
        let report = stopped(child).await.json();
        assert!(report["report"]["records"].as_u64() > Some(0), "{report}");
    }
    live.assert_log_is_the_stream().await;
    assert_eq!(
        live.stage.tables().await,
        [TABLE],
        "no control table was made"
    );
}

/// The log cannot be written for an hour; the second signal does not wait for it, and nothing is lost by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 6).write(50).await;
    let held_up = Fault::Delay(3_600_000);
    let log = format!("/backups/daily/{TABLE}/log/");
    let rule = Rule::rate(held_up, 1.0).on("PutObject");
    let mut child = live.stage.spawn(&follow(&[]));
    until("the mark is published", async || live.mark().await).await;
    live.stage.s3_proxy.inject(rule.under(&log));
    live.writer("b", 7).write(20).await;
    until("a record is being written", async || {
        (live.stage.s3_proxy.count(held_up) > 0).then_some(())
    })
    .await;
    signal(&child, "INT").await;
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines
        .next_line()
        .await
        .unwrap()
        .expect("it says that it stops")
        .contains("stopping: ")
    {}
    let second = Instant::now();
    signal(&child, "TERM").await;
    let status = child.wait().await.unwrap();
    assert!(
        second.elapsed() < Duration::from_secs(5),
        "{:?}",
        second.elapsed()
    );
    assert_eq!(status.code(), Some(143));
    live.stage.s3_proxy.clear();
    live.stage.run(&follow(&["--until-idle"])).await.done();
    live.assert_log_is_the_stream().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_and_lost_answers_lose_nothing() {
    let live = LiveStage::start(ROLLING).await;
    for proxy in [&live.stage.dynamodb_proxy, &live.stage.s3_proxy] {
        for fault in [
            Fault::Throttle,
            Fault::ServerError,
            Fault::LoseAnswer,
            Fault::DropRequest,
        ] {
            proxy.inject(Rule::rate(fault, 0.03));
        }
    }
    let mut writer = live.writer("a", 8);
    let child = live.stage.spawn(&follow(&[]));
    writer.write_slowly(300, Duration::from_millis(2)).await;
    live.stage.dynamodb_proxy.clear();
    live.stage.s3_proxy.clear();
    let all = live.stream_records().await.len();
    logged(&live, all).await;
    stopped(child).await;
    live.assert_log_is_the_stream().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_usable_stream_is_refused_with_a_way_out() {
    let live = LiveStage::bare(ROLLING, 1).await;
    live.table_with_view("streamless", None).await;
    live.table_with_view("keys-only", Some(StreamViewType::KeysOnly))
        .await;
    let of = |table: &'static str| ["follow", table, "--to", TO, "--local-engine"];
    let told = live.stage.run(&of("streamless")).await;
    told.failed(1, &["streamless", "no stream"]);
    let told = live.stage.run(&of("keys-only")).await;
    let told = told.failed(1, &["keys-only", "KEYS_ONLY"]);
    told.hinted("NEW_AND_OLD_IMAGES");
    let told = live.stage.run(&of("absent")).await;
    told.failed(1, &["absent"]).hinted("check the name");
    let told = live
        .stage
        .run(&["audit", "streamless", "--to", TO, "--local-engine"])
        .await;
    told.failed(1, &["streamless", "no stream"])
        .hinted("--with-stream");
    assert_eq!(live.stage.keys().await, [""; 0], "nothing is claimed");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_can_be_environment_variables() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 9).write(60).await;
    let mut command = live.stage.command(&["follow", TABLE]);
    command.envs([
        ("HIGHWATER_TO", TO),
        ("HIGHWATER_FLUSH", "100ms"),
        ("HIGHWATER_UNTIL_IDLE", "yes"),
        ("HIGHWATER_LOCAL_ENGINE", "1"),
        ("HIGHWATER_PUBLICATION_DELAY", "7"),
        ("HIGHWATER_WORKER", "from-the-environment"),
        ("HIGHWATER_LEASE", "2s"),
        ("HIGHWATER_PUBLISH_EVERY", "200ms"),
        ("HIGHWATER_SURVEY_EVERY", "200ms"),
        ("HIGHWATER_JSON", "true"),
    ]);
    let report = finish(command).await.done().json();
    assert_eq!(report["report"]["worker"], "from-the-environment");
    assert_eq!(live.mark().await.unwrap().publication_ms, 7000);
    live.assert_log_is_the_stream().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn help_teaches() {
    let live = LiveStage::bare(ROLLING, 1).await;
    for (command, words) in [
        (
            "follow",
            ["--flush", "SIGTERM", "--with-stream", "Exit codes"],
        ),
        (
            "audit",
            [
                "--local-engine",
                "incident",
                "3 something needs a person",
                "Exit codes",
            ],
        ),
        (
            "status",
            [
                "--from",
                "the newest last",
                "3 something needs a person",
                "Exit codes",
            ],
        ),
    ] {
        let help = live.stage.run(&[command, "--help"]).await.done();
        for word in words {
            assert!(
                help.stdout.contains(word),
                "{command}: {word}: {}",
                help.stdout
            );
        }
    }
}
