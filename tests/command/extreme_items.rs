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

use super::denying_proxy::DenyingProxy;
use super::read_back::{Items, assert_same, table_items};
use super::restoring::{TARGET, completed, done, file, restore_lines, total};
use super::stage::{Stage, TABLE, TO, finish};

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
    let bytes: Vec<u8> = (0..=250)
        .cycle()
        .take(MAX_ITEM - "pkbinaryb".len())
        .collect();
    items.push(json!({"pk": {"S": "binary"}, "b": {"B": BASE64.encode(bytes)}}));
    there_and_back(&schema, &key, &items).await;
}

/// A control character is one byte to DynamoDB and six on the wire. A batch of 25 such items would be 60 MB;
/// DynamoDB takes 16 MB.
#[tokio::test(flavor = "multi_thread")]
async fn no_batch_is_larger_than_the_wire_takes() {
    let (schema, key) = key(ScalarType::S, None);
    let wide = (0..30).map(|n| of_max_size(&format!("wide-{n}"), '\u{2}'));
    let narrow = (0..30).map(|n| of_max_size(&format!("narrow-{n}"), 'x'));
    let items: Vec<Value> = wide.chain(narrow).collect();
    let stage = Stage::start().await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&lines(&items)).unwrap();
    let file = file(&stage, "wide.json.gz", &packed.finish().unwrap());
    let proxy = DenyingProxy::start(stage.dynamodb.endpoint_url(), &[]).await;
    let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
    command.args(restore_lines(&file, &key, &["--json"])).args([
        "--region",
        "eu-north-1",
        "--endpoint-url",
        proxy.endpoint_url(),
    ]);
    let loaded = completed(&finish(command).await.done());
    let counts = (total(&loaded, "written"), total(&loaded, "rejected"));
    assert_eq!(counts, (60, 0), "{loaded}");
    let there = table_items(&stage, TARGET, &schema).await;
    assert_same(&there, &by_key(&items, &schema));
    let largest = proxy.largest_body();
    assert!((2_400_000..16 << 20).contains(&largest), "{largest} bytes");
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
        let value = |kind: ScalarType, bytes: usize, n: u8| {
            if kind == ScalarType::B {
                let mut value = vec![0xff; bytes];
                value[bytes - 1] = n;
                json!({"B": BASE64.encode(value)})
            } else {
                // Multi-byte text, so that characters and bytes differ.
                let text = "\u{65e5}".repeat((bytes - 4) / 3);
                json!({"S": format!("{text}{n:0width$}", width = bytes - text.len())})
            }
        };
        let items: Vec<Value> = (0..8_u8)
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
    let items: Vec<Value> = (0_u8..)
        .zip(values)
        .map(|(n, value)| json!({"pk": {"N": (n / 3).to_string()}, "sk": {"B": BASE64.encode([0, n, 0xff])}, "value": value}))
        .collect();
    there_and_back(&schema, &key, &items).await;
}

/// Keys of a table, each with its item's `n`, in the spelling of comparisons.
async fn numbered(stage: &Stage, table: &str, schema: &KeySchema) -> Vec<String> {
    let there = table_items(stage, table, schema).await;
    let text = |item: &Value, name: &str| item[name]["N"].as_str().unwrap().to_owned();
    let found = there.values();
    let mut found: Vec<String> = found
        .map(|item| format!("{}: {}", text(item, "pk"), text(item, "n")))
        .collect();
    found.sort_unstable();
    found
}

/// 1, 1.0, 1E0, 0.1e1: one key, whoever spells it. The last line wins, or the first where items stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_key_is_one_key_in_every_spelling() {
    let ones = "1 1.0 1E0 0.1e1 01 1e+0 10e-1 100E-2 0.01E+2 1.00000000000000000000";
    let keys: Vec<&str> = ones
        .split(' ')
        .chain(["10", "-1", "-0", "0.0", "0E5"])
        .collect();
    let item =
        |(n, key): (usize, &&str)| json!({"pk": {"N": key}, "n": {"N": (n + 1).to_string()}});
    let items: Vec<Value> = keys.iter().enumerate().map(item).collect();
    let stage = Stage::start().await;
    let file = file(&stage, "lines.json", &lines(&items));
    let (schema, key) = key(ScalarType::N, None);
    let loaded = done(&stage, &restore_lines(&file, &key, &[])).await;
    assert_eq!(total(&loaded, "written"), 15, "{loaded}");
    let last = ["-1e0: 12e0", "0: 15e0", "1e0: 1e1", "1e1: 11e0"];
    assert_eq!(numbered(&stage, TARGET, &schema).await, last);

    let table = NewTable::new(TABLE, shape(&schema));
    table.create(&stage.direct).await.unwrap();
    let loaded = done(&stage, &["load", TABLE, "--file", file.to_str().unwrap()]).await;
    let counts = (total(&loaded, "written"), total(&loaded, "existing"));
    assert_eq!(counts, (4, 11), "{loaded}");
    let first = ["-1e0: 12e0", "0: 13e0", "1e0: 1e0", "1e1: 11e0"];
    assert_eq!(numbered(&stage, TABLE, &schema).await, first);
}

/// The same key again and again, in one batch and in batches that are written at the same time and end in any order:
/// the last line wins, or the first where items stay.
#[tokio::test(flavor = "multi_thread")]
async fn of_lines_of_one_key_the_last_wins_or_the_first_where_items_stay() {
    let stage = Stage::with_items(0).await;
    let items: Vec<Value> = (0..900)
        .map(|n| json!({"pk": {"S": format!("k{}", n % 45)}, "n": {"N": n.to_string()}}))
        .collect();
    let file = file(&stage, "lines.json", &lines(&items));
    let file = file.to_str().unwrap();
    for operation in ["BatchWriteItem", "PutItem"] {
        let sometimes = Rule::rate(Fault::Delay(40), 0.4);
        stage.dynamodb_proxy.inject(sometimes.on(operation));
    }
    let schema = KeyShape::STRING.schema();
    let first = done(&stage, &["load", TABLE, "--file", file]).await;
    let counts = (total(&first, "written"), total(&first, "existing"));
    assert_eq!(counts, (45, 855), "{first}");
    assert_same(
        &table_items(&stage, TABLE, &schema).await,
        &by_key(&items[..45], &schema),
    );
    let last = done(
        &stage,
        &["load", TABLE, "--file", file, "--allow-overwrite"],
    )
    .await;
    assert_eq!(total(&last, "written"), 900, "{last}");
    assert_same(
        &table_items(&stage, TABLE, &schema).await,
        &by_key(&items[855..], &schema),
    );
}
