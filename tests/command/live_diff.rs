//! `highwater diff --live`: a replica that is followed under writes is equal; one that somebody has written to is not, and is mended.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::live_stage::{LiveStage, ROLLING, follow};
use super::stage::{TABLE, TO, signal, told};

const COPY: &str = "orders-copy";

/// `diff --live` with further flags.
fn diff<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["diff", TABLE, COPY, "--live", "--json", "--patience", "60s"];
    line.extend(more);
    line
}

async fn replicate(live: &LiveStage, more: &[&str]) {
    let mut words = vec![
        "replicate",
        TABLE,
        "--to",
        COPY,
        "--from",
        TO,
        "--local-engine",
        "--lease",
        "1500ms",
        "--until-idle",
    ];
    words.extend(more);
    live.stage.run(&words).await.done();
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Writes one key after the other, and deletes some of them again, until it is dropped.
async fn traffic(client: aws_sdk_dynamodb::Client) {
    for n in 0_u64.. {
        let key = format!("traffic-{n:06}");
        let put = client.put_item().table_name(TABLE).item("pk", text(key));
        put.item("value", text("x")).send().await.unwrap();
        if n % 4 == 0 {
            let delete = client.delete_item().table_name(TABLE);
            let key = format!("traffic-{:06}", n / 2);
            delete.key("pk", text(key)).send().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Changes the replica behind its back: two items, one of which goes.
async fn plant(live: &LiveStage) {
    let direct = &live.stage.direct;
    let put = direct
        .put_item()
        .table_name(COPY)
        .item("pk", text("quiet-1"));
    put.item("value", text("planted")).send().await.unwrap();
    let delete = direct.delete_item().table_name(COPY);
    delete.key("pk", text("quiet-2")).send().await.unwrap();
}

async fn copied(live: &LiveStage, key: &str) -> Option<AttributeValue> {
    let get = live.stage.direct.get_item().table_name(COPY);
    let found = get.key("pk", text(key)).consistent_read(true).send().await;
    found.unwrap().item?.remove("value")
}

async fn quiet_items(live: &LiveStage) {
    for n in 0..40 {
        let put = live.stage.direct.put_item().table_name(TABLE);
        let put = put.item("pk", text(format!("quiet-{n}")));
        put.item("value", text("as it is")).send().await.unwrap();
    }
}

/// The keys that have gone wrong, and what was done about them.
fn diverged(report: &Value) -> Vec<(&str, &Value)> {
    let found = report["diverged"].as_array().unwrap().iter();
    found
        .map(|it| (it["key"]["pk"]["S"].as_str().unwrap(), &it["repair"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_writes_a_replica_is_equal_until_somebody_else_writes_to_it() {
    let live = LiveStage::start(ROLLING).await;
    quiet_items(&live).await;
    replicate(&live, &[]).await;
    let feeding = live.stage.spawn(&follow(&["--apply"]));
    let writing = tokio::spawn(traffic(live.stage.direct.clone()));

    let equal = live.stage.run(&diff(&[])).await.done().json();
    assert_eq!(equal["equal"], true, "{equal}");
    assert!(equal["read_units"].as_f64() > Some(1.0), "{equal}");
    assert!(equal["equal_at"].as_u64().is_some(), "{equal}");

    plant(&live).await;
    let seen = live.stage.run(&diff(&[])).await;
    assert_eq!(seen.code, Some(3), "{seen:#?}");
    let report = seen.json();
    let untouched = &Value::Null;
    assert_eq!(
        diverged(&report),
        [("quiet-1", untouched), ("quiet-2", untouched)]
    );
    assert_eq!(report["diverged"][1]["in_replica"], false, "{report}");
    assert!(seen.stderr.contains("gone wrong in 2 keys"), "{seen:#?}");
    assert!(seen.stderr.contains("--repair"), "the way out: {seen:#?}");

    let shown = live.stage.run(&diff(&["--repair", "--dry-run"])).await;
    assert_eq!(shown.code, Some(3), "{shown:#?}");
    let would = &json!("would-put");
    assert_eq!(
        diverged(&shown.json()),
        [("quiet-1", would), ("quiet-2", would)]
    );
    assert_eq!(copied(&live, "quiet-1").await, Some(text("planted")));

    let mended = live.stage.run(&diff(&["--repair"])).await.done().json();
    let done = &json!("done");
    assert_eq!(diverged(&mended), [("quiet-1", done), ("quiet-2", done)]);
    for key in ["quiet-1", "quiet-2"] {
        assert_eq!(copied(&live, key).await, Some(text("as it is")), "{key}");
    }
    let equal = live.stage.run(&diff(&[])).await.done().json();
    assert_eq!(equal["diverged"], json!([]), "{equal}");
    writing.abort();
    signal(&feeding, "TERM").await;
    told(feeding).await;
}

/// Nothing is written any more, and nobody feeds: equal tables are equal, and of others nothing is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_nobody_feeds_is_judged_only_where_it_is_equal() {
    let live = LiveStage::start(ROLLING).await;
    quiet_items(&live).await;
    replicate(&live, &["--fence", "attribute"]).await;
    let equal = live.stage.run(&diff(&[])).await.done().json();
    assert_eq!(
        (&equal["suspects"], &equal["waited_for"]),
        (&json!(0), &Value::Null)
    );
    plant(&live).await;
    let words = ["diff", TABLE, COPY, "--live", "--patience", "2s"];
    let seen = live.stage.run(&words).await;
    assert_eq!(seen.code, Some(4), "{seen:#?}");
    assert!(seen.error().contains("not decided in 2 keys"), "{seen:#?}");
    seen.hinted("highwater status");
    assert!(seen.stdout.contains("undecided 2"), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_live_is_refused_with_the_way_out() {
    let live = LiveStage::start(ROLLING).await;
    quiet_items(&live).await;
    let refused = async |line: &[&str], code: i32, words: &[&str]| {
        live.stage.run(line).await.failed(code, words);
    };
    refused(
        &["diff", TABLE, COPY, "--live"],
        2,
        &[COPY, "no replica of"],
    )
    .await;
    refused(&["diff", TABLE, "./x.json", "--live"], 2, &["two tables"]).await;
    refused(&["diff", TABLE, COPY, "--repair"], 2, &["--live"]).await;
    refused(
        &["diff", TABLE, COPY, "--live", "--dry-run"],
        2,
        &["--repair"],
    )
    .await;
    refused(
        &["diff", TABLE, COPY, "--live", "--eventual"],
        2,
        &["--eventual"],
    )
    .await;
    let elsewhere = ["diff", TABLE, COPY, "--live", "--b-region", "eu-west-1"];
    refused(&elsewhere, 2, &["as its record says"]).await;
    replicate(&live, &[]).await;
    let promote = ["promote", TABLE, "--to", COPY, "--as-it-is"];
    live.stage.run(&promote).await.done();
    let over = live.stage.run(&["diff", TABLE, COPY, "--live"]).await;
    over.hinted("highwater replicate");
    over.failed(1, &["phase promoted"]);
}
