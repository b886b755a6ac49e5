//! Filter, projection, limit, consistency, compression and part size, from the flag to the bytes.

use highwater_domain::metadata::Metadata;
use highwater_testkit::generate::KeyShape;

use super::read_back::{Items, Place, assert_same, id_of, table_items};
use super::stage::{Stage, TABLE, TO, keys_below};

const ITEMS: u64 = 600;

async fn backup(stage: &Stage, flags: &[&str]) -> (Items, Metadata) {
    let begin = ["backup", TABLE, "--to", TO, "--segments", "4", "--json"];
    let result = stage.run(&[&begin[..], flags].concat()).await.done().json();
    Place::bucket(stage, "daily")
        .read(TABLE, &id_of(&result))
        .await
}

async fn table(stage: &Stage) -> Items {
    table_items(stage, TABLE, &KeyShape::STRING.schema()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_keeps_what_matches_and_counts_what_does_not() {
    let stage = Stage::with_items(ITEMS).await;
    let filter = [
        "--filter",
        "#s = :s AND #n < :n",
        "--name",
        "#s=status",
        "--name",
        "#n=number",
    ];
    let values = [
        "--value",
        ":s={\"S\":\"open\"}",
        "--value",
        ":n={\"N\":\"400\"}",
    ];
    let (items, metadata) = backup(&stage, &[&filter[..], &values].concat()).await;
    let mut expected = table(&stage).await;
    expected.retain(|_, item| {
        let number: f64 = item["number"]["N"].as_str().unwrap().parse().unwrap();
        item["status"]["S"] == "open" && number < 400.0
    });
    assert!(expected.len() > 50, "{}", expected.len());
    assert_same(&items, &expected);
    assert_eq!(metadata.backup_type, "query");
    assert_eq!(metadata.scan.scanned, ITEMS);
    assert_eq!(
        metadata.selection.filter.as_deref(),
        Some("#s = :s AND #n < :n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_keeps_its_attributes_and_the_key() {
    let stage = Stage::with_items(ITEMS).await;
    let (items, metadata) =
        backup(&stage, &["--projection", "note, #n", "--name", "#n=number"]).await;
    let whole = table(&stage).await;
    assert_eq!(items.len(), whole.len());
    for (key, item) in &items {
        let mut expected = whole[key].clone();
        let members = expected.as_object_mut().unwrap();
        members.retain(|name, _| ["pk", "note", "number"].contains(&name.as_str()));
        assert_eq!(members.len(), 3);
        assert_eq!(*item, expected);
    }
    assert_eq!(metadata.backup_type, "query");
}

#[tokio::test(flavor = "multi_thread")]
async fn max_items_is_exact() {
    let stage = Stage::with_items(ITEMS).await;
    let whole = table(&stage).await;
    // Within the first segment, over several, all but one, all, more than all; and parts that end in between.
    for (limit, expected) in [
        (1, 1),
        (7, 7),
        (333, 333),
        (599, 599),
        (600, 600),
        (1000, 600),
    ] {
        let limit = limit.to_string();
        let (items, metadata) =
            backup(&stage, &["--max-items", &limit, "--part-size", "1000"]).await;
        assert_eq!(items.len(), expected, "--max-items {limit}");
        assert_eq!(metadata.item_count, expected as u64);
        assert_eq!(metadata.scan.scanned, expected as u64);
        assert_eq!(metadata.backup_type, "query");
        assert!(items.iter().all(|(key, item)| whole[key] == *item));
    }
    let filter = [
        "--filter",
        "paid = :p",
        "--value",
        ":p={\"BOOL\":true}",
        "--max-items",
        "45",
    ];
    let (items, _) = backup(&stage, &filter).await;
    assert_eq!(items.len(), 45);
    assert!(items.values().all(|item| item["paid"]["BOOL"] == true));
}

#[tokio::test(flavor = "multi_thread")]
async fn eventual_reads_cost_half() {
    let stage = Stage::with_items(ITEMS).await;
    let (strong, strong_metadata) = backup(&stage, &["--consistent"]).await;
    let (eventual, metadata) = backup(&stage, &["--eventual"]).await;
    assert_same(&eventual, &strong);
    assert!(strong_metadata.consistent && !metadata.consistent);
    let (units, half) = (
        strong_metadata.scan.consumed_capacity,
        metadata.scan.consumed_capacity,
    );
    assert!(
        half > 0.0 && (half * 2.0 - units).abs() < 0.01,
        "{half} and {units}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_and_part_size_shape_the_parts() {
    let stage = Stage::with_items(ITEMS).await;
    let whole = table(&stage).await;
    for (compression, suffix) in [("gzip", ".json.gz"), ("zstd", ".json.zst")] {
        let flags = ["--compression", compression, "--part-size", "4KiB"];
        let (items, metadata) = backup(&stage, &flags).await;
        assert_same(&items, &whole);
        let id = metadata.snapshot_id.unwrap();
        let mut parts: Vec<(String, u64)> = Vec::new();
        for key in Place::bucket(&stage, "daily").data(TABLE, &id).await {
            let facts = stage.bucket().facts(&key).await.unwrap().unwrap();
            parts.push((key, facts.bytes));
        }
        assert!(parts.len() > 8, "{parts:?}");
        assert!(
            parts.iter().all(|(key, _)| key.ends_with(suffix)),
            "{parts:?}"
        );
        // Of each segment the last part is what is left.
        let segment = |key: &str| key.split("/data/").nth(1).unwrap()[..6].to_owned();
        for pair in parts
            .windows(2)
            .filter(|pair| segment(&pair[0].0) == segment(&pair[1].0))
        {
            assert!((4096..8192).contains(&pair[0].1), "{:?}", pair[0]);
        }
    }
    assert!(
        !keys_below(stage.bucket().as_ref(), "daily/")
            .await
            .is_empty()
    );
}
