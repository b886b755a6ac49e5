//! Some of a backup: the plan alone, a number of items, items of certain keys, at a certain pace.

use std::time::{Duration, Instant};

use highwater_domain::key::ScalarType;
use highwater_testkit::generate::{Generator, KeyShape, canonical};
use highwater_testkit::tables::NewTable;
use serde_json::Value;

use super::read_back::{Items, assert_same, table_items};
use super::restores::backed_up;
use super::restoring::{
    TARGET, WRITES, done, file, note_operations, noted_operations, restore, total,
};
use super::stage::{CONTROL, Stage, TABLE, TO};

const ITEMS: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_only_looks() {
    let stage = Stage::with_items(ITEMS).await;
    let backup = backed_up(&stage, TO).await;
    let control = stage.direct.delete_table().table_name(CONTROL);
    control.send().await.unwrap();
    let kept = stage.keys().await;
    let lines = file(&stage, "lines.json", b"{\"pk\":{\"S\":\"a\"}}\n");
    note_operations(&stage.dynamodb_proxy);
    note_operations(&stage.s3_proxy);
    let place = format!("{backup} --from {TO}");
    let new = format!("restore {place} --to new --max-items 7 --load-write-capacity 500");
    let existing = format!("restore {place} --to {TABLE} --into-existing");
    let load = format!("load {TABLE} --file {} --filter pk=a", lines.display());
    for (line, words) in [
        (new, ["a new table", "400 items"]),
        (existing, ["an existing table", "400 items"]),
        (load, ["an existing table", "unknown items"]),
    ] {
        let arguments: Vec<&str> = line.split(' ').chain(["--dry-run"]).collect();
        let told = stage.run(&arguments).await.done();
        assert!(told.stdout.contains("nothing was written"), "{told:#?}");
        for word in words {
            assert!(told.stdout.contains(word), "{word}: {told:#?}");
        }
        let told = stage
            .run(&[&arguments[..], &["--json"]].concat())
            .await
            .done();
        let plan = told.json();
        assert_eq!(plan["dry_run"], true);
        assert!(
            plan["plan"]["source"]["files"].as_u64().unwrap() >= 1,
            "{plan}"
        );
        assert!(plan["estimate"]["note"].is_string(), "{plan}");
    }
    let asked = noted_operations(&stage.dynamodb_proxy);
    assert!(!asked.is_empty());
    assert!(
        asked.iter().all(|it| !WRITES.contains(&it.as_str())),
        "{asked:?}"
    );
    let asked = noted_operations(&stage.s3_proxy);
    let reads = ["GetObject", "HeadObject", "ListObjectsV2"];
    assert!(
        asked.iter().all(|it| reads.contains(&it.as_str())),
        "{asked:?}"
    );
    assert_eq!(stage.keys().await, kept);
    assert_eq!(stage.tables().await, [TABLE]);
    assert!(!stage.folder.path().join("home").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn max_items_is_exact() {
    let stage = Stage::with_items(ITEMS).await;
    let backup = backed_up(&stage, TO).await;
    let schema = KeyShape::STRING.schema();
    let source = table_items(&stage, TABLE, &schema).await;
    for count in [1, 24, 25, 26, 99, 399, 400, 401] {
        let (target, most) = (format!("target-{count}"), count.to_string());
        let begin = [
            "restore",
            &backup,
            "--from",
            TO,
            "--to",
            &target,
            "--max-items",
            &most,
        ];
        let result = done(&stage, &begin).await;
        let expected = count.min(ITEMS);
        assert_eq!(
            (total(&result, "read"), total(&result, "written")),
            (expected, expected),
            "{result}"
        );
        let there = table_items(&stage, &target, &schema).await;
        assert_eq!(there.len() as u64, expected);
        assert!(
            there
                .iter()
                .all(|(key, item)| source.get(key) == Some(item))
        );
    }
    let begin = [
        "restore",
        &backup,
        "--from",
        TO,
        "--to",
        "target-all",
        "--max-items",
        "0",
    ];
    assert_eq!(total(&done(&stage, &begin).await, "written"), ITEMS);
}

const SHAPE: KeyShape = KeyShape {
    partition: ScalarType::S,
    sort: Some(ScalarType::N),
};

/// Whether an item is expected, by its JSON.
type Expected = fn(&Value) -> bool;

fn begins_with_item(item: &Value) -> bool {
    item["pk"]["S"].as_str().unwrap().starts_with("item-")
}

/// Filters, and what passes them all.
const FILTERS: [(&[&str], Expected); 6] = [
    (&["pk=item-000000010"], |item| {
        item["pk"]["S"] == "item-000000010"
    }),
    (&["pk^=item-"], begins_with_item),
    (&["pk^=item-", "sk=4.0"], |item| {
        begins_with_item(item) && item["sk"]["N"] == "4e0"
    }),
    (&["pk^=item-", "pk=item-000000010"], |item| {
        item["pk"]["S"] == "item-000000010"
    }),
    (&["pk=item-000000010", "sk=99"], |_| false),
    (&["pk=nobody"], |_| false),
];

#[tokio::test(flavor = "multi_thread")]
async fn filters_take_the_keys_that_they_name() {
    let stage = Stage::start().await;
    stage.fill(TABLE, &Generator::small(3, SHAPE), ITEMS).await;
    let backup = backed_up(&stage, TO).await;
    let schema = SHAPE.schema();
    let source = table_items(&stage, TABLE, &schema).await;
    for (number, (filters, passes)) in FILTERS.into_iter().enumerate() {
        let target = format!("target-{number}");
        let mut begin = vec!["restore", &backup, "--from", TO, "--to", &target];
        for filter in filters {
            begin.extend(["--filter", filter]);
        }
        let result = done(&stage, &begin).await;
        let mut expected = source.clone();
        expected.retain(|_, item| passes(item));
        assert_eq!(expected.is_empty(), number > 3, "{filters:?}");
        let count = expected.len() as u64;
        assert_eq!(total(&result, "read"), ITEMS);
        assert_eq!(total(&result, "written"), count, "{filters:?}");
        assert_eq!(total(&result, "filtered"), ITEMS - count, "{filters:?}");
        assert_same(&table_items(&stage, &target, &schema).await, &expected);
    }
    // Both at once: so many that pass.
    let more = ["--filter", "pk^=item-", "--max-items", "11"];
    let result = done(&stage, &restore(&backup, &more)).await;
    assert_eq!(total(&result, "written"), 11, "{result}");
    let there = table_items(&stage, TARGET, &schema).await;
    assert_eq!(there.len(), 11);
    assert!(there.values().all(begins_with_item));
}

/// Two loads of halves that overlap: what the first one wrote stays, and every item is accounted for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_stays_or_is_replaced_item_by_item() {
    let stage = Stage::with_items(ITEMS).await;
    let backup = backed_up(&stage, TO).await;
    let schema = KeyShape::STRING.schema();
    for (number, more, kept) in [(0, &[][..], true), (1, &["--allow-overwrite"][..], false)] {
        let target = format!("target-{number}");
        NewTable::new(&target, KeyShape::STRING)
            .create(&stage.direct)
            .await
            .unwrap();
        let old: Vec<Vec<u8>> = (0..ITEMS + 40)
            .step_by(5)
            .map(|index| Generator::small(99, KeyShape::STRING).item(index))
            .collect();
        let count = old.len() as u64;
        let old_items: Items = old
            .iter()
            .map(|item| (schema.key_of(item).unwrap(), canonical(item)))
            .collect();
        stage.dynamodb.import(&target, old).await.unwrap();
        let begin = [
            "restore",
            &backup,
            "--from",
            TO,
            "--to",
            &target,
            "--into-existing",
        ];
        let result = done(&stage, &[&begin[..], more].concat()).await;
        let both = ITEMS.div_ceil(5);
        let expected = if kept {
            (ITEMS - both, both)
        } else {
            (ITEMS, 0)
        };
        assert_eq!(
            (total(&result, "written"), total(&result, "existing")),
            expected,
            "{result}"
        );
        let mut items = table_items(&stage, TABLE, &schema).await;
        for (key, item) in old_items {
            if kept || !items.contains_key(&key) {
                items.insert(key, item);
            }
        }
        assert_eq!(items.len() as u64, ITEMS + count - both);
        assert_same(&table_items(&stage, &target, &schema).await, &items);
    }
}

/// 400 items of less than a KB are 400 units: at 100 a second they take some seconds, and an unhindered load does not.
#[tokio::test(flavor = "multi_thread")]
async fn write_capacity_is_kept_to() {
    let stage = Stage::with_items(ITEMS).await;
    let backup = backed_up(&stage, TO).await;
    let began = Instant::now();
    let result = done(&stage, &restore(&backup, &["-w", "100"])).await;
    let took = began.elapsed();
    assert_eq!(total(&result, "written"), ITEMS);
    assert!(
        took > Duration::from_millis(2500),
        "{took:?} for 400 units at 100 a second: {result}"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
}
