//! `highwater status`: how tables stand, from the bucket, with the positions where they can be read.

use super::live_stage::{LiveStage, ROLLING, follow};
use super::stage::{TABLE, TO};

async fn follow_until_idle(live: &LiveStage) {
    live.stage.run(&follow(&["--until-idle"])).await.done();
}

async fn back_up(live: &LiveStage, more: &[&str]) {
    let backup = ["backup", TABLE, "--to", TO, "--settle-seconds", "0"];
    live.stage.run(&[&backup[..], more].concat()).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_during_and_after() {
    let live = LiveStage::bare(ROLLING, 1).await;
    live.table_with_view(TABLE, None).await;
    live.writer("a", 1).write(50).await;
    back_up(&live, &[]).await;
    let place = format!("{TO}/{TABLE}");
    let told = live.stage.run(&["status", &place]).await.done();
    assert!(told.stdout.contains("no change log"), "{told:#?}");
    assert!(
        told.stdout
            .contains("it can be restored as it is, and to no second"),
        "{told:#?}"
    );

    back_up(&live, &["--with-stream"]).await;
    let told = live.stage.run(&["status", &place]).await.done();
    assert!(
        told.stdout.contains("live changes take over in stream"),
        "{told:#?}"
    );
    assert!(told.stdout.contains("NEW_AND_OLD_IMAGES"), "{told:#?}");

    live.writer("a", 2).write(350).await;
    follow_until_idle(&live).await;
    let told = live.stage.run(&["status", &place]).await.done();
    for words in [
        "complete up to here: assumed",
        "0 processes read",
        "furthest behind is shardId-",
    ] {
        assert!(told.stdout.contains(words), "{words}: {told:#?}");
    }
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(
        lines[0].starts_with("orders  s3://backups/daily/orders"),
        "{told:#?}"
    );
    let stamps: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("  20")?.get(..18))
        .collect();
    assert!(
        stamps.len() >= 4 && stamps.is_sorted(),
        "the newest is last: {told:#?}"
    );

    json_has_it_all(&live, &place).await;
}

async fn json_has_it_all(live: &LiveStage, place: &str) {
    let json = live
        .stage
        .run(&["status", place, "--json"])
        .await
        .done()
        .json();
    let table = &json["tables"][0];
    assert_eq!(json["needs_a_person"], false, "{json}");
    assert_eq!(table["url"], "s3://backups/daily/orders", "{json}");
    assert_eq!(
        table["without_positions"],
        serde_json::Value::Null,
        "{json}"
    );
    assert_eq!(
        table["snapshots"].as_array().map(Vec::len),
        Some(2),
        "{json}"
    );
    let stream = &table["generations"][0];
    let mark = live.mark().await.unwrap();
    assert_eq!(
        stream["mark"],
        serde_json::to_value(mark).unwrap(),
        "{json}"
    );
    assert!(stream["open_shards"].as_u64() > Some(0), "{json}");
    assert!(stream["ended_shards"].as_u64() > Some(0), "{json}");
}

/// The bucket is enough: the mark is known, the positions of this moment are not.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_control_table_the_bucket_tells_the_mark() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 1).write(150).await;
    follow_until_idle(&live).await;
    let place = format!("{TO}/{TABLE}");
    let status = ["status", &place, "--control-table", "not-there", "--json"];
    let json = live.stage.run(&status).await.done().json();
    let table = &json["tables"][0];
    let reason = table["without_positions"].as_str().unwrap_or_default();
    assert!(reason.contains("not-there"), "{json}");
    let mark = live.mark().await.unwrap();
    assert_eq!(
        table["generations"][0]["mark"],
        serde_json::to_value(mark).unwrap(),
        "{json}"
    );
    assert!(
        !live.stage.tables().await.iter().any(|it| it == "not-there"),
        "it is not made"
    );
    let told = live.stage.run(&status[..4]).await.done();
    assert!(
        told.stdout.contains("now: positions are not known"),
        "{told:#?}"
    );
    assert!(told.stdout.contains("complete up to here"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_in_the_timeline_and_needs_a_person_until_it_is_healed() {
    let live = LiveStage::start(ROLLING).await;
    let mut writer = live.writer("a", 1);
    writer.write(60).await;
    follow_until_idle(&live).await;
    writer.write(100).await;
    live.stage.dynamodb.trim_streams();
    follow_until_idle(&live).await;
    let place = format!("{TO}/{TABLE}");
    let told = live.stage.run(&["status", &place]).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    assert!(told.stdout.contains("NOT HEALED"), "{told:#?}");
    assert!(told.stdout.contains("needs a person: "), "{told:#?}");
    assert!(told.error().contains("needs a person"), "{told:#?}");
    let json = live.stage.run(&["status", &place, "--json"]).await;
    assert_eq!(json.code, Some(3), "{json:#?}");
    assert_eq!(json.json()["needs_a_person"], true);
    assert!(
        json.json()["why"][0]
            .as_str()
            .unwrap()
            .starts_with("orders: "),
        "{json:#?}"
    );

    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    back_up(&live, &["--with-stream"]).await;
    follow_until_idle(&live).await;
    let told = live.stage.run(&["status", &place]).await.done();
    assert!(
        told.stdout.contains("healed by a newer backup"),
        "{told:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_named_in_the_ways_that_people_name_them() {
    let live = LiveStage::start(ROLLING).await;
    live.writer("a", 1).write(20).await;
    back_up(&live, &[]).await;
    live.table_with_view("other", None).await;
    live.stage
        .run(&["backup", "other", "--to", TO])
        .await
        .done();
    let tables = async |arguments: &[&str]| {
        let arguments = [&["status", "--json"], arguments].concat();
        let json = live.stage.run(&arguments).await.done().json();
        let tables = json["tables"].as_array().unwrap().iter();
        tables
            .map(|it| it["table"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(tables(&[TO]).await, ["orders", "other"]);
    assert_eq!(tables(&["--from", TO]).await, ["orders", "other"]);
    assert_eq!(tables(&["other", "--from", TO]).await, ["other"]);
    assert_eq!(
        tables(&["other", "orders", "orders", "--from", TO]).await,
        ["other", "orders"]
    );
    assert_eq!(tables(&["s3://backups/daily/orders/"]).await, ["orders"]);
    let folder = live.stage.folder.path().join("s3/backups/daily");
    assert_eq!(
        tables(&[&format!("file://{}", folder.display())]).await,
        ["orders", "other"]
    );
    assert_eq!(
        tables(&[&folder.join("other").display().to_string()]).await,
        ["other"]
    );

    let told = live.stage.run(&["status", "s3://backups/nothing"]).await;
    told.failed(1, &["there is no backup at s3://backups/nothing"])
        .hinted("highwater list");
    let told = live.stage.run(&["status", "orders"]).await;
    told.failed(2, &["orders is a table's name", "--from"]);
    let told = live.stage.run(&["status"]).await;
    assert_eq!(told.code, Some(2), "{told:#?}");
}
