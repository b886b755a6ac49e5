//! `highwater diff`: equal is equal in every spelling and place, and every key that differs is told, no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::respell::respelled;
use highwater_testkit::tables::NewTable;
use serde_json::{Value, json};

use super::restore_lines::gzip;
use super::restores::backed_up;
use super::restoring::{file, files_below};
use super::stage::{Stage, TABLE, TO};

pub const COPY: &str = "orders-copy";
pub const ITEMS: u64 = 240;

/// Items of every type.
pub fn items() -> Generator {
    Generator::new(11, KeyShape::STRING)
}

/// The same items with everything spelled differently that may be.
fn other_spelling(seed: u64) -> Vec<Vec<u8>> {
    (0..ITEMS)
        .map(|index| respelled(&items().attributes(index), seed + index))
        .collect()
}

fn lines(items: &[Vec<u8>]) -> Vec<u8> {
    items.iter().fold(Vec::new(), |mut text, item| {
        text.extend_from_slice(item);
        text.push(b'\n');
        text
    })
}

async fn filled(stage: &Stage, table: &str, items: &[Value]) {
    let new = NewTable::new(table, KeyShape::STRING);
    new.create(&stage.direct).await.unwrap();
    let items = items.iter().map(|item| item.to_string().into_bytes());
    stage.dynamodb.import(table, items.collect()).await.unwrap();
}

/// A diff that must find no difference; gives its document.
pub async fn equal(stage: &Stage, arguments: &[&str]) -> Value {
    let told = stage
        .run(&[&["diff"], arguments, &["--json"]].concat())
        .await;
    let document = told.done().json();
    assert_eq!(document["equal"], true, "{arguments:?}: {document}");
    assert_eq!(document["keys"], 0, "{document}");
    assert_eq!(document["a"]["items"], document["b"]["items"], "{document}");
    document
}

/// A diff that must find the sides different; gives its document, whose counts are those of its list.
pub async fn different(stage: &Stage, arguments: &[&str]) -> Value {
    let told = stage
        .run(&[&["diff"], arguments, &["--json"]].concat())
        .await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    let error: Value = serde_json::from_str(told.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(error["error"], "Different", "{told:#?}");
    let document = told.json();
    assert_eq!(document["equal"], false, "{document}");
    document
}

/// What is listed: keys of a string attribute `pk`, with their kinds.
pub fn listed(document: &Value) -> BTreeSet<(String, String)> {
    let differences = document["differences"].as_array().unwrap();
    let one = |difference: &Value| {
        let key = difference["key"].as_object().unwrap();
        assert_eq!(key.keys().collect::<Vec<_>>(), ["pk"], "the key, whole");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&key["pk"]["S"]), text(&difference["kind"]))
    };
    let set: BTreeSet<_> = differences.iter().map(one).collect();
    assert_eq!(set.len(), differences.len(), "a key is listed twice");
    set
}

