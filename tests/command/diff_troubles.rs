//! `highwater diff` in trouble: other endpoints, tables that change, faults, signals, and what cannot be compared.

use std::path::PathBuf;

use highwater_domain::key::ScalarType;
use highwater_domain::object_store::NewObject;
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::clients;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use serde_json::{Value, json};

use super::diffs::{COPY, ITEMS, different, equal, items, listed, pairs, two_sides};
use super::loads::{FROM, dyndump_layout, lines};
use super::restore_lines::gzip;
use super::restores::backed_up;
use super::restoring::file;
use super::stage::{Stage, TABLE, TO, signal, told, until};
use super::told::Told;

#[tokio::test(flavor = "multi_thread")]
async fn each_side_may_have_an_endpoint_of_its_own() {
    let stage = Stage::start().await;
    stage.fill(TABLE, &items(), 50).await;
    let elsewhere = EmbeddedDynamoDb::start().await.unwrap();
    let url = elsewhere.endpoint_url();
    let there = clients::dynamodb(url);
    NewTable::new(TABLE, KeyShape::STRING)
        .create(&there)
        .await
        .unwrap();
    let all: Vec<Vec<u8>> = items().items(51).map(|item| item.json()).collect();
    elsewhere.import(TABLE, all[..50].to_vec()).await.unwrap();
    equal(&stage, &[TABLE, TABLE, "--b-endpoint-url", url]).await;
    let asked = stage.requests();
    let both = ["--a-endpoint-url", url, "--b-endpoint-url", url];
    equal(&stage, &[&[TABLE, TABLE], &both[..]].concat()).await;
    assert_eq!(stage.requests(), asked, "the common endpoint was not asked");

    elsewhere.import(TABLE, all[50..].to_vec()).await.unwrap();
    let new: Value = serde_json::from_slice(&all[50]).unwrap();
    let new = new["pk"]["S"].as_str().unwrap();
    let document = different(&stage, &[TABLE, TABLE, "--b-endpoint-url", url]).await;
    assert_eq!(listed(&document), pairs(&[(new, "only-in-b")]));
    let document = different(&stage, &[TABLE, TABLE, "--a-endpoint-url", url]).await;
    assert_eq!(listed(&document), pairs(&[(new, "only-in-a")]));
}

