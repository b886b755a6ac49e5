//! Items at the limits of DynamoDB, through a lines file and through a backup.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use highwater_domain::key::{KeySchema, ScalarType};
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{KeyShape, canonical};
use highwater_testkit::tables::NewTable;
use serde_json::{Value, json};

use super::read_back::{Items, assert_same, table_items};
use super::restoring::{TARGET, done, file, restore_lines, total};
use super::stage::{Stage, TABLE, TO};

const MAX_ITEM: usize = 409_600;

fn key(partition: ScalarType, sort: Option<ScalarType>) -> (KeySchema, String) {
    let schema = KeyShape { partition, sort }.schema();
    let names = schema
        .attributes()
        .map(|it| format!("{}:{:?}", it.name, it.scalar_type));
    let names = names.collect::<Vec<_>>().join(",");
    (schema, names)
}

fn lines(items: &[Value]) -> Vec<u8> {
    let lines = items
        .iter()
        .map(|item| format!("{}\n", json!({"Item": item})));
    lines.collect::<String>().into_bytes()
}

fn by_key(items: &[Value], schema: &KeySchema) -> Items {
    let keyed = items.iter().map(|item| {
        let item = item.to_string().into_bytes();
        (schema.key_of(&item).unwrap(), canonical(&item))
    });
    keyed.collect()
}

/// Lines into a new table, that table into a backup, the backup into another one: equal in meaning each time.
async fn there_and_back(schema: &KeySchema, key: &str, items: &[Value]) {
    let stage = Stage::start().await;
    let file = file(&stage, "lines.json", &lines(items));
    let loaded = done(&stage, &restore_lines(&file, key, &[])).await;
    assert_eq!(total(&loaded, "written"), items.len() as u64, "{loaded}");
    let expected = by_key(items, schema);
    assert_eq!(expected.len(), items.len(), "every item has its own key");
    assert_same(&table_items(&stage, TARGET, schema).await, &expected);

    let backup = [
        "backup",
        TARGET,
        "--to",
        TO,
        "--segments",
        "2",
        "--part-size",
        "64KiB",
        "--json",
    ];
    let backup = stage.run(&backup).await.done().json();
    let id = backup["snapshot_id"].as_str().unwrap();
    let begin = ["restore", id, "--from", TO, "--to", TABLE];
    let restored = done(&stage, &begin).await;
    assert_eq!(
        total(&restored, "written"),
        items.len() as u64,
        "{restored}"
    );
    assert_same(&table_items(&stage, TABLE, schema).await, &expected);
    // The same into a table that is there, item by item.
    NewTable::new("third", shape(schema))
        .create(&stage.direct)
        .await
        .unwrap();
    let begin = [
        "restore",
        id,
        "--from",
        TO,
        "--to",
        "third",
        "--into-existing",
    ];
    let restored = done(&stage, &begin).await;
    assert_eq!(
        total(&restored, "written"),
        items.len() as u64,
        "{restored}"
    );
    assert_same(&table_items(&stage, "third", schema).await, &expected);
}

fn shape(schema: &KeySchema) -> KeyShape {
    KeyShape {
        partition: schema.partition.scalar_type,
        sort: schema.sort.as_ref().map(|sort| sort.scalar_type),
    }
}

