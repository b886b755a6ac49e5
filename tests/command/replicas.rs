//! `highwater replicate` and `highwater promote`: the replica is the source, whatever is killed on the way.
//!
//! `HIGHWATER_TEST_ITEMS` is the number of writes, `HIGHWATER_TEST_KEYS` on how many items, `HIGHWATER_TEST_SECONDS` how long
//! they take: 3,000 on 120 in 12 seconds by default. `HIGHWATER_TEST_SEED` repeats a run, as far as processes can be repeated.

use std::env;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::TimeToLiveSpecification;
use fastrand::Rng;
use futures::future::join_all;
use highwater_domain::key::ScalarType;
use highwater_local::StreamShape;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::tables::NewTable;
use tokio::process::Child;

use super::live_stage::{LiveStage, ROLLING, Writer, follow};
use super::read_back::{Items, assert_same, table_items};
use super::stage::{PATIENCE, TABLE, TO, signal, told};

const COPY: &str = "orders-copy";
const FENCES: &str = "orders-copy-highwater-fences";

/// `replicate` with further flags.
fn replicate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec![
        "replicate",
        TABLE,
        "--to",
        COPY,
        "--from",
        TO,
        "--local-engine",
        "--lease",
        "1500ms",
    ];
    line.extend(more);
    line
}

async fn assert_equal(live: &LiveStage) {
    let schema = KeyShape::STRING.schema();
    let source = table_items(&live.stage, TABLE, &schema).await;
    let copy = table_items(&live.stage, COPY, &schema).await;
    assert_same(&copy, &source);
}

/// What the replica holds; `None` before it is made.
async fn copy(live: &LiveStage) -> Option<Items> {
    if !live.stage.tables().await.contains(&COPY.to_owned()) {
        return None;
    }
    Some(table_items(&live.stage, COPY, &KeyShape::STRING.schema()).await)
}

async fn is_equal(live: &LiveStage) -> bool {
    let source = table_items(&live.stage, TABLE, &KeyShape::STRING.schema()).await;
    copy(live).await == Some(source)
}

/// Waits until the replica is the source, for as long as it still changes.
async fn catches_up(live: &LiveStage) {
    let (mut before, mut changed) = (None, Instant::now());
    while !is_equal(live).await {
        let copy = copy(live).await;
        if copy != before {
            (before, changed) = (copy, Instant::now());
        }
        assert!(
            changed.elapsed() < PATIENCE,
            "the replica is not the source, and does not change any more"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_loaded_followed_and_promoted() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 1);
    writer.write(500).await;
    let seen = live.stage.run(&replicate(&["--dry-run"])).await;
    seen.failed(1, &["no backup"]);
    let first = live
        .stage
        .run(&replicate(&["--until-idle", "--json"]))
        .await
        .done()
        .json();
    assert_equal(&live).await;
    assert_eq!(first["replica"]["phase"], "live");
    assert!(live.stage.tables().await.contains(&FENCES.to_owned()));

    // Inserts, changes and deletes, over shards that roll.
    writer.write(800).await;
    let second = live
        .stage
        .run(&replicate(&["--until-idle", "--json"]))
        .await
        .done()
        .json();
    assert_equal(&live).await;
    let applied = &second["applied"];
    assert!(applied["written"].as_u64() > Some(50), "{second}");
    let number = |name: &str| applied[name].as_u64().unwrap();
    let known = [
        "written",
        "stale",
        "superseded",
        "seen",
        "filtered",
        "refused",
    ]
    .map(number);
    assert_eq!(number("records"), known.iter().sum::<u64>(), "{second}");

    // Nothing new: nothing is written.
    let third = live
        .stage
        .run(&replicate(&["--until-idle", "--json"]))
        .await
        .done()
        .json();
    assert_eq!(third["applied"]["records"], 0, "{third}");

    promote(&live).await;
}

/// Only if it has caught up, or if that does not matter; and for good.
async fn promote(live: &LiveStage) {
    let behind = ["promote", TABLE, "--to", COPY, "--most-lag", "0s"];
    live.stage.run(&behind).await.failed(1, &["cannot go on"]);
    let shown = live.stage.run(&[
        "promote",
        TABLE,
        "--to",
        COPY,
        "--as-it-is",
        "--dry-run",
        "--json",
    ]);
    assert_eq!(shown.await.done().json()["may_be_promoted"], true);
    let promoted = live
        .stage
        .run(&["promote", TABLE, "--to", COPY, "--as-it-is", "--json"])
        .await;
    assert_eq!(promoted.done().json()["replica"]["phase"], "promoted");
    assert!(!live.stage.tables().await.contains(&FENCES.to_owned()));
    assert_equal(live).await;
    // It is over: the same table is no replica again.
    let again = live.stage.run(&replicate(&["--until-idle"])).await;
    again.failed(1, &[COPY, "promoted", "fresh table"]);
}

/// Tables that cannot be replicas, and why.
const UNSUITABLE: [(&str, &str); 3] = [
    ("other-key", "its key is"),
    ("expiring", "time to live is on"),
    ("full", "it has items"),
];

async fn unsuitable_tables(live: &LiveStage) {
    let direct = &live.stage.direct;
    let pair = KeyShape {
        sort: Some(ScalarType::N),
        ..KeyShape::STRING
    };
    NewTable::new("other-key", pair)
        .create(direct)
        .await
        .unwrap();

    NewTable::new("expiring", KeyShape::STRING)
        .create(direct)
        .await
        .unwrap();
    let ttl = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name("until");
    let on = direct.update_time_to_live().table_name("expiring");
    on.time_to_live_specification(ttl.build().unwrap())
        .send()
        .await
        .unwrap();

    NewTable::new("full", KeyShape::STRING)
        .create(direct)
        .await
        .unwrap();
    let item = direct.put_item().table_name("full");
    let key = aws_sdk_dynamodb::types::AttributeValue::S("x".into());
    item.item("pk", key).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_replica_is_refused_before_anything_is_written() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 1).write(50).await;
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
    let refused = async |to: &str, said: &[&str]| {
        let before = live.stage.tables().await;
        let words = [
            "replicate",
            TABLE,
            "--to",
            to,
            "--from",
            TO,
            "--local-engine",
            "--until-idle",
        ];
        live.stage.run(&words).await.failed(1, said);
        assert_eq!(live.stage.tables().await, before);
    };
    refused(TABLE, &["the source itself"]).await;

    unsuitable_tables(&live).await;
    for (to, said) in UNSUITABLE {
        refused(to, &[to, said]).await;
    }
    // Somebody else's: another control table has begun a replica there.
    let words = [
        "replicate",
        TABLE,
        "--to",
        COPY,
        "--from",
        TO,
        "--local-engine",
        "--until-idle",
        "--control-table",
        "theirs",
    ];
    live.stage.run(&words).await.done();
    refused(COPY, &[COPY, "uses it"]).await;
}