/// The write comes after the first look at both tables and before the second.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_written_to_between_the_passes_is_told_of() {
    let stage = Stage::start().await;
    two_sides(&stage).await;
    let held = Fault::Delay(1500);
    for nth in [3, 4] {
        stage.dynamodb_proxy.inject(Rule::nth(held, nth).on("Scan"));
    }
    let child = stage.spawn(&["diff", TABLE, COPY, "--segments", "1", "--json"]);
    until("the second pass begins", async || {
        (stage.dynamodb_proxy.count(held) > 0).then_some(())
    })
    .await;
    let late = json!({"pk": {"S": "late"}}).to_string().into_bytes();
    stage.dynamodb.import(COPY, vec![late]).await.unwrap();
    let told = told(child).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    let changed = json!([{"side": "b", "items_before": 67, "items_after": 68}]);
    assert_eq!(told.json()["changed"], changed);
    // In the first look the new key's bucket was equal, as good as surely.
    assert!(told.json()["keys"].as_u64().unwrap() >= 6, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_and_faults_at_one_request_in_ten_change_nothing() {
    let stage = Stage::seeded(5).await;
    stage.fill(TABLE, &items(), ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let mut late = Vec::new();
    for n in 0..3 {
        let item = json!({"pk": {"S": format!("late-{n}")}});
        late.push(item.to_string().into_bytes());
    }
    stage.dynamodb.import(TABLE, late).await.unwrap();
    let faults = [
        Fault::Throttle,
        Fault::ServerError,
        Fault::DropRequest,
        Fault::TruncateAnswer,
        Fault::CorruptAnswer,
    ];
    for fault in faults {
        let rule = || Rule::rate(fault, 0.1);
        stage.dynamodb_proxy.inject(rule().on("Scan"));
        stage.dynamodb_proxy.inject(rule().on("DescribeTable"));
        stage.s3_proxy.inject(rule().on("ListObjectsV2"));
        stage.s3_proxy.inject(rule().on("HeadObject"));
        // A file that is damaged on its way cannot be told from one that is damaged where it is.
        if fault != Fault::CorruptAnswer {
            stage.s3_proxy.inject(rule().on("GetObject"));
        }
    }
    let document = different(&stage, &[&id, TABLE, "--from", TO, "--segments", "40"]).await;
    let expected = pairs(&[
        ("late-0", "only-in-b"),
        ("late-1", "only-in-b"),
        ("late-2", "only-in-b"),
    ]);
    assert_eq!(listed(&document), expected);
    assert_eq!(
        (&document["a"]["items"], &document["changed"]),
        (&json!(ITEMS), &json!([]))
    );
    let struck = |fault| stage.dynamodb_proxy.count(fault) + stage.s3_proxy.count(fault);
    for fault in faults {
        assert!(struck(fault) > 1, "{fault:?}");
    }
}

async fn stopped(name: &str, code: i32) {
    let stage = Stage::start().await;
    two_sides(&stage).await;
    let held = Fault::Delay(3_600_000);
    stage.dynamodb_proxy.inject(Rule::nth(held, 4).on("Scan"));
    let child = stage.spawn(&["diff", TABLE, COPY, "--segments", "1"]);
    until("a scan hangs", async || {
        (stage.dynamodb_proxy.count(held) > 0).then_some(())
    })
    .await;
    signal(&child, name).await;
    told(child)
        .await
        .failed(code, &[&format!("stopped by SIG{name}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_a_comparison() {
    tokio::join!(stopped("INT", 130), stopped("TERM", 143));
}

/// An incremental export: one item that was put, one that was deleted.
pub fn incremental_export(stage: &Stage) -> PathBuf {
    let root = "exports/AWSDynamoDB/01768385930622-efd1a093";
    let summary = json!({
        "version": "2023-08-01",
        "exportType": "INCREMENTAL_EXPORT",
        "outputFormat": "DYNAMODB_JSON",
        "manifestFilesS3Key": format!("{root}/manifest-files.json"),
        "itemCount": 2,
    });
    let data = "AWSDynamoDB/data/ifawbqgt4y5nvllr4oy6qfcfli.json.gz";
    let files = json!({"itemCount": 2, "dataFileS3Key": format!("exports/{data}")});
    let change = |key: &str| json!({"Metadata": {"WriteTimestampMicros": {"N": "1680109764000000"}}, "Keys": {"pk": {"S": key}}});
    let mut put = change("a");
    put["NewImage"] = json!({"pk": {"S": "a"}, "n": {"N": "1"}});
    let lines = format!("{put}\n{}\n", change("b"));
    file(stage, &format!("exports/{data}"), &gzip(lines.as_bytes()));
    file(
        stage,
        &format!("{root}/manifest-files.json"),
        format!("{files}\n").as_bytes(),
    );
    let summary = summary.to_string();
    let summary = file(
        stage,
        &format!("{root}/manifest-summary.json"),
        summary.as_bytes(),
    );
    summary.parent().unwrap().to_owned()
}

/// A diff that is refused.
async fn refused(stage: &Stage, sides: &[&str], code: i32, words: &[&str]) -> Told {
    let told = stage.run(&[&["diff"], sides].concat()).await;
    told.failed(code, words)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_comparable_is_refused_with_a_way_out() {
    let stage = Stage::with_items(3).await;
    let by_number = KeyShape {
        partition: ScalarType::N,
        sort: None,
    };
    let numbered = Generator::small(3, by_number);
    stage.fill("by-number", &numbered, 5).await;
    let export = incremental_export(&stage);
    let bare = file(&stage, "bare.json", b"{\"pk\":{\"S\":\"x\"}}\n");
    let keyless = b"{\"pk\":{\"S\":\"x\"}}\n\n{\"x\":{\"S\":\"x\"}}\n";
    let keyless = file(&stage, "keyless.json", keyless);
    let [export, bare, keyless] = [&export, &bare, &keyless].map(|path| path.to_str().unwrap());
    let unknown = "01768385930622-0000abcd";
    let nothing = "s3://backups/nothing";
    let hinted: [(&[&str], &[&str], &str); 4] = [
        (&[TABLE, "missing"], &["missing"], "list-tables"),
        (
            &[unknown, TABLE, "--from", TO],
            &[unknown, TO],
            "highwater list",
        ),
        (&[nothing, TABLE], &[nothing], "highwater list"),
        (
            &[TABLE, "s3://no-such-bucket/x"],
            &["no-such-bucket"],
            "create the bucket",
        ),
    ];
    for (sides, words, hint) in hinted {
        refused(&stage, sides, 1, words).await.hinted(hint);
    }
    refused(
        &stage,
        &[keyless, TABLE],
        1,
        &["keyless.json", "line 2", "pk"],
    )
    .await;
    let usage: [(&[&str], &[&str]); 6] = [
        (&[TABLE, unknown], &[unknown, "--from"]),
        (&[export, TABLE], &["incremental export", "restore it"]),
        (
            &[TABLE, "by-number"],
            &["table orders has the key pk:S", "table by-number has pk:N"],
        ),
        (
            &[bare, keyless],
            &["primary key", "--key id:S", bare, keyless],
        ),
        (
            &[bare, TABLE, "--key", "pk:N"],
            &["--key", "pk:N", "table orders"],
        ),
        (&["-", "-"], &["standard input"]),
    ];
    for (sides, words) in usage {
        refused(&stage, sides, 2, words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_damaged_or_not_whole_is_refused_by_name() {
    let stage = Stage::with_items(ITEMS).await;
    let id = backed_up(&stage, TO).await;
    let keys = stage.keys().await;
    let key = keys.iter().find(|key| key.contains("/data/")).unwrap();
    let mut body = stage.bucket().read(key).await.unwrap().unwrap().to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 4;
    let object = NewObject {
        key: key.clone(),
        body: body.into(),
        content_type: "application/json",
        ..NewObject::default()
    };
    stage.bucket().replace(object).await.unwrap();
    let part = key.rsplit('/').next().unwrap();
    let url = format!("{TO}/{TABLE}/AWSDynamoDB/{id}");
    for sides in [[&url, TABLE], [TABLE, &url]] {
        let told = refused(&stage, &sides, 1, &[part]).await;
        told.hinted("do not restore from it");
    }
    dyndump_layout(&stage, "running", 3, &[lines(3)]).await;
    let told = refused(&stage, &[FROM, TABLE], 1, &["running", FROM]).await;
    told.hinted("--allow-incomplete");
    different(&stage, &[FROM, TABLE, "--allow-incomplete"]).await;
}
