//! `highwater audit`: what the log lacks is filled in, what is gone is told.

use super::live_stage::{LiveStage, ROLLING, follow};
use super::stage::{TABLE, TO};

const AUDIT: [&str; 7] = [
    "audit",
    TABLE,
    "--to",
    TO,
    "--local-engine",
    "--lease",
    "1500ms",
];

fn audit<'a>(more: &[&'a str]) -> Vec<&'a str> {
    AUDIT.iter().copied().chain(more.iter().copied()).collect()
}

async fn follow_until_idle(live: &LiveStage) {
    live.stage.run(&follow(&["--until-idle"])).await.done();
}

async fn back_up(live: &LiveStage) {
    let backup = [
        "backup",
        TABLE,
        "--to",
        TO,
        "--with-stream",
        "--settle-seconds",
        "0",
    ];
    live.stage.run(&backup).await.done();
}

/// Case 29, at the command line: whatever is deleted from the log comes back as long as the stream has it.
#[tokio::test(flavor = "multi_thread")]
async fn case_29_what_is_missing_is_filled_in() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 1).write(400).await;
    follow_until_idle(&live).await;
    let objects = live.log_objects().await;
    let deleted: u64 = objects.iter().step_by(2).map(|name| name.count).sum();
    assert!(deleted > 0);
    for name in objects.iter().step_by(2) {
        live.delete_object(name).await;
    }
    // The positions of the follower are behind it all: an auditor of its own begins anew.
    let told = live
        .stage
        .run(&audit(&["--control-table", "auditor", "--json"]))
        .await
        .done();
    let found = told.json();
    assert_eq!(found["report"]["back_filled"], deleted, "{found}");
    assert_eq!(found["report"]["incidents"], 0, "{found}");
    assert_eq!(found["report"]["done"], true, "{found}");
    assert_eq!(found["needs_a_person"], false, "{found}");
    let records = live.assert_log_is_the_stream().await;
    assert_eq!(found["report"]["records"], records.len(), "{found}");

    let again = live
        .stage
        .run(&audit(&["--control-table", "another"]))
        .await
        .done();
    assert!(
        again.stdout.contains("; 0 were not in the log"),
        "{again:#?}"
    );
    assert!(
        again.stdout.contains("the log holds everything"),
        "{again:#?}"
    );
}

/// Nobody follows: an audit alone makes the log, and the mark.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_alone_keeps_a_log() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 2);
    for _ in 0..2 {
        writer.write(150).await;
        live.stage.run(&audit(&[])).await.done();
        live.assert_log_is_the_stream().await;
        live.assert_mark_is_true().await.unwrap();
    }
}

/// Case 27, at the command line: records that were trimmed unread are a gap; a new backup heals it.
#[tokio::test(flavor = "multi_thread")]
async fn case_27_what_is_gone_needs_a_person_until_a_backup_heals_it() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 3);
    writer.write(60).await;
    follow_until_idle(&live).await;
    writer.write(200).await;
    live.stage.dynamodb.trim_streams();
    writer.write(60).await;
    let told = live.stage.run(&audit(&["--json"])).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    let found = told.json();
    assert_eq!(found["needs_a_person"], true, "{found}");
    assert!(found["report"]["incidents"].as_u64() > Some(0), "{found}");
    assert_eq!(found["incidents"][0]["kind"], "gap", "{found}");
    assert_eq!(found["report"]["mark"]["held_back"], true, "{found}");
    let words = live.stage.run(&audit(&[])).await;
    assert_eq!(
        words.code,
        Some(3),
        "as long as nothing heals it: {words:#?}"
    );
    words.hinted("take a new backup");
    assert!(words.stdout.contains("needs a person"), "{words:#?}");

    // The seconds of the gap end when it was seen.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    back_up(&live).await;
    let healed = live.stage.run(&audit(&["--json"])).await.done();
    assert_eq!(
        healed.json()["report"]["mark"]["held_back"],
        false,
        "{healed:#?}"
    );
}

/// What cannot be read holds nothing: it is written anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_damaged_is_mended() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 4).write(100).await;
    follow_until_idle(&live).await;
    let folder = LiveStage::place().stream(&live.label().await);
    let name = live.log_objects().await.remove(0);
    live.put(&name.key(&folder), b"not zstd".to_vec()).await;
    let told = live
        .stage
        .run(&audit(&["--control-table", "auditor", "--json"]))
        .await
        .done();
    assert_eq!(
        told.json()["report"]["back_filled"],
        name.count,
        "{told:#?}"
    );
    live.assert_log_is_the_stream().await;
}