/// Until it is promoted a replica fenced by attributes shows them; then nothing is left of them.
#[tokio::test(flavor = "multi_thread")]
async fn fences_in_attributes_are_taken_out_in_the_end() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 7);
    writer.write(200).await;
    let words = replicate(&["--until-idle", "--fence", "attribute"]);
    live.stage.run(&words).await.done();
    writer.write(400).await;
    live.stage.run(&words).await.done();
    assert!(!is_equal(&live).await, "the items carry their order");
    let promote = ["promote", TABLE, "--to", COPY, "--as-it-is", "--json"];
    let promoted = live.stage.run(&promote).await.done().json();
    assert!(
        promoted["stripped"]["items"].as_u64() > Some(0),
        "{promoted}"
    );
    assert_equal(&live).await;
}

fn number(variable: &str, default: u64) -> u64 {
    let value = env::var(variable).ok();
    value.map_or(default, |text| text.parse().expect(variable))
}

/// Deletes keys and writes them again, hot, while everything else happens.
async fn write_all(writers: &mut [Writer], changes: u64, length: Duration) {
    let each = usize::try_from(changes).unwrap() / writers.len();
    let pause = length / u32::try_from(each.max(1)).unwrap();
    join_all(writers.iter_mut().map(|it| it.write_at_pace(each, pause))).await;
}

fn start_all(live: &LiveStage, running: &mut [Option<Child>; 3]) {
    for (number, slot) in running.iter_mut().enumerate() {
        if slot.is_none() {
            *slot = Some(match number {
                0 => live.stage.spawn(&replicate(&[])),
                _ => live.stage.spawn(&follow(&["--apply"])),
            });
        }
    }
}

/// Three processes that write the log and feed the replica, one of which is killed or stopped every now and then, from before the load
/// until the end: the first one loads it, the others are followers that feed what there is.
#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_at_random_the_replica_is_the_source() {
    let changes = number("HIGHWATER_TEST_ITEMS", 3000);
    let length = Duration::from_secs(number("HIGHWATER_TEST_SECONDS", 12));
    let seed = number("HIGHWATER_TEST_SEED", 20_261_122);
    let mut random = Rng::with_seed(seed);
    let rolling = StreamShape {
        // Shards that end every second are enough: each costs whoever reads it a second or two.
        roll_after_records: ROLLING.roll_after_records.max(changes / 300),
        ..ROLLING
    };
    let live = LiveStage::seeded(rolling, seed).await;
    live.writer("z", seed).write(300).await;
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
    let keys = u32::try_from(number("HIGHWATER_TEST_KEYS", 120) / 3).unwrap();
    let clerk = |clerk| live.writer(&format!("w{clerk}"), seed + clerk).over(keys);
    let mut clerks: Vec<Writer> = (0..3).map(clerk).collect();
    let writing = tokio::spawn(async move { write_all(&mut clerks, changes, length).await });
    let mut running: [Option<Child>; 3] = [None, None, None];
    let mut kills = 0;
    while !writing.is_finished() {
        start_all(&live, &mut running);
        tokio::time::sleep(Duration::from_millis(random.u64(300..2500))).await;
        if let Some(mut victim) = running[random.usize(..3)].take() {
            if random.bool() {
                victim.start_kill().unwrap();
                kills += 1;
            } else {
                signal(&victim, "TERM").await;
            }
            told(victim).await;
        }
    }
    writing.await.unwrap();
    start_all(&live, &mut running);
    catches_up(&live).await;
    for child in running.into_iter().flatten() {
        signal(&child, "TERM").await;
        told(child).await;
    }
    assert_equal(&live).await;
    println!("seed {seed}: {changes} writes, {kills} kills");
}