/// Exactly the most that an item may have, as DynamoDB counts it: names and values in UTF-8.
fn of_max_size(id: &str, with: char) -> Value {
    let room = MAX_ITEM - "pk".len() - id.len() - "filling".len();
    let mut filling = with.to_string().repeat(room / with.len_utf8());
    filling.push_str(&"x".repeat(room % with.len_utf8()));
    json!({"pk": {"S": id}, "filling": {"S": filling}})
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_400_kb_go_there_and_come_back() {
    let (schema, key) = key(ScalarType::S, None);
    let mut items: Vec<Value> = [
        'x',
        '"',
        '\\',
        '\u{1}',
        '\u{7f}',
        '\u{e9}',
        '\u{65e5}',
        '\u{1f600}',
        '\u{2028}',
    ]
    .into_iter()
    .enumerate()
    .map(|(n, with)| of_max_size(&format!("max-{n}"), with))
    .collect();
    let bytes: Vec<u8> = (0..MAX_ITEM - "pkbinaryb".len())
        .map(|n| (n * 7 % 251) as u8)
        .collect();
    items.push(json!({"pk": {"S": "binary"}, "b": {"B": BASE64.encode(bytes)}}));
    there_and_back(&schema, &key, &items).await;
}

/// A control character is one byte to DynamoDB and six on the wire. A batch of 25 such items would be 60 MB; the
/// engine takes 16 MB, as DynamoDB does.
#[tokio::test(flavor = "multi_thread")]
async fn no_batch_is_larger_than_the_wire_takes() {
    let (schema, key) = key(ScalarType::S, None);
    let items: Vec<Value> = (0..30)
        .map(|n| of_max_size(&format!("wide-{n}"), '\u{2}'))
        .collect();
    let stage = Stage::start().await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&lines(&items)).unwrap();
    let file = file(&stage, "wide.json.gz", &packed.finish().unwrap());
    let sent = Fault::Delay(0);
    stage
        .dynamodb_proxy
        .inject(Rule::rate(sent, 1.0).on("BatchWriteItem"));
    let loaded = done(&stage, &restore_lines(&file, &key, &[])).await;
    assert_eq!(
        (total(&loaded, "written"), total(&loaded, "rejected")),
        (30, 0),
        "{loaded}"
    );
    assert_same(
        &table_items(&stage, TARGET, &schema).await,
        &by_key(&items, &schema),
    );
    // 72 MB of JSON: a batch that is refused for its size would be halved and sent again.
    let batches = stage.dynamodb_proxy.count(sent);
    assert!((5..=30).contains(&batches), "{batches} batches");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_a_byte_too_large_is_rejected_whole() {
    let stage = Stage::start().await;
    let mut large = of_max_size("large", '\u{1}');
    large["x"] = json!({"S": ""});
    let items = [of_max_size("fits", '\u{1}'), large];
    let file = file(&stage, "lines.json", &lines(&items));
    let rejects = stage.folder.path().join("kept");
    let to = format!("file://{}", rejects.display());
    let told = stage
        .run(&restore_lines(&file, "pk:S", &["--rejects", &to]))
        .await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(
        told.stdout
            .contains("read 2 = written 1 + skipped 0 + rejected 1"),
        "{told:#?}"
    );
    let kept = super::restoring::files_below(&rejects);
    let text = std::fs::read_to_string(&kept[0]).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["item"], items[1]);
    assert_eq!(line["line"], 2);
    assert!(
        line["reason"].as_str().unwrap().contains("409601 bytes"),
        "{}",
        line["reason"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_keys_go_there_and_come_back() {
    for (partition, sort) in [
        (ScalarType::S, ScalarType::B),
        (ScalarType::B, ScalarType::S),
    ] {
        let (schema, key) = key(partition, Some(sort));
        let value = |kind: ScalarType, bytes: usize, n: usize| match kind {
            ScalarType::B => {
                let mut value = vec![0xff; bytes];
                value[bytes - 1] = n as u8;
                json!({"B": BASE64.encode(value)})
            }
            _ => {
                // Multi-byte text, so that characters and bytes differ.
                let text = "\u{65e5}".repeat((bytes - 4) / 3);
                json!({"S": format!("{text}{n:0width$}", width = bytes - text.len())})
            }
        };
        let items: Vec<Value> = (0..8)
            .map(|n| json!({"pk": value(partition, 2048, n / 4), "sk": value(sort, 1024, n), "n": {"N": n.to_string()}}))
            .collect();
        there_and_back(&schema, &key, &items).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_goes_there_and_comes_back() {
    let (schema, key) = key(ScalarType::N, Some(ScalarType::B));
    let deep = |leaf: Value| {
        (0..31).fold(leaf, |inner, level| {
            if level % 2 == 0 {
                json!({"L": [inner]})
            } else {
                json!({"M": {"in": inner}})
            }
        })
    };
    let values = [
        json!({"S": ""}),
        json!({"B": ""}),
        json!({"L": []}),
        json!({"M": {}}),
        json!({"M": {" ": {"S": "a blank name"}, "{\"}": {"NULL": true}}}),
        json!({"L": [{"L": []}, {"M": {}}, {"S": ""}, {"B": ""}, {"NULL": true}, {"BOOL": false}]}),
        json!({"SS": ["b", "a", "\u{0}"]}),
        json!({"NS": ["1", "-0.5", "1E+125", "12345678901234567890123456789012345678"]}),
        json!({"BS": ["AA==", "AAE=", "/w=="]}),
        json!({"N": "12345678901234567890123456789012345678"}),
        json!({"N": "-9.9999999999999999999999999999999999999E+125"}),
        json!({"N": "1E-130"}),
        json!({"N": "0.00000000000000000000000000000000000012345678901234567890123456789012345678"}),
        json!({"S": "\u{0}\u{1}\"\\/\u{2028}\u{fffd}\u{10ffff}"}),
        deep(json!({"S": "bottom"})),
        deep(json!({"NS": ["1", "2"]})),
    ];
    let items: Vec<Value> = values
        .into_iter()
        .enumerate()
        .map(|(n, value)| json!({"pk": {"N": (n / 3).to_string()}, "sk": {"B": BASE64.encode([0, n as u8, 0xff])}, "value": value}))
        .collect();
    there_and_back(&schema, &key, &items).await;
}

/// 1, 1.0, 1E0, 0.1e1: one key, whoever spells it. The last line wins, or the first where items stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_key_is_one_key_in_every_spelling() {
    let spellings = [
        "1",
        "1.0",
        "1E0",
        "0.1e1",
        "01",
        "1e+0",
        "10e-1",
        "100E-2",
        "0.01E+2",
        "1.00000000000000000000",
    ];
    let item = |n: usize, key: &str| json!({"pk": {"N": key}, "n": {"N": n.to_string()}});
    let mut items: Vec<Value> = spellings
        .iter()
        .enumerate()
        .map(|(n, key)| item(n, key))
        .collect();
    items.extend([
        item(90, "10"),
        item(91, "-1"),
        item(92, "-0"),
        item(93, "0.0"),
        item(94, "0E5"),
    ]);
    let stage = Stage::start().await;
    let file = file(&stage, "lines.json", &lines(&items));
    let (schema, key) = key(ScalarType::N, None);
    let loaded = done(&stage, &restore_lines(&file, &key, &[])).await;
    assert_eq!(total(&loaded, "written"), items.len() as u64, "{loaded}");
    let there = table_items(&stage, TARGET, &schema).await;
    let mut found: Vec<String> = there
        .values()
        .map(|item| format!("{}={}", item["pk"]["N"], item["n"]["N"]))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "\"-1e0\"=\"91e0\"",
            "\"0\"=\"94e0\"",
            "\"1e0\"=\"9e0\"",
            "\"1e1\"=\"9e1\""
        ]
    );

    NewTable::new(TABLE, shape(&schema))
        .create(&stage.direct)
        .await
        .unwrap();
    let load = ["load", TABLE, "--file", file.to_str().unwrap()];
    let loaded = done(&stage, &load).await;
    assert_eq!(
        (total(&loaded, "written"), total(&loaded, "existing")),
        (4, 11),
        "{loaded}"
    );
    let there = table_items(&stage, TABLE, &schema).await;
    let mut found: Vec<String> = there
        .values()
        .map(|item| format!("{}={}", item["pk"]["N"], item["n"]["N"]))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "\"-1e0\"=\"91e0\"",
            "\"0\"=\"92e0\"",
            "\"1e0\"=\"0\"",
            "\"1e1\"=\"9e1\""
        ]
    );
}