pub fn pairs(expected: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let owned = |(key, kind): &(&str, &str)| ((*key).to_owned(), (*kind).to_owned());
    expected.iter().map(owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_backups_and_lines_of_the_same_items_are_equal_in_every_spelling() {
    let stage = Stage::start().await;
    stage.fill(TABLE, &items(), ITEMS).await;
    let new = NewTable::new(COPY, KeyShape::STRING);
    new.create(&stage.direct).await.unwrap();
    let imported = stage.dynamodb.import(COPY, other_spelling(5)).await;
    assert_eq!(imported.unwrap() as u64, ITEMS);

    let id = backed_up(&stage, TO).await;
    let in_s3 = format!("{TO}/{TABLE}/AWSDynamoDB/{id}");
    let folder = format!("file://{}", stage.folder.path().join("folder").display());
    let local = backed_up(&stage, &folder).await;
    let in_folder = format!("{folder}/{TABLE}/AWSDynamoDB/{local}");
    let dumped = "s3://backups/dumps/orders";
    let dump = ["dump", COPY, "--to", dumped, "--part-size", "9000"];
    stage.run(&dump).await.done();
    let packed = file(&stage, "lines.json.gz", &gzip(&lines(&other_spelling(99))));
    let packed = packed.to_str().unwrap();

    for sides in [
        &[TABLE, COPY][..],
        &[&id, TABLE, "--from", TO],
        &[COPY, &id, "--from", TO, "--segments", "7", "--eventual"],
        &[COPY, &in_s3],
        &[&in_folder, COPY],
        &[&in_s3, &in_folder, "-p", "1"],
        &[dumped, packed, "--key", "pk:S"],
        &[packed, TABLE],
        &[dumped, &id, "--from", TO, "--limit", "0"],
    ] {
        let document = equal(&stage, sides).await;
        assert_eq!(document["a"]["items"], ITEMS, "{sides:?}");
    }
    let told = stage.run(&["diff", TABLE, packed]).await.done();
    assert!(
        told.stdout.contains("\nequal: both have the same items\n"),
        "{told:#?}"
    );
    let mut command = stage.command(&["diff", TABLE, "-"]);
    command.stdin(std::fs::File::open(packed).unwrap());
    super::stage::finish(command).await.done();
}

/// One table of each difference, and of two that are none.
pub async fn two_sides(stage: &Stage) {
    let item = |key: &str, more: Value| {
        let mut item = json!({"pk": {"S": key}});
        let members = more.as_object().unwrap().clone();
        item.as_object_mut().unwrap().extend(members);
        item
    };
    let common = (0..60).map(|n| item(&format!("same-{n}"), json!({"n": {"N": n.to_string()}})));
    let common: Vec<Value> = common.collect();
    let a = [
        item("spelled", json!({"n": {"N": "1"}, "big": {"N": "1200"}})),
        item(
            "set",
            json!({"s": {"SS": ["x", "y"]}, "n": {"NS": ["1", "2"]}, "b": {"BS": ["AA==", "AQ=="]}}),
        ),
        item("changed", json!({"n": {"N": "1"}})),
        item("type", json!({"n": {"N": "1"}})),
        item("more", json!({"n": {"N": "1"}})),
        item("order", json!({"l": {"L": [{"S": "x"}, {"S": "y"}]}})),
        item("only a \"<é>", json!({})),
    ];
    let b = [
        item(
            "spelled",
            json!({"n": {"N": "1.0"}, "big": {"N": "1.2E+3"}}),
        ),
        item(
            "set",
            json!({"s": {"SS": ["y", "x"]}, "n": {"NS": ["2.0", "1"]}, "b": {"BS": ["AQ==", "AA=="]}}),
        ),
        item("changed", json!({"n": {"N": "1.0000000001"}})),
        item("type", json!({"n": {"S": "1"}})),
        item("more", json!({"n": {"N": "1"}, "m": {"NULL": true}})),
        item("order", json!({"l": {"L": [{"S": "y"}, {"S": "x"}]}})),
        item("only b", json!({})),
    ];
    filled(stage, TABLE, &[&common[..], &a].concat()).await;
    filled(stage, COPY, &[&common[..], &b].concat()).await;
}

/// The document's shape is an interface.
fn assert_shape(mut document: Value) {
    assert!(document["seconds"].as_f64().unwrap() > 0.0, "{document}");
    assert!(document["read_units"].as_f64().unwrap() > 0.0, "{document}");
    assert!(
        document["a"]["bytes"].as_u64().unwrap() > 1000,
        "{document}"
    );
    for difference in document["differences"].as_array_mut().unwrap() {
        let (a, b) = match difference["kind"].as_str().unwrap() {
            "only-in-a" => (1, 0),
            "only-in-b" => (0, 1),
            _ => (1, 1),
        };
        let difference = difference.as_object_mut().unwrap();
        let members: Vec<&String> = difference.keys().collect();
        assert_eq!(members, ["in_a", "in_b", "key", "kind"]);
        assert_eq!(
            (&difference["in_a"], &difference["in_b"]),
            (&json!(a), &json!(b))
        );
    }
    for (of, member) in [
        ("/seconds", json!(0)),
        ("/read_units", json!(0)),
        ("/a/bytes", json!(0)),
        ("/b/bytes", json!(0)),
        ("/differences", json!([])),
    ] {
        *document.pointer_mut(of).unwrap() = member;
    }
    let shape = json!({
        "equal": false,
        "a": {"name": "table orders", "items": 67, "bytes": 0},
        "b": {"name": "table orders-copy", "items": 67, "bytes": 0},
        "keys": 6,
        "counts": {"only_in_a": 1, "only_in_b": 1, "differs": 4, "duplicated": 0},
        "differences": [],
        "changed": [],
        "read_units": 0,
        "seconds": 0,
    });
    assert_eq!(document, shape);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_keys_that_differ_are_listed_with_how() {
    let stage = Stage::start().await;
    two_sides(&stage).await;
    let id = backed_up(&stage, TO).await;
    let expected = pairs(&[
        ("changed", "differs"),
        ("type", "differs"),
        ("more", "differs"),
        ("order", "differs"),
        ("only a \"<é>", "only-in-a"),
        ("only b", "only-in-b"),
    ]);
    let document = different(&stage, &[TABLE, COPY]).await;
    assert_eq!(listed(&document), expected);
    let of_backup = different(&stage, &[&id, COPY, "--from", TO]).await;
    assert_eq!(listed(&of_backup), expected);
    assert_shape(document);

    let told = stage.run(&["diff", TABLE, COPY]).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    assert_eq!(told.stdout.matches('{').count(), 12, "six keys: {told:#?}");
    for line in [
        r#"~ {"pk":{"S":"changed"}}  other attributes"#,
        r#"+ {"pk":{"S":"only b"}}  only in B"#,
        r#"- {"pk":{"S":"only a \"<é>"}}  only in A"#,
        "different in 6 keys: 1 only in A, 1 only in B, 4 with other attributes",
    ] {
        assert!(
            told.stdout.lines().any(|it| it == line),
            "{line}: {told:#?}"
        );
    }
    assert!(told.error().contains("different in 6 keys"), "{told:#?}");
}

/// How key `n` differs between 0…1499 with 7 three times, and 250…1649.
fn kind_of(n: u32) -> &'static str {
    match n {
        7 => "duplicated",
        0..250 => "only-in-a",
        1500..1650 => "only-in-b",
        _ => panic!("{n} does not differ"),
    }
}

/// A key that lines have twice is in no table; all that differ are counted, however few are listed.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_differ_are_counted_and_no_more_than_the_limit_listed() {
    let stage = Stage::start().await;
    let write = |name: &str, keys: &[u32]| -> PathBuf {
        let line = |n: &u32| format!("{{\"Item\":{{\"pk\":{{\"S\":\"k{n}\"}}}}}}\n");
        file(
            &stage,
            name,
            keys.iter().map(line).collect::<String>().as_bytes(),
        )
    };
    let a: Vec<u32> = (0..1500).chain([7, 7]).collect();
    let b: Vec<u32> = (250..1650).collect();
    let (a, b) = (write("a.json", &a), write("b.json", &b));
    let temp = stage.folder.path().join("temp");
    std::fs::create_dir(&temp).unwrap();
    let sides = [
        a.to_str().unwrap(),
        b.to_str().unwrap(),
        "--key",
        "pk:S",
        "--temp-dir",
        temp.to_str().unwrap(),
    ];
    for (limit, expected) in [
        (None, 100),
        (Some("0"), 0),
        (Some("7"), 7),
        (Some("1000000"), 400),
    ] {
        let more: &[&str] = &limit.map_or(vec![], |limit| vec!["--limit", limit]);
        let document = different(&stage, &[&sides[..], more].concat()).await;
        assert_eq!(
            document["counts"],
            json!({"only_in_a": 249, "only_in_b": 150, "differs": 0, "duplicated": 1}),
            "{limit:?}"
        );
        assert_eq!(document["keys"], 400);
        let listed = listed(&document);
        assert_eq!(listed.len(), expected, "{limit:?}");
        for (key, kind) in &listed {
            assert_eq!(kind, kind_of(key[1..].parse().unwrap()), "{key}");
        }
    }
    let told = stage
        .run(&[&["diff"], &sides[..], &["--limit=7"]].concat())
        .await;
    assert!(
        told.stdout.contains("… and 393 more keys (--limit)\n"),
        "{told:#?}"
    );
    assert_eq!(
        files_below(&temp),
        [""; 0].map(Path::new),
        "nothing is left"
    );
}
